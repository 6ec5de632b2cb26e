//! The ways in which the first bytes and the dialled address can be read together.

use std::net::{IpAddr, SocketAddr};

use policy::{
    Decision, EchState, Fact, Guard, HostName, Layer, NameSource, NamedHost, Target, TlsFacts, model::StrictBinding,
};
use smallvec::{SmallVec, smallvec};
use wire::{
    client_hello::ClientHello,
    form::MethodField,
    http_head::{Framing, RequestHead},
    intent::Intent,
};

use crate::{
    decide::{self, Judged, Limits, Reading},
    ech,
    flow::Flow,
    inspect, refuse, rewrite,
    shared::Shared,
};

/// The readings of a flow; all are judged and the strictest verdict holds.
pub(crate) type Readings = SmallVec<[Reading; 2]>;

/// Judges a flow that dialled an address, by what its first bytes say.
pub(crate) async fn judge(
    shared: &Shared,
    flow: &mut Flow,
    original: SocketAddr,
    intent: &Intent,
) -> (Readings, Judged) {
    let (readings, judged) = judge_or_open(shared, flow, original, intent, Limits::default()).await;
    let undecided = || decide::denied(shared, Guard::Malformed, Layer::Ip, "the policy came to no decision");
    (readings, judged.unwrap_or_else(undecided))
}

/// The same for a flow that nothing was done for yet: no decision where the policy has to see the requests inside its
/// TLS, and they may be read.
pub(crate) async fn judge_or_open(
    shared: &Shared,
    flow: &mut Flow,
    original: SocketAddr,
    intent: &Intent,
    limits: Limits,
) -> (Readings, Option<Judged>) {
    match plan(shared, flow, original, intent).await {
        Ok(readings) => {
            let Some(judged) = decide::judge(shared, flow, &readings, limits).await else { return (readings, None) };
            let judged = match intent {
                Intent::Http(head, _) => hold_to_request(shared, flow, head, judged),
                Intent::Tls(_) | Intent::Http2 | Intent::Raw | Intent::Silent | Intent::Malformed(..) => judged,
            };
            (readings, Some(judged))
        }
        Err(judged) => (SmallVec::new(), Some(*judged)),
    }
}

/// The readings of a flow to an address, without a name of its own.
pub(crate) fn by_address(shared: &Shared, address: SocketAddr) -> Readings {
    Place::new(shared, address).nameless(shared)
}

/// The readings of datagrams to an address: by the names under which the sandbox was given it.
pub(crate) fn by_answer(shared: &Shared, address: SocketAddr) -> Readings {
    Place::new(shared, address).by_answer(shared)
}

/// Where the method or path was judged, an origin must not be told to act on another one, and the body holds the rule's
/// bound, where its length is told.
pub(crate) fn hold_to_request(shared: &Shared, flow: &Flow, head: &RequestHead, judged: Judged) -> Judged {
    match head.overrides().or_else(|| MethodField::of(head).err()) {
        Some(reason) if flow.judged_by_request && decide::may_go_on(&judged) => {
            decide::denied(shared, Guard::Malformed, Layer::Http, reason)
        }
        _ => hold_to_changes(flow, head, hold_to_bounds(head, judged)),
    }
}

/// What the rule changes can be changed.
fn hold_to_changes(flow: &Flow, head: &RequestHead, judged: Judged) -> Judged {
    let rule = &judged.decision.rule;
    let changes = judged.in_force.policy.request_changes(rule).filter(|_| decide::may_go_on(&judged));
    match changes.and_then(|changes| rewrite::fault(head, changes, flow.seen.inspected)) {
        Some(reason) => {
            let decision = rewrite::denial(rule, reason);
            Judged { decision, addresses: decide::nowhere(), in_force: judged.in_force, failed: None }
        }
        None => judged,
    }
}

fn hold_to_bounds(head: &RequestHead, judged: Judged) -> Judged {
    let bound = judged.in_force.bounds(&judged.decision.rule).body;
    match (head.framing, bound) {
        (Framing::Length(length), Some(bound)) if length > bound && decide::may_go_on(&judged) => {
            let mut decision = Decision::by_guard(Guard::Malformed, Layer::Http, refuse::TOO_LONG);
            decision.rule = judged.decision.rule;
            Judged { decision, addresses: decide::nowhere(), in_force: judged.in_force, failed: None }
        }
        _ => judged,
    }
}

/// Takes what the first bytes say into the facts, and finds the readings; or denies at once.
async fn plan(
    shared: &Shared,
    flow: &mut Flow,
    original: SocketAddr,
    intent: &Intent,
) -> Result<Readings, Box<Judged>> {
    let deny = |guard, layer, reason: &'static str| Err(Box::new(decide::denied(shared, guard, layer, reason)));
    let place = Place::new(shared, original);
    flow.facts.tls = Fact::Absent;
    flow.request = Fact::Absent;
    match intent {
        Intent::Malformed(layer, reason) => deny(Guard::Malformed, *layer, reason),
        Intent::Tls(hello) => {
            see_hello(shared, flow, hello, Some(original.ip())).await;
            match &hello.server_name {
                Some(name) => by_name(shared, flow, &place, name, NameSource::Sni).await,
                None => Ok(place.nameless(shared)),
            }
        }
        Intent::Http(head, _) => {
            flow.see_request(head);
            if head.authority.port.is_some_and(|port| port != original.port()) {
                return deny(Guard::Malformed, Layer::Http, "Host names another port than the connection's");
            }
            match &head.authority.host {
                Target::Name(name) => by_name(shared, flow, &place, name, NameSource::HttpHost).await,
                Target::Address(address) if *address == place.address => Ok(place.nameless(shared)),
                Target::Address(_) => {
                    deny(Guard::Binding, Layer::Http, "Host is another address than the connection's")
                }
            }
        }
        Intent::Http2 => Ok(place.nameless(shared)),
        // What should be TLS or HTTP and is neither has no name to be judged by.
        Intent::Raw | Intent::Silent if matches!(original.port(), 80 | 443) => Ok(place.nameless(shared)),
        Intent::Raw | Intent::Silent => Ok(place.by_answer(shared)),
    }
}

