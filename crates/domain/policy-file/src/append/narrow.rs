//! What "always" means: the rule that asked, narrowed to what was asked.

use std::net::IpAddr;

use ipnet::IpNet;
use policy::{
    HostName, HttpFacts, Protocol, Target,
    http_path::PathGlob,
    model::{Action, Group, PolicySpec, Rule, RuleEnforcement, To},
};
use values::RuleName;

use super::NewRule;
use crate::{parse::PolicyFile, wire};

/// The only port where a rule that looks at requests leaves TLS alone.
const PLAIN_PORT: u16 = 80;

/// What a person was asked.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The rule that asks.
    pub rule: &'a RuleName,
    /// Where the flow goes.
    pub to: &'a Target,
    /// The address that was judged.
    pub address: Option<IpAddr>,
    /// The port.
    pub port: u16,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The request, where the flow was decided by it.
    pub request: Option<&'a HttpFacts>,
    /// Whether the request was seen inside TLS.
    pub inside_tls: bool,
}

/// Why no rule can say what was asked, and no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotFaithful {
    /// It comes from elsewhere: from a preset, a pack, or another file.
    #[error("the rule that asks is not written in the file")]
    NotWritten,
    /// The file was changed since.
    #[error("the rule that asks is another one in the file")]
    OtherRule,
    /// Where the flow goes is not what the rule names.
    #[error("the rule goes to addresses, and no single one was asked for")]
    NoAddress,
    /// An ambiguous path.
    #[error("the path can be read in more than one way")]
    Ambiguous,
    /// A star in the path, or what a terminal may not show.
    #[error("a rule can't name this path exactly")]
    Path,
    /// The rule looks at requests, and none was seen.
    #[error("the rule looks at requests, and none was seen")]
    NoRequest,
    /// The new rule would have TLS opened that is not now.
    #[error("a rule for this plain request would have TLS to the same port opened")]
    WouldOpen,
}

impl NewRule {
    /// The rule of the file that asked, narrowed to what was asked, and allowing it: judged right before it.
    pub fn always(file: &PolicyFile, asked: &Asked<'_>, note: Option<String>) -> Result<Self, NotFaithful> {
        let name = asked.rule.as_str();
        let written = file.written.spec.rules.iter().find(|rule| rule.name == name).ok_or(NotFaithful::NotWritten)?;
        let rule = file.spec.rules.iter().find(|rule| rule.name == *asked.rule).ok_or(NotFaithful::NotWritten)?;
        if rule.action != Action::Ask || rule.enforcement != RuleEnforcement::Enforce {
            return Err(NotFaithful::OtherRule);
        }
        let (group, names) = destination(&file.spec, rule, asked)?;
        let http = requests(&file.spec, rule, written, asked)?;
        let label: String = asked.to.to_string().chars().filter(|c| !matches!(c, '[' | ']')).take(100).collect();
        let rule = wire::Rule {
            name: format!("always-{label}"),
            priority: 0,
            to: wire::To::Group(group),
            names,
            protocol: Some(match asked.protocol {
                Protocol::Tcp => wire::Protocol::Tcp,
                Protocol::Udp => wire::Protocol::Udp,
                Protocol::Icmp => wire::Protocol::Icmp,
            }),
            ports: (asked.protocol != Protocol::Icmp)
                .then(|| wire::OneOrMany::Many(vec![wire::Port::One(i64::from(asked.port))])),
            tls: if !http.is_empty() && asked.inside_tls { Some(wire::Tls::Inspect) } else { written.tls },
            http,
            action: wire::Action::Allow,
            enforcement: None,
            // What else the name is asked for was not asked.
            record_types: Vec::new(),
            note,
            ..written.clone()
        };
        Ok(Self { rule, before: Some(asked.rule.clone()) })
    }

    /// The rule in one line, as a person is shown it: without its place.
    pub fn shown(&self) -> String {
        let mut value = serde_json::to_value(&self.rule).unwrap_or_default();
        if let Some(fields) = value.as_object_mut() {
            ["priority", "note"].iter().for_each(|name| drop(fields.remove(*name)));
        }
        value.to_string()
    }
}

