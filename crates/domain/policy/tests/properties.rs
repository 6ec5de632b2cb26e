//! What must hold for every policy and every flow.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed test is what it is for")]

use policy::{
    CompiledPolicy, Conclusion, Fact, NameAnswer, NameSource, NamedHost, Outcome, QueryType, Step, Verdict,
    WouldVerdict,
    model::{Action, Lists, Mode, PolicySpec, Rule, RuleEnforcement},
};
use proptest::{prelude::ProptestConfig, prop_assert, prop_assert_eq, proptest, sample::Index};
use values::Labels;

mod support;

use support::{
    compile,
    generate::{Flow, any_rule, flow, known_name, labels, policy, possible},
    name, now, reference, shown,
};

fn step(policy: &CompiledPolicy, labels: &Labels, flow: &Flow) -> Step {
    policy.judge(&flow.facts(&policy.source(labels)))
}

/// How strict the outcome is on facts of which none is pending.
fn verdict(policy: &CompiledPolicy, labels: &Labels, flow: &Flow) -> Verdict {
    match step(policy, labels, flow) {
        Step::Decided(decision) => decision.verdict,
        Step::Needs(missing) => panic!("no fact is pending, and yet {missing:?} is missing"),
    }
}

fn with_rules(spec: &PolicySpec, rules: Vec<Rule>) -> PolicySpec {
    PolicySpec { rules, ..spec.clone() }
}

