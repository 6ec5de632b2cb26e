//! One question in the making: what is judged, and the words for its answer and its record.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Instant,
};

use policy::{NameDecision, QueryType};
use smallvec::SmallVec;
use values::RuleName;
use wire::dns::{
    question::{Question, ResponseCode, type_text},
    reply::{self, Transport},
};

use crate::{
    in_force::InForce,
    resolve::{DnsRecord, verdict},
};

/// One question in the making.
pub(super) struct Case<'a> {
    pub(super) in_force: &'a Arc<InForce>,
    pub(super) question: Question<'a>,
    pub(super) transport: Transport,
    pub(super) started: Instant,
}

impl Case<'_> {
    /// How a refusal looks by the policy's setting.
    pub(super) fn refusal(&self) -> ResponseCode {
        if self.in_force.policy.spec().dns.refused { ResponseCode::Refused } else { ResponseCode::NxDomain }
    }

    /// The rule that keeps an address out of the answer, and why.
    pub(super) fn why_kept_back(&self, decision: &NameDecision, address: IpAddr) -> (RuleName, String) {
        match self.in_force.policy.guard(address) {
            Some(guard) => (guard.rule_name(), format!("{address}: {}", guard.reason())),
            None => {
                (decision.rule.clone(), format!("{address}: it is not in the ranges of the rule that opens the name"))
            }
        }
    }

    pub(super) fn record<'r>(&self, decision: &'r NameDecision, name: &'r str, code: ResponseCode) -> DnsRecord<'r> {
        DnsRecord {
            revision: self.in_force.policy.revision(),
            verdict: Some(verdict(decision)),
            rule: decision.rule.as_str(),
            reason: Cow::Borrowed(&decision.reason),
            would: &decision.would,
            name: Cow::Borrowed(name),
            record_type: type_text(self.question.number),
            answers: &[],
            response: code.text(),
            route: decision.route.as_ref(),
            duration: self.started.elapsed(),
            error: None,
        }
    }
}

/// Writes an answer of addresses or of other records.
pub(super) fn write(
    out: &mut Vec<u8>,
    case: &Case<'_>,
    code: ResponseCode,
    addresses: &[IpAddr],
    records: &[(u16, Vec<u8>)],
    ttl: u32,
) {
    let question = &case.question;
    if addresses.is_empty() {
        let records = records.iter().map(|(number, data)| (*number, data));
        reply::answer(out, question, code, records, ttl, case.transport);
    } else {
        let records = addresses.iter().map(|address| (question.number, AddressData::from(*address)));
        reply::answer(out, question, code, records, ttl, case.transport);
    }
}

/// An address as record data, without an allocation.
#[derive(Debug, Clone, Copy)]
enum AddressData {
    Four([u8; 4]),
    Six([u8; 16]),
}

impl From<IpAddr> for AddressData {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => AddressData::Four(address.octets()),
            IpAddr::V6(address) => AddressData::Six(address.octets()),
        }
    }
}

impl AsRef<[u8]> for AddressData {
    fn as_ref(&self) -> &[u8] {
        match self {
            AddressData::Four(octets) => octets,
            AddressData::Six(octets) => octets,
        }
    }
}

/// The one address that answers a question of this type.
pub(super) fn of_type(record: QueryType, four: Ipv4Addr, six: Ipv6Addr) -> SmallVec<[IpAddr; 4]> {
    match record {
        QueryType::A => SmallVec::from_slice(&[IpAddr::V4(four)]),
        QueryType::Aaaa => SmallVec::from_slice(&[IpAddr::V6(six)]),
        QueryType::Cname
        | QueryType::Https
        | QueryType::Svcb
        | QueryType::Mx
        | QueryType::Txt
        | QueryType::Srv
        | QueryType::Other(_) => SmallVec::new(),
    }
}
