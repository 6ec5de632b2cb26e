//! AWS says in an answer that a session's token is over, where other servers say 401.
//!
//! S3 says it as the code of an error in XML, services that speak JSON as its type, in a field or in the body.

use http::{HeaderMap, StatusCode};

/// How much of an answer is looked at. Errors are short.
const LOOKED: usize = 16 * 1024;
/// What stands in an error.
const WORDS: [&[u8]; 2] = [b"<Code>ExpiredToken</Code>", b"ExpiredTokenException"];
/// As long as the longest of them.
const LONGEST: usize = 25;

/// An error that may say so.
#[derive(Debug)]
pub(super) struct Expiry {
    /// The last bytes that came, less than a word.
    last: Vec<u8>,
    left: usize,
}

impl Expiry {
    /// For an answer of this head; none where it is no such error.
    pub(super) fn of(status: StatusCode) -> Option<Self> {
        let may_tell = matches!(status, StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN);
        may_tell.then(|| Self { last: Vec::new(), left: LOOKED })
    }

    /// Whether the head says so.
    pub(super) fn stands_in(headers: &HeaderMap) -> bool {
        headers.get_all("x-amzn-errortype").iter().any(|kind| has_word(kind.as_bytes()))
    }

    /// Takes the next bytes of the body; whether they say so.
    pub(super) fn is_told_by(&mut self, piece: &[u8]) -> bool {
        let piece = piece.get(..piece.len().min(self.left)).unwrap_or_default();
        self.left -= piece.len();
        self.last.extend_from_slice(piece);
        let told = has_word(&self.last);
        let past = self.last.len().saturating_sub(LONGEST - 1);
        self.last.drain(..past);
        told
    }
}

fn has_word(bytes: &[u8]) -> bool {
    WORDS.iter().any(|word| bytes.windows(word.len()).any(|window| window == *word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_known_wherever_it_is_cut_and_near_its_beginning_alone() {
        for text in [
            "<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>",
            r#"{"__type":"com.amazon.coral.service#ExpiredTokenException","message":"over"}"#,
        ] {
            for at in 0..text.len() {
                let mut expiry = Expiry::of(StatusCode::BAD_REQUEST).unwrap();
                let (one, two) = text.as_bytes().split_at(at);
                assert!(expiry.is_told_by(one) | expiry.is_told_by(two), "{text} at {at}");
            }
            let mut single = Expiry::of(StatusCode::FORBIDDEN).unwrap();
            assert!(text.bytes().any(|byte| single.is_told_by(&[byte])));
            let mut late = Expiry::of(StatusCode::FORBIDDEN).unwrap();
            assert!(!late.is_told_by(&[b' '; LOOKED]) && !late.is_told_by(text.as_bytes()));
        }
        let mut other = Expiry::of(StatusCode::FORBIDDEN).unwrap();
        assert!(!other.is_told_by(b"<Code>AccessDenied</Code><Resource>/ExpiredToken</Resource>"));
        assert!(Expiry::of(StatusCode::OK).is_none());
        assert_eq!(WORDS.iter().map(|word| word.len()).max(), Some(LONGEST));
    }
}
