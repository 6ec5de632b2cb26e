//! Which rules look into TLS, and at which names.

use crate::{
    facts::Protocol,
    model::{Action, Group, PolicySpec, Rule, RuleEnforcement, Scheme, TlsMode, To, UrlPattern},
};

/// The port where TLS is not expected.
const PLAIN_PORT: u16 = 80;

impl Rule {
    /// Whether it asks more of a gateway than to let TCP on.
    pub(crate) fn is_demanding(&self) -> bool {
        self.protocol.is_some_and(|protocol| protocol != Protocol::Tcp)
            || self.credential.is_some()
            || self.transform.is_some()
            || self.upstream_ca.is_some()
    }

    /// Whether the rule decides by the request alone: it has conditions on it, bounds or changes it, attaches a
    /// credential, verifies its server by roots of its own, or says `tls: inspect`. A denial without conditions needs no request.
    pub fn needs_request(&self) -> bool {
        let inspects = self.tls == TlsMode::Inspect && self.action != Action::Deny;
        let bounds = self.max_body.is_some() || self.max_response.is_some();
        let changes = bounds || self.credential.is_some() || self.transform.is_some() || self.upstream_ca.is_some();
        !self.http.is_empty() || changes || inspects
    }

    /// Whether a request that the rule needs is looked for inside TLS too. Where it is not, TLS is to this rule a flow
    /// without any request that it could read.
    pub fn opens_tls(&self) -> bool {
        match self.tls {
            TlsMode::Inspect => true,
            TlsMode::AsNeeded => self.may_meet_tls(),
            TlsMode::Passthrough => false,
        }
    }

    /// Whether the gateway speaks TLS to the servers of what the rule lets through.
    pub fn verifies_upstream(&self) -> bool {
        let tcp = self.protocol.is_none_or(|protocol| protocol == Protocol::Tcp);
        let to_tls = self.transform.as_ref().is_some_and(|transform| transform.to_tls);
        let opens = self.tls != TlsMode::Passthrough && self.may_meet_tls();
        self.action != Action::Deny && tcp && (opens || to_tls)
    }

    /// Whether the rule may be about TLS: port 80 alone is plain HTTP, and so are conditions on plain requests alone.
    pub fn may_meet_tls(&self) -> bool {
        if !self.http.is_empty() && self.http.iter().all(|entry| entry.scheme == Some(Scheme::Http)) {
            return false;
        }
        let plain = |(first, last): &(u16, u16)| (*first, *last) == (PLAIN_PORT, PLAIN_PORT);
        self.ports.is_empty() || !self.ports.iter().all(plain)
    }
}

impl PolicySpec {
    /// The group that a rule goes to; none for any destination, and where there is no such group.
    pub(crate) fn group_of<'a>(&'a self, rule: &'a Rule) -> Option<&'a Group> {
        match &rule.to {
            To::Any => None,
            To::Group(name) => self.groups.get(name),
            To::Inline(group) => Some(group),
        }
    }

    /// The `https` URLs that a rule goes to.
    pub(crate) fn inspected_urls<'a>(&'a self, rule: &'a Rule) -> impl Iterator<Item = &'a UrlPattern> {
        self.group_of(rule).into_iter().flat_map(|group| &group.urls).filter(|url| url.tls)
    }

    /// Whether an enforced rule looks into TLS. A watched one never does.
    pub fn inspects(&self, rule: &Rule) -> bool {
        let tcp = rule.protocol.is_none_or(|protocol| protocol == Protocol::Tcp);
        let urls = || self.inspected_urls(rule).next().is_some();
        tcp && rule.enforcement == RuleEnforcement::Enforce
            && (urls() || (self.inspects_whole(rule) && self.has_more_than_urls(rule)))
    }

    /// Whether all of the rule's destination is inspected, not its `https` URLs alone.
    pub(crate) fn inspects_whole(&self, rule: &Rule) -> bool {
        rule.needs_request() && rule.opens_tls()
    }

    /// Whether the rule matches TLS only by what is inside.
    pub(crate) fn looks_inside(&self, rule: &Rule) -> bool {
        rule.needs_request() || (self.inspected_urls(rule).next().is_some() && !self.has_more_than_urls(rule))
    }

    fn has_more_than_urls(&self, rule: &Rule) -> bool {
        let lists = |group: &Group| group.feed.is_some() || group.service_tag.is_some();
        self.group_of(rule).is_none_or(|group| lists(group) || !group.hosts.is_empty() || !group.cidrs.is_empty())
    }

    /// The enforced rules that look into TLS.
    pub fn inspecting_rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(|rule| self.inspects(rule))
    }
}
