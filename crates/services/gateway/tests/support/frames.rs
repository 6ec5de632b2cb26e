//! HTTP/2 by hand: frames as bytes (RFC 9113, 4.1), and field blocks without compression (RFC 7541, 6.2.2).

use std::io::{Read, Write};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
pub const WITH_PRIORITY: u8 = 0x20;

/// A frame that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

fn string(bytes: &[u8], out: &mut Vec<u8>) {
    match u8::try_from(bytes.len()) {
        Ok(length @ 0..=126) => out.push(length),
        _ => {
            out.push(127);
            let mut rest = bytes.len() - 127;
            while rest >= 128 {
                out.push(u8::try_from(rest % 128).unwrap() | 128);
                rest /= 128;
            }
            out.push(u8::try_from(rest).unwrap());
        }
    }
    out.extend_from_slice(bytes);
}

/// A field block, each field a literal that enters no table.
pub fn block<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        string(name.as_ref(), &mut out);
        string(value.as_ref(), &mut out);
    }
    out
}

/// A whole request head.
pub fn request(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream, &block(fields))
}

/// The fields of `GET https://web.test{path}`.
pub fn get(path: &str) -> [(&str, &str); 4] {
    [(":method", "GET"), (":scheme", "https"), (":authority", "web.test"), (":path", path)]
}

/// The fields of `PUT https://web.test{path}`.
pub fn put(path: &str) -> [(&str, &str); 4] {
    [(":method", "PUT"), (":scheme", "https"), (":authority", "web.test"), (":path", path)]
}

/// One setting.
pub fn setting(id: u16, value: u32) -> Vec<u8> {
    [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

/// The next frame; `None` at the end.
pub fn read_frame(stream: &mut impl Read) -> Option<Frame> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut payload).ok()?;
    let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    Some(Frame { kind: head[3], flags: head[4], stream: id & 0x7fff_ffff, payload })
}

/// The server's side of the start: reads the preface, says its settings. `None` where the client was gone.
pub fn greet(stream: &mut (impl Read + Write), settings: &[u8]) -> Option<()> {
    let mut preface = [0; PREFACE.len()];
    stream.read_exact(&mut preface).ok()?;
    assert_eq!(preface, PREFACE);
    stream.write_all(&frame(SETTINGS, 0, 0, settings)).ok()?;
    stream.write_all(&frame(SETTINGS, ACK, 0, b"")).ok()
}

/// How the peer took what it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It answered stream 1 with this status.
    Answered(u16),
    /// It reset a stream, with this code.
    Reset(u32),
    /// It ended the connection, with this code.
    GoAway(u32),
    /// It closed without a word.
    Closed,
}

fn code(payload: &[u8]) -> u32 {
    u32::from_be_bytes(payload.try_into().unwrap())
}

/// Reads until it is known how the peer took it.
pub fn outcome(stream: &mut impl Read) -> Outcome {
    while let Some(frame) = read_frame(stream) {
        match frame.kind {
            HEADERS => return Outcome::Answered(status(&frame.payload)),
            RST_STREAM => return Outcome::Reset(code(&frame.payload)),
            GOAWAY => return Outcome::GoAway(code(&frame.payload[4..8])),
            _ => {}
        }
    }
    Outcome::Closed
}

/// The status in a field block, which every server writes first (RFC 7541, A; 6.1, 6.2).
pub fn status(block: &[u8]) -> u16 {
    let mut at = 0;
    while block[at] & 0xe0 == 0x20 {
        // A new size of the table.
        at += 1;
        while block[at - 1] & 0x1f == 0x1f && block[at] & 0x80 != 0 {
            at += 1;
        }
    }
    match block[at] {
        0x88 => 200,
        0x89 => 204,
        0x8a => 206,
        0x8b => 304,
        0x8c => 400,
        0x8d => 404,
        0x8e => 500,
        _ => huffman_digits(&block[at + 1..]),
    }
}

/// Three digits, plain or Huffman (RFC 7541, B: `0` to `2` have five bits, the others six).
fn huffman_digits(value: &[u8]) -> u16 {
    let length = usize::from(value[0] & 0x7f);
    let bytes = &value[1..=length];
    if value[0] & 0x80 == 0 {
        return std::str::from_utf8(bytes).unwrap().parse().unwrap();
    }
    let bits: Vec<u16> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| u16::from(byte >> at & 1))).collect();
    let (mut at, mut number) = (0, 0);
    for _ in 0..3 {
        let of = |count: usize| bits[at..at + count].iter().fold(0, |sum, bit| sum * 2 + bit);
        let (digit, used) = if of(5) < 3 { (of(5), 5) } else { (of(6) - 0x19 + 3, 6) };
        number = number * 10 + digit;
        at += used;
    }
    number
}
