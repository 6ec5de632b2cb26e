//! What one condition looks at in an entry, wherever each kind of event keeps it.

use std::net::IpAddr;

use serde_json::Value;

use crate::{
    event::{Destination, Event, HttpRequest, Process, WouldRecord},
    parse::{Body, Entry},
};

pub(super) struct View<'a> {
    pub(super) entry: &'a Entry,
}

impl<'a> View<'a> {
    fn event(&self) -> Option<&'a Event> {
        match &self.entry.body {
            Body::Known(event) => Some(event),
            Body::Unknown(_) => None,
        }
    }

    /// A text of an event that this version doesn't know.
    fn unknown(&self, name: &str) -> Option<&'a str> {
        match &self.entry.body {
            Body::Known(_) => None,
            Body::Unknown(fields) => fields.get(name).and_then(Value::as_str),
        }
    }

    pub(super) fn verdict(&self) -> Option<&'a str> {
        match self.event() {
            Some(Event::FlowDecided(flow)) => Some(&flow.verdict),
            Some(Event::DnsDecided(dns)) => Some(&dns.verdict),
            Some(
                Event::FlowEnded(_)
                | Event::PolicyApplied(_)
                | Event::PolicyRefused(_)
                | Event::SandboxStarted(_)
                | Event::SandboxEnded(_)
                | Event::ApprovalAnswered { .. }
                | Event::AuditCheckpoint { .. }
                | Event::AuditRecovered { .. },
            ) => None,
            None => self.unknown("verdict"),
        }
    }

    fn would(&self) -> &'a [WouldRecord] {
        match self.event() {
            Some(Event::FlowDecided(flow)) => &flow.would,
            Some(Event::DnsDecided(dns)) => &dns.would,
            Some(
                Event::FlowEnded(_)
                | Event::PolicyApplied(_)
                | Event::PolicyRefused(_)
                | Event::SandboxStarted(_)
                | Event::SandboxEnded(_)
                | Event::ApprovalAnswered { .. }
                | Event::AuditCheckpoint { .. }
                | Event::AuditRecovered { .. },
            )
            | None => &[],
        }
    }

    pub(super) fn would_verdicts(&self) -> impl Iterator<Item = &'a str> {
        self.would().iter().map(|would| would.verdict.as_str())
    }

    pub(super) fn rules(&self) -> Vec<&'a str> {
        let deciding = match self.event() {
            Some(Event::FlowDecided(flow)) => Some(flow.rule.as_str()),
            Some(Event::FlowEnded(flow)) => Some(flow.rule.as_str()),
            Some(Event::DnsDecided(dns)) => Some(dns.rule.as_str()),
            Some(
                Event::PolicyApplied(_)
                | Event::PolicyRefused(_)
                | Event::SandboxStarted(_)
                | Event::SandboxEnded(_)
                | Event::ApprovalAnswered { .. }
                | Event::AuditCheckpoint { .. }
                | Event::AuditRecovered { .. },
            ) => None,
            None => self.unknown("rule"),
        };
        deciding.into_iter().chain(self.would().iter().map(|would| would.rule.as_str())).collect()
    }

    fn destination(&self) -> Option<&'a Destination> {
        match self.event() {
            Some(Event::FlowDecided(flow)) => Some(&flow.destination),
            Some(Event::FlowEnded(flow)) => Some(&flow.destination),
            Some(
                Event::DnsDecided(_)
                | Event::PolicyApplied(_)
                | Event::PolicyRefused(_)
                | Event::SandboxStarted(_)
                | Event::SandboxEnded(_)
                | Event::ApprovalAnswered { .. }
                | Event::AuditCheckpoint { .. }
                | Event::AuditRecovered { .. },
            )
            | None => None,
        }
    }

    pub(super) fn hosts(&self) -> Vec<&'a str> {
        let mut hosts: Vec<&str> = self.destination().and_then(|to| to.name.as_deref()).into_iter().collect();
        match self.event() {
            Some(Event::FlowDecided(flow)) => {
                hosts.extend(flow.tls.sni.as_deref());
                hosts.extend(flow.http.as_ref().and_then(|http| http.host.as_deref()));
            }
            Some(Event::DnsDecided(dns)) => hosts.push(dns.name.trim_end_matches('.')),
            Some(
                Event::FlowEnded(_)
                | Event::PolicyApplied(_)
                | Event::PolicyRefused(_)
                | Event::SandboxStarted(_)
                | Event::SandboxEnded(_)
                | Event::ApprovalAnswered { .. }
                | Event::AuditCheckpoint { .. }
                | Event::AuditRecovered { .. },
            )
            | None => {}
        }
        hosts
    }

    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        if let Some(Event::DnsDecided(dns)) = self.event() {
            return dns.answers.clone();
        }
        self.destination().into_iter().flat_map(|to| [to.address, to.original_address]).flatten().collect()
    }

    pub(super) fn port(&self) -> Option<u16> {
        self.destination().map(|to| to.port)
    }

    pub(super) fn protocols(&self) -> Vec<&'a str> {
        match self.event() {
            Some(Event::FlowDecided(flow)) => {
                let tls = (flow.tls.mode != "none").then_some("tls");
                let http = flow.http.is_some().then_some("http");
                [Some(flow.protocol.as_str()), tls, http].into_iter().flatten().collect()
            }
            Some(Event::FlowEnded(flow)) => vec![&flow.protocol],
            Some(Event::DnsDecided(_)) => vec!["dns"],
            Some(
                Event::PolicyApplied(_)
                | Event::PolicyRefused(_)
                | Event::SandboxStarted(_)
                | Event::SandboxEnded(_)
                | Event::ApprovalAnswered { .. }
                | Event::AuditCheckpoint { .. }
                | Event::AuditRecovered { .. },
            ) => Vec::new(),
            None => self.unknown("protocol").into_iter().collect(),
        }
    }

    /// The executable and the process id.
    pub(super) fn process(&self) -> Option<(&'a str, u32)> {
        let process: Option<&Process> = match self.event()? {
            Event::FlowDecided(flow) => flow.process.as_ref(),
            Event::FlowEnded(flow) => flow.process.as_ref(),
            Event::DnsDecided(dns) => dns.process.as_ref(),
            Event::PolicyApplied(_)
            | Event::PolicyRefused(_)
            | Event::SandboxStarted(_)
            | Event::SandboxEnded(_)
            | Event::ApprovalAnswered { .. }
            | Event::AuditCheckpoint { .. }
            | Event::AuditRecovered { .. } => None,
        };
        process.map(|process| (process.exe.as_str(), process.pid))
    }

    pub(super) fn http(&self) -> Option<&'a HttpRequest> {
        match self.event()? {
            Event::FlowDecided(flow) => flow.http.as_ref(),
            Event::FlowEnded(_)
            | Event::DnsDecided(_)
            | Event::PolicyApplied(_)
            | Event::PolicyRefused(_)
            | Event::SandboxStarted(_)
            | Event::SandboxEnded(_)
            | Event::ApprovalAnswered { .. }
            | Event::AuditCheckpoint { .. }
            | Event::AuditRecovered { .. } => None,
        }
    }
}
