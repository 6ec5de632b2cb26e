//! DNS messages, beside hickory's reading of them.

use hickory_proto::{
    op::{Message, OpCode, ResponseCode as TheirCode},
    rr::{DNSClass, RData, Record, RecordType},
};
use policy::{HostName, QueryType};
use wire::dns::{
    answer::{self, Answer, AnswerError, CHAIN_LIMIT, LIFE, NEGATIVE_LIFE, Reading},
    question::{Parsed, Question, ResponseCode, parse},
    reply::{self, Transport, UDP_LIMIT},
};

use crate::cuts;

/// Any bytes as a client's message.
pub(crate) fn question(bytes: &[u8]) {
    let parsed = parse(bytes);
    match parsed {
        Parsed::Ignore => {
            let is_response = bytes.get(2).is_none_or(|flags| flags & 0x80 != 0);
            assert!(bytes.len() < 12 || is_response, "a query gets no answer");
        }
        Parsed::Reject { head, question, code, .. } => {
            assert_ne!(code, ResponseCode::NoError);
            let mut out = Vec::new();
            match question {
                Some(question) => reply::bare(&mut out, &question, code),
                None => reply::headless(&mut out, head, code),
            }
            answer_is_well_formed(&out, bytes, question.as_ref(), code);
        }
        Parsed::Question(question) => {
            hickory_agrees(bytes, &question);
            replies(bytes, &question);
            for cut in cuts(bytes.len()) {
                assert!(!matches!(parse(&bytes[..cut]), Parsed::Question(_)), "a cut message is a question");
            }
            let longer = [bytes, b"\0"].concat();
            assert!(!matches!(parse(&longer), Parsed::Question(_)), "a byte behind the message is passed over");
        }
    }
}

fn hickory_agrees(bytes: &[u8], question: &Question<'_>) {
    // Options are passed over unread, so what one holds may be wrong: they are left out.
    let mut plain = bytes[..12 + question.wire.len()].to_vec();
    if question.edns.is_some() {
        plain.extend_from_slice(&bytes[plain.len()..][..9]);
        plain.extend([0, 0]);
    }
    let theirs = Message::from_vec(&plain).expect("a message that hickory reads too");
    assert_eq!(theirs.metadata.id, question.head.id);
    assert_eq!(theirs.metadata.op_code, OpCode::Query);
    assert_eq!(theirs.queries.len(), 1);
    assert!(theirs.answers.is_empty() && theirs.authorities.is_empty() && theirs.additionals.is_empty());
    let query = &theirs.queries[0];
    assert_eq!(u16::from(query.query_type), question.number);
    assert_eq!(query.query_class, DNSClass::IN);
    assert_eq!(theirs.edns.is_some(), question.edns.is_some());
    let labels: Vec<Vec<u8>> = query.name.iter().map(<[u8]>::to_ascii_lowercase).collect();
    if let Some(text) = question.name() {
        assert_eq!(text.as_str().as_bytes(), labels.join(&b'.'), "another name");
        if let Ok(name) = HostName::parse(text.as_str()) {
            assert_eq!(name.as_str(), text.as_str(), "a name on the wire is in normal form but for case");
        }
    }
    assert!(!question.escaped_name().bytes().any(|byte| byte.is_ascii_control()));
}

fn replies(bytes: &[u8], question: &Question<'_>) {
    let addresses: Vec<(u16, Vec<u8>)> = (0..bytes.len() % 200).map(|n| (1, vec![192, 0, 2, n as u8])).collect();
    for transport in [Transport::Udp, Transport::Tcp] {
        let mut out = Vec::new();
        let records = addresses.iter().map(|(number, data)| (*number, data));
        reply::answer(&mut out, question, ResponseCode::NoError, records, 60, transport);
        let theirs = answer_is_well_formed(&out, bytes, Some(question), ResponseCode::NoError);
        assert!(theirs.metadata.truncation || theirs.answers.len() == addresses.len());
        assert!(transport == Transport::Tcp || out.len() <= UDP_LIMIT);
        assert!(transport == Transport::Udp || !theirs.metadata.truncation);
        let withheld = reply::withheld(&out);
        let theirs = answer_is_well_formed(&withheld, bytes, None, ResponseCode::ServFail);
        assert_eq!(theirs.queries.len(), 1);
        assert!(theirs.answers.is_empty());
    }
}

