//! A sandbox as one policy sees it.

use std::sync::Arc;

use values::Labels;

use crate::{
    compile::{
        CompiledPolicy,
        reach::{Depends, Placed, Reach},
        rules::{CompiledRule, Destination},
    },
    facts::Protocol,
    model::Action,
};

/// A sandbox as one policy sees it: made once for each sandbox and revision, cheap to clone.
#[derive(Debug, Clone)]
pub struct Source {
    view: Arc<SourceView>,
}

/// Which rules are for the sandbox, and which of them reach which port.
#[derive(Debug)]
pub(crate) struct SourceView {
    labels: Labels,
    /// The policy it was made by.
    policy: u64,
    /// One bit for each source class that selects the sandbox.
    classes: Vec<u64>,
    tcp: Reach,
    udp: Reach,
    icmp: Reach,
    /// Rules to any destination that matter to a DNS question, ascending.
    any_name: Vec<u32>,
}

impl Source {
    /// The labels it was made from.
    pub fn labels(&self) -> &Labels {
        &self.view.labels
    }

    pub(crate) fn view(&self) -> &SourceView {
        &self.view
    }
}

impl SourceView {
    /// The sandbox's labels.
    pub(crate) fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Whether the view was made by this policy.
    pub(crate) fn is_of(&self, policy: u64) -> bool {
        self.policy == policy
    }

    /// Whether the sandbox is of this source class.
    pub(crate) fn has_class(&self, class: u32) -> bool {
        let word = self.classes.get(class as usize / 64).copied().unwrap_or(0);
        word >> (class % 64) & 1 == 1
    }

    /// The rules by port of a protocol.
    pub(crate) fn reach(&self, protocol: Protocol) -> &Reach {
        match protocol {
            Protocol::Tcp => &self.tcp,
            Protocol::Udp => &self.udp,
            Protocol::Icmp => &self.icmp,
        }
    }

    /// Rules to any destination that matter to a DNS question.
    pub(crate) fn any_name(&self) -> &[u32] {
        &self.any_name
    }
}

impl CompiledPolicy {
    /// A sandbox with these labels, as this policy sees it. Costs time with the number of rules, so make it once.
    pub fn source(&self, labels: &Labels) -> Source {
        let mut classes = vec![0u64; self.classes.len() / 64 + 1];
        for (number, selectors) in self.classes.iter().enumerate() {
            let selected = selectors.iter().any(|selector| selector.matches(labels));
            if let Some(word) = classes.get_mut(number / 64) {
                *word |= u64::from(selected) << (number % 64);
            }
        }
        let mut view = SourceView {
            labels: labels.clone(),
            policy: self.id,
            classes,
            tcp: Reach::build(&[]),
            udp: Reach::build(&[]),
            icmp: Reach::build(&[]),
            any_name: Vec::new(),
        };
        let own: Vec<(u32, &CompiledRule)> =
            (0u32..).zip(&self.rules).filter(|(_, rule)| view.has_class(rule.class)).collect();
        view.tcp = reach(&own, Protocol::Tcp);
        view.udp = reach(&own, Protocol::Udp);
        view.icmp = reach(&own, Protocol::Icmp);
        view.any_name =
            own.iter().filter(|(_, rule)| opens_or_closes_any_name(rule)).map(|(number, _)| *number).collect();
        Source { view: Arc::new(view) }
    }
}

fn reach(own: &[(u32, &CompiledRule)], protocol: Protocol) -> Reach {
    let placed: Vec<Placed<'_>> = own
        .iter()
        .filter(|(_, rule)| rule.reaches(protocol))
        .map(|(number, rule)| Placed {
            rule: *number,
            action: rule.action,
            watch: rule.watch,
            // A rule for ICMP has none.
            ports: rule.ports(),
            depends: depends(rule),
        })
        .collect();
    Reach::build(&placed)
}

fn depends(rule: &CompiledRule) -> Depends {
    match rule.destination {
        Destination::Any => Depends::Nothing,
        Destination::Set { names, ranges } => Depends::Facts {
            name: names,
            address: ranges,
            irregular: rule.expires().is_some() || (names && ranges && (rule.watch || rule.looks_closer())),
        },
    }
}

/// A rule to any destination can open any name, or close it where it denies whatever the flow.
fn opens_or_closes_any_name(rule: &CompiledRule) -> bool {
    rule.destination == Destination::Any && (rule.action != Action::Deny || !rule.is_conditional())
}
