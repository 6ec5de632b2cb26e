//! A rule that would have matched a denied flow, but for what its credential is bound to.
//!
//! It is told in the denial's reason: "no rule matches" alone sends people to look for a rule that is there. Nothing is
//! told of what else the credential is bound to.

use crate::{
    compile::{CompiledPolicy, SourceView, binding::Binding, rules::CompiledRule},
    facts::Facts,
    judge::{
        Case, Trial, Unbound, WhyNot,
        candidates::{Candidates, Marks},
        trial::closer_look,
    },
};

impl CompiledPolicy {
    /// The first rule that is kept from a denied flow by its credential alone, in words.
    pub(super) fn kept_from(&self, facts: &Facts<'_>, view: &SourceView) -> Option<String> {
        if self.spec().credentials.is_empty() {
            return None;
        }
        let case = self.case(facts, view, facts.address);
        let mut candidates = Candidates::default();
        self.gather(&case, &mut candidates);
        std::iter::from_fn(|| candidates.next()).find_map(|(number, marks)| self.kept_back(number, marks, &case))
    }

    fn kept_back(&self, number: u32, marks: Marks, case: &Case<'_>) -> Option<String> {
        let rule = self.rules.get(number as usize).filter(|rule| !rule.watch)?;
        let binding = rule.binding()?;
        let Trial::No(WhyNot::Unbound(unbound)) = self.try_rule(rule, marks, case) else { return None };
        let what = missed(rule, binding, unbound, case)?;
        Some(format!("credential {} of rule {} is {what}", binding.credential, rule.name))
    }
}

/// What of the flow the credential is not bound to; none where the rule's own conditions are not met either.
fn missed(rule: &CompiledRule, binding: &Binding, unbound: Unbound, case: &Case<'_>) -> Option<&'static str> {
    let request = case.facts.http.known();
    match closer_look(rule, case.name_layer(), case) {
        Trial::No(WhyNot::Process) => return None,
        Trial::No(WhyNot::Request) if request.is_some() => return None,
        Trial::No(_) | Trial::Yes(_) | Trial::Maybe(_) | Trial::Hidden => {}
    }
    Some(match unbound {
        Unbound::Sandbox => "not bound to this sandbox",
        Unbound::Host => "not bound to this host",
        Unbound::Port => "not bound to this port",
        Unbound::Plain => "attached only to requests inside TLS",
        Unbound::Request if request.is_some_and(|request| binding.covers_method(request)) => "not bound to this path",
        Unbound::Request => "not bound to this method",
    })
}
