//! Why a name has no addresses.

use std::sync::Arc;

use audit_log::RecordError;
use policy::{Guard, Reason};
use values::{RouteName, RuleName};
use wire::dns::answer::AnswerError;

use crate::{report, summary::NO_ADDRESS};

use super::{
    limits::Crossed,
    upstream::{ServerError, UpstreamError},
};

/// Why a name has no addresses.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ResolveError {
    /// The policy lets nobody be asked about it.
    #[error("the policy does not open the name")]
    Refused {
        /// The rule.
        rule: RuleName,
        /// Why.
        reason: Reason,
    },
    /// The sandbox crossed a bound on DNS questions.
    #[error("{0}")]
    Bound(Crossed),
    /// The record could not be written, so nothing was asked.
    #[error("the record could not be written, so nothing was asked")]
    Record(#[source] Arc<RecordError>),
    /// The policy's routes don't hold this one.
    #[error("the policy has no route {0}")]
    NoRoute(RouteName),
    /// No server gave an answer.
    #[error("no DNS server answered")]
    Upstream(#[source] Arc<UpstreamError>),
    /// The answer makes no sense.
    #[error("the DNS server's answer can't be used")]
    Answer(#[source] Arc<AnswerError>),
    /// There is no such name.
    #[error("there is no such name")]
    NoSuchName,
    /// The name has no address.
    #[error("the name has no address")]
    NoAddress,
    /// Too many queries are under way.
    #[error("the gateway has too many DNS queries under way")]
    Busy,
    /// The worker that asked was stopped.
    #[error("the gateway is stopping")]
    Stopped,
}

impl ResolveError {
    /// The rule and reason, where this is a denial and no failure.
    pub(crate) fn rule(&self) -> Option<(RuleName, Reason)> {
        match self {
            ResolveError::Refused { rule, reason } => Some((rule.clone(), reason.clone())),
            ResolveError::Bound(crossed) => Some((Guard::DnsLimit.rule_name(), crossed.to_string().into())),
            ResolveError::Record(_)
            | ResolveError::NoRoute(_)
            | ResolveError::Upstream(_)
            | ResolveError::Answer(_)
            | ResolveError::NoSuchName
            | ResolveError::NoAddress
            | ResolveError::Busy
            | ResolveError::Stopped => None,
        }
    }

    /// Whether a server said that it knows no such record type at all: then it publishes none of it.
    pub(super) fn is_unknown_type(&self) -> bool {
        match self {
            ResolveError::Upstream(error) => {
                matches!(&**error, UpstreamError::Failed { source: ServerError::Code(1 | 4), .. })
            }
            ResolveError::Refused { .. }
            | ResolveError::Bound(_)
            | ResolveError::Record(_)
            | ResolveError::NoRoute(_)
            | ResolveError::Answer(_)
            | ResolveError::NoSuchName
            | ResolveError::NoAddress
            | ResolveError::Busy
            | ResolveError::Stopped => false,
        }
    }

    /// Why, in a word or two for people.
    pub(super) fn in_short(&self) -> String {
        match self {
            ResolveError::Upstream(error) => error.in_short(),
            ResolveError::Answer(_) => "unusable answer".to_owned(),
            ResolveError::NoSuchName => "NXDOMAIN".to_owned(),
            ResolveError::NoAddress => NO_ADDRESS.to_owned(),
            ResolveError::Refused { .. }
            | ResolveError::Bound(_)
            | ResolveError::Record(_)
            | ResolveError::NoRoute(_)
            | ResolveError::Busy
            | ResolveError::Stopped => self.to_string(),
        }
    }

    /// The error and what caused it, in one line.
    pub(crate) fn report(&self) -> String {
        report::report(self)
    }
}
