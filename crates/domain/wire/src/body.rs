//! Where the body of an HTTP/1.1 message ends (RFC 9112, 6 and 7).
//!
//! A state machine of a few words: it keeps no byte of the body.

use policy::model::header_fields::is_same;

use crate::http_head::{is_override, is_token};

/// The most bytes of a chunk's size line or of one trailer line.
const LINE_LIMIT: u32 = 8 * 1024;
/// Trailers that would change what a request is, where a recipient adds them to its head (RFC 9110, 6.5.1).
const HEAD_ONLY: [&[u8]; 11] = [
    b"host",
    b"content-length",
    b"transfer-encoding",
    b"connection",
    b"upgrade",
    b"te",
    b"trailer",
    b"expect",
    b"authorization",
    b"cookie",
    b"proxy-authorization",
];
/// Longer than any of them.
const NAME_LIMIT: usize = 24;
/// The most bytes of all trailer lines.
const TRAILER_LIMIT: u32 = 64 * 1024;

/// Whether a field of this name may stand behind a body: not one that a recipient would read as a part of the head.
pub fn may_trail(name: &[u8]) -> bool {
    !HEAD_ONLY.iter().any(|known| is_same(name, known)) && !is_override(name)
}

/// Why a body ends that has more bytes than it may.
pub const TOO_LONG: &str = "a body longer than the bound";

/// What is left of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// Nothing.
    Done,
    /// So many bytes.
    Length(u64),
    /// Chunks, from this state on.
    Chunked(Chunks),
    /// Until the sender closes.
    UntilClose,
    /// The same, and so many bytes at most.
    UntilCloseAtMost(u64),
}

/// Within a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunks {
    state: State,
    /// The most bytes that the chunks still to come may hold.
    left: u64,
    /// Whether extensions and any trailers are passed over: responses; in requests they are refused.
    extensions: bool,
    /// The name of the trailer that is read.
    name: TrailerName,
}

/// The start of a trailer's name, in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct TrailerName {
    bytes: [u8; NAME_LIMIT],
    length: u8,
    /// The colon behind it was read.
    whole: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before or within the digits of a size.
    Size { size: u64, digits: u8 },
    /// Behind a size, at blanks.
    Blank { size: u64 },
    /// Within an extension.
    Extension { size: u64, length: u32 },
    /// At the line feed after a size.
    SizeEnd { size: u64 },
    /// Within a chunk's data.
    Data { left: u64 },
    /// At the carriage return after the data.
    DataReturn,
    /// At the line feed after the data.
    DataEnd,
    /// At the start of a trailer line.
    TrailerStart { total: u32 },
    /// Within a trailer line.
    Trailer { total: u32 },
    /// At the line feed of a trailer line.
    TrailerEnd { total: u32 },
    /// At the last line feed.
    Last,
    /// The body is over.
    Done,
}

impl Body {
    /// A chunked body from its start; `strict` for requests.
    pub fn chunked(strict: bool) -> Self {
        Body::Chunked(Chunks {
            state: State::Size { size: 0, digits: 0 },
            left: u64::MAX,
            extensions: !strict,
            name: TrailerName::default(),
        })
    }

    /// The same body, which may have so many bytes at most. One that says to have more is an error at once, chunks when
    /// the one begins that has too many.
    pub fn at_most(self, limit: u64) -> Result<Self, &'static str> {
        match self {
            Body::Done => Ok(self),
            Body::Length(length) if length > limit => Err(TOO_LONG),
            Body::Length(_) => Ok(self),
            Body::Chunked(chunks) => Ok(Body::Chunked(Chunks { left: chunks.left.min(limit), ..chunks })),
            Body::UntilClose => Ok(Body::UntilCloseAtMost(limit)),
            Body::UntilCloseAtMost(left) => Ok(Body::UntilCloseAtMost(left.min(limit))),
        }
    }

    /// How many of these bytes belong to the body. After that many, [`Body::is_done`] tells whether it is over.
    ///
    /// Errors: a chunk whose size is no number of at most 15 hexadecimal digits, or that does not end where it says;
    /// a line that does not end with CRLF; more bytes than [`Body::at_most`] said; more than 64 KiB of trailers; in a strict body a chunk extension, or a
    /// trailer that belongs into the head; else an extension of more than 8 KiB. After an error the body must not be asked again.
    #[inline]
    pub fn advance(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        match self {
            Body::Done => Ok(0),
            Body::UntilClose => Ok(bytes.len()),
            Body::UntilCloseAtMost(left) => {
                *left = left.checked_sub(bytes.len() as u64).ok_or(TOO_LONG)?;
                Ok(bytes.len())
            }
            Body::Length(left) => {
                let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                self.skip(taken as u64);
                Ok(taken)
            }
            Body::Chunked(chunks) => {
                let taken = chunks.advance(bytes)?;
                if chunks.state == State::Done {
                    *self = Body::Done;
                }
                Ok(taken)
            }
        }
    }

    /// Whether nothing of it is left.
    #[inline]
    pub fn is_done(&self) -> bool {
        *self == Body::Done
    }

    /// How many bytes may be moved without looking at them.
    #[inline]
    pub fn unseen(&self) -> u64 {
        match self {
            Body::Done => 0,
            Body::UntilClose => u64::MAX,
            Body::UntilCloseAtMost(left) => *left,
            Body::Length(left) => *left,
            Body::Chunked(chunks) => match chunks.state {
                State::Data { left } => left,
                _ => 0,
            },
        }
    }

    /// So many bytes, at most [`Body::unseen`], were moved without looking at them.
    #[inline]
    pub fn skip(&mut self, count: u64) {
        match self {
            Body::Done | Body::UntilClose => {}
            Body::UntilCloseAtMost(left) => *left = left.saturating_sub(count),
            Body::Length(left) => {
                *left = left.saturating_sub(count);
                if *left == 0 {
                    *self = Body::Done;
                }
            }
            Body::Chunked(chunks) => {
                if let State::Data { left } = chunks.state {
                    let left = left.saturating_sub(count);
                    chunks.state = if left == 0 { State::DataReturn } else { State::Data { left } };
                }
            }
        }
    }
}

