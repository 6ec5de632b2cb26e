//! One rule, ready to be tried: what it refers to by name is a number here.

use std::sync::Arc;

use jiff::Timestamp;
use values::{Labels, RouteName, RuleName};

use crate::{
    compile::binding::Binding,
    facts::{Fact, HttpFacts, Protocol, TlsFacts},
    host_name::HostName,
    http_path::PathGlob,
    http_query::{self, Parameter},
    model::{Action, EchMode, ProcessMatch, Rule, RuleEnforcement, Scheme, header_fields::is_same},
};

/// The source class of `from: any`.
pub(crate) const ANY_SOURCE: u32 = 0;

/// No place in the policy as written.
const UNWRITTEN: u32 = u32::MAX;

/// A rule or pseudo-rule that is not off. What every trial reads fits a cache line, because with many
/// rules the one that a decision needs is rarely at hand.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct CompiledRule {
    pub(crate) name: RuleName,
    /// The next hop, the mode's where the rule has none.
    pub(crate) route: Option<RouteName>,
    /// What few rules have.
    rare: Option<Box<Rare>>,
    /// The sandboxes it is for, by class.
    pub(crate) class: u32,
    /// Its place in the policy as written.
    written: u32,
    /// The first and the last of its ports.
    span: (u16, u16),
    lists_ports: bool,
    /// `ech: allow`.
    pub(crate) allows_ech: bool,
    pub(crate) action: Action,
    /// Watched, not enforced.
    pub(crate) watch: bool,
    pub(crate) protocol: Option<Protocol>,
    pub(crate) destination: Destination,
}

const _: () = assert!(size_of::<CompiledRule>() == 64);

/// What few rules have.
#[derive(Debug, Default)]
pub(crate) struct Rare {
    /// The port ranges, where there are several.
    ports: Vec<(u16, u16)>,
    pub(crate) requests: Vec<RequestMatch>,
    /// Whether the request is looked for inside TLS too.
    pub(crate) opens_tls: bool,
    pub(crate) processes: Vec<ProcessMatch>,
    /// The credential that it attaches, and to what.
    pub(crate) binding: Option<Arc<Binding>>,
    /// Whether a path that can be read in two ways is none of its requests', because it is rewritten.
    pub(crate) rewrites_path: bool,
    /// When the rule ends; never on a rule that denies.
    pub(crate) expires: Option<Timestamp>,
}

/// Where a rule goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Destination {
    /// Anywhere.
    Any,
    /// To what is in a set.
    Set {
        /// Whether any name or URL is in it.
        names: bool,
        /// Whether any range is in it.
        ranges: bool,
    },
}

impl CompiledRule {
    /// A written rule.
    pub(crate) fn from_written(
        rule: &Rule,
        place: u32,
        (class, destination): (u32, Destination),
        (requests, binding): (Vec<RequestMatch>, Option<Arc<Binding>>),
        mode_route: Option<RouteName>,
    ) -> Self {
        let rare = Rare {
            ports: if rule.ports.len() > 1 { rule.ports.clone() } else { Vec::new() },
            requests,
            opens_tls: rule.opens_tls(),
            processes: rule.process.clone(),
            binding,
            rewrites_path: rule.transform.as_ref().is_some_and(|transform| transform.path.is_some()),
            expires: rule.expires.filter(|_| rule.action != Action::Deny),
        };
        let plain = rare.ports.is_empty() && rare.requests.is_empty() && rare.processes.is_empty();
        Self {
            name: rule.name.clone(),
            route: rule.route.clone().or(mode_route),
            rare: (!plain || rare.expires.is_some()).then(|| Box::new(rare)),
            class,
            written: place,
            span: span(&rule.ports),
            lists_ports: !rule.ports.is_empty(),
            allows_ech: rule.ech == EchMode::Allow,
            action: rule.action,
            watch: rule.enforcement == RuleEnforcement::Watch,
            protocol: rule.protocol,
            destination,
        }
    }

    /// A pseudo-rule: every sandbox may reach the destination by TCP.
    pub(crate) fn pseudo(
        name: RuleName,
        destination: Destination,
        ports: Vec<(u16, u16)>,
        route: Option<RouteName>,
    ) -> Self {
        Self {
            name,
            route,
            class: ANY_SOURCE,
            written: UNWRITTEN,
            span: span(&ports),
            lists_ports: !ports.is_empty(),
            rare: (ports.len() > 1).then(|| Box::new(Rare { ports, ..Rare::default() })),
            allows_ech: false,
            action: Action::Allow,
            watch: false,
            protocol: Some(Protocol::Tcp),
            destination,
        }
    }

    /// Its place in the policy as written; none for pseudo-rules.
    pub(crate) fn written(&self) -> Option<usize> {
        (self.written != UNWRITTEN).then_some(self.written as usize)
    }

    /// Its port ranges, both ends included; empty is any.
    pub(crate) fn ports(&self) -> &[(u16, u16)] {
        match &self.rare {
            _ if !self.lists_ports => &[],
            Some(rare) if !rare.ports.is_empty() => &rare.ports,
            Some(_) | None => std::slice::from_ref(&self.span),
        }
    }

