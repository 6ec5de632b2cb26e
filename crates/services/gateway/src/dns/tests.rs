//! The server at its door: a client, a policy, a log, and an upstream that answers by script.

mod again;
/// Messages that no resolver sends.
mod odd;

use std::{net::IpAddr, sync::Arc};

use hickory_proto::{
    op::{Message, Query, ResponseCode},
    rr::{RData, RecordType},
};
use policy::{
    HostName,
    model::{DnsLimits, Mode, PolicySpec},
};
use proptest::{prelude::any, proptest};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    task::AbortHandle,
};

use wire::dns::reply::Transport;

use super::{DnsContext, serve_tcp, serve_udp};
use crate::resolve::{
    scripted::{Over, Server, a, aaaa, bytes, cname, code, name, response},
    world::{World, in_force, rule, spec},
};

/// A sandbox's server on loopback.
struct Front {
    world: World,
    udp: std::net::SocketAddr,
    tcp: std::net::SocketAddr,
    tasks: [AbortHandle; 2],
}

impl Drop for Front {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Front {
    async fn new(spec: PolicySpec, upstream: &Server) -> Self {
        let world = World::new(spec, &[upstream.address]);
        let context = DnsContext::new(
            Arc::clone(&world.policy),
            Arc::clone(&world.names),
            world.audit.clone(),
            Arc::clone(&world.tally),
            None,
        );
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (udp, tcp) = (socket.local_addr().unwrap(), listener.local_addr().unwrap());
        let tasks = [
            tokio::spawn(serve_udp(socket, Arc::clone(&context))).abort_handle(),
            tokio::spawn(serve_tcp(listener, context)).abort_handle(),
        ];
        Self { world, udp, tcp, tasks }
    }

    async fn ask(&self, text: &str, record: RecordType) -> Message {
        self.ask_bytes(&question(text, record)).await
    }

    async fn ask_bytes(&self, query: &[u8]) -> Message {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(self.udp).await.unwrap();
        socket.send(query).await.unwrap();
        let mut buffer = vec![0; 65_535];
        let length = socket.recv(&mut buffer).await.unwrap();
        let message = Message::from_vec(&buffer[..length]).unwrap();
        assert_eq!(message.metadata.id.to_be_bytes(), query[..2]);
        assert!(!message.metadata.authentic_data);
        message
    }

    /// The code and addresses of an answer, in short.
    async fn short(&self, text: &str, record: RecordType) -> String {
        short(&self.ask(text, record).await)
    }

    fn names(&self, address: &str) -> Vec<String> {
        let names = self.world.names.names_of(address.parse().unwrap());
        names.iter().map(HostName::to_string).collect()
    }
}

fn short(message: &Message) -> String {
    let data = message.answers.iter().map(|answer| match &answer.data {
        RData::A(address) => address.to_string(),
        RData::AAAA(address) => address.to_string(),
        other => other.to_string(),
    });
    [vec![format!("{:?}", message.metadata.response_code)], data.collect()].concat().join(" ")
}

fn question(text: &str, record: RecordType) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name(&format!("{text}.")), record));
    message.to_vec().unwrap()
}

/// Answers by the first label: an address of that text, with dashes for dots or colons.
fn by_label(query: &Message, _: Over) -> Vec<Vec<u8>> {
    let owner = query.queries[0].name.to_ascii().to_ascii_lowercase();
    let label = owner.split('.').next().unwrap();
    bytes(&match query.queries[0].query_type {
        RecordType::A => match label.replace('-', ".").parse::<std::net::Ipv4Addr>() {
            Ok(address) => response(query, [a(&owner, 300, &address.to_string())]),
            Err(_) => response(query, [a(&owner, 300, "192.0.2.1")]),
        },
        RecordType::AAAA => match label.replace('-', ":").parse::<std::net::Ipv6Addr>() {
            Ok(address) => response(query, [aaaa(&owner, 300, &address.to_string())]),
            Err(_) => response(query, []),
        },
        _ => response(query, []),
    })
}

