//! What to do with a DNS question.

use jiff::Timestamp;
use serde::Serialize;
use smallvec::SmallVec;

use crate::{
    compile::{CompiledPolicy, Source},
    decision::{NameAnswer, NameDecision},
    guard::Guard,
    host_name::HostName,
};

/// The type of a DNS question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum QueryType {
    /// An IPv4 address.
    A,
    /// An IPv6 address.
    Aaaa,
    /// An alias.
    Cname,
    /// RFC 9460.
    Https,
    /// RFC 9460.
    Svcb,
    /// Mail exchange; only by rule.
    Mx,
    /// Text; only by rule.
    Txt,
    /// Service location; only by rule.
    Srv,
    /// Any other, by number: always refused.
    Other(u16),
}

impl From<u16> for QueryType {
    fn from(number: u16) -> Self {
        match number {
            1 => QueryType::A,
            5 => QueryType::Cname,
            15 => QueryType::Mx,
            16 => QueryType::Txt,
            28 => QueryType::Aaaa,
            33 => QueryType::Srv,
            64 => QueryType::Svcb,
            65 => QueryType::Https,
            other => QueryType::Other(other),
        }
    }
}

impl CompiledPolicy {
    /// Whether any rule could allow this name, so that it may be asked about.
    pub fn judge_name(&self, _source: &Source, _name: &HostName, _record: QueryType, _now: Timestamp) -> NameDecision {
        NameDecision {
            answer: NameAnswer::Refuse,
            rule: Guard::Reserved.rule_name(),
            reason: "not compiled".into(),
            would: SmallVec::new(),
            route: None,
        }
    }
}
