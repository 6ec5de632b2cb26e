//! Finds a secret in what comes back, and puts something of the same length in its place.
//!
//! Bytes come in pieces, cut anywhere. What could be the beginning of a secret at the end of a piece waits for the next
//! one, and nothing else does: an event of a stream is held up by no more than those bytes. What comes out is the same
//! wherever the pieces were cut.

use std::{fmt, sync::Arc};

use aho_corasick::{AhoCorasick, Input, MatchKind};
use bytes::Bytes;
use values::Secret;

use crate::{
    Placeholder,
    forms::{Form, forms},
};

/// What stands in for a secret that has no placeholder of its length.
const STAR: u8 = b'*';

/// The secrets that one server may not tell the sandbox.
pub struct Mask {
    search: Option<AhoCorasick>,
    patterns: Vec<Pattern>,
    longest: usize,
    /// Whether a pattern begins with this byte.
    begins: [bool; 256],
}

struct Pattern {
    text: Form,
    /// What stands in where the length may change, or is the same.
    placeholder: Option<String>,
}

/// A secret that is looked for.
#[derive(Debug, Clone, Copy)]
pub struct Masked<'a> {
    /// It.
    pub secret: &'a Secret,
    /// What the sandbox knows it as.
    pub placeholder: Option<&'a Placeholder>,
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mask").field("patterns", &self.patterns.len()).finish_non_exhaustive()
    }
}

impl Mask {
    /// Looks for all forms of these. `None` where they are too many or too long to be looked for.
    pub fn new<'a>(secrets: impl IntoIterator<Item = Masked<'a>>) -> Option<Self> {
        let mut patterns: Vec<Pattern> = Vec::new();
        for Masked { secret, placeholder } in secrets {
            for (at, text) in forms(secret.expose()).into_iter().enumerate() {
                if !patterns.iter().any(|known| known.text == text) {
                    // Only the secret as it is has a placeholder; in what is encoded it would be encoded too.
                    let placeholder = placeholder.filter(|_| at == 0).map(|placeholder| placeholder.text().to_owned());
                    patterns.push(Pattern { text, placeholder });
                }
            }
        }
        let longest = patterns.iter().map(|pattern| pattern.text.len()).max().unwrap_or(0);
        let mut begins = [false; 256];
        for first in patterns.iter().filter_map(|pattern| pattern.text.first()) {
            if let Some(begins) = begins.get_mut(usize::from(*first)) {
                *begins = true;
            }
        }
        let texts = patterns.iter().map(|pattern| pattern.text.as_slice());
        let search = match patterns.is_empty() {
            true => None,
            false => Some(AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(texts).ok()?),
        };
        Some(Self { search, patterns, longest, begins })
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether a secret stands in these bytes.
    pub fn finds(&self, bytes: &[u8]) -> bool {
        self.search.as_ref().is_some_and(|search| search.is_match(bytes))
    }

    /// A whole value without its secrets, where there are any. Its length may change.
    pub fn masked(&self, value: &[u8]) -> Option<Vec<u8>> {
        if !self.finds(value) {
            return None;
        }
        let mut out = Vec::with_capacity(value.len());
        self.look(value, true, false, &mut out);
        Some(out)
    }

    /// A whole value, its secrets masked, of the same length.
    pub(crate) fn masked_in_length(&self, value: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(value.len());
        self.look(value, true, true, &mut out);
        out
    }

    /// Looks at bytes of a stream and appends what may go on. How many were taken; the rest waits for more.
    pub(crate) fn look(&self, bytes: &[u8], is_last: bool, keeps_length: bool, out: &mut Vec<u8>) -> usize {
        let mut from = 0;
        let mut waits = if is_last { bytes.len() } else { self.waits(bytes, 0) };
        while let Some((start, end, pattern)) = self.next(bytes, from).filter(|(start, ..)| *start < waits) {
            out.extend_from_slice(bytes.get(from..start).unwrap_or_default());
            match self.patterns.get(pattern).and_then(|pattern| pattern.placeholder.as_ref()) {
                Some(placeholder) if !keeps_length || placeholder.len() == end - start => {
                    out.extend_from_slice(placeholder.as_bytes());
                }
                Some(_) | None => out.resize(out.len() + end - start, STAR),
            }
            from = end;
            if waits < from {
                waits = self.waits(bytes, from);
            }
        }
        out.extend_from_slice(bytes.get(from..waits).unwrap_or_default());
        waits
    }

    fn next(&self, bytes: &[u8], from: usize) -> Option<(usize, usize, usize)> {
        let found = self.search.as_ref()?.find(Input::new(bytes).range(from..))?;
        Some((found.start(), found.end(), found.pattern().as_usize()))
    }

    /// Where the bytes begin, not before `from`, that could go on as a secret.
    fn waits(&self, bytes: &[u8], from: usize) -> usize {
        let first = bytes.len().saturating_sub(self.longest.saturating_sub(1)).max(from);
        let rest = bytes.get(first..).unwrap_or_default();
        let could_begin = |at: &usize| {
            let Some(tail @ [byte, ..]) = rest.get(*at..) else { return false };
            self.begins.get(usize::from(*byte)).copied().unwrap_or(true)
                && self.patterns.iter().any(|pattern| pattern.text.len() > tail.len() && pattern.text.starts_with(tail))
        };
        first + (0..rest.len()).find(could_begin).unwrap_or(rest.len())
    }
}

/// A stream that is looked at.
#[derive(Debug)]
pub struct Masking {
    mask: Arc<Mask>,
    /// Could be the beginning of a secret.
    held: Vec<u8>,
    keeps_length: bool,
}

impl Masking {
    /// `keeps_length` where the length of the whole was told already.
    pub fn new(mask: Arc<Mask>, keeps_length: bool) -> Self {
        Self { mask, held: Vec::new(), keeps_length }
    }

    /// Looks for what this looks for from here on, in what waits as well.
    pub fn renew(&mut self, mask: Arc<Mask>) {
        self.mask = mask;
    }

    /// Whether nothing waits.
    pub fn is_clear(&self) -> bool {
        self.held.is_empty()
    }

    /// Takes the next piece; what may go on.
    pub fn push(&mut self, piece: Bytes) -> Bytes {
        if self.held.is_empty() && !self.mask.finds(&piece) {
            // The usual case, without a copy.
            let waits = self.mask.waits(&piece, 0);
            self.held.extend_from_slice(piece.get(waits..).unwrap_or_default());
            return piece.slice(..waits);
        }
        let mut bytes = std::mem::take(&mut self.held);
        bytes.extend_from_slice(&piece);
        let mut out = Vec::with_capacity(bytes.len());
        let taken = self.mask.look(&bytes, false, self.keeps_length, &mut out);
        bytes.drain(..taken);
        self.held = bytes;
        out.into()
    }

    /// Nothing follows: what waited.
    pub fn finish(&mut self) -> Bytes {
        let bytes = std::mem::take(&mut self.held);
        let mut out = Vec::with_capacity(bytes.len());
        self.mask.look(&bytes, true, self.keeps_length, &mut out);
        out.into()
    }
}

#[cfg(test)]
mod tests;
