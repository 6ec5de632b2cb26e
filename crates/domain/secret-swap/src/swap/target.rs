//! The path's segment and the query's parameter.

use policy::http_query::{Parameter, parameter};
use values::Secret;
use zeroize::Zeroizing;

use crate::forms::percent;

/// What may stand unescaped in a segment besides what may anywhere (RFC 3986, 3.3); no `;`, which some split at.
const SEGMENT: &[u8] = b"!$&'()*+,=:@";

/// The target with this in place of the one segment that is the placeholder, built from the path that was judged.
pub(super) fn path(path: &str, target: &str, placeholder: &str, with: &[u8]) -> Option<Secret> {
    // A segment of dots would be another path, and an empty one none.
    if with.is_empty() || with.iter().all(|byte| *byte == b'.') {
        return None;
    }
    let mut swapped = Zeroizing::new(Vec::with_capacity(target.len() + with.len()));
    let mut count = 0;
    for segment in path.strip_prefix('/')?.split('/') {
        swapped.push(b'/');
        if segment == placeholder {
            count += 1;
            swapped.extend_from_slice(&percent(with, b"", true));
        } else {
            swapped.extend_from_slice(&percent(segment.as_bytes(), SEGMENT, true));
        }
    }
    if let Some((_, query)) = target.split_once('?') {
        swapped.push(b'?');
        swapped.extend_from_slice(query.as_bytes());
    }
    (count == 1).then(|| Secret::new(std::mem::take(&mut swapped)))
}

/// The target with this in place of the parameter's value, where all servers read one parameter of that name.
pub(super) fn query(target: &str, name: &str, placeholder: &str, with: &[u8]) -> Option<Secret> {
    let (path, query) = target.split_once('?')?;
    let query = pairs(query, name, placeholder, with)?;
    let mut swapped = Vec::with_capacity(path.len() + 1 + query.len());
    swapped.extend_from_slice(path.as_bytes());
    swapped.push(b'?');
    swapped.extend_from_slice(&query);
    Some(Secret::new(swapped))
}

/// The same for the pairs alone, of a query or of a form.
pub(super) fn pairs(pairs: &str, name: &str, placeholder: &str, with: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    if parameter(pairs, name) != Parameter::Once(placeholder.to_owned()) {
        return None;
    }
    let mut swapped = Zeroizing::new(Vec::with_capacity(pairs.len() + with.len() * 3));
    let mut count = 0;
    for (number, pair) in pairs.split('&').enumerate() {
        if number > 0 {
            swapped.push(b'&');
        }
        let is_it = parameter(pair, name) == Parameter::Once(placeholder.to_owned());
        match pair.split_once('=') {
            Some((raw, _)) if is_it => {
                count += 1;
                swapped.extend_from_slice(raw.as_bytes());
                swapped.push(b'=');
                swapped.extend_from_slice(&percent(with, b"", true));
            }
            Some(_) | None => swapped.extend_from_slice(pair.as_bytes()),
        }
    }
    (count == 1).then_some(swapped)
}
