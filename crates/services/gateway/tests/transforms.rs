//! What a rule changes in requests, at the wire: after they were judged as they were sent, and nothing else.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "help for tests")]

mod support;

use std::{io::Write, net::TcpStream, sync::mpsc::channel, thread};

use gateway::Settings;
use policy::{
    HostName,
    model::{
        Hop, PolicySpec, ProxyAddress, Route, Rule,
        transform::{PathPrefix, Transform},
    },
};
use support::{
    Origin, World,
    tls::{Shown, Tls, exchange, inspected, read_head, read_message, told},
};
use values::RouteName;

fn changed(changes: &Transform) -> Vec<Rule> {
    inspected().into_iter().map(|rule| Rule { transform: Some(changes.clone()), ..rule }).collect()
}

fn fields() -> Transform {
    Transform {
        set: [("x-team".to_owned(), "sre".to_owned())].into(),
        insert: [("accept".to_owned(), "application/json".to_owned())].into(),
        remove: vec!["x-debug".to_owned()],
        path: Some(PathPrefix { from: "/ok".to_owned(), to: "/v2/all".to_owned() }),
        ..Transform::default()
    }
}

const GET: &str = "GET /ok/1?a=b HTTP/1.1\r\nHost: web.test\r\nX-Team: evil\r\nx_team: evil\r\nX-Debug: 1\r\n\r\n";

/// What the server saw of a request.
fn check(head: &str) {
    let lower = head.to_ascii_lowercase();
    assert!(head.starts_with("GET /v2/all/1?a=b HTTP/1.1\r\n"), "{head}");
    assert!(lower.contains("\r\nx-team: sre\r\n") && lower.contains("\r\naccept: application/json\r\n"), "{head}");
    assert!(lower.contains("\r\nhost: web.test\r\n"), "{head}");
    assert!(!lower.contains("evil") && !lower.contains("x-debug"), "{head}");
}

#[test]
fn fields_and_path_inside_tls() {
    let tls = Tls::new();
    let (origin, heads) = tls.http(Shown::Good);
    let world = tls.world(changed(&fields()));
    let mut client = tls.client(&world, "web.test", origin.port());
    for _ in 0..2 {
        assert!(exchange(&mut client, GET).ends_with("ok"));
        check(&told(&heads));
    }
    // Judged as it was sent: what the change would make of it counts for nothing.
    let other = GET.replace("/ok/1", "/v2/all/1");
    assert!(exchange(&mut client, &other).starts_with("HTTP/1.1 403 "));
    let decided = world.event("flow.decided", |event| event["verdict"] == "allowed");
    assert_eq!(decided["http"]["path"], "/ok/1", "recorded as it was sent");
    assert!(heads.try_recv().is_err());
}

#[test]
fn fields_and_path_in_plain_http() {
    let (origin, heads) = Origin::http();
    let world = World::new(changed(&fields()));
    let mut client = world.granted(&format!("web.test:{}", origin.port()));
    for _ in 0..2 {
        client.write_all(GET.as_bytes()).unwrap();
        assert!(read_message(&mut client).unwrap().ends_with("ok"));
        check(&told(&heads));
    }
    // By the proxy, too.
    let mut client = world.client();
    let target = format!("http://web.test:{}/ok/1?a=b", origin.port());
    let request =
        GET.replace("/ok/1?a=b", &target).replace("Host: web.test", &format!("Host: web.test:{}", origin.port()));
    client.write_all(request.as_bytes()).unwrap();
    assert!(read_message(&mut client).unwrap().ends_with("ok"));
    check(&told(&heads).replace(&format!("web.test:{}", origin.port()), "web.test"));
}

/// Answers CONNECT by connecting to the server whatever the target, and tells the target.
fn proxy(to: std::net::SocketAddr) -> (Origin, std::sync::mpsc::Receiver<String>) {
    let (tell, targets) = channel();
    let proxy = Origin::start(move |mut client| {
        let head = read_head(&mut client);
        tell.send(head.split(' ').nth(1).unwrap_or_default().to_owned()).unwrap();
        let mut server = TcpStream::connect(to).unwrap();
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let up = thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
        let _ = std::io::copy(&mut server, &mut client);
        let _ = up.join();
    });
    (proxy, targets)
}

fn to_mirror() -> Transform {
    Transform { host: Some(HostName::parse("mirror.test").unwrap()), ..Transform::default() }
}

