//! One pass over an event writes its line and, from the same text, the form that is hashed.
//!
//! The line keeps the fields in the order people read them; the hashed form (RFC 8785) wants them sorted.
//! Scalars look the same in both, so while the line is written only the *place* of each value is noted. When an
//! object ends, its fields are sorted by name and copied from these places. Nothing is formatted twice,
//! and a new event needs no code here: the encoder is a serde serializer.
//!
//! ```text
//! line   {"seq":42,"time":"…","event":"flow.decided", … ,"process":{"pid":47,"args":"curl …"}, …
//!               ▲        ▲             ▲                             ▲         ▲
//! hashed {"event":"flow.decided","process":{"args":{"sha256":"…"},"pid":47}, … ,"seq":42, …}
//! ```
//!
//! Values at erasable paths stand in the hashed form as salted digests (see [`crate::erasable`]).

/// The serde side: which call writes what.
mod serializer;

use std::fmt;

use serde::Serialize;

use crate::{
    erasable::{self, Salt, SaltKey},
    event::RunContext,
    json_text::{push_hex, push_string, push_unsigned},
};

/// An event holds something that has no place in a line: a float, a map, bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an event can't be written: {0}")]
pub struct EncodeError(String);

impl serde::ser::Error for EncodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// Where a value's canonical text stands.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// In the line, from one byte to before another. A field's begins with its name, which stands before the value.
    Line(usize, usize),
    /// In the canonical buffer.
    Canonical(usize, usize),
}

/// A field of an object that is still open; an item of an array has an empty name.
#[derive(Debug, Clone, Copy)]
struct Field {
    /// The name's first eight bytes as a number: most comparisons end here.
    order: u64,
    name: &'static str,
    place: Place,
}

impl Field {
    fn new(name: &'static str, place: Place) -> Self {
        let mut first = [0; 8];
        for (to, from) in first.iter_mut().zip(name.bytes()) {
            *to = from;
        }
        Self { order: u64::from_be_bytes(first), name, place }
    }
}

/// Buffers that are used again for every event.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    canonical: Vec<u8>,
    fields: Vec<Field>,
    salts: Vec<(&'static str, Salt)>,
}

