//! What the tests of this crate share: short ways to write rules and facts.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::net::IpAddr;

use jiff::Timestamp;
use policy::{
    CompiledPolicy, Fact, Facts, HostName, HostPattern, NameSource, NamedHost, OwnAddresses, Protocol, Source, Step,
    model::{Action, Feed, FeedFormat, Group, Lists, PolicySpec, Rule, To},
};
use values::{Labels, Revision, RuleName};

/// Generated policies and facts.
pub mod generate;
/// The evaluator in its plainest form.
pub mod reference;

/// A rule that allows everything, to be changed with struct update syntax.
pub fn rule(name: &str, priority: i64, action: Action, to: To) -> Rule {
    Rule::new(RuleName::new(name).unwrap(), priority, action, to)
}

pub fn hosts(patterns: &[&str]) -> To {
    To::Inline(Group {
        hosts: patterns.iter().map(|text| HostPattern::parse(text).unwrap()).collect(),
        ..Group::default()
    })
}

pub fn cidrs(ranges: &[&str]) -> To {
    To::Inline(Group { cidrs: ranges.iter().map(|text| text.parse().unwrap()).collect(), ..Group::default() })
}

pub fn feed(path: &str) -> To {
    let feed = Feed { path: path.to_owned(), format: FeedFormat::Domains, refresh: None };
    To::Inline(Group { feed: Some(feed), ..Group::default() })
}

/// The host's own address in these tests.
pub const OWN: &str = "9.9.9.9";

pub fn own() -> OwnAddresses {
    OwnAddresses { addresses: vec![OWN.parse().unwrap()] }
}

pub fn compile(spec: PolicySpec, lists: Lists) -> CompiledPolicy {
    CompiledPolicy::compile(spec, lists, own(), Revision(7)).unwrap()
}

pub fn name(text: &str) -> HostName {
    HostName::parse(text).unwrap()
}

pub fn sni(text: &str) -> Fact<NamedHost> {
    Fact::Known(NamedHost { name: name(text), source: NameSource::Sni })
}

pub fn address(text: &str) -> Fact<IpAddr> {
    Fact::Known(text.parse().unwrap())
}

pub fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

/// TCP to port 443, nothing else known or to be known.
pub fn facts(source: &Source) -> Facts<'_> {
    Facts {
        source,
        protocol: Protocol::Tcp,
        port: 443,
        original_address: None,
        address: Fact::Absent,
        name: Fact::Absent,
        tls: Fact::Absent,
        http: Fact::Absent,
        process: Fact::Absent,
        now: now(),
    }
}

/// The source of a sandbox without labels.
pub fn anybody(policy: &CompiledPolicy) -> Source {
    policy.source(&Labels::default())
}

/// A step in one line: `allowed by NAME`, `needs Address` …
pub fn shown(step: &Step) -> String {
    match step {
        Step::Needs(missing) => format!("needs {missing:?}"),
        Step::Decided(decision) => {
            let mut text = format!("{} by {}", decision.verdict.as_str(), decision.rule);
            for would in &decision.would {
                text.push_str(&format!(" [{} {}]", would.rule, would.verdict.as_str()));
            }
            text
        }
    }
}
