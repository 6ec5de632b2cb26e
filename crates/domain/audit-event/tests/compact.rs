//! The lines people read.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

#[allow(dead_code, reason = "each test file uses its part")]
mod samples;

use audit_event::{Event, Style, compact_line, parse};
use samples::{any_event, dns, flow, lines, one_of_each};

fn shown(events: &[Event], style: Style) -> String {
    let text = lines(events);
    text.lines().map(|line| compact_line(&parse(line).unwrap(), style)).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_kind_of_event_has_a_line() {
    insta::assert_snapshot!("one_of_each", shown(&one_of_each(), Style::default()));
}

#[test]
fn colours_and_dates_are_optional() {
    let style = Style { colour: true, date: true };
    let line = shown(&[Event::FlowDecided(Box::new(flow()))], style);
    insta::assert_snapshot!("coloured", line.escape_debug().to_string());
}

proptest::proptest! {
    #[test]
    fn a_line_is_one_line(event in any_event()) {
        let line = shown(&[event], Style::default());
        proptest::prop_assert!(!line.chars().any(char::is_control), "{line:?}");
        proptest::prop_assert!(line.len() < 8_192);
    }
}

#[test]
fn an_answer_of_upstream_is_told_from_a_refusal() {
    let told = |verdict: &str, response: &str, answers: &[&str]| {
        let mut dns = dns();
        (dns.verdict, dns.response) = (verdict.to_owned(), response.to_owned());
        dns.answers = answers.iter().map(|answer| answer.parse().unwrap()).collect();
        let line = shown(&[Event::DnsDecided(Box::new(dns))], Style::default());
        line.split_once("api.example.com. ").unwrap().1.split_once("  rule").unwrap().0.to_owned()
    };
    for (verdict, response, expected) in [
        ("allowed", "UPSTREAM", "is asked upstream"),
        ("allowed", "NXDOMAIN", "does not exist, as upstream says (NXDOMAIN)"),
        ("allowed", "NOERROR", "has no such record (NOERROR)"),
        ("allowed", "BADVERS", "= BADVERS"),
        ("denied", "NXDOMAIN", "refused (NXDOMAIN)"),
        ("error", "SERVFAIL", "could not be resolved upstream (SERVFAIL)"),
    ] {
        assert_eq!(told(verdict, response, &[]), expected);
    }
    assert_eq!(told("allowed", "NOERROR", &["192.0.2.7", "192.0.2.8"]), "= 192.0.2.7,192.0.2.8");
}
