//! Exported events against facts of the OCSF 1.8.0 schema: which attributes a class or object has, which it needs,
//! of what type, with which values. The facts stand in `tests/data/ocsf-1.8.0.json`; how they were taken is said in
//! `docs/reference/ocsf.md`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

#[allow(dead_code, reason = "each test file uses its part")]
mod samples;

use std::net::IpAddr;

use audit_event::{Event, parse, to_ocsf};
use proptest::{prop_assert, proptest};
use samples::{any_event, credential, dns, ended, flow, http_flow, lines, one_of_each, sandbox};
use serde_json::{Map, Value};

fn facts() -> Value {
    serde_json::from_str(include_str!("data/ocsf-1.8.0.json")).unwrap()
}

fn exported(event: Event) -> Value {
    to_ocsf(&parse(lines(&[event]).trim_end()).unwrap(), "0.1.0")
}

/// What one attribute must be.
struct Attribute<'a> {
    required: bool,
    kind: &'a str,
    list: bool,
    profile: Option<&'a str>,
    values: Vec<(&'a str, &'a str)>,
}

impl<'a> Attribute<'a> {
    /// Reads `required integer_t[] @profile = 0:Unknown|1:Open`.
    fn read(text: &'a str) -> Self {
        let (head, values) = text.split_once(" = ").unwrap_or((text, ""));
        let mut words = head.split(' ');
        let (requirement, kind) = (words.next().unwrap(), words.next().unwrap());
        Self {
            required: requirement == "required",
            kind: kind.trim_end_matches("[]"),
            list: kind.ends_with("[]"),
            profile: words.next().and_then(|word| word.strip_prefix('@')),
            values: values.split('|').filter_map(|value| value.split_once(':')).collect(),
        }
    }
}

/// Everything that is wrong with an object.
fn wrong_in_object(
    facts: &Value,
    rules: &Value,
    path: &str,
    object: &Map<String, Value>,
    profiles: &[&str],
) -> Vec<String> {
    let mut wrong = Vec::new();
    let attributes = rules["attributes"].as_object().unwrap();
    for (name, rule) in attributes {
        if Attribute::read(rule.as_str().unwrap()).required && !object.contains_key(name) {
            wrong.push(format!("{path}.{name} is required"));
        }
    }
    let one_of = rules["at_least_one"].as_array().unwrap();
    if !one_of.is_empty() && !one_of.iter().any(|name| object.contains_key(name.as_str().unwrap())) {
        wrong.push(format!("{path} needs one of {one_of:?}"));
    }
    for (name, value) in object {
        let path = format!("{path}.{name}");
        let Some(rule) = attributes.get(name) else {
            wrong.push(format!("{path} is no known attribute"));
            continue;
        };
        let rule = Attribute::read(rule.as_str().unwrap());
        if rule.profile.is_some_and(|profile| !profiles.contains(&profile)) {
            wrong.push(format!("{path} needs a profile"));
        }
        match (rule.list, value) {
            (true, Value::Array(items)) => {
                wrong.extend(items.iter().flat_map(|item| wrong_in_value(facts, &rule, &path, item, profiles)));
            }
            (true, _) => wrong.push(format!("{path} is a list")),
            (false, value) => wrong.extend(wrong_in_value(facts, &rule, &path, value, profiles)),
        }
        wrong.extend(wrong_caption(attributes, name, object, &path));
    }
    wrong
}

fn wrong_in_value(facts: &Value, rule: &Attribute<'_>, path: &str, value: &Value, profiles: &[&str]) -> Vec<String> {
    if !rule.values.is_empty() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if !rule.values.iter().any(|(id, _)| *id == text) {
            return vec![format!("{path} can't be {value}")];
        }
    }
    let right = match rule.kind {
        "string_t" | "hostname_t" | "url_t" | "username_t" | "process_name_t" | "file_name_t" | "file_path_t" => {
            value.is_string()
        }
        "integer_t" => value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
        "long_t" | "timestamp_t" => value.is_i64() || value.is_u64(),
        "boolean_t" => value.is_boolean(),
        "port_t" => value.as_u64().is_some_and(|port| port <= 65_535),
        "ip_t" => value.as_str().is_some_and(|text| text.parse::<IpAddr>().is_ok()),
        "object" => value.is_object(),
        object => {
            let Some(fields) = value.as_object() else { return vec![format!("{path} is an object")] };
            return wrong_in_object(facts, &facts["objects"][object], path, fields, profiles);
        }
    };
    if right { Vec::new() } else { vec![format!("{path} is a {}, not {value}", rule.kind)] }
}

/// `activity_name` beside `activity_id` and the like: the caption of the value, unless that is 99.
fn wrong_caption(
    attributes: &Map<String, Value>,
    name: &str,
    object: &Map<String, Value>,
    path: &str,
) -> Option<String> {
    let base = name.strip_suffix("_id")?;
    let rule = Attribute::read(attributes[name].as_str()?);
    let id = object[name].to_string();
    let caption = rule.values.iter().find(|(own, _)| *own == id).map(|(_, caption)| *caption)?;
    let sibling = object.get(base).or_else(|| object.get(&format!("{base}_name")))?.as_str()?;
    (id != "99" && sibling != caption).then(|| format!("{path} {id} is {caption:?}, not {sibling:?}"))
}

