//! What our own record says of a run.

use std::{fs, path::Path};

use serde_json::Value;

/// The decisions of one run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Record {
    /// Flows and questions denied or failed, and flows that a new policy cut or that found no server.
    pub(crate) denied: usize,
    /// Allowed flows and questions.
    pub(crate) allowed: usize,
    /// Decisions with something under `would`.
    pub(crate) would: usize,
    /// One line each, for people.
    pub(crate) lines: Vec<String>,
    /// All of them.
    pub(crate) events: Vec<Value>,
}

impl Record {
    /// Reads the events; a line that is no JSON, and a file that is missing, are told in `lines`.
    pub(crate) fn read(path: &Path) -> Self {
        let mut record = Record::default();
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                record.lines.push(format!("no record: {error}"));
                return record;
            }
        };
        for line in text.lines() {
            match serde_json::from_str(line) {
                Ok(event) => {
                    record.add(&event);
                    record.events.push(event);
                }
                Err(error) => record.lines.push(format!("not an event ({error}): {line}")),
            }
        }
        record
    }

    /// Whether one of its lines says this.
    pub(crate) fn says(&self, text: Option<&str>) -> bool {
        text.is_none_or(|text| self.lines.iter().any(|line| line.contains(text)))
    }

    fn add(&mut self, event: &Value) {
        let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or("-").to_owned();
        let kind = text("/event");
        if kind == "flow.ended" && text("/ended_by") == "policy" {
            // An open flow that a new policy denies.
            self.denied += 1;
            self.lines.push(format!("{kind} by a new policy: {}", text("/rule")));
        }
        if kind == "flow.ended" && text("/ended_by") == "unreachable" {
            // Let through, and no server was there that it could be sent to.
            self.denied += 1;
            self.lines.push(format!("{kind} unreachable: {}", text("/error")));
        }
        if kind != "flow.decided" && kind != "dns.decided" {
            return;
        }
        let verdict = text("/verdict");
        match verdict.as_str() {
            // What failed did not leave either, and says so.
            "denied" | "error" => self.denied += 1,
            "allowed" => self.allowed += 1,
            _ => {}
        }
        if event.pointer("/would").and_then(Value::as_array).is_some_and(|would| !would.is_empty()) {
            self.would += 1;
        }
        let to = event.get("destination").or(event.get("name")).map(ToString::to_string).unwrap_or_default();
        let (rule, layer, reason, error) = (text("/rule"), text("/layer"), text("/reason"), text("/error"));
        self.lines.push(format!("{kind} {verdict} {rule} {layer} {to} {reason} {error}"));
    }
}
