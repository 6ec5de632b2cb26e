//! What a server sends through a WebSocket, masked frame by frame (RFC 6455).
//!
//! A secret is found within one message, also where it is cut into fragments. No byte waits longer than to the end of
//! its message; inside, the last ones wait as those of every stream do (see `hold`), and a ping behind them. Frames stay
//! as they are: what they hold is masked in its length. Extensions are not agreed on, so that nothing is compressed; a frame that says otherwise is an error.

use std::{collections::VecDeque, sync::Arc};

use crate::{hold::Hold, mask::Mask};

/// How much may wait behind held payload, beside what frames of little payload need.
const WAITING: usize = 16 * 1024;
/// The first byte of a frame that closes.
const CLOSE: u8 = 0x88;

/// What is wrong with a server's frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameError(&'static str);

impl std::fmt::Display for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for FrameError {}

/// The frames of one direction.
#[derive(Debug)]
pub struct Frames {
    mask: Arc<Mask>,
    stage: Stage,
    /// Whether a message goes on.
    fragmented: bool,
    /// Payload that did not go on yet.
    hold: Hold,
    /// What stands between held bytes: behind how many of them, and what.
    between: VecDeque<(usize, Vec<u8>)>,
    waiting: usize,
}

#[derive(Debug)]
enum Stage {
    /// What came of a head.
    Head(Vec<u8>),
    /// A ping, pong or close: its head and what came of it, and how much it has.
    Control(Vec<u8>, usize),
    /// What is left of a piece of a message, and whether it is the last.
    Payload(u64, bool),
}

/// A whole head.
enum Head {
    Control { length: usize },
    Data { length: u64, is_last: bool },
}

impl Frames {
    /// Nothing came yet.
    pub fn new(mask: Arc<Mask>) -> Self {
        let (hold, between) = (Hold::default(), VecDeque::new());
        Self { mask, stage: Stage::Head(Vec::new()), fragmented: false, hold, between, waiting: 0 }
    }

    /// Looks for what this looks for from here on.
    pub fn renew(&mut self, mask: Arc<Mask>) {
        self.mask = mask;
    }

    /// Takes the next bytes, and appends what may go on.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
        let mut rest = bytes;
        while let Some(first) = rest.first() {
            match &mut self.stage {
                Stage::Head(head) => {
                    head.push(*first);
                    rest = rest.get(1..).unwrap_or_default();
                    match read_head(head, self.fragmented)? {
                        None => {}
                        Some(Head::Control { length: 0 }) => {
                            let head = std::mem::take(head);
                            self.put_between(head, out)?;
                        }
                        Some(Head::Control { length }) => self.stage = Stage::Control(std::mem::take(head), 2 + length),
                        Some(Head::Data { length, is_last }) => {
                            let head = std::mem::take(head);
                            self.fragmented = !is_last;
                            self.put_between(head, out)?;
                            self.stage = Stage::Payload(length, is_last);
                            if length == 0 {
                                self.payload(&[], out);
                            }
                        }
                    }
                }
                Stage::Control(frame, whole) => {
                    let (taken, following) = rest.split_at(rest.len().min(*whole - frame.len()));
                    frame.extend_from_slice(taken);
                    rest = following;
                    if frame.len() == *whole {
                        let mut frame = std::mem::take(frame);
                        if let Some(payload) = frame.get_mut(2..) {
                            let length = payload.len();
                            self.mask.cover(payload, 0, length);
                        }
                        self.stage = Stage::Head(Vec::new());
                        self.put_between(frame, out)?;
                    }
                }
                Stage::Payload(left, _) => {
                    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    let (taken, following) = rest.split_at(count);
                    rest = following;
                    *left -= count as u64;
                    self.payload(taken, out);
                }
            }
        }
        Ok(())
    }

    /// Something that is no payload of a message, in its place.
    fn put_between(&mut self, bytes: Vec<u8>, out: &mut Vec<u8>) -> Result<(), FrameError> {
        if bytes.first() == Some(&CLOSE) {
            // No message goes on behind it.
            let mut rest = Vec::new();
            self.hold.break_off(&mut rest);
            self.pass(&rest, out);
        }
        if self.hold.len() == 0 {
            out.extend_from_slice(&bytes);
            return Ok(());
        }
        self.waiting += bytes.len();
        if self.waiting > WAITING + 4 * self.mask.depth() {
            return Err(FrameError("too many frames inside one message"));
        }
        self.between.push_back((self.hold.len(), bytes));
        Ok(())
    }

    fn payload(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let Stage::Payload(left, is_last) = self.stage else { return };
        let ends = left == 0;
        let mut masked = Vec::with_capacity(self.hold.len() + piece.len());
        self.hold.push(&self.mask, piece, ends && is_last, &mut masked);
        self.pass(&masked, out);
        if ends {
            self.stage = Stage::Head(Vec::new());
        }
    }

    /// Appends payload, and what stands in it. Its length was kept, so that this keeps its place.
    fn pass(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        let mut from = 0;
        while let Some((at, bytes)) = self.between.pop_front_if(|(at, _)| *at <= payload.len()) {
            out.extend_from_slice(payload.get(from..at).unwrap_or_default());
            out.extend_from_slice(&bytes);
            self.waiting -= bytes.len();
            from = at;
        }
        out.extend_from_slice(payload.get(from..).unwrap_or_default());
        for (at, _) in &mut self.between {
            *at -= payload.len();
        }
    }
}

