//! The first bytes of a connection, and a request behind bytes of another protocol.

use wire::{
    hidden_request::{Look, Scan},
    intent::{Intent, classify, classify_whole},
};

use crate::cuts;

const LIMIT: usize = 64 * 1024;
/// How far a scan looks for the start of a line.
const LOOK: usize = 4 * 1024;

/// Any bytes as the start of a connection.
pub(crate) fn first_bytes(bytes: &[u8]) {
    let whole = classify(bytes, LIMIT);
    for cut in cuts(bytes.len()) {
        let early = classify(&bytes[..cut], LIMIT);
        assert!(early.is_none() || early == whole, "cut at {cut}: {early:?}, whole: {whole:?}");
    }
    assert!(bytes.len() < LIMIT || whole.is_some());
    let at_the_end = classify_whole(bytes, LIMIT);
    assert!(whole.is_none_or(|whole| whole == at_the_end));
    assert_eq!(at_the_end == Intent::Silent, bytes.is_empty());
}

/// Any bytes as a stream that did not begin as HTTP.
pub(crate) fn hidden_request(bytes: &[u8]) {
    let whole = Scan::default().look(bytes);
    for piece in [1, 3, 1000] {
        let mut scan = Scan::default();
        let mut last = Look::On;
        for part in bytes.chunks(piece) {
            last = scan.look(part);
            if last != Look::On {
                break;
            }
        }
        assert_eq!(last, whole, "in pieces of {piece}");
    }
    // What a server's parser takes for a request at any line start.
    let starts = (0..bytes.len().min(LOOK)).filter(|at| *at == 0 || matches!(bytes[at - 1], b'\n' | b'\r'));
    for start in starts {
        // Empty lines before a request say nothing; a line is found at its end.
        let blank = bytes[start..].iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
        let rest = &bytes[start + blank..];
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut fields);
        let parsed = request.parse(rest);
        if start + blank < LOOK && parsed.is_ok() && request.version.is_some() && rest.contains(&b'\n') {
            assert_eq!(whole, Look::Found, "a request at {start} is not found");
        }
    }
}
