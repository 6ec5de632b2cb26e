//! The proposal as text: rules by port, a comment for each destination.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write as _},
    net::IpAddr,
};

use jiff::Timestamp;

use super::{
    Learned,
    requests::{Asked, Requests, Way},
    seen::{Place, Seen, Sighting, Transport},
    trials,
};

/// From how many names of one domain on a wildcard is worth a thought.
const MANY_NAMES: usize = 4;
/// The most ports of one rule.
const PORTS: usize = 64;
/// The most processes that a comment names.
const PROCESSES: usize = 3;
/// The most lines of a list that is a comment.
const LISTED: usize = 200;

/// What destinations share that stand in one rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RuleKey {
    pub(super) transport: Transport,
    pub(super) kind: Kind,
    pub(super) ports: Vec<u16>,
    record_types: Vec<&'static str>,
    assumed: bool,
    /// The requests that it is for; none is whatever is sent there.
    pub(super) requests: Option<Requests>,
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
    Learned { text: out, rules: rules.len(), not_proposed: seen.refused.len() + seen.left_out.len() }
}

/// Destinations with the same ports and requests stand in one rule: what the rule allows is then exactly what was seen.
fn sort(seen: &Seen) -> BTreeMap<RuleKey, Members> {
    let mut rules: BTreeMap<RuleKey, Members> = BTreeMap::new();
    for ((transport, place, requests), (ports, sighting, assumed)) in by_place(seen) {
        let (kind, types) = match place {
            Place::Name(name) => (Kind::Names, seen.record_types.get(name)),
            Place::Address(_) => (Kind::Addresses, None),
            Place::Private(_) => (Kind::Private, None),
        };
        let types = types.filter(|_| transport == Transport::Tcp).into_iter().flatten().copied();
        let record_types: Vec<&'static str> = types.collect();
        let ports: Vec<u16> = ports.into_iter().collect();
        let parts = match requests {
            None => vec![None],
            Some((way, asked)) => Requests::split(&way, asked).into_iter().map(Some).collect(),
        };
        for (ports, requests) in ports.chunks(PORTS).flat_map(|ports| parts.iter().map(move |part| (ports, part))) {
            let (ports, record_types, requests) = (ports.to_vec(), record_types.clone(), requests.clone());
            let key = RuleKey { transport, kind, ports, record_types, assumed, requests };
            rules.entry(key).or_default().insert(place.clone(), sighting.clone());
        }
    }
    rules
}

/// A place, and the requests that were sent there where these were looked at.
type Wanted<'s> = (Transport, &'s Place, Option<(Way, Vec<Asked>)>);

/// The ports at which the same was wanted of a place.
fn by_place(seen: &Seen) -> BTreeMap<Wanted<'_>, (BTreeSet<u16>, Sighting, bool)> {
    type AtPort<'s> = (Transport, &'s Place, u16, Option<&'s Way>);
    let mut at_port: BTreeMap<AtPort<'_>, (Vec<Asked>, Sighting, bool)> = BTreeMap::new();
    for (reach, sighting) in &seen.reaches {
        let way = reach.request.as_ref().map(|request| &request.way);
        let entry = at_port.entry((reach.transport, &reach.place, reach.port, way)).or_default();
        entry.0.extend(reach.request.as_ref().map(|request| (request.method.clone(), request.path.clone())));
        entry.1.join(sighting);
        entry.2 |= seen.assumed.contains(reach);
    }
    let mut by_place: BTreeMap<Wanted<'_>, (BTreeSet<u16>, Sighting, bool)> = BTreeMap::new();
    for ((transport, place, port, way), (asked, sighting, assumed)) in at_port {
        let entry = by_place.entry((transport, place, way.map(|way| (way.clone(), asked)))).or_default();
        entry.0.insert(port);
        entry.1.join(&sighting);
        entry.2 |= assumed;
    }
    by_place
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
    let requests = if key.requests.is_some() { "-requests" } else { "" };
    let base = format!("allow-{transport}{ports}{kind}{requests}{assumed}");
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
    if let Some(requests) = &key.requests {
        explain_requests(out, requests)?;
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
    if let Some(requests) = &key.requests {
        draw_requests(out, requests)?;
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

fn explain_requests(out: &mut String, requests: &Requests) -> fmt::Result {
    out.push_str("    # These requests alone, with any query and any header fields: a record holds neither.\n");
    if let Some(credential) = &requests.way.credential {
        writeln!(
            out,
            "    # They carried the credential {}, of which a record holds no more than its name: without it they go out bare.",
            clean(credential)
        )?;
    }
    match &requests.part_of {
        Some((all, folder)) if folder == "/" => {
            writeln!(
                out,
                "    # Some of {all} requests. A path may be a glob: \"/folder/*\" stands for all there are in it."
            )
        }
        Some((all, folder)) => {
            let glob = text_in_quotes(&format!("{folder}**"));
            writeln!(out, "    # Some of {all} requests; {glob} would stand for all there are below it.")
        }
        None => Ok(()),
    }
}

fn draw_requests(out: &mut String, requests: &Requests) -> fmt::Result {
    out.push_str("      http:\n");
    for (paths, methods) in requests.by_paths() {
        let methods: Vec<String> = methods.into_iter().map(text_in_quotes).collect();
        writeln!(out, "        - scheme: {}", requests.way.scheme())?;
        writeln!(out, "          methods: [{}]\n          paths:", methods.join(", "))?;
        paths.into_iter().try_for_each(|path| writeln!(out, "            - {}", text_in_quotes(path)))?;
    }
    Ok(())
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
    for (refused, sighting) in &seen.refused {
        let request = refused.request.as_ref().map(|asked| format!("{} {} at ", asked.method, asked.path));
        let what = clean(&format!("{}{}", request.unwrap_or_default(), refused.what));
        writeln!(out, "#   {what} ({}): {}", clean(&refused.rule), told(sighting))?;
    }
    if !seen.left_out.is_empty() {
        out.push_str("# Seen and not proposed: a rule looked at requests there, and none can name exactly these.\n");
    }
    for ((whole, what), sighting) in seen.left_out.iter().take(LISTED) {
        writeln!(out, "#   {} at {}: {}", clean(what), whole.shown(), told(sighting))?;
    }
    if seen.left_out.len() > LISTED {
        writeln!(out, "#   and {} more", seen.left_out.len() - LISTED)?;
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
    if !sighting.credentials.is_empty() {
        let names: Vec<String> = sighting.credentials.iter().map(|name| clean(name)).collect();
        told += &format!("; with credential {}", names.join(", "));
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

/// Text of the workload as a value: in quotes, ASCII alone, so that what is read is what is meant.
pub(super) fn text_in_quotes(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            _ => quoted.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
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
