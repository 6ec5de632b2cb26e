//! The JSON Schema of a line, made from the types: `docs/reference/events.schema.json`.
//!
//! The stable part of the format is what the schema says. New fields and new kinds of events may come; a reader
//! leaves out what it doesn't know.

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Value, json};

use crate::{erasable::ERASABLE, event::Event};

/// What every line has besides its event's fields.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct Line {
    /// The event's number in its chain, from 1.
    #[schemars(range(min = 1))]
    seq: u64,
    /// When it was recorded: RFC 3339, microseconds, UTC. Clocks jump; `seq` orders the lines.
    #[schemars(extend("format" = "date-time"))]
    time: String,
    /// The sandbox: `run-` and the run's short id.
    sandbox: String,
    /// The thread of an agent.
    thread: Option<String>,
    /// The tool call.
    tool_call: Option<String>,
    /// The hash of the line before; zeros for the first.
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"))]
    prev: String,
    /// SHA-256 of `prev` and the RFC 8785 form of the other fields, erasable ones as salted digests.
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"))]
    hash: String,
}

/// The JSON Schema (2020-12) of one line.
pub fn json_schema() -> Value {
    let mut generator = SchemaGenerator::default();
    let line = Line::json_schema(&mut generator);
    let event = Event::json_schema(&mut generator);
    let by_path = |pattern: &str, description: &str| {
        json!({
            "type": "object",
            "description": description,
            "propertyNames": { "enum": ERASABLE },
            "additionalProperties": { "type": "string", "pattern": pattern },
        })
    };
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "One line of a Cofferdam record (JSON Lines)",
        "allOf": [line, event],
        "properties": {
            "salts": by_path("^[0-9a-f]{32}$", "The salts of the erasable fields that are there."),
            "digests": by_path("^[0-9a-f]{64}$", "The salted digests of the fields that were erased."),
        },
        "$defs": generator.take_definitions(true),
    })
}
