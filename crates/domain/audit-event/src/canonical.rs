//! The hashed form of a line that was read: strict JSON in, RFC 8785 out.
//!
//! Reading is stricter than JSON: a name that comes twice is refused (readers differ in which one they take, so a
//! line could say two things under one hash), and so is a number that isn't a whole one below 2^53.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::json_text::{LARGEST_INTEGER, push_string};

/// Reads one JSON object, and nothing behind it.
pub(crate) fn parse_object(line: &[u8]) -> Result<Map<String, Value>, serde_json::Error> {
    match serde_json::from_slice::<Strict>(line)?.0 {
        Value::Object(object) => Ok(object),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(serde_json::Error::custom("not an object"))
        }
    }
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON with whole numbers and no name twice")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }
    fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<Value, E> {
        if v > LARGEST_INTEGER {
            return Err(E::custom("a number of 2^53 or more"));
        }
        Ok(Value::Number(v.into()))
    }
    fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<Value, E> {
        if v.unsigned_abs() > LARGEST_INTEGER {
            return Err(E::custom("a number of -2^53 or less"));
        }
        Ok(Value::Number(v.into()))
    }
    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Value, E> {
        Err(E::custom("a number that isn't whole"))
    }
    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::String(v.to_owned()))
    }
    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::String(v))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Strict(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, Strict(value))) = map.next_entry::<String, Strict>()? {
            if object.contains_key(&name) {
                return Err(A::Error::custom(format_args!("the name {name:?} twice")));
            }
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

/// Appends a value in its RFC 8785 form. `replace` may write something else for a field, by its path.
pub(crate) fn push_canonical(
    out: &mut Vec<u8>,
    path: &str,
    value: &Value,
    replace: &impl Fn(&str, &Value, &mut Vec<u8>) -> bool,
) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => push_number(out, number),
        Value::String(text) => push_string(out, text),
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                push_canonical(out, "[]", item, replace);
            }
            out.push(b']');
        }
        Value::Object(object) => push_object(out, path, object, replace),
    }
}

pub(crate) fn push_object(
    out: &mut Vec<u8>,
    path: &str,
    object: &Map<String, Value>,
    replace: &impl Fn(&str, &Value, &mut Vec<u8>) -> bool,
) {
    let mut fields: Vec<(&String, &Value)> = object.iter().collect();
    fields.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
    out.push(b'{');
    for (index, (name, value)) in fields.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_string(out, name);
        out.push(b':');
        let own_path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        if !replace(&own_path, value, out) {
            push_canonical(out, &own_path, value, replace);
        }
    }
    out.push(b'}');
}

/// Whole numbers only, which is all that the strict reader lets in; serde_json writes them as RFC 8785 does.
fn push_number(out: &mut Vec<u8>, number: &Number) {
    out.extend_from_slice(number.to_string().as_bytes());
}
