//! Host names: one normal form, and patterns over it.
//!
//! A name is judged in one form only. Whatever spelling it came in (case, a trailing dot, Unicode
//! dots, U-labels) it is brought to that form or refused; a refused name matches nothing, and the
//! gateway denies it as `guard:malformed`.

use std::{fmt, str::FromStr, sync::Arc};

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use serde::{Serialize, Serializer};

/// Labels of more than one script.
mod scripts;

/// The longest name, in bytes, without a trailing dot (RFC 1035 2.3.4, less the root and its length).
const NAME_LIMIT: usize = 253;
/// The longest label (RFC 1035 2.3.4).
const LABEL_LIMIT: usize = 63;
/// No text longer than this can become a name of 253 bytes.
const TEXT_LIMIT: usize = 4 * NAME_LIMIT + 4;

/// A host name in normal form: lower-case ASCII (A-labels, UTS 46), no trailing dot, at most 253 bytes,
/// no control characters, no mixed scripts, and never an IP address in any spelling.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(Arc<str>);

/// A pattern over host names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    /// This name.
    Exact(HostName),
    /// `*.name`: every sub-name, not the apex.
    Subnames(HostName),
    /// A feed's domain: the name and every sub-name.
    Domain(HostName),
    /// `*`: every name; only in `unrestricted`.
    Any,
}

/// Why a text is no host name, pattern or target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostNameError {
    /// Nothing is there.
    #[error("a host name can't be empty")]
    Empty,
    /// A label is empty: two dots in a row, or one at the start.
    #[error("a host name can't have an empty label")]
    EmptyLabel,
    /// A control or invisible character, NUL, a space, or another that no host name holds.
    #[error("{0:?} can't stand in a host name")]
    Character(char),
    /// A label is longer than 63 bytes.
    #[error("a label of a host name has at most 63 bytes")]
    LabelTooLong,
    /// The name is longer than 253 bytes.
    #[error("a host name has at most 253 bytes")]
    NameTooLong,
    /// The last label is a number: an IP address in some spelling.
    #[error("the last label is a number: an address is written as four decimal numbers without leading zeros")]
    IpSpelling,
    /// Not a canonical dotted quad or IPv6 address.
    #[error("not an address in canonical form (no zone id, no other notation)")]
    AddressForm,
    /// UTS 46 refuses it: a malformed A-label, a character not allowed, a bidi or joiner rule.
    #[error("not a valid internationalised name (UTS 46)")]
    Internationalised,
    /// A label mixes scripts, as look-alikes do.
    #[error("the label {0:?} mixes scripts")]
    MixedScripts(String),
    /// A `*` that is not the whole first label.
    #[error("'*' can only be the whole first label, as in *.example.com")]
    Wildcard,
}

impl HostName {
    /// Brings a text to normal form, or refuses it. Doing it twice changes nothing.
    ///
    /// ```
    /// let name = policy::HostName::parse("BÜCHER\u{3002}Example.").unwrap();
    /// assert_eq!(name.as_str(), "xn--bcher-kva.example");
    /// assert!(policy::HostName::parse("0x7f.1").is_err());
    /// ```
    pub fn parse(text: &str) -> Result<Self, HostNameError> {
        if text.len() > TEXT_LIMIT {
            return Err(HostNameError::NameTooLong);
        }
        if let Some(bad) = text.chars().find(|c| is_invisible(*c)) {
            return Err(HostNameError::Character(bad));
        }
        let lower = text.to_ascii_lowercase();
        if lower.is_ascii() && !lower.split('.').any(|label| label.starts_with("xn--")) {
            return Self::from_ascii(&lower);
        }
        let (ascii, unicode) = internationalised(&lower)?;
        let name = Self::from_ascii(&ascii)?;
        match unicode.split('.').find(|label| scripts::is_mixed(label)) {
            Some(label) => Err(HostNameError::MixedScripts(label.to_owned())),
            None => Ok(name),
        }
    }

    /// The normal form as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last checks, on lower-case ASCII.
    fn from_ascii(text: &str) -> Result<Self, HostNameError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Err(HostNameError::Empty);
        }
        let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-' | '_' | '.');
        if let Some(bad) = text.chars().find(|c| !allowed(*c)) {
            return Err(HostNameError::Character(bad));
        }
        if text.len() > NAME_LIMIT {
            return Err(HostNameError::NameTooLong);
        }
        let mut last = "";
        for label in text.split('.') {
            if label.is_empty() {
                return Err(HostNameError::EmptyLabel);
            }
            if label.len() > LABEL_LIMIT {
                return Err(HostNameError::LabelTooLong);
            }
            last = label;
        }
        if is_number(last) { Err(HostNameError::IpSpelling) } else { Ok(Self(text.into())) }
    }
}

