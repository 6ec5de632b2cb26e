//! The canonical form of a path, a query and fields, as the server makes it from what it gets.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

const HEX: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];

/// S3 takes a path as the key's name: each byte of it is escaped once, and nothing is resolved. All others resolve dot segments
/// and empty ones, and escape what stands on the wire, so what was escaped is escaped twice.
pub(super) fn path(wire: &str, is_s3: bool) -> String {
    let mut canonical = String::with_capacity(wire.len() + 8);
    if is_s3 {
        let bytes = percent_decoded(wire.as_bytes());
        escape(if bytes.is_empty() { b"/" } else { &bytes }, true, &mut canonical);
        return canonical;
    }
    let mut segments: Vec<&str> = Vec::new();
    for segment in wire.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    let ends_in_folder = matches!(wire.rsplit('/').next(), Some("" | "." | ".."));
    for segment in &segments {
        canonical.push('/');
        escape(segment.as_bytes(), false, &mut canonical);
    }
    if segments.is_empty() || ends_in_folder {
        canonical.push('/');
    }
    canonical
}

/// Names and values unescaped, escaped again in the one canonical way, and sorted.
pub(super) fn query(wire: &str) -> String {
    let mut pairs: Vec<(String, String)> = parameters(wire)
        .map(|(name, value)| {
            let mut pair = (String::new(), String::new());
            escape(&name, false, &mut pair.0);
            escape(&value, false, &mut pair.1);
            pair
        })
        .collect();
    pairs.sort();
    let pairs: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

/// Whether a query carries a signature, of this version or the one before.
pub(super) fn is_presigned(wire: &str) -> bool {
    const MARKS: [&[u8]; 5] =
        [b"x-amz-signature", b"x-amz-credential", b"x-amz-algorithm", b"x-amz-security-token", b"awsaccesskeyid"];
    parameters(wire).any(|(name, _)| MARKS.iter().any(|mark| name.eq_ignore_ascii_case(mark)))
}

fn parameters(wire: &str) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    wire.split('&').filter(|part| !part.is_empty()).map(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let decoded = |text: &str| percent_decoded(text.replace('+', " ").as_bytes());
        (decoded(name), decoded(value))
    })
}

/// The names that are signed, and their lines. None where there is no host.
pub(super) fn fields(headers: &[(&str, &[u8])], own: &[(&'static str, &str)]) -> Option<(String, Zeroizing<String>)> {
    let mut signed: BTreeMap<String, Zeroizing<String>> = BTreeMap::new();
    let theirs = headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), *value));
    let theirs = theirs.filter(|(name, _)| is_signed(name) && !super::REPLACED.contains(&name.as_str()));
    let own = own.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes()));
    for (name, value) in theirs.chain(own) {
        let line = signed.entry(name).or_default();
        if !line.is_empty() {
            line.push(',');
        }
        push_trimmed(value, line);
    }
    signed.get("host").filter(|host| !host.is_empty())?;
    let names: Vec<&str> = signed.keys().map(String::as_str).collect();
    let mut lines = Zeroizing::new(String::with_capacity(256));
    for (name, value) in &signed {
        for part in [name, ":", value, "\n"] {
            lines.push_str(part);
        }
    }
    Some((names.join(";"), lines))
}

/// Proxies on the way may change other fields; these they leave alone.
fn is_signed(name: &str) -> bool {
    matches!(name, "host" | "content-type" | "content-md5") || name.starts_with("x-amz-")
}

/// Without white space at its ends, and with one space for many in between. Tabs in between stay: S3 leaves them.
fn push_trimmed(value: &[u8], line: &mut String) {
    let text = Zeroizing::new(String::from_utf8_lossy(value).into_owned());
    let words = text.trim_matches([' ', '\t']).split(' ').filter(|word| !word.is_empty());
    for (number, word) in words.enumerate() {
        if number > 0 {
            line.push(' ');
        }
        line.push_str(word);
    }
}

fn escape(bytes: &[u8], keep_slashes: bool, into: &mut String) {
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) || (keep_slashes && *byte == b'/') {
            into.push(char::from(*byte));
        } else {
            into.push('%');
            into.extend([byte >> 4, byte & 15].iter().filter_map(|half| HEX.get(usize::from(*half))));
        }
    }
}

pub(crate) fn percent_decoded(bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, after @ ..] = rest {
        rest = after;
        let escaped = match after {
            [high, low, behind @ ..] if *first == b'%' => nibble(*high).zip(nibble(*low)).map(|pair| (pair, behind)),
            _ => None,
        };
        match escaped {
            Some(((high, low), behind)) => {
                decoded.push(high << 4 | low);
                rest = behind;
            }
            None => decoded.push(*first),
        }
    }
    decoded
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}