#[tokio::test]
async fn an_allowed_name_is_resolved_bound_and_recorded() {
    let upstream = Server::start(by_label).await;
    let front = Front::new(spec(), &upstream).await;
    let message = front.ask("WwW.Zone.example", RecordType::A).await;
    assert_eq!(short(&message), "NoError 192.0.2.1");
    assert_eq!(message.queries[0].name.to_ascii(), "WwW.Zone.example.", "the letter case is echoed");
    assert!(message.answers[0].ttl <= 60 && message.answers[0].ttl >= 5);
    assert_eq!(front.names("192.0.2.1"), ["www.zone.example"]);
    assert_eq!(front.short("www.zone.example", RecordType::A).await, "NoError 192.0.2.1");
    assert_eq!(upstream.seen().len(), 1);
    assert_eq!(
        front.world.told(),
        [
            "allowed zone www.zone.example A UPSTREAM",
            "allowed zone www.zone.example A NOERROR 192.0.2.1",
            "allowed zone www.zone.example A NOERROR 192.0.2.1",
        ]
    );
}

#[tokio::test]
async fn what_is_closed_reaches_nobody_upstream() {
    let upstream = Server::start(by_label).await;
    let front = Front::new(spec(), &upstream).await;
    for (text, record, rule) in [
        ("evil.zone.example", RecordType::A, "no-evil"),
        ("elsewhere.example", RecordType::A, "mode-default"),
        ("elsewhere.example", RecordType::TXT, "mode-default"),
        ("zone.example.elsewhere.example", RecordType::AAAA, "mode-default"),
        ("notzone.example", RecordType::A, "mode-default"),
        ("example", RecordType::A, "mode-default"),
        ("metadata.google.internal", RecordType::A, "guard:metadata"),
        ("1.2.0.192.in-addr.arpa", RecordType::PTR, "mode-default"),
        ("www.zone.example", RecordType::ANY, "mode-default"),
        ("www.zone.example", RecordType::AXFR, "mode-default"),
        ("www.zone.example", RecordType::IXFR, "mode-default"),
        ("www.zone.example", RecordType::NULL, "mode-default"),
        ("www.zone.example", RecordType::NS, "mode-default"),
        ("www.zone.example", RecordType::SOA, "mode-default"),
        ("www.zone.example", RecordType::DNSKEY, "mode-default"),
        ("www.zone.example", RecordType::MX, "mode-default"),
        ("www.zone.example", RecordType::SRV, "mode-default"),
        ("_dns.resolver.arpa", RecordType::SVCB, "mode-default"),
        ("127.1", RecordType::A, "guard:malformed"),
        ("xn--a.zone.example", RecordType::A, "guard:malformed"),
        ("wpad", RecordType::A, "mode-default"),
    ] {
        assert_eq!(front.short(text, record).await, "NXDomain", "{text} {record}");
        let told = front.world.records().pop().unwrap();
        assert_eq!((told.verdict.as_str(), told.rule.as_str(), told.name.as_str()), ("denied", rule, text), "{record}");
        assert_eq!(told.response, "NXDOMAIN");
    }
    assert_eq!(upstream.seen(), []);
    let refusing = PolicySpec { dns: DnsLimits { refused: true, ..DnsLimits::default() }, ..spec() };
    front.world.policy.store(in_force(refusing, 2));
    assert_eq!(front.short("elsewhere.example", RecordType::A).await, "Refused");
    assert_eq!(upstream.seen(), []);
}

#[tokio::test]
async fn types_that_a_rule_lists_are_answered() {
    let upstream = Server::start(|query, _| {
        let data = RData::TXT(hickory_proto::rr::rdata::TXT::new(vec!["v=spf1 -all".into()]));
        let owner = query.queries[0].name.clone();
        bytes(&response(query, [hickory_proto::rr::Record::from_rdata(owner, 60, data)]))
    })
    .await;
    let front = Front::new(spec(), &upstream).await;
    assert_eq!(front.short("_dmarc.zone.example", RecordType::TXT).await, "NoError v=spf1 -all");
    assert_eq!(front.world.told().last().unwrap(), "allowed zone _dmarc.zone.example TXT NOERROR");
}

