//! From a reading of a flow to a connected upstream: decide, ask, record, connect.

use std::{net::IpAddr, sync::Arc, time::Instant};

use audit_event::{EndedBy, Event, Transfer};
use audit_log::Recorded;
use policy::{Decision, Fact, Guard, Layer, Permit, Target, Verdict, model::Route};
use tokio::net::UdpSocket;
use values::{Revision, RuleName};

use crate::{
    ask,
    decide::{self, Judged, Limits, Reading},
    dial::{self, DialError},
    flow::{Flow, FlowFacts, OpenFlow, describe},
    forward,
    in_force::InForce,
    pump::Key,
    record::{self, End, Said},
    refuse::Status,
    rejudge,
    report::report,
    shared::Shared,
    socket::Socket,
    worker::Worker,
};

/// What is kept of a flow that was decided.
mod kept;

pub(crate) use kept::open_flow;
use kept::settled;

/// How often a flow is judged again because the policy changed meanwhile.
const CHANGE_LIMIT: usize = 8;

/// What may be forwarded: decided, recorded and connected.
#[derive(Debug)]
pub(crate) struct Established<S = Socket> {
    /// The policy's proof.
    pub(crate) permit: Permit,
    /// The record's proof.
    pub(crate) recorded: Recorded,
    /// The server.
    pub(crate) upstream: S,
    /// What is kept of the flow.
    pub(crate) open: Box<OpenFlow>,
    /// The policy that it was judged under.
    pub(crate) in_force: Arc<InForce>,
}

/// Why nothing is forwarded. All of it is recorded, where it could be.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The policy, or a guard.
    Denied(Box<Decision>, Revision),
    /// Allowed, and it can't be reached.
    Unreachable(Status, String),
    /// The record could not be written.
    Unrecorded,
    /// The client went away.
    Gone,
}

/// A flow that may go on, decided and recorded, and where it may go.
#[derive(Debug)]
pub(crate) struct Going {
    /// The policy's proof.
    pub(crate) permit: Permit,
    /// The record's proof.
    pub(crate) recorded: Recorded,
    /// Where it may go.
    pub(crate) judged: Judged,
    /// The rule that a person said yes to.
    pub(crate) approved: Option<RuleName>,
}

/// Records a denial and makes it a refusal. The process is looked up for the record.
pub(crate) async fn refuse(shared: &Shared, flow: &mut Flow, judged: Judged) -> Refusal {
    if flow.process.is_none() {
        decide::learn_process(shared, flow).await;
    }
    let revision = judged.in_force.policy.revision();
    let said = Said { verdict: Some(Verdict::Denied.as_str()), ..Said::default() };
    match record::decided(shared, flow, &judged.decision, revision, said).await {
        Ok(_) => Refusal::Denied(Box::new(judged.decision), revision),
        Err(error) => unrecorded(shared, &error),
    }
}

/// A denial by one of the gateway's own guards, recorded.
pub(crate) async fn refuse_by_guard(
    shared: &Shared,
    flow: &mut Flow,
    guard: Guard,
    layer: Layer,
    reason: impl Into<policy::Reason>,
) -> Refusal {
    refuse(shared, flow, decide::denied(shared, guard, layer, reason)).await
}

/// Takes a judged flow to a connected server. The readings are judged again when the policy changed meanwhile.
pub(crate) async fn establish(
    shared: &Shared,
    flow: Flow,
    readings: &[Reading],
    judged: Judged,
) -> Result<Established, Refusal> {
    let timeout = shared.settings.connect_timeout;
    establish_by(shared, flow, readings, judged, async |route, addresses, port| {
        dial::connect(route, addresses, port, timeout).await.map(|dialled| (dialled.socket, dialled.address))
    })
    .await
}

/// The same for a flow of datagrams: its socket speaks with the first address that the route can reach.
pub(crate) async fn establish_datagrams(
    shared: &Shared,
    flow: Flow,
    readings: &[Reading],
    judged: Judged,
) -> Result<Established<UdpSocket>, Refusal> {
    establish_by(shared, flow, readings, judged, dial::datagrams).await
}

