//! HTTP: a field of a form's body that names another method.
//!
//! Frameworks act on a form's field `_method` as if the request had been sent with that method (Rails, Laravel, Symfony,
//! Express by `method-override`). Where a request was judged by its method the body is read along, and ends where such a
//! field begins to name another one. A name that some framework takes for `_method` is taken for it here. At most
//! [`PART_LIMIT`] bytes are kept.
//!
//! ```
//! # use wire::http_head::{Head, read};
//! let head = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 20\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\n";
//! let Head::Complete(head, _) = read(head.as_bytes(), 4096, false) else { panic!("a head") };
//! let mut field = wire::form::MethodField::of(&head).unwrap().unwrap();
//! assert!(field.read(b"a=b&_meth").is_ok());
//! assert!(field.read(b"od=delete").is_err());
//! ```

/// `a=1&b=2`.
mod pairs;
/// `multipart/form-data`.
mod parts;

use pairs::Pairs;
use parts::Parts;
use policy::model::header_fields::is_same;

use crate::http_head::{Framing, RequestHead};

pub use parts::PART_LIMIT;

/// Why a body ends whose field names another method than the request's.
pub const OTHER_METHOD: &str = "a form field that names another method";
/// Why a form is refused whose fields can't be read.
const UNREAD: &str = "a form that is encoded, or whose fields can't be told apart";

/// Looks for the field in one body, wherever that is cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodField {
    /// Of the request.
    method: Vec<u8>,
    reader: Reader,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Reader {
    Pairs(Pairs),
    Parts(Parts),
}

/// How far the field's value was compared with the method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Compared(usize);

impl Compared {
    /// One more byte of the value.
    fn take(&mut self, byte: u8, method: &[u8]) -> Result<(), &'static str> {
        match method.get(self.0) {
            Some(own) if own.eq_ignore_ascii_case(&byte) => {
                self.0 += 1;
                Ok(())
            }
            Some(_) | None => Err(OTHER_METHOD),
        }
    }

    /// The value is over. An empty one names no method.
    fn end(self, method: &[u8]) -> Result<(), &'static str> {
        if self.0 == 0 || self.0 == method.len() { Ok(()) } else { Err(OTHER_METHOD) }
    }
}

impl MethodField {
    /// For a request with a form in its body; none for all others.
    ///
    /// Errors: a form with a content coding, or in parts without one boundary.
    pub fn of(head: &RequestHead) -> Result<Option<Self>, &'static str> {
        // A length need not be told over HTTP/2, so a head without one may have a body.
        if head.framing == Framing::Length(0) {
            return Ok(None);
        }
        let sent = |wanted: &'static str| {
            head.fields.iter().filter(move |(name, _)| is_same(name, wanted)).map(|(_, value)| value.as_slice())
        };
        let types: Vec<String> =
            sent("content-type").map(|value| String::from_utf8_lossy(value).into_owned()).collect();
        let is = |kind: &str| types.iter().any(|sent| essences(sent).any(|essence| essence.eq_ignore_ascii_case(kind)));
        // Without a type, a POST is a form to some (Rack).
        let untyped = types.is_empty() && head.method == "POST";
        let (pairs, parts) = (is("application/x-www-form-urlencoded"), is("multipart/form-data"));
        if !(pairs || parts || untyped) {
            return Ok(None);
        }
        let encoded = sent("content-encoding").any(|coding| !coding.eq_ignore_ascii_case(b"identity"));
        if (encoded && !untyped) || (pairs && parts) {
            return Err(UNREAD);
        }
        let reader = match types.as_slice() {
            [one] if parts => Reader::Parts(Parts::with_boundary(one).ok_or(UNREAD)?),
            _ if parts => return Err(UNREAD),
            _ => Reader::Pairs(Pairs::default()),
        };
        Ok(Some(Self { method: head.method.clone().into_bytes(), reader }))
    }

    /// Reads on. After an error the body must go no further, and not be read on.
    ///
    /// Errors: the field names another method, or can't be told from one that does.
    pub fn read(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        match &mut self.reader {
            Reader::Pairs(pairs) => pairs.read(bytes, &self.method),
            Reader::Parts(parts) => parts.read(bytes, &self.method),
        }
    }
}

/// The types that servers read off a field: up to a `;`, and of several behind commas each.
fn essences(value: &str) -> impl Iterator<Item = &str> {
    value.split([';', ',']).map(str::trim)
}

/// Whether some framework takes this name, decoded, for `_method`: in any case, with blanks before it, `.`, blank and `+`
/// for `_`, and whatever behind a `[` or a zero byte.
fn is_method_name(name: &[u8]) -> bool {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'+' | b'\t');
    let name = name.iter().copied().skip_while(is_blank).take_while(|byte| !matches!(byte, b'[' | 0));
    let folded = name.map(|byte| if matches!(byte, b'.' | b' ' | b'+') { b'_' } else { byte.to_ascii_lowercase() });
    folded.eq(*b"_method")
}

/// Percent-decodes once; what is no escape stays.
fn decode(raw: &[u8]) -> Vec<u8> {
    let digit =
        |at: usize| raw.get(at).and_then(|byte| char::from(*byte).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    let mut decoded = Vec::with_capacity(raw.len());
    let mut at = 0;
    while let Some(byte) = raw.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(high << 4 | low);
                at += 3;
            }
            _ => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests;
