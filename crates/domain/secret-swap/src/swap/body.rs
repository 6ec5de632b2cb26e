//! Bodies: a parameter of a form, a string of JSON.

use std::borrow::Cow;

use policy::model::header_fields::is_same;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use values::Secret;
use zeroize::Zeroizing;

use super::target;
use crate::forms::{self, Json};

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `application/x-www-form-urlencoded`.
    Form,
    /// `application/json`, or a type with the suffix `+json` (RFC 6839).
    Json,
}

/// What the head says of the body; nothing where it says it twice, or that the body is encoded.
pub(super) fn kind(fields: &[(String, Vec<u8>)]) -> Option<Kind> {
    if fields.iter().any(|(name, _)| is_same(name, "content-encoding")) {
        return None;
    }
    let mut types = fields.iter().filter(|(name, _)| is_same(name, "content-type"));
    let ((_, value), None) = (types.next()?, types.next()) else { return None };
    let essence = value.split(|byte| *byte == b';').next()?.trim_ascii().to_ascii_lowercase();
    match essence.as_slice() {
        b"application/x-www-form-urlencoded" => Some(Kind::Form),
        b"application/json" => Some(Kind::Json),
        other if other.starts_with(b"application/") && other.ends_with(b"+json") => Some(Kind::Json),
        _ => None,
    }
}

pub(super) fn form(body: &[u8], name: &str, placeholder: &str, with: &[u8]) -> Option<Secret> {
    let text = std::str::from_utf8(body).ok()?;
    let mut swapped = target::pairs(text, name, placeholder, with)?;
    Some(Secret::new(std::mem::take(&mut swapped)))
}

/// Only the string at the pointer is another; every other byte stays. A body in which a name on the way stands twice
/// has no one meaning.
pub(super) fn json(body: &[u8], pointer: &str, placeholder: &str, with: &[u8]) -> Option<Secret> {
    let text = std::str::from_utf8(body).ok()?;
    let with = std::str::from_utf8(with).ok()?;
    let mut value: &RawValue = serde_json::from_str(text).ok()?;
    if !pointer.is_empty() {
        for token in pointer.strip_prefix('/')?.split('/') {
            let token = token.replace("~1", "/").replace("~0", "~");
            let mut inside = serde_json::Deserializer::from_str(value.get());
            value = Child(&token).deserialize(&mut inside).ok()??;
        }
    }
    let found: Cow<'_, str> = serde_json::from_str(value.get()).ok()?;
    if found != placeholder {
        return None;
    }
    // Both are of one text: where the value begins in it.
    let start = (value.get().as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
    let (before, rest) = body.split_at_checked(start)?;
    let after = rest.get(value.get().len()..)?;
    let mut swapped = Zeroizing::new(Vec::with_capacity(body.len() + with.len() * 2));
    swapped.extend_from_slice(before);
    swapped.push(b'"');
    swapped.extend_from_slice(&forms::json(with, Json::Plain));
    swapped.push(b'"');
    swapped.extend_from_slice(after);
    Some(Secret::new(std::mem::take(&mut swapped)))
}

/// The member or element of this name.
struct Child<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Child<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Child<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = map.next_key::<String>()? {
            if name != self.0 {
                map.next_value::<IgnoredAny>()?;
            } else if found.replace(map.next_value()?).is_some() {
                return Err(A::Error::custom("a name that stands twice"));
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        // RFC 6901, 4: no leading zeros.
        let plain = self.0 == "0" || !self.0.starts_with('0');
        let wanted = self.0.parse::<usize>().ok().filter(|_| plain && self.0.bytes().all(|byte| byte.is_ascii_digit()));
        let mut found = None;
        let mut number = 0;
        while let Some(value) = seq.next_element::<&RawValue>()? {
            if Some(number) == wanted {
                found = Some(value);
            }
            number += 1;
        }
        Ok(found)
    }
}
