//! Rules that let traffic pass unopened to hosts that a credential is bound to: what comes back there is not looked
//! through for secrets.

use std::fmt;

use values::{CredentialName, RuleName};

use crate::{
    facts::Protocol,
    host_name::HostPattern,
    model::{
        Action, From, PolicySpec, Rule, RuleEnforcement, To,
        credential::{Attach, Credential, HTTPS_PORT},
    },
};

/// The port of plain HTTP.
const PLAIN_PORT: u16 = 80;

/// A rule, and a host of a credential's to which it lets traffic pass unopened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unopened {
    /// The rule.
    pub rule: RuleName,
    /// The first such host.
    pub host: HostPattern,
    /// The credential.
    pub credential: CredentialName,
}

impl fmt::Display for Unopened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, host, credential } = self;
        write!(
            f,
            "rule {rule} lets traffic to {host} pass unopened; credential {credential} is bound to it: what comes back \
             there is not masked"
        )
    }
}

impl PolicySpec {
    /// The enforced rules by which plain HTTP, or TLS that no earlier rule has opened, goes to a host that a credential is
    /// bound to; each once for each credential. Names alone are looked at: no feeds, service tags or addresses.
    pub fn unopened(&self) -> Vec<Unopened> {
        let mut found = Vec::new();
        for (name, credential) in self.credentials.iter().filter(|(_, credential)| is_sent_as_it_is(credential)) {
            for rule in self.rules.iter().filter(|rule| may_pass_bare(rule)) {
                let mut hosts = credential.bind.hosts.iter().flat_map(|bound| self.meeting(rule, bound));
                if let Some(host) = hosts.find(|host| meets_plain_http(rule) || !self.is_opened(rule, host)) {
                    found.push(Unopened { rule: rule.name.clone(), host, credential: name.clone() });
                }
            }
        }
        found
    }

    /// The names of a host pattern that a rule goes to, but for `https` URLs.
    fn meeting(&self, rule: &Rule, bound: &HostPattern) -> Vec<HostPattern> {
        let group = match &rule.to {
            To::Any => return vec![bound.clone()],
            To::Group(_) | To::Inline(_) => self.group_of(rule),
        };
        let urls = group.into_iter().flat_map(|group| &group.urls).filter(|url| !url.tls).map(|url| &url.host);
        let hosts = group.into_iter().flat_map(|group| &group.hosts);
        hosts.chain(urls).chain(&rule.names).filter_map(|own| own.meet(bound)).collect()
    }

    /// Whether TLS that the rule lets through to this host was opened, by itself or by a rule before it.
    fn is_opened(&self, rule: &Rule, host: &HostPattern) -> bool {
        let opens = |other: &&Rule| {
            let first = other.priority < rule.priority && other.process.is_empty() && other.expires.is_none();
            let source = other.from == From::Any || other.from == rule.from;
            first
                && source
                && covers_ports(&self.opened_ports(other, host), &rule.ports)
                && self.opens_whole(other, host)
        };
        self.inspects(rule) || self.inspecting_rules().any(|other| opens(&other))
    }

    /// The ports on which a rule has TLS to a host opened; empty is any. One that attaches a credential opens none but those
    /// that the credential is bound to.
    fn opened_ports(&self, rule: &Rule, host: &HostPattern) -> Vec<(u16, u16)> {
        let Some(credential) = rule.credential.as_ref().and_then(|name| self.credentials.get(name)) else {
            return rule.ports.clone();
        };
        let bound = &credential.bind.ports;
        if bound.is_empty() && rule.ports.is_empty() {
            let urls = self.inspected_urls(rule).filter(|url| url.host.meet(host).as_ref() == Some(host));
            let urls = urls.map(|url| (url.port, url.port));
            return urls.chain([(HTTPS_PORT, HTTPS_PORT)]).collect();
        }
        if bound.is_empty() || rule.ports.is_empty() {
            return if bound.is_empty() { rule.ports.clone() } else { bound.clone() };
        }
        let shared =
            |(from, to): (u16, u16)| rule.ports.iter().map(move |(first, last)| (from.max(*first), to.min(*last)));
        bound.iter().copied().flat_map(shared).filter(|(first, last)| first <= last).collect()
    }

    /// Whether a rule has all TLS to these names opened.
    fn opens_whole(&self, rule: &Rule, host: &HostPattern) -> bool {
        let covers = |own: &HostPattern| own.meet(host).as_ref() == Some(host);
        let bound = rule.credential.as_ref().and_then(|name| self.credentials.get(name));
        let named = match self.group_of(rule) {
            None => rule.to == To::Any && self.inspects_whole(rule),
            Some(group) => {
                let whole = self.inspects_whole(rule) && group.hosts.iter().chain(&rule.names).any(covers);
                whole || self.inspected_urls(rule).any(|url| covers(&url.host))
            }
        };
        named && bound.is_none_or(|credential| credential.bind.hosts.iter().any(covers))
    }
}

/// Whether the secret itself stands in requests.
fn is_sent_as_it_is(credential: &Credential) -> bool {
    match credential.attach {
        Attach::SigV4 { .. } | Attach::ClientCertificate => false,
        Attach::Bearer
        | Attach::Basic { .. }
        | Attach::Header { .. }
        | Attach::Query { .. }
        | Attach::Cookie { .. }
        | Attach::Placeholder { .. } => true,
    }
}

/// Whether the rule lets anything through over TCP that need not be inside opened TLS.
fn may_pass_bare(rule: &Rule) -> bool {
    rule.action != Action::Deny
        && rule.enforcement == RuleEnforcement::Enforce
        && rule.protocol.is_none_or(|protocol| protocol == Protocol::Tcp)
        && rule.credential.is_none()
}

/// Whether plain HTTP is expected on a port of the rule's.
fn meets_plain_http(rule: &Rule) -> bool {
    rule.ports.is_empty() || rule.ports.iter().any(|(first, last)| (*first..=*last).contains(&PLAIN_PORT))
}

/// Whether ports cover others; none is any.
fn covers_ports(one: &[(u16, u16)], other: &[(u16, u16)]) -> bool {
    let within = |(first, last): &(u16, u16)| one.iter().any(|(from, to)| from <= first && last <= to);
    one.is_empty() || (!other.is_empty() && other.iter().all(within))
}
