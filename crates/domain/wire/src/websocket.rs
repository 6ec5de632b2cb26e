//! One direction of a WebSocket: where its frames and messages end (RFC 6455, 5).
//!
//! A state machine of a few words: it keeps no byte of a message, and changes none. Bytes that it took pass as they are.

/// The longest payload of a control frame.
const CONTROL_LIMIT: u64 = 125;
const CONTINUATION: u8 = 0;
const CLOSE: u8 = 8;

/// Who sends in this direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// The client: its frames are masked.
    Client,
    /// The server: its frames are not.
    Server,
}

/// The messages of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Messages {
    sender: Sender,
    /// Whether messages may be compressed (RFC 7692).
    deflate: bool,
    /// The most bytes of a message, as sent.
    limit: u64,
    /// The bytes so far of the message that is not at its end.
    message: Option<u64>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// At the first byte of a frame.
    First,
    /// At the byte with the length.
    Length { first: u8 },
    /// Within a longer length: so many bytes of it are to come.
    Longer { first: u8, value: u64, left: u8, wide: bool },
    /// Within the mask, and then so much payload.
    Mask { left: u8, payload: u64, closes: bool },
    /// Within the payload.
    Payload { left: u64, closes: bool },
    /// Behind a close frame.
    Closed,
}

impl Messages {
    /// `limit` bounds one message, in all its frames, as it is sent: what is compressed may become larger.
    pub fn new(sender: Sender, deflate: bool, limit: u64) -> Self {
        Self { sender, deflate, limit, message: None, state: State::First }
    }

    /// Takes bytes in.
    ///
    /// Errors: a bit or a kind of frame that nobody agreed on, a length longer written than it has to be, a mask where
    /// there is to be none or none where there is to be one, a control frame in parts or of more than 125 bytes, a
    /// message within another, one longer than the bound, and any byte behind a close frame. After an error the
    /// direction must not be asked again.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        let mut rest = bytes;
        while let Some((byte, behind)) = rest.split_first() {
            if let State::Payload { left, closes } = self.state {
                let taken = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                self.state = payload(left - taken as u64, closes);
                rest = rest.get(taken..).unwrap_or_default();
            } else {
                self.state = self.step(*byte)?;
                rest = behind;
            }
        }
        Ok(())
    }

    fn step(&mut self, byte: u8) -> Result<State, &'static str> {
        match self.state {
            State::First => self.first(byte),
            State::Length { first } => {
                if (byte & 0x80 != 0) != (self.sender == Sender::Client) {
                    return Err(match self.sender {
                        Sender::Client => "a frame of the client without a mask",
                        Sender::Server => "a frame of the server with a mask",
                    });
                }
                match byte & 0x7f {
                    126 => Ok(State::Longer { first, value: 0, left: 2, wide: false }),
                    127 => Ok(State::Longer { first, value: 0, left: 8, wide: true }),
                    length => self.payload_of(first, u64::from(length)),
                }
            }
            State::Longer { first, value, left, wide } => {
                if wide && left == 8 && byte & 0x80 != 0 {
                    return Err("a frame longer than any can be");
                }
                let value = value << 8 | u64::from(byte);
                match left {
                    0 | 1 if value <= if wide { 0xffff } else { 125 } => {
                        Err("a length longer written than it has to be")
                    }
                    0 | 1 => self.payload_of(first, value),
                    left => Ok(State::Longer { first, value, left: left - 1, wide }),
                }
            }
            State::Mask { left: 0 | 1, payload: length, closes } => Ok(payload(length, closes)),
            State::Mask { left, payload, closes } => Ok(State::Mask { left: left - 1, payload, closes }),
            State::Payload { .. } => Ok(self.state),
            State::Closed => Err("bytes behind a close frame"),
        }
    }

    fn first(&mut self, byte: u8) -> Result<State, &'static str> {
        let (is_final, kind) = (byte & 0x80 != 0, byte & 0x0f);
        let begins = matches!(kind, 1 | 2);
        match kind {
            CONTINUATION if self.message.is_none() => return Err("a continuation of no message"),
            1 | 2 if self.message.is_some() => return Err("a message within another"),
            CLOSE..=10 if !is_final => return Err("a control frame in parts"),
            3..=7 | 11..=15 => return Err("a frame of no known kind"),
            _ => {}
        }
        if byte & 0x30 != 0 || (byte & 0x40 != 0 && !(self.deflate && begins)) {
            return Err("a bit that nobody agreed on");
        }
        if begins {
            self.message = Some(0);
        }
        Ok(State::Length { first: byte })
    }

    fn payload_of(&mut self, first: u8, length: u64) -> Result<State, &'static str> {
        let kind = first & 0x0f;
        if kind >= CLOSE {
            if length > CONTROL_LIMIT {
                return Err("a control frame longer than 125 bytes");
            }
        } else {
            let message = self.message.unwrap_or(0).saturating_add(length);
            if message > self.limit {
                return Err("a message longer than the bound");
            }
            self.message = if first & 0x80 != 0 { None } else { Some(message) };
        }
        let closes = kind == CLOSE;
        Ok(match self.sender {
            Sender::Client => State::Mask { left: 4, payload: length, closes },
            Sender::Server => payload(length, closes),
        })
    }
}

