//! Messages of honest, lying and looping servers.

use hickory_proto::{
    op::{Message, Query, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{
            A, AAAA, CNAME, HTTPS, MX, SOA, SRV, SVCB, TXT,
            svcb::{Alpn, EchConfigList, IpHint, Mandatory, SvcParamKey, SvcParamValue, Unknown},
        },
    },
};
use policy::QueryType;
use proptest::{prop_assert, prop_assert_eq, proptest};

use super::{Answer, AnswerError, Reading, read};

const ASKED: &str = "www.example.com.";

fn name(text: &str) -> Name {
    Name::from_labels(text.trim_end_matches('.').split('.').filter(|label| !label.is_empty()).map(str::as_bytes))
        .unwrap()
}

fn a(owner: &str, ttl: u32, address: &str) -> Record {
    Record::from_rdata(name(owner), ttl, RData::A(address.parse().unwrap()))
}

fn aaaa(owner: &str, ttl: u32, address: &str) -> Record {
    Record::from_rdata(name(owner), ttl, RData::AAAA(address.parse().unwrap()))
}

fn cname(owner: &str, ttl: u32, target: &str) -> Record {
    Record::from_rdata(name(owner), ttl, RData::CNAME(CNAME(name(target))))
}

fn soa(owner: &str, ttl: u32, minimum: u32) -> Record {
    let data = SOA::new(name("ns.example."), name("root.example."), 1, 1, 1, 1, minimum);
    Record::from_rdata(name(owner), ttl, RData::SOA(data))
}

fn message(record: QueryType, answers: Vec<Record>, authorities: Vec<Record>) -> Message {
    let mut query = Message::query();
    query.add_query(Query::query(name(ASKED), RecordType::from(record.number())));
    let mut message = Message::response(1, query.metadata.op_code);
    message.add_queries(query.queries);
    message.add_answers(answers);
    message.add_authorities(authorities);
    message
}

fn try_read(record: QueryType, answers: Vec<Record>, authorities: Vec<Record>) -> Result<Reading, AnswerError> {
    read(&message(record, answers, authorities), &name(ASKED), record, &mut 0)
}

fn found(record: QueryType, answers: Vec<Record>) -> Answer {
    match try_read(record, answers, Vec::new()).unwrap() {
        Reading::Whole(found) => found,
        other => panic!("{other:?}"),
    }
}

