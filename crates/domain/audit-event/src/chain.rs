//! Gives each event its place: a number, a time, the hash of the line before and its own.
//!
//! `hash` = SHA-256 (`prev` as 32 bytes, then the RFC 8785 form of all fields but `prev`, `hash`, `salts` and
//! `digests`, with salted digests for what is erasable, see [`crate::erasable`]). The first line's `prev` is all zeros.
//! The number orders the lines, never the time: clocks jump.

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::{
    encode::{ContextText, EncodeError, Encoder, Scratch},
    erasable::SaltKey,
    event::{Event, RunContext},
    json_text::{hex, push_hex, push_time},
};

/// How far a chain has come: the last line's number and hash.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The last line's number; 0 where there is none yet.
    pub seq: u64,
    /// The last line's hash; zeros where there is none yet.
    pub hash: [u8; 32],
}

impl Position {
    /// Before the first line.
    pub const START: Self = Self { seq: 0, hash: [0; 32] };
}

impl std::fmt::Debug for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Position({} {})", self.seq, hex(&self.hash))
    }
}

/// One writer's chain.
#[derive(Debug)]
pub struct Chain {
    context: ContextText,
    position: Position,
    salt_key: SaltKey,
    scratch: Scratch,
}

impl Chain {
    /// A chain that goes on from a position, for events of one context.
    pub fn new(context: &RunContext, position: Position, salt_key: SaltKey) -> Self {
        Self { context: ContextText::new(context), position, salt_key, scratch: Scratch::default() }
    }

    /// Where the chain stands.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Goes back to a position: what came after it was never written.
    pub fn rewind(&mut self, position: Position) {
        self.position = position;
    }

    /// Appends the event's line, with its line feed, and gives its number. On an error nothing changes.
    pub fn append(&mut self, event: &Event, time: Timestamp, out: &mut Vec<u8>) -> Result<u64, EncodeError> {
        let from = out.len();
        let appended = self.append_line(event, time, out);
        if appended.is_err() {
            out.truncate(from);
        }
        appended
    }

    fn append_line(&mut self, event: &Event, time: Timestamp, out: &mut Vec<u8>) -> Result<u64, EncodeError> {
        let seq = self.position.seq + 1;
        let mut encoder = Encoder::start(out, &mut self.scratch, &self.salt_key, seq);
        encoder.field("time", |line| push_time(line, time));
        encoder.event(event, &self.context)?;
        encoder.push_salts();
        let hash: [u8; 32] =
            Sha256::new().chain_update(self.position.hash).chain_update(encoder.canonical()).finalize().into();
        for (name, value) in [(&b",\"prev\":\""[..], &self.position.hash), (b",\"hash\":\"", &hash)] {
            out.extend_from_slice(name);
            push_hex(out, value);
            out.push(b'"');
        }
        out.extend_from_slice(b"}\n");
        self.position = Position { seq, hash };
        Ok(seq)
    }
}
