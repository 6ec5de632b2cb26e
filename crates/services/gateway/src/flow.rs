//! One connection of the sandbox, and everything known of it.

use std::{
    borrow::Cow,
    cell::Cell,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::{Arc, OnceLock},
    time::Instant,
};

use audit_event::Process;
use policy::{
    Decision, EchState, Fact, Facts, HttpFacts, NamedHost, ProcessFacts, Protocol, Step, Target, TlsFacts, Verdict,
    model::transform::Transform,
};
use tokio::sync::Notify;
use values::{CredentialName, Revision, RuleName};
use wire::{exchange::Bounds, http_head::RequestHead};

use crate::{
    crowd::Crowd, in_force::InForce, metadata, resolve::BindingGuard, rewrite, summary::Tally, together::Together,
};

/// What the policy judges, without the sandbox and the clock, so that it can be judged again.
#[derive(Debug, Clone)]
pub(crate) struct FlowFacts {
    /// The transport protocol.
    pub(crate) protocol: Protocol,
    /// The port.
    pub(crate) port: u16,
    /// The address that the client dialled, where it dialled one.
    pub(crate) original: Option<SocketAddr>,
    /// The address to dial.
    pub(crate) address: Fact<IpAddr>,
    /// The name.
    pub(crate) name: Fact<NamedHost>,
    /// The ClientHello.
    pub(crate) tls: Fact<TlsFacts>,
    /// The request.
    pub(crate) http: Fact<HttpFacts>,
    /// The process.
    pub(crate) process: Fact<ProcessFacts>,
}

impl FlowFacts {
    /// Asks the policy.
    pub(crate) fn judge(&mut self, in_force: &InForce) -> Step {
        let facts = Facts {
            source: &in_force.source,
            protocol: self.protocol,
            port: self.port,
            original_address: self.original,
            address: self.address,
            name: std::mem::take(&mut self.name),
            tls: std::mem::take(&mut self.tls),
            http: std::mem::take(&mut self.http),
            process: std::mem::take(&mut self.process),
            now: jiff::Timestamp::now(),
        };
        let step = in_force.policy.judge(&facts);
        self.name = facts.name;
        self.tls = facts.tls;
        self.http = facts.http;
        self.process = facts.process;
        metadata::hold(in_force, self.address, step)
    }

    /// The name, where there is one.
    pub(crate) fn host_name(&self) -> Option<&policy::HostName> {
        self.name.known().map(|named| &named.name)
    }
}

/// What was seen of a connection, for its record.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// The server name of the ClientHello.
    pub(crate) server_name: Option<String>,
    /// The request's path, without its query, as sent.
    pub(crate) path: Option<String>,
    /// The request's host.
    pub(crate) host: Option<Target>,
    /// Whether its TLS is opened.
    pub(crate) inspected: bool,
}

/// Where a process that was looked up on the side is put.
pub(crate) type ProcessSlot = Arc<OnceLock<Process>>;

/// The two ends of a connection, as the client sees them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    /// Its own.
    pub(crate) client: SocketAddr,
    /// The other.
    pub(crate) server: SocketAddr,
}

/// A connection before it is decided.
#[derive(Debug)]
pub(crate) struct Flow {
    /// Its number in this run.
    pub(crate) id: u64,
    /// When it was accepted.
    pub(crate) accepted: Instant,
    /// The client's end.
    pub(crate) client: SocketAddr,
    /// The end that the client believes to speak to.
    pub(crate) server: SocketAddr,
    /// What the policy judges.
    pub(crate) facts: FlowFacts,
    /// What else was seen.
    pub(crate) seen: Seen,
    /// The process, where it was looked up.
    pub(crate) process: Option<Process>,
    /// The request, before a decision asks for it: pending while it may still be read.
    pub(crate) request: Fact<HttpFacts>,
    /// Whether the decision looked, or would look, at the request.
    pub(crate) judged_by_request: bool,
    /// Counts it as open.
    pub(crate) count: Counted,
    /// With what else it is recorded, where others may be recorded in the same moment.
    pub(crate) together: Option<Rc<Together>>,
}

/// Counts a connection as open while it lives.
#[derive(Debug)]
pub(crate) struct Counted {
    tally: Arc<Tally>,
    live: Rc<Live>,
    total: u64,
    /// It was taken from a listener.
    taken: bool,
}

/// How many connections a worker has, from accept to end.
#[derive(Debug)]
pub(crate) struct Live {
    count: Cell<usize>,
    /// Told when one ends.
    pub(crate) ended: Notify,
    /// Those that were taken from listeners, beside the other workers'.
    pub(crate) crowd: Crowd,
}

impl Live {
    /// None yet.
    pub(crate) fn new(crowd: Crowd) -> Self {
        Self { count: Cell::new(0), ended: Notify::new(), crowd }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count.get()
    }
}

impl Counted {
    /// Counts one.
    pub(crate) fn new(tally: Arc<Tally>, live: Rc<Live>) -> Self {
        let total = tally.opened() + 1;
        live.count.set(live.count.get() + 1);
        Self { tally, live, total, taken: false }
    }

    /// Counts one that was taken from a listener.
    pub(crate) fn taken(tally: Arc<Tally>, live: Rc<Live>) -> Self {
        live.crowd.join();
        let mut counted = Self::new(tally, live);
        counted.taken = true;
        counted
    }

    /// How many were open with it, over all workers.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.tally.closed();
        self.live.count.set(self.live.count.get().saturating_sub(1));
        if self.taken {
            self.live.crowd.leave();
        }
        self.live.ended.notify_waiters();
    }
}

