//! How destinations are read, and what their flows look like.

use policy::{CompiledPolicy, Fact, NameSource, OwnAddresses, Protocol, Verdict, model::Lists};
use proptest::prelude::*;
use values::{Labels, Revision};

use super::{Destination, Form, NEUTRAL_ADDRESS, facts_from};

#[test]
fn destinations_as_people_write_them() {
    let cases: [(&str, &str, u16, Protocol, Form); 12] = [
        ("api.example.com:443", "api.example.com", 443, Protocol::Tcp, Form::Tls),
        ("API.Example.com.:80", "api.example.com", 80, Protocol::Tcp, Form::Http),
        ("db.example:5432", "db.example", 5432, Protocol::Tcp, Form::Bytes),
        ("https://api.example.com/a?b#c", "api.example.com", 443, Protocol::Tcp, Form::Tls),
        ("https://api.example.com:8443", "api.example.com", 8443, Protocol::Tcp, Form::Tls),
        ("HTTP://api.example.com:8080/x", "api.example.com", 8080, Protocol::Tcp, Form::Http),
        ("tcp://api.example.com:443", "api.example.com", 443, Protocol::Tcp, Form::Tls),
        ("udp://192.0.2.7:53", "192.0.2.7", 53, Protocol::Udp, Form::Bytes),
        ("icmp://192.0.2.7", "192.0.2.7", 0, Protocol::Icmp, Form::Bytes),
        ("169.254.169.254:80", "169.254.169.254", 80, Protocol::Tcp, Form::Http),
        ("[2001:db8::1]:443", "[2001:db8::1]", 443, Protocol::Tcp, Form::Tls),
        ("[::ffff:10.0.0.8]:22", "10.0.0.8", 22, Protocol::Tcp, Form::Bytes),
    ];
    for (text, target, port, protocol, form) in cases {
        let to = Destination::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(
            (to.target.to_string().as_str(), to.port, to.protocol, to.form),
            (target, port, protocol, form),
            "{text}"
        );
    }
    for wrong in [
        "",
        "a.example",
        ":443",
        "a.example:",
        "a.example:0",
        "a.example:007",
        "a.example:65536",
        "a.example:https",
        "2001:db8::1",
        "::1",
        "0x7f.1:80",
        "2130706433:80",
        "127.1:80",
        "ftp://a.example/",
        "https://u:p@a.example/",
        "https://",
        "[fe80::1%eth0]:80",
        "[[::1]]:80",
        "udp://a.example",
        "http://a example/",
        "а.example:443\u{0}",
    ] {
        assert!(Destination::parse(wrong).is_err(), "{wrong:?}");
    }
}

fn policy(spec: &str) -> CompiledPolicy {
    let text = format!("apiVersion: cofferdam/v1\nkind: EgressPolicy\nspec:\n{spec}");
    let file = crate::parse("p", text.as_bytes()).unwrap_or_else(|found| panic!("{}", found.render(&text, false)));
    CompiledPolicy::compile(file.spec, Lists::default(), OwnAddresses::default(), Revision(1)).expect("compiles")
}

fn now() -> jiff::Timestamp {
    "2026-11-21T09:00:00Z".parse().expect("a time")
}

#[test]
fn a_flow_has_the_facts_that_the_wire_would_show() {
    let policy = policy("  mode: limited\n");
    let flow = |to: &str, method| {
        let to = Destination::parse(to).expect("a destination");
        facts_from(&policy, &to, &Labels::default(), method, None, None, now())
    };
    let tls = flow("https://a.example/secret?q=1#x", Some("POST"));
    let facts = tls.facts();
    assert_eq!(facts.name.known().map(|name| name.source), Some(NameSource::Sni));
    let inside = facts.http.known().cloned().expect("a request inside");
    assert_eq!((inside.method.as_str(), inside.path.as_deref()), ("POST", Some("/secret")));
    assert_eq!((inside.query.as_deref(), facts.address), (Some("q=1"), Fact::Known(NEUTRAL_ADDRESS)));
    let http = flow("http://a.example/a/../b", None);
    let request = http.facts().http.known().cloned().expect("a request");
    assert_eq!((request.method.as_str(), request.path.as_deref()), ("GET", Some("/b")));
    assert_eq!(
        flow("a.example:8080", Some("PUT")).facts().http.known().map(|r| r.method.clone()).as_deref(),
        Some("PUT")
    );
    assert_eq!(flow("a.example:8080", None).facts().http, Fact::Absent);
    // The gateway answers this name itself.
    let host = flow("http://host.cofferdam.internal:8080/", None);
    assert_eq!(host.facts().address.known().copied(), "127.0.0.1".parse().ok());
    let bare = flow("192.0.2.9:443", None);
    assert_eq!((bare.facts().name, bare.facts().address.known().copied()), (Fact::Absent, "192.0.2.9".parse().ok()));
}

