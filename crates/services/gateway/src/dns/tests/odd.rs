//! Messages that no resolver sends, clients that dawdle, and servers that lie, each over the wire.

use std::time::Duration;

use hickory_proto::{
    op::{Message, ResponseCode as Code},
    rr::{RData, Record, RecordType, rdata},
};
use policy::model::{DnsLimits, PolicySpec};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
};

use super::{Front, by_label, over_tcp, question, short};
use crate::resolve::{
    scripted::{Over, Server, a, aaaa, bytes, cname, code, name, response},
    world::spec,
};

/// A name on the wire.
fn wire(text: &str) -> Vec<u8> {
    let labels = text.split('.').filter(|label| !label.is_empty());
    let mut out: Vec<u8> =
        labels.flat_map(|label| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat()).collect();
    out.push(0);
    out
}

/// A message of these flags, counts and parts.
fn message(flags: u16, counts: [u16; 4], parts: &[&[u8]]) -> Vec<u8> {
    let words = [7, flags].into_iter().chain(counts);
    words.flat_map(u16::to_be_bytes).chain(parts.concat()).collect()
}

/// A question's bytes.
fn asking(text: &str, number: u16, class: u16) -> Vec<u8> {
    [&wire(text)[..], &number.to_be_bytes(), &class.to_be_bytes()].concat()
}

/// An OPT record of this payload, version and options.
fn opt(payload: u16, version: u8, options: &[u8]) -> Vec<u8> {
    let length = u16::try_from(options.len()).unwrap();
    [&[0, 0, 41][..], &payload.to_be_bytes(), &[0, version, 0, 0], &length.to_be_bytes(), options].concat()
}

/// Sends a datagram and a plain question behind it: what comes before the answer to that one is the answer.
async fn answer_to(front: &Front, datagram: &[u8]) -> Option<Message> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(front.udp).await.unwrap();
    socket.send(datagram).await.unwrap();
    let mut last = question("elsewhere.example", RecordType::A);
    last[..2].copy_from_slice(&[0xEE, 0xEE]);
    socket.send(&last).await.unwrap();
    let mut buffer = vec![0; 65_535];
    let length = socket.recv(&mut buffer).await.unwrap();
    let answer = Message::from_vec(&buffer[..length]).unwrap();
    (answer.metadata.id != 0xEEEE).then_some(answer)
}

fn quick() -> PolicySpec {
    PolicySpec { dns: DnsLimits { queries_per_second: 100_000, ..DnsLimits::default() }, ..spec() }
}

