//! What is proposed parses, compiles, and allows exactly what was seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use audit_event::{
    Destination as To, DnsDecided, Event, FlowDecided, HttpRequest, Process, TlsSeen, Transfer, WouldRecord,
};
use jiff::{Timestamp, ToSpan};
use policy::{CompiledPolicy, HostName, NameAnswer, OwnAddresses, QueryType, Verdict, model::Lists};
use proptest::prelude::*;
use values::{Labels, Revision};

use super::{Learned, learn};
use crate::{Destination, facts_from, parse};

/// A flow as it would be recorded.
pub(crate) fn flow(name: Option<&str>, address: Option<&str>, port: u16, verdict: &str, rule: &str) -> FlowDecided {
    let address: Option<IpAddr> = address.map(|address| address.parse().expect("an address"));
    FlowDecided {
        flow: 1,
        revision: "1".to_owned(),
        verdict: verdict.to_owned(),
        enforcement: "enforce".to_owned(),
        rule: rule.to_owned(),
        layer: "ip".to_owned(),
        reason: String::new(),
        would: Vec::new(),
        process: Some(Process { pid: 7, exe: "/usr/bin/curl".to_owned(), digest: None, args: String::new() }),
        destination: To {
            name: name.map(str::to_owned),
            name_from: name.map(|_| "sni".to_owned()),
            address,
            original_address: address,
            port,
        },
        protocol: "tcp".to_owned(),
        route: None,
        tls: TlsSeen { mode: "none".to_owned(), sni: None, alpn: None, ech: None },
        http: None,
        credential: None,
        bytes: Transfer::default(),
        duration_us: 1,
        error: None,
    }
}

/// A request as it would be recorded where the policy looked at it: inside TLS, or plain.
pub(crate) fn request(
    name: &str,
    (inside, method, path): (bool, &str, &str),
    verdict: &str,
    rule: &str,
) -> FlowDecided {
    let mut event = flow(Some(name), Some("198.51.100.4"), if inside { 443 } else { 80 }, verdict, rule);
    event.tls.mode = if inside { "inspect" } else { "none" }.to_owned();
    event.http = Some(HttpRequest {
        method: method.to_owned(),
        host: Some(name.to_owned()),
        path: path.to_owned(),
        judged: true,
    });
    event
}

/// A question as it would be recorded.
pub(crate) fn question(name: &str, record_type: &str, verdict: &str, rule: &str) -> DnsDecided {
    DnsDecided {
        revision: "1".to_owned(),
        verdict: verdict.to_owned(),
        enforcement: "enforce".to_owned(),
        rule: rule.to_owned(),
        reason: String::new(),
        would: Vec::new(),
        process: None,
        name: name.to_owned(),
        record_type: record_type.to_owned(),
        answers: Vec::new(),
        response: "NXDOMAIN".to_owned(),
        route: None,
        duration_us: 1,
        error: None,
    }
}

pub(crate) fn of_flow(flow: FlowDecided) -> Event {
    Event::FlowDecided(Box::new(flow))
}

pub(crate) fn of_question(question: DnsDecided) -> Event {
    Event::DnsDecided(Box::new(question))
}

fn start() -> Timestamp {
    "2026-11-21T09:00:00Z".parse().expect("a time")
}

fn learned(events: &[Event]) -> Learned {
    let at = |index: usize| start() + i64::try_from(index).expect("few").seconds();
    learn(events.iter().enumerate().map(|(index, event)| (at(index), event)))
}

fn compiled(text: &str) -> CompiledPolicy {
    let file =
        parse("learned.yaml", text.as_bytes()).unwrap_or_else(|found| panic!("{text}\n{}", found.render(text, false)));
    CompiledPolicy::compile(file.spec, Lists::default(), OwnAddresses::default(), Revision(1))
        .unwrap_or_else(|errors| panic!("{text}\n{errors:?}"))
}

/// Each test of a proposal passes.
fn pass_tests(text: &str) {
    let file = parse("learned.yaml", text.as_bytes()).expect("parsed");
    let policy = compiled(text);
    for outcome in crate::run_tests(&policy, &file.tests, start()) {
        assert!(outcome.passed, "{outcome:?}\n{text}");
    }
    assert!(!file.tests.is_empty() || text.contains("192.0.2.1/32"), "{text}");
}

fn verdict(policy: &CompiledPolicy, to: &str, address: Option<IpAddr>) -> Verdict {
    verdict_of(policy, to, None, address)
}

fn verdict_of(policy: &CompiledPolicy, to: &str, method: Option<&str>, address: Option<IpAddr>) -> Verdict {
    let to = Destination::parse(to).expect("a destination");
    let flow = facts_from(policy, &to, &Labels::default(), method, None, address, start());
    flow.decide(policy).expect("decided").verdict
}

