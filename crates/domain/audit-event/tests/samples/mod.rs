//! Events for tests: a fixed one of each kind, and any.

use audit_event::{
    Chain, CredentialUsed, Destination, DnsDecided, EndedBy, Event, FlowDecided, FlowEnded, HttpRequest, PolicyApplied,
    PolicyRefused, Position, Process, RunContext, SaltKey, SandboxChanged, TlsSeen, Transfer, WouldRecord,
};
use jiff::Timestamp;
use proptest::{
    collection::vec,
    option,
    prelude::{Just, Strategy, any, prop_oneof},
    sample::select,
};

pub fn context() -> RunContext {
    RunContext { sandbox: "run-7f3a".into(), thread: None, tool_call: None }
}

pub fn time() -> Timestamp {
    "2026-11-21T09:00:00.123456789Z".parse().unwrap()
}

pub fn chain() -> Chain {
    Chain::new(&context(), Position::START, SaltKey::from_random([7; 32]))
}

/// The lines of a chain of these events.
pub fn lines(events: &[Event]) -> String {
    let mut chain = chain();
    let mut out = Vec::new();
    for event in events {
        chain.append(event, time(), &mut out).unwrap();
    }
    String::from_utf8(out).unwrap()
}

pub fn process() -> Process {
    Process { pid: 4711, exe: "/usr/bin/curl".into(), digest: None, args: "curl -s http://db.internal/".into() }
}

pub fn destination() -> Destination {
    Destination {
        name: Some("db.internal".into()),
        name_from: Some("dns-binding".into()),
        address: Some("10.0.0.8".parse().unwrap()),
        original_address: Some("10.0.0.8".parse().unwrap()),
        port: 80,
    }
}

/// The example of spec/egress.md, section 11.
pub fn flow() -> FlowDecided {
    FlowDecided {
        flow: 9,
        revision: "3".into(),
        verdict: "denied".into(),
        enforcement: "enforce".into(),
        rule: "deny-east-west".into(),
        layer: "ip".into(),
        reason: "destination in group private".into(),
        would: vec![WouldRecord { rule: "deny-new-domains".into(), verdict: "would-deny".into() }],
        process: Some(process()),
        destination: destination(),
        protocol: "tcp".into(),
        route: None,
        tls: TlsSeen { mode: "none".into(), sni: None, alpn: None, ech: None },
        http: None,
        credential: None,
        bytes: Transfer::default(),
        duration_us: 87,
        error: None,
    }
}

pub fn http_flow() -> FlowDecided {
    FlowDecided {
        verdict: "allowed".into(),
        rule: "allow-tools".into(),
        layer: "http".into(),
        reason: "host api.example.com".into(),
        would: Vec::new(),
        destination: Destination {
            name: Some("api.example.com".into()),
            name_from: Some("http-host".into()),
            address: Some("2001:db8::7".parse().unwrap()),
            original_address: None,
            port: 8080,
        },
        http: Some(HttpRequest {
            method: "POST".into(),
            host: Some("api.example.com".into()),
            path: "/v1/users/jo".into(),
            judged: true,
        }),
        route: Some("corp".into()),
        ..flow()
    }
}

pub fn ended() -> FlowEnded {
    FlowEnded {
        flow: 9,
        revision: "3".into(),
        ended_revision: Some("4".into()),
        rule: "deny-east-west".into(),
        ended_by: EndedBy::Policy,
        process: Some(process()),
        destination: destination(),
        protocol: "tcp".into(),
        bytes: Transfer { sent: 120, received: 4096 },
        duration_us: 1_234_567,
        error: None,
    }
}

pub fn dns() -> DnsDecided {
    DnsDecided {
        revision: "3".into(),
        verdict: "allowed".into(),
        enforcement: "enforce".into(),
        rule: "allow-tools".into(),
        reason: "host api.example.com".into(),
        would: Vec::new(),
        process: Some(process()),
        name: "api.example.com.".into(),
        record_type: "A".into(),
        answers: vec!["192.0.2.7".parse().unwrap(), "192.0.2.8".parse().unwrap()],
        response: "NOERROR".into(),
        route: None,
        duration_us: 900,
        error: None,
    }
}

pub fn sandbox(exit_code: Option<i32>) -> SandboxChanged {
    SandboxChanged {
        command: "python3 agent.py".into(),
        exit_code,
        enforced: vec!["user-namespace".into(), "landlock".into()],
        missing: vec!["cgroup-memory".into()],
        opened: vec!["~/.config/gh:ro".into()],
        findings: exit_code
            .map(|_| "/w/.git/hooks/pre-commit is a hook that git would run".into())
            .into_iter()
            .collect(),
    }
}

