//! One rule tried on one case.

use std::net::IpAddr;

use crate::{
    compile::{
        CompiledPolicy, SourceView,
        binding::Binding,
        rules::{CompiledRule, Rare},
    },
    decision::{Layer, Missing},
    facts::{Fact, Facts, NameSource, NamedHost},
    guard::Guard,
    host_name::{HostName, HostPattern},
    judge::candidates::Marks,
    model::{Action, Group, ProcessMatch, To},
};

/// A flow with one of the addresses that it may reach.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case<'f> {
    pub(crate) facts: &'f Facts<'f>,
    pub(crate) view: &'f SourceView,
    /// In canonical form.
    pub(crate) address: Fact<IpAddr>,
    /// The guard over the address.
    pub(crate) address_guard: Option<Guard>,
    /// Whether the name is a metadata service's.
    pub(crate) name_guard: bool,
}

impl<'f> Case<'f> {
    pub(crate) fn name(&self) -> Option<&'f NamedHost> {
        self.facts.name.known()
    }

    pub(crate) fn name_pending(&self) -> bool {
        matches!(self.facts.name, Fact::Pending)
    }

    pub(crate) fn address_pending(&self) -> bool {
        matches!(self.address, Fact::Pending)
    }

    /// The guard that stands before the rules; of two the first named.
    pub(crate) fn guard(&self) -> Option<Guard> {
        let by_name = self.name_guard.then_some(Guard::Metadata);
        by_name.into_iter().chain(self.address_guard).min()
    }

    /// The layer whose facts tell the name.
    pub(crate) fn name_layer(&self) -> Layer {
        match self.name().map(|named| named.source) {
            Some(NameSource::Sni) => Layer::Tls,
            Some(NameSource::HttpHost | NameSource::ProxyTarget) => Layer::Http,
            Some(NameSource::DnsBinding | NameSource::DnsQuestion) => Layer::Dns,
            None => Layer::Ip,
        }
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.facts.tls.known().is_some()
    }
}

/// What came of trying a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trial {
    /// It does not match.
    No(WhyNot),
    /// It matches by the facts of this layer.
    Yes(Layer),
    /// A fact is missing, and the rule may match.
    Maybe(Missing),
    /// A watched rule that matches but for what only inspection would tell: it never inspects.
    Hidden,
}

/// Why a rule does not match: the first of its conditions that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhyNot {
    Source,
    Expired,
    Protocol,
    /// UDP without ports, or ICMP not by name.
    Unopened,
    Port,
    Destination,
    /// The rule does not name the guarded address.
    Guarded(Guard),
    Process,
    Request,
    /// The rule's credential is not bound to it.
    Unbound(Unbound),
}

/// What of a flow a credential is not bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unbound {
    Sandbox,
    Host,
    Port,
    /// It is not inside TLS, or nobody could look there.
    Plain,
    Request,
}

impl CompiledPolicy {
    /// Tries a rule that was reached in these ways.
    pub(crate) fn try_rule(&self, rule: &CompiledRule, marks: Marks, case: &Case<'_>) -> Trial {
        let facts = case.facts;
        if !case.view.has_class(rule.class) {
            return Trial::No(WhyNot::Source);
        }
        if rule.is_expired(facts.now) {
            return Trial::No(WhyNot::Expired);
        }
        if !rule.reaches(facts.protocol) {
            let other = rule.protocol.is_some_and(|own| own != facts.protocol);
            return Trial::No(if other { WhyNot::Protocol } else { WhyNot::Unopened });
        }
        if !rule.covers_port(facts.port) {
            return Trial::No(WhyNot::Port);
        }
        let reached = reach(rule, marks, case);
        if let Trial::No(_) = reached {
            return reached;
        }
        if rule.action != Action::Deny
            && let Some(guard) = case.guard()
            && !self.names_guarded(rule, marks, case)
        {
            return Trial::No(WhyNot::Guarded(guard));
        }
        // Where the destination itself is pending, that is found out first.
        let pending = match reached {
            Trial::Maybe(Missing::Name) => true,
            Trial::Maybe(Missing::Address) => case.name().is_none(),
            Trial::Maybe(Missing::Http | Missing::Process) | Trial::Yes(_) | Trial::Hidden | Trial::No(_) => false,
        };
        let chosen = rule.lists_ports() || marks.has(Marks::MAY_BE_URL);
        let unbound = rule.binding().filter(|_| !pending).and_then(|binding| unbound(binding, chosen, case));
        if let Some(unbound) = unbound {
            return Trial::No(WhyNot::Unbound(unbound));
        }
        match reached {
            Trial::Yes(layer) => closer_look(rule, layer, case),
            Trial::Maybe(_) | Trial::Hidden | Trial::No(_) => reached,
        }
    }