#[test]
fn a_run_becomes_a_policy_to_review() {
    let mut watched = flow(Some("cdn.example.com"), Some("198.51.100.4"), 443, "allowed", "mode-default");
    watched.would = ["deny-new", "mode-default"]
        .map(|rule| WouldRecord { rule: rule.to_owned(), verdict: "would-deny".to_owned() })
        .to_vec();
    let mut plain = flow(Some("deb.example.org"), Some("198.51.100.5"), 80, "allowed", "mode-default");
    plain.http = Some(HttpRequest { method: "GET".to_owned(), host: None, path: "/".to_owned(), judged: false });
    let mut evil = flow(Some("api.example.com"), None, 443, "denied", "mode-default");
    evil.process = Some(Process {
        pid: 9,
        exe: "/tmp/x\n    - name: hole\u{1b}[2J".to_owned(),
        digest: None,
        args: String::new(),
    });
    let mut icmp = flow(None, Some("192.0.2.9"), 0, "denied", "mode-default");
    icmp.protocol = "icmp".to_owned();
    let mut udp = flow(None, Some("192.0.2.9"), 123, "denied", "mode-default");
    udp.protocol = "udp".to_owned();
    let mut kept_back = question("wiki.corp.example", "A", "denied", "guard:private");
    kept_back.reason = "10.0.0.9: destination is a private address".to_owned();
    let events = [
        of_question(question("api.example.com", "A", "denied", "mode-default")),
        of_flow(flow(Some("api.example.com"), None, 443, "denied", "mode-default")),
        of_flow(evil),
        of_flow(watched),
        of_flow(flow(Some("a.example.com"), Some("198.51.100.4"), 443, "allowed", "old-rule")),
        of_flow(flow(Some("b.example.com"), Some("198.51.100.4"), 443, "allowed", "old-rule")),
        of_flow(plain),
        of_flow(flow(Some("db.internal"), Some("10.0.0.8"), 5432, "denied", "guard:private")),
        of_flow(flow(None, Some("169.254.169.254"), 80, "denied", "guard:metadata")),
        of_flow(flow(None, Some("203.0.113.7"), 22, "denied", "mode-default")),
        of_flow(flow(Some("bad.example"), None, 443, "denied", "deny-threat-intel")),
        of_flow(flow(Some("slow.example"), None, 443, "error", "mode-default")),
        of_flow(flow(Some("asked.example"), None, 443, "asked", "ask-web")),
        of_flow(icmp),
        of_flow(udp),
        of_question(question("only.looked.example", "AAAA", "denied", "mode-default")),
        of_question(question("api.example.com", "TXT", "denied", "mode-default")),
        of_question(question("idle.example", "A", "allowed", "old-rule")),
        of_question(question("metadata.google.internal", "A", "denied", "guard:metadata")),
        of_question(question("a.example", "TYPE64", "denied", "mode-default")),
        of_question(kept_back),
    ];
    let proposal = learned(&events);
    insta::assert_snapshot!(proposal.text);
    assert_eq!(proposal, learned(&events), "the same for the same events");
    pass_tests(&proposal.text);
    let policy = compiled(&proposal.text);
    for (to, address, expected) in [
        ("api.example.com:443", None, Verdict::Allowed),
        ("api.example.com:80", None, Verdict::Denied),
        ("x.example.com:443", None, Verdict::Denied),
        ("db.internal:5432", Some("10.0.0.8"), Verdict::Allowed),
        ("db.internal:5432", Some("10.0.0.9"), Verdict::Denied),
        ("169.254.169.254:80", None, Verdict::Denied),
        ("bad.example:443", None, Verdict::Denied),
        ("203.0.113.7:22", None, Verdict::Allowed),
        ("udp://192.0.2.9:123", None, Verdict::Allowed),
        ("icmp://192.0.2.9", None, Verdict::Allowed),
        ("only.looked.example:443", None, Verdict::Allowed),
        ("wiki.corp.example:443", Some("10.0.0.9"), Verdict::Allowed),
    ] {
        assert_eq!(verdict(&policy, to, address.and_then(|ip| ip.parse().ok())), expected, "{to}");
    }
    let source = policy.source(&Labels::default());
    let answer =
        |name: &str, kind| policy.judge_name(&source, &HostName::parse(name).expect("a name"), kind, start()).answer;
    assert_eq!(answer("api.example.com", QueryType::Txt), NameAnswer::Resolve);
    assert_eq!(answer("a.example.com", QueryType::Txt), NameAnswer::Refuse);
    assert_eq!(answer("db.internal", QueryType::A), NameAnswer::Resolve);
    assert_eq!(answer("idle.example", QueryType::A), NameAnswer::Refuse);
}

