//! The flag grammar of `observe`, on one event of each kind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

#[allow(dead_code, reason = "each test file uses its part")]
mod samples;

use audit_event::{Condition, Entry, Filter, Flag, parse};
use jiff::Timestamp;
use samples::{lines, one_of_each, time};

/// The numbers of the sample events a filter lets through, in the words of the command line.
fn matching(words: &str) -> Vec<u64> {
    let mut filter = Filter::default();
    let mut negated = false;
    let mut words = words.split_whitespace();
    while let Some(word) = words.next() {
        if word == "--not" {
            negated = true;
            continue;
        }
        let flag = match word {
            "--verdict" => Flag::Verdict,
            "--host" => Flag::Host,
            "--ip" => Flag::Ip,
            "--port" => Flag::Port,
            "--protocol" => Flag::Protocol,
            "--process" => Flag::Process,
            "--rule" => Flag::Rule,
            "--type" => Flag::Type,
            "--http-method" => Flag::HttpMethod,
            "--http-path" => Flag::HttpPath,
            "--sandbox" => Flag::Sandbox,
            "--thread" => Flag::Thread,
            "--tool-call" => Flag::ToolCall,
            "--since" => Flag::Since,
            "--until" => Flag::Until,
            other => panic!("{other}"),
        };
        let value = words.next().unwrap();
        filter.add(Condition::parse(flag, value, now()).unwrap(), std::mem::take(&mut negated));
    }
    entries().iter().filter(|entry| filter.matches(entry)).map(|entry| entry.envelope.seq).collect()
}

/// One hour after the sample events.
fn now() -> Timestamp {
    time() + jiff::SignedDuration::from_hours(1)
}

fn entries() -> Vec<Entry> {
    lines(&one_of_each()).lines().map(|line| parse(line).unwrap()).collect()
}

// 1 sandbox.started  2 policy.applied  3 policy.refused  4 dns.decided (allowed, api.example.com)
// 5 flow.decided (denied, db.internal:80, would-deny)  6 flow.decided (allowed, POST api.example.com:8080)
// 7 approval.answered  8 credential.used (api.example.com)  9 flow.ended (db.internal:80)  10 audit.recovered
// 11 audit.checkpoint  12 sandbox.ended
#[test]
fn flags_select_events() {
    let all: Vec<u64> = (1..=12).collect();
    let cases: &[(&str, &[u64])] = &[
        ("", &all),
        ("--verdict denied", &[5]),
        ("--verdict DROPPED", &[5]),
        ("--verdict FORWARDED", &[4, 6]),
        ("--verdict AUDIT", &[5]),
        ("--verdict would-deny", &[5]),
        ("--verdict would-ask", &[]),
        ("--verdict denied --verdict allowed", &[4, 5, 6]),
        ("--host db.internal", &[5, 9]),
        ("--host DB.Internal.", &[5, 9]),
        ("--host *.example.com", &[4, 6, 8]),
        ("--host example.com", &[]),
        ("--host a*.ex*e.com", &[4, 6, 8]),
        ("--host *", &[4, 5, 6, 8, 9]),
        ("--ip 10.0.0.8", &[5, 9]),
        ("--ip 10.0.0.0/8 --ip 192.0.2.0/24", &[4, 5, 9]),
        ("--ip 2001:db8::/32", &[6]),
        ("--port 80", &[5, 9]),
        ("--port 8000-9000", &[6]),
        ("--protocol tcp", &[5, 6, 9]),
        ("--protocol dns", &[4]),
        ("--protocol HTTP", &[6]),
        ("--process curl", &[4, 5, 6, 9]),
        ("--process /usr/bin/*", &[4, 5, 6, 9]),
        ("--process 4711 --type flow.ended", &[9]),
        ("--process wget", &[]),
        ("--rule allow-*", &[4, 6]),
        ("--rule deny-new-domains", &[5]),
        ("--type flow", &[5, 6, 9]),
        ("--type flow.decided", &[5, 6]),
        ("--verdict block", &[5]),
        ("--type audit.checkpoint", &[11]),
        ("--type policy --type audit", &[2, 3, 10, 11]),
        ("--http-method post", &[6]),
        ("--http-path ^/v1/users/[a-z]+$", &[6]),
        ("--http-path ^/v2", &[]),
        ("--sandbox run-7f3a", &all),
        ("--thread *", &[]),
        ("--since 2h", &all),
        ("--since 30m", &[]),
        ("--until 59m", &all),
        ("--since 2026-11-21T09:00:00Z --until 2026-11-21T09:00:01Z", &all),
        ("--until 1d", &[]),
        ("--verdict denied --host *.example.com", &[]),
        ("--verdict allowed --host *.example.com --protocol http", &[6]),
        ("--type flow --not --verdict denied", &[6, 9]),
        ("--type flow --not --verdict denied --not --type flow.ended", &[6]),
        ("--not --type flow --not --type sandbox", &[2, 3, 4, 7, 8, 10, 11]),
        ("--type flow --not --port 80 --verdict allowed", &[6]),
    ];
    for (words, expected) in cases {
        assert_eq!(matching(words), *expected, "{words}");
    }
}

#[test]
fn values_that_mean_nothing_are_refused() {
    let cases = [
        (Flag::Verdict, "maybe"),
        (Flag::Verdict, ""),
        (Flag::Ip, "10.0.0"),
        (Flag::Ip, "10.0.0.0/33"),
        (Flag::Port, "70000"),
        (Flag::Port, "90-80"),
        (Flag::Port, "http"),
        (Flag::Protocol, "sctp"),
        (Flag::Type, "flo"),
        (Flag::Type, "flow.decide"),
        (Flag::HttpPath, "("),
        (Flag::Since, "yesterday"),
        (Flag::Since, "5"),
        (Flag::Since, "5y"),
        (Flag::Since, "99999999999999999999d"),
        (Flag::Since, "9999999999999d"),
        (Flag::Since, "-5m"),
        (Flag::Host, ""),
    ];
    for (flag, value) in cases {
        let error = Condition::parse(flag, value, now()).unwrap_err();
        assert_eq!(error.value, value);
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn a_newer_event_is_filtered_by_what_it_shares() {
    let line = format!(
        r#"{{"seq":1,"time":"2026-11-21T09:00:00Z","event":"tool.decided","sandbox":"s","verdict":"denied","rule":"no-rm","prev":"{0}","hash":"{0}"}}"#,
        "0".repeat(64)
    );
    let entry = parse(&line).unwrap();
    for (flag, value, expected) in [
        (Flag::Verdict, "denied", true),
        (Flag::Rule, "no-*", true),
        (Flag::Type, "tool", true),
        (Flag::Port, "1", false),
    ] {
        let mut filter = Filter::default();
        filter.add(Condition::parse(flag, value, now()).unwrap(), false);
        assert_eq!(filter.matches(&entry), expected, "{flag:?} {value}");
    }
}
