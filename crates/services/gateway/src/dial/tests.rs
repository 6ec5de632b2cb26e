//! Dialling on loopback, through played proxies, and from namespaces made here.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process::Command,
    time::Duration,
};

use policy::model::{Hop, ProxyAddress, Route};
use proptest::{
    prelude::{Strategy, any},
    prop_assert, prop_assert_eq, proptest,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::{DialError, Dialled, Fault, ProxyError, RouteError, connect, eyeballs, udp_socket};

/// Whether a proxy's failure is the expected one.
type Expected = fn(&ProxyError) -> bool;

const LONG: Duration = Duration::from_secs(20);
const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

fn route(hop: Hop) -> Route {
    Route { hop, dns: Vec::new() }
}

async fn listener(address: IpAddr) -> (TcpListener, u16) {
    let listener = TcpListener::bind((address, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A port of the address on which nobody listens while the socket is kept.
fn closed_port(address: IpAddr) -> (socket2::Socket, u16) {
    let domain = if address.is_ipv4() { socket2::Domain::IPV4 } else { socket2::Domain::IPV6 };
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(address, 0).into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    (socket, port)
}

#[test]
fn the_families_take_turns() {
    let parse = |text: &str| text.split_whitespace().map(|one| one.parse().unwrap()).collect::<Vec<IpAddr>>();
    for (given, expected) in [
        ("", ""),
        ("192.0.2.1 192.0.2.2", "192.0.2.1 192.0.2.2"),
        ("192.0.2.1 192.0.2.2 2001:db8::1", "2001:db8::1 192.0.2.1 192.0.2.2"),
        ("2001:db8::1 2001:db8::2 192.0.2.1", "2001:db8::1 192.0.2.1 2001:db8::2"),
        ("192.0.2.1 192.0.2.1 2001:db8::1 2001:db8::1", "2001:db8::1 192.0.2.1"),
    ] {
        let ordered: Vec<IpAddr> = eyeballs::order(&parse(given), 443).iter().map(SocketAddr::ip).collect();
        assert_eq!(ordered, parse(expected), "{given}");
    }
}

proptest! {
    /// Whatever is given, only what was given is dialled, once, and no more than a few.
    #[test]
    fn nothing_but_the_given_addresses_is_dialled(
        addresses in proptest::collection::vec(any::<u8>().prop_map(|n| match n % 2 {
            0 => IpAddr::V4(Ipv4Addr::new(192, 0, 2, n)),
            _ => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n.into())),
        }), 0..60),
    ) {
        let targets = eyeballs::order(&addresses, 7);
        let mut unique: Vec<_> = targets.to_vec();
        unique.sort();
        unique.dedup();
        prop_assert_eq!(unique.len(), targets.len());
        prop_assert!(targets.iter().all(|target| addresses.contains(&target.ip()) && target.port() == 7));
        let distinct = addresses.iter().collect::<std::collections::HashSet<_>>().len();
        prop_assert_eq!(targets.len(), distinct.min(16));
    }

    #[test]
    fn any_answer_of_a_proxy_is_read_without_a_panic(head in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = wire::response::status(&head);
    }
}

#[tokio::test]
async fn a_direct_connection_has_no_delay() {
    let (listener, port) = listener(V4).await;
    let Dialled { socket, address } = connect(&route(Hop::Direct), &[V4], port, LONG).await.unwrap();
    let stream = socket.into_stream().unwrap();
    assert_eq!(address, V4);
    assert!(stream.nodelay().unwrap());
    assert_eq!(listener.accept().await.unwrap().1, stream.local_addr().unwrap());
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_fails() {
    let (listener, port) = listener(V4).await;
    let refused: IpAddr = "127.0.0.77".parse().unwrap();
    let dialled = connect(&route(Hop::Direct), &[V6, refused, V4], port, LONG).await.unwrap();
    assert_eq!(dialled.address, V4);
    drop(listener);
}

#[tokio::test(start_paused = true)]
async fn an_address_that_does_not_answer_holds_up_the_next_for_a_moment_only() {
    // A listener whose queue is full does not answer.
    let full = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None).unwrap();
    full.bind(&SocketAddr::new(V6, 0).into()).unwrap();
    full.listen(0).unwrap();
    let port = full.local_addr().unwrap().as_socket().unwrap().port();
    let mut fill = Vec::new();
    for _ in 0..4 {
        let socket = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        let _ = socket.connect(&SocketAddr::new(V6, port).into());
        fill.push(socket);
    }
    let Ok(listener) = TcpListener::bind((V4, port)).await else { return };
    let accepted = tokio::spawn(async move { listener.accept().await.unwrap().1 });
    let dialled = connect(&route(Hop::Direct), &[V4, V6], port, LONG).await.unwrap();
    assert_eq!(dialled.address, V4);
    accepted.await.unwrap();
}

#[tokio::test]
async fn failures_say_who_is_at_fault() {
    let (_kept, port) = closed_port(V4);
    let dial =
        |hop: Hop, address: IpAddr| async move { connect(&route(hop), &[address], port, LONG).await.unwrap_err() };
    let error = connect(&route(Hop::Direct), &[], port, LONG).await.unwrap_err();
    assert!(matches!(error, DialError::NoAddress));
    let error = dial(Hop::Direct, V4).await;
    assert!(matches!(error, DialError::Refused(_)) && error.fault() == Fault::Upstream, "{error:?}");
    let error = dial(Hop::Interface("nosuch0".into()), V4).await;
    assert!(matches!(error, DialError::Route(RouteError::NoInterface(_))) && error.fault() == Fault::Operator);
    let error = dial(Hop::Netns("nosuch".into()), V4).await;
    assert!(matches!(error, DialError::Route(RouteError::NoNamespace { .. })), "{error:?}");
    let error = dial(Hop::Netns("/proc/self/ns/uts".into()), V4).await;
    assert!(matches!(error, DialError::Route(RouteError::NamespaceNotPermitted { .. })), "{error:?}");
    let error = dial(Hop::SourceAddress("192.0.2.1".parse().unwrap()), V4).await;
    assert!(matches!(error, DialError::Route(RouteError::NoSourceAddress(_))), "{error:?}");
    let error = dial(Hop::SourceAddress(V6), V4).await;
    assert!(matches!(error, DialError::Route(RouteError::OtherFamily { .. })), "{error:?}");
    let proxy = ProxyAddress { host: "127.0.0.1".into(), port };
    let error = dial(Hop::Socks5(proxy.clone()), V4).await;
    assert!(matches!(error, DialError::Proxy { source: ProxyError::Unreachable(_), .. }), "{error:?}");
    assert_eq!(error.fault(), Fault::Operator);
    let error = udp_socket(&Hop::HttpProxy(proxy), SocketAddr::new(V4, port)).await.unwrap_err();
    assert!(matches!(error, DialError::Route(RouteError::ProxyCarriesTcpOnly)), "{error:?}");
}

#[tokio::test]
async fn a_source_address_is_where_the_connection_comes_from() {
    let (listener, port) = listener(V4).await;
    let from: IpAddr = "127.0.0.9".parse().unwrap();
    let dialled = connect(&route(Hop::SourceAddress(from)), &[V6, V4], port, LONG).await.unwrap();
    assert_eq!(dialled.address, V4);
    assert_eq!(listener.accept().await.unwrap().1.ip(), from);
}

#[tokio::test]
async fn an_interface_and_a_mark_are_set_where_permitted() {
    let (listener, port) = listener(V4).await;
    for hop in [Hop::Interface("lo".into()), Hop::Mark(7)] {
        match connect(&route(hop.clone()), &[V4], port, LONG).await {
            Ok(dialled) => {
                let stream = dialled.socket.into_stream().unwrap();
                let socket = socket2::SockRef::from(&stream);
                match hop {
                    Hop::Mark(mark) => assert_eq!(socket.mark().unwrap(), mark),
                    _ => assert_eq!(socket.device().unwrap().as_deref(), Some(b"lo".as_slice())),
                }
                drop(listener.accept().await.unwrap());
            }
            Err(DialError::Route(RouteError::MarkNotPermitted(_) | RouteError::InterfaceNotPermitted(_))) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// Plays a proxy: reads to `until` bytes, answers, then says what the upstream would.
async fn proxy_once(answer: Vec<Vec<u8>>, reads: Vec<usize>) -> (ProxyAddress, JoinHandle<Vec<u8>>) {
    let (listener, port) = listener(V4).await;
    let played = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut heard = Vec::new();
        for (part, read) in answer.iter().zip(reads) {
            let mut buffer = vec![0; read];
            if stream.read_exact(&mut buffer).await.is_err() {
                return heard;
            }
            heard.extend_from_slice(&buffer);
            if stream.write_all(part).await.is_err() {
                return heard;
            }
        }
        heard
    });
    (ProxyAddress { host: "127.0.0.1".into(), port }, played)
}

async fn through_http(answer: &[u8]) -> (Result<Dialled, DialError>, Vec<u8>) {
    let request = b"CONNECT 192.0.2.7:443 HTTP/1.1\r\nHost: 192.0.2.7:443\r\n\r\n";
    let (proxy, played) = proxy_once(vec![answer.to_vec()], vec![request.len()]).await;
    let outcome = connect(&route(Hop::HttpProxy(proxy)), &["192.0.2.7".parse().unwrap()], 443, LONG).await;
    let heard = played.await.unwrap();
    assert_eq!(heard, request, "the proxy is told the checked address");
    (outcome, heard)
}

async fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    rest
}

#[tokio::test]
async fn an_http_proxy_gives_a_tunnel_and_every_byte_behind_its_answer() {
    let long = format!("HTTP/1.1 200 OK\r\nVia: {}\r\n\r\nSSH-2.0-x\r\n", "v".repeat(3000));
    for answer in
        ["HTTP/1.1 200 Connection established\r\n\r\nSSH-2.0-x\r\n", "HTTP/1.0 200 OK\r\n\r\nSSH-2.0-x\r\n", &long]
    {
        let dialled = through_http(answer.as_bytes()).await.0.unwrap();
        assert_eq!(dialled.address.to_string(), "192.0.2.7");
        assert_eq!(rest(dialled.socket.into_stream().unwrap()).await, b"SSH-2.0-x\r\n");
    }
}

#[tokio::test]
async fn an_http_proxy_that_does_not_connect_is_named() {
    let endless = format!("HTTP/1.1 200 OK\r\nVia: {}", "v".repeat(9000));
    let cases: [(&[u8], Expected, Fault); 8] = [
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", |e| matches!(e, ProxyError::Status(403)), Fault::Operator),
        (b"HTTP/1.1 407 Auth\r\n\r\n", |e| matches!(e, ProxyError::Authentication), Fault::Operator),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", |e| matches!(e, ProxyError::Status(502)), Fault::Upstream),
        (b"HTTP/1.1 100 Continue\r\n\r\n", |e| matches!(e, ProxyError::Status(100)), Fault::Operator),
        (b"SSH-2.0-OpenSSH\r\n\r\n", |e| matches!(e, ProxyError::Malformed(_)), Fault::Operator),
        (b"HTTP/1.1 2x0 OK\r\n\r\n", |e| matches!(e, ProxyError::Malformed(_)), Fault::Operator),
        (b"HTTP/1.1 200 OK\r\n", |e| matches!(e, ProxyError::Closed(_)), Fault::Operator),
        (endless.as_bytes(), |e| matches!(e, ProxyError::Malformed(_)), Fault::Operator),
    ];
    for (answer, expected, fault) in cases {
        let error = through_http(answer).await.0.unwrap_err();
        assert_eq!(error.fault(), fault, "{error:?}");
        match error {
            DialError::Proxy { source, .. } => assert!(expected(&source), "{source:?}"),
            other => panic!("{other:?}"),
        }
    }
}

async fn through_socks(target: &str, choice: &[u8], reply: &[u8]) -> (Result<Dialled, DialError>, Vec<u8>) {
    let target: IpAddr = target.parse().unwrap();
    let request = if target.is_ipv4() { 10 } else { 22 };
    let (proxy, played) = proxy_once(vec![choice.to_vec(), reply.to_vec()], vec![3, request]).await;
    let outcome = connect(&route(Hop::Socks5(proxy)), &[target], 443, LONG).await;
    (outcome, played.await.unwrap())
}

#[tokio::test]
async fn a_socks_proxy_is_told_the_address() {
    let reply = b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00hello";
    let (outcome, heard) = through_socks("192.0.2.7", b"\x05\x00", reply).await;
    assert_eq!(heard, b"\x05\x01\x00\x05\x01\x00\x01\xc0\x00\x02\x07\x01\xbb");
    assert_eq!(rest(outcome.unwrap().socket.into_stream().unwrap()).await, b"hello");
    let reply = b"\x05\x00\x00\x03\x04host\x00\x00hello";
    let (outcome, heard) = through_socks("2001:db8::7", b"\x05\x00", reply).await;
    assert_eq!(heard[3..8], [5, 1, 0, 4, 0x20]);
    assert_eq!(rest(outcome.unwrap().socket.into_stream().unwrap()).await, b"hello");
}

#[tokio::test]
async fn a_socks_proxy_that_does_not_connect_is_named() {
    let cases: [(&[u8], &[u8], Expected); 7] = [
        (b"\x05\xff", b"", |e| matches!(e, ProxyError::Authentication)),
        (b"\x04\x00", b"", |e| matches!(e, ProxyError::Malformed(_))),
        (b"\x05\x00", b"\x05\x02\x00\x01\0\0\0\0\0\0", |e| matches!(e, ProxyError::Socks5Reply { code: 2 })),
        (b"\x05\x00", b"\x05\x05\x00\x01\0\0\0\0\0\0", |e| e.fault() == Fault::Upstream),
        (b"\x05\x00", b"\x05\x00\x00\x09\0\0\0\0\0\0", |e| matches!(e, ProxyError::Malformed(_))),
        (b"\x05\x00", b"\x05\x00\x00\x01\0", |e| matches!(e, ProxyError::Closed(_))),
        (b"\x05\x00", b"HTTP", |e| matches!(e, ProxyError::Malformed(_))),
    ];
    for (choice, reply, expected) in cases {
        match through_socks("192.0.2.7", choice, reply).await.0.unwrap_err() {
            DialError::Proxy { source, .. } => assert!(expected(&source), "{source:?}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_says_nothing_is_waited_for_to_the_bound() {
    let (listener, port) = listener(V4).await;
    let proxy = ProxyAddress { host: "127.0.0.1".into(), port };
    let hop = route(Hop::HttpProxy(proxy));
    let error = connect(&hop, &["192.0.2.7".parse().unwrap()], 443, Duration::from_secs(3)).await.unwrap_err();
    assert!(error.timed_out(), "{error:?}");
    drop(listener);
}

/// A network namespace of its own, where this process may make one.
struct Namespace(String);

impl Namespace {
    fn new(tag: &str) -> Option<Self> {
        let name = format!("cofferdam-test-{}-{tag}", std::process::id());
        let ip = |arguments: &[&str]| Command::new("ip").args(arguments).output().is_ok_and(|out| out.status.success());
        if !rustix::process::geteuid().is_root() || !ip(&["netns", "add", &name]) {
            return None;
        }
        let made = Self(name.clone());
        ip(&["-n", &name, "link", "set", "lo", "up"]).then_some(made)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}

#[tokio::test]
async fn a_namespace_is_dialled_from_within_and_found_again_when_made_anew() {
    let Some(namespace) = Namespace::new("dial") else {
        eprintln!("skipped: needs root and ip");
        return;
    };
    let (outside, port) = listener(V4).await;
    let hop = Hop::Netns(namespace.0.clone());
    // The same address inside is another machine: nobody listens there.
    let error = connect(&route(hop.clone()), &[V4], port, LONG).await.unwrap_err();
    assert!(matches!(error, DialError::Refused(_)), "{error:?}");
    let inside = super::netns::open(&namespace.0, socket2::Domain::IPV4, socket2::Type::STREAM).await.unwrap();
    inside.bind(&SocketAddr::new(V4, port).into()).unwrap();
    inside.listen(8).unwrap();
    let inside = TcpListener::from_std(inside.into()).unwrap();
    let dialled = connect(&route(hop.clone()), &[V4], port, LONG).await.unwrap();
    let dialled = dialled.socket.into_stream().unwrap();
    assert_eq!(inside.accept().await.unwrap().1, dialled.local_addr().unwrap());
    // This thread has not moved.
    connect(&route(Hop::Direct), &[V4], port, LONG).await.unwrap();
    outside.accept().await.unwrap();
    let name = namespace.0.clone();
    drop((inside, dialled, namespace));
    let error = connect(&route(hop.clone()), &[V4], port, LONG).await.unwrap_err();
    assert!(matches!(error, DialError::Route(RouteError::NoNamespace { .. })), "{error:?}");
    let again = Namespace::new("dial").unwrap();
    assert_eq!(again.0, name);
    let error = connect(&route(hop), &[V4], port, LONG).await.unwrap_err();
    assert!(matches!(error, DialError::Refused(_)), "{error:?}");
}

#[test]
fn running_out_is_our_own_fault() {
    let address = SocketAddr::new(V4, 1);
    let error = DialError::from_kernel(address, io::Error::from(rustix::io::Errno::MFILE));
    assert!(matches!(error, DialError::Exhausted { .. }) && error.fault() == Fault::Gateway);
    let error = DialError::from_kernel(address, io::Error::from(rustix::io::Errno::NETUNREACH));
    assert!(matches!(error, DialError::Unreachable { .. }) && error.fault() == Fault::Upstream);
}
