//! A form's field that names another method than the request's, at the wire: it never reaches the server.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "help for tests")]

mod support;

use std::io::{Read, Write};

use policy::model::{Action, HttpMatch, Rule};
use support::{
    Origin, World, loopback,
    tls::{Shown, Tls, exchange, read_message},
};

/// POST is allowed, and no other method.
fn posts() -> Vec<Rule> {
    let http = vec![HttpMatch { methods: vec!["POST".to_owned()], ..HttpMatch::default() }];
    vec![Rule { http, ..loopback("posts", 10, Action::Allow, &["web.test"]) }]
}

fn form(body: &str) -> String {
    let length = body.len();
    format!(
        "POST /ok/1 HTTP/1.1\r\nHost: web.test\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
}

fn chunked(chunks: &[&str]) -> String {
    let chunks: String = chunks.iter().map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len())).collect();
    "POST /ok/1 HTTP/1.1\r\nHost: web.test\r\nContent-Type: multipart/form-data; boundary=XX\r\n\
     Transfer-Encoding: chunked\r\n\r\n"
        .to_owned()
        + &chunks
        + "0\r\n\r\n"
}

const PART: [&str; 3] =
    ["--XX\r\nContent-Disposition: form-data; name=\"_me", "thod\"\r\n\r\nDEL", "ETE\r\n--XX--\r\n"];

/// Reads what a server is sent until the end of the connection.
fn listening() -> (Origin, std::sync::mpsc::Receiver<Vec<u8>>) {
    let (tell, told) = std::sync::mpsc::channel();
    let origin = Origin::start(move |mut client| {
        let mut sent = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(count) = client.read(&mut buffer) {
            if count == 0 {
                break;
            }
            sent.extend_from_slice(&buffer[..count]);
            if sent.ends_with(b"last=1") {
                let _ = client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            }
        }
        let _ = tell.send(sent);
    });
    (origin, told)
}

#[test]
fn inside_tls_the_request_is_refused_and_its_field_not_sent() {
    let tls = Tls::new();
    let world = tls.world(posts());
    for request in [form("a=b&_method=DELETE&last=1"), form("%5FMETHOD[]=put"), chunked(&PART)] {
        let (origin, _heads) = tls.http(Shown::Good);
        let mut client = tls.client(&world, "web.test", origin.port());
        let answer = exchange(&mut client, &request);
        assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("another method"), "{request}: {answer}");
    }
    let reason = "a form field that names another method";
    world.event("flow.ended", |event| event["error"] == reason);
    world.event("flow.decided", |event| event["verdict"] == "denied" && event["reason"] == reason);
    let (origin, _heads) = tls.http(Shown::Good);
    let mut client = tls.client(&world, "web.test", origin.port());
    for fine in [form("a=b&_method=post&last=1"), form("payment_method=card")] {
        assert!(exchange(&mut client, &fine).ends_with("ok"), "{fine}");
        client = tls.client(&world, "web.test", origin.port());
    }
    let gzip = form("a=b").replace("Content-Length", "Content-Encoding: gzip\r\nContent-Length");
    let answer = exchange(&mut client, &gzip);
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("encoded"), "{answer}");
}

#[test]
fn in_plain_http_its_value_is_not_sent() {
    let world = World::new(posts());
    for request in [form("a=b&_method=DELETE&last=1"), chunked(&PART)] {
        let (origin, told) = listening();
        let mut client = world.granted(&format!("web.test:{}", origin.port()));
        client.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer);
        let sent = String::from_utf8(told.recv_timeout(support::PATIENCE).unwrap()).unwrap();
        assert!(!sent.contains("DEL") && !sent.contains("last=1"), "{sent}");
        assert!(!String::from_utf8_lossy(&answer).contains("200 OK"));
    }
    let (origin, _told) = listening();
    let mut client = world.granted(&format!("web.test:{}", origin.port()));
    client.write_all(form("_method=POST&last=1").as_bytes()).unwrap();
    assert!(read_message(&mut client).unwrap().ends_with("ok"));
}

#[test]
fn where_no_rule_looks_at_requests_nothing_is_looked_for() {
    let world = World::new(vec![loopback("all", 10, Action::Allow, &["web.test"])]);
    let (origin, _told) = listening();
    let mut client = world.granted(&format!("web.test:{}", origin.port()));
    client.write_all(form("_method=DELETE&last=1").as_bytes()).unwrap();
    assert!(read_message(&mut client).unwrap().ends_with("ok"));
}