/// RFC 6455, 5.2; nothing where more is needed.
fn read_head(head: &[u8], fragmented: bool) -> Result<Option<Head>, FrameError> {
    let [first, second, rest @ ..] = head else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err(FrameError("a frame of an extension that was not agreed on"));
    }
    if second & 0x80 != 0 {
        return Err(FrameError("a frame of a server with a masking key"));
    }
    let is_last = first & 0x80 != 0;
    let short = second & 0x7f;
    match (first & 0x0f, fragmented) {
        (8..=10, _) if is_last && short <= 125 => return Ok(Some(Head::Control { length: usize::from(short) })),
        (0, true) | (1 | 2, false) => {}
        _ => return Err(FrameError("a frame out of order, or of no known kind")),
    }
    let length = match short {
        126 => match rest.first_chunk::<2>() {
            Some(length) => u64::from(u16::from_be_bytes(*length)),
            None => return Ok(None),
        },
        127 => match rest.first_chunk::<8>() {
            Some(length) if length.first().is_some_and(|byte| *byte < 0x80) => u64::from_be_bytes(*length),
            Some(_) => return Err(FrameError("a frame without a length")),
            None => return Ok(None),
        },
        short => u64::from(short),
    };
    Ok(Some(Head::Data { length, is_last }))
}

#[cfg(test)]
mod tests {
    use values::Secret;

    use super::*;
    use crate::Masked;

    fn mask() -> Arc<Mask> {
        let secret = Secret::from("secret-9f8e7d".to_owned());
        Arc::new(Mask::new([Masked { secret: &secret, placeholder: None }]).unwrap())
    }

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            length @ ..126 => frame.push(length as u8),
            length => {
                frame.push(126);
                frame.extend_from_slice(&(length as u16).to_be_bytes());
            }
        }
        frame.extend_from_slice(payload);
        frame
    }

    /// What comes out whole, and in pieces of one byte; both are the same.
    fn through(bytes: &[u8]) -> Result<Vec<u8>, FrameError> {
        let (mut whole, mut single) = (Vec::new(), Vec::new());
        let outcome = Frames::new(mask()).push(bytes, &mut whole);
        let mut frames = Frames::new(mask());
        let one_by_one = bytes.iter().try_for_each(|byte| frames.push(&[*byte], &mut single));
        assert_eq!(outcome, one_by_one);
        outcome?;
        assert_eq!(whole, single);
        Ok(whole)
    }

    #[test]
    fn a_secret_is_masked_in_one_frame_and_over_fragments_with_a_ping_between() {
        let text = [frame(0x81, b"a secret-9f8e7d b"), frame(0x82, &[b'x'; 300])].concat();
        assert_eq!(through(&text).unwrap(), [frame(0x81, b"a ************* b"), frame(0x82, &[b'x'; 300])].concat());
        let pieces = [
            frame(0x01, b"a sec"),
            frame(0x89, b"secret-9f8e7d"),
            frame(0x00, b""),
            frame(0x00, b"ret-9f8"),
            frame(0x8a, b""),
            frame(0x80, b"e7d secret"),
        ];
        let masked = [
            frame(0x01, b"a ***"),
            frame(0x89, b"*************"),
            frame(0x00, b""),
            frame(0x00, b"*******"),
            frame(0x8a, b""),
            frame(0x80, b"*** secret"),
        ];
        assert_eq!(through(&pieces.concat()).unwrap(), masked.concat());
    }

    #[test]
    fn inside_a_message_as_much_waits_whatever_it_is() {
        let passed = |text: &[u8]| {
            let mut out = Vec::new();
            let mut frames = Frames::new(mask());
            let head = [[0x01, 126, 0x01, 0x40].as_slice(), &[b'.'; 307]].concat();
            frames.push(&head, &mut out).unwrap();
            let mut lengths = vec![out.len()];
            for byte in text {
                frames.push(&[*byte], &mut out).unwrap();
                lengths.push(out.len());
            }
            lengths
        };
        assert_eq!(passed(b"secret-9f8e7d"), passed(b"guessed-wrong"));
    }

    #[test]
    fn a_close_inside_a_message_is_not_held_up_and_the_rest_not_told() {
        let mut out = Vec::new();
        let bytes = [frame(0x01, b"a secret-9f"), frame(0x89, b""), frame(0x88, b"\x03\xe8")];
        Frames::new(mask()).push(&bytes.concat(), &mut out).unwrap();
        assert_eq!(out, [frame(0x01, b"***********"), frame(0x89, b""), frame(0x88, b"\x03\xe8")].concat());
    }

    #[test]
    fn nothing_waits_beyond_the_end_of_its_message() {
        let mut out = Vec::new();
        Frames::new(mask()).push(&frame(0x81, b"secret-9f"), &mut out).unwrap();
        assert_eq!(out, frame(0x81, b"secret-9f"));
        assert_eq!(through(&[frame(0x81, b"secret-9f"), frame(0x81, b"8e7d")].concat()).unwrap().len(), 17);
    }

    #[test]
    fn what_is_no_frame_of_a_server_is_an_error() {
        for bytes in
            [&[0xc1, 0][..], &[0x81, 0x80], &[0x83, 0], &[0x80, 0], &[0x89, 126], &[0x09, 0], &[0x01, 0, 0x81, 0]]
        {
            assert!(through(bytes).is_err(), "{bytes:?}");
        }
        let endless = [frame(0x01, b"sec"), frame(0x00, b"").repeat(WAITING)].concat();
        assert!(through(&endless).is_err());
    }
}
