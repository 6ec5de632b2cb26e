//! "Always" allows what was asked and nothing else.

use std::net::IpAddr;

use jiff::Timestamp;
use policy::{
    CompiledPolicy, Decision, Fact, Facts, HostName, HttpFacts, NameSource, NamedHost, OwnAddresses, ProcessFacts,
    Protocol, Step, Target, TlsFacts, Verdict, model::Lists,
};
use proptest::prelude::*;
use values::{Labels, Revision, RuleName};

use super::{Asked, NotFaithful};
use crate::{NewRule, append_rule, parse};

const FRONT: &str = "apiVersion: cofferdam/v1\nkind: EgressPolicy\nspec:\n  credentials:\n    token: { from: { env: TOKEN }, attach: bearer, bind: { hosts: [a.example], methods: [POST, PUT] } }\n  rules:\n";

/// What one flow looks like.
#[derive(Debug, Clone, PartialEq)]
struct Wire {
    host: &'static str,
    address: IpAddr,
    port: u16,
    tls: bool,
    method: &'static str,
    path: &'static str,
    process: &'static str,
}

fn wire(host: &'static str, port: u16, tls: bool, method: &'static str, path: &'static str) -> Wire {
    Wire { host, address: [192, 0, 2, 7].into(), port, tls, method, path, process: "/bin/curl" }
}

fn compiled(text: &str) -> CompiledPolicy {
    let file = parse("p", text.as_bytes()).unwrap_or_else(|found| panic!("{text}\n{}", found.render(text, false)));
    CompiledPolicy::compile((*file.spec).clone(), Lists::default(), OwnAddresses::default(), Revision(1)).expect(text)
}

/// Judges as a gateway does; and the request, where the decision wanted it.
fn judge(policy: &CompiledPolicy, flow: &Wire) -> (Decision, Option<HttpFacts>) {
    let source = policy.source(&Labels::default());
    let name = HostName::parse(flow.host).expect("a name");
    let name_source = if flow.tls { NameSource::Sni } else { NameSource::HttpHost };
    let mut facts = Facts {
        source: &source,
        protocol: Protocol::Tcp,
        port: flow.port,
        original_address: None,
        address: Fact::Known(flow.address),
        name: Fact::Known(NamedHost { name, source: name_source }),
        tls: if flow.tls { Fact::Known(TlsFacts::default()) } else { Fact::Absent },
        http: Fact::Pending,
        process: Fact::Known(ProcessFacts { pid: 1, executable: flow.process.to_owned(), digest: None }),
        now: Timestamp::UNIX_EPOCH,
    };
    let request = HttpFacts {
        method: flow.method.to_owned(),
        path: policy::http_path::normalise(flow.path),
        query: None,
        headers: Vec::new(),
    };
    loop {
        match policy.judge(&facts) {
            Step::Decided(decision) => return (decision, facts.http.known().cloned()),
            Step::Needs(_) => facts.http = Fact::Known(request.clone()),
        }
    }
}

/// The text with the rule that "always" gives for an asked flow.
fn always(text: &str, flow: &Wire) -> Result<String, NotFaithful> {
    let (decision, request) = judge(&compiled(text), flow);
    assert_eq!(decision.verdict, Verdict::Asked, "{flow:?} {decision:?}");
    let file = parse("p", text.as_bytes()).expect("a policy");
    let asked = Asked {
        rule: &decision.rule,
        to: &Target::parse(flow.host).expect("a host"),
        address: Some(flow.address),
        port: flow.port,
        protocol: Protocol::Tcp,
        request: request.as_ref(),
        inside_tls: flow.tls,
    };
    let rule = NewRule::always(&file, &asked, None)?;
    Ok(append_rule(text, &rule).unwrap_or_else(|error| panic!("{text}\n{}\n{error}", rule.shown())))
}

const RULES: [&str; 9] = [
    "{ name: ask, priority: 9, to: { hosts: [a.example, b.example] }, ports: [443, 8443], action: ask, http: [{ methods: [POST, PUT] }] }",
    "{ name: ask, priority: 9, to: { hosts: [\"*.example\"] }, action: ask, http: [{ paths: [\"/api/**\"] }, { methods: [POST] }] }",
    "{ name: ask, priority: 9, to: { hosts: [a.example] }, ports: [443], action: ask, credential: token }",
    "{ name: ask, priority: 9, to: { urls: [\"https://a.example/api/**\"] }, action: ask }",
    "{ name: ask, priority: 9, to: { cidrs: [192.0.2.0/24] }, names: [\"*.example\"], ports: [443], action: ask, http: [{ methods: [POST] }] }",
    "{ name: ask, priority: 9, to: { hosts: [a.example] }, ports: [443], action: ask, tls: inspect, process: [/bin/curl], maxBody: 10 }",
    "{ name: ask, priority: 9, to: any, ports: [80, 443], action: ask, tls: passthrough }",
    "{ name: ask, priority: 9, to: any, ports: [80], action: ask, http: [{ methods: [POST] }] }",
    "{ name: ask, priority: 9, to: any, action: ask }\n    - { name: inspects, priority: 5, to: { hosts: [a.example] }, ports: [443], action: deny, http: [{ methods: [PATCH] }] }",
];