fn wrong(event: &Value) -> Vec<String> {
    let facts = facts();
    let class_uid = event["class_uid"].as_u64().unwrap();
    let class = &facts["classes"][class_uid.to_string()];
    if class.is_null() {
        return vec![format!("class {class_uid}")];
    }
    let profiles: Vec<&str> =
        event["metadata"]["profiles"].as_array().unwrap().iter().map(|profile| profile.as_str().unwrap()).collect();
    let mut wrong = wrong_in_object(&facts, class, "event", event.as_object().unwrap(), &profiles);
    let same = [
        (&event["class_name"], &class["name"]),
        (&event["category_uid"], &class["category"]),
        (&event["category_name"], &class["category_name"]),
        (&event["metadata"]["version"], &facts["version"]),
    ];
    wrong.extend(same.into_iter().filter(|(is, must)| is != must).map(|(is, must)| format!("{is} must be {must}")));
    if event["type_uid"].as_u64() != event["activity_id"].as_u64().map(|activity| class_uid * 100 + activity) {
        wrong.push("type_uid".into());
    }
    wrong
}

#[test]
fn every_kind_of_event_is_valid_ocsf() {
    for event in one_of_each() {
        let exported = exported(event);
        assert_eq!(wrong(&exported), Vec::<String>::new(), "{exported:#}");
    }
}

proptest! {
    #[test]
    fn any_event_is_valid_ocsf(event in any_event()) {
        let exported = exported(event);
        let wrong = wrong(&exported);
        prop_assert!(wrong.is_empty(), "{wrong:?} {exported:#}");
    }
}

#[test]
fn events_have_the_classes_and_activities_that_were_chosen() {
    let verdict = |verdict: &str| {
        let mut flow = flow();
        flow.verdict = verdict.into();
        Event::FlowDecided(Box::new(flow))
    };
    let ended_by = |by| {
        let mut flow = ended();
        flow.ended_by = by;
        Event::FlowEnded(Box::new(flow))
    };
    let cases = [
        (verdict("allowed"), 400_101, 1),
        (verdict("denied"), 400_105, 2),
        (verdict("asked"), 400_199, 99),
        (verdict("error"), 400_104, 2),
        (Event::FlowDecided(Box::new(http_flow())), 400_206, 1),
        (Event::DnsDecided(Box::new(dns())), 400_306, 1),
        (ended_by(audit_event::EndedBy::Finished), 400_102, 1),
        (ended_by(audit_event::EndedBy::Policy), 400_103, 2),
        (ended_by(audit_event::EndedBy::Unreachable), 400_104, 1),
        (Event::CredentialUsed(credential()), 300_499, 1),
        (Event::ApprovalAnswered { flow: 1, answer: "expired".into(), by: None }, 300_499, 2),
    ];
    for (event, type_uid, action) in cases {
        let exported = exported(event);
        assert_eq!((&exported["type_uid"], &exported["action_id"]), (&type_uid.into(), &action.into()), "{exported:#}");
    }
    let failed = exported(Event::SandboxEnded(sandbox(Some(3))));
    assert_eq!((&failed["type_uid"], &failed["status_code"]), (&600_204.into(), &"3".into()));
}

#[test]
fn a_newer_event_is_a_base_event() {
    let line = format!(
        r#"{{"seq":1,"time":"2026-11-21T09:00:00Z","event":"tool.decided","sandbox":"s","tool":"ls","prev":"{0}","hash":"{0}"}}"#,
        "0".repeat(64)
    );
    let exported = to_ocsf(&parse(&line).unwrap(), "0.1.0");
    assert_eq!(wrong(&exported), Vec::<String>::new());
    assert_eq!(exported["unmapped"]["tool"], "ls");
}

#[test]
fn an_http_request_is_exported() {
    insta::assert_json_snapshot!("http_request", exported(Event::FlowDecided(Box::new(http_flow()))));
}

/// The test must be able to fail.
#[test]
fn what_is_wrong_is_found() {
    let good = exported(Event::FlowDecided(Box::new(flow())));
    let broken: [(&str, Value); 7] = [
        ("/time", Value::Null),
        ("/activity_id", 42.into()),
        ("/activity_name", "Closed".into()),
        ("/metadata/version", "1.7.0".into()),
        ("/dst_endpoint/ip", "somewhere".into()),
        ("/connection_info/direction_id", "2".into()),
        ("/type_uid", 1.into()),
    ];
    for (pointer, value) in broken {
        let mut event = good.clone();
        *event.pointer_mut(pointer).unwrap() = value;
        assert!(!wrong(&event).is_empty(), "{pointer}");
    }
    let mut event = good;
    event.as_object_mut().unwrap().insert("colour".into(), "red".into());
    assert!(!wrong(&event).is_empty());
}
