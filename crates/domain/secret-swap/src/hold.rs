//! What of a stream waits for more, and what goes on.
//!
//! Both are told by how long the pieces are, where their lines and messages end, and how long the longest secret is; never
//! by what a secret is. The last bytes always wait, so many that every secret that begins before them is seen whole. What
//! ends with a line feed goes on at once where no secret has one inside, so that events of a stream and lines of JSON are
//! not held up; so does what ends with a message of a remote call. Nothing is given out for having waited long: a server
//! that stops inside a secret would have its first part told.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    mask::{Mask, STAR},
    messages::Messages,
};

/// Bytes that did not go on yet.
#[derive(Debug, Default)]
pub(crate) struct Hold {
    bytes: Vec<u8>,
    /// How many of the first of them are masked: the end of a secret whose beginning went on.
    masked: usize,
}

impl Hold {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Takes the next piece and appends what goes on. Where it ends something that no secret goes on behind, all does.
    pub(crate) fn push(&mut self, mask: &Mask, piece: &[u8], ends: bool, out: &mut Vec<u8>) {
        let due = self.due(mask, piece, ends);
        self.bytes.extend_from_slice(piece);
        let covered = mask.cover(&mut self.bytes, self.masked, due);
        out.extend(self.bytes.drain(..due));
        self.masked = covered.saturating_sub(due);
    }

    /// What waits in a stream that goes on no more: nothing of it is told.
    pub(crate) fn break_off(&mut self, out: &mut Vec<u8>) {
        out.resize(out.len() + self.bytes.len(), STAR);
        *self = Self::default();
    }

    /// How many bytes go on, of these and a piece behind them.
    fn due(&self, mask: &Mask, piece: &[u8], ends: bool) -> usize {
        let whole = self.bytes.len() + piece.len();
        if ends {
            return whole;
        }
        let due = whole.saturating_sub(mask.depth());
        let late = piece.get(due.saturating_sub(self.bytes.len())..).unwrap_or_default();
        match late.iter().rposition(|byte| *byte == b'\n').filter(|_| mask.by_lines()) {
            Some(at) => whole - late.len() + at + 1,
            None => due,
        }
    }

    /// Whether there is nothing to mask in these and a piece behind them.
    fn is_clean(&self, mask: &Mask, piece: &[u8]) -> bool {
        let mut seam = self.bytes.get(self.masked..).unwrap_or_default().to_vec();
        seam.extend_from_slice(piece.get(..piece.len().min(mask.longest())).unwrap_or_default());
        !mask.finds(&seam) && !mask.finds(piece)
    }
}

/// Where a stream has ends that no secret goes on behind, beside those of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// Nowhere but at its own.
    Whole,
    /// At those of the messages of remote calls: a byte, a length of four, and so many bytes.
    Messages,
}

/// A stream that is looked at. Its length stays what it is.
#[derive(Debug)]
pub struct Masking {
    mask: Arc<Mask>,
    hold: Hold,
    messages: Option<Messages>,
}

impl Masking {
    /// Nothing came yet.
    pub fn new(mask: Arc<Mask>, ends: Ends) -> Self {
        let messages = match ends {
            Ends::Whole => None,
            Ends::Messages => Some(Messages::default()),
        };
        Self { mask, hold: Hold::default(), messages }
    }

    /// Looks for what this looks for from here on, in what waits as well.
    pub fn renew(&mut self, mask: Arc<Mask>) {
        self.mask = mask;
    }

    /// Whether nothing waits.
    pub fn is_clear(&self) -> bool {
        self.hold.bytes.is_empty()
    }

    /// Takes the next piece; what may go on: what waited, and what of the piece does not. Each may be empty.
    pub fn push(&mut self, piece: Bytes) -> [Bytes; 2] {
        // Only where the piece ends with it: elsewhere an answer whose beginning somebody chose could be cut by him.
        let ends = self.messages.as_mut().is_some_and(|messages| messages.end_with(&piece));
        let held = self.hold.len();
        let due = self.hold.due(&self.mask, &piece, ends);
        if due > held && self.hold.is_clean(&self.mask, &piece) {
            // The usual case, without a copy.
            let waits = piece.slice(due - held..).to_vec();
            let hold = std::mem::replace(&mut self.hold, Hold { bytes: waits, masked: 0 });
            return [hold.bytes.into(), piece.slice(..due - held)];
        }
        let mut out = Vec::with_capacity(due);
        self.hold.push(&self.mask, &piece, ends, &mut out);
        // Cut where it is without a secret.
        let mut first = Bytes::from(out);
        let second = first.split_off(first.len().min(held));
        [first, second]
    }

    /// Nothing follows: what waited.
    pub fn finish(&mut self) -> Bytes {
        let mut out = Vec::with_capacity(self.hold.len());
        self.hold.push(&self.mask, &[], true, &mut out);
        out.into()
    }
}

#[cfg(test)]
mod tests;
