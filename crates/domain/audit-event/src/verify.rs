//! Checks that lines form one unbroken chain.
//!
//! What a chain shows: no line was changed, removed from the middle, added or moved. What it can't show: that the
//! newest lines are missing, or that its writer never wrote something false. [`Verified::ending`] hints at the first.

use std::{
    fmt,
    io::{self, BufRead, Read},
};

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::{
    canonical::{parse_object, push_canonical, push_object},
    chain::Position,
    erasable::{self, DIGESTS, SALTS},
    json_text::from_hex,
    text::bounded,
};

/// The longest line that is written or read, its line feed included.
pub const MAX_LINE: usize = 1 << 20;

/// The longest time or kind of event that is told.
const TEXT_LIMIT: usize = 64;

/// An unbroken chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// How many lines it has.
    pub events: u64,
    /// What the first line follows: [`Position::START`], or a line in an earlier file that was not given.
    pub follows: Position,
    /// The last line's number and hash.
    pub last: Position,
    /// How many fields were erased.
    pub erased: u64,
    /// The bytes behind the last line feed: a writer was stopped in the middle of a line, or is just writing it.
    pub torn_tail: Option<usize>,
    /// What the last line is.
    pub ending: Ending,
    /// What the last line says of itself.
    pub last_event: Option<LastEvent>,
}

/// What the last line of a chain says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastEvent {
    /// When it was written, as it stands there.
    pub time: String,
    /// The kind of event.
    pub event: String,
}

/// What the last line of a chain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// There is no line.
    Empty,
    /// The sandbox ended: nothing is expected after it.
    SandboxEnded,
    /// The file was closed: the chain goes on in the next one.
    Checkpoint,
    /// Anything else: the writer is at work, or it was stopped, or the newest lines were cut off.
    Open,
}

/// Where a chain breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, event {seq}: {reason}")]
pub struct Broken {
    /// The first bad number: the line's own where it can be read, else the one that belongs there.
    pub seq: u64,
    /// The line in its file, from 1.
    pub line: u64,
    /// What is wrong.
    pub reason: BrokenReason,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrokenReason {
    /// No JSON object, or one that can be read two ways.
    NotReadable(String),
    /// Longer than [`MAX_LINE`].
    TooLong,
    /// A field that every line has is missing or has another type.
    NoField(&'static str),
    /// Lines are missing before this one.
    Gap {
        /// The number that belongs here.
        expected: u64,
        /// The number that stands here.
        found: u64,
    },
    /// This line comes again, or in the wrong order.
    OutOfOrder {
        /// The number that belongs here.
        expected: u64,
        /// The number that stands here.
        found: u64,
    },
    /// `prev` isn't the hash of the line before.
    OtherPrevious,
    /// The content isn't what was hashed.
    Changed,
    /// `salts` and `digests` don't fit the fields.
    BadErasure(String),
    /// A line without its end, in a file that another one follows.
    Torn,
}

impl fmt::Display for BrokenReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReadable(error) => write!(f, "not readable: {error}"),
            Self::TooLong => write!(f, "longer than {MAX_LINE} bytes"),
            Self::NoField(name) => write!(f, "the field {name:?} is missing or has another type"),
            Self::Gap { expected, found } => write!(f, "events {expected} to {} are missing", found - 1),
            Self::OutOfOrder { expected, found } => write!(f, "event {found} stands where {expected} belongs"),
            Self::OtherPrevious => f.write_str("the line before isn't the one it was written after"),
            Self::Changed => f.write_str("its content was changed"),
            Self::BadErasure(path) => write!(f, "what is said about the erasable field {path:?} doesn't fit"),
            Self::Torn => f.write_str("the line has no end"),
        }
    }
}