#[tokio::test]
async fn addresses_that_a_guard_covers_are_left_out() {
    let upstream = Server::start(by_label).await;
    let front = Front::new(spec(), &upstream).await;
    for (label, record, rule) in [
        ("127-0-0-1", RecordType::A, "guard:loopback"),
        ("10-0-0-1", RecordType::A, "guard:private"),
        ("192-168-1-1", RecordType::A, "guard:private"),
        ("100-64-0-1", RecordType::A, "guard:private"),
        ("169-254-169-254", RecordType::A, "guard:metadata"),
        ("168-63-129-16", RecordType::A, "guard:metadata"),
        ("169-254-1-1", RecordType::A, "guard:link-local"),
        ("0-0-0-0", RecordType::A, "guard:unspecified"),
        ("224-0-0-1", RecordType::A, "guard:multicast"),
        ("255-255-255-255", RecordType::A, "guard:broadcast"),
        ("0--1", RecordType::AAAA, "guard:loopback"),
        ("fe80--1", RecordType::AAAA, "guard:link-local"),
        ("fd00-ec2--254", RecordType::AAAA, "guard:metadata"),
        ("0--ffff-7f00-1", RecordType::AAAA, "guard:loopback"),
        ("64-ff9b--a9fe-a9fe", RecordType::AAAA, "guard:metadata"),
        ("2002-a00-1--1", RecordType::AAAA, "guard:private"),
    ] {
        let text = format!("{label}.zone.example");
        assert_eq!(front.short(&text, record).await, "NXDomain", "{label}");
        assert_eq!(front.world.records().pop().unwrap().rule, rule, "{label}");
        let address: IpAddr = match record {
            RecordType::A => label.replace('-', ".").parse().unwrap(),
            _ => label.replace('-', ":").parse().unwrap(),
        };
        assert!(front.world.names.names_of(address).is_empty(), "nothing is bound: {label}");
    }
    // A rule names this range.
    assert_eq!(front.short("10-1-0-7.zone.example", RecordType::A).await, "NoError 10.1.0.7");
    assert_eq!(front.names("10.1.0.7"), ["10-1-0-7.zone.example"]);
}

#[tokio::test]
async fn of_a_mixed_answer_only_what_is_open_is_given() {
    let upstream = Server::start(|query, _| {
        let owner = query.queries[0].name.to_ascii();
        let records = ["10.0.0.1", "192.0.2.1", "127.0.0.1"].map(|address| a(&owner, 60, address));
        bytes(&response(query, records))
    })
    .await;
    let front = Front::new(spec(), &upstream).await;
    assert_eq!(front.short("www.zone.example", RecordType::A).await, "NoError 192.0.2.1");
    assert!(front.names("10.0.0.1").is_empty());
    let told = front.world.records().pop().unwrap();
    assert!(told.reason.contains("10.0.0.1"), "{}", told.reason);
}

#[tokio::test]
async fn a_name_that_is_bound_anew_opens_nothing() {
    let turn = std::sync::atomic::AtomicUsize::new(0);
    let upstream = Server::start(move |query, _| {
        let owner = query.queries[0].name.to_ascii();
        let turn = turn.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let address = ["192.0.2.1", "169.254.169.254"][turn % 2];
        bytes(&response(query, [a(&owner, 0, address)]))
    })
    .await;
    let front = Front::new(spec(), &upstream).await;
    assert_eq!(front.short("www.zone.example", RecordType::A).await, "NoError 192.0.2.1");
    // A life of nothing is five seconds here: the second answer is the first.
    assert_eq!(front.short("www.zone.example", RecordType::A).await, "NoError 192.0.2.1");
    assert_eq!(upstream.seen().len(), 1);
    // Another name gets the other answer; what is bound to the first stays its own.
    assert_eq!(front.short("two.zone.example", RecordType::A).await, "NXDomain");
    assert_eq!(front.names("192.0.2.1"), ["www.zone.example"]);
    assert!(front.names("169.254.169.254").is_empty());
}

