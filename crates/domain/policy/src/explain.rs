//! Every rule tried, and why it did or did not match.

use serde::Serialize;
use values::{RouteName, RuleName};

use crate::{
    compile::CompiledPolicy,
    decision::{Decision, Enforcement, Layer, Missing, Step, Verdict, Would},
    facts::Facts,
};

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
    pub fn explain(&self, facts: &Facts<'_>) -> Explanation {
        Explanation {
            revision: self.revision().0,
            tried: Vec::new(),
            conclusion: Conclusion::from(&self.judge(facts)),
        }
    }
}
