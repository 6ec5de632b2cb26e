//! The JSON Schema that editors complete from.

use std::{fs, path::PathBuf};

use policy_file::schema;

fn checked_in() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../docs/reference/egress-policy.schema.json")
}

fn generated() -> String {
    serde_json::to_string_pretty(schema()).unwrap_or_default() + "\n"
}

#[test]
fn the_copy_in_the_docs_is_the_generated_one() {
    let kept = fs::read_to_string(checked_in()).unwrap_or_default();
    let how = "cofferdam policy schema > docs/reference/egress-policy.schema.json";
    assert!(kept == generated(), "the schema in the docs differs from the types; bring it up to date:\n{how}");
}

#[test]
fn it_is_a_valid_schema_that_knows_the_presets() {
    let validator = jsonschema::validator_for(schema()).expect("a valid schema");
    for ready in policy_file::presets::all() {
        let file = policy_file::parse(ready.name, ready.text.as_bytes()).expect("a preset parses");
        let value = serde_json::to_value(&file.written).expect("JSON");
        assert!(validator.is_valid(&value), "{}: {:?}", ready.name, validator.validate(&value).err());
    }
    let wrong =
        serde_json::json!({"apiVersion": "cofferdam/v1", "kind": "EgressPolicy", "spec": {"mode": "limited", "x": 1}});
    assert!(!validator.is_valid(&wrong));
    let null = serde_json::json!({"apiVersion": "cofferdam/v1", "kind": "EgressPolicy", "spec": {"mode": null}});
    assert!(!validator.is_valid(&null));
}
