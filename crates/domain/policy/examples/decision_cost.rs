//! What a decision costs, and what it takes to compile a policy: `cargo run --release -p policy --example decision_cost`.
//!
//! Policies and traffic come from a seeded generator, so two runs measure the same work. Each figure is
//! the median of several rounds.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a measurement, not part of the product")]

use std::{
    collections::BTreeMap,
    hint::black_box,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Instant,
};

use arc_swap::ArcSwap;
use policy::{
    CompiledPolicy, Fact, Facts, HostName, HostPattern, NameSource, NamedHost, OwnAddresses, Protocol, QueryType,
    Source, Step, Verdict,
    model::{Action, Feed, FeedFormat, Group, ListContent, Lists, PolicySpec, Rule, To},
};
use values::{GroupName, Labels, Revision, RuleName};

const FEED_NAMES: usize = 1_000_000;
const FEED_RANGES: usize = 100_000;
const ROUNDS: usize = 9;
const SWAPS: usize = 100_000;

/// xorshift64*: small, seeded, good enough to spread names and addresses.
struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

fn name(text: &str) -> HostName {
    HostName::parse(text).unwrap()
}

/// The name of the nth host that a rule allows.
fn tool(n: usize) -> String {
    format!("api{n}.tools{}.example", n % 97)
}

fn rule(n: usize, action: Action, to: To) -> Rule {
    Rule::new(RuleName::new(&format!("rule-{n}")).unwrap(), n as i64, action, to)
}

/// `count` rules: a feed of names and one of ranges denied first, then hosts, wildcards, ranges and ports.
fn policy(count: usize, lists: bool) -> PolicySpec {
    let mut random = Seeded(0x5eed);
    let bad = GroupName::new("bad").unwrap();
    let feed = Feed { path: "feed".to_owned(), format: FeedFormat::Domains, refresh: None };
    let mut spec = PolicySpec::default();
    spec.groups.insert(bad.clone(), Group { feed: Some(feed), ..Group::default() });
    spec.rules = (0..count)
        .map(|n| match (n, n % 5) {
            (0, _) if lists => rule(n, Action::Deny, To::Group(bad.clone())),
            (_, 0 | 1) => rule(n, Action::Allow, hosts(&tool(n))),
            (_, 2) => rule(n, Action::Allow, hosts(&format!("*.wild{n}.example"))),
            (_, 3) => {
                let range = format!("{}.{}.{}.0/24", 20 + random.below(80), random.below(256), random.below(256));
                let to = To::Inline(Group { cidrs: vec![range.parse().unwrap()], ..Group::default() });
                rule(n, Action::Allow, to)
            }
            _ => Rule {
                ports: vec![(10_000 + (n % 50_000) as u16, 10_000 + (n % 50_000) as u16)],
                ..rule(n, Action::Deny, To::Any)
            },
        })
        .collect();
    spec
}

fn hosts(pattern: &str) -> To {
    To::Inline(Group { hosts: vec![HostPattern::parse(pattern).unwrap()], ..Group::default() })
}

fn bad_name(n: u64) -> String {
    format!("x{:x}.bad{}.example", n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24, n % 5003)
}

fn lists() -> Lists {
    let mut random = Seeded(0xfeed);
    let hosts = (0..FEED_NAMES as u64).map(|n| HostPattern::Domain(name(&bad_name(n)))).collect();
    let cidrs = (0..FEED_RANGES)
        .map(|_| {
            let length = 16 + random.below(17);
            let address = IpAddr::V4(((100 << 24 | random.below(100 << 24)) as u32).into());
            ipnet::IpNet::new(address, length as u8).unwrap().trunc()
        })
        .collect();
    Lists { feeds: BTreeMap::from([("feed".to_owned(), ListContent { hosts, cidrs })]), ..Lists::default() }
}

/// How destinations are chosen.
#[derive(Clone, Copy)]
enum Traffic {
    /// Each rule's destination is as likely as any other's: nothing is ever at hand.
    Even,
    /// Nine in ten flows go to a hundredth of the destinations, as an agent's do.
    Skewed,
}

/// Flows as they come: allowed hosts, wildcards, feed hits, strangers, addresses alone.
fn flows(source: &Source, rules: usize, traffic: Traffic) -> Vec<Facts<'_>> {
    let mut random = Seeded(0xf10);
    (0..65_536)
        .map(|_| {
            let destinations = match traffic {
                Traffic::Skewed if random.below(10) > 0 => (rules / 100).max(10),
                Traffic::Even | Traffic::Skewed => rules,
            };
            let n = random.below(destinations as u64) as usize;
            let host = match random.below(10) {
                0..=3 => Some(tool(n - n % 5)),
                4 | 5 => Some(format!("a.b.wild{}.example", n - n % 5 + 2)),
                6 => Some(bad_name(random.below(FEED_NAMES as u64))),
                7 | 8 => Some(format!("www{}.unknown{}.example", random.below(1000), random.below(1000))),
                _ => None,
            };
            let address = IpAddr::V4((0x0b00_0000 + random.below(0x7000_0000) as u32).into());
            let named = |host: String| NamedHost { name: name(&host), source: NameSource::Sni };
            Facts {
                source,
                protocol: Protocol::Tcp,
                port: if random.below(8) == 0 { 10_000 + random.below(50_000) as u16 } else { 443 },
                original_address: None,
                address: Fact::Known(address),
                name: host.map_or(Fact::Absent, |host| Fact::Known(named(host))),
                tls: Fact::Absent,
                http: Fact::Absent,
                process: Fact::Absent,
                now: jiff::Timestamp::UNIX_EPOCH,
            }
        })
        .collect()
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn per_item(count: usize, mut round: impl FnMut()) -> f64 {
    let figures = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        round();
        start.elapsed().as_nanos() as f64 / count as f64
    });
    median(figures.collect())
}

