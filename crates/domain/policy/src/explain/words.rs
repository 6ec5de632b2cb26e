//! Outcomes in words.

use std::net::IpAddr;

use crate::{
    compile::{CompiledPolicy, rules::CompiledRule},
    decision::{Layer, Missing},
    explain::{Outcome, Tried},
    facts::{Fact, HttpFacts, Protocol},
    guard::Guard,
    judge::{Case, Trial, Unbound, WhyNot},
    model::{Action, Mode, Rule},
};

/// A guard that stands over the flow.
pub(super) fn guard(guard: Guard) -> Tried {
    Tried {
        rule: guard.rule_name(),
        priority: None,
        action: "deny",
        enforcement: "enforce",
        outcome: Outcome::Matched,
        why: guard.reason().to_owned(),
    }
}

/// A rule that is off.
pub(super) fn off_rule(rule: &Rule) -> Tried {
    Tried {
        rule: rule.name.clone(),
        priority: Some(rule.priority),
        action: action(rule.action),
        enforcement: "off",
        outcome: Outcome::Skipped,
        why: "it is off".to_owned(),
    }
}

/// The mode's default.
pub(super) fn default_rule(policy: &CompiledPolicy, outcome: Outcome) -> Tried {
    let (action, why) = match policy.spec().mode {
        Mode::Unrestricted => ("allow", "the mode is unrestricted"),
        Mode::Limited => ("deny", "the mode is limited"),
        Mode::Routed => ("deny", "the mode is routed"),
    };
    Tried {
        rule: policy.default_name.clone(),
        priority: None,
        action,
        enforcement: if policy.spec().watch_default { "watch" } else { "enforce" },
        outcome,
        why: why.to_owned(),
    }
}

/// A rule and what came of trying it.
pub(super) fn rule(rule: &CompiledRule, priority: Option<i64>, trial: Trial, case: &Case<'_>) -> Tried {
    let outcome = match trial {
        Trial::No(WhyNot::Expired) => Outcome::Skipped,
        Trial::No(_) => Outcome::NoMatch,
        Trial::Maybe(_) => Outcome::Undetermined,
        Trial::Yes(_) | Trial::Hidden if rule.watch => Outcome::Noted,
        Trial::Yes(_) | Trial::Hidden => Outcome::Matched,
    };
    Tried {
        rule: rule.name.clone(),
        priority,
        action: action(rule.action),
        enforcement: if rule.watch { "watch" } else { "enforce" },
        outcome,
        why: why(rule, trial, case),
    }
}

fn action(action: Action) -> &'static str {
    match action {
        Action::Allow => "allow",
        Action::Deny => "deny",
        Action::Ask => "ask",
    }
}

fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Icmp => "icmp",
    }
}

fn why(rule: &CompiledRule, trial: Trial, case: &Case<'_>) -> String {
    match trial {
        Trial::No(why) => why_not(rule, why, case),
        Trial::Maybe(Missing::Name) => "the name is not known yet".to_owned(),
        Trial::Maybe(Missing::Address) => "the address is not known yet".to_owned(),
        Trial::Maybe(Missing::Http) => "the request is not known yet".to_owned(),
        Trial::Maybe(Missing::Process) => "the process is not known yet".to_owned(),
        Trial::Hidden => "only inspection of TLS would tell".to_owned(),
        Trial::Yes(Layer::Dns) => format!("{} matches (DNS)", destination(case)),
        Trial::Yes(Layer::Tls) => format!("{} matches (TLS server name)", destination(case)),
        Trial::Yes(Layer::Http) => format!("the request to {} matches", destination(case)),
        Trial::Yes(Layer::Ip) => format!("{} matches", destination(case)),
    }
}

fn why_not(rule: &CompiledRule, why: WhyNot, case: &Case<'_>) -> String {
    match why {
        WhyNot::Source => "the sandbox is not among its sources".to_owned(),
        WhyNot::Expired => match rule.expires() {
            Some(end) => format!("it expired at {end}"),
            None => "it expired".to_owned(),
        },
        WhyNot::Protocol => match rule.protocol {
            Some(own) => format!("it is for {}, not {}", protocol(own), protocol(case.facts.protocol)),
            None => format!("it is not for {}", protocol(case.facts.protocol)),
        },
        WhyNot::Unopened => match case.facts.protocol {
            Protocol::Udp => "UDP passes only by a rule for it that lists its ports".to_owned(),
            Protocol::Icmp | Protocol::Tcp => "ICMP passes only by a rule for it".to_owned(),
        },
        WhyNot::Port => format!("port {} is not among its ports", case.facts.port),
        WhyNot::Destination => format!("{} is not in its destination", destination(case)),
        WhyNot::Guarded(guard) => format!("it does not name the address that {} protects", guard.as_str()),
        WhyNot::Process => match case.facts.process {
            Fact::Known(_) => "the process is not among its processes".to_owned(),
            Fact::Pending | Fact::Absent => "the process is not known".to_owned(),
        },
        WhyNot::Request => match case.facts.http {
            Fact::Known(_) => "the request does not meet its conditions".to_owned(),
            Fact::Pending | Fact::Absent => "there is no request that can be read".to_owned(),
        },
        WhyNot::Unbound(unbound) => not_bound(rule, unbound, case),
    }
}

fn not_bound(rule: &CompiledRule, unbound: Unbound, case: &Case<'_>) -> String {
    let name = rule.binding().map(|binding| binding.credential.to_string()).unwrap_or_default();
    let what = match unbound {
        Unbound::Sandbox => "this sandbox".to_owned(),
        Unbound::Host => destination(case),
        Unbound::Port => {
            let port = case.facts.port;
            return format!(
                "credential {name} is not bound to port {port}: `ports` of the rule or of `bind` would name it"
            );
        }
        Unbound::Plain => return format!("credential {name} is attached only to requests inside TLS"),
        Unbound::Request => match case.facts.http.known() {
            Some(request) => request_line(request),
            None => "this request".to_owned(),
        },
    };
    format!("credential {name} is not bound to {what}")
}

/// Method and path, with what a terminal would act on as escapes.
fn request_line(request: &HttpFacts) -> String {
    let path =
        request.path.as_ref().map_or_else(|| "an ambiguous path".to_owned(), |path| path.escape_debug().to_string());
    format!("{} {path}", request.method.escape_debug())
}

/// The destination as far as it is known.
fn destination(case: &Case<'_>) -> String {
    let address = case.address.known().map(IpAddr::to_string);
    match (case.name(), address) {
        (Some(named), Some(address)) => format!("{} ({address})", named.name),
        (Some(named), None) => named.name.to_string(),
        (None, Some(address)) => format!("{address} (no name)"),
        (None, None) => "a destination without name or address".to_owned(),
    }
}
