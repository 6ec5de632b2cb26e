//! What was seen, sorted into what to propose and what not.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use audit_event::{DnsDecided, Event, FlowDecided, Process, Traffic};
use jiff::Timestamp;
use policy::{
    HostName, QueryType,
    address::{self, SpecialRange},
};

use super::requests::{Looked, Request};
use crate::replay::query_type;

/// The rule of what no rule decides.
const MODE_DEFAULT: &str = "mode-default";
/// The one guard whose denials are proposed.
const PRIVATE: &str = "guard:private";
/// The ports that a name is taken to be wanted for where only its lookup was seen: the web's.
const ASSUMED_PORTS: [u16; 2] = [80, 443];

/// A transport protocol, in the order of the proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Transport {
    Tcp,
    Udp,
    Icmp,
}

/// A destination that is proposed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// A name that resolves to public addresses.
    Name(String),
    /// A public address that was dialled without a name.
    Address(IpAddr),
    /// A private address.
    Private(IpAddr),
}

/// Which flows a line of the proposal stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Reach {
    pub(super) place: Place,
    pub(super) transport: Transport,
    pub(super) port: u16,
    /// One request, where requests were looked at.
    pub(super) request: Option<Request>,
}

/// What was denied on purpose.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Refused {
    /// `HOST:PORT`, or a lookup.
    pub(super) what: String,
    /// The request, where it was looked at.
    pub(super) request: Option<Request>,
    /// The rule that denied it.
    pub(super) rule: String,
}

/// How often, when, and by whom.
#[derive(Debug, Clone, Default)]
pub(super) struct Sighting {
    pub(super) count: u64,
    pub(super) first: Option<Timestamp>,
    pub(super) last: Option<Timestamp>,
    pub(super) processes: BTreeSet<String>,
    /// Watched rules that would deny it.
    pub(super) would_deny: BTreeSet<String>,
    /// Credentials that it carried.
    pub(super) credentials: BTreeSet<String>,
    /// Some of it was let through.
    pub(super) passed: bool,
}

impl Sighting {
    pub(super) fn at(&mut self, time: Timestamp, process: Option<&Process>) {
        self.count += 1;
        self.first = Some(self.first.map_or(time, |first| first.min(time)));
        self.last = Some(self.last.map_or(time, |last| last.max(time)));
        self.processes.extend(process.map(|process| process.exe.clone()));
    }

    pub(super) fn join(&mut self, other: &Sighting) {
        self.count += other.count;
        self.first = [self.first, other.first].into_iter().flatten().min();
        self.last = [self.last, other.last].into_iter().flatten().max();
        self.processes.extend(other.processes.iter().cloned());
        self.would_deny.extend(other.would_deny.iter().cloned());
        self.credentials.extend(other.credentials.iter().cloned());
        self.passed |= other.passed;
    }
}

/// Everything that was seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) flows: u64,
    pub(super) questions: u64,
    /// Events that can't be read any more (erased or malformed names), and flows that failed.
    pub(super) unread: u64,
    pub(super) all: Sighting,
    /// What is proposed.
    pub(super) reaches: BTreeMap<Reach, Sighting>,
    /// The names under which private addresses were reached.
    pub(super) private_names: BTreeMap<IpAddr, BTreeSet<String>>,
    /// Record types beyond addresses, by name.
    pub(super) record_types: BTreeMap<String, BTreeSet<&'static str>>,
    /// Names whose lookup the mode's default denied.
    pub(super) denied_names: BTreeMap<String, Sighting>,
    /// Names that were looked up.
    pub(super) looked_up: BTreeSet<String>,
    /// What is not proposed, because it was denied on purpose.
    pub(super) refused: BTreeMap<Refused, Sighting>,
    /// What is not proposed, because no rule can name exactly it: the port, and what was sent there.
    pub(super) left_out: BTreeMap<(Reach, String), Sighting>,
    /// Destinations that only a lookup shows: their port is assumed.
    pub(super) assumed: BTreeSet<Reach>,
}