/// A new rule in a free place of the order.
fn inserted(spec: &PolicySpec, new: Rule, before: i64) -> PolicySpec {
    let doubled = spec.rules.iter().map(|rule| Rule { priority: rule.priority * 2, ..rule.clone() });
    let name = values::RuleName::new("new").unwrap();
    let new = Rule { name, priority: before * 2 - 1, ..possible(new, spec) };
    with_rules(spec, doubled.chain([new]).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn judge_says_what_the_plainest_evaluator_says((spec, lists) in policy(), labels in labels(), flow in flow(true)) {
        let policy = compile(spec.clone(), lists.clone());
        let source = policy.source(&labels);
        let facts = flow.facts(&source);
        prop_assert_eq!(shown(&policy.judge(&facts)), reference::judge(&spec, &lists, &labels, &facts));
    }

    #[test]
    fn explain_says_what_judge_says((spec, lists) in policy(), labels in labels(), flow in flow(true)) {
        let policy = compile(spec.clone(), lists);
        let source = policy.source(&labels);
        let facts = flow.facts(&source);
        let step = policy.judge(&facts);
        let explanation = policy.explain(&facts);
        prop_assert_eq!(&explanation.conclusion, &Conclusion::from(&step));
        let deciding: Vec<_> = explanation.tried.iter().filter(|tried| tried.outcome == Outcome::Decided).collect();
        match &step {
            Step::Needs(_) => prop_assert!(deciding.is_empty()),
            Step::Decided(decision) => {
                prop_assert_eq!(deciding.len(), 1);
                prop_assert_eq!(&deciding[0].rule, &decision.rule);
                // What is tried and matches by itself stands behind the decision, or a guard decides.
                let matched = explanation.tried.iter().find(|tried| tried.outcome == Outcome::Matched);
                prop_assert!(matched.is_none() || decision.rule.as_str().starts_with("guard:") || matched.unwrap().rule.as_str().starts_with("guard:")
                    || facts.address == Fact::Pending, "{:?}", explanation);
                for would in &decision.would {
                    prop_assert!(explanation.tried.iter().any(|tried| tried.rule == would.rule));
                }
            }
        }
        for rule in &spec.rules {
            prop_assert_eq!(explanation.tried.iter().filter(|tried| tried.rule == rule.name).count(), 1);
        }
        let written: Vec<i64> = explanation.tried.iter().filter_map(|tried| tried.priority).collect();
        prop_assert!(written.is_sorted());
    }

    #[test]
    fn the_order_of_the_file_does_not_matter((spec, lists) in policy(), labels in labels(), flow in flow(true), turn in 0usize..8) {
        let mut turned = spec.rules.clone();
        let count = turned.len().max(1);
        turned.rotate_left(turn % count);
        if turn % 2 == 1 {
            turned.reverse();
        }
        let (one, other) = (compile(spec.clone(), lists.clone()), compile(with_rules(&spec, turned), lists));
        prop_assert_eq!(shown(&step(&one, &labels, &flow)), shown(&step(&other, &labels, &flow)));
        let asked = name("b.a.test");
        let record = QueryType::A;
        prop_assert_eq!(
            one.judge_name(&one.source(&labels), &asked, record, now()).answer,
            other.judge_name(&other.source(&labels), &asked, record, now()).answer
        );
    }

    #[test]
    fn adding_a_denial_never_widens((spec, lists) in policy(), new in any_rule(), before in 0i64..9, labels in labels(), flow in flow(false), asked in known_name()) {
        let new = Rule { action: Action::Deny, max_body: None, ..new };
        let (one, other) = (compile(spec.clone(), lists.clone()), compile(inserted(&spec, new, before), lists));
        prop_assert!(verdict(&one, &labels, &flow) <= verdict(&other, &labels, &flow));
        let strictness = |policy: &CompiledPolicy| match policy.judge_name(&policy.source(&labels), &asked.name, QueryType::A, now()).answer {
            NameAnswer::Resolve => 0,
            NameAnswer::Synthetic => 1,
            NameAnswer::Refuse => 2,
        };
        prop_assert!(strictness(&one) <= strictness(&other));
    }

    #[test]
    fn watch_is_enforce_with_the_last_step_left_out((spec, lists) in policy(), labels in labels(), flow in flow(false), which in proptest::prelude::any::<Index>()) {
        if spec.rules.is_empty() {
            return Ok(());
        }
        let chosen = which.index(spec.rules.len());
        let only = |enforcement: RuleEnforcement| {
            let rules = spec.rules.iter().enumerate().map(|(place, rule)| Rule {
                enforcement: if place == chosen { enforcement } else { RuleEnforcement::Off },
                ..rule.clone()
            });
            compile(with_rules(&spec, rules.collect()), lists.clone())
        };
        let rule = &spec.rules[chosen].name;
        let Step::Decided(watched) = step(&only(RuleEnforcement::Watch), &labels, &flow) else { panic!("undecided") };
        let Step::Decided(enforced) = step(&only(RuleEnforcement::Enforce), &labels, &flow) else { panic!("undecided") };
        let Step::Decided(without) = step(&only(RuleEnforcement::Off), &labels, &flow) else { panic!("undecided") };
        // A watched rule changes nothing.
        prop_assert_eq!(watched.verdict, without.verdict);
        prop_assert_eq!(&watched.rule, &without.rule);
        // And its note is what it would have done.
        let noted: Vec<_> = watched.would.iter().filter(|would| would.rule == *rule).collect();
        if &enforced.rule == rule {
            prop_assert!(!noted.is_empty());
        }
        for note in noted {
            let would = match note.verdict {
                WouldVerdict::Allow => Verdict::Allowed,
                WouldVerdict::Ask => Verdict::Asked,
                WouldVerdict::Deny => Verdict::Denied,
                // An enforced rule that can't see inside does not match.
                WouldVerdict::Unknown => continue,
            };
            // Where an address embeds others the stricter wins, so one note of several may be the milder.
            let judged = flow.address.known().map_or(1, |address| policy::address::judged_addresses(*address).len());
            if judged == 1 {
                prop_assert_eq!(enforced.verdict, would);
            } else {
                prop_assert!(enforced.verdict >= would);
            }
        }
    }

    #[test]
    fn a_permit_needs_an_allowed_flow_and_a_judged_address((spec, lists) in policy(), labels in labels(), flow in flow(true)) {
        let policy = compile(spec, lists);
        if let Step::Decided(mut decision) = step(&policy, &labels, &flow) {
            let judged = flow.address.known().is_some();
            let (verdict, permit) = (decision.verdict, decision.permit.is_some());
            prop_assert_eq!(permit, verdict == Verdict::Allowed && judged);
            prop_assert_eq!(decision.approve().is_some(), verdict == Verdict::Asked && judged);
            prop_assert!(decision.approve().is_none());
        }
    }

    #[test]
    fn a_refused_name_causes_no_query((spec, lists) in policy(), labels in labels(), flow in flow(true), asked in known_name()) {
        let policy = compile(spec, lists);
        let source = policy.source(&labels);
        let answer = policy.judge_name(&source, &asked.name, QueryType::Aaaa, now()).answer;
        let flow = Flow { name: Fact::Known(asked.clone()), address: Fact::Pending, ..flow };
        let step = policy.judge(&flow.facts(&source));
        let text = shown(&step);
        match (answer, step) {
            (NameAnswer::Resolve, _) => {}
            (NameAnswer::Synthetic | NameAnswer::Refuse, Step::Needs(missing)) => {
                prop_assert!(missing != policy::Missing::Address, "{} needs the address of {:?}", text, answer);
            }
            (NameAnswer::Synthetic, Step::Decided(decision)) => prop_assert!(decision.verdict != Verdict::Allowed, "{}", text),
            (NameAnswer::Refuse, Step::Decided(decision)) => prop_assert_eq!(decision.verdict, Verdict::Denied, "{}", text),
        }
        // Types that nobody needs are never asked about.
        prop_assert_eq!(policy.judge_name(&source, &asked.name, QueryType::Other(255), now()).answer, NameAnswer::Refuse);
    }

    #[test]
    fn what_is_allowed_by_name_was_resolved((spec, lists) in policy(), labels in labels(), flow in flow(false), asked in known_name()) {
        let policy = compile(spec, lists);
        let source = policy.source(&labels);
        let flow = Flow { name: Fact::Known(asked.clone()), address: Fact::Absent, ..flow };
        if let Step::Decided(decision) = policy.judge(&flow.facts(&source))
            && decision.verdict == Verdict::Allowed
        {
            prop_assert_eq!(policy.judge_name(&source, &asked.name, QueryType::A, now()).answer, NameAnswer::Resolve);
        }
    }

    #[test]
    fn an_address_that_is_allowed_stands_in_answers((spec, lists) in policy(), labels in labels(), flow in flow(false), asked in known_name()) {
        let policy = compile(spec, lists);
        let source = policy.source(&labels);
        if asked.name.as_str() == "metadata.google.internal" {
            return Ok(());
        }
        let flow = Flow { name: Fact::Known(asked.clone()), ..flow };
        if let (Step::Decided(decision), Fact::Known(address)) = (policy.judge(&flow.facts(&source)), flow.address)
            && decision.verdict == Verdict::Allowed
        {
            prop_assert!(policy.admits_answer(&source, &asked.name, address, now()), "{} of {}", address, asked.name);
        }
    }

    #[test]
    fn spelling_does_not_change_a_verdict((spec, lists) in policy(), labels in labels(), flow in flow(false), asked in known_name(), dots in 0usize..4) {
        let policy = compile(spec, lists);
        let noisy = asked.name.as_str().to_uppercase().replace('.', [".", "\u{3002}", "\u{ff0e}", "\u{ff61}"][dots]) + ".";
        let plain = Flow { name: Fact::Known(asked.clone()), ..flow };
        let noisy = Flow { name: Fact::Known(NamedHost { name: name(&noisy), source: asked.source }), ..plain.clone() };
        prop_assert_eq!(shown(&step(&policy, &labels, &plain)), shown(&step(&policy, &labels, &noisy)));
    }

    #[test]
    fn a_mapped_address_is_the_address((spec, lists) in policy(), labels in labels(), flow in flow(true)) {
        let policy = compile(spec, lists);
        if let Fact::Known(std::net::IpAddr::V4(v4)) = flow.address {
            let mapped = Flow { address: Fact::Known(v4.to_ipv6_mapped().into()), ..flow.clone() };
            prop_assert_eq!(shown(&step(&policy, &labels, &flow)), shown(&step(&policy, &labels, &mapped)));
        }
    }

    #[test]
    fn a_source_made_by_another_policy_is_made_anew((spec, lists) in policy(), labels in labels(), flow in flow(true)) {
        let other = compile(PolicySpec { mode: Mode::Unrestricted, ..PolicySpec::default() }, Lists::default());
        let policy = compile(spec, lists);
        let foreign = other.source(&labels);
        prop_assert_eq!(shown(&policy.judge(&flow.facts(&foreign))), shown(&step(&policy, &labels, &flow)));
        let asked = NamedHost { name: name("a.test"), source: NameSource::Sni };
        let answer = |source: &policy::Source| policy.judge_name(source, &asked.name, QueryType::A, now()).answer;
        prop_assert_eq!(answer(&foreign), answer(&policy.source(&labels)));
    }
}
