//! UDP to opened ports, in a network namespace of the test's own. Needs root, `ip` and `nft`; says so and passes without.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "help for tests")]

mod support;

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use gateway::Settings;
use policy::{
    Protocol,
    model::{Action, Group, Rule},
};
use support::{PATIENCE, World, compile, namespace::Namespace, rule};

/// Tells what it gets and sends it back.
struct Echo {
    address: SocketAddr,
    told: Receiver<Vec<u8>>,
}

impl Echo {
    fn start(address: SocketAddr) -> Self {
        let socket = UdpSocket::bind(address).unwrap();
        let address = socket.local_addr().unwrap();
        let (tell, told) = channel();
        thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while let Ok((count, peer)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(&buffer[..count], peer);
                if tell.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { address, told }
    }
}

fn open(range: &str, ports: &[u16]) -> Rule {
    let group = Group { cidrs: vec![range.parse().unwrap()], ..Group::default() };
    Rule {
        protocol: Some(Protocol::Udp),
        ports: ports.iter().map(|port| (*port, *port)).collect(),
        ..rule("open-udp", 10, Action::Allow, group)
    }
}

struct Stage {
    namespace: Namespace,
    world: World,
    one: Echo,
    two: Echo,
}

impl Stage {
    /// Two servers at one port of two addresses, and a rule that opens this range of addresses.
    fn new(range: &str, adjust: impl FnOnce(Settings) -> Settings) -> Option<Self> {
        let namespace = Namespace::new()?;
        let one = Echo::start("127.0.0.1:0".parse().unwrap());
        let port = one.address.port();
        let two = Echo::start(SocketAddr::from(([127, 0, 0, 2], port)));
        let sockets = vec![namespace.datagrams(port).into()];
        let world = namespace.world_with(vec![open(range, &[port])], sockets, adjust);
        Some(Self { namespace, world, one, two })
    }