#[tokio::test]
async fn what_is_no_plain_question_gets_an_error_or_nothing_and_reaches_nobody() {
    let upstream = Server::start(by_label).await;
    let front = Front::new(quick(), &upstream).await;
    let www = asking("www.zone.example", 1, 1);
    let one = [1, 0, 0, 0];
    let label64 = [&[64][..], &[b'a'; 64], &wire("zone.example"), &[0, 1, 0, 1]].concat();
    let long = [&[63][..], &[b'a'; 63]].concat().repeat(4);
    let tsig = [&wire("key.example")[..], &[0, 250, 0, 255, 0, 0, 0, 0, 0, 0]].concat();
    let sig0 = [0, 0, 24, 0, 255, 0, 0, 0, 0, 0, 0];
    let record = [&www[..], &[0, 0, 0, 60, 0, 4, 192, 0, 2, 1]].concat();
    let cases: &[(&str, Vec<u8>, Option<Code>)] = &[
        ("nothing", Vec::new(), None),
        ("a scrap of a head", vec![0, 7, 1, 0, 0, 1], None),
        ("a response", message(0x8180, one, &[&www]), None),
        ("a response with an answer", message(0x8180, [1, 1, 0, 0], &[&www, &record]), None),
        ("no question", message(0x0100, [0; 4], &[]), Some(Code::FormErr)),
        ("no question, but its bytes", message(0x0100, [0; 4], &[&www]), Some(Code::FormErr)),
        ("two questions", message(0x0100, [2, 0, 0, 0], &[&www, &www]), Some(Code::FormErr)),
        ("the most questions", message(0x0100, [65_535, 0, 0, 0], &[&www]), Some(Code::FormErr)),
        ("fewer bytes than said", message(0x0100, one, &[&www[..www.len() - 1]]), Some(Code::FormErr)),
        ("one byte more", message(0x0100, one, &[&www, &[0]]), Some(Code::FormErr)),
        ("kilobytes more", message(0x0100, one, &[&www, &vec![b'x'; 40_000]]), Some(Code::FormErr)),
        ("an inverse query", message(0x0900, one, &[&www]), Some(Code::NotImp)),
        ("a status query", message(0x1100, one, &[&www]), Some(Code::NotImp)),
        ("a notification", message(0x2100, one, &[&www]), Some(Code::NotImp)),
        ("an update", message(0x2900, one, &[&www]), Some(Code::NotImp)),
        ("a stateful operation", message(0x3100, one, &[&www]), Some(Code::NotImp)),
        ("class CH", message(0x0100, one, &[&asking("www.zone.example", 1, 3)]), Some(Code::Refused)),
        ("class NONE", message(0x0100, one, &[&asking("www.zone.example", 1, 254)]), Some(Code::Refused)),
        ("class ANY", message(0x0100, one, &[&asking("www.zone.example", 1, 255)]), Some(Code::Refused)),
        ("mDNS, answered by unicast", message(0, one, &[&asking("box.local", 1, 0x8001)]), Some(Code::Refused)),
        ("type 0", message(0x0100, one, &[&asking("www.zone.example", 0, 1)]), Some(Code::FormErr)),
        ("type OPT", message(0x0100, one, &[&asking("www.zone.example", 41, 1)]), Some(Code::FormErr)),
        ("an answer in a question", message(0x0100, [1, 1, 0, 0], &[&www, &record]), Some(Code::FormErr)),
        ("an authority in a question", message(0x0100, [1, 0, 1, 0], &[&www, &record]), Some(Code::FormErr)),
        (
            "IXFR with its SOA",
            message(0x0100, [1, 0, 1, 0], &[&asking("zone.example", 251, 1), &record]),
            Some(Code::FormErr),
        ),
        ("TSIG", message(0x0100, [1, 0, 0, 1], &[&www, &tsig]), Some(Code::FormErr)),
        ("SIG(0)", message(0x0100, [1, 0, 0, 1], &[&www, &sig0]), Some(Code::FormErr)),
        ("OPT and TSIG", message(0x0100, [1, 0, 0, 2], &[&www, &opt(1232, 0, &[]), &tsig]), Some(Code::FormErr)),
        (
            "two OPT",
            message(0x0100, [1, 0, 0, 2], &[&www, &opt(1232, 0, &[]), &opt(1232, 0, &[])]),
            Some(Code::FormErr),
        ),
        ("EDNS version 1", message(0x0100, [1, 0, 0, 1], &[&www, &opt(1232, 1, &[])]), Some(Code::BADVERS)),
        (
            "an option longer than OPT",
            message(0x0100, [1, 0, 0, 1], &[&www, &opt(1232, 0, &[0, 12, 0, 9, 0])]),
            Some(Code::FormErr),
        ),
        (
            "an OPT that lies",
            message(0x0100, [1, 0, 0, 1], &[&www, &[0, 0, 41, 4, 208, 0, 0, 0, 0, 255, 255]]),
            Some(Code::FormErr),
        ),
        ("a label of 64", message(0x0100, one, &[&label64]), Some(Code::FormErr)),
        ("a name of 257", message(0x0100, one, &[&long, &[0, 0, 1, 0, 1]]), Some(Code::FormErr)),
        ("a name without an end", message(0x0100, one, &[&long.repeat(40)]), Some(Code::FormErr)),
        ("a pointer to itself", message(0x0100, one, &[&[0xC0, 12, 0, 1, 0, 1]]), Some(Code::FormErr)),
        ("a pointer to the head", message(0x0100, one, &[&[1, b'a', 0xC0, 0, 0, 1, 0, 1]]), Some(Code::FormErr)),
        ("two pointers in a ring", message(0x0100, one, &[&[0xC0, 14, 0xC0, 12, 0, 1, 0, 1]]), Some(Code::FormErr)),
        ("an extended label", message(0x0100, one, &[&[0x41, 1, 0, 0, 1, 0, 1]]), Some(Code::FormErr)),
    ];
    for (what, datagram, expected) in cases {
        let answer = answer_to(&front, datagram).await;
        let code = answer.as_ref().map(|answer| u16::from(answer.metadata.response_code));
        assert_eq!(code, expected.map(u16::from), "{what}");
        assert!(answer.is_none_or(|answer| answer.answers.is_empty() && answer.metadata.id == 7), "{what}");
    }
    let told = front.world.records();
    let malformed = told.iter().filter(|record| record.rule == "guard:malformed" && record.verdict == "denied");
    assert_eq!(malformed.count(), cases.iter().filter(|(_, _, expected)| expected.is_some()).count());
    assert_eq!(upstream.seen(), []);
}