    /// Whether the rule names what the guards over this case protect.
    pub(crate) fn names_guarded(&self, rule: &CompiledRule, marks: Marks, case: &Case<'_>) -> bool {
        let address = case.address_guard.is_none() || marks.has(Marks::OPENS_GUARD);
        let name = !case.name_guard
            || marks.has(Marks::EXACT_ADDRESS)
            || case.name().is_some_and(|named| self.writes_name(rule, &named.name));
        address && name
    }

    /// Whether this very name stands in the rule or in its group. Looked up in the policy as written:
    /// only guarded names need it.
    pub(crate) fn writes_name(&self, rule: &CompiledRule, name: &HostName) -> bool {
        let Some(written) = rule.written().and_then(|place| self.spec().rules.get(place)) else { return false };
        let group: Option<&Group> = match &written.to {
            To::Any => None,
            To::Group(group) => self.spec().groups.get(group),
            To::Inline(group) => Some(group),
        };
        let hosts = group.map(|group| group.hosts.as_slice()).unwrap_or_default();
        hosts.iter().chain(&written.names).any(|pattern| match pattern {
            HostPattern::Exact(exact) => exact == name,
            HostPattern::Subnames(_) | HostPattern::Domain(_) | HostPattern::Any => false,
        })
    }
}

/// Whether the destination is the rule's.
fn reach(rule: &CompiledRule, marks: Marks, case: &Case<'_>) -> Trial {
    let denies = rule.action == Action::Deny;
    if marks.has(Marks::NAME) {
        Trial::Yes(case.name_layer())
    } else if marks.has(Marks::ANY.with(Marks::RANGE)) {
        Trial::Yes(Layer::Ip)
    } else if marks.has(Marks::URL) || (denies && marks.has(Marks::URL_AMBIGUOUS)) {
        Trial::Yes(Layer::Http)
    } else if denies && !rule.watch && marks.has(Marks::URL_HIDDEN) {
        // What can't be read may be what is denied.
        Trial::Yes(case.name_layer())
    } else if marks.has(Marks::NAME_PENDING) {
        Trial::Maybe(Missing::Name)
    } else if marks.has(Marks::URL_PENDING) && !(rule.watch && case.is_tls()) {
        Trial::Maybe(Missing::Http)
    } else if marks.has(Marks::ADDRESS_PENDING) || (!denies && case.address_pending() && marks.has(Marks::OPENS_NAME)) {
        Trial::Maybe(Missing::Address)
    } else if rule.watch && marks.has(Marks::URL_HIDDEN.with(Marks::URL_PENDING)) {
        Trial::Hidden
    } else {
        Trial::No(WhyNot::Destination)
    }
}

/// What is known of the flow already that the credential is not bound to; `chosen` says that the rule names its port.
fn unbound(binding: &Binding, chosen: bool, case: &Case<'_>) -> Option<Unbound> {
    if !binding.covers_sandbox(case.view.labels()) {
        return Some(Unbound::Sandbox);
    }
    let host = match &case.facts.name {
        Fact::Known(named) => binding.covers_host(&named.name),
        Fact::Pending => true,
        Fact::Absent => false,
    };
    if !host {
        return Some(Unbound::Host);
    }
    if !binding.covers_port(case.facts.port, chosen) {
        return Some(Unbound::Port);
    }
    match (&case.facts.tls, &case.facts.http) {
        (Fact::Absent, _) => Some(Unbound::Plain),
        // A request that was read where TLS is not known to be was not read inside it.
        (Fact::Pending, Fact::Known(_) | Fact::Absent) => Some(Unbound::Plain),
        (Fact::Pending, Fact::Pending) | (Fact::Known(_), _) => None,
    }
}