#[test]
fn a_decision_is_the_one_of_the_wire() {
    let policy = policy(
        "  mode: limited\n  rules:\n    - { name: docs, priority: 1, to: { hosts: [a.example] }, ports: [80], http: [{ paths: [/docs/**] }], action: allow }\n    - { name: web, priority: 2, to: { hosts: [\"*.b.example\"] }, ports: [443], action: allow }\n    - { name: ask, priority: 3, to: { hosts: [c.example] }, action: ask }\n",
    );
    for (to, verdict, rule) in [
        ("http://a.example/docs/x", Verdict::Allowed, "docs"),
        ("http://a.example/docs/../x", Verdict::Denied, "mode-default"),
        ("https://a.example/docs/x", Verdict::Denied, "mode-default"),
        ("x.b.example:443", Verdict::Allowed, "web"),
        ("b.example:443", Verdict::Denied, "mode-default"),
        ("https://c.example/", Verdict::Asked, "ask"),
        ("169.254.169.254:80", Verdict::Denied, "guard:metadata"),
        ("192.0.2.1:443", Verdict::Denied, "mode-default"),
    ] {
        let flow = facts_from(&policy, &Destination::parse(to).expect(to), &Labels::default(), None, None, None, now());
        let decision = flow.decide(&policy).expect("decided");
        assert_eq!((decision.verdict, decision.rule.as_str()), (verdict, rule), "{to}: {}", decision.reason);
    }
}

#[test]
fn a_url_inside_tls_is_an_inspected_request_where_the_policy_looks() {
    let policy = policy(
        "  mode: limited\n  rules:\n    - { name: post, priority: 1, to: { hosts: [a.example] }, action: deny, http: [{ methods: [POST] }] }\n    - { name: docs, priority: 2, to: { urls: [\"https://a.example/docs/**\"] }, action: allow }\n    - { name: one, priority: 3, to: { hosts: [b.example] }, action: allow, http: [{ query: { page: one } }] }\n    - { name: seen, priority: 4, to: { hosts: [c.example] }, action: allow, enforcement: watch, http: [{ methods: [GET] }] }\n    - { name: through, priority: 5, to: { hosts: [c.example] }, action: allow }\n",
    );
    for (to, method, expected) in [
        ("https://a.example/docs/x", None, "allowed docs"),
        ("https://a.example/docs/x", Some("POST"), "denied post"),
        ("https://a.example/docs/../x", None, "denied mode-default"),
        ("https://a.example/docs%2fx", None, "denied mode-default"),
        ("http://a.example:443/docs/x", None, "denied mode-default"),
        ("a.example:443", Some("POST"), "denied post"),
        ("https://b.example/?page=one", None, "allowed one"),
        ("https://b.example/?page=%6fne", None, "allowed one"),
        ("https://b.example/?page=one&page=one", None, "denied mode-default"),
        ("https://b.example/", None, "denied mode-default"),
        ("http://b.example/?page=one", None, "allowed one"),
        // Nothing looks into this one: the watched rule never does.
        ("https://c.example/", None, "allowed through would seen"),
    ] {
        let to = Destination::parse(to).expect(to);
        let flow = facts_from(&policy, &to, &Labels::default(), method, None, None, now());
        let decision = flow.decide(&policy).expect("decided");
        let would: String = decision.would.iter().map(|would| format!(" would {}", would.rule)).collect();
        assert_eq!(format!("{} {}{would}", decision.verdict.as_str(), decision.rule), expected, "{to}");
        let explained = serde_json::to_value(flow.explain(&policy)).expect("JSON");
        assert_eq!(explained["rule"], decision.rule.as_str(), "{to}: {explained:#}");
    }
    let unseen = facts_from(
        &policy,
        &Destination::parse("c.example:443").expect("a destination"),
        &Labels::default(),
        None,
        None,
        None,
        now(),
    );
    let tried = unseen.explain(&policy).tried;
    let seen = tried.iter().find(|tried| tried.rule.as_str() == "seen").expect("tried");
    assert_eq!(seen.why, "only inspection of TLS would tell");
}

#[test]
fn a_name_is_judged_with_the_address_it_is_given() {
    let policy = policy("  mode: limited\n  allowedHosts: [a.example]\n");
    let to = Destination::parse("a.example:443").expect("a destination");
    let rule = |address: &str| {
        let flow = facts_from(&policy, &to, &Labels::default(), None, None, address.parse().ok(), now());
        flow.decide(&policy).expect("decided").rule.to_string()
    };
    assert_eq!(rule("198.51.100.7"), "allowed-hosts");
    assert_eq!(rule("169.254.169.254"), "guard:metadata");
    assert_eq!(rule("::ffff:127.0.0.1"), "guard:loopback");
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,60}") {
        if let Ok(to) = Destination::parse(&text) {
            prop_assert_eq!(Destination::parse(&to.to_string()), Ok(to));
        }
    }
}
