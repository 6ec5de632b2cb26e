//! The record of a DNS question.

use std::{borrow::Cow, net::IpAddr, time::Duration};

use audit_event::{DnsDecided, Event, WouldRecord, microseconds};
use policy::{NameAnswer, NameDecision, Verdict, Would};
use smallvec::SmallVec;
use values::{Revision, RouteName, RuleName};

use super::Asked;

/// What `response` says in a record that is written before a query leaves: the answer is not known yet.
pub(crate) const ASKING_UPSTREAM: &str = "UPSTREAM";

/// What was decided about one question, before it is an event.
#[derive(Debug)]
pub(crate) struct DnsRecord<'a> {
    /// The revision that decided.
    pub(crate) revision: Revision,
    /// What happens; nothing where the gateway or the server failed.
    pub(crate) verdict: Option<Verdict>,
    /// The deciding rule.
    pub(crate) rule: &'a str,
    /// Why.
    pub(crate) reason: Cow<'a, str>,
    /// Watched matches.
    pub(crate) would: &'a [Would],
    /// The name, in a form fit for records.
    pub(crate) name: Cow<'a, str>,
    /// The record type.
    pub(crate) record_type: String,
    /// The addresses answered.
    pub(crate) answers: &'a [IpAddr],
    /// The response code.
    pub(crate) response: &'static str,
    /// The route.
    pub(crate) route: Option<&'a RouteName>,
    /// From question to answer.
    pub(crate) duration: Duration,
    /// What failed.
    pub(crate) error: Option<String>,
}

impl<'a> DnsRecord<'a> {
    /// Of a name that a flow asks for, with no answer yet.
    pub(super) fn of(asked: &Asked<'a>, decision: &'a NameDecision, reason: &'a str, response: &'static str) -> Self {
        Self {
            revision: asked.in_force.policy.revision(),
            verdict: Some(verdict(decision)),
            rule: decision.rule.as_str(),
            reason: Cow::Borrowed(reason),
            would: &decision.would,
            name: Cow::Borrowed(asked.name.as_str()),
            record_type: wire::dns::question::type_text(asked.record.number()),
            answers: &[],
            response,
            route: asked.route,
            duration: asked.started.elapsed(),
            error: None,
        }
    }

    /// The event to be written.
    pub(crate) fn event(self) -> Event {
        let watched = self.rule == MODE_DEFAULT && self.would.iter().any(|would| would.rule.as_str() == MODE_DEFAULT);
        Event::DnsDecided(Box::new(DnsDecided {
            revision: self.revision.to_string(),
            verdict: self.verdict.map_or("error", Verdict::as_str).to_owned(),
            enforcement: if watched { "watch" } else { "enforce" }.to_owned(),
            rule: self.rule.to_owned(),
            reason: self.reason.into_owned(),
            would: self.would.iter().map(would).collect(),
            process: None,
            name: self.name.into_owned(),
            record_type: self.record_type,
            answers: self.answers.to_vec(),
            response: self.response.to_owned(),
            route: self.route.map(|route| route.as_str().to_owned()),
            duration_us: microseconds(self.duration),
            error: self.error,
        }))
    }
}

/// The pseudo-rule of what no rule decides.
const MODE_DEFAULT: &str = "mode-default";

fn would(would: &Would) -> WouldRecord {
    WouldRecord { rule: would.rule.as_str().to_owned(), verdict: would.verdict.as_str().to_owned() }
}

/// What a name decision means for the question's verdict.
pub(crate) fn verdict(decision: &NameDecision) -> Verdict {
    match decision.answer {
        NameAnswer::Resolve => Verdict::Allowed,
        NameAnswer::Synthetic => Verdict::Asked,
        NameAnswer::Refuse => Verdict::Denied,
    }
}

/// A decision of the gateway itself, by a guard.
pub(crate) fn guarded(rule: RuleName, reason: impl Into<policy::Reason>) -> NameDecision {
    NameDecision { answer: NameAnswer::Refuse, rule, reason: reason.into(), would: SmallVec::new(), route: None }
}
