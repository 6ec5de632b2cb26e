//! Answers as another parser reads them.

use hickory_proto::{
    op::{Message, Query, ResponseCode as HickoryCode},
    rr::{Name, RData, RecordType},
};

use super::{Transport, answer, bare, headless, withheld};
use crate::dns::question::{Edns, Parsed, Question, ResponseCode, parse};

fn query(name: &str) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.metadata.checking_disabled = true;
    message.metadata.authentic_data = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    message.to_vec().unwrap()
}

fn question(bytes: &[u8], edns: Option<u16>) -> Question<'_> {
    match parse(bytes) {
        Parsed::Question(question) => Question { edns: edns.map(|payload| Edns { payload }), ..question },
        other => panic!("{other:?}"),
    }
}

fn answered(edns: Option<u16>, count: usize, transport: Transport) -> (Vec<u8>, Message) {
    let bytes = query("ExAmple.COM.");
    let mut out = Vec::new();
    let records = (0..count).map(|n| (1, [192, 0, 2, u8::try_from(n % 256).unwrap()]));
    answer(&mut out, &question(&bytes, edns), ResponseCode::NoError, records, 60, transport);
    let message = Message::from_vec(&out).unwrap();
    assert_eq!(message.metadata.id, Message::from_vec(&bytes).unwrap().metadata.id);
    (out, message)
}

#[test]
fn an_answer_is_a_message_that_others_read() {
    let (out, message) = answered(None, 2, Transport::Udp);
    assert!(out.windows(12).any(|part| part == b"\x07ExAmple\x03COM"), "the letter case is echoed");
    let metadata = message.metadata;
    assert!(metadata.recursion_available && metadata.recursion_desired && metadata.checking_disabled);
    assert!(!metadata.authentic_data && !metadata.authoritative && !metadata.truncation);
    assert_eq!(message.answers.len(), 2);
    assert_eq!(message.answers[0].name, Name::from_ascii("example.com.").unwrap());
    assert_eq!(message.answers[0].ttl, 60);
    assert_eq!(message.answers[1].data, RData::A("192.0.2.1".parse().unwrap()));
    assert!(message.edns.is_none());
}

#[test]
fn what_does_not_fit_is_cut_whole_and_said_so() {
    // 29 bytes of head and question, 11 of OPT, 16 for each record.
    for (edns, transport, fits) in [
        (None, Transport::Udp, 30),
        (Some(0), Transport::Udp, 29),
        (Some(600), Transport::Udp, 35),
        (Some(65_535), Transport::Udp, 74),
        (None, Transport::Tcp, 4094),
    ] {
        let (out, message) = answered(edns, fits, transport);
        assert!(!message.metadata.truncation, "{edns:?} {} bytes", out.len());
        assert_eq!(message.answers.len(), fits);
        let (_, message) = answered(edns, fits + 1, transport);
        assert!(message.metadata.truncation, "{edns:?}");
        assert!(message.answers.is_empty());
        assert_eq!(message.edns.map(|edns| edns.max_payload()), edns.map(|_| 1232));
    }
}

#[test]
fn codes_beyond_fifteen_need_the_opt_record() {
    let bytes = query("example.com.");
    let mut out = Vec::new();
    bare(&mut out, &question(&bytes, Some(1232)), ResponseCode::BadVers);
    // BADVERS and BADSIG share their number.
    assert_eq!(u16::from(Message::from_vec(&out).unwrap().metadata.response_code), 16);
    let Parsed::Question(question) = parse(&bytes) else { panic!() };
    let mut out = Vec::new();
    headless(&mut out, question.head, ResponseCode::FormErr);
    let message = Message::from_vec(&out).unwrap();
    assert_eq!((message.metadata.response_code, message.queries.len()), (HickoryCode::FormErr, 0));
}

#[test]
fn a_withheld_answer_says_nothing_but_its_question() {
    for edns in [None, Some(1232)] {
        let (out, whole) = answered(edns, 3, Transport::Udp);
        let message = Message::from_vec(&withheld(&out)).unwrap();
        assert_eq!(message.metadata.response_code, HickoryCode::ServFail);
        assert_eq!((message.metadata.id, message.queries), (whole.metadata.id, whole.queries));
        assert!(message.answers.is_empty());
    }
    let mut out = Vec::new();
    let bytes = query("example.com.");
    headless(&mut out, question(&bytes, None).head, ResponseCode::NotImp);
    assert!(Message::from_vec(&withheld(&out)).unwrap().queries.is_empty());
    assert!(withheld(&[1, 2, 3]).is_empty());
}
