//! What ordinary clients and servers do inside opened TLS, at the wire: it works as without us.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "help for tests")]

mod support;

use std::{
    io::{Read, Write},
    sync::mpsc::channel,
    time::Duration,
};

use gateway::Settings;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use support::{
    World,
    frames::{self, DATA, END_STREAM, HEADERS, PREFACE, SETTINGS, block, frame, read_frame},
    tls::{Shown, Tls, exchange, inspected, read_head, read_message, told},
};

const WANTS_CERTIFICATE: &str = "the server wants a client certificate: give the rule a credential";
const GET_OK: &str = "GET /ok/1 HTTP/1.1\r\nHost: web.test\r\n\r\n";

#[test]
fn a_client_that_offers_no_protocol_speaks_http1() {
    let tls = Tls::new();
    let (origin, heads) = tls.http(Shown::Good);
    let world = tls.world(inspected());
    let mut client = tls.client_of(&world, &[], origin.port());
    assert!(exchange(&mut client, GET_OK).ends_with("ok"));
    told(&heads);
    let mut old = tls.client_of(&world, &[], origin.port());
    old.write_all(b"GET /ok/1 HTTP/1.0\r\nHost: web.test\r\n\r\n").unwrap();
    let mut answer = String::new();
    old.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("ok"), "answered, and closed: {answer}");
}

#[test]
fn of_two_protocols_the_server_and_the_client_may_speak_another_each() {
    let tls = Tls::new();
    let origin = tls.origin_of(Shown::Good, "h2", |mut stream| {
        frames::greet(&mut stream, b"").unwrap();
        while let Some(read) = read_frame(&mut stream) {
            if read.kind == HEADERS {
                let head = frame(HEADERS, frames::END_HEADERS, read.stream, &block(&[(":status", "200")]));
                stream.write_all(&head).unwrap();
                stream.write_all(&frame(DATA, END_STREAM, read.stream, b"ok")).unwrap();
            }
        }
    });
    let world = tls.world(inspected());
    // A client of HTTP/1.1 alone is not offered what it can't speak, nor is the server.
    let mut client = tls.client(&world, "web.test", origin.port());
    let answer = exchange(&mut client, GET_OK);
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    let mut client = tls.client_of(&world, &["h2", "http/1.1"], origin.port());
    client.write_all(&[PREFACE.to_vec(), frame(SETTINGS, 0, 0, b"")].concat()).unwrap();
    client.write_all(&frames::request(1, END_STREAM, &frames::get("/ok/1"))).unwrap();
    assert_eq!(frames::outcome(&mut client), frames::Outcome::Answered(200));
}

#[test]
fn a_server_that_wants_a_certificate_is_told_apart() {
    let tls = Tls::new();
    let (origin, heads) = tls.http(Shown::WantsCertificate);
    let world = tls.world(inspected());
    let mut client = tls.client(&world, "web.test", origin.port());
    let answer = exchange(&mut client, GET_OK);
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains(WANTS_CERTIFICATE), "{answer}");
    let says = |event: &Value| event["error"].as_str().is_some_and(|error| error.contains(WANTS_CERTIFICATE));
    world.event("flow.ended", says);
    assert!(heads.try_recv().is_err());
    // Over HTTP/2 too.
    let origin = tls.origin_of(Shown::WantsCertificate, "h2", drop);
    let world = tls.world(inspected());
    let mut client = tls.client_of(&world, &["h2"], origin.port());
    client.write_all(&[PREFACE.to_vec(), frame(SETTINGS, 0, 0, b"")].concat()).unwrap();
    client.write_all(&frames::request(1, END_STREAM, &frames::get("/ok/1"))).unwrap();
    assert_eq!(frames::outcome(&mut client), frames::Outcome::Answered(502));
    let body = std::iter::from_fn(|| read_frame(&mut client)).find(|frame| frame.kind == DATA).unwrap();
    let body = String::from_utf8_lossy(&body.payload).into_owned();
    assert!(body.contains(WANTS_CERTIFICATE), "{body}");
    world.event("flow.ended", says);
}