#[test]
fn what_was_refused_and_allowed_is_no_test() {
    let twice = [
        of_flow(flow(Some("twice.example"), Some("198.51.100.4"), 443, "denied", "no-posts")),
        of_flow(flow(Some("twice.example"), Some("198.51.100.4"), 443, "allowed", "reads")),
        of_flow(flow(Some("never.example"), Some("198.51.100.5"), 443, "denied", "no-posts")),
        of_flow(flow(None, Some("fe80::1"), 80, "denied", "guard:link-local")),
    ];
    let proposal = learned(&twice);
    pass_tests(&proposal.text);
    let denied: Vec<&str> = proposal.text.lines().filter(|line| line.contains("expect: denied")).collect();
    assert_eq!(
        denied,
        [
            r#"    - { to: "[fe80::1]:80", expect: denied }"#,
            r#"    - { to: "never.example:443", expect: denied }"#,
            r#"    - { to: "not-in-the-record.invalid:443", expect: denied, rule: mode-default }"#,
        ]
    );
}

#[test]
fn nothing_seen_allows_nothing() {
    let proposal = learned(&[]);
    assert_eq!((proposal.rules, proposal.not_proposed), (0, 0));
    assert_eq!(verdict(&compiled(&proposal.text), "a.example:443", None), Verdict::Denied);
}

#[test]
fn requests_that_were_looked_at_are_proposed_alone() {
    let mut carried = request("api.example.com", (true, "POST", "/v1/incidents"), "allowed", "pager");
    carried.credential = Some("pagerduty".to_owned());
    let mut unread = request("pinned.example.org", (true, "GET", "/"), "denied", "mode-default");
    unread.http = None;
    let events = [
        request("api.example.com", (true, "GET", "/v1/%75sers/../teams"), "allowed", "reads"),
        request("api.example.com", (true, "HEAD", "/v1/teams"), "allowed", "reads"),
        request("api.example.com", (true, "DELETE", "/v1/teams"), "denied", "no-deletes"),
        request("api.example.com", (true, "PUT", "/v1/\"q\"%20%e2%80%ae"), "denied", "mode-default"),
        carried,
        request("deb.example.org", (false, "GET", "/dists/stable"), "allowed", "packages"),
        // None of these has a glob for itself alone.
        request("api.example.com", (true, "GET", "/v1/*"), "allowed", "reads"),
        request("api.example.com", (true, "GET", "/v1/a;b"), "allowed", "reads"),
        request("api.example.com", (true, "get", "/v1/teams"), "allowed", "reads"),
        unread,
        // The port was open to more than requests.
        request("raw.example.org", (false, "GET", "/seen"), "allowed", "reads"),
        flow(Some("raw.example.org"), Some("198.51.100.4"), 80, "allowed", "old-rule"),
        // It was not.
        request("web.example.org", (false, "GET", "/seen"), "allowed", "reads"),
        flow(Some("web.example.org"), Some("198.51.100.4"), 80, "denied", "mode-default"),
    ];
    let proposal = learned(&events.map(of_flow));
    insta::assert_snapshot!(proposal.text);
    pass_tests(&proposal.text);
    let policy = compiled(&proposal.text);
    for (to, method, expected) in [
        ("https://api.example.com/v1/teams", "GET", Verdict::Allowed),
        ("https://api.example.com/v1/teams?page=2", "HEAD", Verdict::Allowed),
        ("https://api.example.com/v1/teams", "DELETE", Verdict::Denied),
        ("https://api.example.com/v1/teams/", "GET", Verdict::Denied),
        ("https://api.example.com/v1/incidents", "GET", Verdict::Denied),
        ("https://api.example.com/v1/*", "GET", Verdict::Denied),
        ("https://api.example.com/v1/a;b", "GET", Verdict::Denied),
        ("http://api.example.com:443/v1/teams", "GET", Verdict::Denied),
        ("http://deb.example.org/dists/stable", "GET", Verdict::Allowed),
        ("http://deb.example.org/", "GET", Verdict::Denied),
        ("https://pinned.example.org/", "GET", Verdict::Denied),
        ("http://raw.example.org/other", "POST", Verdict::Allowed),
        ("http://web.example.org/other", "GET", Verdict::Denied),
    ] {
        assert_eq!(verdict_of(&policy, to, Some(method), None), expected, "{method} {to}");
    }
}

