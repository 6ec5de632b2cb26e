//! What a sandbox may carry out in names.

use std::time::{Duration, Instant};

use policy::{
    CompiledPolicy, HostName, HostPattern,
    model::{Action, DnsLimits, Group, Lists, PolicySpec, Rule, To},
};
use values::{Revision, RuleName};

use super::{Crossed, Limits, Rate, label_bits};

fn name(text: &str) -> HostName {
    HostName::parse(text).unwrap()
}

fn rule(text: &str, priority: i64, hosts: &[&str]) -> Rule {
    let hosts = hosts.iter().map(|host| HostPattern::parse(host).unwrap()).collect();
    Rule::new(RuleName::new(text).unwrap(), priority, Action::Allow, To::Inline(Group { hosts, ..Group::default() }))
}

fn policy(dns: DnsLimits) -> CompiledPolicy {
    let rules = vec![
        rule("wild", 1, &["*.zone.example"]),
        rule("exact", 2, &["long-but-named-on-purpose-by-its-owner-42.zone.example"]),
    ];
    let spec = PolicySpec { rules, dns, ..PolicySpec::default() };
    CompiledPolicy::compile(spec, Lists::default(), policy::OwnAddresses::default(), Revision(1)).unwrap()
}

fn wild() -> RuleName {
    RuleName::new("wild").unwrap()
}

#[test]
fn the_rate_has_a_burst_of_a_second_and_tells_once_a_second() {
    let (limits, dns, start) =
        (Limits::default(), DnsLimits { queries_per_second: 10, ..DnsLimits::default() }, Instant::now());
    for _ in 0..10 {
        assert_eq!(limits.question(&dns, start), Rate::Within);
    }
    assert_eq!(limits.question(&dns, start), Rate::Tell(Crossed::Rate { limit: 10, refused: 1 }));
    for _ in 0..5 {
        assert_eq!(limits.question(&dns, start), Rate::Told);
    }
    let next = start + Duration::from_millis(1001);
    for _ in 0..10 {
        assert_eq!(limits.question(&dns, next), Rate::Within);
    }
    assert_eq!(limits.question(&dns, next), Rate::Tell(Crossed::Rate { limit: 10, refused: 6 }));
}

#[test]
fn a_long_label_is_refused_under_a_wildcard_only() {
    let (limits, policy, now) = (Limits::default(), policy(DnsLimits::default()), Instant::now());
    let long = "a".repeat(41);
    for (host, fine) in [
        (format!("{}.zone.example", "a".repeat(40)), true),
        (format!("{long}.zone.example"), false),
        (format!("x.{long}.zone.example"), false),
        ("long-but-named-on-purpose-by-its-owner-42.zone.example".to_owned(), true),
        (format!("{long}.elsewhere.example"), true),
    ] {
        assert_eq!(limits.name(&policy, &wild(), &name(&host), now).is_ok(), fine, "{host}");
    }
}

#[test]
fn a_wildcard_is_no_tunnel() {
    let (limits, policy, start) = (Limits::default(), policy(DnsLimits::default()), Instant::now());
    let mut passed = 0;
    // A minute of twenty random labels a second: what passes is the burst and the rate.
    for tick in 0..1200_u32 {
        let label = format!("{:08x}{:08x}", tick.wrapping_mul(2_654_435_761), tick.wrapping_mul(40_503));
        let now = start + Duration::from_millis(u64::from(tick) * 50);
        match limits.name(&policy, &wild(), &name(&format!("{label}.zone.example")), now) {
            Ok(()) => passed += label.len(),
            Err(crossed) => {
                assert!(matches!(&crossed, Crossed::Entropy { zone, .. } if zone == "zone.example"), "{crossed:?}")
            }
        }
    }
    let bits = f64::from(u32::try_from(passed).unwrap()) * 3.0;
    assert!(bits <= 600.0 * 70.0 && bits > 600.0 * 30.0, "{bits}");
}

#[test]
fn short_labels_cost_too() {
    assert!(label_bits("a") >= 5.0);
    assert!(label_bits("ab") > label_bits("a"));
    assert!(label_bits("0123456789abcdef") >= 16.0 * 4.0);
    let (limits, policy, now) = (Limits::default(), policy(DnsLimits::default()), Instant::now());
    let refused =
        (0..5000).filter(|n| limits.name(&policy, &wild(), &name(&format!("a{n}.zone.example")), now).is_err());
    assert!(refused.count() > 4000);
}

#[test]
fn crossings_read_like_sentences() {
    let crossed = Crossed::Label { length: 50, limit: 40 };
    assert_eq!(crossed.to_string(), "a label of 50 bytes that only a wildcard covers; the bound is 40");
    let crossed = Crossed::Rate { limit: 200, refused: 3 };
    assert_eq!(crossed.to_string(), "more than 200 DNS questions a second (3 refused since last told)");
}