/// Why a chain could not be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The file can't be read.
    #[error("can't read the events")]
    Read(#[source] io::Error),
    /// The chain is broken.
    #[error(transparent)]
    Broken(#[from] Broken),
}

/// Verifies one file or stream.
pub fn verify(reader: impl BufRead) -> Result<Verified, VerifyError> {
    let mut verifier = Verifier::default();
    verifier.read(reader)?;
    Ok(verifier.finish())
}

/// Verifies a chain that goes through several files: read them in order, then finish.
#[derive(Debug, Default)]
pub struct Verifier {
    follows: Option<Position>,
    last: Option<Position>,
    events: u64,
    erased: u64,
    torn_tail: Option<usize>,
    ending: Option<Ending>,
    last_event: Option<LastEvent>,
    /// The line in the file that is read.
    line: u64,
}

impl Verifier {
    /// Reads one file to its end. Holds one line at a time.
    pub fn read(&mut self, reader: impl BufRead) -> Result<(), VerifyError> {
        if self.torn_tail.is_some() {
            return Err(self.broken(None, BrokenReason::Torn).into());
        }
        self.line = 0;
        let mut reader = reader;
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = reader.by_ref().take(MAX_LINE as u64).read_until(b'\n', &mut line).map_err(VerifyError::Read)?;
            if read == 0 {
                return Ok(());
            }
            self.line += 1;
            match line.strip_suffix(b"\n") {
                Some(whole) => self.check_line(whole)?,
                None if read == MAX_LINE => return Err(self.broken(None, BrokenReason::TooLong).into()),
                None => self.torn_tail = Some(read),
            }
        }
    }

    /// What was verified.
    pub fn finish(self) -> Verified {
        Verified {
            events: self.events,
            follows: self.follows.unwrap_or(Position::START),
            last: self.last.unwrap_or(Position::START),
            erased: self.erased,
            torn_tail: self.torn_tail,
            ending: self.ending.unwrap_or(Ending::Empty),
            last_event: self.last_event,
        }
    }

    fn expected(&self) -> Option<u64> {
        self.last.map(|last| last.seq + 1)
    }

    fn broken(&self, seq: Option<u64>, reason: BrokenReason) -> Broken {
        Broken { seq: seq.or(self.expected()).unwrap_or(1), line: self.line, reason }
    }

    fn check_line(&mut self, line: &[u8]) -> Result<(), Broken> {
        let object = parse_object(line).map_err(|e| self.broken(None, BrokenReason::NotReadable(e.to_string())))?;
        let seq = object.get("seq").and_then(Value::as_u64);
        let seq = seq.filter(|seq| *seq > 0).ok_or_else(|| self.broken(None, BrokenReason::NoField("seq")))?;
        match self.expected() {
            Some(expected) if seq > expected => {
                return Err(self.broken(Some(expected), BrokenReason::Gap { expected, found: seq }));
            }
            Some(expected) if seq < expected => {
                return Err(self.broken(Some(seq), BrokenReason::OutOfOrder { expected, found: seq }));
            }
            Some(_) | None => {}
        }
        let checked = check_object(object).map_err(|reason| self.broken(Some(seq), reason))?;
        let follows = Position { seq: seq - 1, hash: checked.prev };
        let right = match self.last {
            Some(last) => last.hash == checked.prev,
            None => seq > 1 || follows == Position::START,
        };
        if !right {
            return Err(self.broken(Some(seq), BrokenReason::OtherPrevious));
        }
        self.follows.get_or_insert(follows);
        self.last = Some(Position { seq, hash: checked.hash });
        self.events += 1;
        self.erased += checked.erased;
        self.ending = Some(checked.ending);
        self.last_event = Some(checked.event);
        Ok(())
    }
}

struct Checked {
    prev: [u8; 32],
    hash: [u8; 32],
    erased: u64,
    ending: Ending,
    event: LastEvent,
}

/// Checks that a line's hash is that of its content.
fn check_object(mut object: Map<String, Value>) -> Result<Checked, BrokenReason> {
    let mut hash_field = |name: &'static str| {
        object.remove(name).as_ref().and_then(Value::as_str).and_then(from_hex).ok_or(BrokenReason::NoField(name))
    };
    let prev: [u8; 32] = hash_field("prev")?;
    let hash: [u8; 32] = hash_field("hash")?;
    let salts = by_path::<16>(object.remove(SALTS), SALTS)?;
    let digests = by_path::<32>(object.remove(DIGESTS), DIGESTS)?;
    for (path, _) in &digests {
        let erased = value_at(&object, path).is_some_and(Value::is_null);
        if !erased || salts.iter().any(|(salted, _)| salted == path) {
            return Err(BrokenReason::BadErasure(path.clone()));
        }
    }
    for (path, _) in &salts {
        if value_at(&object, path).is_none_or(Value::is_null) {
            return Err(BrokenReason::BadErasure(path.clone()));
        }
    }
    let replace = |path: &str, value: &Value, out: &mut Vec<u8>| {
        let digest = match (find(&digests, path), find(&salts, path)) {
            (Some(digest), _) => *digest,
            (None, Some(salt)) => {
                let mut text = Vec::new();
                push_canonical(&mut text, path, value, &|_, _, _| false);
                erasable::digest(salt, &text)
            }
            (None, None) => return false,
        };
        erasable::push_stand_in(out, &digest);
        true
    };
    let mut canonical = Vec::new();
    push_object(&mut canonical, "", &object, &replace);
    let computed: [u8; 32] = Sha256::new().chain_update(prev).chain_update(&canonical).finalize().into();
    if computed != hash {
        return Err(BrokenReason::Changed);
    }
    let text = |name: &'static str| object.get(name).and_then(Value::as_str).ok_or(BrokenReason::NoField(name));
    let event = text("event")?;
    let ending = match event {
        "sandbox.ended" => Ending::SandboxEnded,
        "audit.checkpoint" => Ending::Checkpoint,
        _ => Ending::Open,
    };
    let event = LastEvent { time: bounded(text("time")?, TEXT_LIMIT), event: bounded(event, TEXT_LIMIT) };
    Ok(Checked { prev, hash, erased: digests.len() as u64, ending, event })
}

type ByPath<const N: usize> = Vec<(String, [u8; N])>;

/// Reads `salts` or `digests`: paths with hex text.
fn by_path<const N: usize>(value: Option<Value>, name: &'static str) -> Result<ByPath<N>, BrokenReason> {
    let entries = match value {
        None => return Ok(Vec::new()),
        Some(Value::Object(entries)) => entries,
        Some(_) => return Err(BrokenReason::NoField(name)),
    };
    entries
        .into_iter()
        .map(|(path, text)| match text.as_str().and_then(from_hex) {
            Some(bytes) => Ok((path, bytes)),
            None => Err(BrokenReason::BadErasure(path)),
        })
        .collect()
}

fn find<'a, const N: usize>(entries: &'a ByPath<N>, path: &str) -> Option<&'a [u8; N]> {
    entries.iter().find(|(own, _)| own == path).map(|(_, bytes)| bytes)
}

fn value_at<'a>(object: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    match path.split_once('.') {
        None => object.get(path),
        Some((name, rest)) => object.get(name)?.as_object()?.get(rest),
    }
}
