//! The sandbox's DNS server: its only resolver (spec/egress.md, 3).
//!
//! ```text
//! datagram or frame ─> question (strict) ─> rate ─> judge_name ─┬─ refuse ────────────────> record ─> refusal
//!                                                               ├─ ask-only: synthetic ──> record ─> answer
//!                                                               └─ resolve ─┬─ known ──────> record ─> answer
//!                                                                           └─ record ─> query ─> record ─> answer
//! ```
//! A name that no rule opens is refused without a query. Nothing leaves, neither a query nor an answer, before its
//! record is written; where it can't be written the sandbox gets SERVFAIL. Addresses are passed on only where the
//! policy admits them (no guard over them that is shut), and are bound to their name before the answer leaves. What the aliases between a name and its
//! addresses are called is not judged: the name asked for is, and the addresses are.

/// One question in the making.
mod case;
/// What is done about a question.
mod decide;
/// Answers that are given again.
mod repeat;
/// DNS over TCP.
mod tcp;
/// DNS over UDP.
mod udp;

use std::sync::Arc;

use audit_event::Event;
use audit_log::AuditLog;
use policy::Verdict;

pub(crate) use tcp::serve_tcp;
pub(crate) use udp::serve_udp;

use crate::{
    identify::{Asker, Processes},
    in_force::CurrentPolicy,
    resolve::Names,
    summary::Tally,
};

/// What answering a question needs; one for each sandbox.
#[derive(Debug)]
pub(crate) struct DnsContext {
    policy: Arc<CurrentPolicy>,
    names: Arc<Names>,
    audit: AuditLog,
    tally: Arc<Tally>,
    processes: Option<Arc<Processes>>,
    turns: udp::Turns,
}

impl DnsContext {
    /// A server over these names.
    pub(crate) fn new(
        policy: Arc<CurrentPolicy>,
        names: Arc<Names>,
        audit: AuditLog,
        tally: Arc<Tally>,
        processes: Option<Arc<Processes>>,
    ) -> Arc<Self> {
        Arc::new(Self { policy, names, audit, tally, processes, turns: udp::Turns::default() })
    }

    /// Whether the process behind this event is to be looked up: who asks what is denied.
    fn wants_process(&self, event: &Event) -> bool {
        self.processes.is_some()
            && matches!(event, Event::DnsDecided(record) if record.verdict == Verdict::Denied.as_str())
    }

    /// Adds the process to an event, where it can be found in a moment.
    async fn with_process(&self, event: Event, asker: Asker) -> Event {
        let mut event = event;
        if let (Some(processes), Event::DnsDecided(record)) = (&self.processes, &mut event) {
            record.process = processes.find_soon(asker).await;
        }
        event
    }
}

#[cfg(test)]
mod tests;
