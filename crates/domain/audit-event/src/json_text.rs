//! Writes JSON scalars the way RFC 8785 wants them, so that a line's own text can be hashed.

use jiff::{Timestamp, tz::Offset};

/// The largest integer that every JSON reader holds exactly (2^53 - 1). Larger counts stop here.
pub(crate) const LARGEST_INTEGER: u64 = (1 << 53) - 1;

const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Appends a string with its quotes. Only `"`, `\` and the characters below U+0020 are escaped.
pub(crate) fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    // One pass without a branch per byte; nearly all text needs no escape.
    if bytes.iter().fold(false, |found, byte| found | needs_escape(*byte)) {
        for byte in bytes {
            push_escaped(out, *byte);
        }
    } else {
        out.extend_from_slice(bytes);
    }
    out.push(b'"');
}

fn needs_escape(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

fn push_escaped(out: &mut Vec<u8>, byte: u8) {
    match byte {
        b'"' => out.extend_from_slice(b"\\\""),
        b'\\' => out.extend_from_slice(b"\\\\"),
        0x08 => out.extend_from_slice(b"\\b"),
        b'\t' => out.extend_from_slice(b"\\t"),
        b'\n' => out.extend_from_slice(b"\\n"),
        0x0c => out.extend_from_slice(b"\\f"),
        b'\r' => out.extend_from_slice(b"\\r"),
        0..0x20 => {
            out.extend_from_slice(b"\\u00");
            push_hex(out, &[byte]);
        }
        0x20.. => out.push(byte),
    }
}

/// Appends lower-case hex digits.
pub(crate) fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            #[expect(clippy::indexing_slicing, reason = "a nibble is below sixteen")]
            out.push(HEX_DIGITS[usize::from(nibble)]);
        }
    }
}

/// Bytes as lower-case hex text.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut out = Vec::with_capacity(bytes.len() * 2);
    push_hex(&mut out, bytes);
    String::from_utf8(out).unwrap_or_default()
}

/// Reads exactly `N` bytes of lower-case hex text.
pub(crate) fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    fn nibble(digit: u8) -> Option<u8> {
        match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        }
    }
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = (nibble(*high)? << 4) | nibble(*low)?;
    }
    Some(bytes)
}

/// Appends a whole number, at most [`LARGEST_INTEGER`].
pub(crate) fn push_unsigned(out: &mut Vec<u8>, number: u64) {
    let mut rest = number.min(LARGEST_INTEGER);
    let mut digits = [b'0'; 16];
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        used += 1;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.last_chunk::<16>().map_or(&[], |all| all.split_at(16 - used).1));
}

/// Appends a whole number that may be negative, its size at most [`LARGEST_INTEGER`].
pub(crate) fn push_signed(out: &mut Vec<u8>, number: i64) {
    if number < 0 {
        out.push(b'-');
    }
    push_unsigned(out, number.unsigned_abs());
}

/// Appends a time as `"2026-11-21T09:00:00.123456Z"`: microseconds, always 27 characters for the years 0 to 9999.
pub(crate) fn push_time(out: &mut Vec<u8>, time: Timestamp) {
    let utc = Offset::UTC.to_datetime(time);
    let micros = u32::try_from(utc.subsec_nanosecond() / 1_000).unwrap_or(0);
    out.push(b'"');
    push_padded(out, u32::from(utc.year().unsigned_abs()), 4);
    for (mark, part) in
        [(b'-', utc.month()), (b'-', utc.day()), (b'T', utc.hour()), (b':', utc.minute()), (b':', utc.second())]
    {
        out.push(mark);
        push_padded(out, u32::from(part.unsigned_abs()), 2);
    }
    out.push(b'.');
    push_padded(out, micros, 6);
    out.extend_from_slice(b"Z\"");
}

fn push_padded(out: &mut Vec<u8>, number: u32, width: u32) {
    for place in (0..width).rev() {
        out.push(b'0' + (number / 10u32.pow(place) % 10) as u8);
    }
}