impl Flow {
    /// A connection of which only the ends are known.
    pub(crate) fn new(id: u64, ends: Ends, port: u16, original: Option<SocketAddr>, count: Counted) -> Self {
        Self {
            id,
            accepted: Instant::now(),
            client: ends.client,
            server: ends.server,
            facts: FlowFacts {
                protocol: Protocol::Tcp,
                port,
                original,
                address: Fact::Pending,
                name: Fact::Pending,
                tls: Fact::Pending,
                http: Fact::Pending,
                process: Fact::Pending,
            },
            seen: Seen::default(),
            process: None,
            request: Fact::Pending,
            judged_by_request: false,
            count,
            together: None,
        }
    }

    /// Takes the facts of a request head.
    pub(crate) fn see_request(&mut self, head: &RequestHead) {
        self.request = Fact::Known(head.facts());
        self.facts.tls = Fact::Absent;
        self.seen.path = Some(cut_query(&head.origin_target()).to_owned());
        self.seen.host = Some(head.authority.host.clone());
    }

    /// Where it goes, for people: `POST api.example.com`, `db.internal:5432`.
    pub(crate) fn what(&self) -> String {
        describe(&self.facts, &self.request)
    }

    /// The host a person would write into a rule.
    pub(crate) fn host(&self) -> String {
        host_of(&self.facts)
    }
}

/// Where a flow goes, for people.
pub(crate) fn describe(facts: &FlowFacts, request: &Fact<HttpFacts>) -> String {
    let host = host_of(facts);
    let target = match (facts.protocol, facts.port) {
        (Protocol::Udp, port) => format!("udp {host}:{port}"),
        (Protocol::Tcp | Protocol::Icmp, 80 | 443) => host,
        (Protocol::Tcp | Protocol::Icmp, port) => format!("{host}:{port}"),
    };
    match request.known() {
        Some(http) => format!("{} {target}", http.method),
        None => target,
    }
}

fn host_of(facts: &FlowFacts) -> String {
    let address = facts.address.known().copied().or_else(|| facts.original.map(|original| original.ip()));
    match (facts.host_name(), address) {
        (Some(name), _) => name.to_string(),
        (None, Some(address)) => Target::Address(address).to_string(),
        (None, None) => "unknown".to_owned(),
    }
}

/// The part of a request target before its query.
pub(crate) fn cut_query(target: &str) -> &str {
    target.split_once('?').map_or(target, |(path, _)| path)
}

/// A connection that is being forwarded: what is kept of it.
#[derive(Debug)]
pub(crate) struct OpenFlow {
    /// Its number.
    pub(crate) id: u64,
    /// When it was decided.
    pub(crate) decided: Instant,
    /// The revision it was decided under.
    pub(crate) revision: Revision,
    /// The rule that let it through.
    pub(crate) rule: RuleName,
    /// The credential that it carries.
    pub(crate) credential: Option<CredentialName>,
    /// The rule that a person said yes to.
    pub(crate) approved: Option<RuleName>,
    /// The client's end.
    pub(crate) client: SocketAddr,
    /// The end that the client believes to speak to.
    pub(crate) server: SocketAddr,
    /// What the policy judges.
    pub(crate) facts: FlowFacts,
    /// Whether each request is judged.
    pub(crate) judged_by_request: bool,
    /// What the rule that let the last request through changes in it.
    pub(crate) changes: Option<Box<Transform>>,
    /// The bounds on the bodies of its requests, of the rule that let the last one through.
    pub(crate) bounds: Bounds,
    /// The host of its requests, where it carries plain HTTP.
    pub(crate) request_host: Option<Target>,
    /// Whether its end is recorded.
    pub(crate) records_end: bool,
    /// The process, where it was or will be found.
    pub(crate) process: ProcessSlot,
    /// Keeps the name's address bound.
    pub(crate) binding: Option<BindingGuard>,
    /// Counts it as open.
    #[expect(dead_code, reason = "counts while it is held")]
    pub(crate) count: Counted,
}

impl OpenFlow {
    /// What holds the bodies of the request that goes on.
    pub(crate) fn held(&self) -> Bounds {
        Bounds { method: self.judged_by_request, ..self.bounds }
    }

    /// A judged request as it goes on.
    pub(crate) fn as_sent<'h>(&self, head: &'h RequestHead) -> Cow<'h, RequestHead> {
        if !self.judged_by_request {
            return Cow::Borrowed(head);
        }
        // Judged with the request: the changes can be made.
        rewrite::as_sent(head, self.changes.as_deref()).unwrap_or(Cow::Borrowed(head))
    }

    /// Whether a request is for what was judged.
    pub(crate) fn is_for_judged_host(&self, head: &RequestHead) -> bool {
        let port = head.authority.port.is_none_or(|port| port == self.facts.port);
        // One that was judged by its address alone is held to the host of its first request: another name could be denied.
        let host = match &self.request_host {
            Some(host) => head.authority.host == *host,
            None => match (&head.authority.host, self.facts.host_name()) {
                (Target::Name(name), Some(judged)) => name == judged,
                (Target::Address(address), None) => self.facts.address.known() == Some(address),
                (Target::Name(_), None) | (Target::Address(_), Some(_)) => false,
            },
        };
        port && host
    }

    /// A person's yes holds on when the policy still asks by the same rule. A secret that went along holds on only where it
    /// would go along again.
    pub(crate) fn still_goes_on(&self, decision: &Decision) -> bool {
        if self.credential.is_some() && self.credential != decision.credential {
            return false;
        }
        match decision.verdict {
            Verdict::Allowed => true,
            Verdict::Asked => self.approved.as_ref() == Some(&decision.rule),
            Verdict::Denied => false,
        }
    }
}

/// The ECH state as the record says it.
pub(crate) fn ech_text(ech: EchState) -> Option<&'static str> {
    match ech {
        EchState::None => None,
        EchState::Unverified => Some("unverified"),
        EchState::Suspect => Some("suspect"),
    }
}