/// The one destination, and the names that it opens: by name where the rule names it, else by address.
fn destination(spec: &PolicySpec, rule: &Rule, asked: &Asked<'_>) -> Result<(wire::Group, Vec<String>), NotFaithful> {
    let group = match &rule.to {
        To::Any => None,
        To::Group(name) => Some(spec.groups.get(name).ok_or(NotFaithful::OtherRule)?),
        To::Inline(group) => Some(group),
    };
    let (name, address) = match asked.to {
        Target::Name(name) => (Some(name), asked.address),
        Target::Address(address) => (None, Some(*address)),
    };
    if let Some(name) = name
        && group.is_none_or(|group| names(group, name))
    {
        return Ok((wire::Group { hosts: vec![name.to_string()], ..wire::Group::default() }, Vec::new()));
    }
    let address = address.ok_or(NotFaithful::NoAddress)?;
    let listed = |group: &Group| group.feed.is_some() || group.service_tag.is_some();
    if !group.is_none_or(|group| listed(group) || group.cidrs.iter().any(|range| range.contains(&address))) {
        return Err(NotFaithful::OtherRule);
    }
    let opened = name.filter(|name| rule.names.iter().any(|pattern| pattern.matches(name)));
    let cidrs = vec![IpNet::from(address).to_string()];
    Ok((wire::Group { cidrs, ..wire::Group::default() }, opened.map(HostName::to_string).into_iter().collect()))
}

/// Whether a group names a host.
fn names(group: &Group, name: &HostName) -> bool {
    let urls = group.urls.iter().map(|url| &url.host);
    let by_range = !group.cidrs.is_empty() || group.service_tag.is_some();
    // What a feed lists is not known here; one beside ranges may not be why.
    group.hosts.iter().chain(urls).any(|pattern| pattern.matches(name)) || (group.feed.is_some() && !by_range)
}

/// The conditions on the request: its method and path, and what else the rule wants of such a one.
fn requests(
    spec: &PolicySpec,
    rule: &Rule,
    written: &wire::Rule,
    asked: &Asked<'_>,
) -> Result<Vec<wire::HttpMatch>, NotFaithful> {
    let group = match &rule.to {
        To::Any => None,
        To::Group(name) => spec.groups.get(name),
        To::Inline(group) => Some(group),
    };
    let Some(request) = asked.request else {
        let looks = rule.needs_request() || group.is_some_and(|group| !group.urls.is_empty());
        return if looks { Err(NotFaithful::NoRequest) } else { Ok(Vec::new()) };
    };
    if !asked.inside_tls && asked.port != PLAIN_PORT && !(rule.needs_request() && spec.inspects(rule)) {
        return Err(NotFaithful::WouldOpen);
    }
    let path = request.path.as_deref().ok_or(NotFaithful::Ambiguous)?;
    if path.contains('*') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(NotFaithful::Path);
    }
    let exactly = |other: wire::HttpMatch| wire::HttpMatch {
        methods: vec![request.method.clone()],
        paths: vec![path.to_owned()],
        ..other
    };
    if written.http.is_empty() {
        return Ok(vec![exactly(wire::HttpMatch::default())]);
    }
    let covers = |entry: &&wire::HttpMatch| {
        let glob = |text: &String| PathGlob::parse(text).is_ok_and(|glob| glob.matches(path));
        let sent = if asked.inside_tls { wire::Scheme::Https } else { wire::Scheme::Http };
        entry.scheme.is_none_or(|scheme| scheme == sent)
            && (entry.methods.is_empty() || entry.methods.contains(&request.method))
            && (entry.paths.is_empty() || entry.paths.iter().any(glob))
    };
    let entries: Vec<_> = written.http.iter().filter(covers).cloned().map(exactly).collect();
    if entries.is_empty() { Err(NotFaithful::OtherRule) } else { Ok(entries) }
}

#[cfg(test)]
mod tests;