#[test]
fn many_requests_are_split_and_too_many_are_listed() {
    let path = |number: usize| format!("/items/{number:04}");
    let events: Vec<Event> = (0..600)
        .map(|number| of_flow(request("api.example.com", (true, "GET", &path(number)), "allowed", "r")))
        .collect();
    let proposal = learned(&events);
    assert_eq!((proposal.rules, proposal.not_proposed), (16, 88));
    assert!(proposal.text.contains("Some of 512 requests; \"/items/**\" would stand for"), "{}", proposal.text);
    assert!(proposal.text.contains("#   GET /items/0599 at api.example.com:443: once"), "{}", proposal.text);
    pass_tests(&proposal.text);
    let policy = compiled(&proposal.text);
    for (number, expected) in [(0, Verdict::Allowed), (511, Verdict::Allowed), (512, Verdict::Denied)] {
        let to = format!("https://api.example.com{}", path(number));
        assert_eq!(verdict_of(&policy, &to, Some("GET"), None), expected, "{number}");
    }
}

/// A destination that was seen, and whether the guard over private addresses denied it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Met {
    name: Option<String>,
    address: IpAddr,
    port: u16,
    /// The request, where the policy looked at it.
    asked: Option<Sent>,
    /// It was let through.
    passed: bool,
}

/// A request as it was sent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Sent {
    inside: bool,
    method: &'static str,
    path: String,
}

fn sent() -> impl Strategy<Value = Sent> {
    let method = prop::sample::select(vec!["GET", "HEAD", "POST", "PURGE", "NO", "!x", "get"]);
    let odd = prop::sample::select(vec![
        "/",
        "/a",
        "/a/",
        "/%61",
        "/a/./b/..",
        "/a%20b",
        "/a%22%27b",
        "/%e2%80%ae",
        "/a*b",
        "/**",
        "/a;b",
        "/a%2fb",
        "*",
        "/a%3fb",
        "/%23",
    ]);
    let path = prop_oneof![odd.prop_map(str::to_owned), "/n/[0-4][0-9]", "/[ -~]{0,6}"];
    (any::<bool>(), method, path).prop_map(|(inside, method, path)| Sent { inside, method, path })
}

fn met() -> impl Strategy<Value = Met> {
    let name = prop::option::of(prop::sample::select(vec![
        "a.example.com",
        "b.example.com",
        "c.example.org",
        "1.example",
        "on.example",
    ]));
    let address =
        prop::sample::select(vec!["192.0.2.1", "198.51.100.2", "10.0.0.8", "192.168.1.1", "2001:db8::7", "fd00::9"]);
    let port = prop_oneof![Just(22u16), Just(80), Just(443), Just(444), 1000u16..1200];
    let asked = prop::option::of(sent());
    (name, address, port, asked, any::<bool>()).prop_map(|(name, address, port, asked, passed)| {
        // Without a name nothing is opened, nor is anything at the port of plain HTTP.
        let asked = asked.map(|sent| Sent { inside: sent.inside && name.is_some() && port != 80, ..sent });
        // What is no path has no URL, and a query is not recorded.
        let asked = asked.filter(|sent| sent.path.starts_with('/') && !sent.path.contains(['?', '#']));
        let (name, address) = (name.map(str::to_owned), address.parse().expect("an address"));
        Met { name, address, port, asked, passed }
    })
}

impl Met {
    fn is_private(&self) -> bool {
        policy::address::special(self.address) == Some(policy::address::SpecialRange::Private)
    }

    /// What stands for it in a policy: private and unnamed ones their address, others their name.
    fn key(&self) -> (String, u16) {
        let by_name = self.name.clone().filter(|_| !self.is_private());
        (by_name.unwrap_or_else(|| self.address.to_string()), self.port)
    }

    fn event(&self) -> Event {
        let (verdict, rule) = match self.passed {
            true => ("allowed", "some-rule"),
            false if self.is_private() => ("denied", "guard:private"),
            false => ("denied", "mode-default"),
        };
        let mut event = flow(self.name.as_deref(), Some(&self.address.to_string()), self.port, verdict, rule);
        if let Some(sent) = &self.asked {
            event.tls.mode = if sent.inside { "inspect" } else { "none" }.to_owned();
            let (method, path) = (sent.method.to_owned(), sent.path.clone());
            event.http = Some(HttpRequest { method, host: None, path, judged: true });
        }
        of_flow(event)
    }

    /// What a rule can name of its request.
    fn named(&self) -> Option<Named> {
        let sent = self.asked.as_ref().filter(|sent| sent.method != "get" && sent.method != "!x")?;
        let path = policy::http_path::normalise(&sent.path).filter(|path| !path.contains('*'))?;
        Some((sent.inside, sent.method, path))
    }