    fn client(&self) -> UdpSocket {
        let socket = self.namespace.inside(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }
}

/// Sends and takes the answer, which must come from where it was sent to.
#[track_caller]
fn exchange(client: &UdpSocket, server: SocketAddr, text: &[u8]) {
    client.send_to(text, server).unwrap();
    let mut buffer = vec![0; 65_536];
    let (count, from) = client.recv_from(&mut buffer).unwrap();
    assert_eq!((from, &buffer[..count]), (server, text));
}

#[test]
fn datagrams_are_decided_recorded_and_answered_from_where_they_went() {
    let adjust = |settings| Settings { datagram_idle_timeout: Duration::from_millis(500), ..settings };
    let Some(stage) = Stage::new("127.0.0.0/8", adjust) else { return };
    let client = stage.client();
    exchange(&client, stage.one.address, b"one");
    exchange(&client, stage.two.address, &vec![7; 60_000]);
    exchange(&client, stage.one.address, b"");
    let decided = stage.world.event("flow.decided", |event| event["destination"]["address"] == "127.0.0.2");
    let said = (&decided["verdict"], &decided["rule"], &decided["protocol"], &decided["destination"]["port"]);
    let port = stage.two.address.port();
    assert_eq!(said, (&"allowed".into(), &"open-udp".into(), &"udp".into(), &port.into()));
    let ended = stage.world.event("flow.ended", |event| event["destination"]["address"] == "127.0.0.2");
    assert_eq!((&ended["ended_by"], &ended["protocol"]), (&"bound".into(), &"udp".into()));
    assert_eq!((&ended["bytes"]["sent"], &ended["bytes"]["received"]), (&60_000.into(), &60_000.into()));
    // One that ended begins anew.
    stage.world.event("flow.ended", |event| event["destination"]["address"] == "127.0.0.1");
    exchange(&client, stage.one.address, b"again");
    assert_eq!(stage.world.gateway.summary().allowed, 3);
}

#[test]
fn what_no_rule_opens_is_dropped_and_recorded_once() {
    let Some(stage) = Stage::new("127.0.0.1/32", |settings| settings) else { return };
    let client = stage.client();
    for _ in 0..200 {
        client.send_to(b"denied", stage.two.address).unwrap();
    }
    // Behind them in the same queue.
    exchange(&client, stage.one.address, b"allowed");
    let denied = stage.world.event("flow.decided", |event| event["verdict"] == "denied");
    assert_eq!((&denied["rule"], &denied["destination"]["address"]), (&"guard:loopback".into(), &"127.0.0.2".into()));
    let denials = stage.world.events().iter().filter(|event| event["verdict"] == "denied").count();
    assert_eq!(denials, 1);
    assert!(stage.two.told.try_recv().is_err(), "nothing reached it");
}

#[test]
fn a_flood_of_what_is_denied_takes_no_place_of_what_is_allowed() {
    let Some(stage) = Stage::new("127.0.0.1/32", |settings| settings) else { return };
    let client = stage.client();
    let port = stage.one.address.port();
    for number in 0..10_000u16 {
        let [high, low] = number.to_be_bytes();
        client.send_to(b"denied", SocketAddr::from(([127, 1, high, low], port))).unwrap();
        // Sends no more than the socket's buffer holds before it is read.
        if number % 100 == 99 {
            exchange(&client, stage.one.address, b"allowed");
        }
    }
    let denials = stage.world.events().iter().filter(|event| event["verdict"] == "denied").count();
    assert!(denials > 5_000, "{denials}");
}

#[test]
fn a_new_policy_reaches_open_flows() {
    let Some(stage) = Stage::new("127.0.0.0/8", |settings| settings) else { return };
    let client = stage.client();
    let port = stage.one.address.port();
    exchange(&client, stage.one.address, b"one");
    exchange(&client, stage.two.address, b"two");
    let (_, _) = (stage.one.told.recv().unwrap(), stage.two.told.recv().unwrap());
    let applied = stage.world.apply(vec![open("127.0.0.1/32", &[port])]);
    assert_eq!((applied.rejudged, applied.cut), (2, 1));
    let ended = stage.world.event("flow.ended", |event| event["ended_by"] == "policy");
    assert_eq!((&ended["destination"]["address"], &ended["ended_revision"]), (&"127.0.0.2".into(), &"2".into()));
    client.send_to(b"late", stage.two.address).unwrap();
    exchange(&client, stage.one.address, b"goes on");
    assert!(stage.two.told.try_recv().is_err(), "nothing reached it any more");
    let decided = stage.world.events().iter().filter(|event| event["event"] == "flow.decided").count();
    assert_eq!(decided, 3, "the flow that stays was not judged anew");
}

#[test]
fn nothing_leaves_without_its_record() {
    let Some(stage) = Stage::new("127.0.0.0/8", |settings| settings) else { return };
    let client = stage.client();
    exchange(&client, stage.one.address, b"one");
    std::fs::remove_file(stage.world.events_file()).unwrap();
    std::fs::create_dir(stage.world.events_file()).unwrap();
    client.send_to(b"unrecorded", stage.two.address).unwrap();
    exchange(&client, stage.one.address, b"was recorded");
    assert!(stage.two.told.recv_timeout(Duration::from_millis(300)).is_err());
}

#[test]
fn what_can_not_be_opened_is_refused_by_name() {
    let all = |ports: &[(u16, u16)]| Rule { ports: ports.to_vec(), ..open("192.0.2.0/24", &[]) };
    for (rule, said) in [
        (all(&[(60, 125)]), "more than 64"),
        (all(&[(50, 60)]), "resolver"),
        (Rule { process: vec![policy::model::ProcessMatch::Executable("/bin/x".into())], ..all(&[(9, 9)]) }, "process"),
        (Rule { protocol: Some(Protocol::Icmp), ..all(&[]) }, "ICMP"),
    ] {
        let error = gateway::check_built(&compile(vec![rule], 1)).unwrap_err();
        assert!(error.to_string().contains(said) && error.rule.as_str() == "open-udp", "{error}");
    }
    let policy = compile(vec![all(&[(1, 52), (443, 443)])], 1);
    assert_eq!(gateway::datagram_ports(&policy).unwrap().len(), 53);
    let world = World::new(vec![]);
    let error = world.gateway.apply(policy).unwrap_err();
    assert!(error.to_string().contains("UDP port 1 was not open when this run started"), "{error}");
}
