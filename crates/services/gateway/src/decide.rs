//! From facts to a decision: gathers what the policy says it needs, and judges every reading of a flow.
//!
//! A flow can often be read in more than one way: its server name says one thing, the address it dialled
//! another. Each reading is judged and the strictest verdict holds, so no way to put a name beside an
//! address gets more than the stricter of the two.

use std::{net::IpAddr, sync::Arc};

use policy::{
    Decision, Fact, Guard, Layer, Missing, NameAnswer, NamedHost, ProcessFacts, Protocol, QueryType, Step, Verdict,
};
use smallvec::{SmallVec, smallvec};

use crate::{flow::Flow, in_force::InForce, resolve::ResolveError, shared::Shared};

/// The most addresses of one name that are judged.
const ADDRESS_LIMIT: usize = 16;
/// How often one reading may ask for a fact.
const STEP_LIMIT: usize = 32;

/// One reading of a flow: a name, or none, and an address, or one still to be resolved.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    /// The name.
    pub(crate) name: Fact<NamedHost>,
    /// The address.
    pub(crate) address: Fact<IpAddr>,
}

/// The outcome for one flow.
#[derive(Debug)]
pub(crate) struct Judged {
    /// The decision.
    pub(crate) decision: Decision,
    /// The addresses that it allows, in order; empty where it does not.
    pub(crate) addresses: SmallVec<[IpAddr; 4]>,
    /// The policy it was made under.
    pub(crate) in_force: Arc<InForce>,
    /// A name that could not be resolved, where that is why nothing is allowed.
    pub(crate) failed: Option<String>,
}

/// What a caller can still learn, and what was said by a person.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Limits {
    /// The request head may still be read: stop and say so.
    pub(crate) may_read_request: bool,
    /// A person said yes: a name that only an `ask` covers may be resolved.
    pub(crate) approved: bool,
}

/// Judges every reading; the strictest verdict holds, and of equal ones the first.
/// `None` where the request has to be read first: nothing is denied whatever it says.
pub(crate) async fn judge(shared: &Shared, flow: &mut Flow, readings: &[Reading], limits: Limits) -> Option<Judged> {
    let in_force = shared.in_force();
    let mut strictest: Option<(Judged, Reading)> = None;
    let mut needs_request = false;
    for reading in readings {
        flow.facts.name = reading.name.clone();
        flow.facts.address = reading.address;
        let Some(judged) = judge_reading(shared, &in_force, flow, limits).await else {
            needs_request = true;
            continue;
        };
        let stricter = strictest.as_ref().is_none_or(|(before, _)| judged.decision.verdict > before.decision.verdict);
        let reading = Reading { name: flow.facts.name.clone(), address: flow.facts.address };
        if stricter {
            strictest = Some((judged, reading));
        }
    }
    let (judged, reading) = strictest.filter(|(judged, _)| !needs_request || !may_go_on(judged))?;
    flow.facts.name = reading.name;
    flow.facts.address = reading.address;
    Some(judged)
}

/// Judges one reading, learning what is asked for; the request is held back until it is, so that it is known whether
/// the requests after it have to be judged too. Leaves the address that decided in the facts.
async fn judge_reading(shared: &Shared, in_force: &Arc<InForce>, flow: &mut Flow, limits: Limits) -> Option<Judged> {
    flow.facts.http = Fact::Pending;
    // A person said yes to the name: the address is judged now, where the policy was content without it.
    let mut resolve_first = limits.approved && flow.facts.address == Fact::Pending;
    let mut waiting: SmallVec<[IpAddr; 4]> = SmallVec::new();
    let mut best: Option<(Decision, SmallVec<[IpAddr; 4]>)> = None;
    let mut failed = None;
    for _ in 0..STEP_LIMIT * ADDRESS_LIMIT {
        let step = if resolve_first { Step::Needs(Missing::Address) } else { flow.facts.judge(in_force) };
        resolve_first = false;
        match step {
            Step::Needs(Missing::Name) => flow.facts.name = Fact::Absent,
            Step::Needs(Missing::Process) => learn_process(shared, flow).await,
            Step::Needs(Missing::Http) => {
                flow.judged_by_request = true;
                flow.facts.http = match &flow.request {
                    Fact::Known(request) => Fact::Known(request.clone()),
                    Fact::Pending if limits.may_read_request => return None,
                    Fact::Pending | Fact::Absent => Fact::Absent,
                };
            }
            Step::Needs(Missing::Address) => match resolve(shared, in_force, flow, limits).await {
                Ok(addresses) => {
                    waiting = addresses;
                    waiting.reverse();
                    flow.facts.address = waiting.pop().map_or(Fact::Absent, Fact::Known);
                }
                Err(error) => {
                    flow.facts.address = Fact::Absent;
                    if let Some((rule, reason)) = error.rule() {
                        let mut decision = Decision::by_guard(Guard::DnsLimit, Layer::Dns, reason);
                        decision.rule = rule;
                        return Some(judged(in_force, decision, SmallVec::new(), None));
                    }
                    failed = Some(error.report());
                }
            },
            Step::Decided(decision) => {
                best = Some(merge(best, decision, flow.facts.address.known().copied()));
                match waiting.pop() {
                    Some(next) => flow.facts.address = Fact::Known(next),
                    None => break,
                }
            }
        }
    }
    let (decision, addresses) = match best {
        Some(best) => best,
        None => (Decision::by_guard(Guard::Malformed, Layer::Ip, "the policy came to no decision"), SmallVec::new()),
    };
    if let Some(first) = addresses.first() {
        flow.facts.address = Fact::Known(*first);
    }
    Some(judged(in_force, decision, addresses, failed))
}