pub fn credential() -> CredentialUsed {
    CredentialUsed {
        flow: 9,
        revision: "3".into(),
        credential: "pagerduty".into(),
        host: "api.example.com".into(),
        attach: "header".into(),
        token: "9f86d081884c7d65".into(),
    }
}

/// One event of each kind.
pub fn one_of_each() -> Vec<Event> {
    vec![
        Event::SandboxStarted(sandbox(None)),
        Event::PolicyApplied(PolicyApplied {
            revision: "3".into(),
            name: "production".into(),
            digest: "ab".repeat(32),
            rejudged: 12,
            cut: 1,
        }),
        Event::PolicyRefused(PolicyRefused { revision: "3".into(), reason: "line 4: unknown field".into() }),
        Event::DnsDecided(Box::new(dns())),
        Event::FlowDecided(Box::new(flow())),
        Event::FlowDecided(Box::new(http_flow())),
        Event::ApprovalAnswered { flow: 9, answer: "once".into(), by: Some("jo".into()) },
        Event::CredentialUsed(credential()),
        Event::FlowEnded(Box::new(ended())),
        Event::AuditRecovered { file: "events.jsonl.torn".into(), bytes: 17 },
        Event::AuditCheckpoint { file: "events.jsonl.000001".into(), events: 10 },
        Event::SandboxEnded(sandbox(Some(3))),
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[a-z0-9./ -]{0,40}",
        2 => any::<String>(),
        1 => "[\\x00-\\x1f\"\\\\/\\x7f\u{80}-\u{9f}\u{2028}\u{1f600}]{0,12}",
    ]
}

fn any_destination() -> impl Strategy<Value = Destination> {
    (
        option::of(text()),
        option::of(text()),
        any::<Option<std::net::IpAddr>>(),
        any::<Option<std::net::IpAddr>>(),
        any::<u16>(),
    )
        .prop_map(|(name, name_from, address, original_address, port)| Destination {
            name,
            name_from,
            address,
            original_address,
            port,
        })
}

fn any_process() -> impl Strategy<Value = Option<Process>> {
    option::of((0..=4_194_304_u32, text(), option::of(text()), text()).prop_map(|(pid, exe, digest, args)| Process {
        pid,
        exe,
        digest,
        args,
    }))
}

fn any_flow() -> impl Strategy<Value = Event> {
    let would = vec((text(), text()).prop_map(|(rule, verdict)| WouldRecord { rule, verdict }), 0..4);
    let http = option::of(
        (text(), option::of(text()), text(), any::<bool>()).prop_map(|(method, host, path, judged)| HttpRequest {
            method,
            host,
            path,
            judged,
        }),
    );
    let tls = (option::of(text()), option::of(text()));
    (any::<[u64; 4]>(), text(), text(), would, any_process(), any_destination(), http, tls, option::of(text()))
        .prop_map(|(numbers, reason, rule, would, process, destination, http, (sni, alpn), error)| {
            let tls = TlsSeen { mode: "passthrough".into(), sni, alpn, ech: None };
            let bytes = Transfer { sent: numbers[1], received: numbers[2] };
            Event::FlowDecided(Box::new(FlowDecided {
                flow: numbers[0],
                rule,
                reason,
                would,
                process,
                destination,
                http,
                tls,
                bytes,
                duration_us: numbers[3],
                error,
                ..flow()
            }))
        })
}

pub fn any_event() -> impl Strategy<Value = Event> {
    let by = select(vec![EndedBy::Client, EndedBy::Finished, EndedBy::Unreachable]);
    prop_oneof![
        3 => any_flow(),
        1 => (any_process(), any_destination(), any::<[u64; 2]>(), by).prop_map(|(process, destination, n, ended_by)| {
            Event::FlowEnded(Box::new(FlowEnded { process, destination, flow: n[0], duration_us: n[1], ended_by, ..ended() }))
        }),
        1 => (text(), any_process(), vec(any::<std::net::IpAddr>(), 0..5), option::of(text())).prop_map(|(name, process, answers, error)| {
            Event::DnsDecided(Box::new(DnsDecided { name, process, answers, error, ..dns() }))
        }),
        1 => (text(), any::<Option<i32>>(), vec(text(), 0..3)).prop_map(|(command, exit_code, enforced)| {
            Event::SandboxEnded(SandboxChanged { command, exit_code, enforced, ..sandbox(None) })
        }),
        1 => (any::<u64>(), text(), option::of(text())).prop_map(|(flow, answer, by)| Event::ApprovalAnswered { flow, answer, by }),
        1 => (text(), text()).prop_map(|(credential, host)| {
            Event::CredentialUsed(CredentialUsed { credential, host, ..self::credential() })
        }),
        1 => select(one_of_each()),
        1 => Just(Event::AuditCheckpoint { file: "f".into(), events: u64::MAX }),
    ]
}