#[tokio::test]
async fn what_no_rule_can_open_is_refused_without_a_query() {
    let upstream = Server::start(by_label).await;
    let front = Front::new(quick(), &upstream).await;
    for (text, number) in [
        ("", 1),
        ("", 2),
        ("", 255),
        ("www.zone.example", 255),
        ("zone.example", 252),
        ("zone.example", 251),
        ("www.zone.example", 10),
        ("www.zone.example", 12),
        ("www.zone.example", 43),
        ("www.zone.example", 65_535),
        ("1.2.0.192.in-addr.arpa", 12),
        ("b.a.9.8.ip6.arpa", 12),
        ("_services._dns-sd._udp.local", 12),
        ("box.local", 1),
        ("wpad", 1),
        ("192.0.2.1", 1),
        ("3221225985", 1),
        ("0x7f.1", 1),
        ("127.0.0.1", 28),
        ("www.zone.example.192.0.2.1", 1),
        ("a b.zone.example", 1),
        ("a\u{0}.zone.example", 1),
        ("\u{e9}.zone.example", 1),
    ] {
        let answer = answer_to(&front, &message(0x0100, [1, 0, 0, 0], &[&asking(text, number, 1)])).await.unwrap();
        assert_eq!(short(&answer), "NXDomain", "{text:?} {number}");
    }
    assert_eq!(upstream.seen(), []);
}

#[tokio::test]
async fn an_answer_is_no_larger_than_the_client_takes_and_1232() {
    let upstream = Server::start(|query, _| {
        let owner = query.queries[0].name.to_ascii();
        let count: u8 = owner.split('-').next().unwrap().parse().unwrap();
        bytes(&response(query, (0..count).map(|n| a(&owner, 60, &format!("192.0.2.{n}")))))
    })
    .await;
    let front = Front::new(quick(), &upstream).await;
    // A head of 12, a question of 22 and records of 16 each; with EDNS, OPT's 11. More than 64 records are never taken.
    for (payload, count, found) in [
        (None, 29, 29),
        (None, 30, 0),
        (Some(0), 29, 29),
        (Some(0), 30, 0),
        (Some(511), 30, 0),
        (Some(512), 29, 29),
        (Some(512), 30, 0),
        (Some(4096), 30, 30),
        (Some(4096), 74, 64),
        (Some(65_535), 74, 64),
    ] {
        let asked = asking(&format!("{count}-.zone.example"), 1, 1);
        let datagram = match payload {
            None => message(0x0100, [1, 0, 0, 0], &[&asked]),
            Some(payload) => message(0x0100, [1, 0, 0, 1], &[&asked, &opt(payload, 0, &[])]),
        };
        let answer = front.ask_bytes(&datagram).await;
        assert_eq!((answer.metadata.truncation, answer.answers.len()), (found == 0, found), "{payload:?} {count}");
        let mut stream = TcpStream::connect(front.tcp).await.unwrap();
        let whole = over_tcp(&mut stream, &datagram, datagram.len()).await;
        assert_eq!((whole.metadata.truncation, whole.answers.len()), (false, count.min(64)), "{payload:?} {count}");
    }
}

