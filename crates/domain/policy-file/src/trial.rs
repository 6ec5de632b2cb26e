//! A policy's own tests: run before it is ever applied.

use std::net::IpAddr;

use jiff::Timestamp;
use policy::{CompiledPolicy, Verdict, model::ProcessMatch};
use serde::Serialize;
use values::{CredentialName, Labels, RuleName};

use crate::flow::{Destination, facts_from};

/// One case of `tests:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyTest {
    /// Its place in the file's list, from 0.
    pub index: usize,
    /// The destination, as written.
    pub written: String,
    /// The sandbox's labels.
    pub from: Labels,
    /// The destination.
    pub to: Destination,
    /// The HTTP method.
    pub method: Option<String>,
    /// The process.
    pub process: Option<ProcessMatch>,
    /// The address that the name resolves to; a neutral public one where `None`.
    pub address: Option<IpAddr>,
    /// What must come out.
    pub expect: Verdict,
    /// The rule that must decide.
    pub rule: Option<RuleName>,
    /// The credential that it must carry.
    pub credential: Option<CredentialName>,
    /// Watched rules that must match on the way.
    pub would: Vec<RuleName>,
}

/// What came of a test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TestOutcome {
    /// The test's place in the file's list, from 0.
    pub index: usize,
    /// The destination, as written.
    pub to: String,
    /// Whether everything that was expected came out.
    pub passed: bool,
    /// What came out.
    pub verdict: Verdict,
    /// The rule that decided.
    pub rule: RuleName,
    /// The credential that it would carry.
    pub credential: Option<CredentialName>,
    /// Why.
    pub reason: String,
    /// The watched rules that matched.
    pub would: Vec<RuleName>,
    /// What was expected and did not come out; empty where it passed.
    pub failures: Vec<String>,
}

/// Runs the tests of a policy at this moment (rules expire).
pub fn run_tests(policy: &CompiledPolicy, tests: &[PolicyTest], now: Timestamp) -> Vec<TestOutcome> {
    tests.iter().map(|test| run_test(policy, test, now)).collect()
}

fn run_test(policy: &CompiledPolicy, test: &PolicyTest, now: Timestamp) -> TestOutcome {
    let process = test.process.as_ref();
    let flow = facts_from(policy, &test.to, &test.from, test.method.as_deref(), process, test.address, now);
    let decided = flow.decide(policy);
    let mut failures = Vec::new();
    let (verdict, rule, credential, reason, would) = match decided {
        Ok(decision) => {
            let would = decision.would.iter().map(|would| would.rule.clone()).collect();
            (decision.verdict, decision.rule, decision.credential, decision.reason.into_owned(), would)
        }
        // Every fact of a supposed flow is known or absent; a policy that asks on decides nothing, which is a deny.
        Err(missing) => {
            failures.push(format!("the policy asked for a fact that a test can't give: {missing:?}"));
            (Verdict::Denied, policy::Guard::Malformed.rule_name(), None, "undecided".to_owned(), Vec::new())
        }
    };
    if verdict != test.expect {
        failures.push(format!("expected {}, got {} by {rule}: {reason}", test.expect.as_str(), verdict.as_str()));
    }
    if let Some(expected) = test.rule.as_ref().filter(|expected| **expected != rule) {
        failures.push(format!("expected the rule {expected}, got {rule}: {reason}"));
    }
    if let Some(expected) = test.credential.as_ref().filter(|expected| credential.as_ref() != Some(expected)) {
        let carried = credential.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
        failures.push(format!("expected the credential {expected}, got {carried}"));
    }
    for expected in test.would.iter().filter(|expected| !would.contains(expected)) {
        failures.push(format!("expected a watched match of {expected}, which did not match"));
    }
    let (index, to, passed) = (test.index, test.written.clone(), failures.is_empty());
    TestOutcome { index, to, passed, verdict, rule, credential, reason, would, failures }
}

#[cfg(test)]
mod tests;