async fn establish_by<S>(
    shared: &Shared,
    flow: Flow,
    readings: &[Reading],
    judged: Judged,
    dial: impl AsyncFnOnce(&Route, &[IpAddr], u16) -> Result<(S, IpAddr), DialError>,
) -> Result<Established<S>, Refusal> {
    let mut flow = flow;
    let going = go(shared, &mut flow, readings, judged).await?;
    let Going { permit, recorded, judged, approved } = going;
    let decided = Instant::now();
    let mut open = open_flow(shared, flow, &judged, approved, decided);
    let policy = &judged.in_force.policy;
    let Some(route) = policy.route(judged.decision.route.as_ref()) else {
        return Err(unreachable(shared, &open, Status::BadGateway, "the policy has no such route".to_owned()).await);
    };
    match dial(route, &judged.addresses, open.facts.port).await {
        Ok((upstream, address)) => {
            open.facts.address = policy::Fact::Known(address);
            if let Some(name) = open.facts.host_name() {
                open.binding = shared.names.hold(name, address);
            }
            Ok(Established { permit, recorded, upstream, open, in_force: judged.in_force })
        }
        Err(error) => {
            let status = if error.timed_out() { Status::GatewayTimeout } else { Status::BadGateway };
            let error = format!("{}: {}", error.fault(), report(&error));
            Err(unreachable(shared, &open, status, error).await)
        }
    }
}

/// What an open connection may go on with: judged again, and recorded.
#[derive(Debug)]
pub(crate) struct Passed {
    going: Going,
    facts: FlowFacts,
    judged_by_request: bool,
    request_host: Option<Target>,
}

/// Decides about more bytes of a connection that is open already.
pub(crate) async fn permit(
    shared: &Shared,
    flow: Flow,
    readings: &[Reading],
    judged: Judged,
) -> Result<Passed, Refusal> {
    let mut flow = flow;
    let going = go(shared, &mut flow, readings, judged).await?;
    let mut facts = flow.facts;
    facts.http = settled(&facts, flow.request);
    Ok(Passed { going, facts, judged_by_request: flow.judged_by_request, request_host: flow.seen.host })
}

impl Passed {
    /// Gives the open connection what was judged. The permit and the record's proof are used up by it.
    /// `false` where the connection is gone, or another policy came into force: then it was cut.
    pub(crate) fn take_over(self, worker: &Worker, key: Key) -> bool {
        let Going { permit, recorded, judged, approved } = self.going;
        let _used_up: (Permit, Recorded) = (permit, recorded);
        let mut pump = worker.pump.borrow_mut();
        let Some(open) = pump.flow(key) else { return false };
        open.facts = self.facts;
        open.judged_by_request = self.judged_by_request;
        open.request_host = self.request_host;
        open.changes = judged.in_force.policy.request_changes(&judged.decision.rule).cloned().map(Box::new);
        open.bounds = judged.in_force.bounds(&judged.decision.rule);
        open.rule = judged.decision.rule;
        open.revision = judged.in_force.policy.revision();
        open.approved = approved;
        let current = worker.shared.in_force();
        if Arc::ptr_eq(&judged.in_force, &current) {
            return true;
        }
        let decision = forward::no_longer_allowed(open, &current);
        drop(pump);
        match decision {
            None => true,
            Some(decision) => {
                if let Some(gone) = rejudge::take_out(worker, key, decision.rule) {
                    worker.record_later(gone.event(&current));
                }
                false
            }
        }
    }
}

/// Decides for good: asks a person where the policy says so, and records.
pub(crate) async fn go(
    shared: &Shared,
    flow: &mut Flow,
    readings: &[Reading],
    judged: Judged,
) -> Result<Going, Refusal> {
    let mut judged = judged;
    for _ in 0..CHANGE_LIMIT {
        if let Some(error) = judged.failed.take() {
            return Err(unresolved(shared, flow, &judged, error).await);
        }
        let (permit, approved, reason) = match judged.decision.verdict {
            Verdict::Denied => return Err(refuse(shared, flow, judged).await),
            Verdict::Allowed => (judged.decision.permit.take(), None, None),
            Verdict::Asked => {
                let rule = judged.decision.rule.clone();
                let reason = question(shared, flow, &mut judged).await?;
                let mut permit = judged.decision.approve();
                if permit.is_none() {
                    // Only the name was judged: now it may be resolved, and the address is judged.
                    let limits = Limits { may_read_request: false, approved: true };
                    judged = match decide::judge(shared, flow, readings, limits).await {
                        Some(judged) => judged,
                        None => return Err(nowhere(shared, flow).await),
                    };
                    permit = match judged.decision.verdict {
                        Verdict::Allowed => judged.decision.permit.take(),
                        Verdict::Asked if judged.decision.rule == rule => judged.decision.approve(),
                        Verdict::Asked | Verdict::Denied => None,
                    };
                    if permit.is_none() && judged.failed.is_none() && judged.decision.verdict == Verdict::Denied {
                        return Err(refuse(shared, flow, judged).await);
                    }
                }
                (permit, Some(rule), Some(reason))
            }
        };
        if let Some(error) = judged.failed.take() {
            return Err(unresolved(shared, flow, &judged, error).await);
        }
        let Some(permit) = permit else { return Err(nowhere(shared, flow).await) };
        if judged.addresses.is_empty() {
            return Err(nowhere(shared, flow).await);
        }
        if Arc::ptr_eq(&judged.in_force, &shared.in_force()) {
            let revision = judged.in_force.policy.revision();
            let said =
                Said { verdict: Some(Verdict::Allowed.as_str()), reason: reason.map(str::to_owned), error: None };
            return match record::decided(shared, flow, &judged.decision, revision, said).await {
                Ok(recorded) => Ok(Going { permit, recorded, judged, approved }),
                Err(error) => Err(unrecorded(shared, &error)),
            };
        }
        // The policy changed meanwhile: what it says now counts.
        judged = match decide::judge(shared, flow, readings, Limits::default()).await {
            Some(judged) => judged,
            None => return Err(nowhere(shared, flow).await),
        };
    }
    Err(nowhere(shared, flow).await)
}

