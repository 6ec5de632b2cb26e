//! The shipped JSON Schema is the types', and lines are valid by it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

#[allow(dead_code, reason = "each test file uses its part")]
mod samples;

use audit_event::{erasable::erase, json_schema};
use samples::{lines, one_of_each};
use serde_json::Value;

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../docs/reference/events.schema.json");

#[test]
fn the_shipped_schema_is_current() {
    let current = serde_json::to_string_pretty(&json_schema()).unwrap() + "\n";
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(SHIPPED, &current).unwrap();
    }
    let shipped = std::fs::read_to_string(SHIPPED).unwrap();
    assert!(shipped == current, "run `UPDATE_SCHEMA=1 cargo nextest run -p audit-event --test schema`");
}

#[test]
fn every_line_is_valid_by_the_schema() {
    let schema = json_schema();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let text = lines(&one_of_each());
    let erased = text.lines().filter_map(|line| erase(line, "process.args").or_else(|_| erase(line, "command")).ok());
    for line in text.lines().map(str::to_owned).chain(erased) {
        let value: Value = serde_json::from_str(&line).unwrap();
        let errors: Vec<String> = validator.iter_errors(&value).map(|error| format!("{error}")).collect();
        assert!(errors.is_empty(), "{line}: {errors:?}");
    }
    for bad in ["{}", r#"{"event":"flow.decided"}"#, text.replacen("\"seq\":1", "\"seq\":0", 1).lines().next().unwrap()]
    {
        assert!(!validator.is_valid(&serde_json::from_str(bad).unwrap()), "{bad}");
    }
}