impl Seen {
    pub(super) fn event(&mut self, time: Timestamp, event: &Event) {
        match event.traffic() {
            Some(Traffic::Decided(flow)) => self.flow(time, flow),
            Some(Traffic::Question(question)) => self.question(time, question),
            Some(Traffic::Ended(_)) | None => {}
        }
    }

    fn flow(&mut self, time: Timestamp, flow: &FlowDecided) {
        self.flows += 1;
        self.all.at(time, flow.process.as_ref());
        // An asked flow comes again with its answer.
        if flow.verdict == "asked" {
            return;
        }
        let Some(mut reach) = reach_of(flow) else {
            self.unread += 1;
            return;
        };
        let to = &flow.destination;
        let address = to.address.or(to.original_address);
        let shown = to.name.clone().or_else(|| address.map(|address| address.to_string())).unwrap_or_default();
        let guarded = address.is_some_and(|address| !is_open(address));
        let on_purpose = flow.verdict == "denied" && flow.rule != MODE_DEFAULT && flow.rule != PRIVATE;
        let looked = Looked::at(flow);
        if on_purpose || (guarded && !matches!(reach.place, Place::Private(_))) {
            let (what, rule) = (format!("{shown}:{}", to.port), flow.rule.clone());
            let sighting = self.refused.entry(Refused { what, request: looked.named(), rule }).or_default();
            return sighting.at(time, flow.process.as_ref());
        }
        if let (Place::Private(address), Some(name)) = (&reach.place, &to.name) {
            self.private_names.entry(*address).or_default().extend(readable(name));
        }
        match looked {
            Looked::No => {}
            Looked::Named(request) => reach.request = Some(request),
            Looked::Unnamed(what) => {
                let mut sighting = Sighting::default();
                sighting.at(time, flow.process.as_ref());
                return self.leave_out(reach, &what, &sighting);
            }
        }
        let sighting = self.reaches.entry(reach).or_default();
        sighting.at(time, flow.process.as_ref());
        sighting.passed |= flow.verdict == "allowed";
        sighting.credentials.extend(flow.credential.clone());
        let would = flow.would.iter().filter(|would| would.verdict == "would-deny" && would.rule != MODE_DEFAULT);
        sighting.would_deny.extend(would.map(|would| would.rule.clone()));
    }

    fn question(&mut self, time: Timestamp, question: &DnsDecided) {
        self.questions += 1;
        self.all.at(time, question.process.as_ref());
        let Some(name) = readable(&question.name) else {
            self.unread += 1;
            return;
        };
        let denied = question.verdict == "denied";
        if denied && question.rule == PRIVATE {
            return self.private_answer(time, question, name);
        }
        if denied && question.rule != MODE_DEFAULT {
            return self.refuse_lookup(time, question, &name);
        }
        if question.verdict == "error" || question.rule.starts_with("local:") {
            return;
        }
        let listed = match query_type(&question.record_type) {
            QueryType::A | QueryType::Aaaa | QueryType::Cname | QueryType::Https | QueryType::Svcb => None,
            QueryType::Mx => Some("MX"),
            QueryType::Txt => Some("TXT"),
            QueryType::Srv => Some("SRV"),
            // Never answered for any name.
            QueryType::Other(_) => return,
        };
        if let Some(listed) = listed {
            self.record_types.entry(name.clone()).or_default().insert(listed);
        }
        if denied || listed.is_some() {
            self.denied_names.entry(name).or_default().at(time, question.process.as_ref());
        } else {
            self.looked_up.insert(name);
        }
    }

    fn refuse_lookup(&mut self, time: Timestamp, question: &DnsDecided, name: &str) {
        let refused = Refused { what: format!("lookup of {name}"), request: None, rule: question.rule.clone() };
        self.refused.entry(refused).or_default().at(time, question.process.as_ref());
    }

    /// Lists what no rule can name exactly.
    pub(super) fn leave_out(&mut self, whole: Reach, what: &str, sighting: &Sighting) {
        self.left_out.entry((whole, what.to_owned())).or_default().join(sighting);
    }