#[tokio::test]
async fn aliases_are_collapsed_and_loops_are_failures() {
    let upstream = Server::start(|query, _| {
        let owner = query.queries[0].name.to_ascii();
        bytes(&match owner.as_str() {
            "loop.zone.example." => response(query, [cname(&owner, 60, "b.example."), cname("b.example.", 60, &owner)]),
            _ => {
                response(query, [cname(&owner, 60, "c.elsewhere.example."), a("c.elsewhere.example.", 60, "192.0.2.8")])
            }
        })
    })
    .await;
    let front = Front::new(spec(), &upstream).await;
    let message = front.ask("www.zone.example", RecordType::A).await;
    assert_eq!(short(&message), "NoError 192.0.2.8");
    assert_eq!(message.answers[0].name, name("www.zone.example."));
    assert_eq!(front.names("192.0.2.8"), ["www.zone.example"]);
    assert_eq!(front.short("loop.zone.example", RecordType::A).await, "ServFail");
    let told = front.world.records().pop().unwrap();
    assert_eq!((told.verdict.as_str(), told.response.as_str()), ("error", "SERVFAIL"));
    assert!(told.error.unwrap().contains("loops"));
}

#[tokio::test]
async fn asked_names_the_host_and_loopback_need_no_query() {
    let upstream = Server::start(by_label).await;
    let mut spec = spec();
    spec.rules.push(rule("host", 50, policy::model::Action::Allow, &["host.cofferdam.internal"]));
    let front = Front::new(spec, &upstream).await;
    assert_eq!(front.short("asked.example", RecordType::A).await, "NoError 198.18.0.1");
    assert_eq!(front.short("asked.example", RecordType::AAAA).await, "NoError 100::1");
    assert_eq!(front.short("asked.example", RecordType::HTTPS).await, "NoError");
    assert_eq!(front.short("host.cofferdam.internal", RecordType::A).await, "NoError 198.18.0.2");
    assert_eq!(front.short("localhost", RecordType::A).await, "NoError 127.0.0.1");
    assert_eq!(front.short("app.localhost", RecordType::AAAA).await, "NoError ::1");
    assert_eq!(front.short("localhost", RecordType::TXT).await, "NoError");
    let names = &front.world.names;
    assert_eq!(names.synthetic("198.18.0.1".parse().unwrap()).unwrap().as_str(), "asked.example");
    assert_eq!(front.names("100::2"), ["host.cofferdam.internal"]);
    assert!(names.is_bound(&HostName::parse("asked.example").unwrap(), "100::1".parse().unwrap()));
    assert_eq!(
        front.world.told()[..4],
        [
            "asked ask asked.example A NOERROR 198.18.0.1",
            "asked ask asked.example AAAA NOERROR 100::1",
            "asked ask asked.example HTTPS NOERROR",
            "allowed host host.cofferdam.internal A NOERROR 198.18.0.2",
        ]
    );
    assert_eq!(upstream.seen(), []);
}

#[tokio::test]
async fn without_a_record_there_is_neither_query_nor_answer() {
    let upstream = Server::start(by_label).await;
    let front = Front::new(spec(), &upstream).await;
    assert_eq!(front.short("known.zone.example", RecordType::A).await, "NoError 192.0.2.1");
    front.world.break_log();
    for text in ["known.zone.example", "unknown.zone.example", "elsewhere.example", "asked.example", "localhost"] {
        let message = front.ask(text, RecordType::A).await;
        assert_eq!(short(&message), "ServFail", "{text}");
        assert_eq!(message.queries.len(), 1);
        let (mut stream, query) = (TcpStream::connect(front.tcp).await.unwrap(), question(text, RecordType::A));
        assert_eq!(short(&over_tcp(&mut stream, &query, query.len()).await), "ServFail", "{text}");
    }
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn the_rate_is_bounded_and_told() {
    let upstream = Server::start(by_label).await;
    let few = PolicySpec { dns: DnsLimits { queries_per_second: 3, ..DnsLimits::default() }, ..spec() };
    let front = Front::new(few, &upstream).await;
    let mut answers = Vec::new();
    for _ in 0..20 {
        answers.push(front.short("www.zone.example", RecordType::A).await);
    }
    assert_eq!(answers[..3], ["NoError 192.0.2.1"; 3]);
    let refused = answers.iter().filter(|answer| *answer == "NXDomain").count();
    assert!(refused >= 10, "{answers:?}");
    let told = front.world.records();
    let crossed: Vec<_> = told.iter().filter(|record| record.rule == "guard:dns-limit").collect();
    assert!(!crossed.is_empty() && crossed.len() < refused, "{}", crossed.len());
    assert!(crossed[0].reason.contains("more than 3 DNS questions a second"));
    assert_eq!(front.world.tally.summary().dns_denied, u64::try_from(refused).unwrap());
}

#[tokio::test]
async fn a_tunnel_through_an_allowed_zone_is_cut() {
    let upstream = Server::start(|query, _| code(query, ResponseCode::NXDomain)).await;
    let front = Front::new(spec(), &upstream).await;
    let long = format!("{}.zone.example", "0123456789abcdef".repeat(3));
    assert_eq!(front.short(&long, RecordType::A).await, "NXDomain");
    assert_eq!(upstream.seen(), []);
    for n in 0..150_u32 {
        let label = format!("{:032x}", u128::from(n).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_0C6A_9E37_79B1));
        front.ask(&format!("{label}.zone.example"), RecordType::A).await;
    }
    // 32 bytes of about 3.6 bits each: some fifty of them are the burst, and little more comes with time.
    assert!((30..100).contains(&upstream.seen().len()), "{}", upstream.seen().len());
    let told = front.world.records();
    assert!(told.iter().filter(|record| record.rule == "guard:dns-limit").count() > 50);
}