    /// Whether flows of this protocol can match at all. What allows or asks opens UDP and ICMP only by name, and
    /// UDP only with ports (spec/egress.md 8).
    pub(crate) fn reaches(&self, protocol: Protocol) -> bool {
        if self.protocol.is_some_and(|own| own != protocol) {
            return false;
        }
        match (self.action, protocol) {
            (_, Protocol::Tcp) => true,
            (Action::Deny, Protocol::Udp) => true,
            (Action::Allow | Action::Ask, Protocol::Udp) => self.protocol.is_some() && self.lists_ports,
            (Action::Deny, Protocol::Icmp) => !self.lists_ports,
            (Action::Allow | Action::Ask, Protocol::Icmp) => self.protocol.is_some(),
        }
    }

    /// Whether it names ports.
    pub(crate) fn lists_ports(&self) -> bool {
        self.lists_ports
    }

    /// Whether the port is among the rule's.
    pub(crate) fn covers_port(&self, port: u16) -> bool {
        !self.lists_ports || self.ports().iter().any(|(first, last)| (*first..=*last).contains(&port))
    }

    /// Whether anything beside the source and the destination decides if it matches.
    pub(crate) fn is_conditional(&self) -> bool {
        self.lists_ports || self.looks_closer()
    }

    /// Whether it has conditions on the request or the process.
    pub(crate) fn looks_closer(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| !rare.requests.is_empty() || !rare.processes.is_empty())
    }

    /// Whether it is over at this moment.
    pub(crate) fn is_expired(&self, now: Timestamp) -> bool {
        self.expires().is_some_and(|end| now > end)
    }

    /// What few rules have, where it has any.
    pub(crate) fn rare(&self) -> Option<&Rare> {
        self.rare.as_deref()
    }

    /// The credential that it attaches, and to what.
    pub(crate) fn binding(&self) -> Option<&Arc<Binding>> {
        self.rare.as_ref().and_then(|rare| rare.binding.as_ref())
    }

    /// Whether what it attaches may go to this name from a sandbox with these labels; true where it attaches nothing.
    pub(crate) fn may_attach(&self, labels: &Labels, name: &HostName) -> bool {
        self.binding().is_none_or(|binding| binding.covers_sandbox(labels) && binding.covers_host(name))
    }

    /// When it ends.
    pub(crate) fn expires(&self) -> Option<Timestamp> {
        self.rare.as_ref().and_then(|rare| rare.expires)
    }
}

/// The narrowest range around all ranges.
fn span(ports: &[(u16, u16)]) -> (u16, u16) {
    let first = ports.iter().map(|(first, _)| *first).min().unwrap_or(0);
    let last = ports.iter().map(|(_, last)| *last).max().unwrap_or(u16::MAX);
    (first, last)
}

/// Conditions on a request, with the globs read.
#[derive(Debug)]
pub(crate) struct RequestMatch {
    pub(crate) scheme: Option<Scheme>,
    pub(crate) methods: Vec<String>,
    pub(crate) paths: Vec<PathGlob>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) query: Vec<(String, String)>,
}

impl RequestMatch {
    /// What any request fulfils.
    pub(crate) fn any() -> Self {
        Self { scheme: None, methods: Vec::new(), paths: Vec::new(), headers: Vec::new(), query: Vec::new() }
    }

    /// Whether a request of this flow, where one is read, may have been sent so.
    pub(crate) fn may_be_sent(&self, tls: &Fact<TlsFacts>) -> bool {
        match (self.scheme, tls) {
            (None, _) | (Some(_), Fact::Pending) => true,
            (Some(Scheme::Https), Fact::Known(_)) | (Some(Scheme::Http), Fact::Absent) => true,
            (Some(Scheme::Https), Fact::Absent) | (Some(Scheme::Http), Fact::Known(_)) => false,
        }
    }

    /// Whether the request meets every condition but on how it was sent. Where a request can be read in two ways (an ambiguous
    /// path, a header sent twice with different values or with `_` for `-` in its name, a parameter of the query sent
    /// twice) a rule that denies matches and another does not.
    pub(crate) fn matches(&self, request: &HttpFacts, action: Action) -> bool {
        let denies = action == Action::Deny;
        let method = self.methods.is_empty() || self.methods.contains(&request.method);
        let path = self.paths.is_empty()
            || match &request.path {
                Some(path) => self.paths.iter().any(|glob| glob.matches(path)),
                None => denies,
            };
        method
            && path
            && self.headers.iter().all(|(name, value)| header_matches(request, name, value, denies))
            && self.query.iter().all(|(name, value)| parameter_matches(request, name, value, denies))
    }
}

fn parameter_matches(request: &HttpFacts, name: &str, value: &str, denies: bool) -> bool {
    match http_query::parameter(request.query.as_deref().unwrap_or_default(), name) {
        Parameter::Missing => false,
        Parameter::Once(sent) => sent == value,
        Parameter::Ambiguous => denies,
    }
}

fn header_matches(request: &HttpFacts, name: &str, value: &str, denies: bool) -> bool {
    let mut sent = request.headers.iter().filter(|(field, _)| is_same(field, name)).peekable();
    if denies {
        sent.any(|(_, sent)| sent == value)
    } else {
        sent.peek().is_some() && sent.all(|(field, sent)| field == name && sent == value)
    }
}

/// `scheme://host/path-glob` of a set; the host is in the name index.
#[derive(Debug)]
pub(crate) struct Url {
    /// The set it belongs to.
    pub(crate) set: u32,
    /// `https`: the request is inside TLS.
    pub(crate) tls: bool,
    pub(crate) port: u16,
    pub(crate) path: PathGlob,
}
