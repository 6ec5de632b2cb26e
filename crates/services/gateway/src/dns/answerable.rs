//! Which addresses an answer may carry.
//!
//! A public name that suddenly means a private address is how rebinding begins, so what a guard covers is taken out
//! of answers, unless an enforced rule that lets through names the range. This only spares the sandbox addresses that
//! a flow to them would be denied for: the flow is judged on its own, by its own rule and port.

use std::net::IpAddr;

use policy::{
    CompiledPolicy, Guard, address,
    model::{Action, Group, RuleEnforcement, To},
};

/// The guard that keeps an address out of answers.
pub(super) fn guard(policy: &CompiledPolicy, ip: IpAddr) -> Option<Guard> {
    // On most addresses no guard stands, which is known without a look at the rules.
    let outer = policy.guard(ip)?;
    let judged = address::judged_addresses(ip);
    let closed = judged.iter().find_map(|one| policy.guard(*one).filter(|guard| !is_opened(policy, *guard, *one)));
    match closed {
        Some(guard) => Some(guard),
        // Every address in it is opened; the guard over the whole can't be stricter than those over its parts.
        None if judged.iter().any(|one| policy.guard(*one).is_some()) => None,
        None => Some(outer),
    }
}

/// Whether some rule names the address, or a range that holds it, as the guard's opening wants it.
fn is_opened(policy: &CompiledPolicy, guard: Guard, ip: IpAddr) -> bool {
    let spec = policy.spec();
    let opening = spec.rules.iter().filter(|rule| {
        rule.enforcement == RuleEnforcement::Enforce && matches!(rule.action, Action::Allow | Action::Ask)
    });
    let mut groups = opening.filter_map(|rule| match &rule.to {
        To::Any => None,
        To::Group(name) => spec.groups.get(name),
        To::Inline(group) => Some(group),
    });
    groups.any(|group| names(group, guard, ip))
}

fn names(group: &Group, guard: Guard, ip: IpAddr) -> bool {
    group.cidrs.iter().any(|range| match guard {
        Guard::Metadata | Guard::OwnAddress => range.addr() == ip && range.prefix_len() == range.max_prefix_len(),
        Guard::Loopback
        | Guard::LinkLocal
        | Guard::Private
        | Guard::Multicast
        | Guard::Broadcast
        | Guard::Unspecified
        | Guard::Reserved => range.contains(&ip),
        // These are not about addresses and nothing opens them.
        Guard::Malformed | Guard::Ech | Guard::Binding | Guard::DnsLimit => false,
    })
}
