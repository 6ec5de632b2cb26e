//! What changes, and what does not.

use jiff::Timestamp;
use policy::{CompiledPolicy, OwnAddresses, model::Lists};
use values::{Labels, Revision};

use super::{Outcome, Replay, replay};
use crate::{
    learn::tests::{flow, of_flow, of_question, question},
    parse,
};

fn replayed(spec: &str, events: &[audit_event::Event]) -> Replay {
    let text = format!("apiVersion: cofferdam/v1\nkind: EgressPolicy\nspec:\n{spec}");
    let file = parse("p", text.as_bytes()).unwrap_or_else(|found| panic!("{}", found.render(&text, false)));
    let policy =
        CompiledPolicy::compile(file.spec, Lists::default(), OwnAddresses::default(), Revision(2)).expect("compiles");
    let now: Timestamp = "2026-11-21T09:00:00Z".parse().expect("a time");
    replay(&policy, &Labels::default(), now, events)
}

/// `allowed old -> denied new ×2`
fn told(replay: &Replay) -> Vec<String> {
    let told = |change: &super::Change| {
        let (from, to) = (&change.from, &change.to);
        format!("{} {} -> {} {} ×{}", from.outcome, from.rule, to.outcome, to.rule, change.count)
    };
    replay.changes.iter().map(told).collect()
}

#[test]
fn only_what_comes_out_differently_is_told() {
    let events = [
        of_flow(flow(Some("a.example"), Some("192.0.2.1"), 443, "allowed", "web")),
        of_flow(flow(Some("a.example"), Some("192.0.2.1"), 443, "allowed", "web")),
        of_flow(flow(Some("b.example"), None, 443, "denied", "mode-default")),
        of_flow(flow(Some("c.example"), None, 443, "denied", "mode-default")),
        of_flow(flow(None, Some("169.254.169.254"), 80, "denied", "guard:metadata")),
        of_flow(flow(Some("d.example"), None, 443, "denied", "guard:malformed")),
        of_flow(flow(Some("e.example"), None, 443, "error", "web")),
        of_flow(flow(Some("not a name"), None, 443, "denied", "mode-default")),
        of_question(question("b.example", "A", "denied", "mode-default")),
        of_question(question("b.example", "TXT", "denied", "mode-default")),
        of_question(question("localhost", "A", "allowed", "local:localhost")),
    ];
    let found = replayed("  mode: limited\n  allowedHosts: [b.example]\n", &events);
    assert_eq!(
        told(&found),
        [
            "allowed web -> denied mode-default ×2",
            "denied mode-default -> allowed allowed-hosts ×1",
            "denied mode-default -> allowed allowed-hosts ×1",
        ]
    );
    assert_eq!((found.judged, found.unchanged, found.passed_over), (7, 3, 4));
    assert_eq!(found.changes[0].example, "a.example:443 by /usr/bin/curl");
    assert_eq!(found.changes[0].destinations.get("a.example:443"), Some(&2));
    assert_eq!(found.changes.iter().filter(|change| change.dns).count(), 1);
}

#[test]
fn the_policy_that_decided_decides_the_same() {
    let spec = "  mode: limited\n  rules:\n    - { name: web, priority: 1, to: { hosts: [a.example] }, action: allow }\n    - { name: ask, priority: 2, to: { hosts: [b.example] }, action: ask }\n";
    let events = [
        of_flow(flow(Some("a.example"), Some("192.0.2.1"), 443, "allowed", "web")),
        of_flow(flow(Some("b.example"), Some("192.0.2.1"), 443, "allowed", "ask")),
        of_flow(flow(Some("b.example"), None, 443, "denied", "ask")),
        of_flow(flow(None, Some("10.0.0.1"), 443, "denied", "guard:private")),
        of_question(question("a.example", "A", "allowed", "web")),
        of_question(question("b.example", "A", "asked", "ask")),
    ];
    let found = replayed(spec, &events);
    assert_eq!((told(&found), found.unchanged), (vec![], 6));
}

#[test]
fn what_the_record_does_not_hold_is_not_guessed() {
    let spec = "  mode: limited\n  rules:\n    - { name: curl, priority: 1, to: { hosts: [a.example] }, process: /usr/bin/curl, action: allow }\n    - { name: get, priority: 2, to: { hosts: [b.example] }, ports: [80], http: [{ methods: [GET] }], action: allow }\n";
    let spec = &format!(
        "{spec}    - {{ name: inside, priority: 3, to: {{ hosts: [c.example] }}, action: allow, http: [{{ methods: [GET] }}] }}\n"
    );
    let mut unseen = flow(Some("a.example"), Some("192.0.2.1"), 443, "allowed", "x");
    unseen.process = None;
    let passed = flow(Some("c.example"), Some("192.0.2.1"), 443, "allowed", "x");
    let events =
        [of_flow(unseen), of_flow(flow(Some("b.example"), Some("192.0.2.1"), 80, "allowed", "x")), of_flow(passed)];
    let found = replayed(spec, &events);
    assert!(found.changes.iter().all(|change| change.to.outcome == Outcome::Unknown), "{found:?}");
    assert_eq!(
        told(&found),
        ["allowed x -> unknown needs the request ×2", "allowed x -> unknown needs the process ×1"]
    );
}

#[test]
fn a_credential_that_comes_or_goes_is_told() {
    let request = |credential: Option<&str>| {
        let mut event = flow(Some("a.example"), Some("192.0.2.1"), 443, "allowed", "web");
        event.tls.mode = "inspect".to_owned();
        let (method, host, path) = ("GET".to_owned(), Some("a.example".to_owned()), "/".to_owned());
        event.http = Some(audit_event::HttpRequest { method, host, path, judged: true });
        event.credential = credential.map(str::to_owned);
        of_flow(event)
    };
    let spec = |rule: &str| {
        format!(
            "  credentials:\n    key: {{ from: {{ env: KEY }}, attach: bearer, bind: {{ hosts: [a.example] }} }}\n  rules:\n    - {{ name: web, priority: 1, to: {{ hosts: [a.example] }}, action: allow{rule} }}\n"
        )
    };
    let with = |replay: &Replay| -> Vec<String> {
        replay.changes.iter().map(|change| format!("{} -> {}", change.from, change.to)).collect()
    };
    let (bare, carried) = (spec(", tls: inspect"), spec(", credential: key"));
    assert!(replayed(&carried, &[request(Some("key"))]).changes.is_empty());
    assert_eq!(with(&replayed(&bare, &[request(Some("key"))])), ["web with credential key -> web"]);
    assert_eq!(with(&replayed(&carried, &[request(None)])), ["web -> web with credential key"]);
}