#[test]
fn a_client_that_expects_100_sends_its_body_only_after_the_decision_and_the_server_sees_no_expectation() {
    let tls = Tls::new();
    let (origin, heads) = tls.http(Shown::Good);
    let world = tls.world(inspected());
    let mut client = tls.client(&world, "web.test", origin.port());
    let head = "PUT /no HTTP/1.1\r\nHost: web.test\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n";
    client.write_all(head.as_bytes()).unwrap();
    let answer = read_message(&mut client).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 "), "denied without a 100 before: {answer}");
    let mut client = tls.client(&world, "web.test", origin.port());
    client.write_all(head.replace("/no", "/put/1").as_bytes()).unwrap();
    assert!(read_head(&mut client).starts_with("HTTP/1.1 100 "));
    assert!(exchange(&mut client, "abc").ends_with("ok"));
    assert!(!told(&heads).to_ascii_lowercase().contains("expect:"));
}

#[test]
fn events_of_a_server_come_one_by_one() {
    let tls = Tls::new();
    let (next, wanted) = channel::<()>();
    let wanted = std::sync::Mutex::new(wanted);
    let origin = tls.origin(Shown::Good, move |mut stream| {
        read_head(&mut stream);
        let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head).unwrap();
        // Each event only when the one before has come through.
        while wanted.lock().unwrap().recv().is_ok() {
            stream.write_all(b"9\r\ndata: 1\n\n\r\n").unwrap();
        }
        stream.write_all(b"0\r\n\r\n").unwrap();
        let _ = stream.flush();
        let _ = stream.read(&mut [0; 1]);
    });
    let world = tls.world(inspected());
    let mut client = tls.client(&world, "web.test", origin.port());
    client.write_all(GET_OK.as_bytes()).unwrap();
    read_head(&mut client);
    for _ in 0..5 {
        next.send(()).unwrap();
        let mut event = [0; 14];
        client.read_exact(&mut event).unwrap();
        assert_eq!(&event, b"9\r\ndata: 1\n\n\r\n");
    }
    drop(next);
    let mut last = [0; 5];
    client.read_exact(&mut last).unwrap();
    assert_eq!(&last, b"0\r\n\r\n");
}

#[test]
fn a_connection_without_a_byte_is_ended_in_time() {
    let tls = Tls::new();
    let origin = tls.origin(Shown::Good, |mut stream| {
        read_head(&mut stream);
        let _ = stream.read(&mut [0; 1]);
    });
    let idle = |settings: Settings| Settings { idle_timeout: Duration::from_millis(300), ..tls.settings(settings) };
    let world = World::with(inspected(), None, idle);
    let mut client = tls.client(&world, "web.test", origin.port());
    client.write_all(GET_OK.as_bytes()).unwrap();
    let mut rest = Vec::new();
    let _ = client.read_to_end(&mut rest);
    assert!(rest.is_empty());
    world.event("flow.ended", |event| event["ended_by"] == "bound");
}

#[test]
fn a_client_that_goes_away_takes_its_request_with_it() {
    let tls = Tls::new();
    let (gone, told) = channel();
    let origin = tls.origin(Shown::Good, move |mut stream| {
        read_head(&mut stream);
        gone.send("came").unwrap();
        // No answer: the peer closes first, or nobody does.
        let _ = stream.read(&mut [0; 1]);
        gone.send("left").unwrap();
    });
    let world = tls.world(inspected());
    let mut client = tls.client(&world, "web.test", origin.port());
    client.write_all(GET_OK.as_bytes()).unwrap();
    assert_eq!(told.recv_timeout(support::PATIENCE).unwrap(), "came");
    drop(client);
    assert_eq!(told.recv_timeout(support::PATIENCE).unwrap(), "left");
}

#[test]
fn a_leaf_is_for_the_name_that_was_asked_for() {
    let tls = Tls::new();
    let (origin, _heads) = tls.http(Shown::Good);
    let world = tls.world(inspected());
    let client = tls.client(&world, "web.test", origin.port());
    let chain: &[CertificateDer<'_>] = client.conn.peer_certificates().unwrap();
    let leaf = rustls::server::ParsedCertificate::try_from(&chain[0]).unwrap();
    let other = ServerName::try_from("other.test").unwrap();
    assert!(rustls::client::verify_server_name(&leaf, &other).is_err());
    assert!(rustls::client::verify_server_name(&leaf, &ServerName::try_from("web.test").unwrap()).is_ok());
}
