//! An event as OCSF 1.8 JSON, for what security teams already run.
//!
//! | event | class |
//! | --- | --- |
//! | `flow.decided`, `flow.ended` | Network Activity (4001); HTTP Activity (4002) where a plain HTTP request was seen |
//! | `dns.decided` | DNS Activity (4003) |
//! | `policy.*`, `approval.*`, `credential.used` | Entity Management (3004) |
//! | `sandbox.*` | Application Lifecycle (6002) |
//! | `audit.*` | Event Log Activity (1008) |
//! | anything newer | Base Event (0) |
//!
//! What OCSF has no attribute for stands under `unmapped`, with our own names: nothing is lost.
//! The mapping is checked against facts distilled from the schema (`tests/ocsf.rs`, `docs/reference/ocsf.md`).

/// DNS questions.
mod dns;
/// Connections and requests.
mod flow;
/// Policies, approvals, sandboxes, the log itself.
mod other;

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::{
    event::{Event, Process, WouldRecord},
    json_text::hex,
    parse::{Body, Entry, Envelope},
};

/// The version of OCSF that is written.
pub const OCSF_VERSION: &str = "1.8.0";

/// What is exported: the product's own version is the caller's to say.
pub fn to_ocsf(entry: &Entry, product_version: &str) -> Value {
    let class = match &entry.body {
        Body::Known(event) => known(event, &entry.envelope),
        Body::Unknown(fields) => Class {
            uid: 0,
            name: "Base Event",
            category: (0, "Uncategorized"),
            activity: (99, entry.envelope.event.clone()),
            severity: Severity::Informational,
            message: entry.envelope.event.clone(),
            attributes: json!({}),
            unmapped: Value::Object(fields.clone()),
        },
    };
    without_nulls(class.event(&entry.envelope, product_version)).unwrap_or_default()
}

fn known(event: &Event, envelope: &Envelope) -> Class {
    match event {
        Event::FlowDecided(decided) => flow::decided(decided, envelope),
        Event::FlowEnded(ended) => flow::ended(ended, envelope),
        Event::DnsDecided(decided) => dns::decided(decided, envelope),
        Event::CredentialUsed(used) => other::credential(used),
        Event::PolicyApplied(applied) => other::policy_applied(applied),
        Event::PolicyRefused(refused) => other::policy_refused(refused),
        Event::SandboxStarted(sandbox) => other::sandbox(sandbox, envelope, true),
        Event::SandboxEnded(sandbox) => other::sandbox(sandbox, envelope, false),
        Event::ApprovalAnswered { flow, answer, by } => other::approval(*flow, answer, by.as_deref()),
        Event::AuditCheckpoint { file, events } => other::checkpoint(file, *events),
        Event::AuditRecovered { file, bytes } => other::recovered(file, *bytes),
    }
}

/// What the mapping of one event says; the rest is the same for all.
struct Class {
    uid: u32,
    name: &'static str,
    category: (u32, &'static str),
    activity: (u32, String),
    severity: Severity,
    message: String,
    attributes: Value,
    unmapped: Value,
}

const NETWORK: (u32, &str) = (4, "Network Activity");

#[derive(Clone, Copy)]
enum Severity {
    Informational,
    Low,
    Medium,
}

impl Severity {
    fn id_and_name(self) -> (u32, &'static str) {
        match self {
            Self::Informational => (1, "Informational"),
            Self::Low => (2, "Low"),
            Self::Medium => (3, "Medium"),
        }
    }
}

impl Class {
    fn event(self, envelope: &Envelope, product_version: &str) -> Value {
        let (severity_id, severity) = self.severity.id_and_name();
        let (activity_id, activity_name) = self.activity;
        let mut event = json!({
            "category_uid": self.category.0,
            "category_name": self.category.1,
            "class_uid": self.uid,
            "class_name": self.name,
            "type_uid": self.uid * 100 + activity_id,
            "type_name": format!("{}: {activity_name}", self.name),
            "activity_id": activity_id,
            "activity_name": activity_name,
            "severity_id": severity_id,
            "severity": severity,
            "time": envelope.time.as_millisecond(),
            "message": self.message,
            "metadata": {
                "version": OCSF_VERSION,
                "product": { "name": "Cofferdam", "vendor_name": "Cofferdam", "version": product_version },
                "profiles": ["host", "security_control"],
                "uid": hex(&envelope.hash),
                "sequence": i32::try_from(envelope.seq).ok(),
                "event_code": envelope.event,
                "correlation_uid": envelope.sandbox,
                "original_time": envelope.time.to_string(),
            },
        });
        let unmapped = json!({ "thread": envelope.thread, "tool_call": envelope.tool_call });
        if let Some(fields) = event.as_object_mut() {
            fields.extend(into_fields(self.attributes));
            let all = into_fields(unmapped).into_iter().chain(into_fields(self.unmapped)).collect();
            fields.insert("unmapped".into(), Value::Object(all));
        }
        event
    }
}

fn into_fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    }
}