/// The A-label and U-label forms of a name that is not plain ASCII.
fn internationalised(text: &str) -> Result<(String, String), HostNameError> {
    // What is denied here in ASCII is denied by name in `from_ascii`, but for what UTS 46 maps to it.
    let uts46 = Uts46::new();
    let ascii = uts46
        .to_ascii(text.as_bytes(), AsciiDenyList::URL, Hyphens::Allow, DnsLength::Ignore)
        .map_err(|_| HostNameError::Internationalised)?;
    let (unicode, valid) = uts46.to_unicode(ascii.as_bytes(), AsciiDenyList::URL, Hyphens::Allow);
    valid.map_err(|_| HostNameError::Internationalised)?;
    let unicode = unicode.into_owned();
    // An A-label that its own U-label does not lead back to is a name that no two readers agree on.
    let again = uts46.to_ascii(unicode.as_bytes(), AsciiDenyList::URL, Hyphens::Allow, DnsLength::Ignore);
    if again.ok().as_deref() != Some(&*ascii) {
        return Err(HostNameError::Internationalised);
    }
    Ok((ascii.into_owned(), unicode))
}

/// Control characters, and those that UTS 46 would silently drop.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{34f}' | '\u{180b}'..='\u{180f}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// Whether resolvers and URL parsers take the last label for a number and so the whole for an address.
fn is_number(label: &str) -> bool {
    match label.strip_prefix("0x") {
        Some(hex) => hex.bytes().all(|b| b.is_ascii_hexdigit()),
        None => label.bytes().all(|b| b.is_ascii_digit()),
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for HostName {
    type Err = HostNameError;
    fn from_str(text: &str) -> Result<Self, HostNameError> {
        Self::parse(text)
    }
}

impl Serialize for HostName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl HostPattern {
    /// Reads `name`, `*.name` or `*`. [`HostPattern::Domain`] has no text form: it comes from feeds.
    pub fn parse(text: &str) -> Result<Self, HostNameError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let (wild, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if rest.contains('*') {
            return Err(HostNameError::Wildcard);
        }
        let name = HostName::parse(rest)?;
        Ok(if wild { Self::Subnames(name) } else { Self::Exact(name) })
    }

    /// Whether the pattern covers the name.
    pub fn matches(&self, name: &HostName) -> bool {
        match self {
            HostPattern::Exact(exact) => exact == name,
            HostPattern::Subnames(apex) => is_subname(name, apex),
            HostPattern::Domain(apex) => apex == name || is_subname(name, apex),
            HostPattern::Any => true,
        }
    }

    /// The names that both patterns cover; none where there are none.
    pub fn meet(&self, other: &HostPattern) -> Option<HostPattern> {
        match (self, other) {
            (HostPattern::Any, all) | (all, HostPattern::Any) => Some(all.clone()),
            (HostPattern::Exact(name), all) | (all, HostPattern::Exact(name)) => {
                all.matches(name).then(|| HostPattern::Exact(name.clone()))
            }
            (
                HostPattern::Subnames(one) | HostPattern::Domain(one),
                HostPattern::Subnames(two) | HostPattern::Domain(two),
            ) => {
                let domains = matches!((self, other), (HostPattern::Domain(_), HostPattern::Domain(_)));
                if one == two {
                    Some(if domains { self.clone() } else { HostPattern::Subnames(one.clone()) })
                } else if is_subname(one, two) {
                    Some(self.clone())
                } else {
                    is_subname(two, one).then(|| other.clone())
                }
            }
        }
    }

    /// The name that the pattern is built on; none for `*`.
    pub fn name(&self) -> Option<&HostName> {
        match self {
            HostPattern::Exact(name) | HostPattern::Subnames(name) | HostPattern::Domain(name) => Some(name),
            HostPattern::Any => None,
        }
    }
}

fn is_subname(name: &HostName, apex: &HostName) -> bool {
    name.as_str().strip_suffix(apex.as_str()).is_some_and(|front| front.len() > 1 && front.ends_with('.'))
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::Exact(name) | HostPattern::Domain(name) => name.fmt(f),
            HostPattern::Subnames(name) => write!(f, "*.{name}"),
            HostPattern::Any => f.write_str("*"),
        }
    }
}

impl FromStr for HostPattern {
    type Err = HostNameError;
    fn from_str(text: &str) -> Result<Self, HostNameError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests;
