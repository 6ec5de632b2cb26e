//! Answers that are given again: recorded, bound and counted each time, and gone with their policy.

use std::time::Duration;

use hickory_proto::{op::Message, rr::RecordType};
use jiff::Timestamp;
use policy::model::{Action, DnsLimits, PolicySpec};
use tokio::net::UdpSocket;

use super::{Front, by_label, question, short};
use crate::resolve::{
    scripted::Server,
    world::{in_force, rule, spec},
};

/// The same policy with one deny more.
fn without_www() -> PolicySpec {
    let mut spec = spec();
    spec.rules.push(rule("no-www", 1, Action::Deny, &["www.zone.example"]));
    spec
}

#[tokio::test]
async fn each_time_it_is_recorded_with_its_own_letters_and_id() {
    let upstream = Server::start(by_label).await;
    let front = Front::new(spec(), &upstream).await;
    for text in ["www.zone.example", "WWW.zone.EXAMPLE", "wWw.zOnE.eXaMpLe", "www.zone.example"] {
        let message = front.ask(text, RecordType::A).await;
        assert_eq!(short(&message), "NoError 192.0.2.1");
        assert_eq!(message.queries[0].name.to_ascii(), format!("{text}."));
    }
    assert_eq!(upstream.seen().len(), 1);
    assert_eq!(front.names("192.0.2.1"), ["www.zone.example"]);
    let told = front.world.told();
    assert_eq!(told[0], "allowed zone www.zone.example A UPSTREAM");
    assert_eq!(told[1..], ["allowed zone www.zone.example A NOERROR 192.0.2.1"; 4]);
    assert_eq!(front.world.tally.summary().dns_allowed, 4);
}

#[tokio::test]
async fn many_at_once_are_each_answered_and_recorded() {
    let upstream = Server::start(by_label).await;
    let front = Front::new(spec(), &upstream).await;
    for text in ["192-0-2-7.zone.example", "192-0-2-8.zone.example"] {
        front.ask(text, RecordType::A).await;
    }
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(front.udp).await.unwrap();
    for id in 0..40_u16 {
        let text = ["192-0-2-7.zone.example", "192-0-2-8.zone.example", "elsewhere.example"][usize::from(id % 3)];
        let mut query = question(text, RecordType::A);
        query[..2].copy_from_slice(&id.to_be_bytes());
        socket.send(&query).await.unwrap();
    }
    let mut seen = Vec::new();
    for _ in 0..40 {
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).await.unwrap();
        let message = Message::from_vec(&buffer[..length]).unwrap();
        let expected = ["NoError 192.0.2.7", "NoError 192.0.2.8", "NXDomain"];
        assert_eq!(short(&message), expected[usize::from(message.metadata.id % 3)]);
        seen.push(message.metadata.id);
    }
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..40));
    let told = front.world.told();
    let count = |line: &str| told.iter().filter(|told| *told == line).count();
    assert_eq!(count("allowed zone 192-0-2-7.zone.example A NOERROR 192.0.2.7"), 1 + 14);
    assert_eq!(count("allowed zone 192-0-2-8.zone.example A NOERROR 192.0.2.8"), 1 + 13);
    assert_eq!(count("denied mode-default elsewhere.example A NXDOMAIN"), 13);
}

#[tokio::test]
async fn another_policy_ends_it_at_once() {
    let upstream = Server::start(by_label).await;
    let front = Front::new(spec(), &upstream).await;
    for (revision, spec, expected) in [
        (1, spec(), "NoError 192.0.2.1"),
        (2, without_www(), "NXDomain"),
        (3, spec(), "NoError 192.0.2.1"),
        // A policy of the same number is another policy all the same.
        (3, without_www(), "NXDomain"),
    ] {
        front.world.policy.store(in_force(spec, revision));
        for _ in 0..4 {
            assert_eq!(front.short("www.zone.example", RecordType::A).await, expected);
            assert_eq!(front.world.records().pop().unwrap().revision, revision.to_string());
        }
    }
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn a_rule_that_ends_by_the_clock_ends_the_answer_too() {
    let upstream = Server::start(by_label).await;
    let limits = DnsLimits { queries_per_second: 1_000_000, ..DnsLimits::default() };
    let mut short_lived = PolicySpec { dns: limits, ..spec() };
    short_lived.rules[1].expires = Some(Timestamp::now() + Duration::from_millis(700));
    let front = Front::new(short_lived, &upstream).await;
    let end = std::time::Instant::now() + Duration::from_secs(30);
    while front.short("www.zone.example", RecordType::A).await != "NXDomain" {
        assert!(std::time::Instant::now() < end, "the rule ended and its answer goes on");
    }
    assert_eq!(front.world.records().pop().unwrap().rule, "mode-default");
}

#[tokio::test]
async fn another_type_is_another_question() {
    let upstream = Server::start(by_label).await;
    let front = Front::new(spec(), &upstream).await;
    // 65 and 97 are one letter in two cases.
    for _ in 0..3 {
        assert_eq!(front.short("www.zone.example", RecordType::HTTPS).await, "NoError");
        assert_eq!(front.short("www.zone.example", RecordType::Unknown(97)).await, "NXDomain");
    }
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn without_a_record_there_is_no_answer() {
    let upstream = Server::start(by_label).await;
    let front = Front::new(spec(), &upstream).await;
    for _ in 0..4 {
        assert_eq!(front.short("www.zone.example", RecordType::A).await, "NoError 192.0.2.1");
    }
    front.world.break_log();
    for _ in 0..4 {
        assert_eq!(front.short("www.zone.example", RecordType::A).await, "ServFail");
    }
}