/// Leaves out what isn't there: OCSF has no nulls, and no empty objects or lists.
fn without_nulls(value: Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Object(fields) => {
            let fields: Map<String, Value> =
                fields.into_iter().filter_map(|(name, value)| Some((name, without_nulls(value)?))).collect();
            (!fields.is_empty()).then_some(Value::Object(fields))
        }
        Value::Array(items) => {
            let items: Vec<Value> = items.into_iter().filter_map(without_nulls).collect();
            (!items.is_empty()).then_some(Value::Array(items))
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) => Some(value),
    }
}

/// The attributes of the security control profile: what was decided, by which rule of which policy.
fn control(verdict: &str, rule: &str, layer: Option<&str>, reason: &str, revision: &str) -> Value {
    let (action, disposition) = match verdict {
        "allowed" => ((1, "Allowed"), (1, "Allowed")),
        "denied" => ((2, "Denied"), (2, "Blocked")),
        "asked" => ((99, "asked"), (14, "Delayed")),
        // Nothing left: the gateway refuses when unsure.
        _ => ((2, "Denied"), (27, "Error")),
    };
    json!({
        "action_id": action.0,
        "action": action.1,
        "disposition_id": disposition.0,
        "disposition": disposition.1,
        "is_alert": verdict == "denied",
        "firewall_rule": { "name": rule, "type": layer, "desc": reason },
        "policy": { "uid": revision, "type": "EgressPolicy", "version": revision, "is_applied": true },
    })
}

/// Whether it worked.
fn status(error: Option<&str>) -> Value {
    match error {
        None => json!({ "status_id": 1, "status": "Success" }),
        Some(error) => json!({ "status_id": 2, "status": "Failure", "status_detail": error }),
    }
}

fn actor(process: Option<&Process>) -> Value {
    process.map_or(Value::Null, |process| {
        let name = process.exe.rsplit('/').next().unwrap_or(&process.exe);
        json!({
            "process": {
                "pid": process.pid,
                "name": name,
                "cmd_line": process.args,
                "file": { "name": name, "path": process.exe, "type_id": 1, "type": "Regular File" },
            }
        })
    })
}

/// The sandbox as the source of a flow.
fn source(envelope: &Envelope) -> Value {
    json!({ "uid": envelope.sandbox, "name": envelope.sandbox })
}

fn connection(flow: Option<u64>, protocol: &str, address: Option<IpAddr>) -> Value {
    let number = match protocol {
        "tcp" => Some(6),
        "udp" => Some(17),
        "icmp" if address.is_some_and(|address| address.is_ipv6()) => Some(58),
        "icmp" => Some(1),
        _ => None,
    };
    let version = address.map(|address| if address.is_ipv6() { 6 } else { 4 });
    json!({
        "direction_id": 2,
        "direction": "Outbound",
        "protocol_name": protocol,
        "protocol_num": number,
        "protocol_ver_id": version,
        "uid": flow.map(|flow| flow.to_string()),
    })
}

fn would(records: &[WouldRecord]) -> Value {
    records.iter().map(|would| json!({ "rule": would.rule, "verdict": would.verdict })).collect()
}

/// Puts several objects' fields into one.
fn together(parts: impl IntoIterator<Item = Value>) -> Value {
    Value::Object(parts.into_iter().flat_map(into_fields).collect())
}
