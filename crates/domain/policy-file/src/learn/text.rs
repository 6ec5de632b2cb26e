//! The proposal as text: rules by port, a comment for each destination.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write as _},
    net::IpAddr,
};

use jiff::Timestamp;

use super::{
    Learned,
    seen::{Place, Seen, Sighting, Transport},
    trials,
};

/// From how many names of one domain on a wildcard is worth a thought.
const MANY_NAMES: usize = 4;
/// The most ports of one rule.
const PORTS: usize = 64;
/// The most processes that a comment names.
const PROCESSES: usize = 3;

/// What destinations share that stand in one rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RuleKey {
    pub(super) transport: Transport,
    pub(super) kind: Kind,
    pub(super) ports: Vec<u16>,
    record_types: Vec<&'static str>,
    assumed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Names,
    Addresses,
    Private,
}

/// The destinations of one rule.
pub(super) type Members = BTreeMap<Place, Sighting>;

pub(super) fn write(mut seen: Seen) -> Learned {
    seen.settle();
    let rules = sort(&seen);
    let mut out = String::new();
    // Writing to a String can't fail.
    let _ = draw(&mut out, &seen, &rules);
    Learned { text: out, rules: rules.len(), not_proposed: seen.refused.len() }
}

/// Destinations with the same ports stand in one rule: what the rule allows is then exactly what was seen.
fn sort(seen: &Seen) -> BTreeMap<RuleKey, Members> {
    let mut ports: BTreeMap<(Transport, &Place), (BTreeSet<u16>, Sighting, bool)> = BTreeMap::new();
    for (reach, sighting) in &seen.reaches {
        let entry = ports.entry((reach.transport, &reach.place)).or_default();
        entry.0.insert(reach.port);
        entry.1.join(sighting);
        entry.2 |= seen.assumed.contains(reach);
    }
    let mut rules: BTreeMap<RuleKey, Members> = BTreeMap::new();
    for ((transport, place), (ports, sighting, assumed)) in ports {
        let (kind, types) = match place {
            Place::Name(name) => (Kind::Names, seen.record_types.get(name)),
            Place::Address(_) => (Kind::Addresses, None),
            Place::Private(_) => (Kind::Private, None),
        };
        let types = types.filter(|_| transport == Transport::Tcp).into_iter().flatten().copied();
        let record_types: Vec<&'static str> = types.collect();
        let ports: Vec<u16> = ports.into_iter().collect();
        for ports in ports.chunks(PORTS) {
            let (ports, record_types) = (ports.to_vec(), record_types.clone());
            let key = RuleKey { transport, kind, ports, record_types, assumed };
            rules.entry(key).or_default().insert(place.clone(), sighting.clone());
        }
    }
    rules
}

fn draw(out: &mut String, seen: &Seen, rules: &BTreeMap<RuleKey, Members>) -> fmt::Result {
    writeln!(
        out,
        "# Proposed by `cofferdam policy learn` from {} and {}",
        count(seen.flows, "flow"),
        count(seen.questions, "DNS question")
    )?;
    if let (Some(first), Some(last)) = (seen.all.first, seen.all.last) {
        writeln!(out, "# seen from {} to {}.", second(first), second(last))?;
    }
    writeln!(out, "# It allows exactly the destinations listed here. Read each line before you apply it.")?;
    if seen.unread > 0 {
        writeln!(out, "# Left out, because they failed or can't be read any more: {}.", seen.unread)?;
    }
    out.push_str("apiVersion: cofferdam/v1\nkind: EgressPolicy\nmetadata:\n  name: learned\nspec:\n  mode: limited\n");
    if rules.is_empty() {
        out.push_str("  rules: []\n");
    } else {
        out.push_str("  rules:\n");
    }
    let mut names = BTreeSet::new();
    let mut priority = 100;
    for (key, members) in rules {
        draw_rule(out, seen, key, members, &fresh_name(key, &mut names), priority)?;
        priority += 10;
    }
    trials::draw(out, seen, rules.iter())?;
    draw_rest(out, seen)
}

fn count(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

fn fresh_name(key: &RuleKey, taken: &mut BTreeSet<String>) -> String {
    let transport = word(key.transport);
    let ports = match key.ports.as_slice() {
        _ if key.transport == Transport::Icmp => String::new(),
        few if few.len() <= 4 => few.iter().map(|port| format!("-{port}")).collect(),
        [first, rest @ ..] => format!("-{first}-and-{}-more", rest.len()),
        [] => String::new(),
    };
    let kind = match key.kind {
        Kind::Names => "",
        Kind::Addresses => "-addresses",
        Kind::Private => "-private",
    };
    let assumed = if key.assumed { "-assumed" } else { "" };
    let base = format!("allow-{transport}{ports}{kind}{assumed}");
    let name =
        (1..).map(|n| if n == 1 { base.clone() } else { format!("{base}-{n}") }).find(|name| !taken.contains(name));
    let name = name.unwrap_or(base);
    taken.insert(name.clone());
    name
}

fn word(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
        Transport::Icmp => "icmp",
    }
}