#[tokio::test]
async fn large_answers_are_cut_over_udp_and_whole_over_tcp() {
    let upstream = Server::start(|query, over| {
        let owner = query.queries[0].name.to_ascii();
        let mut message = response(query, (0..60).map(|n| a(&owner, 60, &format!("192.0.2.{n}"))));
        if over == Over::Udp {
            message = message.truncate();
        }
        bytes(&message)
    })
    .await;
    let front = Front::new(spec(), &upstream).await;
    let message = front.ask("www.zone.example", RecordType::A).await;
    assert!(message.metadata.truncation && message.answers.is_empty());
    let (mut stream, query) =
        (TcpStream::connect(front.tcp).await.unwrap(), question("www.zone.example", RecordType::A));
    assert_eq!(over_tcp(&mut stream, &query, query.len()).await.answers.len(), 60);
}

/// Asks over TCP, the frame cut after so many bytes.
async fn over_tcp(stream: &mut TcpStream, query: &[u8], cut: usize) -> Message {
    let length = u16::try_from(query.len()).unwrap();
    let frame = [&length.to_be_bytes()[..], query].concat();
    stream.set_nodelay(true).unwrap();
    let (head, tail) = frame.split_at(cut.min(frame.len()));
    stream.write_all(head).await.unwrap();
    stream.flush().await.unwrap();
    tokio::task::yield_now().await;
    stream.write_all(tail).await.unwrap();
    let length = stream.read_u16().await.unwrap();
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await.unwrap();
    Message::from_vec(&answer).unwrap()
}

