//! Every rule tried, and why it did or did not match.

use std::{collections::BTreeMap, net::IpAddr};

use serde::Serialize;
use smallvec::{SmallVec, smallvec};
use values::{CredentialName, RouteName, RuleName};

use crate::{
    address,
    compile::{CompiledPolicy, rules::CompiledRule},
    decision::{Decision, Enforcement, Layer, Missing, Step, Verdict, Would},
    facts::{Fact, Facts},
    judge::{
        Case,
        candidates::{Candidates, Marks},
        effect, pending_marks,
    },
    model::{Action, Rule, RuleEnforcement},
};

/// Outcomes in words.
mod words;

/// The answer of [`CompiledPolicy::explain`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The policy revision.
    pub revision: u64,
    /// What was tried, in order: guards, rules by priority, managed path, `allowed-hosts`, `mode-default`.
    pub tried: Vec<Tried>,
    /// What `judge` says to the same facts.
    #[serde(flatten)]
    pub conclusion: Conclusion,
}

/// One rule, guard or pseudo-rule, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tried {
    /// Its name.
    pub rule: RuleName,
    /// Its priority; none for guards and pseudo-rules.
    pub priority: Option<i64>,
    /// `allow`, `deny` or `ask`.
    pub action: &'static str,
    /// `enforce`, `watch` or `off`.
    pub enforcement: &'static str,
    /// What came of it.
    pub outcome: Outcome,
    /// Why, for people.
    pub why: String,
}

/// What came of trying a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It matched and decided.
    Decided,
    /// It matches, but something else decides: a guard, or a fact that an earlier rule lacks.
    Matched,
    /// It matched, and was noted only (watch).
    Noted,
    /// It may match: a fact is missing.
    Undetermined,
    /// It did not match.
    NoMatch,
    /// It is off or expired.
    Skipped,
    /// Something before it had decided.
    NotReached,
}

/// [`Step`] in a form that can be printed and kept; it holds no permit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Conclusion {
    /// Decided.
    Decided {
        /// What happens.
        verdict: Verdict,
        /// Whether that is carried out.
        enforcement: Enforcement,
        /// The deciding rule.
        rule: RuleName,
        /// The layer whose facts decided.
        layer: Layer,
        /// Why.
        reason: String,
        /// The watched matches.
        would: Vec<Would>,
        /// The next hop; none is direct.
        route: Option<RouteName>,
        /// The credential that the request would carry.
        credential: Option<CredentialName>,
    },
    /// Not without this fact.
    Needs {
        /// The fact.
        needs: Missing,
    },
}

impl From<&Decision> for Conclusion {
    fn from(decision: &Decision) -> Self {
        Conclusion::Decided {
            verdict: decision.verdict,
            enforcement: decision.enforcement,
            rule: decision.rule.clone(),
            layer: decision.layer,
            reason: decision.reason.clone().into_owned(),
            would: decision.would.to_vec(),
            route: decision.route.clone(),
            credential: decision.credential.clone(),
        }
    }
}

impl From<&Step> for Conclusion {
    fn from(step: &Step) -> Self {
        match step {
            Step::Decided(decision) => decision.into(),
            Step::Needs(needs) => Conclusion::Needs { needs: *needs },
        }
    }
}

impl CompiledPolicy {
    /// Tries every rule on these facts and says why each did or did not match.
    ///
    /// The conclusion is what [`CompiledPolicy::judge`] says. Where an address embeds others, the trials
    /// shown are those on the address that decided.
    pub fn explain(&self, facts: &Facts<'_>) -> Explanation {
        let source = self.source(facts.source.labels());
        let step = self.judge(facts);
        let ruling = self.strictest(facts, source.view()).ruling;
        let addresses: SmallVec<[Fact<IpAddr>; 3]> = match facts.address {
            Fact::Known(address) => address::judged_addresses(address).into_iter().map(Fact::Known).collect(),
            Fact::Pending | Fact::Absent => smallvec![facts.address],
        };
        let mut cases = addresses.into_iter().map(|address| self.case(facts, source.view(), address));
        let deciding = cases.find(|case| self.weigh(case).ruling == ruling);
        let tried = deciding.map(|case| self.trials(&case, &step)).unwrap_or_default();
        Explanation { revision: self.revision().0, tried, conclusion: Conclusion::from(&step) }
    }

    /// Every guard, rule and pseudo-rule on one case.
    fn trials(&self, case: &Case<'_>, step: &Step) -> Vec<Tried> {
        let mut tried: Vec<Tried> = case.guard().map(words::guard).into_iter().collect();
        let mut off: Vec<&Rule> =
            self.spec().rules.iter().filter(|rule| rule.enforcement == RuleEnforcement::Off).collect();
        off.sort_unstable_by_key(|rule| std::cmp::Reverse(rule.priority));
        let ways = self.ways(case);
        let mut over = false;
        for (number, rule) in (0u32..).zip(&self.rules) {
            let priority = self.written(rule).map(|written| written.priority);
            while let Some(earlier) = off.pop_if(|off| priority.is_none_or(|priority| off.priority < priority)) {
                tried.push(words::off_rule(earlier));
            }
            let marks = ways.get(&number).copied().unwrap_or_default();
            let trial = self.try_rule(rule, marks, case);
            let mut this = words::rule(rule, priority, trial, case);
            if over && this.outcome != Outcome::Skipped {
                this.outcome = Outcome::NotReached;
            }
            let ends = this.outcome == Outcome::Matched;
            tried.push(this);
            if ends {
                tried.extend(effect(rule.action, rule.allows_ech, case.facts).1.map(words::guard));
            }
            over |= ends;
        }
        tried.extend(off.into_iter().rev().map(words::off_rule));
        let outcome = if over { Outcome::NotReached } else { Outcome::Matched };
        tried.push(words::default_rule(self, outcome));
        if let (false, Some(guard)) = (over, effect(Action::Allow, false, case.facts).1) {
            tried.push(words::guard(guard));
        }
        mark_deciding(&mut tried, step);
        tried
    }

    /// The rule as written; none for pseudo-rules.
    fn written(&self, rule: &CompiledRule) -> Option<&Rule> {
        rule.written().and_then(|place| self.spec().rules.get(place))
    }

    /// How the facts lead to each rule; what is not listed is not reached.
    fn ways(&self, case: &Case<'_>) -> BTreeMap<u32, Marks> {
        let mut candidates = Candidates::default();
        self.gather(case, &mut candidates);
        let mut ways: BTreeMap<u32, Marks> = std::iter::from_fn(|| candidates.next()).collect();
        for (number, rule) in (0u32..).zip(&self.rules) {
            let pending = pending_marks(rule, case);
            if pending != Marks::default() {
                let marks = ways.entry(number).or_default();
                *marks = marks.with(pending);
            }
        }
        ways
    }
}

/// The one that [`CompiledPolicy::judge`] names decided; what matched beside it did not get to.
fn mark_deciding(tried: &mut [Tried], step: &Step) {
    let Step::Decided(decision) = step else { return };
    if let Some(this) = tried.iter_mut().find(|tried| tried.rule == decision.rule) {
        this.outcome = Outcome::Decided;
    }
}
