//! Policies, approvals, sandboxes, the log itself.

use serde_json::{Value, json};

use super::{Class, Severity, status, together};
use crate::{
    event::{CredentialUsed, PolicyApplied, PolicyRefused, SandboxChanged},
    parse::Envelope,
};

const IDENTITY: (u32, &str) = (3, "Identity & Access Management");

fn entity(activity: (u32, &str), severity: Severity, message: String, attributes: Value, unmapped: Value) -> Class {
    let activity = (activity.0, activity.1.to_owned());
    Class {
        uid: 3004,
        name: "Entity Management",
        category: IDENTITY,
        activity,
        severity,
        message,
        attributes,
        unmapped,
    }
}

pub(super) fn policy_applied(policy: &PolicyApplied) -> Class {
    let detail = json!({
        "entity": {
            "name": policy.name,
            "type_id": 5,
            "type": "Policy",
            "version": policy.revision,
            "policy": { "name": policy.name, "uid": policy.digest, "version": policy.revision, "is_applied": true },
        }
    });
    entity(
        (10, "Activate"),
        Severity::Informational,
        format!("policy {} is in force as revision {}", policy.name, policy.revision),
        together([status(None), detail]),
        json!({ "rejudged": policy.rejudged, "cut": policy.cut }),
    )
}

pub(super) fn policy_refused(policy: &PolicyRefused) -> Class {
    let detail = json!({
        "entity": { "name": "EgressPolicy", "type_id": 5, "type": "Policy", "version": policy.revision }
    });
    entity(
        (10, "Activate"),
        Severity::Medium,
        format!("a policy was refused, revision {} stays: {}", policy.revision, policy.reason),
        together([status(Some(&policy.reason)), detail]),
        Value::Null,
    )
}

pub(super) fn credential(used: &CredentialUsed) -> Class {
    let detail = json!({
        "entity": { "name": used.credential, "uid": used.token, "type_id": 99, "type": "Credential" },
        "action_id": 1,
        "action": "Allowed",
        "disposition_id": 1,
        "disposition": "Allowed",
    });
    entity(
        (99, "Use"),
        Severity::Informational,
        format!("credential {} is sent to {}", used.credential, used.host),
        together([status(None), detail]),
        json!({ "flow": used.flow, "revision": used.revision, "host": used.host, "attach": used.attach }),
    )
}

pub(super) fn approval(flow: u64, answer: &str, by: Option<&str>) -> Class {
    let approved = matches!(answer, "once" | "run" | "always");
    let (action, disposition) =
        if approved { ((1, "Allowed"), (8, "Approved")) } else { ((2, "Denied"), (25, "Rejected")) };
    let attributes = json!({
        "entity": { "uid": flow.to_string(), "type_id": 99, "type": "Approval" },
        "actor": by.map(|name| json!({ "user": { "name": name } })),
        "action_id": action.0,
        "action": action.1,
        "disposition_id": disposition.0,
        "disposition": disposition.1,
    });
    entity(
        (99, answer),
        Severity::Informational,
        format!("flow {flow} was asked about: {answer}"),
        together([status(None), attributes]),
        json!({ "flow": flow, "answer": answer }),
    )
}

pub(super) fn sandbox(sandbox: &SandboxChanged, envelope: &Envelope, started: bool) -> Class {
    let (activity, word) = if started { ((3, "Start"), "started") } else { ((4, "Stop"), "ended") };
    let program = sandbox.command.split_whitespace().next().unwrap_or("unknown");
    let failed = sandbox.exit_code.filter(|code| *code != 0).map(|code| format!("exit code {code}"));
    let attributes = json!({
        "app": { "name": program, "uid": envelope.sandbox },
        "status_code": sandbox.exit_code.map(|code| code.to_string()),
    });
    Class {
        uid: 6002,
        name: "Application Lifecycle",
        category: (6, "Application Activity"),
        activity: (activity.0, activity.1.into()),
        severity: Severity::Informational,
        message: format!("sandbox {} {word}: {}", envelope.sandbox, sandbox.command),
        attributes: together([status(failed.as_deref()), attributes]),
        unmapped: json!({
            "command": sandbox.command,
            "enforced": sandbox.enforced,
            "missing": sandbox.missing,
            "opened": sandbox.opened,
            "findings": sandbox.findings,
        }),
    }
}

fn log(activity: (u32, &str), severity: Severity, file: &str, message: String, unmapped: Value) -> Class {
    Class {
        uid: 1008,
        name: "Event Log Activity",
        category: (1, "System Activity"),
        activity: (activity.0, activity.1.into()),
        severity,
        message,
        attributes: together([status(None), json!({ "log_name": file, "actor": { "app_name": "cofferdam" } })]),
        unmapped,
    }
}

pub(super) fn checkpoint(file: &str, events: u64) -> Class {
    let message = format!("{file} was closed with {events} events");
    log((5, "Rotate"), Severity::Informational, file, message, json!({ "events": events }))
}

pub(super) fn recovered(file: &str, bytes: u64) -> Class {
    let message = format!("{bytes} bytes of an unfinished line were moved to {file}");
    log((99, "Recover"), Severity::Medium, file, message, json!({ "bytes": bytes }))
}