impl Chunks {
    fn advance(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            if self.state == State::Done {
                break;
            }
            if let State::Data { left } = self.state {
                let rest = bytes.len() - at;
                let taken = rest.min(usize::try_from(left).unwrap_or(usize::MAX));
                let left = left - taken as u64;
                self.state = if left == 0 { State::DataReturn } else { State::Data { left } };
                at += taken;
                continue;
            }
            self.state = self.step(*byte)?;
            if let State::Data { left } = self.state {
                self.left = self.left.checked_sub(left).ok_or(TOO_LONG)?;
            }
            if !self.extensions {
                self.hold_trailer(*byte)?;
            }
            at += 1;
        }
        Ok(at)
    }

    /// Reads a trailer's name along, after the step.
    fn hold_trailer(&mut self, byte: u8) -> Result<(), &'static str> {
        match self.state {
            State::Trailer { .. } if !self.name.whole => self.name.take(byte),
            State::TrailerEnd { .. } if !self.name.whole => Err("a trailer without a colon"),
            State::TrailerStart { .. } => {
                self.name = TrailerName::default();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn step(&self, byte: u8) -> Result<State, &'static str> {
        const END: &str = "a chunk that does not end where it should";
        Ok(match (self.state, byte) {
            (State::Size { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < 15 => {
                let value = (byte as char).to_digit(16).unwrap_or_default();
                State::Size { size: size << 4 | u64::from(value), digits: digits + 1 }
            }
            (State::Size { size, digits: 1.. }, b'\r') => State::SizeEnd { size },
            (State::Size { size, digits: 1.. } | State::Blank { size }, b';') if self.extensions => {
                State::Extension { size, length: 0 }
            }
            // Another number behind the blank would be a part of the size to some.
            (State::Size { size, digits: 1.. } | State::Blank { size }, b' ' | b'\t') if self.extensions => {
                State::Blank { size }
            }
            (State::Blank { size }, b'\r') => State::SizeEnd { size },
            (State::Size { .. }, b';') => return Err("a chunk extension"),
            (State::Size { .. } | State::Blank { .. }, _) => return Err("a chunk size that is no number"),
            (State::Extension { size, .. }, b'\r') => State::SizeEnd { size },
            (State::Extension { length, .. }, byte) if length >= LINE_LIMIT || (byte < 0x20 && byte != b'\t') => {
                return Err("a broken chunk extension");
            }
            (State::Extension { size, length }, _) => State::Extension { size, length: length + 1 },
            (State::SizeEnd { size: 0 }, b'\n') => State::TrailerStart { total: 0 },
            (State::SizeEnd { size }, b'\n') => State::Data { left: size },
            (State::DataReturn, b'\r') => State::DataEnd,
            (State::DataEnd, b'\n') => State::Size { size: 0, digits: 0 },
            (State::TrailerStart { .. }, b'\r') => State::Last,
            (State::TrailerStart { total } | State::Trailer { total }, byte)
                if byte == b'\t' || byte >= 0x20 && byte != 0x7f =>
            {
                if total >= TRAILER_LIMIT {
                    return Err("trailers longer than the bound");
                }
                if matches!(self.state, State::TrailerStart { .. }) && matches!(byte, b' ' | b'\t' | b':') {
                    return Err("a broken trailer line");
                }
                State::Trailer { total: total + 1 }
            }
            (State::Trailer { total }, b'\r') => State::TrailerEnd { total },
            (State::TrailerEnd { total }, b'\n') => State::TrailerStart { total },
            (State::Last, b'\n') => State::Done,
            (State::TrailerStart { .. } | State::Trailer { .. }, _) => return Err("a broken trailer line"),
            (
                State::SizeEnd { .. } | State::DataReturn | State::DataEnd | State::TrailerEnd { .. } | State::Last,
                _,
            ) => {
                return Err(END);
            }
            (State::Data { .. } | State::Done, _) => return Err(END),
        })
    }
}

impl TrailerName {
    fn take(&mut self, byte: u8) -> Result<(), &'static str> {
        if byte == b':' {
            self.whole = true;
            let name = self.bytes.get(..usize::from(self.length)).unwrap_or_default();
            return if may_trail(name) { Ok(()) } else { Err("a trailer that belongs into the head") };
        }
        if !is_token(byte) {
            return Err("a trailer name that is no token");
        }
        if let Some(place) = self.bytes.get_mut(usize::from(self.length)) {
            *place = byte.to_ascii_lowercase();
            self.length += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