/// The conditions beyond source and destination. What fails for sure comes before what is missing.
pub(super) fn closer_look(rule: &CompiledRule, layer: Layer, case: &Case<'_>) -> Trial {
    let Some(rare) = rule.rare() else { return Trial::Yes(layer) };
    let process = process(&rare.processes, case);
    let request = request(rule, rare, layer, case);
    if rare.binding.is_some()
        && case.name_pending()
        && !matches!((process, request), (Trial::No(_), _) | (_, Trial::No(_)))
    {
        // Which host a credential goes to is known before anything else is looked at.
        return Trial::Maybe(Missing::Name);
    }
    match (process, request) {
        (Trial::No(_), _) => process,
        (_, Trial::No(_)) => request,
        (Trial::Maybe(_), _) => process,
        (_, Trial::Maybe(_)) => request,
        (Trial::Hidden, _) | (_, Trial::Hidden) => Trial::Hidden,
        (Trial::Yes(_), Trial::Yes(_)) => request,
    }
}

fn process(conditions: &[ProcessMatch], case: &Case<'_>) -> Trial {
    if conditions.is_empty() {
        return Trial::Yes(Layer::Ip);
    }
    let process = match &case.facts.process {
        Fact::Pending => return Trial::Maybe(Missing::Process),
        Fact::Absent => return Trial::No(WhyNot::Process),
        Fact::Known(process) => process,
    };
    let matches = conditions.iter().any(|condition| match condition {
        ProcessMatch::Executable(path) => *path == process.executable,
        ProcessMatch::Digest(digest) => process.digest.as_ref() == Some(digest),
    });
    if matches { Trial::Yes(Layer::Ip) } else { Trial::No(WhyNot::Process) }
}

/// The conditions on the request. Inside TLS it is there for a rule that looks into it; where it can't be read, a
/// condition of a rule that denies is taken for met, because what is inside may be what is denied.
fn request(rule: &CompiledRule, rare: &Rare, layer: Layer, case: &Case<'_>) -> Trial {
    if rare.requests.is_empty() {
        return Trial::Yes(layer);
    }
    // A request that was read where TLS is not known to be was not read inside it.
    let tls = match (&case.facts.tls, &case.facts.http) {
        (Fact::Pending, Fact::Known(_)) => &Fact::Absent,
        (tls, _) => tls,
    };
    let mut fitting = rare.requests.iter().filter(|condition| condition.may_be_sent(tls)).peekable();
    if fitting.peek().is_none() {
        return Trial::No(WhyNot::Request);
    }
    let unread = if rule.action == Action::Deny { Trial::Yes(layer) } else { Trial::No(WhyNot::Request) };
    match &case.facts.http {
        _ if case.is_tls() && !rare.opens_tls => unread,
        Fact::Known(http) if rare.rewrites_path && http.path.is_none() => Trial::No(WhyNot::Request),
        Fact::Known(http) if fitting.any(|condition| condition.matches(http, rule.action)) => match &rare.binding {
            Some(binding) if !binding.covers_request(http) => Trial::No(WhyNot::Unbound(Unbound::Request)),
            Some(_) | None => Trial::Yes(Layer::Http),
        },
        Fact::Known(_) => Trial::No(WhyNot::Request),
        Fact::Pending | Fact::Absent if case.is_tls() && rule.watch => Trial::Hidden,
        Fact::Pending => Trial::Maybe(Missing::Http),
        Fact::Absent if case.is_tls() => unread,
        Fact::Absent => Trial::No(WhyNot::Request),
    }
}