/// The address that was dialled.
struct Place {
    address: IpAddr,
    /// The name that it stands for, where it is none that could be dialled.
    synthetic: Option<HostName>,
}

impl Place {
    fn new(shared: &Shared, original: SocketAddr) -> Self {
        let address = policy::address::canonical(original.ip());
        Self { address, synthetic: shared.names.synthetic(address) }
    }

    /// Without a name; a name under which the address was given can only deny.
    fn nameless(&self, shared: &Shared) -> Readings {
        if self.synthetic.is_some() {
            return smallvec![Reading { name: Fact::Absent, address: Fact::Absent }];
        }
        let mut readings: Readings = smallvec![Reading { name: Fact::Absent, address: Fact::Known(self.address) }];
        readings.extend(self.candidates(shared));
        readings
    }

    /// By the names under which the address was given; without one, by the address alone.
    fn by_answer(&self, shared: &Shared) -> Readings {
        if let Some(name) = &self.synthetic {
            let named = NamedHost { name: name.clone(), source: NameSource::DnsBinding };
            return smallvec![Reading { name: Fact::Known(named), address: Fact::Pending }];
        }
        let readings: Readings = self.candidates(shared).collect();
        if readings.is_empty() { self.nameless(shared) } else { readings }
    }

    fn candidates(&self, shared: &Shared) -> impl Iterator<Item = Reading> + use<> {
        let address = Fact::Known(self.address);
        shared
            .names
            .names_of(self.address)
            .into_iter()
            .map(move |name| Reading { name: Fact::Known(NamedHost { name, source: NameSource::DnsBinding }), address })
    }
}

/// A flow that names a host itself.
async fn by_name(
    shared: &Shared,
    flow: &mut Flow,
    place: &Place,
    name: &HostName,
    source: NameSource,
) -> Result<Readings, Box<Judged>> {
    let layer = if source == NameSource::Sni { Layer::Tls } else { Layer::Http };
    let named = Fact::Known(NamedHost { name: name.clone(), source });
    if let Some(synthetic) = &place.synthetic {
        return if synthetic == name {
            Ok(smallvec![Reading { name: named, address: Fact::Pending }])
        } else {
            let reason = format!("the address was given for {synthetic}, not for {name}");
            Err(Box::new(decide::denied(shared, Guard::Binding, layer, reason)))
        };
    }
    let known = Reading { name: named.clone(), address: Fact::Known(place.address) };
    if decide::is_bound(shared, name, place.address).await {
        return Ok(smallvec![known]);
    }
    match shared.in_force().policy.spec().strict_binding {
        StrictBinding::Record => Ok(smallvec![Reading { name: named, address: Fact::Pending }]),
        StrictBinding::Deny => {
            // The name proves nothing about this address: it may deny, and only the address may allow.
            let nameless = Reading { name: Fact::Absent, address: Fact::Known(place.address) };
            let by_name = decide::judge(shared, flow, std::slice::from_ref(&known), Limits::default()).await;
            let by_address = decide::judge(shared, flow, std::slice::from_ref(&nameless), Limits::default()).await;
            match (by_name, by_address) {
                (Some(by_name), Some(by_address)) if decide::may_go_on(&by_name) && !decide::may_go_on(&by_address) => {
                    flow.facts.name = known.name;
                    let reason = format!("{} is not among the addresses of {name}", place.address);
                    Err(Box::new(decide::denied(shared, Guard::Binding, layer, reason)))
                }
                _ => Ok(smallvec![nameless, known]),
            }
        }
    }
}

/// Takes a ClientHello into the facts.
pub(crate) async fn see_hello(shared: &Shared, flow: &mut Flow, hello: &ClientHello, address: Option<IpAddr>) {
    flow.seen.server_name = hello.server_name.as_ref().map(ToString::to_string);
    let ech = if hello.encrypted { ech_state(shared, hello, address).await } else { EchState::None };
    flow.facts.tls = Fact::Known(TlsFacts { alpn: hello.alpn.clone(), ech });
    flow.request = if inspect::openable(shared, hello) { Fact::Pending } else { Fact::Absent };
}

async fn ech_state(shared: &Shared, hello: &ClientHello, address: Option<IpAddr>) -> EchState {
    let state = ech::state(hello.server_name.as_ref(), address);
    let (EchState::Unverified, Some(name)) = (state, &hello.server_name) else { return state };
    let in_force = shared.in_force();
    let opened = in_force.policy.judge_name(&in_force.source, name, policy::QueryType::Https, jiff::Timestamp::now());
    // A name that may not be asked about is not allowed by name either.
    if opened.answer != policy::NameAnswer::Resolve {
        return state;
    }
    if shared.names.ech_published(&in_force, opened.route.as_ref(), name).await { EchState::Suspect } else { state }
}
