//! When to look at a cut head again.

/// When a head that was not whole is worth another look: one that comes byte by byte costs no more than a few hundred
/// times its length in all, not its square.
#[derive(Debug, Clone, Copy, Default)]
pub struct NextLook {
    /// So many bytes were no whole head.
    looked: usize,
}

/// Up to this length each byte is worth a look.
const SHORT: usize = 256;

impl NextLook {
    /// Whether these bytes, of which the first were looked at, could be read otherwise than before. A line end always
    /// could, and a head holds only so many.
    pub fn is_due(self, bytes: &[u8], limit: usize) -> bool {
        let new = bytes.get(self.looked..).unwrap_or_default();
        bytes.len() <= SHORT || bytes.len() >= limit.min(self.looked.saturating_mul(2)) || new.contains(&b'\n')
    }

    /// So many bytes were no whole head.
    pub fn after(length: usize) -> Self {
        Self { looked: length }
    }
}

#[cfg(test)]
mod tests {
    use super::NextLook;
    use crate::http_head::{Head, read};

    #[test]
    fn a_head_that_comes_byte_by_byte_is_looked_at_seldom_and_seen_at_once() {
        const LIMIT: usize = 64 * 1024;
        let head = format!("GET /{} HTTP/1.1\r\nHost: a.test\r\nA: {}\r\n\r\n", "p".repeat(9_000), "v".repeat(40_000));
        let (mut next, mut looked_at) = (NextLook::default(), 0);
        for end in 1..=head.len() {
            let bytes = &head.as_bytes()[..end];
            if next.is_due(bytes, LIMIT) {
                looked_at += end;
                match read(bytes, LIMIT, false) {
                    Head::Incomplete => next = NextLook::after(end),
                    Head::Complete(_, used) => assert_eq!((used, end), (head.len(), head.len())),
                    other => panic!("{other:?}"),
                }
            } else {
                assert!(end < head.len(), "the end is seen at once");
            }
        }
        assert!(looked_at < head.len() * 8, "{looked_at} bytes looked at for {}", head.len());
    }
}
