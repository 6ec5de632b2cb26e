//! Answers on the wire.
//!
//! The question is echoed byte for byte; each record's owner is a pointer to it, since chains of aliases are
//! collapsed before they get here. AD is never set: what was edited can't be called authentic.

use super::question::{Head, Question, ResponseCode};

/// The largest UDP answer, whatever the client says it takes: it then crosses no path in fragments.
pub const UDP_LIMIT: usize = 1232;
/// The largest UDP answer to a client without EDNS (RFC 1035, 4.2.1).
const PLAIN_UDP_LIMIT: usize = 512;
/// The largest answer over TCP.
pub const TCP_LIMIT: usize = 65_535;

/// The transport an answer leaves by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Datagrams: an answer that is too long is cut to none, and the client comes back by TCP.
    Udp,
    /// A stream.
    Tcp,
}

/// Writes an answer with these records.
pub fn answer(
    out: &mut Vec<u8>,
    question: &Question<'_>,
    code: ResponseCode,
    records: impl Iterator<Item = (u16, impl AsRef<[u8]>)> + Clone,
    ttl: u32,
    transport: Transport,
) {
    let limit = match (transport, question.edns) {
        (Transport::Tcp, _) => TCP_LIMIT,
        (Transport::Udp, None) => PLAIN_UDP_LIMIT,
        (Transport::Udp, Some(edns)) => usize::from(edns.payload).clamp(PLAIN_UDP_LIMIT, UDP_LIMIT),
    };
    let opt = if question.edns.is_some() { OPT_LENGTH } else { 0 };
    let whole = records.clone().map(|(_, data)| RECORD_HEAD + data.as_ref().len()).sum::<usize>();
    let truncated = HEAD_LENGTH + question.wire.len() + whole + opt > limit;
    let count = if truncated { 0 } else { u16::try_from(records.clone().count()).unwrap_or(u16::MAX) };
    write_head(out, question.head, code, truncated, Counts { question: 1, answers: count, opt: opt > 0 });
    out.extend_from_slice(question.wire);
    if !truncated {
        for (number, data) in records {
            write_record(out, number, ttl, data.as_ref());
        }
    }
    if opt > 0 {
        write_opt(out, code);
    }
}

/// Writes an answer without records.
pub fn bare(out: &mut Vec<u8>, question: &Question<'_>, code: ResponseCode) {
    answer(out, question, code, std::iter::empty::<(u16, [u8; 0])>(), 0, Transport::Tcp);
}

/// Writes the answer to a message whose question could not be read.
pub fn headless(out: &mut Vec<u8>, head: Head, code: ResponseCode) {
    write_head(out, head, code, false, Counts { question: 0, answers: 0, opt: false });
}

const HEAD_LENGTH: usize = 12;
const RECORD_HEAD: usize = 12;
const OPT_LENGTH: usize = 11;

struct Counts {
    question: u16,
    answers: u16,
    opt: bool,
}

fn write_head(out: &mut Vec<u8>, head: Head, code: ResponseCode, truncated: bool, counts: Counts) {
    let mut flags = 0x8000 | (u16::from(head.opcode) << 11) | 0x0080 | (code.number() & 0xF);
    for (bit, set) in [(0x0200, truncated), (0x0100, head.recursion_desired), (0x0010, head.checking_disabled)] {
        if set {
            flags |= bit;
        }
    }
    for word in [head.id, flags, counts.question, counts.answers, 0, u16::from(counts.opt)] {
        out.extend_from_slice(&word.to_be_bytes());
    }
}

fn write_record(out: &mut Vec<u8>, number: u16, ttl: u32, data: &[u8]) {
    // A pointer to offset 12, where the question's name stands.
    out.extend_from_slice(&0xC00C_u16.to_be_bytes());
    out.extend_from_slice(&number.to_be_bytes());
    out.extend_from_slice(&1_u16.to_be_bytes());
    out.extend_from_slice(&ttl.to_be_bytes());
    // Data came out of a message of at most 65,535 bytes, so its length fits.
    out.extend_from_slice(&u16::try_from(data.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(data);
}

fn write_opt(out: &mut Vec<u8>, code: ResponseCode) {
    out.push(0);
    out.extend_from_slice(&41_u16.to_be_bytes());
    out.extend_from_slice(&1232_u16.to_be_bytes());
    let upper = u8::try_from(code.number() >> 4).unwrap_or(0);
    out.extend_from_slice(&[upper, 0, 0, 0]);
    out.extend_from_slice(&0_u16.to_be_bytes());
}

/// What goes out in place of an answer whose record could not be written: SERVFAIL and the question, nothing else.
pub fn withheld(answer: &[u8]) -> Vec<u8> {
    let Some(head) = answer.first_chunk::<HEAD_LENGTH>() else { return Vec::new() };
    let [id_high, id_low, high, low, _, questions, ..] = *head;
    let mut out = vec![id_high, id_low, high & !0x02, (low & 0xF0) | 2, 0, questions, 0, 0, 0, 0, 0, 0];
    let mut rest = answer.get(HEAD_LENGTH..).unwrap_or_default();
    if questions == 1 {
        // A name as it was read from the client: labels without pointers. Then type and class.
        let name = std::iter::from_fn(|| {
            let length = usize::from(*rest.first()?);
            rest = rest.get(length + 1..)?;
            (length > 0).then_some(length + 1)
        });
        let length = name.sum::<usize>() + 1 + 4;
        out.extend_from_slice(answer.get(HEAD_LENGTH..HEAD_LENGTH + length).unwrap_or_default());
    }
    out
}

#[cfg(test)]
mod tests;
