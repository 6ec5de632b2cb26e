//! Redirected connections, in a network namespace of the test's own. Needs root, `ip` and `nft`; says so and passes without.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "help for tests")]

mod support;

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    thread,
    time::Duration,
};

use gateway::Settings;
use policy::model::Action;
use support::{Origin, deny_hosts, hello, is_refused, loopback, namespace::Namespace, read_head, read_response};

#[test]
fn a_redirected_request_is_judged_by_its_host_and_its_process_is_known() {
    let Some(namespace) = Namespace::new() else { return };
    let (origin, told) = Origin::http();
    let world = namespace.world(vec![loopback("local", 10, Action::Allow, &["web.test"])], |settings| settings);
    assert_eq!(namespace.resolve("web.test"), Some(Ipv4Addr::LOCALHOST));
    // A machine that has no moment for it leaves the process out.
    let who = (0..50).find_map(|number| {
        let name = format!("denied-{number}.test");
        assert_eq!(namespace.resolve(&name), None);
        world.event("dns.decided", |event| event["name"] == name.as_str())["process"]["pid"].as_u64()
    });
    assert_eq!(who, Some(u64::from(std::process::id())));
    let mut stream = namespace.connect(origin.address);
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: web.test\r\n\r\n").unwrap();
    assert_eq!(read_response(&mut stream).1, "ok");
    assert!(told.recv().unwrap().starts_with("GET /a"));
    stream.write_all(b"GET /b HTTP/1.1\r\nHost: other.test\r\n\r\n").unwrap();
    assert!(read_head(&mut stream).starts_with("HTTP/1.1 421 "));
    drop(stream);
    let decided = world.event("flow.decided", |event| event["verdict"] == "allowed");
    assert_eq!(
        (&decided["destination"]["name"], &decided["destination"]["name_from"]),
        (&"web.test".into(), &"http-host".into())
    );
    let denied = world.event("flow.decided", |event| event["verdict"] == "denied");
    assert_eq!(denied["process"]["pid"], std::process::id());
}

#[test]
fn an_address_that_a_guard_covers_is_refused_with_the_reason() {
    let Some(namespace) = Namespace::new() else { return };
    let world = namespace.world(vec![loopback("local", 10, Action::Allow, &["web.test"])], |settings| settings);
    let mut http = namespace.connect("169.254.169.254:80".parse().unwrap());
    http.write_all(b"GET /latest/ HTTP/1.1\r\nHost: web.test\r\n\r\n").unwrap();
    let head = read_head(&mut http);
    assert!(head.starts_with("HTTP/1.1 403 ") && head.contains("guard:"), "{head}");
    for address in ["169.254.169.254:443", "10.0.0.8:5432", "[fd00:ec2::254]:80", "[::ffff:169.254.169.254]:80"] {
        let mut stream = namespace.connect(address.parse().unwrap());
        assert!(is_refused(&mut stream), "{address}");
    }
    // The gateway's own port leads nowhere.
    let mut own = namespace.connect("127.0.0.1:15001".parse().unwrap());
    assert!(is_refused(&mut own));
    world.event("flow.decided", |event| event["rule"] == "guard:metadata");
    world.event("flow.decided", |event| event["rule"] == "guard:own-address");
}

#[test]
fn the_server_name_is_judged_beside_the_address() {
    let Some(namespace) = Namespace::new() else { return };
    let origin = Origin::echo();
    let mut narrow = loopback("narrow", 10, Action::Allow, &["web.test", "evil.test"]);
    narrow.ports = vec![(origin.port(), origin.port())];
    let world = namespace.world(vec![deny_hosts("no-evil", 5, &["evil.test"]), narrow], |settings| settings);
    namespace.resolve("web.test");
    let mut good = namespace.connect(origin.address);
    let bytes = hello("web.test");
    good.write_all(&bytes).unwrap();
    let mut back = vec![0; bytes.len()];
    good.read_exact(&mut back).unwrap();
    assert!(back == bytes);
    let mut evil = namespace.connect(origin.address);
    evil.write_all(&hello("evil.test")).unwrap();
    assert!(is_refused(&mut evil));
    let decided = world.event("flow.decided", |event| event["verdict"] == "allowed");
    assert_eq!((&decided["tls"]["sni"], &decided["destination"]["name_from"]), (&"web.test".into(), &"sni".into()));
    assert_eq!(origin.connections(), 1);
}

#[test]
fn one_that_was_silent_is_judged_again_when_it_speaks() {
    let Some(namespace) = Namespace::new() else { return };
    let origin = Origin::echo();
    let rules = vec![
        deny_hosts("no-evil", 5, &["evil.test"]),
        loopback("local", 10, Action::Allow, &["web.test", "evil.test"]),
    ];
    let world = namespace.world(rules, |settings| Settings { server_first: Duration::ZERO, ..settings });
    namespace.resolve("web.test");
    for (name, allowed) in [("web.test", true), ("evil.test", false)] {
        let before = origin.connections();
        let mut stream = namespace.connect(origin.address);
        // It counts as silent once the gateway has connected for it.
        while origin.connections() == before {
            thread::yield_now();
        }
        let bytes = hello(name);
        stream.write_all(&bytes).unwrap();
        if allowed {
            let mut back = vec![0; bytes.len()];
            stream.read_exact(&mut back).unwrap();
            assert!(back == bytes);
        } else {
            assert!(is_refused(&mut stream));
        }
    }
    world.event("flow.decided", |event| event["verdict"] == "denied" && event["destination"]["name"] == "evil.test");
}

#[test]
fn a_server_that_speaks_first_goes_by_its_dns_answer() {
    let Some(namespace) = Namespace::new() else { return };
    let origin = Origin::start(|mut stream| {
        stream.write_all(b"SSH-2.0-x\r\n").unwrap();
        let mut line = [0; 9];
        stream.read_exact(&mut line).unwrap();
        stream.write_all(&line).unwrap();
    });
    let world = namespace.world(vec![loopback("local", 10, Action::Allow, &["git.test"])], |settings| settings);
    namespace.resolve("git.test");
    let mut stream = namespace.connect(origin.address);
    let mut banner = [0; 11];
    stream.read_exact(&mut banner).unwrap();
    stream.write_all(b"SSH-2.0-y").unwrap();
    let mut line = [0; 9];
    stream.read_exact(&mut line).unwrap();
    assert_eq!((&banner, &line), (b"SSH-2.0-x\r\n", b"SSH-2.0-y"));
    let decided = world.event("flow.decided", |event| event["verdict"] == "allowed");
    assert_eq!(
        (&decided["destination"]["name"], &decided["destination"]["name_from"]),
        (&"git.test".into(), &"dns-binding".into())
    );
}

#[test]
fn both_families_are_redirected() {
    let Some(namespace) = Namespace::new() else { return };
    let mut rule = loopback("local", 10, Action::Allow, &[]);
    let policy::model::To::Inline(group) = &mut rule.to else { panic!("inline") };
    group.cidrs.push("::1/128".parse().unwrap());
    let world = namespace.world(vec![rule], |settings| settings);
    for at in [IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9)), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let origin = Origin::start_at(at, |mut stream| {
            let mut buffer = [0; 6];
            stream.read_exact(&mut buffer).unwrap();
            stream.write_all(&buffer).unwrap();
        });
        let mut stream = namespace.connect(origin.address);
        stream.write_all(b"\x00hello").unwrap();
        let mut back = [0; 6];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"\x00hello");
        world.event("flow.decided", |event| event["destination"]["original_address"] == at.to_string());
    }
}
