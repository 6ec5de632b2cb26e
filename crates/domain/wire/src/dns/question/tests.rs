//! Messages whole, cut, crooked and random.

use hickory_proto::{
    op::{Edns as HickoryEdns, Message, OpCode, Query},
    rr::{
        Name, RecordType,
        rdata::opt::{ClientSubnet, EdnsOption},
    },
};
use policy::QueryType;
use proptest::{
    prelude::{Just, any},
    prop_assert_eq, prop_oneof, proptest,
};

use super::{Parsed, Question, ResponseCode, parse};

/// A query as an ordinary client would send it.
fn query(name: &str, number: u16) -> Message {
    let mut message = Message::query();
    message.metadata.id = 0x1234;
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::from(number)));
    message
}

fn question(bytes: &[u8]) -> Question<'_> {
    match parse(bytes) {
        Parsed::Question(question) => question,
        other => panic!("{other:?}"),
    }
}

fn rejected(bytes: &[u8]) -> (ResponseCode, bool) {
    match parse(bytes) {
        Parsed::Reject { code, question, .. } => (code, question.is_some()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_ordinary_question_is_read_whole() {
    let bytes = query("WWW.Example.com.", 28).to_vec().unwrap();
    let question = question(&bytes);
    assert_eq!(question.head.id, 0x1234);
    assert!(question.head.recursion_desired);
    assert_eq!(question.record(), QueryType::Aaaa);
    assert_eq!(question.name().unwrap().as_str(), "www.example.com");
    assert_eq!(question.wire, &bytes[12..]);
    assert_eq!(question.edns, None);
}

#[test]
fn edns_options_are_read_past() {
    let mut message = query("example.com.", 1);
    let mut edns = HickoryEdns::new();
    edns.set_max_payload(4096);
    edns.set_dnssec_ok(true);
    edns.options_mut().insert(EdnsOption::Subnet(ClientSubnet::new("192.0.2.1".parse().unwrap(), 24, 0)));
    edns.options_mut().insert(EdnsOption::Unknown(12, vec![0; 128]));
    message.set_edns(edns);
    let bytes = message.to_vec().unwrap();
    assert_eq!(question(&bytes).edns.unwrap().payload, 4096);
}

#[test]
fn what_is_no_plain_question_is_rejected_by_name() {
    use ResponseCode::{BadVers, FormErr, NotImp, Refused};
    let plain = query("example.com.", 1).to_vec().unwrap();
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = plain.clone();
        change(&mut bytes);
        bytes
    };
    let opt = |version: u8, data: &[u8], length: u16| {
        let mut bytes = changed(&|bytes| bytes[11] = 1);
        bytes.extend_from_slice(&[0, 0, 41, 4, 208, 0, version, 0, 0]);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(data);
        bytes
    };
    let mut two = query("a.example.", 1);
    two.add_query(Query::query(Name::from_ascii("b.example.").unwrap(), RecordType::A));
    let mut update = query("example.com.", 1);
    update.metadata.op_code = OpCode::Update;
    let cases: [(&str, Vec<u8>, ResponseCode, bool); 17] = [
        ("two questions", two.to_vec().unwrap(), FormErr, false),
        ("no question", changed(&|bytes| bytes[5] = 0), FormErr, false),
        ("an update", update.to_vec().unwrap(), NotImp, false),
        ("a status query", changed(&|bytes| bytes[2] |= 2 << 3), NotImp, false),
        ("cut in the name", plain[..17].to_vec(), FormErr, false),
        ("cut in the type", plain[..plain.len() - 3].to_vec(), FormErr, false),
        ("a pointer to itself", [&plain[..12], &[0xC0, 12, 0, 1, 0, 1]].concat(), FormErr, false),
        ("a label of 64 bytes", [&plain[..12], &[64], &[b'a'; 64], &[0, 0, 1, 0, 1]].concat(), FormErr, false),
        ("an answer in a query", changed(&|bytes| bytes[7] = 1), FormErr, true),
        ("an authority in a query", changed(&|bytes| bytes[9] = 1), FormErr, true),
        ("two additional records", changed(&|bytes| bytes[11] = 2), FormErr, true),
        ("an additional record that is not there", changed(&|bytes| bytes[11] = 1), FormErr, true),
        ("an option longer than its record", opt(0, &[0, 8, 0, 9, 1], 5), FormErr, true),
        ("a record longer than the message", opt(0, &[0, 8, 0, 0], 9), FormErr, true),
        ("EDNS of the future", opt(1, &[], 0), BadVers, true),
        ("class CHAOS", changed(&|bytes| *bytes.last_mut().unwrap() = 3), Refused, true),
        ("bytes behind the message", changed(&|bytes| bytes.push(0)), FormErr, true),
    ];
    for (what, bytes, code, has_question) in cases {
        assert_eq!(rejected(&bytes), (code, has_question), "{what}");
    }
    for number in [0, 41] {
        assert_eq!(rejected(&query("example.com.", number).to_vec().unwrap()).0, FormErr, "type {number}");
    }
}

#[test]
fn a_name_of_256_bytes_on_the_wire_is_too_long() {
    let name = |last: usize| {
        let mut bytes = query("example.com.", 1).to_vec().unwrap()[..12].to_vec();
        for length in [63, 63, 63, last] {
            bytes.push(u8::try_from(length).unwrap());
            bytes.extend(std::iter::repeat_n(b'a', length));
        }
        bytes.extend_from_slice(&[0, 0, 1, 0, 1]);
        bytes
    };
    assert_eq!(question(&name(61)).name().unwrap().as_str().len(), 253);
    assert_eq!(rejected(&name(62)).0, ResponseCode::FormErr);
}

#[test]
fn responses_and_scraps_get_no_answer() {
    let mut response = query("example.com.", 1).to_vec().unwrap();
    response[2] |= 0x80;
    for bytes in [&response[..], &[], &[0; 11]] {
        assert_eq!(parse(bytes), Parsed::Ignore);
    }
}

#[test]
fn names_that_are_no_host_names_are_told_escaped() {
    let mut bytes = query("example.com.", 1).to_vec().unwrap()[..12].to_vec();
    bytes.extend_from_slice(b"\x03a.b\x04\x00\xff\n \x00\x00\x01\x00\x01");
    let question = question(&bytes);
    assert!(question.name().is_none());
    assert_eq!(question.escaped_name(), r"a.b.\x00\xff\n ");
    let root = query(".", 2).to_vec().unwrap();
    assert_eq!(super::tests::question(&root).escaped_name(), ".");
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = parse(&bytes);
    }

    /// What is taken for a question is the same question to another parser; nothing is lost between the two.
    #[test]
    fn a_question_means_the_same_to_hickory(
        mut bytes in proptest::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(3), any::<u8>()], 0..64),
    ) {
        let head = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        bytes.splice(0..0, head);
        if let Parsed::Question(question) = parse(&bytes) {
            let message = Message::from_vec(&bytes).unwrap();
            prop_assert_eq!(message.queries.len(), 1);
            prop_assert_eq!(u16::from(message.queries[0].query_type), question.number);
            if let Some(name) = question.name() {
                let theirs = message.queries[0].name.to_ascii().to_ascii_lowercase();
                // Characters that hickory escapes in text are compared by their wire form only.
                if !theirs.contains('\\') {
                    prop_assert_eq!(theirs.trim_end_matches('.'), name.as_str());
                }
            }
        }
    }
}