#[tokio::test]
async fn a_frame_cut_anywhere_gets_the_same_answer() {
    let upstream = Server::start(by_label).await;
    let limits = DnsLimits { queries_per_second: 100_000, ..DnsLimits::default() };
    let front = Front::new(PolicySpec { dns: limits, ..spec() }, &upstream).await;
    for (text, record) in [
        ("www.zone.example", RecordType::A),
        ("elsewhere.example", RecordType::A),
        ("www.zone.example", RecordType::ANY),
    ] {
        let expected = front.short(text, record).await;
        let query = question(text, record);
        let mut stream = TcpStream::connect(front.tcp).await.unwrap();
        for cut in 1..query.len() + 2 {
            assert_eq!(short(&over_tcp(&mut stream, &query, cut).await), expected, "cut at {cut}");
        }
    }
    // Every byte alone, and several questions in one segment.
    let query = question("www.zone.example", RecordType::A);
    let frame = [&u16::try_from(query.len()).unwrap().to_be_bytes()[..], &query].concat();
    let mut stream = TcpStream::connect(front.tcp).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for byte in &frame {
        stream.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    stream.write_all(&frame.repeat(3)).await.unwrap();
    for _ in 0..4 {
        let mut answer = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(short(&Message::from_vec(&answer).unwrap()), "NoError 192.0.2.1");
    }
}

#[tokio::test]
async fn a_frame_that_is_no_question_ends_the_connection_or_gets_an_error() {
    let upstream = Server::start(by_label).await;
    let front = Front::new(spec(), &upstream).await;
    for frame in [&[0xFF, 0xFF, 1][..], &[0, 0], &[0, 3, 1, 2, 3]] {
        let mut stream = TcpStream::connect(front.tcp).await.unwrap();
        stream.write_all(frame).await.unwrap();
        assert_eq!(stream.read(&mut [0; 16]).await.unwrap_or(0), 0, "{frame:?}");
    }
    let mut two = Message::from_vec(&question("www.zone.example", RecordType::A)).unwrap();
    two.add_query(Query::query(name("b.zone.example."), RecordType::A));
    assert_eq!(front.ask_bytes(&two.to_vec().unwrap()).await.metadata.response_code, ResponseCode::FormErr);
    let told = front.world.records().pop().unwrap();
    assert_eq!((told.rule.as_str(), told.verdict.as_str()), ("guard:malformed", "denied"));
    assert_eq!(upstream.seen(), []);
}

#[tokio::test]
async fn in_unrestricted_mode_all_is_resolved_but_what_is_guarded() {
    let upstream = Server::start(by_label).await;
    let front = Front::new(PolicySpec { mode: Mode::Unrestricted, ..PolicySpec::default() }, &upstream).await;
    assert_eq!(front.short("anything.example", RecordType::A).await, "NoError 192.0.2.1");
    assert_eq!(front.short("10-0-0-1.example", RecordType::A).await, "NXDomain");
    let watched = PolicySpec { watch_default: true, ..PolicySpec::default() };
    front.world.policy.store(in_force(watched, 2));
    assert_eq!(front.short("anything.example", RecordType::A).await, "NoError 192.0.2.1");
    let told = front.world.records().pop().unwrap();
    assert_eq!(
        (told.enforcement.as_str(), told.would[0].verdict.as_str(), told.revision.as_str()),
        ("watch", "would-deny", "2")
    );
}

#[tokio::test]
async fn one_worker_serves_a_socket_and_the_next_takes_over() {
    let upstream = Server::start(by_label).await;
    let front = Front::new(spec(), &upstream).await;
    let (world, socket) = (&front.world, std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
    socket.set_nonblocking(true).unwrap();
    let context = DnsContext::new(
        Arc::clone(&world.policy),
        Arc::clone(&world.names),
        world.audit.clone(),
        Arc::clone(&world.tally),
        None,
    );
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(socket.local_addr().unwrap()).await.unwrap();
    let workers = [0; 3].map(|_| {
        let socket = UdpSocket::from_std(socket.try_clone().unwrap()).unwrap();
        tokio::spawn(serve_udp(socket, Arc::clone(&context)))
    });
    for worker in workers {
        for _ in 0..3 {
            client.send(&question("www.zone.example", RecordType::A)).await.unwrap();
            let mut buffer = [0; 512];
            let length = client.recv(&mut buffer).await.unwrap();
            assert_eq!(short(&Message::from_vec(&buffer[..length]).unwrap()), "NoError 192.0.2.1");
        }
        worker.abort();
        assert!(worker.await.unwrap_err().is_cancelled());
    }
}

#[tokio::test]
async fn a_slow_name_holds_up_no_other() {
    let upstream = Server::start(|query, over| match query.queries[0].name.to_ascii().as_str() {
        "slow.zone.example." => Vec::new(),
        _ => by_label(query, over),
    })
    .await;
    let front = Front::new(spec(), &upstream).await;
    let slow = front.ask("slow.zone.example", RecordType::A);
    let quick = async {
        for _ in 0..5 {
            assert_eq!(front.short("quick.zone.example", RecordType::A).await, "NoError 192.0.2.1");
        }
    };
    let mut slow = std::pin::pin!(slow);
    tokio::select! {
        biased;
        () = quick => {}
        message = &mut slow => panic!("{message:?}"),
    }
    assert_eq!(short(&slow.await), "ServFail");
}

proptest! {
    /// Whatever bytes come, handling them neither panics nor asks anybody without a rule.
    #[test]
    fn any_bytes_are_handled(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new(spec(), &[]);
            let context = DnsContext::new(
                Arc::clone(&world.policy), Arc::clone(&world.names), world.audit.clone(),
                Arc::clone(&world.tally), None,
            );
            let mut out = Vec::new();
            let _ = context.first(&bytes, Transport::Udp, None, &mut out);
            if !out.is_empty() {
                Message::from_vec(&out).unwrap();
            }
        });
    }
}