#[test]
fn the_rule_that_asked_is_narrowed() {
    let flow = wire("a.example", 443, true, "POST", "/api/x");
    for rule in &RULES[..6] {
        let new = always(&format!("{FRONT}    - {rule}\n"), &flow).expect("faithful");
        let file = parse("p", new.as_bytes()).expect("a policy");
        let added = file.written.spec.rules.iter().find(|rule| rule.name == "always-a.example").expect("added");
        assert!(!added.http.is_empty(), "{new}");
        for entry in &added.http {
            assert_eq!((&entry.methods[..], &entry.paths[..]), (&["POST".to_owned()][..], &["/api/x".to_owned()][..]));
        }
        let asking = file.written.spec.rules.iter().find(|rule| rule.name == "ask").expect("kept");
        assert_eq!(
            (&added.credential, &added.process, &added.max_body),
            (&asking.credential, &asking.process, &asking.max_body)
        );
        for other in [wire("a.example", 443, true, "DELETE", "/api/x"), wire("a.example", 443, true, "POST", "/api/y")]
        {
            assert_ne!(judge(&compiled(&new), &other).0.verdict, Verdict::Allowed, "{other:?}\n{new}");
        }
    }
}

#[test]
fn what_can_not_be_written_is_not_offered() {
    let text = format!("{FRONT}    - {}\n", RULES[0]);
    let flow = wire("a.example", 443, true, "POST", "/api/x");
    for path in ["/a/*", "/**", "/a%20b", "/%c3%bc"] {
        assert_eq!(always(&text, &Wire { path, ..flow.clone() }), Err(NotFaithful::Path), "{path}");
    }
    let preset = parse("p", text.as_bytes()).expect("a policy");
    let (other, to) = (RuleName::new("elsewhere").expect("a name"), Target::parse("a.example").expect("a host"));
    let asked = Asked {
        rule: &other,
        to: &to,
        address: None,
        port: 443,
        protocol: Protocol::Tcp,
        request: None,
        inside_tls: true,
    };
    assert_eq!(NewRule::always(&preset, &asked, None), Err(NotFaithful::NotWritten));
    let ask = RuleName::new("ask").expect("a name");
    assert_eq!(NewRule::always(&preset, &Asked { rule: &ask, ..asked }, None), Err(NotFaithful::NoRequest));
}

fn flows() -> impl Strategy<Value = Wire> {
    (
        prop::sample::select(vec!["a.example", "b.example", "other.test"]),
        prop::sample::select(vec![80u16, 443, 8443]),
        any::<bool>(),
        prop::sample::select(vec!["POST", "PUT", "GET", "DELETE", "PATCH"]),
        prop::sample::select(vec!["/api/x", "/api/x/", "/api/y", "/", "/a?q=/api/x", "/api/X"]),
        prop::sample::select(vec!["/bin/curl", "/bin/sh"]),
        prop::sample::select(vec![7u8, 8]),
    )
        .prop_map(|(host, port, tls, method, path, process, last)| Wire {
            process,
            address: [192, 0, 2, last].into(),
            ..wire(host, port, tls, method, path)
        })
}

proptest! {
    #[test]
    fn the_asked_flow_passes_and_no_other_changes(rule in prop::sample::select(RULES.to_vec()), flow in flows(), others in prop::collection::vec(flows(), 20)) {
        let text = format!("{FRONT}    - {rule}\n");
        let old = compiled(&text);
        let (before, request) = judge(&old, &flow);
        prop_assume!(before.verdict == Verdict::Asked);
        let Ok(new) = always(&text, &flow) else { return Ok(()) };
        let new_policy = compiled(&new);
        let (after, _) = judge(&new_policy, &flow);
        prop_assert_eq!((after.verdict, &after.credential), (Verdict::Allowed, &before.credential), "{}", new);
        for other in others {
            let same_request = request.is_none() || (other.method, policy::http_path::normalise(other.path)) == (flow.method, policy::http_path::normalise(flow.path));
            let (was, now) = (judge(&old, &other).0, judge(&new_policy, &other).0);
            // A rule by address says the same of every name there.
            let same_place = (other.host == flow.host || rule.contains("cidrs")) && other.port == flow.port;
            if !(same_place && same_request) {
                prop_assert_eq!((was.verdict, &was.rule, &was.credential), (now.verdict, &now.rule, &now.credential), "{:?}\n{}", other, new);
            }
        }
    }
}