    fn judged(&self, policy: &CompiledPolicy) -> Verdict {
        let host = self.name.clone().unwrap_or_else(|| match self.address {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => format!("[{v6}]"),
        });
        let (to, method) = match &self.asked {
            Some(sent) => {
                let scheme = if sent.inside { "https" } else { "http" };
                (format!("{scheme}://{host}:{}{}", self.port, sent.path), Some(sent.method))
            }
            None => (format!("{host}:{}", self.port), None),
        };
        verdict_of(policy, &to, method, Some(self.address))
    }
}

/// How a request was sent, its method and its path.
type Named = (bool, &'static str, String);

/// What is to be allowed.
#[derive(Debug, Default)]
struct Expected {
    /// Whatever is sent there, and whether any of it was let through.
    whole: BTreeMap<(String, u16), bool>,
    requests: BTreeMap<(String, u16), BTreeSet<Named>>,
}

impl Expected {
    fn of(seen: &[Met]) -> Self {
        let mut expected = Self::default();
        for met in seen {
            match (&met.asked, met.named()) {
                (None, _) => *expected.whole.entry(met.key()).or_default() |= met.passed,
                (Some(_), Some(named)) => {
                    expected.requests.entry(met.key()).or_default().insert(named);
                }
                (Some(_), None) => {}
            }
        }
        expected
    }

    fn verdict(&self, met: &Met) -> Verdict {
        let requests = self.requests.get(&met.key());
        let whole = self.whole.get(&met.key()).is_some_and(|passed| *passed || requests.is_none());
        // Where nothing is said, a destination at these ports is the simplest of requests.
        let simplest = |inside| Some((inside, "GET", "/".to_owned()));
        let named = match (&met.asked, met.port) {
            (Some(_), _) => met.named(),
            (None, 80) => simplest(false),
            (None, 443) => simplest(true),
            (None, _) => None,
        };
        let asked = named.is_some_and(|named| requests.is_some_and(|requests| requests.contains(&named)));
        if whole || asked { Verdict::Allowed } else { Verdict::Denied }
    }
}

proptest! {
    // Each is a whole policy, judged some hundred times.
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_proposal_allows_exactly_what_was_seen(seen in prop::collection::vec(met(), 0..80), others in prop::collection::vec(met(), 30)) {
        let events: Vec<Event> = seen.iter().map(Met::event).collect();
        let proposal = learned(&events);
        pass_tests(&proposal.text);
        let policy = compiled(&proposal.text);
        let expected = Expected::of(&seen);
        for met in seen.iter().filter(|met| expected.verdict(met) == Verdict::Allowed) {
            prop_assert_eq!(met.judged(&policy), Verdict::Allowed, "{:?}\n{}", met, proposal.text);
        }
        let keys: BTreeSet<(String, u16)> = seen.iter().map(Met::key).collect();
        for other in others.iter().chain(&seen) {
            // By address alone a rule does not ask for the name, and a private one opens the names that were seen.
            let by_address = Met { name: None, ..other.clone() };
            if other.name.is_some() && keys.contains(&by_address.key()) {
                continue;
            }
            prop_assert_eq!(other.judged(&policy), expected.verdict(other), "{:?}\n{}", other, proposal.text);
        }
    }
}

proptest! {
    #[test]
    fn no_record_breaks_the_proposal(name in "\\PC{0,30}", exe in any::<String>(), rule in any::<String>(), verdict in "allowed|denied|asked|x", port in any::<u16>(), method in "[A-Z]{1,4}|\\PC{0,6}", path in "/?\\PC{0,12}", inside in any::<bool>()) {
        let mut record = flow(Some(&name), None, port, &verdict, &rule);
        record.process = Some(Process { pid: 1, exe, digest: None, args: String::new() });
        let mut sent = record.clone();
        sent.tls.mode = if inside && port != 80 { "inspect" } else { "none" }.to_owned();
        sent.http = Some(HttpRequest { method, host: None, path, judged: true });
        let mut asked = question(&name, "TXT", &verdict, &rule);
        asked.reason = rule;
        let proposal = learned(&[of_flow(sent), of_question(asked.clone())]);
        prop_assert!(parse("learned.yaml", proposal.text.as_bytes()).is_ok(), "{}", proposal.text);
        pass_tests(&proposal.text);
        let proposal = learned(&[of_flow(record), of_question(asked)]);
        prop_assert!(parse("learned.yaml", proposal.text.as_bytes()).is_ok(), "{}", proposal.text);
        pass_tests(&proposal.text);
    }
}
