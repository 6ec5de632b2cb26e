//! The JSON Schema of the file format, made from the wire types.
//!
//! `docs/reference/egress-policy.schema.json` is this schema, checked in; a test compares the two.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::wire;

static SCHEMA: LazyLock<Value> = LazyLock::new(generate);

/// The JSON Schema (draft 2020-12) of a policy file.
pub fn schema() -> &'static Value {
    &SCHEMA
}

fn generate() -> Value {
    let settings = SchemaSettings::draft2020_12().for_deserialize();
    let mut schema = settings.into_generator().into_root_schema_for::<wire::File>().to_value();
    if let Value::Object(top) = &mut schema {
        top.insert("title".to_owned(), "Cofferdam egress policy".into());
    }
    tidy(&mut schema);
    schema
}

/// A field is left out or has a value: `null` is no value, and a default of "nothing" says nothing.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::Array(kinds)) = fields.get_mut("type") {
                kinds.retain(|kind| kind != "null");
                if let [one] = kinds.as_slice() {
                    let one = one.clone();
                    fields.insert("type".to_owned(), one);
                }
            }
            if let Some(Value::Array(branches)) = fields.get_mut("anyOf") {
                branches.retain(|branch| branch.get("type").is_none_or(|kind| kind != "null"));
                if let [one] = branches.as_slice()
                    && let Value::Object(only) = one.clone()
                {
                    fields.remove("anyOf");
                    for (key, value) in only {
                        fields.entry(key).or_insert(value);
                    }
                }
            }
            fields.remove("default");
            fields.remove("format");
            for (keyword, inner) in fields {
                match (keyword.as_str(), inner) {
                    // Under these stand names, not keywords.
                    ("properties" | "$defs", Value::Object(named)) => named.values_mut().for_each(tidy),
                    (_, inner) => tidy(inner),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
