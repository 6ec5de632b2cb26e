//! One rule, ready to be tried: what it refers to by name is a number here.

use jiff::Timestamp;
use smallvec::SmallVec;
use values::{RouteName, RuleName};

use crate::{
    facts::{HttpFacts, Protocol},
    http_path::PathGlob,
    model::{Action, ProcessMatch},
};

/// The source class of `from: any`.
pub(crate) const ANY_SOURCE: u32 = 0;

/// Port ranges, both ends included; empty is any.
pub(crate) type PortRanges = SmallVec<[(u16, u16); 4]>;

/// A rule or pseudo-rule that is not off. What every trial reads is kept small and together.
#[derive(Debug)]
pub(crate) struct CompiledRule {
    /// The sandboxes it is for, by class.
    pub(crate) class: u32,
    /// Its place in the policy as written; none for pseudo-rules.
    pub(crate) written: Option<u32>,
    pub(crate) action: Action,
    /// Watched, not enforced.
    pub(crate) watch: bool,
    pub(crate) protocol: Option<Protocol>,
    pub(crate) destination: Destination,
    /// `ech: allow`.
    pub(crate) allows_ech: bool,
    pub(crate) ports: PortRanges,
    /// What few rules have.
    pub(crate) closer: Option<Box<Closer>>,
    pub(crate) name: RuleName,
    /// The next hop, the mode's where the rule has none.
    pub(crate) route: Option<RouteName>,
}

/// The conditions beyond source, protocol, port and destination.
#[derive(Debug)]
pub(crate) struct Closer {
    pub(crate) requests: Vec<RequestMatch>,
    pub(crate) processes: Vec<ProcessMatch>,
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
    /// Whether flows of this protocol can match at all. What allows or asks opens UDP only with ports
    /// and ICMP only by name (spec/egress.md 8).
    pub(crate) fn reaches(&self, protocol: Protocol) -> bool {
        if self.protocol.is_some_and(|own| own != protocol) {
            return false;
        }
        match (self.action, protocol) {
            (_, Protocol::Tcp) => true,
            (Action::Deny, Protocol::Udp) => true,
            (Action::Allow | Action::Ask, Protocol::Udp) => !self.ports.is_empty(),
            (Action::Deny, Protocol::Icmp) => self.ports.is_empty(),
            (Action::Allow | Action::Ask, Protocol::Icmp) => self.protocol.is_some(),
        }
    }

    /// Whether the port is among the rule's.
    pub(crate) fn covers_port(&self, port: u16) -> bool {
        self.ports.is_empty() || self.ports.iter().any(|(first, last)| (*first..=*last).contains(&port))
    }

    /// Whether anything beside the source and the destination decides if it matches.
    pub(crate) fn is_conditional(&self) -> bool {
        !self.ports.is_empty() || self.looks_closer()
    }

    /// Whether it has conditions on the request or the process.
    pub(crate) fn looks_closer(&self) -> bool {
        self.closer.as_ref().is_some_and(|closer| !closer.requests.is_empty() || !closer.processes.is_empty())
    }

    /// Whether it is over at this moment.
    pub(crate) fn is_expired(&self, now: Timestamp) -> bool {
        self.expires().is_some_and(|end| now > end)
    }

    /// When it ends.
    pub(crate) fn expires(&self) -> Option<Timestamp> {
        self.closer.as_ref().and_then(|closer| closer.expires)
    }
}

/// Conditions on a request, with the globs read.
#[derive(Debug)]
pub(crate) struct RequestMatch {
    pub(crate) methods: Vec<String>,
    pub(crate) paths: Vec<PathGlob>,
    pub(crate) headers: Vec<(String, String)>,
}

impl RequestMatch {
    /// Whether the request meets every condition. Where a request can be read in two ways (an ambiguous
    /// path, a header sent twice with different values) a rule that denies matches and another does not.
    pub(crate) fn matches(&self, request: &HttpFacts, action: Action) -> bool {
        let denies = action == Action::Deny;
        let method = self.methods.is_empty() || self.methods.contains(&request.method);
        let path = self.paths.is_empty()
            || match &request.path {
                Some(path) => self.paths.iter().any(|glob| glob.matches(path)),
                None => denies,
            };
        method && path && self.headers.iter().all(|(name, value)| header_matches(request, name, value, denies))
    }
}

fn header_matches(request: &HttpFacts, name: &str, value: &str, denies: bool) -> bool {
    let mut sent = request.headers.iter().filter(|(field, _)| field == name).map(|(_, sent)| sent == value).peekable();
    if denies { sent.any(|equal| equal) } else { sent.peek().is_some() && sent.all(|equal| equal) }
}

/// `scheme://host/path-glob` of a set; the host is in the name index.
#[derive(Debug)]
pub(crate) struct Url {
    /// The set it belongs to.
    pub(crate) set: u32,
    /// `https`: only watched rules have such, and what they match can't be told.
    pub(crate) tls: bool,
    pub(crate) port: u16,
    pub(crate) path: PathGlob,
}