/// The resident memory of this process in bytes.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

fn compile(spec: PolicySpec, lists: Lists) -> CompiledPolicy {
    CompiledPolicy::compile(spec, lists, OwnAddresses { addresses: vec!["192.0.2.1".parse().unwrap()] }, Revision(1))
        .unwrap()
}

/// Measures one policy; returns the cost of a decision under skewed and even traffic.
fn decisions(label: &str, policy: &CompiledPolicy, rules: usize) -> (f64, f64) {
    let cost = |name, traffic| decisions_under(&format!("{label}, {name}"), policy, rules, traffic);
    (cost("skewed traffic", Traffic::Skewed), cost("even traffic", Traffic::Even))
}

fn decisions_under(label: &str, policy: &CompiledPolicy, rules: usize, traffic: Traffic) -> f64 {
    let source = policy.source(&Labels::default());
    let flows = flows(&source, rules, traffic);
    let allowed = flows
        .iter()
        .filter(|flow| matches!(policy.judge(flow), Step::Decided(decision) if decision.verdict == Verdict::Allowed))
        .count();
    let cost = per_item(flows.len(), || {
        for flow in &flows {
            let _ = black_box(policy.judge(black_box(flow)));
        }
    });
    let pending: Vec<Facts<'_>> =
        flows.iter().map(|flow| Facts { name: Fact::Pending, address: Fact::Pending, ..flow.clone() }).collect();
    let first = per_item(pending.len(), || {
        for flow in &pending {
            let _ = black_box(policy.judge(black_box(flow)));
        }
    });
    let names: Vec<&HostName> = flows.iter().filter_map(|flow| flow.name.known().map(|named| &named.name)).collect();
    let dns = per_item(names.len(), || {
        for name in &names {
            let _ = black_box(policy.judge_name(&source, name, QueryType::A, jiff::Timestamp::UNIX_EPOCH));
        }
    });
    println!(
        "{label:<62} decision {cost:6.0} ns ({}% allowed), nothing known yet {first:5.0} ns, DNS question {dns:5.0} ns",
        allowed * 100 / flows.len()
    );
    cost
}

/// What it takes to publish a policy, as the gateway does, beside a thread that judges by it: median and 99th percentile.
fn swaps(policy: CompiledPolicy) -> (f64, f64) {
    let policy = Arc::new(policy);
    let source = policy.source(&Labels::default());
    let flows = flows(&source, 10_000, Traffic::Even);
    let current = ArcSwap::from_pointee((Arc::clone(&policy), source.clone()));
    let done = AtomicBool::new(false);
    let mut figures: Vec<f64> = thread::scope(|scope| {
        scope.spawn(|| {
            for flow in flows.iter().cycle().take_while(|_| !done.load(Ordering::Relaxed)) {
                let in_force = current.load();
                let _ = black_box(in_force.0.judge(&Facts { source: &in_force.1, ..flow.clone() }));
            }
        });
        let figures = (0..SWAPS).map(|_| {
            let next = Arc::new((Arc::clone(&policy), source.clone()));
            let start = Instant::now();
            current.store(next);
            start.elapsed().as_nanos() as f64
        });
        let figures = figures.collect();
        done.store(true, Ordering::Relaxed);
        figures
    });
    figures.sort_by(f64::total_cmp);
    (figures[SWAPS / 2], figures[SWAPS / 100 * 99])
}

fn main() {
    let small = compile(policy(10, false), Lists::default());
    let ten = decisions("10 rules", &small, 10);
    let middle = compile(policy(10_000, false), Lists::default());
    let ten_thousand = decisions("10,000 rules", &middle, 10_000);
    let (skewed, even) = (ten_thousand.0 / ten.0, ten_thousand.1 / ten.1);
    println!(
        "growth from 10 to 10,000 rules: {skewed:.2} x under skewed traffic, {even:.2} x under even traffic (goal 1.3)"
    );

    let (median_swap, slow) = swaps(middle);
    println!(
        "swap of 10,000 rules beside a thread that judges: median {median_swap:.0} ns, p99 {slow:.0} ns (goal 1000 ns)"
    );

    for (count, goal) in [(10_000, 5.0), (100_000, 50.0)] {
        let spec = policy(count, false);
        let cost = median(
            (0..ROUNDS)
                .map(|_| {
                    let spec = spec.clone();
                    let start = Instant::now();
                    let policy = compile(spec, Lists::default());
                    let source = policy.source(&Labels::default());
                    let cost = start.elapsed().as_secs_f64() * 1e3;
                    black_box((policy, source));
                    cost
                })
                .collect(),
        );
        println!("compile {count} rules, with one sandbox's view: {cost:.2} ms (goal {goal} ms)");
    }

    let mut costs = Vec::new();
    let mut timed = || {
        let (spec, lists) = (policy(10_000, true), lists());
        let start = Instant::now();
        let policy = compile(spec, lists);
        costs.push(start.elapsed().as_secs_f64());
        policy
    };
    drop((timed(), timed()));
    let full = timed();
    println!("compile 10,000 rules, 1,000,000 feed names, 100,000 ranges: {:.3} s (goal 1 s)", median(costs));
    println!(
        "its indexes: {:.1} MiB (goal 100 MiB); process now {:.0} MiB",
        full.index_memory() as f64 / 1048576.0,
        resident() as f64 / 1048576.0
    );
    let (skewed, even) = decisions("10,000 rules, 1,000,000 names, 100,000 ranges", &full, 10_000);
    println!("goal 400 ns: {}", if skewed.max(even) <= 400.0 { "reached" } else { "missed" });
}
