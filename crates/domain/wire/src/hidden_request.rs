//! Finds an HTTP request line in a stream that did not begin as HTTP.
//!
//! Servers differ in what they skip before a request, so every line start counts. A request line is found at its end,
//! before that end is passed on: without it no server has a request. What is looked for is the shape alone, a token
//! first and a version last, so a line of a log that quotes a request is none.

use crate::http_head::is_token;

/// So many bytes are looked at.
const LOOK: usize = 4 * 1024;
/// A line that began within them, and may be a request line, is followed so far: more than servers take.
const FOLLOW: usize = 2 * 1024 * 1024;
/// So much of a word tells whether it is a version.
const VERSION: usize = b"HTTP/1".len();

/// What was found so far.
#[derive(Debug, Default)]
pub struct Scan {
    seen: usize,
    /// The words of this line so far, two at most.
    words: u8,
    /// Its first word is no method.
    no_method: bool,
    within_word: bool,
    /// The start of its last word.
    word: [u8; VERSION],
    length: usize,
}

/// What a look at bytes led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// A request line is among them.
    Found,
    /// None so far.
    On,
    /// None, and no more is looked for.
    Done,
}

impl Scan {
    /// Looks at the next bytes of the stream: its first 4 KiB, and a line that began there up to 2 MiB. Once it said
    /// [`Look::Found`] or [`Look::Done`] it must not be asked again.
    pub fn look(&mut self, bytes: &[u8]) -> Look {
        for byte in bytes {
            if self.seen >= FOLLOW || (self.seen >= LOOK && (self.words == 0 || self.no_method)) {
                return Look::Done;
            }
            self.seen += 1;
            match byte {
                b'\r' | b'\n' if self.is_request() => return Look::Found,
                b'\r' | b'\n' => *self = Self { seen: self.seen, ..Self::default() },
                b' ' | b'\t' | 0x0b | 0x0c => self.within_word = false,
                other => self.take(*other),
            }
        }
        Look::On
    }

    fn take(&mut self, byte: u8) {
        if !self.within_word {
            self.within_word = true;
            self.words = self.words.saturating_add(1);
            self.length = 0;
        }
        if self.words == 1 && !is_token(byte) {
            self.no_method = true;
        }
        if let Some(place) = self.word.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }

    fn is_request(&self) -> bool {
        let (name, number) = self.word.split_at(VERSION - 1);
        self.words > 1
            && !self.no_method
            && self.length == VERSION
            && name.eq_ignore_ascii_case(b"HTTP/")
            && number.iter().all(u8::is_ascii_digit)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop, prop_assert_eq, proptest};

    use super::{LOOK, Look, Scan};

    #[test]
    fn request_lines_and_others() {
        for (text, expected) in [
            ("hello\r\nGET / HTTP/1.1\r", Look::Found),
            ("GET / HTTP/1.1\n", Look::Found),
            ("x\n\t ~m\x0b/ a b http/1.0 \t\n", Look::Found),
            ("x\nGET HTTP/9\n", Look::Found),
            ("x\nGET / HTTP/1.1", Look::On),
            ("x\nHTTP/1.1 200 OK\n", Look::On),
            ("x\nHTTP/1.1\n", Look::On),
            ("x\n\"GET / HTTP/1.1\"\n", Look::On),
            ("x\n(GET) / HTTP/1.1\n", Look::On),
            ("x\nDESCRIBE rtsp://a.example RTSP/1.0\n", Look::On),
            ("x\nGET / HTTP/x\n", Look::On),
            ("x\nGET / HTTP/\n", Look::On),
            ("x\n\x00GET / HTTP/1.1\n", Look::On),
        ] {
            assert_eq!(Scan::default().look(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn a_line_that_began_in_time_is_followed() {
        let before = " \n".repeat(LOOK / 2 - 1);
        let line = format!("{before}G /{} HTTP/1.1\n", "a".repeat(100_000));
        assert_eq!(Scan::default().look(line.as_bytes()), Look::Found);
        let later = format!("{before}  GET / HTTP/1.1\n");
        assert_eq!(Scan::default().look(later.as_bytes()), Look::Done);
    }

    proptest! {
        #[test]
        fn the_same_wherever_it_is_cut(text in "[ a\r\n(]{0,20}(GET / HTTP/1\\.1\n)?[ a\r\n(]{0,20}", cuts in prop::collection::vec(1usize..6, 0..60)) {
            let whole = Scan::default().look(text.as_bytes());
            let (mut scan, mut rest, mut last) = (Scan::default(), text.as_bytes(), Look::On);
            for cut in cuts.into_iter().chain([text.len()]) {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                last = scan.look(piece);
                rest = after;
                if last == Look::Found {
                    break;
                }
            }
            prop_assert_eq!(last, whole);
        }
    }
}
