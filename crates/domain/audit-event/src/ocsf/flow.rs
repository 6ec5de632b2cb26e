//! Connections and requests.

use serde_json::{Value, json};

use super::{Class, NETWORK, Severity, actor, connection, control, source, status, together, would};
use crate::{
    event::{Destination, EndedBy, FlowDecided, FlowEnded, HttpRequest, Transfer},
    parse::Envelope,
};

/// The methods OCSF knows, with their activities.
const METHODS: [(&str, u32, &str); 9] = [
    ("CONNECT", 1, "Connect"),
    ("DELETE", 2, "Delete"),
    ("GET", 3, "Get"),
    ("HEAD", 4, "Head"),
    ("OPTIONS", 5, "Options"),
    ("POST", 6, "Post"),
    ("PUT", 7, "Put"),
    ("TRACE", 8, "Trace"),
    ("PATCH", 9, "Patch"),
];

pub(super) fn decided(flow: &FlowDecided, envelope: &Envelope) -> Class {
    let (uid, name, activity) = match &flow.http {
        Some(http) => (4002, "HTTP Activity", http_activity(http)),
        None => (4001, "Network Activity", network_activity(&flow.verdict)),
    };
    let attributes = together([
        control(&flow.verdict, &flow.rule, Some(&flow.layer), &flow.reason, &flow.revision),
        status(flow.error.as_deref()),
        json!({
            "actor": actor(flow.process.as_ref()),
            "src_endpoint": source(envelope),
            "dst_endpoint": endpoint(&flow.destination),
            "connection_info": connection(Some(flow.flow), &flow.protocol, flow.destination.address),
            "traffic": traffic(flow.bytes),
            "http_request": flow.http.as_ref().map(|http| request(http, &flow.destination)),
            "duration": flow.duration_us / 1_000,
        }),
    ]);
    let severity = if flow.verdict == "denied" { Severity::Low } else { Severity::Informational };
    Class {
        uid,
        name,
        category: NETWORK,
        activity,
        severity,
        message: format!("{} by {}: {}", flow.verdict, flow.rule, flow.reason),
        attributes,
        unmapped: json!({
            "flow": flow.flow,
            "verdict": flow.verdict,
            "enforcement": flow.enforcement,
            "would": would(&flow.would),
            "name_from": flow.destination.name_from,
            "original_address": flow.destination.original_address,
            "route": flow.route,
            "credential": flow.credential,
            "tls": { "mode": flow.tls.mode, "sni": flow.tls.sni, "alpn": flow.tls.alpn, "ech": flow.tls.ech },
            "http_method": flow.http.as_ref().map(|http| &http.method),
            "process_digest": flow.process.as_ref().and_then(|process| process.digest.as_ref()),
            "duration_us": flow.duration_us,
        }),
    }
}

pub(super) fn ended(flow: &FlowEnded, envelope: &Envelope) -> Class {
    let (activity, verdict) = match flow.ended_by {
        EndedBy::Client | EndedBy::Server | EndedBy::Finished => ((2, "Close"), "allowed"),
        EndedBy::Policy => ((3, "Reset"), "denied"),
        EndedBy::Bound | EndedBy::Shutdown => ((3, "Reset"), "allowed"),
        EndedBy::Unreachable => ((4, "Fail"), "allowed"),
    };
    let revision = flow.ended_revision.as_ref().unwrap_or(&flow.revision);
    let ended_by = serde_json::to_value(flow.ended_by).unwrap_or_default();
    let reason = ended_by.as_str().unwrap_or_default();
    let attributes = together([
        control(verdict, &flow.rule, None, reason, revision),
        status(flow.error.as_deref()),
        json!({
            "actor": actor(flow.process.as_ref()),
            "src_endpoint": source(envelope),
            "dst_endpoint": endpoint(&flow.destination),
            "connection_info": connection(Some(flow.flow), &flow.protocol, flow.destination.address),
            "traffic": traffic(flow.bytes),
            "duration": flow.duration_us / 1_000,
            "end_time": envelope.time.as_millisecond(),
        }),
    ]);
    Class {
        uid: 4001,
        name: "Network Activity",
        category: NETWORK,
        activity: (activity.0, activity.1.into()),
        severity: if flow.ended_by == EndedBy::Policy { Severity::Low } else { Severity::Informational },
        message: format!("ended by {reason}, rule {}", flow.rule),
        attributes,
        unmapped: json!({
            "flow": flow.flow,
            "revision": flow.revision,
            "ended_revision": flow.ended_revision,
            "ended_by": ended_by,
            "name_from": flow.destination.name_from,
            "original_address": flow.destination.original_address,
            "process_digest": flow.process.as_ref().and_then(|process| process.digest.as_ref()),
            "duration_us": flow.duration_us,
        }),
    }
}

fn network_activity(verdict: &str) -> (u32, String) {
    let (id, name) = match verdict {
        "allowed" => (1, "Open"),
        "denied" => (5, "Refuse"),
        "error" => (4, "Fail"),
        other => (99, other),
    };
    (id, name.into())
}

fn http_activity(http: &HttpRequest) -> (u32, String) {
    match METHODS.iter().find(|(method, ..)| *method == http.method) {
        Some((_, id, name)) => (*id, (*name).into()),
        None => (99, http.method.clone()),
    }
}

fn endpoint(to: &Destination) -> Value {
    // One of name and address is asked for; a flow that was refused early may have neither.
    let unknown = to.name.is_none() && to.address.is_none() && to.original_address.is_none();
    json!({
        "hostname": to.name,
        "ip": to.address.or(to.original_address),
        "port": to.port,
        "name": unknown.then_some("unknown"),
    })
}

fn traffic(bytes: Transfer) -> Value {
    json!({
        "bytes": bytes.sent.saturating_add(bytes.received),
        "bytes_out": bytes.sent,
        "bytes_in": bytes.received,
    })
}

fn request(http: &HttpRequest, to: &Destination) -> Value {
    let known = METHODS.iter().any(|(method, ..)| *method == http.method);
    json!({
        "http_method": known.then_some(&http.method),
        "url": { "scheme": "http", "hostname": http.host, "port": to.port, "path": http.path },
    })
}
