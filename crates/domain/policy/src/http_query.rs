//! Queries of HTTP requests: one parameter, never in doubt.
//!
//! Frameworks differ in which of two parameters of one name they take, in what `;` and `+` mean, and in which names are
//! one name. A rule that looks at a parameter matches only what all of them read alike; the rest is ambiguous, matches no
//! rule that allows, and matches every rule that denies by that parameter.

use crate::http_path::hex_digit;

/// What a query says of one parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parameter {
    /// It is not there.
    Missing,
    /// It is there once, with this value after one decoding.
    Once(String),
    /// Origins would read it in different ways.
    Ambiguous,
}

/// Finds a parameter in a query as sent (`a=1&b=2`, without the question mark).
///
/// Ambiguous are: the parameter more than once, or beside another that some frameworks take for the same (`Key`,
/// `key[]`, `k.y` and `k_y`); a `;` anywhere, which some split at; a `+` in its value; a name or its value that is broken,
/// holds what decodes once more, a control character, or bytes that must not stand in a target.
///
/// ```
/// use policy::http_query::{Parameter, parameter};
/// assert_eq!(parameter("a=1&b=x%20y", "b"), Parameter::Once("x y".to_owned()));
/// assert_eq!(parameter("a=1&A=2", "a"), Parameter::Ambiguous);
/// ```
pub fn parameter(query: &str, name: &str) -> Parameter {
    if query.contains(';') {
        return Parameter::Ambiguous;
    }
    let wanted = folded(name);
    let mut found = None;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (raw, value) = pair.split_once('=').unwrap_or((pair, ""));
        let Some(sent) = decode(raw) else { return Parameter::Ambiguous };
        if folded(&sent) != wanted {
            continue;
        }
        let value = if value.contains('+') { None } else { decode(value) };
        match value {
            Some(value) if found.is_none() && sent == name => found = Some(value),
            Some(_) | None => return Parameter::Ambiguous,
        }
    }
    found.map_or(Parameter::Missing, Parameter::Once)
}

/// The values of every parameter that some framework takes for this one, however it splits the query (`;`); `None` for a
/// value that origins would read in different ways.
pub fn values<'q>(query: &'q str, name: &str) -> impl Iterator<Item = Option<String>> + use<'q> {
    let wanted = folded(name);
    let pairs = query.split(['&', ';']).map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let ours = pairs.filter(move |(raw, _)| decode(raw).is_some_and(|sent| folded(&sent) == wanted));
    ours.map(|(_, value)| if value.contains('+') { None } else { decode(value) })
}

/// One form for all names that some framework takes for one: case (ASP.NET), a `[` and what follows, and `.`, space and
/// `+` as `_` (PHP).
fn folded(name: &str) -> String {
    let before = name.split_once('[').map_or(name, |(before, _)| before);
    let plain = before.trim_start_matches([' ', '+']);
    plain.chars().flat_map(char::to_lowercase).map(|c| if matches!(c, '.' | ' ' | '+') { '_' } else { c }).collect()
}

/// Decodes once; `None` where that is ambiguous.
fn decode(raw: &str) -> Option<String> {
    let mut bytes = raw.bytes();
    let mut decoded = Vec::with_capacity(raw.len());
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'%' => match (hex_digit(bytes.next()?)? << 4) | hex_digit(bytes.next()?)? {
                b'%' => return None,
                value => value,
            },
            b'#' => return None,
            0x21..=0x7e => byte,
            _ => return None,
        };
        decoded.push(byte);
    }
    let text = String::from_utf8(decoded).ok()?;
    (!text.chars().any(char::is_control)).then_some(text)
}

#[cfg(test)]
mod tests;