fn judged(
    in_force: &Arc<InForce>,
    decision: Decision,
    addresses: SmallVec<[IpAddr; 4]>,
    failed: Option<String>,
) -> Judged {
    let failed = failed.filter(|_| decision.permit.is_none());
    Judged { decision, addresses, in_force: Arc::clone(in_force), failed }
}

/// Of the addresses of one name, those are dialled that the first allowing rule allows by the same route.
fn merge(
    before: Option<(Decision, SmallVec<[IpAddr; 4]>)>,
    decision: Decision,
    address: Option<IpAddr>,
) -> (Decision, SmallVec<[IpAddr; 4]>) {
    let addresses: SmallVec<[IpAddr; 4]> = address.into_iter().collect();
    match before {
        None => (decision, addresses),
        Some((kept, mut known)) => {
            if kept.verdict == decision.verdict && kept.rule == decision.rule && kept.route == decision.route {
                known.extend(addresses);
                (kept, known)
            } else if decision.verdict < kept.verdict {
                (decision, addresses)
            } else {
                (kept, known)
            }
        }
    }
}

/// Resolves the flow's name, where the policy opens it.
async fn resolve(
    shared: &Shared,
    in_force: &InForce,
    flow: &Flow,
    limits: Limits,
) -> Result<SmallVec<[IpAddr; 4]>, ResolveError> {
    let Some(name) = flow.facts.host_name() else { return Ok(SmallVec::new()) };
    let opened = in_force.policy.judge_name(&in_force.source, name, QueryType::A, jiff::Timestamp::now());
    match opened.answer {
        NameAnswer::Resolve => {}
        NameAnswer::Synthetic if limits.approved => {}
        // The rules are judged on without an address: none can allow it.
        NameAnswer::Refuse | NameAnswer::Synthetic => return Ok(SmallVec::new()),
    }
    let resolved = shared.names.resolve(in_force, opened.route.as_ref(), name).await?;
    Ok(resolved.addresses.iter().copied().take(ADDRESS_LIMIT).collect())
}

/// Whether this address is one of the name's: answered before, or found now where the policy opens the name.
pub(crate) async fn is_bound(shared: &Shared, name: &policy::HostName, address: IpAddr) -> bool {
    if shared.names.is_bound(name, address) {
        return true;
    }
    let in_force = shared.in_force();
    let opened = in_force.policy.judge_name(&in_force.source, name, QueryType::A, jiff::Timestamp::now());
    if opened.answer != NameAnswer::Resolve {
        return false;
    }
    let resolved = shared.names.resolve(&in_force, opened.route.as_ref(), name).await;
    resolved.is_ok_and(|resolved| resolved.addresses.contains(&address))
}

/// Looks the process up; it stays absent where it can't be found.
pub(crate) async fn learn_process(shared: &Shared, flow: &mut Flow) {
    if flow.process.is_none()
        && flow.facts.protocol == Protocol::Tcp
        && let Some(processes) = &shared.processes
    {
        let digest =
            shared.in_force().policy.spec().rules.iter().any(|rule| {
                rule.process.iter().any(|process| matches!(process, policy::model::ProcessMatch::Digest(_)))
            });
        flow.process = processes.find(flow.client, flow.server, digest).await;
    }
    flow.facts.process = match &flow.process {
        Some(process) => Fact::Known(ProcessFacts {
            pid: process.pid,
            executable: process.exe.clone(),
            digest: process.digest.clone(),
        }),
        None => Fact::Absent,
    };
}

/// A denial of the gateway's own.
pub(crate) fn denied(shared: &Shared, guard: Guard, layer: Layer, reason: impl Into<policy::Reason>) -> Judged {
    Judged {
        decision: Decision::by_guard(guard, layer, reason),
        addresses: SmallVec::new(),
        in_force: shared.in_force(),
        failed: None,
    }
}

/// The one reading of a flow whose name is known and whose address is not.
pub(crate) fn by_name(named: NamedHost) -> SmallVec<[Reading; 2]> {
    smallvec![Reading { name: Fact::Known(named), address: Fact::Pending }]
}

/// Whether a verdict lets a flow go on or may after a question.
pub(crate) fn may_go_on(judged: &Judged) -> bool {
    match judged.decision.verdict {
        Verdict::Allowed | Verdict::Asked => true,
        Verdict::Denied => false,
    }
}

/// No address at all.
pub(crate) fn nowhere() -> SmallVec<[IpAddr; 4]> {
    SmallVec::new()
}
