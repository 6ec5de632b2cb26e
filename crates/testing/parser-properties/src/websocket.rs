//! One direction of a WebSocket: where frames end, and what is no frame.

use wire::websocket::{Messages, Sender};

const LIMIT: u64 = 1000;

/// A choice of direction and of compression, and frames.
pub(crate) fn messages(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let sender = if choice & 1 == 0 { Sender::Client } else { Sender::Server };
    let deflate = choice & 2 != 0;
    let whole = run(sender, deflate, bytes, usize::MAX);
    for piece in [1, 3, 64] {
        assert_eq!(run(sender, deflate, bytes, piece), whole, "in pieces of {piece}");
    }
    if whole.is_ok() {
        each_frame(sender, bytes);
    }
}

fn run(sender: Sender, deflate: bool, bytes: &[u8], piece: usize) -> Result<(), &'static str> {
    let mut messages = Messages::new(sender, deflate, LIMIT);
    bytes.chunks(piece.min(bytes.len()).max(1)).try_for_each(|chunk| messages.advance(chunk))
}

/// Reads what was accepted anew, frame by frame: nothing in it is longer or other than it may be.
fn each_frame(sender: Sender, bytes: &[u8]) {
    let (mut at, mut message, mut closed) = (0, None::<u64>, false);
    while at < bytes.len() {
        assert!(!closed, "something behind a close frame");
        let (is_final, kind) = (bytes[at] & 0x80 != 0, bytes[at] & 0x0f);
        let Some(short) = bytes.get(at + 1) else { return };
        assert_eq!(short & 0x80 != 0, sender == Sender::Client);
        let wide = match short & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let Some(longer) = bytes.get(at + 2..at + 2 + wide) else { return };
        let value = longer.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        let length = if wide == 0 { u64::from(short & 0x7f) } else { value };
        match kind {
            0..=2 => {
                assert_eq!(kind == 0, message.is_some(), "messages follow each other");
                let so_far = message.unwrap_or(0) + length;
                assert!(so_far <= LIMIT, "a message of {so_far}");
                message = (!is_final).then_some(so_far);
            }
            8..=10 => assert!(is_final && length <= 125),
            _ => panic!("a frame of kind {kind}"),
        }
        closed = kind == 8;
        let mask = if sender == Sender::Client { 4 } else { 0 };
        at += 2 + wide + mask + usize::try_from(length).expect("bounded");
    }
}
