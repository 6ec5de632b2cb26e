//! Connections to servers behind opened TLS: kept for the next request of the sandbox, and only where it may go.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "help for tests")]

mod support;

use gateway::Settings;
use policy::model::{Action, Rule};
use support::{
    Origin, World, deny_hosts, loopback, methods,
    tls::{Shown, Tls, exchange},
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
