//! Asks a person about a flow, and remembers what was answered for the whole run.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use audit_event::{Event, Process, bounded};
use audit_log::AuditLog;
use policy::{Decision, Protocol};
use tokio::sync::{mpsc::error::TrySendError, oneshot};
use values::RuleName;

use crate::{
    flow::Flow,
    settings::{Answer, Question, Reply},
    shared::Shared,
};

/// The longest text of a question.
const TEXT_LIMIT: usize = 300;
/// The same for where it goes, with a method: the end of the longest host name must be seen.
const WHAT_LIMIT: usize = 400;
/// The most answers that are remembered.
const REMEMBER_LIMIT: usize = 10_000;

/// A method, and a path where there is one reading of it.
type Request = (String, Option<String>);

/// A rule, a host, a port, and the one request where the answer was not for all of them.
type Approved = (RuleName, String, u16, Option<Request>);

/// What was answered for the whole run.
#[derive(Debug, Default)]
pub(crate) struct Approvals(Mutex<HashSet<Approved>>);

impl Approvals {
    /// Whether a person said yes to this before.
    fn holds(&self, rule: &RuleName, host: &str, port: u16, request: Option<&Request>) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let holds = |request| known.contains(&(rule.clone(), host.to_owned(), port, request));
        holds(None) || (request.is_some() && holds(request.cloned()))
    }

    fn remember(&self, rule: &RuleName, host: &str, port: u16, request: Option<Request>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < REMEMBER_LIMIT {
            known.insert((rule.clone(), host.to_owned(), port, request));
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
    let request = flow.facts.http.known().map(|http| (http.method.clone(), http.path.clone()));
    if shared.approvals.holds(&decision.rule, &host, port, request.as_ref()) {
        return Asked::Yes("a person allowed it for this run");
    }
    let Some(questions) = &shared.questions else { return Asked::No("nobody is there to be asked") };
    let (reply, answer) = oneshot::channel();
    let question = Question {
        flow: flow.id,
        what: bounded(&what(flow), WHAT_LIMIT),
        host: bounded(&host, TEXT_LIMIT),
        port,
        protocol: flow.facts.protocol,
        address: flow.facts.address.known().copied(),
        request: flow.facts.http.known().cloned(),
        inside_tls: flow.facts.tls.known().is_some(),
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
    let (settled, outcome) = oneshot::channel();
    let asking = Asking { audit: shared.audit.clone(), flow: flow.id, patience: shared.settings.ask_timeout };
    tokio::task::spawn_local(asking.settle(answer, settled));
    let Ok(outcome) = outcome.await else { return Asked::No("the answer could not be recorded") };
    match outcome {
        Outcome::Answered(Answer::ThisRun) => shared.approvals.remember(&decision.rule, &host, port, None),
        // An ambiguous path is no exact one.
        Outcome::Answered(Answer::Always) if request.as_ref().is_none_or(|(_, path)| path.is_some()) => {
            shared.approvals.remember(&decision.rule, &host, port, request);
        }
        Outcome::Answered(_) | Outcome::Expired | Outcome::Withdrawn | Outcome::NotAsked => {}
    }
    outcome.asked()
}

/// A question that stands. It lives on its own, so that its end is recorded also where the flow went away.
struct Asking {
    audit: AuditLog,
    flow: u64,
    patience: Duration,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Answered(Answer),
    /// In time.
    Expired,
    /// The flow went away.
    Withdrawn,
    /// By whoever asks: too many questions, or no place to show one.
    NotAsked,
}

impl Asking {
    async fn settle(self, mut answer: oneshot::Receiver<Reply>, mut settled: oneshot::Sender<Outcome>) {
        let (outcome, by) = tokio::select! {
            answered = &mut answer => match answered {
                Ok(Reply { answer, by }) => (Outcome::Answered(answer), by),
                Err(_) => (Outcome::NotAsked, None),
            },
            () = tokio::time::sleep(self.patience) => (Outcome::Expired, None),
            () = settled.closed() => (Outcome::Withdrawn, None),
        };
        // Takes the question back where it still stands.
        drop(answer);
        let event = Event::ApprovalAnswered { flow: self.flow, answer: outcome.word().to_owned(), by };
        match self.audit.record(event).await {
            // A flow that is gone wants no answer.
            Ok(_) => drop(settled.send(outcome)),
            Err(error) => tracing::error!(%error, "the answer to a question could not be recorded"),
        }
    }
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Outcome::Answered(Answer::Once) => "once",
            Outcome::Answered(Answer::ThisRun) => "run",
            Outcome::Answered(Answer::Always) => "always",
            Outcome::Answered(Answer::Deny) => "denied",
            Outcome::Expired => "expired",
            Outcome::Withdrawn => "withdrawn",
            Outcome::NotAsked => "not-asked",
        }
    }

    fn asked(self) -> Asked {
        match self {
            Outcome::Answered(Answer::Once) => Asked::Yes("a person allowed it once"),
            Outcome::Answered(Answer::ThisRun) => Asked::Yes("a person allowed it for this run"),
            Outcome::Answered(Answer::Always) => Asked::Yes("a person allowed it always"),
            Outcome::Answered(Answer::Deny) => Asked::No("a person said no"),
            Outcome::Expired => Asked::No("nobody answered in time"),
            Outcome::Withdrawn => Asked::No("the flow went away"),
            Outcome::NotAsked => Asked::No("nobody could be asked: too many questions, or a terminal too small"),
        }
    }
}

fn what(flow: &Flow) -> String {
    let target = format!("{}:{}", flow.host(), flow.facts.port);
    match (flow.request.known(), &flow.seen.path) {
        (Some(http), Some(path)) => format!("{} {target}{path}", http.method),
        (Some(http), None) => format!("{} {target}", http.method),
        (None, _) if flow.facts.protocol == Protocol::Udp => format!("udp {target}"),
        (None, _) => target,
    }
}

fn who(process: &Process) -> String {
    bounded(&format!("{} (pid {}): {}", process.exe, process.pid, process.args), TEXT_LIMIT)
}
