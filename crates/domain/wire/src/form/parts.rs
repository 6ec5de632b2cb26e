//! `multipart/form-data` (RFC 7578): parts between boundaries, each with a head.
//!
//! The boundary is looked for anywhere, not at the beginnings of lines alone, so that every part that some reader finds is
//! found.

use super::{Compared, UNREAD, decode, is_method_name};

/// The most bytes of a part's head.
pub const PART_LIMIT: usize = 16 * 1024;
/// The longest boundary (RFC 2046, 5.1.1, says 70).
const BOUNDARY_LIMIT: usize = 200;

/// The parts of one body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parts {
    /// With the two hyphens before it.
    delimiter: Vec<u8>,
    place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// Before a delimiter; the last bytes, as many as may be its beginning.
    Between(Vec<u8>),
    /// Behind a delimiter, until an empty line.
    Head(Vec<u8>),
    /// Within the field's value.
    Ours(Compared),
}

impl Parts {
    /// By the boundary that the type names; none where it names none, or two.
    pub(super) fn with_boundary(content_type: &str) -> Option<Self> {
        let mut named = content_type.split(';').skip(1).filter_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            name.trim().to_ascii_lowercase().starts_with("boundary").then_some((name.trim(), value.trim()))
        });
        let (name, value) = named.next()?;
        let one = named.next().is_none() && name.eq_ignore_ascii_case("boundary");
        let quoted = value.strip_prefix('"').map(|rest| rest.strip_suffix('"').unwrap_or(rest));
        let boundary = quoted.unwrap_or(value);
        let plain = boundary.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b','));
        let fits = one && plain && !boundary.is_empty() && boundary.len() <= BOUNDARY_LIMIT;
        fits.then(|| Self { delimiter: format!("--{boundary}").into_bytes(), place: Place::Between(Vec::new()) })
    }

    pub(super) fn read(&mut self, bytes: &[u8], method: &[u8]) -> Result<(), &'static str> {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = match &mut self.place {
                Place::Between(before) => match behind(before, rest, &self.delimiter) {
                    Some(behind) => {
                        self.place = Place::Head(Vec::new());
                        behind
                    }
                    None => return Ok(()),
                },
                Place::Head(head) => {
                    let (byte, behind) = (rest.first().copied().unwrap_or_default(), rest.get(1..).unwrap_or_default());
                    head.push(byte);
                    if head.as_slice() == b"--" {
                        self.place = Place::Between(Vec::new());
                    } else if is_over(head) {
                        self.place = match is_ours(head) {
                            true => Place::Ours(Compared::default()),
                            false => Place::Between(Vec::new()),
                        };
                    } else if head.len() > PART_LIMIT {
                        return Err(UNREAD);
                    }
                    behind
                }
                Place::Ours(compared) => {
                    let (byte, behind) = (rest.first().copied().unwrap_or_default(), rest.get(1..).unwrap_or_default());
                    if matches!(byte, b'\r' | b'\n') {
                        compared.end(method)?;
                        self.place = Place::Between(Vec::new());
                    } else {
                        compared.take(byte, method)?;
                    }
                    behind
                }
            };
        }
        Ok(())
    }
}

/// What stands behind the delimiter, where it ends in these bytes; else what may be its beginning is kept.
fn behind<'b>(before: &mut Vec<u8>, bytes: &'b [u8], delimiter: &[u8]) -> Option<&'b [u8]> {
    let find = |haystack: &[u8]| haystack.windows(delimiter.len()).position(|window| window == delimiter);
    // First where it is cut: a piece of it is kept, and the rest would be at the beginning of these bytes.
    let kept = before.len();
    before.extend(bytes.iter().take(delimiter.len()));
    if let Some(at) = find(before) {
        return bytes.get((at + delimiter.len()).saturating_sub(kept)..);
    }
    if let Some(at) = find(bytes) {
        return bytes.get(at + delimiter.len()..);
    }
    let most = delimiter.len() - 1;
    if bytes.len() >= most {
        *before = bytes.get(bytes.len() - most..).unwrap_or_default().to_vec();
    } else {
        before.drain(..before.len().saturating_sub(most));
    }
    None
}

/// Whether a part's head is whole: the delimiter's line and an empty one.
fn is_over(head: &[u8]) -> bool {
    [b"\n\r\n".as_slice(), b"\n\n", b"\r\r"].iter().any(|end| head.ends_with(end))
}

/// Whether the head is of the field's part.
fn is_ours(head: &[u8]) -> bool {
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    // A line that begins with a blank goes on with the one before.
    let unfolded = text.replace("\r\n", "\n").replace("\n ", " ").replace("\n\t", " ");
    let lines = unfolded.split(['\n', '\r']);
    let dispositions = lines.filter_map(|line| line.trim_start().strip_prefix("content-disposition"));
    dispositions.flat_map(names).any(|name| is_method_name(&name))
}

/// The values of every parameter `name` or `name*` of a disposition in lower case.
fn names(disposition: &str) -> impl Iterator<Item = Vec<u8>> {
    disposition.match_indices("name").filter_map(|(at, word)| {
        let before = disposition.get(..at)?.bytes().next_back();
        if before.is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')) {
            return None;
        }
        let rest = disposition.get(at + word.len()..)?.trim_start();
        let extended = rest.strip_prefix('*').map(|rest| rest.trim_start_matches(['0', '*']));
        let value = extended.unwrap_or(rest).trim_start().strip_prefix('=')?.trim_start();
        Some(match value.strip_prefix(['"', '\'']) {
            Some(quoted) => {
                let end = quoted.find(['"', '\'']).unwrap_or(quoted.len());
                quoted.get(..end)?.replace('\\', "").into_bytes()
            }
            None => {
                let token = value.split([';', ' ', '\t']).next()?;
                let plain = token.rsplit_once('\'').map_or(token, |(_, value)| value);
                decode(plain.as_bytes())
            }
        })
    })
}
