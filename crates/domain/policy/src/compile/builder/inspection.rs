//! Which names are inspected, and rules that could not be.

use std::collections::BTreeSet;

use crate::{
    compile::CompileError,
    facts::Protocol,
    host_name::HostPattern,
    model::{Action, Lists, PolicySpec, Rule, TlsMode, To},
};

/// Refuses a rule that asks for what its `tls`, protocol or action rules out.
pub(super) fn check(spec: &PolicySpec, rule: &Rule, errors: &mut Vec<CompileError>) {
    let bounded = rule.max_body.is_some() || rule.max_response.is_some();
    if bounded && rule.action == Action::Deny {
        errors.push(CompileError::BoundedDenial { rule: rule.name.clone() });
    }
    if let Some(problem) = spec.transform_problem(rule) {
        errors.push(CompileError::Transform { rule: rule.name.clone(), problem });
    }
    if rule.upstream_ca.is_some() && !rule.verifies_upstream() {
        errors.push(CompileError::UpstreamCa { rule: rule.name.clone() });
    }
    match rule.tls {
        TlsMode::AsNeeded => {}
        TlsMode::Inspect if rule.protocol.is_some_and(|own| own != Protocol::Tcp) => {
            errors.push(CompileError::InspectedProtocol { rule: rule.name.clone() });
        }
        TlsMode::Inspect => {}
        TlsMode::Passthrough => errors.extend(unread(spec, rule)),
    }
}

/// What a rule that passes TLS through would have to see inside.
fn unread(spec: &PolicySpec, rule: &Rule) -> Option<CompileError> {
    let error = |group, what, remedy| CompileError::PassthroughUnread { rule: rule.name.clone(), group, what, remedy };
    if let Some(url) = spec.inspected_urls(rule).next() {
        let group = match &rule.to {
            To::Group(name) => Some(name.clone()),
            To::Any | To::Inline(_) => None,
        };
        let what = format!("url https://{}{}", url.host, url.path);
        return Some(error(group, what, "leave out `tls`, or go to the host instead of the URL"));
    }
    let what = if !rule.http.is_empty() {
        "`http`"
    } else if rule.credential.is_some() || rule.transform.is_some() || rule.upstream_ca.is_some() {
        // Said of these, which have errors of their own.
        return None;
    } else if rule.max_body.is_some() {
        "`maxBody`"
    } else if rule.max_response.is_some() {
        "`maxResponse`"
    } else {
        return None;
    };
    let remedy = "leave out `tls`, or set `ports: [80]` to look at plain HTTP alone";
    rule.may_meet_tls().then(|| error(None, what.to_owned(), remedy))
}

/// The names at which TLS may be opened: those of every enforced rule that looks into it, of one that attaches a
/// credential only those that it is bound to. `*` where such a rule covers destinations whatever their name.
pub(super) fn names(spec: &PolicySpec, inspecting: &[&Rule], lists: &Lists) -> Vec<HostPattern> {
    let mut names = BTreeSet::new();
    for rule in inspecting {
        let bound = rule.credential.as_ref().and_then(|name| spec.credentials.get(name)).map(|found| &found.bind.hosts);
        let Some(bound) = bound else {
            names.extend(of_rule(spec, rule, lists));
            continue;
        };
        for own in of_rule(spec, rule, lists) {
            names.extend(bound.iter().filter_map(|host| own.meet(host)));
        }
    }
    if names.contains(&HostPattern::Any) { vec![HostPattern::Any] } else { names.into_iter().collect() }
}

/// The names at which one rule looks into TLS.
fn of_rule(spec: &PolicySpec, rule: &Rule, lists: &Lists) -> Vec<HostPattern> {
    let mut names: Vec<HostPattern> = spec.inspected_urls(rule).map(|url| url.host.clone()).collect();
    if !spec.inspects_whole(rule) {
        return names;
    }
    let Some(group) = spec.group_of(rule) else { return vec![HostPattern::Any] };
    let feed = group.feed.as_ref().and_then(|feed| lists.feeds.get(&feed.path));
    let tag = group.service_tag.as_ref().and_then(|tag| lists.service_tags.get(tag));
    let listed = || feed.into_iter().chain(tag);
    // A rule by address matches whatever name the client gives.
    if !group.cidrs.is_empty() || listed().any(|list| !list.cidrs.is_empty()) {
        return vec![HostPattern::Any];
    }
    names.extend(group.hosts.iter().chain(listed().flat_map(|list| &list.hosts)).cloned());
    names
}