#[test]
fn another_host_is_resolved_checked_verified_and_asked_for() {
    let tls = Tls::new();
    let (origin, heads) = tls.http(Shown::Mirror);
    let (proxy, targets) = proxy(origin.address);
    let route = RouteName::new("out").unwrap();
    let hop = Hop::HttpProxy(ProxyAddress { host: "127.0.0.1".to_owned(), port: proxy.port() });
    let rules = changed(&to_mirror()).into_iter().map(|rule| Rule { route: Some(route.clone()), ..rule }).collect();
    let spec = PolicySpec {
        name: "test".to_owned(),
        routes: [(route, Route { hop, dns: Vec::new() })].into(),
        rules,
        ..PolicySpec::default()
    };
    let world = World::with(inspected(), None, |settings| tls.settings(settings));
    world.apply_spec(spec);
    let mut client = tls.client(&world, "web.test", 8443);
    let answer = exchange(&mut client, "GET /ok/1 HTTP/1.1\r\nHost: web.test\r\n\r\n");
    assert!(answer.ends_with("ok"), "{answer}");
    let head = told(&heads).to_ascii_lowercase();
    assert!(head.contains("\r\nhost: mirror.test\r\n") && !head.contains("web.test"), "{head}");
    assert_eq!(targets.recv_timeout(support::PATIENCE).unwrap(), "203.0.113.5:8443", "the checked address");
    // A client can't ask for that host itself.
    let (_, refused) = world.tunnel("mirror.test:8443");
    assert!(refused.starts_with("HTTP/1.1 403 "), "{refused}");
}

#[test]
fn another_host_opens_no_guard_and_no_plain_request_goes_there() {
    let tls = Tls::new();
    let (origin, heads) = tls.http(Shown::Good);
    let inside = Transform { host: Some(HostName::parse("inside.test").unwrap()), ..Transform::default() };
    let world = tls.world(changed(&inside));
    let mut client = tls.client(&world, "web.test", origin.port());
    let answer = exchange(&mut client, "GET /ok/1 HTTP/1.1\r\nHost: web.test\r\n\r\n");
    assert!(
        answer.starts_with("HTTP/1.1 502 ") && answer.contains("no address of inside.test may be dialled"),
        "{answer}"
    );
    let (plain, seen) = Origin::http();
    let mut client = world.granted(&format!("web.test:{}", plain.port()));
    client.write_all(b"GET /ok/1 HTTP/1.1\r\nHost: web.test\r\n\r\n").unwrap();
    let answer = read_message(&mut client).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("another host"), "{answer}");
    assert!(heads.try_recv().is_err() && seen.try_recv().is_err());
}

#[test]
fn a_rule_s_own_roots_stand_in_place_of_all_others() {
    let tls = Tls::new();
    let stranger = Tls::new();
    std::fs::copy(stranger.folder().join("roots.pem"), tls.folder().join("theirs.pem")).unwrap();
    let (ours, _heads) = tls.http(Shown::Good);
    let (theirs, heads) = stranger.http(Shown::Good);
    let folder = tls.folder().to_owned();
    let with = |rules: Vec<Rule>| {
        World::with(rules, None, |settings| Settings { policy_folder: Some(folder.clone()), ..tls.settings(settings) })
    };
    let rooted = |bundle: &str| -> Vec<Rule> {
        inspected().into_iter().map(|rule| Rule { upstream_ca: Some(bundle.into()), ..rule }).collect()
    };
    let get = "GET /ok/1 HTTP/1.1\r\nHost: web.test\r\n\r\n";
    let world = with(inspected());
    let mut client = tls.client(&world, "web.test", theirs.port());
    assert!(exchange(&mut client, get).starts_with("HTTP/1.1 502 "));
    assert_eq!(world.apply(rooted("theirs.pem")).cut, 0);
    let mut client = tls.client(&world, "web.test", theirs.port());
    assert!(exchange(&mut client, get).ends_with("ok"));
    told(&heads);
    let mut client = tls.client(&world, "web.test", ours.port());
    let answer = exchange(&mut client, get);
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("the server's certificate"), "{answer}");
    // A connection that was verified otherwise serves no request of a rule with roots of its own.
    let world = with(inspected());
    let mut client = tls.client(&world, "web.test", ours.port());
    assert!(exchange(&mut client, get).ends_with("ok"));
    world.apply(rooted("theirs.pem"));
    assert!(exchange(&mut client, get).starts_with("HTTP/1.1 502 "));
    let error = world.gateway.apply(support::compile(rooted("none.pem"), 9)).unwrap_err();
    assert!(error.to_string().contains("none.pem"), "{error}");
}