#[tokio::test]
async fn what_a_client_puts_into_edns_options_goes_no_further() {
    let upstream = Server::start(|query, over| {
        // Neither client subnet nor cookie nor padding nor an option of one's own.
        let options = query.edns.as_ref().map_or(0, |edns| edns.options().as_ref().len());
        if options > 0 { code(query, Code::Refused) } else { by_label(query, over) }
    })
    .await;
    let front = Front::new(quick(), &upstream).await;
    let secret =
        [&[0, 8, 0, 8, 0, 1, 32, 0, 192, 0, 2, 1][..], &[0, 12, 0, 6], b"secret", &[253, 233, 0, 2, 1, 2]].concat();
    let datagram = message(0x0110, [1, 0, 0, 1], &[&asking("www.zone.example", 1, 1), &opt(1232, 0, &secret)]);
    let answer = front.ask_bytes(&datagram).await;
    assert_eq!(short(&answer), "NoError 192.0.2.1");
    assert!(answer.edns.unwrap().options().as_ref().is_empty());
}

#[tokio::test]
async fn several_questions_in_one_segment_are_answered_in_turn() {
    let upstream = Server::start(by_label).await;
    let front = Front::new(quick(), &upstream).await;
    let frames: Vec<u8> = (1..=50_u8)
        .flat_map(|n| {
            let query = question(&format!("192-0-2-{n}.zone.example"), RecordType::A);
            [&u16::try_from(query.len()).unwrap().to_be_bytes()[..], &query].concat()
        })
        .collect();
    let mut stream = TcpStream::connect(front.tcp).await.unwrap();
    stream.write_all(&frames).await.unwrap();
    stream.shutdown().await.unwrap();
    for n in 1..=50 {
        let mut answer = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(short(&Message::from_vec(&answer).unwrap()), format!("NoError 192.0.2.{n}"));
    }
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test]
async fn clients_that_say_nothing_keep_nobody_from_the_server_for_long() {
    let upstream = Server::start(by_label).await;
    let front = Front::new(quick(), &upstream).await;
    // More connections than are served at a time, each with a frame that never ends.
    let mut idle = Vec::new();
    for _ in 0..80 {
        let mut stream = TcpStream::connect(front.tcp).await.unwrap();
        stream.write_all(&[0, 40, 1]).await.unwrap();
        idle.push(stream);
    }
    assert_eq!(front.short("www.zone.example", RecordType::A).await, "NoError 192.0.2.1");
    let query = question("www.zone.example", RecordType::A);
    let mut stream = TcpStream::connect(front.tcp).await.unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(60), over_tcp(&mut stream, &query, query.len())).await;
    assert_eq!(short(&answer.unwrap()), "NoError 192.0.2.1");
}

#[tokio::test]
async fn a_server_that_lies_gives_no_address_that_was_not_asked_for() {
    let upstream = Server::start(|query, _| {
        let owner = query.queries[0].name.to_ascii();
        let label = owner.split('.').next().unwrap().to_owned();
        let mut message = match label.as_str() {
            "unrelated" => response(query, [a("other.zone.example.", 60, "192.0.2.66"), a(&owner, 60, "192.0.2.1")]),
            "family" => response(query, [aaaa(&owner, 60, "2001:db8::66"), a(&owner, 60, "192.0.2.1")]),
            "beside" => response(query, [cname(&owner, 60, "end.example."), a("else.example.", 60, "192.0.2.66")]),
            "class" => response(query, [other_class(a(&owner, 60, "192.0.2.66")), a(&owner, 60, "192.0.2.1")]),
            "gone" => response(query, [a(&owner, 60, "192.0.2.66")]),
            "forever" => response(query, [a(&owner, u32::MAX, "192.0.2.1")]),
            "never" => response(query, [a(&owner, 0, "192.0.2.1")]),
            "half" => response(query, [a(&owner, 0x8000_0000, "192.0.2.1")]),
            "ring" => response(query, [cname(&owner, 60, "b.example."), cname("b.example.", 60, &owner)]),
            "end" => response(query, [a(&owner, 60, "192.0.2.1")]),
            "chain" => {
                let links = (0..13).map(|n| cname(&link(n, &owner), 60, &link(n + 1, &owner)));
                let end = a(&link(13, &owner), 60, "192.0.2.66");
                response(query, links.chain([end]))
            }
            _ => response(query, []),
        };
        if label == "gone" {
            message.metadata.response_code = Code::NXDomain;
        }
        message.add_additionals([a(&owner, 60, "192.0.2.67"), a("ns.example.", 60, "192.0.2.68")]);
        bytes(&message)
    })
    .await;
    let front = Front::new(quick(), &upstream).await;
    for (label, expected, ttl) in [
        ("unrelated", "NoError 192.0.2.1", 60),
        ("family", "NoError 192.0.2.1", 60),
        ("beside", "NoError 192.0.2.1", 60),
        ("class", "NoError 192.0.2.1", 60),
        ("gone", "NXDomain", 0),
        ("forever", "NoError 192.0.2.1", 60),
        ("never", "NoError 192.0.2.1", 5),
        ("half", "NoError 192.0.2.1", 60),
        ("ring", "ServFail", 0),
        ("chain", "ServFail", 0),
        ("nothing", "NoError", 0),
    ] {
        let answer = front.ask(&format!("{label}.zone.example"), RecordType::A).await;
        assert_eq!(short(&answer), expected, "{label}");
        assert!(answer.answers.iter().all(|record| (ttl - 5..=ttl.max(5)).contains(&record.ttl)), "{label}");
        assert!(answer.authorities.is_empty() && answer.additionals.is_empty(), "{label}");
    }
    for liar in 66..=68 {
        assert!(front.names(&format!("192.0.2.{liar}")).is_empty(), "{liar}");
    }
}

