//! Fields of a head: the whole value, or the token or password of `Authorization`.

use data_encoding::BASE64;
use policy::model::header_fields::is_same;
use values::Secret;
use zeroize::Zeroizing;

/// The value with this in place of the placeholder; `None` where it does not stand there.
pub(super) fn swap(name: &str, value: &[u8], placeholder: &str, with: &[u8]) -> Option<Secret> {
    if value == placeholder.as_bytes() {
        return Some(Secret::new(with.to_vec()));
    }
    if !is_same(name, "authorization") {
        return None;
    }
    let space = value.iter().position(|byte| *byte == b' ')?;
    let (scheme, rest) = value.split_at_checked(space)?;
    let rest = rest.trim_ascii_start();
    let new = if rest == placeholder.as_bytes() {
        Zeroizing::new(with.to_vec())
    } else if scheme.eq_ignore_ascii_case(b"basic") {
        basic(rest, placeholder.as_bytes(), with)?
    } else {
        return None;
    };
    let mut swapped = Vec::with_capacity(scheme.len() + 1 + new.len());
    swapped.extend_from_slice(scheme);
    swapped.push(b' ');
    swapped.extend_from_slice(&new);
    Some(Secret::new(swapped))
}

/// The user or the password of Basic (RFC 7617): some servers take a token as either.
fn basic(encoded: &[u8], placeholder: &[u8], with: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let decoded = BASE64.decode(encoded).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let (user, password) = (decoded.get(..colon)?, decoded.get(colon + 1..)?);
    if user != placeholder && password != placeholder {
        return None;
    }
    let or = |part| if part == placeholder { with } else { part };
    let whole = Zeroizing::new([or(user), b":", or(password)].concat());
    Some(Zeroizing::new(BASE64.encode(&whole).into_bytes()))
}
