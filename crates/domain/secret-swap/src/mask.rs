//! Finds a secret in what comes back, and puts something of the same length in its place.
//!
//! Bytes come in pieces, cut anywhere. What comes out is the same wherever the pieces were cut, and where it is cut is the
//! same whatever the secrets are: at the end of a piece a number of bytes waits, right or wrong (see `hold`). Would only
//! the beginning of a secret wait, a server that sends back what it is sent told by each wait whether a guess is right, a
//! character at a time.

use std::fmt;

use aho_corasick::{AhoCorasick, Input, MatchKind};
use values::Secret;

use crate::{
    Placeholder,
    forms::{Form, forms},
};

/// What stands in for a secret that has no placeholder of its length.
pub(crate) const STAR: u8 = b'*';
/// What the number of bytes that wait is a multiple of.
const DEPTHS: usize = 256;

/// The secrets that one server may not tell the sandbox.
pub struct Mask {
    search: Option<AhoCorasick>,
    patterns: Vec<Pattern>,
    longest: usize,
    /// How many bytes wait at the end of a piece, so that no beginning of a secret goes on. Rounded up, so that it tells
    /// little of how long they are.
    depth: usize,
    /// Whether no secret goes on behind a line feed.
    by_lines: bool,
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
        let depth = longest.saturating_sub(1).next_multiple_of(DEPTHS);
        let by_lines = !patterns.iter().any(|pattern| pattern.text.contains(&b'\n'));
        let texts = patterns.iter().map(|pattern| pattern.text.as_slice());
        let search = match patterns.is_empty() {
            true => None,
            false => Some(AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(texts).ok()?),
        };
        Some(Self { search, patterns, longest, depth, by_lines })
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
        let mut from = 0;
        while let Some((start, end, pattern)) = self.next(value, from) {
            out.extend_from_slice(value.get(from..start).unwrap_or_default());
            match self.placeholder(pattern) {
                Some(placeholder) => out.extend_from_slice(placeholder),
                None => out.resize(out.len() + end - start, STAR),
            }
            from = end;
        }
        out.extend_from_slice(value.get(from..).unwrap_or_default());
        Some(out)
    }

    /// How many bytes wait at the end of a piece.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// Whether no secret goes on behind a line feed.
    pub(crate) fn by_lines(&self) -> bool {
        self.by_lines
    }

    /// The longest way that a secret is written.
    pub(crate) fn longest(&self) -> usize {
        self.longest
    }

    /// Masks every secret that begins at `from` or behind, before `until`, in its length. Where the last of them ends, or
    /// `from`.
    pub(crate) fn cover(&self, bytes: &mut [u8], mut from: usize, until: usize) -> usize {
        let reach = bytes.len().min(until.saturating_add(self.longest));
        while from < until {
            let found = self.next(bytes.get(..reach).unwrap_or_default(), from);
            let Some((start, end, pattern)) = found.filter(|(start, ..)| *start < until) else { break };
            let length = end - start;
            if let Some(covered) = bytes.get_mut(start..end) {
                match self.placeholder(pattern).filter(|placeholder| placeholder.len() == length) {
                    Some(placeholder) => covered.copy_from_slice(placeholder),
                    None => covered.fill(STAR),
                }
            }
            from = end;
        }
        from
    }

    fn placeholder(&self, pattern: usize) -> Option<&[u8]> {
        self.patterns.get(pattern)?.placeholder.as_ref().map(|placeholder| placeholder.as_bytes())
    }

    fn next(&self, bytes: &[u8], from: usize) -> Option<(usize, usize, usize)> {
        let found = self.search.as_ref()?.find(Input::new(bytes).range(from..))?;
        Some((found.start(), found.end(), found.pattern().as_usize()))
    }
}

#[cfg(test)]
mod tests;