fn link(number: u8, first: &str) -> String {
    if number == 0 { first.to_owned() } else { format!("link{number}.example.") }
}

fn other_class(mut record: Record) -> Record {
    record.dns_class = hickory_proto::rr::DNSClass::CH;
    record
}

#[tokio::test]
async fn lying_lengths_upstream_are_a_failure_and_no_answer() {
    let upstream = Server::start(|query, over| {
        let owner = query.queries[0].name.to_ascii();
        let mut message = bytes(&response(query, [a(&owner, 60, "192.0.2.66")])).remove(0);
        let length = message.len();
        match (owner.split('.').next().unwrap(), over) {
            // The address has five bytes, of which four are there.
            ("data", _) => message[length - 5] = 5,
            ("short", _) => message.truncate(length - 1),
            ("count", _) => message[7] = 200,
            ("pointer", _) => message[length - 16..length - 14].copy_from_slice(&[0xFF, 0xFF]),
            ("scrap", _) => message.truncate(3),
            _ => {}
        }
        vec![message]
    })
    .await;
    let front = Front::new(quick(), &upstream).await;
    let ask = async |label: &'static str| (label, front.short(&format!("{label}.zone.example"), RecordType::A).await);
    let (one, two, three, four, five) =
        tokio::join!(ask("data"), ask("short"), ask("count"), ask("pointer"), ask("scrap"));
    for (label, answer) in [one, two, three, four, five] {
        assert_eq!(answer, "ServFail", "{label}");
    }
    assert!(front.names("192.0.2.66").is_empty());
    assert!(front.world.records().iter().filter(|record| record.response == "SERVFAIL").all(|r| r.error.is_some()));
}

#[tokio::test]
async fn text_that_is_opened_by_rule_comes_whole() {
    let upstream = Server::start(|query, _| {
        let data = rdata::TXT::new(vec!["v=spf1 -all".to_owned(), String::new(), "x".repeat(255)]);
        bytes(&response(query, [Record::from_rdata(name("www.zone.example."), 60, RData::TXT(data))]))
    })
    .await;
    let front = Front::new(quick(), &upstream).await;
    let answer = front.ask("www.zone.example", RecordType::TXT).await;
    let RData::TXT(text) = &answer.answers[0].data else { panic!("{answer:?}") };
    assert_eq!(text.txt_data.iter().map(|part| part.len()).collect::<Vec<_>>(), [11, 0, 255]);
}

#[tokio::test]
async fn a_server_that_is_silent_over_udp_is_asked_over_tcp() {
    let upstream = Server::start(|query, over| match over {
        Over::Udp => Vec::new(),
        Over::Tcp => by_label(query, over),
    })
    .await;
    let front = Front::new(quick(), &upstream).await;
    assert_eq!(front.short("www.zone.example", RecordType::A).await, "NoError 192.0.2.1");
}