/// Asks a person; the reason for the record where the answer is yes.
async fn question(shared: &Shared, flow: &mut Flow, judged: &mut Judged) -> Result<&'static str, Refusal> {
    if flow.process.is_none() {
        decide::learn_process(shared, flow).await;
    }
    let revision = judged.in_force.policy.revision();
    let said = Said { verdict: Some(Verdict::Asked.as_str()), ..Said::default() };
    if let Err(error) = record::decided(shared, flow, &judged.decision, revision, said).await {
        return Err(unrecorded(shared, &error));
    }
    match ask::ask(shared, flow, &judged.decision).await {
        ask::Asked::Yes(reason) => Ok(reason),
        ask::Asked::No(reason) => {
            let said = Said { verdict: Some(Verdict::Denied.as_str()), reason: Some(reason.to_owned()), error: None };
            match record::decided(shared, flow, &judged.decision, revision, said).await {
                Ok(_) => {
                    let mut decision = Decision::by_guard(Guard::Malformed, judged.decision.layer, reason);
                    decision.rule = judged.decision.rule.clone();
                    Err(Refusal::Denied(Box::new(decision), revision))
                }
                Err(error) => Err(unrecorded(shared, &error)),
            }
        }
    }
}

/// An allowed flow whose name could not be resolved.
async fn unresolved(shared: &Shared, flow: &Flow, judged: &Judged, error: String) -> Refusal {
    let revision = judged.in_force.policy.revision();
    let said = Said {
        verdict: Some("error"),
        reason: Some("the name could not be resolved".to_owned()),
        error: Some(error.clone()),
    };
    match record::decided(shared, flow, &judged.decision, revision, said).await {
        Ok(_) => Refusal::Unreachable(Status::BadGateway, error),
        Err(error) => unrecorded(shared, &error),
    }
}

/// Allowed by name, and no address of it may be dialled.
async fn nowhere(shared: &Shared, flow: &mut Flow) -> Refusal {
    refuse_by_guard(shared, flow, Guard::Binding, Layer::Ip, "no address of the destination may be dialled").await
}

/// A decided flow that could not be connected.
pub(crate) async fn unreachable(shared: &Shared, open: &OpenFlow, status: Status, error: String) -> Refusal {
    let told = error.clone();
    unreachable_told(shared, open, status, (error, told)).await
}

/// The same where the record says more than the sandbox may know: `told` is what it is told.
pub(crate) async fn unreachable_told(
    shared: &Shared,
    open: &OpenFlow,
    status: Status,
    (error, told): (String, String),
) -> Refusal {
    match shared.audit.record(unreachable_event(shared, open, &error)).await {
        Ok(_) => Refusal::Unreachable(status, told),
        Err(error) => unrecorded(shared, &error),
    }
}

/// The record of that, counted.
pub(crate) fn unreachable_event(shared: &Shared, open: &OpenFlow, error: &str) -> Event {
    match open.judged_by_request {
        true => shared.tally.failed(describe(&open.facts, &Fact::Absent), error),
        false => shared.tally.error(),
    }
    let end = End { by: EndedBy::Unreachable, cut: None, bytes: Transfer::default(), error: Some(error.to_owned()) };
    record::ended(open, end)
}

fn unrecorded(shared: &Shared, error: &audit_log::RecordError) -> Refusal {
    tracing::error!(%error, "a decision could not be recorded: the flow is refused");
    shared.tally.error();
    Refusal::Unrecorded
}
