//! Paths of HTTP requests: one normal form, and globs over it.
//!
//! A path is decoded once and its dot segments are resolved, because that is what an origin does
//! before it picks what to serve. Where origins differ in what they would do, there is no normal form:
//! the path is ambiguous, matches no allow rule, and matches every deny rule that looks at paths.

/// The normal form of a request target's path, or `None` where it is ambiguous.
///
/// Takes the origin form (`/path?query`); the query is left out. Ambiguous are: no leading `/`;
/// `%2f`, `%5c` and a backslash; `;` and `%3b`; an encoding that decodes to another one (`%252f`) or
/// to a lone `%`; a broken or overlong encoding, control characters and NUL, raw or encoded;
/// bytes that must not stand in a target (spaces, non-ASCII, `#`); empty segments (`//`), which some merge; and what
/// some take for a dot segment or a slash: dots with blanks (`..%20`), and their other forms in Unicode (`．．`, `／`).
///
/// ```
/// use policy::http_path::normalise;
/// assert_eq!(normalise("/a/%2e%2e/b%20c?q=1").as_deref(), Some("/b c"));
/// assert_eq!(normalise("/a%2fb"), None);
/// ```
pub fn normalise(target: &str) -> Option<String> {
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    let segments = path.strip_prefix('/')?;
    let mut kept: Vec<String> = Vec::new();
    let mut rest = Some(segments);
    // Whether the form ends with a slash: the last segment was empty or resolved away.
    let mut open = true;
    while let Some(text) = rest {
        let (raw, following) = match text.split_once('/') {
            Some((raw, following)) => (raw, Some(following)),
            None => (text, None),
        };
        let segment = decode_segment(raw)?;
        open = false;
        if could_be_dots(&segment) {
            return None;
        }
        match segment.as_str() {
            "" if following.is_some() => return None,
            "" | "." => open = true,
            ".." => {
                kept.pop();
                open = true;
            }
            _ => kept.push(segment),
        }
        rest = following;
    }
    let mut normal = String::with_capacity(path.len());
    for segment in &kept {
        normal.push('/');
        normal.push_str(segment);
    }
    if open {
        normal.push('/');
    }
    Some(normal)
}

/// Decodes one segment once; `None` where that is ambiguous.
fn decode_segment(raw: &str) -> Option<String> {
    let mut bytes = raw.bytes();
    let mut decoded = Vec::with_capacity(raw.len());
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'%' => {
                let value = (hex_digit(bytes.next()?)? << 4) | hex_digit(bytes.next()?)?;
                if matches!(value, b'/' | b'\\' | b'%' | b';') || value < 0x20 || value == 0x7f {
                    return None;
                }
                value
            }
            b'\\' | b';' | b'#' => return None,
            0x21..=0x7e => byte,
            _ => return None,
        };
        decoded.push(byte);
    }
    let text = String::from_utf8(decoded).ok()?;
    // Decoded C1 controls are as invisible as C0 ones. The full-width forms become ASCII where text is normalised.
    let odd = |c: char| c.is_control() || matches!(c, '\u{ff0e}' | '\u{ff0f}' | '\u{ff3c}');
    (!text.chars().any(odd)).then_some(text)
}

/// Whether a segment is no dot segment, and could become one: by losing blanks, or by another form of its dots.
fn could_be_dots(segment: &str) -> bool {
    let other_dot = |c: char| matches!(c, '\u{2024}' | '\u{2025}' | '\u{3002}' | '\u{fe52}' | '\u{ff61}');
    let has_dot = segment.chars().any(|c| c == '.' || other_dot(c));
    let plain = segment.chars().all(|c| c == '.');
    has_dot && !plain && segment.chars().all(|c| c == '.' || c.is_whitespace() || other_dot(c))
}

/// The value of a hexadecimal digit.
pub(crate) fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Why a text is no path glob.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathGlobError {
    /// A path starts with a slash.
    #[error("a path glob starts with '/'")]
    Relative,
    /// `**` beside other text in a segment.
    #[error("'**' must be a whole segment, as in /api/**")]
    PartialDoubleStar,
}

/// A glob over normalised paths: `*` stands for any text within a segment, `**` for any number of
/// whole segments, none included (`/api/**` covers `/api` and all below it). All else is literal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathGlob {
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    /// `**`.
    AnyNumber,
    /// Literal text with `*`.
    One(String),
}

impl PathGlob {
    /// Reads a glob.
    pub fn parse(text: &str) -> Result<Self, PathGlobError> {
        let rest = text.strip_prefix('/').ok_or(PathGlobError::Relative)?;
        let mut segments = Vec::new();
        for segment in rest.split('/') {
            if segment == "**" {
                // Two in a row say no more than one.
                if segments.last() != Some(&Segment::AnyNumber) {
                    segments.push(Segment::AnyNumber);
                }
            } else if segment.contains("**") {
                return Err(PathGlobError::PartialDoubleStar);
            } else {
                segments.push(Segment::One(segment.to_owned()));
            }
        }
        Ok(Self { segments })
    }

    /// Whether the glob covers a normalised path.
    pub fn matches(&self, path: &str) -> bool {
        let Some(rest) = path.strip_prefix('/') else { return false };
        let parts: Vec<&str> = rest.split('/').collect();
        star_match(
            &self.segments,
            &parts,
            |segment| *segment == Segment::AnyNumber,
            |segment, part| match segment {
                Segment::AnyNumber => true,
                Segment::One(glob) => star_match(glob.as_bytes(), part.as_bytes(), |byte| *byte == b'*', |a, b| a == b),
            },
        )
    }
}

/// Matches a pattern with stars against a sequence in time linear in their product: on a mismatch
/// only the last star takes one element more.
fn star_match<P, T>(pattern: &[P], text: &[T], is_star: fn(&P) -> bool, equal: fn(&P, &T) -> bool) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut last_star: Option<(usize, usize)> = None;
    while let Some(item) = text.get(t) {
        match pattern.get(p) {
            Some(part) if is_star(part) => {
                last_star = Some((p, t));
                p += 1;
            }
            Some(part) if equal(part, item) => {
                p += 1;
                t += 1;
            }
            Some(_) | None => match &mut last_star {
                Some((star, taken)) => {
                    *taken += 1;
                    (p, t) = (*star + 1, *taken);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(is_star)
}

#[cfg(test)]
mod tests;
