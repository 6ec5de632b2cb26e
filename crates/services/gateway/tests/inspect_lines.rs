//! Connections to servers behind opened TLS: kept for the next request of the sandbox, and only where it may go.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "help for tests")]

mod support;

use std::{
    io::Write as _,
    net::Ipv4Addr,
    sync::{
        Arc,
        mpsc::{Receiver, channel},
    },
};

use gateway::Settings;
use policy::{
    HostPattern,
    model::{Action, Group, Rule, credential::Attach},
};
use rustls::{ServerConnection, StreamOwned};
use support::{
    Origin, PATIENCE, World, deny_hosts, loopback, methods, rule,
    secrets::Keeping,
    tls::{Shown, Tls, exchange, read_head, read_message},
};

const GET: &str = "GET /ok/1 HTTP/1.1\r\nHost: web.test\r\n\r\n";

fn rules() -> Vec<Rule> {
    vec![Rule { http: methods(&["GET", "POST"], &["/ok/**"]), ..loopback("all", 10, Action::Allow, &["web.test"]) }]
}

/// One worker, so that all connections are its.
fn world(tls: &Tls, rules: Vec<Rule>) -> World {
    World::with(rules, None, |settings| Settings { workers: 1, ..tls.settings(settings) })
}

/// One request on a connection of its own.
fn once(tls: &Tls, world: &World, origin: &Origin, request: &str) {
    let mut client = tls.client(world, "web.test", origin.port());
    let answer = exchange(&mut client, request);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn one_connection_to_the_server_serves_many_of_clients() {
    let tls = Tls::new();
    let (origin, heads) = tls.http(Shown::Good);
    let world = world(&tls, rules());
    for _ in 0..5 {
        once(&tls, &world, &origin, GET);
    }
    assert_eq!((origin.connections(), heads.try_iter().count()), (1, 5));
    let judged = world.events().iter().filter(|event| event["event"] == "flow.decided").count();
    assert_eq!(judged, 5, "each is judged and recorded");
}

#[test]
fn one_that_signs_its_client_in_carries_no_other() {
    let tls = Tls::new();
    let (origin, _heads) = tls.http(Shown::Good);
    let world = world(&tls, rules());
    let signing = "GET /ok/1 HTTP/1.1\r\nHost: web.test\r\nAuthorization: Negotiate abc\r\n\r\n";
    let mut client = tls.client(&world, "web.test", origin.port());
    exchange(&mut client, signing);
    once(&tls, &world, &origin, GET);
    assert_eq!(origin.connections(), 2);
    exchange(&mut client, GET);
    assert_eq!(origin.connections(), 2, "its own client goes on with it");
}

#[test]
fn one_that_signs_its_client_in_in_place_of_a_closed_one_carries_no_other() {
    let tls = Tls::new();
    // Closes on a request that signs in where it has answered another.
    let origin = tls.origin(Shown::Good, |mut stream| {
        for at in 0.. {
            let head = read_head(&mut stream);
            if head.is_empty() || (at > 0 && head.contains("Negotiate")) {
                stream.conn.send_close_notify();
                let _ = stream.flush();
                return;
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let world = world(&tls, rules());
    let signing = "GET /ok/1 HTTP/1.1\r\nHost: web.test\r\nAuthorization: Negotiate abc\r\n\r\n";
    let mut client = tls.client(&world, "web.test", origin.port());
    exchange(&mut client, GET);
    assert!(exchange(&mut client, signing).starts_with("HTTP/1.1 200 "));
    assert_eq!(origin.connections(), 2);
    once(&tls, &world, &origin, GET);
    assert_eq!(origin.connections(), 3);
}

#[test]
fn a_new_policy_begins_with_new_ones() {
    let tls = Tls::new();
    let (origin, _heads) = tls.http(Shown::Good);
    let world = world(&tls, rules());
    once(&tls, &world, &origin, GET);
    world.apply([rules(), vec![deny_hosts("other", 5, &["other.test"])]].concat());
    once(&tls, &world, &origin, GET);
    assert_eq!(origin.connections(), 2);
}

#[test]
fn one_carries_only_what_was_judged_for_its_address() {
    let tls = Tls::new();
    let (tell, told) = channel();
    let config = tls.server_config(Shown::Both, &["http/1.1"]);
    let origin = Origin::start_at(Ipv4Addr::UNSPECIFIED.into(), move |stream| {
        let at = stream.local_addr().unwrap().ip().to_string();
        let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream);
        while read_message(&mut stream).is_some() {
            let _ = tell.send(at.clone());
            if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_err() {
                return;
            }
        }
    });
    let only = |name: &str, priority, address: &str, path| Rule {
        names: vec![HostPattern::parse("both.test").unwrap()],
        http: methods(&["GET"], &[path]),
        ..rule(name, priority, Action::Allow, Group { cidrs: vec![address.parse().unwrap()], ..Group::default() })
    };
    let rules = vec![only("one", 10, "127.0.0.1/32", "/one"), only("two", 11, "127.0.0.2/32", "/two")];
    let world = world(&tls, rules);
    let mut client = tls.client(&world, "both.test", origin.port());
    for (path, address) in [("/one", "127.0.0.1"), ("/two", "127.0.0.2"), ("/one", "127.0.0.1"), ("/two", "127.0.0.2")]
    {
        let answer = exchange(&mut client, &format!("GET {path} HTTP/1.1\r\nHost: both.test\r\n\r\n"));
        assert!(answer.ends_with("ok"), "{answer}");
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), address, "{path}");
    }
    assert_eq!(origin.connections(), 2);
}

#[test]
fn one_that_the_server_closed_is_replaced() {
    let tls = Tls::new();
    // One answer on each connection, without a word that it is the last.
    let origin = tls.origin(Shown::Good, |stream| {
        let mut stream = stream;
        if support::tls::read_message(&mut stream).is_some() {
            let _ = std::io::Write::write_all(&mut stream, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let world = world(&tls, rules());
    for at in 1..4 {
        once(&tls, &world, &origin, GET);
        assert_eq!(origin.connections(), at);
    }
}

#[test]
fn what_a_server_may_have_taken_up_is_not_sent_twice() {
    let post = "POST /ok/1 HTTP/1.1\r\nHost: web.test\r\nContent-Length: 0\r\n\r\n";
    for (request, status, sent) in [(GET, "200", 3), (post, "502", 2)] {
        let tls = Tls::new();
        let (tell, told) = channel();
        // Takes up the second request of a connection, and closes without an answer.
        let origin = tls.origin(Shown::Good, move |mut stream| {
            for answer in [&b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"[..], b""] {
                let Some(request) = read_message(&mut stream) else { return };
                let _ = tell.send(request);
                let _ = stream.write_all(answer);
            }
            stream.conn.send_close_notify();
            let _ = stream.flush();
        });
        let world = world(&tls, rules());
        let mut client = tls.client(&world, "web.test", origin.port());
        exchange(&mut client, GET);
        let answer = exchange(&mut client, request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
        assert_eq!(told.try_iter().count(), sent, "{request}");
    }
}

/// Answers each head it finds and leaves bodies unread, so that it takes them for heads; `keeps` to `Connection: close`.
fn lazy(tls: &Tls, keeps: bool) -> (Origin, Receiver<String>) {
    let (tell, told) = channel();
    let origin = tls.origin(Shown::Good, move |mut stream| {
        loop {
            let head = read_head(&mut stream);
            if !head.ends_with("\r\n\r\n") {
                return;
            }
            let last = keeps && head.to_ascii_lowercase().contains("\r\nconnection: close\r\n");
            let _ = tell.send(head);
            if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_err() || last {
                return;
            }
        }
    });
    (origin, told)
}

#[test]
fn a_body_that_the_server_leaves_unread_is_no_request() {
    let tls = Tls::new();
    let hidden = "DELETE /admin HTTP/1.1\r\nHost: web.test\r\n\r\n";
    let length = hidden.len();
    for request in [
        format!("GET /ok/1 HTTP/1.1\r\nHost: web.test\r\nContent-Length: {length}\r\n\r\n{hidden}"),
        format!("POST /ok/1 HTTP/1.1\r\nHost: web.test\r\nContent-Length: {length}\r\n\r\n{hidden}"),
        format!(
            "POST /ok/1 HTTP/1.1\r\nHost: web.test\r\nConnection: keep-alive\r\nContent-Length: {length}\r\n\r\n{hidden}"
        ),
        format!(
            "POST /ok/1 HTTP/1.1\r\nHost: web.test\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{hidden}\r\n0\r\n\r\n"
        ),
    ] {
        let (origin, heads) = lazy(&tls, true);
        let world = world(&tls, rules());
        let mut client = tls.client(&world, "web.test", origin.port());
        assert!(exchange(&mut client, &request).starts_with("HTTP/1.1 200 "));
        // The next goes by another connection, whatever became of the first.
        once(&tls, &world, &origin, GET);
        let seen: Vec<String> = heads.try_iter().collect();
        assert!(!seen.iter().any(|head| head.contains("/admin")), "{request}: {seen:?}");
        assert_eq!((origin.connections(), seen.len()), (2, 2), "{request}: {seen:?}");
    }
}

#[test]
fn nothing_follows_a_body_even_where_the_server_goes_on() {
    let tls = Tls::new();
    // What comes next would be the body of this.
    let hidden = "PUT /stored HTTP/1.1\r\nHost: web.test\r\nContent-Length: 180\r\n\r\n";
    let request = format!("POST /ok/1 HTTP/1.1\r\nHost: web.test\r\nContent-Length: {}\r\n\r\n{hidden}", hidden.len());
    let (origin, heads) = lazy(&tls, false);
    let world = world(&tls, rules());
    let mut client = tls.client(&world, "web.test", origin.port());
    for expected in 1..4 {
        assert!(exchange(&mut client, &request).starts_with("HTTP/1.1 200 "));
        assert_eq!(origin.connections(), expected);
    }
    exchange(&mut client, GET);
    exchange(&mut client, GET);
    assert_eq!(origin.connections(), 4, "without bodies one connection serves");
    assert!(heads.try_iter().count() >= 5);
}

#[test]
fn a_masked_answer_frees_its_connection() {
    let tls = Tls::new();
    let (origin, heads) = tls.http(Shown::Good);
    let keeping = Keeping::new(&tls, Attach::Bearer);
    let mut client = tls.client(&keeping.world, "web.test", origin.port());
    for _ in 0..5 {
        let answer = exchange(&mut client, "GET /api/ok HTTP/1.1\r\nHost: web.test\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    assert_eq!((origin.connections(), heads.try_iter().count()), (1, 5));
}
