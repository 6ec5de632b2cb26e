//! What is kept of a flow that was decided: for its registry entry, its end's record and the requests that follow.

use std::time::Instant;

use policy::{Fact, HttpFacts, Protocol, model::LogMode};
use values::RuleName;

use crate::{
    decide::Judged,
    flow::{Flow, FlowFacts, OpenFlow, ProcessSlot},
    shared::Shared,
};

/// What is kept of a decided flow.
pub(crate) fn open_flow(
    shared: &Shared,
    flow: Flow,
    judged: &Judged,
    approved: Option<RuleName>,
    decided: Instant,
) -> Box<OpenFlow> {
    let rule = judged.decision.rule.clone();
    let log = judged.in_force.policy.rule(&rule).map_or(LogMode::All, |rule| rule.log);
    let slot = ProcessSlot::default();
    match (flow.process, &shared.processes) {
        (Some(process), _) => {
            // The slot is new, so it is empty.
            let _ = slot.set(process);
        }
        (None, Some(processes)) if flow.facts.protocol == Protocol::Tcp => {
            processes.find_later(flow.client, flow.server, ProcessSlot::clone(&slot))
        }
        (None, _) => {}
    }
    let mut facts = flow.facts;
    facts.http = settled(&facts, flow.request);
    Box::new(OpenFlow {
        id: flow.id,
        decided,
        revision: judged.in_force.policy.revision(),
        rule,
        // Set where a secret is obtained for it.
        credential: None,
        approved,
        client: flow.client,
        server: flow.server,
        facts,
        judged_by_request: flow.judged_by_request,
        changes: judged.in_force.policy.request_changes(&judged.decision.rule).cloned().map(Box::new),
        bounds: judged.in_force.bounds(&judged.decision.rule),
        request_host: flow.seen.host,
        records_end: match log {
            LogMode::Start => false,
            LogMode::End | LogMode::All => true,
        },
        process: slot,
        binding: None,
        count: flow.count,
    })
}

/// TLS that goes on unopened shows no request any more.
pub(super) fn settled(facts: &FlowFacts, request: Fact<HttpFacts>) -> Fact<HttpFacts> {
    match request {
        Fact::Pending if facts.tls.known().is_some() => Fact::Absent,
        request => request,
    }
}