/// What is due after so much payload.
fn payload(left: u64, closes: bool) -> State {
    match left {
        0 if closes => State::Closed,
        0 => State::First,
        left => State::Payload { left, closes },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, prop_assert_eq, proptest};

    use super::{Messages, Sender};

    fn run(sender: Sender, deflate: bool, bytes: &[u8], piece: usize) -> Result<(), &'static str> {
        let mut messages = Messages::new(sender, deflate, 300);
        bytes.chunks(piece).try_for_each(|chunk| messages.advance(chunk))
    }

    #[test]
    fn frames_have_one_meaning() {
        let long = [&[0x82, 126, 1, 44][..], &[7; 300]].concat();
        let too_long = [&[0x82, 126, 1, 45][..], &[7; 301]].concat();
        let in_parts = [&[0x02, 126, 0, 200][..], &[7; 200], &[0x80, 126, 0, 200], &[7; 200]].concat();
        type Case<'a> = (&'a [u8], Sender, Result<(), &'a str>);
        let cases: &[Case<'_>] = &[
            (b"\x81\x01a\x89\x00\x8a\x00\x82\x00", Sender::Server, Ok(())),
            (b"\x81\x81mask\x00\x88\x80mask", Sender::Client, Ok(())),
            (b"\x01\x01a\x89\x02hi\x00\x01b\x80\x01c\x81\x01d", Sender::Server, Ok(())),
            (b"\x88\x02\x03\xe8", Sender::Server, Ok(())),
            (&long, Sender::Server, Ok(())),
            (&too_long, Sender::Server, Err("a message longer than the bound")),
            (&in_parts, Sender::Server, Err("a message longer than the bound")),
            (b"\x82\x7f\x00\x00\x00\x01\x00\x00\x00\x00", Sender::Server, Err("a message longer than the bound")),
            (b"\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x01", Sender::Server, Err("a frame longer than any can be")),
            (b"\x81\x01a", Sender::Client, Err("a frame of the client without a mask")),
            (b"\x81\x81mask\x00", Sender::Server, Err("a frame of the server with a mask")),
            (b"\xc1\x01a", Sender::Server, Err("a bit that nobody agreed on")),
            (b"\xa1\x01a", Sender::Server, Err("a bit that nobody agreed on")),
            (b"\x83\x01a", Sender::Server, Err("a frame of no known kind")),
            (b"\x8b\x01a", Sender::Server, Err("a frame of no known kind")),
            (b"\x80\x01a", Sender::Server, Err("a continuation of no message")),
            (b"\x01\x01a\x81\x01b", Sender::Server, Err("a message within another")),
            (b"\x09\x01a", Sender::Server, Err("a control frame in parts")),
            (b"\x89\x7e\x00\x7e", Sender::Server, Err("a control frame longer than 125 bytes")),
            (b"\x81\x7e\x00\x01a", Sender::Server, Err("a length longer written than it has to be")),
            (
                b"\x81\x7f\x00\x00\x00\x00\x00\x00\xff\xff",
                Sender::Server,
                Err("a length longer written than it has to be"),
            ),
            (b"\x88\x00\x81\x01a", Sender::Server, Err("bytes behind a close frame")),
            (b"GET / HTTP/1.1\r\n", Sender::Client, Err("a frame of no known kind")),
        ];
        for (bytes, sender, expected) in cases {
            for piece in [1, 2, 3, 1000] {
                assert_eq!(run(*sender, false, bytes, piece), *expected, "{}", bytes.escape_ascii());
            }
        }
    }

    #[test]
    fn compressed_messages_only_where_that_was_agreed() {
        assert_eq!(run(Sender::Server, true, b"\xc1\x01a\x41\x01a\x80\x01b", 1), Ok(()));
        assert!(run(Sender::Server, true, b"\x41\x01a\xc0\x01b", 1).is_err(), "only the first frame says so");
        assert!(run(Sender::Server, true, b"\xc9\x00", 1).is_err(), "never a control frame");
    }

    proptest! {
        #[test]
        fn cutting_changes_nothing(bytes in prop::collection::vec(any::<u8>(), 0..300), piece in 1usize..9, deflate in any::<bool>()) {
            for sender in [Sender::Client, Sender::Server] {
                prop_assert_eq!(run(sender, deflate, &bytes, piece), run(sender, deflate, &bytes, 1000));
            }
        }
    }
}
