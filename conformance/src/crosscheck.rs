//! Whatever a case is about: the record is one chain, what arrived at the lab is in it, and what it says was forwarded
//! arrived.

use std::{collections::BTreeSet, fs, net::IpAddr, path::Path};

use network_lab::{DnsAnswer, LabSpec, Place, Reached, What, addresses};
use serde_json::Value;

use crate::record::Record;

/// The type of an alias.
const CNAME: u16 = 5;
/// Where questions go.
const DNS_PORT: u16 = 53;

/// One flow of a record, as far as it is compared.
#[derive(Debug)]
struct Flow {
    allowed: bool,
    by_proxy: bool,
    name: Option<String>,
    address: Option<IpAddr>,
    port: u64,
    /// What its end says was sent, and that it was connected.
    sent: Option<u64>,
}

impl Flow {
    fn of(event: &Value) -> Option<Self> {
        let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str);
        let kind = text("/event")?;
        if kind != "flow.decided" && kind != "flow.ended" {
            return None;
        }
        let connected = kind == "flow.ended" && text("/ended_by") != Some("unreachable");
        Some(Self {
            allowed: kind == "flow.ended" || text("/verdict") == Some("allowed"),
            by_proxy: text("/route").is_some(),
            name: text("/destination/name").map(str::to_owned),
            address: text("/destination/address").and_then(|address| address.parse().ok()),
            port: event.pointer("/destination/port").and_then(Value::as_u64).unwrap_or_default(),
            sent: event.pointer("/bytes/sent").and_then(Value::as_u64).filter(|_| connected),
        })
    }
}

/// What is wrong, in a few words. `killed`: a writer that was killed may leave a piece of a line.
pub(crate) fn wrong(path: &Path, record: &Record, reached: &[Reached], spec: &LabSpec, killed: bool) -> Option<String> {
    chain(path, killed)
        .or_else(|| unrecorded(&record.events, reached, spec))
        .or_else(|| if killed { None } else { never_arrived(&record.events, reached) })
}

fn chain(path: &Path, killed: bool) -> Option<String> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => return Some(format!("the record can't be read: {error}")),
    };
    match audit_event::verify(bytes.as_slice()) {
        Ok(verified) if verified.torn_tail.is_some() && !killed => {
            Some("the record ends in a piece of a line".to_owned())
        }
        Ok(_) => None,
        Err(error) => Some(format!("the record is no chain: {error}")),
    }
}

/// What arrived, and no event says that it was let through.
fn unrecorded(events: &[Value], reached: &[Reached], spec: &LabSpec) -> Option<String> {
    let flows: Vec<Flow> = events.iter().filter_map(Flow::of).filter(|flow| flow.allowed).collect();
    let names = names(events, spec);
    reached.iter().find(|one| !is_recorded(one, &flows, &names)).map(|one| format!("arrived without a record: {one}"))
}

fn is_recorded(one: &Reached, flows: &[Flow], names: &BTreeSet<String>) -> bool {
    let Some(local) = one.local else { return true };
    if one.place == Place::Internet && one.peer.is_some_and(|peer| is_the_internets(peer.ip(), local.ip())) {
        return true;
    }
    match &one.what {
        // One that is open already when it is judged again is told of by its first event.
        // Questions of a route by proxy go by the proxy, too: each is held to its name behind it.
        What::Accepted | What::Packet { protocol: 6, .. } if is_proxy(local.ip()) && !names.is_empty() => true,
        What::Accepted | What::Packet { protocol: 6, .. } if local.port() != DNS_PORT => flows.iter().any(|flow| {
            let same = flow.address == Some(local.ip()) || (flow.address.is_none() && flow.name.is_some());
            // By way of a proxy it is the proxy's connection that arrives.
            flow.by_proxy || (same && flow.port == u64::from(local.port()))
        }),
        What::Query { name, .. } => names.contains(name),
        What::Accepted
        | What::Packet { .. }
        | What::Hello { .. }
        | What::Handshake
        | What::Request { .. }
        | What::Carried { .. }
        | What::Datagram { .. }
        | What::Local { .. } => true,
    }
}

/// A server of the lab's internet (an open proxy) goes on to others by itself: what reached it is recorded, what it does
/// then can't be. Its own connections come from beside the one they reach, or from the internet's end of the link.
fn is_the_internets(peer: IpAddr, local: IpAddr) -> bool {
    let link = [addresses::HOST_GATEWAY, addresses::HOST_GATEWAY_V6];
    peer == local || link.iter().any(|own| own.parse() == Ok(peer))
}

fn is_proxy(address: IpAddr) -> bool {
    [addresses::CORPORATE_PROXY, addresses::CORPORATE_SOCKS].iter().any(|proxy| proxy.parse() == Ok(address))
}

/// Every name that a decision let through, and what the lab's aliases lead to from there.
fn names(events: &[Value], spec: &LabSpec) -> BTreeSet<String> {
    let text = |event: &Value, pointer: &str| event.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let mut names: BTreeSet<String> = events
        .iter()
        .filter(|event| event.get("verdict").and_then(Value::as_str) != Some("denied"))
        .flat_map(|event| [text(event, "/name"), text(event, "/destination/name")])
        .flatten()
        .map(|name| name.trim_end_matches('.').to_ascii_lowercase())
        .collect();
    let aliases = aliases(spec);
    loop {
        let more: Vec<String> = aliases
            .iter()
            .filter(|(from, to)| names.contains(from) && !names.contains(to))
            .map(|(_, to)| to.clone())
            .collect();
        if more.is_empty() {
            return names;
        }
        names.extend(more);
    }
}

/// Owner and target of every alias of the lab.
fn aliases(spec: &LabSpec) -> Vec<(String, String)> {
    let scripts = spec.internet.iter().chain(&spec.corporate).filter_map(|server| server.service.names());
    let mut found = Vec::new();
    for (name, script) in scripts.flatten() {
        for answer in &script.answers {
            if let DnsAnswer::Records(records) | DnsAnswer::Truncated(records) = answer {
                let aliases = records.iter().filter(|record| record.kind == CNAME);
                found.extend(
                    aliases.map(|record| (record.owner.clone().unwrap_or_else(|| name.clone()), target(&record.data))),
                );
            }
        }
    }
    found
}

/// A name as on the wire.
fn target(data: &[u8]) -> String {
    let mut labels = Vec::new();
    let mut rest = data;
    while let Some((length, more)) = rest.split_first().filter(|(length, _)| **length > 0) {
        let Some((label, after)) = more.split_at_checked(usize::from(*length)) else { break };
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        rest = after;
    }
    labels.join(".")
}

/// What the record says was sent, and nobody got.
fn never_arrived(events: &[Value], reached: &[Reached]) -> Option<String> {
    let flows = events.iter().filter_map(Flow::of);
    let sent = flows.filter(|flow| flow.sent.is_some_and(|sent| sent > 0) && !flow.by_proxy);
    let mut lost = sent.filter(|flow| {
        let there = |one: &&Reached| {
            one.local.is_some_and(|local| Some(local.ip()) == flow.address && u64::from(local.port()) == flow.port)
        };
        flow.address.is_some() && !reached.iter().any(|one| there(&one))
    });
    lost.next().map(|flow| format!("recorded as sent, and nobody got it: {flow:?}"))
}
