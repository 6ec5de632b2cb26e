//! What an upstream server's message says about one name.
//!
//! Only records on the chain from the name asked for count; a server may add what it likes, and lie. The chain of
//! aliases is followed to its end and collapsed: the sandbox sees its own name with the end's records, and judges
//! nothing by the names between (the name asked for was judged, the addresses are). A chain that loops or has
//! more than [`CHAIN_LIMIT`] links is an error.

use std::net::IpAddr;

use hickory_proto::{
    op::{Message, MessageType, OpCode, ResponseCode},
    rr::{DNSClass, Name, RData, RecordType, rdata::SVCB},
};
use policy::{HostName, QueryType};
use smallvec::SmallVec;

use super::service_binding;

/// The most aliases between a name and its records.
pub const CHAIN_LIMIT: usize = 12;
/// The most records that are taken from one answer.
const RECORD_LIMIT: usize = 64;
/// How long an answer is given and kept, whatever its own time to live says.
pub const LIFE: std::ops::RangeInclusive<u32> = 5..=60;
/// How long a negative answer is kept.
pub const NEGATIVE_LIFE: std::ops::RangeInclusive<u32> = 1..=30;
/// How long a negative answer without a SOA record is kept.
const NEGATIVE_DEFAULT: u32 = 5;

/// What a server's message says about the name asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Whether the name exists; a name without records of the type exists.
    pub exists: bool,
    /// The addresses, for A and AAAA, at most 64; not yet checked by any guard.
    pub addresses: SmallVec<[IpAddr; 4]>,
    /// The other records, at most 64: type and data, names in it uncompressed.
    pub records: Vec<(u16, Vec<u8>)>,
    /// The end of the chain of aliases, where there was one.
    pub canonical: Option<HostName>,
    /// Whether an HTTPS or SVCB record carried an ECH configuration, which was removed.
    pub ech: bool,
    /// Where an HTTPS or SVCB record in alias mode points to.
    pub alias: Option<Name>,
    /// For how many seconds it holds: within [`LIFE`] with records, else within [`NEGATIVE_LIFE`].
    pub seconds: u32,
}

/// Why a message is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// The aliases form a loop, or never end.
    #[error("the chain of aliases loops or has more than {CHAIN_LIMIT} links")]
    Chain,
    /// Neither a positive nor a negative answer: the response code.
    #[error("the server answered with an error")]
    Code(u16),
}

/// What a message says.
#[derive(Debug)]
pub enum Reading {
    /// All that was asked for.
    Whole(Answer),
    /// Only the first links of a chain: the rest is to be asked for under this name.
    GoOn(Name),
}

/// Whether a message is a response to this query and no other.
pub fn answers(response: &Message, query: &Message) -> bool {
    response.metadata.id == query.metadata.id
        && response.metadata.message_type == MessageType::Response
        && response.metadata.op_code == OpCode::Query
        && response.queries == query.queries
}

/// Whether the head of a message that can't be read whole says that it answers the query and was cut.
pub fn is_cut_answer(bytes: &[u8], query: &Message) -> bool {
    match bytes {
        [high, low, flags, ..] => u16::from_be_bytes([*high, *low]) == query.metadata.id && flags & 0x82 == 0x82,
        _ => false,
    }
}

/// Whether the message is an answer that another server need not be asked for.
pub fn is_final(message: &Message) -> bool {
    matches!(message.metadata.response_code, ResponseCode::NoError | ResponseCode::NXDomain)
}

/// Reads the answer to a question. `links` counts the aliases followed so far, over several messages, and is at most
/// [`CHAIN_LIMIT`] where there is an answer.
pub fn read(message: &Message, asked: &Name, record: QueryType, links: &mut usize) -> Result<Reading, AnswerError> {
    let exists = match message.metadata.response_code {
        ResponseCode::NoError => true,
        ResponseCode::NXDomain => false,
        other => return Err(AnswerError::Code(u16::from(other))),
    };
    let wanted = RecordType::from(record.number());
    let mut chain = Chain { message, owner: asked.clone(), ttl: u32::MAX };
    if record != QueryType::Cname {
        chain.follow(wanted, links)?;
    }
    let mut found = Answer {
        exists,
        addresses: SmallVec::new(),
        records: Vec::new(),
        canonical: None,
        ech: false,
        alias: None,
        seconds: 0,
    };
    let mut life = chain.ttl;
    // Where the end of the chain does not exist it has no records, whatever else the message says.
    for answer in chain.records(wanted).take(if exists { RECORD_LIMIT } else { 0 }) {
        life = life.min(answer.ttl);
        add(&mut found, &answer.data, asked, &chain.owner);
    }
    let empty = found.addresses.is_empty() && found.records.is_empty() && !found.ech && found.alias.is_none();
    let aliased = chain.owner != *asked;
    if empty && exists && aliased && !has_soa(message) {
        return Ok(Reading::GoOn(chain.owner));
    }
    if aliased {
        found.canonical = HostName::parse(&chain.owner.to_ascii()).ok();
    }
    found.seconds = if empty { negative_life(message) } else { life.clamp(*LIFE.start(), *LIFE.end()) };
    Ok(Reading::Whole(found))
}

