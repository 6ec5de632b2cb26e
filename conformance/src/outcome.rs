//! What came of a run, and whether that is good.

use network_lab::{Output, Reached};
use serde::Serialize;

use crate::{
    adapter::Kind,
    case::{Action, Expected, Purpose, Recorded},
    instance::Instance,
    record::Record,
};

/// What came of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// Nothing got out.
    Held,
    /// It got out.
    Escaped,
    /// An attack that works where nothing is in its way.
    Proven,
    /// It was to work, and did.
    Passed,
    /// It was to work, and did not.
    FalseBlock,
    /// As expected on the wire, but not in the record.
    Unrecorded,
    /// An attack that gets nowhere even unhindered.
    Unproven,
    /// It does not apply here.
    NotApplicable,
    /// The run itself went wrong.
    Broken,
}

/// A run's outcome and what it means.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Verdict {
    /// What came of it.
    pub(crate) outcome: Outcome,
    /// Whether that is as it should be.
    pub(crate) good: bool,
    /// In a few words.
    pub(crate) why: String,
}

/// What is known after a run.
pub(crate) struct Evidence<'run> {
    pub(crate) adapter: Kind,
    pub(crate) expected: Expected,
    pub(crate) reached: &'run [Reached],
    pub(crate) output: &'run Output,
    pub(crate) record: &'run Record,
}

impl Verdict {
    fn new(outcome: Outcome, good: bool, why: impl Into<String>) -> Self {
        Self { outcome, good, why: why.into() }
    }

    /// A run that was not made.
    pub(crate) fn not_applicable(why: String) -> Self {
        Self::new(Outcome::NotApplicable, true, why)
    }

    /// A run that could not be made.
    pub(crate) fn broken(why: String) -> Self {
        Self::new(Outcome::Broken, false, why)
    }

    /// The same, unless the record says otherwise than what happened.
    pub(crate) fn unless(self, wrong: Option<String>) -> Self {
        match wrong {
            Some(why) => Self::new(Outcome::Unrecorded, false, why),
            None => self,
        }
    }

    /// The same, unless a secret came to where it must not be.
    pub(crate) fn unless_leaked(self, leak: Option<String>) -> Self {
        match leak {
            Some(where_to) => Self::new(Outcome::Escaped, false, where_to),
            None => self,
        }
    }

    /// Judges a run.
    pub(crate) fn judge(instance: &Instance<'_>, evidence: &Evidence<'_>) -> Self {
        let code = evidence.output.status.and_then(|status| status.code());
        let killed = instance.case.action == Some(Action::KillGateway);
        if evidence.adapter == Kind::Cofferdam && (code == Some(125)) != killed {
            return Self::broken(format!("cofferdam ended with {code:?}: {}", evidence.output.stderr.trim()));
        }
        match instance.case.purpose() {
            Purpose::Attack => attack(instance, evidence),
            Purpose::Benign => benign(instance, evidence, code),
        }
    }
}

fn attack(instance: &Instance<'_>, evidence: &Evidence<'_>) -> Verdict {
    let seen = instance.marks.iter().find(|mark| {
        evidence.reached.iter().filter(|reached| mark.matches(reached, &instance.words)).count() >= mark.at_least
    });
    let denial_needed = instance.case.record == Recorded::Denied;
    match (evidence.adapter, seen) {
        (Kind::None, Some(_)) => Verdict::new(Outcome::Proven, true, ""),
        (Kind::None, None) => {
            let known = instance.each.as_ref().is_some_and(|each| instance.case.unproven.contains(each));
            let outcome = if known { Outcome::NotApplicable } else { Outcome::Unproven };
            Verdict::new(outcome, known, "gets nowhere even unhindered")
        }
        (Kind::Squid | Kind::Tinyproxy, Some(_)) => Verdict::new(Outcome::Escaped, false, "reached the lab"),
        (Kind::Squid | Kind::Tinyproxy, None) => Verdict::new(Outcome::Held, true, ""),
        (Kind::Cofferdam, seen) => match (evidence.expected, seen) {
            (Expected::Held, Some(mark)) => Verdict::new(Outcome::Escaped, false, format!("reached {mark:?}")),
            (Expected::Held, None) if denial_needed && evidence.record.denied == 0 => {
                Verdict::new(Outcome::Unrecorded, false, "held, but no denial is recorded")
            }
            (Expected::Held, None) if !evidence.record.says(instance.case.says.as_deref()) => {
                Verdict::new(Outcome::Unrecorded, false, "held, but the record does not say why as it should")
            }
            (Expected::Held, None) => Verdict::new(Outcome::Held, true, ""),
            (Expected::Passes | Expected::Watched, None) => {
                Verdict::new(Outcome::FalseBlock, false, "did not pass where nothing forbids it")
            }
            (Expected::Passes, Some(_)) if evidence.record.allowed == 0 => {
                Verdict::new(Outcome::Unrecorded, false, "passed, but nothing allowed is recorded")
            }
            (Expected::Watched, Some(_)) if evidence.record.would == 0 => {
                Verdict::new(Outcome::Unrecorded, false, "passed, but nothing stands under `would`")
            }
            (Expected::Passes | Expected::Watched, Some(_)) => Verdict::new(Outcome::Passed, true, ""),
            (Expected::Any, Some(_)) if evidence.record.allowed == 0 => {
                Verdict::new(Outcome::Unrecorded, false, "passed, but nothing allowed is recorded")
            }
            (Expected::Any, Some(_)) => Verdict::new(Outcome::Passed, true, ""),
            (Expected::Any, None) => Verdict::new(Outcome::Held, true, ""),
        },
    }
}

fn benign(instance: &Instance<'_>, evidence: &Evidence<'_>, code: Option<i32>) -> Verdict {
    let missing = instance.marks.iter().find(|mark| {
        evidence.reached.iter().filter(|reached| mark.matches(reached, &instance.words)).count() < mark.at_least
    });
    match (code, missing) {
        (Some(0), None) => Verdict::new(Outcome::Passed, true, ""),
        (Some(0), Some(mark)) => Verdict::new(Outcome::FalseBlock, false, format!("did not reach {mark:?}")),
        (None, _) => Verdict::new(Outcome::FalseBlock, false, "hung or was killed"),
        (Some(code), _) => Verdict::new(Outcome::FalseBlock, false, format!("the client ended with {code}")),
    }
}
