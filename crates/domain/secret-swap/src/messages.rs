//! Where the messages of gRPC (and of Connect, which frames them alike) end.

/// The byte of flags, and the length.
const HEAD: usize = 5;

/// The messages of one direction.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    /// What came of a head.
    head: Vec<u8>,
    /// What is left of a message.
    left: usize,
}

impl Messages {
    /// Takes the next piece. Whether a message ends where it does.
    pub(crate) fn end_with(&mut self, piece: &[u8]) -> bool {
        let mut rest = piece;
        while !rest.is_empty() {
            let wanted = if self.left > 0 { self.left } else { HEAD - self.head.len() };
            let (taken, following) = rest.split_at(wanted.min(rest.len()));
            rest = following;
            if self.left > 0 {
                self.left -= taken.len();
                continue;
            }
            self.head.extend_from_slice(taken);
            if let [_, length @ ..] = self.head.as_slice()
                && let Ok(length) = <[u8; 4]>::try_from(length)
            {
                self.left = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                self.head.clear();
            }
        }
        !piece.is_empty() && self.left == 0 && self.head.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_end_where_their_lengths_say_however_they_are_cut() {
        let bytes = b"\0\0\0\0\x02ab\0\0\0\0\0\x80\0\0\0\x03abc";
        let ends = [7, 12, 20];
        for cut in 0..=bytes.len() {
            let mut messages = Messages::default();
            let (one, two) = bytes.split_at(cut);
            assert_eq!(messages.end_with(one), ends.contains(&cut), "{cut}");
            assert_eq!(messages.end_with(two), !two.is_empty(), "{cut}");
        }
        let mut messages = Messages::default();
        let single = bytes.iter().enumerate().filter(|(_, byte)| messages.end_with(&[**byte]));
        assert_eq!(single.map(|(at, _)| at + 1).collect::<Vec<_>>(), ends);
    }
}