/// A walk over the aliases of one message.
struct Chain<'m> {
    message: &'m Message,
    owner: Name,
    ttl: u32,
}

impl<'m> Chain<'m> {
    /// Goes to the end of the chain, or to the first owner of a wanted record.
    fn follow(&mut self, wanted: RecordType, links: &mut usize) -> Result<(), AnswerError> {
        while self.records(wanted).next().is_none() {
            let alias = self.records(RecordType::CNAME).next();
            let Some((target, ttl)) = alias.and_then(|record| match &record.data {
                RData::CNAME(target) => Some((target.0.clone(), record.ttl)),
                _ => None,
            }) else {
                return Ok(());
            };
            *links += 1;
            // The bound ends a loop too, wherever in the chain it begins.
            if *links > CHAIN_LIMIT {
                return Err(AnswerError::Chain);
            }
            self.ttl = self.ttl.min(ttl);
            self.owner = target;
        }
        Ok(())
    }

    fn records(&self, wanted: RecordType) -> impl Iterator<Item = &'m hickory_proto::rr::Record> + use<'m, '_> {
        let owner = &self.owner;
        self.message.answers.iter().filter(move |record| {
            record.record_type() == wanted && record.dns_class == DNSClass::IN && record.name == *owner
        })
    }
}

/// Adds one record, cleaned of what the sandbox must not learn from it.
fn add(found: &mut Answer, data: &RData, asked: &Name, owner: &Name) {
    match data {
        RData::A(address) => found.addresses.push(IpAddr::V4(address.0)),
        RData::AAAA(address) => found.addresses.push(IpAddr::V6(address.0)),
        RData::CNAME(target) => found.records.push((5, wire_name(&target.0))),
        RData::MX(mail) => {
            let data = [mail.preference.to_be_bytes().as_slice(), &wire_name(&mail.exchange)].concat();
            found.records.push((15, data));
        }
        RData::TXT(text) => {
            let mut data = Vec::new();
            for part in &text.txt_data {
                // A character string has at most 255 bytes by its own length byte.
                data.push(u8::try_from(part.len()).unwrap_or(u8::MAX));
                data.extend_from_slice(part.get(..part.len().min(255)).unwrap_or_default());
            }
            found.records.push((16, data));
        }
        RData::SRV(service) => {
            let mut data = Vec::new();
            for part in [service.priority, service.weight, service.port] {
                data.extend_from_slice(&part.to_be_bytes());
            }
            data.extend_from_slice(&wire_name(&service.target));
            found.records.push((33, data));
        }
        RData::SVCB(binding) => add_binding(found, 64, binding, asked, owner),
        RData::HTTPS(binding) => add_binding(found, 65, &binding.0, asked, owner),
        // No other type is ever asked for.
        _ => {}
    }
}

fn add_binding(found: &mut Answer, number: u16, binding: &SVCB, asked: &Name, owner: &Name) {
    found.ech |= service_binding::carries_ech(binding);
    if binding.svc_priority == 0 && !binding.target_name.is_root() {
        found.alias = Some(binding.target_name.clone());
    }
    if let Some(data) = service_binding::cleaned(binding, asked, owner) {
        found.records.push((number, data));
    }
}

/// A name in wire form, uncompressed.
fn wire_name(name: &Name) -> Vec<u8> {
    let mut wire = Vec::with_capacity(name.len() + 1);
    for label in name.iter() {
        // A label has at most 63 bytes.
        wire.push(u8::try_from(label.len()).unwrap_or(0));
        wire.extend_from_slice(label);
    }
    wire.push(0);
    wire
}

fn has_soa(message: &Message) -> bool {
    message.authorities.iter().any(|record| record.record_type() == RecordType::SOA)
}

/// How long a negative answer is kept (RFC 2308, section 5).
fn negative_life(message: &Message) -> u32 {
    let stated = message.authorities.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some(soa.minimum.min(record.ttl)),
        _ => None,
    });
    stated.unwrap_or(NEGATIVE_DEFAULT).clamp(*NEGATIVE_LIFE.start(), *NEGATIVE_LIFE.end())
}

#[cfg(test)]
mod tests;