fn draw_rule(
    out: &mut String,
    seen: &Seen,
    key: &RuleKey,
    members: &Members,
    name: &str,
    priority: i64,
) -> fmt::Result {
    match key.kind {
        Kind::Private => {
            out.push_str(
                "    # WARNING: private addresses. This rule opens the guard over them, for these addresses alone.\n",
            );
        }
        Kind::Addresses => {
            out.push_str("    # Dialled without a name: anything may stand behind an address tomorrow.\n")
        }
        Kind::Names => {}
    }
    if key.assumed {
        out.push_str("    # Only the lookups were seen, no flow: the ports are a guess.\n");
    }
    writeln!(
        out,
        "    - name: {name}\n      priority: {priority}\n      action: allow\n      protocol: {}",
        word(key.transport)
    )?;
    if key.transport != Transport::Icmp {
        writeln!(out, "      ports: [{}]", ranges(&key.ports).join(", "))?;
    }
    if !key.record_types.is_empty() {
        writeln!(out, "      recordTypes: [{}]", key.record_types.join(", "))?;
    }
    out.push_str("      to:\n");
    let addresses = members.iter().filter_map(|(place, sighting)| match place {
        Place::Address(address) | Place::Private(address) => Some((*address, sighting)),
        Place::Name(_) => None,
    });
    let names = members.iter().filter_map(|(place, sighting)| match place {
        Place::Name(name) => Some((name.as_str(), sighting)),
        Place::Address(_) | Place::Private(_) => None,
    });
    match key.kind {
        Kind::Names => draw_names(out, &names.collect()),
        Kind::Addresses => draw_addresses(out, addresses),
        Kind::Private => {
            let addresses: Vec<(IpAddr, &Sighting)> = addresses.collect();
            draw_addresses(out, addresses.iter().copied())?;
            let opened: BTreeSet<&String> =
                addresses.iter().filter_map(|(address, _)| seen.private_names.get(address)).flatten().collect();
            if !opened.is_empty() {
                out.push_str("      names:\n");
            }
            opened.into_iter().try_for_each(|name| writeln!(out, "        - {}", quoted(name)))
        }
    }
}

fn draw_names(out: &mut String, names: &BTreeMap<&str, &Sighting>) -> fmt::Result {
    let mut domains: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in names.keys() {
        domains.entry(psl::domain_str(name).unwrap_or(name)).or_default().push(name);
    }
    out.push_str("        hosts:\n");
    for (domain, members) in domains {
        let below = members.iter().filter(|name| **name != domain).count();
        if below >= MANY_NAMES {
            writeln!(out, "          # {below} names below {domain}; \"*.{domain}\" would stand for all there are")?;
        }
        for (name, sighting) in members.iter().filter_map(|name| names.get(name).map(|sighting| (name, sighting))) {
            writeln!(out, "          - {}  # {}", quoted(name), told(sighting))?;
        }
    }
    Ok(())
}

fn draw_addresses<'s>(out: &mut String, addresses: impl Iterator<Item = (IpAddr, &'s Sighting)>) -> fmt::Result {
    out.push_str("        cidrs:\n");
    for (address, sighting) in addresses {
        let length = if address.is_ipv4() { 32 } else { 128 };
        writeln!(out, "          - \"{address}/{length}\"  # {}", told(sighting))?;
    }
    Ok(())
}

/// What is not proposed, in comments.
fn draw_rest(out: &mut String, seen: &Seen) -> fmt::Result {
    if !seen.refused.is_empty() {
        out.push_str("# Seen and not proposed: a guard covers it, or a rule denied it on purpose.\n");
    }
    for ((what, rule), sighting) in &seen.refused {
        writeln!(out, "#   {} ({}): {}", clean(what), clean(rule), told(sighting))?;
    }
    if !seen.looked_up.is_empty() {
        out.push_str("# Looked up and never used:\n");
    }
    seen.looked_up.iter().try_for_each(|name| writeln!(out, "#   {}", clean(name)))
}

/// `12 times, by /usr/bin/curl; 2026-11-21T09:00:00Z to …`
fn told(sighting: &Sighting) -> String {
    let mut told = if sighting.count == 1 { "once".to_owned() } else { format!("{} times", sighting.count) };
    let mut names = sighting.processes.iter().map(|process| clean(process));
    let shown: Vec<String> = names.by_ref().take(PROCESSES).collect();
    let more = names.count();
    if !shown.is_empty() {
        told += &format!(", by {}", shown.join(", "));
    }
    if more > 0 {
        told += &format!(" and {more} more");
    }
    match (sighting.first, sighting.last) {
        (Some(first), Some(last)) if first != last => told += &format!("; {} to {}", second(first), second(last)),
        (Some(first), _) => told += &format!("; {}", second(first)),
        (None, _) => {}
    }
    if !sighting.would_deny.is_empty() {
        let rules: Vec<String> = sighting.would_deny.iter().map(|rule| clean(rule)).collect();
        told += &format!("; WATCH: {} would deny it", rules.join(", "));
    }
    told
}

fn second(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Text of the workload, fit for a comment: one line, nothing that steers a terminal, cut.
fn clean(text: &str) -> String {
    text.chars().take(120).map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}

/// A name in quotes where YAML readers could take it for something else.
fn quoted(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.contains('.');
    if plain { name.to_owned() } else { format!("\"{name}\"") }
}

/// `443`, `8000-8002`.
fn ranges(ports: &[u16]) -> Vec<String> {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for port in ports {
        match ranges.last_mut() {
            Some((_, high)) if high.checked_add(1) == Some(*port) => *high = *port,
            Some(_) | None => ranges.push((*port, *port)),
        }
    }
    ranges.iter().map(|(low, high)| if low == high { low.to_string() } else { format!("{low}-{high}") }).collect()
}