/// The context's three fields, written once.
#[derive(Debug, Clone)]
pub(crate) struct ContextText {
    text: Vec<u8>,
    values: [(&'static str, usize, usize); 3],
}

impl ContextText {
    pub(crate) fn new(context: &RunContext) -> Self {
        let mut text = Vec::new();
        let fields = [
            ("sandbox", Some(&context.sandbox)),
            ("thread", context.thread.as_ref()),
            ("tool_call", context.tool_call.as_ref()),
        ];
        let values = fields.map(|(name, value)| {
            let from = text.len() + 1;
            push_name(&mut text, b',', name);
            match value {
                Some(value) => push_string(&mut text, value),
                None => text.extend_from_slice(b"null"),
            }
            (name, from, text.len())
        });
        Self { text, values }
    }
}

fn push_name(out: &mut Vec<u8>, mark: u8, name: &str) {
    out.extend_from_slice(&[mark, b'"']);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// Writes one event.
pub(crate) struct Encoder<'a> {
    line: &'a mut Vec<u8>,
    scratch: &'a mut Scratch,
    salt_key: &'a SaltKey,
    seq: u64,
}

impl<'a> Encoder<'a> {
    /// Starts a line: `{"seq":…`.
    pub(crate) fn start(line: &'a mut Vec<u8>, scratch: &'a mut Scratch, salt_key: &'a SaltKey, seq: u64) -> Self {
        scratch.canonical.clear();
        scratch.fields.clear();
        scratch.salts.clear();
        let from = line.len() + 1;
        push_name(line, b'{', "seq");
        push_unsigned(line, seq);
        scratch.fields.push(Field::new("seq", Place::Line(from, line.len())));
        Self { line, scratch, salt_key, seq }
    }

    /// Adds a field whose text `write` appends to the line.
    pub(crate) fn field(&mut self, name: &'static str, write: impl FnOnce(&mut Vec<u8>)) {
        let from = self.line.len() + 1;
        push_name(self.line, b',', name);
        write(self.line);
        self.scratch.fields.push(Field::new(name, Place::Line(from, self.line.len())));
    }

    /// Adds the event's own fields, and the context's behind those that say which event and revision it is.
    pub(crate) fn event(&mut self, event: &impl Serialize, context: &ContextText) -> Result<(), EncodeError> {
        event.serialize(serializer::Top { encoder: self, context })
    }

    /// The salts of the erasable fields in this line.
    pub(crate) fn push_salts(&mut self) {
        if self.scratch.salts.is_empty() {
            return;
        }
        push_name(self.line, b',', erasable::SALTS);
        let mut mark = b'{';
        for (path, salt) in &self.scratch.salts {
            push_name(self.line, mark, path);
            self.line.push(b'"');
            push_hex(self.line, salt);
            self.line.push(b'"');
            mark = b',';
        }
        self.line.push(b'}');
    }

    /// The hashed form of all fields so far.
    pub(crate) fn canonical(&mut self) -> &[u8] {
        let (from, to) = match self.close(0) {
            Place::Canonical(from, to) | Place::Line(from, to) => (from, to),
        };
        self.scratch.canonical.get(from..to).unwrap_or_default()
    }

    fn context(&mut self, context: &ContextText) {
        let base = self.line.len();
        self.line.extend_from_slice(&context.text);
        for (name, from, to) in context.values {
            self.scratch.fields.push(Field::new(name, Place::Line(base + from, base + to)));
        }
    }

    fn scalar(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Place {
        let from = self.line.len();
        write(self.line);
        Place::Line(from, self.line.len())
    }

    /// Adds a field to an object; `mark` is what stands before it.
    fn add<T: Serialize + ?Sized>(
        &mut self,
        mark: u8,
        parent: &'static str,
        name: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        let from = self.line.len() + 1;
        push_name(self.line, mark, name);
        let mut place = value.serialize(serializer::Value { encoder: self, name })?;
        if let Some(path) = erasable::path(parent, name) {
            place = self.digest(path, place);
        }
        if let Place::Line(_, to) = place {
            place = Place::Line(from, to);
        }
        self.scratch.fields.push(Field::new(name, place));
        Ok(())
    }

    /// Puts a salted digest in the place of an erasable value that is there.
    fn digest(&mut self, path: &'static str, place: Place) -> Place {
        let value = match place {
            Place::Line(from, to) => self.line.get(from..to),
            Place::Canonical(from, to) => self.scratch.canonical.get(from..to),
        };
        let value = value.unwrap_or_default();
        if value == b"null" {
            return place;
        }
        let salt = self.salt_key.salt(self.seq, path);
        let digest = erasable::digest(&salt, value);
        self.scratch.salts.push((path, salt));
        let from = self.scratch.canonical.len();
        erasable::push_stand_in(&mut self.scratch.canonical, &digest);
        Place::Canonical(from, self.scratch.canonical.len())
    }

    /// Ends the object whose fields begin at `first`: sorts and copies them.
    fn close(&mut self, first: usize) -> Place {
        let Scratch { canonical, fields, .. } = &mut *self.scratch;
        let first = first.min(fields.len());
        let (_, own) = fields.split_at_mut(first);
        own.sort_unstable_by(|a, b| a.order.cmp(&b.order).then_with(|| a.name.cmp(b.name)));
        let from = canonical.len();
        let mut mark = b'{';
        for field in own.iter() {
            match field.place {
                Place::Line(..) => canonical.push(mark),
                Place::Canonical(..) => push_name(canonical, mark, field.name),
            }
            copy(canonical, self.line, field.place);
            mark = b',';
        }
        if mark == b'{' {
            canonical.push(mark);
        }
        canonical.push(b'}');
        fields.truncate(first);
        Place::Canonical(from, canonical.len())
    }

    /// Ends the array whose items begin at `first` and whose text in the line begins at `start`.
    fn close_array(&mut self, first: usize, start: usize) -> Place {
        let Scratch { canonical, fields, .. } = &mut *self.scratch;
        let (_, items) = fields.split_at(first.min(fields.len()));
        if items.iter().all(|item| matches!(item.place, Place::Line(..))) {
            fields.truncate(first);
            return Place::Line(start, self.line.len());
        }
        let from = canonical.len();
        let mut mark = b'[';
        for item in items {
            canonical.push(mark);
            copy(canonical, self.line, item.place);
            mark = b',';
        }
        canonical.push(b']');
        fields.truncate(first);
        Place::Canonical(from, canonical.len())
    }
}

fn copy(canonical: &mut Vec<u8>, line: &[u8], place: Place) {
    match place {
        Place::Line(from, to) => canonical.extend_from_slice(line.get(from..to).unwrap_or_default()),
        Place::Canonical(from, to) => canonical.extend_from_within(from..to),
    }
}
