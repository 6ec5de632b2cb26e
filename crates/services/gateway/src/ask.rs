//! Asks a person about a flow, and remembers what was answered for the whole run.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use audit_event::{Event, Process, bounded};
use policy::Decision;
use tokio::sync::{mpsc::error::TrySendError, oneshot};
use values::RuleName;

use crate::{
    flow::Flow,
    settings::{Answer, Question},
    shared::Shared,
};

/// The longest text of a question.
const TEXT_LIMIT: usize = 300;
/// The same for where it goes, with a method: the end of the longest host name must be seen.
const WHAT_LIMIT: usize = 400;
/// The most answers that are remembered.
const REMEMBER_LIMIT: usize = 10_000;

/// What was answered for the whole run: a rule, a host and a port.
#[derive(Debug, Default)]
pub(crate) struct Approvals(Mutex<HashSet<(RuleName, String, u16)>>);

impl Approvals {
    /// Whether a person said yes to this before.
    pub(crate) fn holds(&self, rule: &RuleName, host: &str, port: u16) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.contains(&(rule.clone(), host.to_owned(), port))
    }

    fn remember(&self, rule: &RuleName, host: &str, port: u16) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < REMEMBER_LIMIT {
            known.insert((rule.clone(), host.to_owned(), port));
        }
    }
}

/// What came of asking.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Yes, with what was answered.
    Yes(&'static str),
    /// No, and why.
    No(&'static str),
}

/// Asks, and waits within the bound. Dropping the future withdraws the question.
pub(crate) async fn ask(shared: &Shared, flow: &Flow, decision: &Decision) -> Asked {
    let host = flow.host();
    let port = flow.facts.port;
    if shared.approvals.holds(&decision.rule, &host, port) {
        return Asked::Yes("a person allowed it for this run");
    }
    let Some(questions) = &shared.questions else { return Asked::No("nobody is there to be asked") };
    let (reply, answer) = oneshot::channel();
    let question = Question {
        flow: flow.id,
        what: bounded(&what(flow), WHAT_LIMIT),
        host: bounded(&host, TEXT_LIMIT),
        port,
        who: flow.process.as_ref().map(who),
        why: bounded(&format!("rule {}: {}", decision.rule, decision.reason), TEXT_LIMIT),
        rule: decision.rule.to_string(),
        reply,
    };
    match questions.try_send(question) {
        Ok(()) => {}
        Err(TrySendError::Full(_)) => return Asked::No("too many questions wait already"),
        Err(TrySendError::Closed(_)) => return Asked::No("nobody is there to be asked"),
    }
    let answer = tokio::time::timeout(shared.settings.ask_timeout, answer).await;
    let (asked, word) = match answer {
        Ok(Ok(Answer::Once)) => (Asked::Yes("a person allowed it once"), "once"),
        Ok(Ok(Answer::ThisRun)) => (Asked::Yes("a person allowed it for this run"), "run"),
        Ok(Ok(Answer::Always)) => (Asked::Yes("a person allowed it always"), "always"),
        Ok(Ok(Answer::Deny)) => (Asked::No("a person said no"), "denied"),
        Ok(Err(_)) | Err(_) => (Asked::No("nobody answered in time"), "expired"),
    };
    let event = Event::ApprovalAnswered { flow: flow.id, answer: word.to_owned(), by: None };
    if let Err(error) = shared.audit.record(event).await {
        tracing::error!(%error, "the answer to a question could not be recorded");
        return Asked::No("the answer could not be recorded");
    }
    if matches!(word, "run" | "always") {
        shared.approvals.remember(&decision.rule, &host, port);
    }
    asked
}

fn what(flow: &Flow) -> String {
    let target = format!("{}:{}", flow.host(), flow.facts.port);
    match (flow.request.known(), &flow.seen.path) {
        (Some(http), Some(path)) => format!("{} {target}{path}", http.method),
        (Some(http), None) => format!("{} {target}", http.method),
        (None, _) => target,
    }
}

fn who(process: &Process) -> String {
    bounded(&format!("{} (pid {}): {}", process.exe, process.pid, process.args), TEXT_LIMIT)
}