    /// A name that resolves to private addresses alone: the guard stood before the answer.
    fn private_answer(&mut self, time: Timestamp, question: &DnsDecided, name: String) {
        // The address that was kept back is not among the answers: it stands before the reason.
        let kept_back = question.reason.split(": ").next().and_then(|address| address.parse().ok());
        let addresses: Vec<IpAddr> =
            question.answers.iter().copied().chain(kept_back).filter(|ip| is_private(*ip)).collect();
        if addresses.is_empty() {
            return self.refuse_lookup(time, question, &name);
        }
        for address in addresses {
            self.private_names.entry(address).or_default().insert(name.clone());
            let mut sighting = Sighting::default();
            sighting.at(time, question.process.as_ref());
            self.assume(&Place::Private(address), &sighting);
        }
    }

    /// Puts together what only all events show. To be called once, at the end.
    pub(super) fn settle(&mut self) {
        let named: BTreeSet<String> = self
            .reaches
            .keys()
            .filter_map(|reach| match &reach.place {
                Place::Name(name) => Some(name.clone()),
                Place::Address(_) | Place::Private(_) => None,
            })
            .chain(self.private_names.values().flatten().cloned())
            .collect();
        let mut assumed = Vec::new();
        for (name, sighting) in &self.denied_names {
            if !named.contains(name) {
                assumed.push((Place::Name(name.clone()), sighting.clone()));
            }
        }
        for (place, sighting) in assumed {
            self.assume(&place, &sighting);
        }
        self.settle_assumed();
        self.settle_requests();
        self.looked_up.retain(|name| !named.contains(name) && !self.denied_names.contains_key(name));
    }

    /// Takes a place to be wanted at the web's ports. The sighting counts once, at the first of them.
    fn assume(&mut self, place: &Place, sighting: &Sighting) {
        for (index, port) in ASSUMED_PORTS.into_iter().enumerate() {
            let reach = Reach { place: place.clone(), transport: Transport::Tcp, port, request: None };
            if !self.reaches.contains_key(&reach) {
                self.assumed.insert(reach.clone());
            }
            let seen = self.reaches.entry(reach).or_default();
            if index == 0 {
                seen.join(sighting);
            }
        }
    }

    /// An assumed port is dropped where a flow shows another.
    fn settle_assumed(&mut self) {
        let known: BTreeSet<Place> = self
            .reaches
            .keys()
            .filter(|reach| !self.assumed.contains(reach))
            .map(|reach| reach.place.clone())
            .collect();
        let dropped: Vec<Reach> = self.assumed.iter().filter(|reach| known.contains(&reach.place)).cloned().collect();
        for reach in dropped {
            self.assumed.remove(&reach);
            self.reaches.remove(&reach);
        }
    }
}

/// A recorded name that is still a name.
fn readable(name: &str) -> Option<String> {
    HostName::parse(name).ok().map(|name| name.as_str().to_owned())
}

/// Whether no guard covers the address and all that it embeds.
fn is_open(ip: IpAddr) -> bool {
    address::judged_addresses(ip)
        .into_iter()
        .all(|ip| matches!(address::special(ip), None | Some(SpecialRange::Documentation)))
}

fn is_private(ip: IpAddr) -> bool {
    address::judged_addresses(ip).len() == 1 && address::special(ip) == Some(SpecialRange::Private)
}

/// The line of the proposal that a flow belongs to; none for what can't be proposed at all.
fn reach_of(flow: &FlowDecided) -> Option<Reach> {
    let to = &flow.destination;
    let transport = match flow.protocol.as_str() {
        "tcp" => Transport::Tcp,
        "udp" => Transport::Udp,
        "icmp" => Transport::Icmp,
        _ => return None,
    };
    if flow.verdict == "error" || (to.port == 0 && transport != Transport::Icmp) {
        return None;
    }
    let address = to.address.or(to.original_address).map(address::canonical);
    let place = match (&to.name, address) {
        (Some(name), Some(address)) if is_private(address) => {
            readable(name)?;
            Place::Private(address)
        }
        (Some(name), _) => Place::Name(readable(name)?),
        (None, Some(address)) if is_private(address) => Place::Private(address),
        (None, Some(address)) => Place::Address(address),
        (None, None) => return None,
    };
    let port = if transport == Transport::Icmp { 0 } else { to.port };
    Some(Reach { place, transport, port, request: None })
}