fn addresses(found: &Answer) -> String {
    found.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

#[test]
fn only_records_on_the_chain_count() {
    let found = found(
        QueryType::A,
        vec![
            a("evil.example.", 60, "192.0.2.66"),
            cname("cdn.example.", 60, "Edge.example."),
            cname("WWW.example.com.", 60, "cdn.EXAMPLE."),
            a("edge.example.", 60, "192.0.2.1"),
            aaaa("edge.example.", 60, "2001:db8::1"),
            a("edge.example.", 60, "192.0.2.2"),
            a("cdn.example.", 60, "192.0.2.67"),
        ],
    );
    // A record of the type at an earlier link ends the chain there.
    assert_eq!(addresses(&found), "192.0.2.67");
    assert_eq!(found.canonical.unwrap().as_str(), "cdn.example");
}

#[test]
fn a_chain_is_collapsed_to_its_end() {
    let found = found(
        QueryType::Aaaa,
        vec![
            cname(ASKED, 300, "cdn.example."),
            cname("cdn.example.", 20, "edge.example."),
            aaaa("edge.example.", 300, "2001:db8::1"),
        ],
    );
    assert_eq!(addresses(&found), "2001:db8::1");
    assert_eq!(found.canonical.as_ref().unwrap().as_str(), "edge.example");
    assert_eq!(found.seconds, 20, "the shortest life of the chain");
}

#[test]
fn lives_are_bounded_on_both_sides() {
    for (ttl, told) in [(0, 5), (1, 5), (30, 30), (86_400, 60), (u32::MAX, 60)] {
        let Reading::Whole(found) = try_read(QueryType::A, vec![a(ASKED, ttl, "192.0.2.1")], vec![]).unwrap() else {
            panic!()
        };
        assert_eq!(found.seconds, told, "{ttl}");
    }
    for (authorities, seconds) in [
        (vec![], 5),
        (vec![soa("example.com.", 3600, 900)], 30),
        (vec![soa("example.com.", 3600, 0)], 1),
        (vec![soa("example.com.", 7, 900)], 7),
    ] {
        let Reading::Whole(found) = try_read(QueryType::A, vec![], authorities).unwrap() else { panic!() };
        assert_eq!(found.seconds, seconds);
        assert!(found.exists && found.addresses.is_empty());
    }
}

#[test]
fn a_chain_without_an_end_is_gone_on_with_and_a_loop_is_an_error() {
    let reading = try_read(QueryType::A, vec![cname(ASKED, 60, "cdn.example.")], vec![]).unwrap();
    assert!(matches!(reading, Reading::GoOn(next) if next == name("cdn.example.")));
    // With a SOA the server says that the end has no such record.
    let soa = vec![soa("example.", 60, 60)];
    let reading = try_read(QueryType::A, vec![cname(ASKED, 60, "cdn.example.")], soa).unwrap();
    assert!(matches!(reading, Reading::Whole(found) if found.addresses.is_empty()));
    for answers in [
        vec![cname(ASKED, 60, ASKED)],
        vec![cname(ASKED, 60, "b.example."), cname("b.example.", 60, ASKED)],
        (0..20)
            .map(|n| {
                cname(
                    &if n == 0 { ASKED.to_owned() } else { format!("n{n}.example.") },
                    60,
                    &format!("n{}.example.", n + 1),
                )
            })
            .collect(),
    ] {
        let error = try_read(QueryType::A, answers, vec![]).unwrap_err();
        assert_eq!(error, AnswerError::Chain);
    }
    // Links are counted over messages too.
    let answers = vec![cname(ASKED, 60, "next.example.")];
    let error = read(&message(QueryType::A, answers, vec![]), &name(ASKED), QueryType::A, &mut 12);
    assert_eq!(error.unwrap_err(), AnswerError::Chain);
}

#[test]
fn an_alias_asked_for_is_given_and_not_followed() {
    let found = found(QueryType::Cname, vec![cname(ASKED, 60, "CDN.example."), a("cdn.example.", 60, "192.0.2.1")]);
    assert_eq!(found.records, [(5, b"\x03CDN\x07example\x00".to_vec())]);
    assert!(found.addresses.is_empty());
}

#[test]
fn other_types_keep_their_data() {
    let record = |data| Record::from_rdata(name(ASKED), 60, data);
    let mail = found(QueryType::Mx, vec![record(RData::MX(MX::new(10, name("mx.example."))))]);
    assert_eq!(mail.records, [(15, b"\x00\x0a\x02mx\x07example\x00".to_vec())]);
    let text = found(QueryType::Txt, vec![record(RData::TXT(TXT::new(vec!["ab".into(), String::new()])))]);
    assert_eq!(text.records, [(16, b"\x02ab\x00".to_vec())]);
    let service = found(QueryType::Srv, vec![record(RData::SRV(SRV::new(1, 2, 443, name("h.example."))))]);
    assert_eq!(service.records, [(33, b"\x00\x01\x00\x02\x01\xbb\x01h\x07example\x00".to_vec())]);
}

#[test]
fn no_more_records_than_the_bound_are_taken() {
    let many = (0..4000_u32).map(|n| a(ASKED, 60, &std::net::Ipv4Addr::from(0xC000_0000 + n).to_string())).collect();
    assert_eq!(found(QueryType::A, many).addresses.len(), 64);
}

#[test]
fn errors_of_the_server_are_no_answers() {
    let mut message = message(QueryType::A, vec![a(ASKED, 60, "192.0.2.1")], vec![]);
    message.metadata.response_code = ResponseCode::ServFail;
    assert!(!super::is_final(&message));
    let error = read(&message, &name(ASKED), QueryType::A, &mut 0).unwrap_err();
    assert_eq!(error, AnswerError::Code(2));
    message.metadata.response_code = ResponseCode::NXDomain;
    message.answers.clear();
    let Reading::Whole(found) = read(&message, &name(ASKED), QueryType::A, &mut 0).unwrap() else { panic!() };
    assert!(!found.exists);
}

fn https(priority: u16, target: &str, params: Vec<(SvcParamKey, SvcParamValue)>) -> Answer {
    let data = RData::HTTPS(HTTPS(SVCB::new(priority, name(target), params)));
    found(QueryType::Https, vec![Record::from_rdata(name(ASKED), 60, data)])
}

fn alpn(all: &[&str]) -> (SvcParamKey, SvcParamValue) {
    (SvcParamKey::Alpn, SvcParamValue::Alpn(Alpn(all.iter().map(ToString::to_string).collect())))
}

fn ech() -> (SvcParamKey, SvcParamValue) {
    (SvcParamKey::EchConfigList, SvcParamValue::EchConfigList(EchConfigList(vec![1, 2, 3])))
}

fn mandatory(keys: &[SvcParamKey]) -> (SvcParamKey, SvcParamValue) {
    (SvcParamKey::Mandatory, SvcParamValue::Mandatory(Mandatory(keys.to_vec())))
}

#[test]
fn service_bindings_carry_no_ech_no_hints_and_no_http3() {
    let all = vec![
        alpn(&["h3", "h2", "h3-29"]),
        (SvcParamKey::Port, SvcParamValue::Port(8443)),
        (SvcParamKey::Ipv4Hint, SvcParamValue::Ipv4Hint(IpHint(vec![A::new(10, 0, 0, 1)]))),
        ech(),
        (SvcParamKey::Ipv6Hint, SvcParamValue::Ipv6Hint(IpHint(vec![AAAA::new(0, 0, 0, 0, 0, 0, 0, 1)]))),
        (SvcParamKey::Unknown(9), SvcParamValue::Unknown(Unknown(vec![7; 40]))),
    ];
    let found = https(1, ".", all);
    assert!(found.ech);
    assert_eq!(found.records, [(65, b"\x00\x01\x00\x00\x01\x00\x03\x02h2\x00\x03\x00\x02\x20\xfb".to_vec())]);
}

#[test]
fn service_bindings_that_lead_elsewhere_or_nowhere_are_dropped() {
    let no_default = (SvcParamKey::NoDefaultAlpn, SvcParamValue::NoDefaultAlpn);
    for (what, found, records) in [
        ("an alias", https(0, "cdn.example.", vec![]), 0),
        ("another target", https(1, "cdn.example.", vec![alpn(&["h2"])]), 0),
        ("its own target", https(1, ASKED, vec![alpn(&["h2"])]), 1),
        ("HTTP/3 alone", https(1, ".", vec![alpn(&["h3"])]), 1),
        ("HTTP/3 alone and no default", https(1, ".", vec![alpn(&["h3"]), no_default]), 0),
        (
            "mandatory port",
            https(1, ".", vec![mandatory(&[SvcParamKey::Port]), (SvcParamKey::Port, SvcParamValue::Port(1))]),
            1,
        ),
        ("mandatory ech", https(1, ".", vec![mandatory(&[SvcParamKey::EchConfigList]), ech()]), 0),
    ] {
        assert_eq!(found.records.len(), records, "{what}");
    }
    assert_eq!(https(0, "cdn.example.", vec![]).alias, Some(name("cdn.example.")));
    assert!(https(1, "cdn.example.", vec![ech()]).ech, "published, wherever it leads");
}

proptest! {
    /// Whatever a server sends, reading it ends, and gives no more than the bounds.
    #[test]
    fn any_message_is_read_within_the_bounds(
        links in proptest::collection::vec((0..12_u8, 0..12_u8), 0..40),
        owners in proptest::collection::vec(0..12_u8, 0..40),
    ) {
        let host = |n: u8| if n == 0 { ASKED.to_owned() } else { format!("n{n}.example.") };
        let mut answers: Vec<Record> = links.iter().map(|(from, to)| cname(&host(*from), 60, &host(*to))).collect();
        answers.extend(owners.iter().map(|owner| a(&host(*owner), 60, "192.0.2.1")));
        match try_read(QueryType::A, answers, vec![]) {
            Ok(Reading::Whole(found)) => prop_assert!(found.addresses.len() <= owners.len()),
            Ok(Reading::GoOn(next)) => prop_assert!(next != Name::from_ascii(ASKED).unwrap()),
            Err(error) => prop_assert_eq!(error, AnswerError::Chain),
        }
    }
}