/// hickory reads our answer, as an answer to this message.
fn answer_is_well_formed(out: &[u8], asked: &[u8], question: Option<&Question<'_>>, code: ResponseCode) -> Message {
    let theirs = Message::from_vec(out).expect("an answer that hickory reads");
    assert_eq!(Some(theirs.metadata.id.to_be_bytes().as_slice()), asked.get(..2));
    assert_eq!(u16::from(theirs.metadata.response_code), code.number());
    assert!(!theirs.metadata.authentic_data && !theirs.metadata.authoritative);
    assert_eq!(out[2] & 0x80, 0x80, "an answer that asks");
    if let Some(question) = question {
        assert_eq!(theirs.queries.len(), 1);
        assert_eq!(out.get(12..12 + question.wire.len()), Some(question.wire), "the question is not echoed");
    }
    theirs
}

/// Any bytes as an upstream server's message.
pub(crate) fn answer(bytes: &[u8]) {
    let Ok(message) = Message::from_vec(bytes) else { return };
    let Some(query) = message.queries.first() else { return };
    let record = QueryType::from(u16::from(query.query_type));
    let mut links = 0;
    let read = answer::read(&message, &query.name, record, &mut links);
    match read {
        Err(AnswerError::Chain) => assert!(links > CHAIN_LIMIT),
        Err(AnswerError::Code(_)) => assert!(!answer::is_final(&message)),
        Ok(Reading::GoOn(next)) => {
            assert!(links > 0 && links <= CHAIN_LIMIT && next != query.name);
            assert!(names(&message).any(|name| *name == next), "a name that the server did not say");
        }
        Ok(Reading::Whole(found)) => {
            assert!(links <= CHAIN_LIMIT && answer::is_final(&message));
            assert_eq!(found.exists, message.metadata.response_code == TheirCode::NoError);
            holds(&message, record, &found);
            given_again(&message, record, &found);
        }
    }
}

fn names(message: &Message) -> impl Iterator<Item = &hickory_proto::rr::Name> {
    message.answers.iter().filter_map(|record| match &record.data {
        RData::CNAME(target) => Some(&target.0),
        _ => None,
    })
}

fn holds(message: &Message, record: QueryType, found: &Answer) {
    assert!(found.addresses.len() <= 64 && found.records.len() <= 64);
    assert!(LIFE.contains(&found.seconds) || NEGATIVE_LIFE.contains(&found.seconds));
    assert!(found.addresses.is_empty() || matches!(record, QueryType::A | QueryType::Aaaa));
    for address in &found.addresses {
        let said = message.answers.iter().any(|record| match &record.data {
            RData::A(v4) => *address == v4.0,
            RData::AAAA(v6) => *address == v6.0,
            _ => false,
        });
        assert!(said, "{address} was not said");
    }
    assert!(found.records.iter().all(|(number, _)| *number == record.number()), "a record of another type");
}

/// The records in an answer of ours read as what they were, without what is kept from the sandbox.
fn given_again(message: &Message, record: QueryType, found: &Answer) {
    let mut asked = Message::query();
    asked.add_queries(message.queries.iter().take(1).cloned());
    let Ok(asked) = asked.to_vec() else { return };
    // A name such as the root or an odd type is not asked for in the first place.
    let Parsed::Question(question) = parse(&asked) else { return };
    let mut out = Vec::new();
    let records = found.records.iter().map(|(number, data)| (*number, data));
    reply::answer(&mut out, &question, ResponseCode::NoError, records, found.seconds, Transport::Tcp);
    let theirs = answer_is_well_formed(&out, &asked, Some(&question), ResponseCode::NoError);
    if theirs.metadata.truncation {
        return;
    }
    assert_eq!(theirs.answers.len(), found.records.len());
    for given in &theirs.answers {
        assert_eq!(given.ttl, found.seconds);
        match &given.data {
            RData::HTTPS(binding) => binding_is_clean(given, &binding.0),
            RData::SVCB(binding) => binding_is_clean(given, binding),
            data => {
                let said = message.answers.iter().any(|said| said.data == *data);
                assert!(said, "{data} was not said, for {record:?}");
            }
        }
    }
}

fn binding_is_clean(record: &Record, binding: &hickory_proto::rr::rdata::SVCB) {
    use hickory_proto::rr::rdata::svcb::{SvcParamKey, SvcParamValue};
    assert!(matches!(record.record_type(), RecordType::HTTPS | RecordType::SVCB));
    assert!(binding.svc_priority > 0 && binding.target_name.is_root());
    for (key, value) in &binding.svc_params {
        assert!(matches!(key, SvcParamKey::Alpn | SvcParamKey::NoDefaultAlpn | SvcParamKey::Port), "{key}");
        if let SvcParamValue::Alpn(alpn) = value {
            assert!(!alpn.0.is_empty() && !alpn.0.iter().any(|one| one == "h3" || one.starts_with("h3-")));
        }
    }
}
