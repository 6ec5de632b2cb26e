//! What one condition looks at in an entry, wherever each kind of event keeps it.

use std::net::IpAddr;

use serde_json::Value;

use crate::{
    event::{Destination, Event, HttpRequest, Process, Traffic, WouldRecord},
    parse::{Body, Entry},
};

pub(super) struct View<'a> {
    pub(super) entry: &'a Entry,
}

impl<'a> View<'a> {
    fn traffic(&self) -> Option<Traffic<'a>> {
        match &self.entry.body {
            Body::Known(event) => event.traffic(),
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
        match self.traffic() {
            Some(Traffic::Decided(flow)) => Some(&flow.verdict),
            Some(Traffic::Question(dns)) => Some(&dns.verdict),
            Some(Traffic::Ended(_)) => None,
            None => self.unknown("verdict"),
        }
    }

    fn would(&self) -> &'a [WouldRecord] {
        match self.traffic() {
            Some(Traffic::Decided(flow)) => &flow.would,
            Some(Traffic::Question(dns)) => &dns.would,
            Some(Traffic::Ended(_)) | None => &[],
        }
    }

    pub(super) fn would_verdicts(&self) -> impl Iterator<Item = &'a str> {
        self.would().iter().map(|would| would.verdict.as_str())
    }

    pub(super) fn rules(&self) -> Vec<&'a str> {
        let deciding = match self.traffic() {
            Some(Traffic::Decided(flow)) => Some(flow.rule.as_str()),
            Some(Traffic::Ended(flow)) => Some(flow.rule.as_str()),
            Some(Traffic::Question(dns)) => Some(dns.rule.as_str()),
            None => self.unknown("rule"),
        };
        deciding.into_iter().chain(self.would().iter().map(|would| would.rule.as_str())).collect()
    }

    fn destination(&self) -> Option<&'a Destination> {
        match self.traffic()? {
            Traffic::Decided(flow) => Some(&flow.destination),
            Traffic::Ended(flow) => Some(&flow.destination),
            Traffic::Question(_) => None,
        }
    }

    pub(super) fn hosts(&self) -> Vec<&'a str> {
        let mut hosts: Vec<&str> = self.destination().and_then(|to| to.name.as_deref()).into_iter().collect();
        match self.traffic() {
            Some(Traffic::Decided(flow)) => {
                hosts.extend(flow.tls.sni.as_deref());
                hosts.extend(flow.http.as_ref().and_then(|http| http.host.as_deref()));
            }
            Some(Traffic::Question(dns)) => hosts.push(dns.name.trim_end_matches('.')),
            Some(Traffic::Ended(_)) | None => {}
        }
        if let Body::Known(Event::CredentialUsed(used)) = &self.entry.body {
            hosts.push(&used.host);
        }
        hosts
    }

    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        if let Some(Traffic::Question(dns)) = self.traffic() {
            return dns.answers.clone();
        }
        self.destination().into_iter().flat_map(|to| [to.address, to.original_address]).flatten().collect()
    }

    pub(super) fn port(&self) -> Option<u16> {
        self.destination().map(|to| to.port)
    }

    pub(super) fn protocols(&self) -> Vec<&'a str> {
        match self.traffic() {
            Some(Traffic::Decided(flow)) => {
                let tls = (flow.tls.mode != "none").then_some("tls");
                let http = flow.http.is_some().then_some("http");
                [Some(flow.protocol.as_str()), tls, http].into_iter().flatten().collect()
            }
            Some(Traffic::Ended(flow)) => vec![&flow.protocol],
            Some(Traffic::Question(_)) => vec!["dns"],
            None => self.unknown("protocol").into_iter().collect(),
        }
    }

    /// The executable and the process id.
    pub(super) fn process(&self) -> Option<(&'a str, u32)> {
        let process: Option<&Process> = match self.traffic()? {
            Traffic::Decided(flow) => flow.process.as_ref(),
            Traffic::Ended(flow) => flow.process.as_ref(),
            Traffic::Question(dns) => dns.process.as_ref(),
        };
        process.map(|process| (process.exe.as_str(), process.pid))
    }

    pub(super) fn http(&self) -> Option<&'a HttpRequest> {
        match self.traffic()? {
            Traffic::Decided(flow) => flow.http.as_ref(),
            Traffic::Ended(_) | Traffic::Question(_) => None,
        }
    }
}
