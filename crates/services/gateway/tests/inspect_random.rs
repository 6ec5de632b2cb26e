//! Bytes of any kind inside opened TLS, against a whole gateway: whatever comes, nothing that was not judged reaches the
//! server, nobody panics, and the next client is served.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "help for tests")]

mod support;

use std::{
    io::{Read, Write},
    sync::mpsc::{Receiver, channel},
};

use proptest::{
    collection::vec,
    prelude::{Just, ProptestConfig, Strategy, any, prop_oneof},
    sample::{Index, select},
    test_runner::TestRunner,
};
use support::{
    Origin, World,
    frames::{
        self, ACK, END_HEADERS, END_STREAM, PING, PREFACE, SETTINGS, block, frame, get, put, read_frame, setting,
    },
    tls::{ClientTls, Shown, Tls, inspected, read_request},
};

const CASES: u32 = 200;

/// A server of HTTP/1.1, and a gateway before it.
struct Scene {
    tls: Tls,
    world: World,
    origin: Origin,
    seen: Receiver<String>,
}

impl Scene {
    fn new() -> Self {
        let tls = Tls::new();
        let (tell, seen) = channel();
        let origin = tls.origin(Shown::Good, move |mut stream| {
            while let Some((head, _)) = read_request(&mut stream) {
                tell.send(head).unwrap();
                if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_err() {
                    return;
                }
            }
        });
        let world = tls.world(inspected());
        Self { tls, world, origin, seen }
    }

    fn client(&self, protocol: &str) -> ClientTls {
        self.tls.client_of(&self.world, &[protocol], self.origin.port())
    }

    /// What the server saw was allowed, all of it.
    fn check(&self) {
        for seen in self.seen.try_iter() {
            let allowed = seen.starts_with("GET /ok/") || seen.starts_with("PUT /put/");
            let lower = seen.to_ascii_lowercase();
            assert!(allowed && lower.contains("\r\nhost: web.test\r\n"), "the server saw {seen:?}");
            assert_eq!(lower.matches("\nhost:").count(), 1, "the server saw {seen:?}");
        }
    }

    fn still_serves(&self) {
        let mut client = self.client("h2");
        client.write_all(&start()).unwrap();
        client.write_all(&frames::request(1, END_STREAM, &get("/ok/after"))).unwrap();
        assert_eq!(frames::outcome(&mut client), frames::Outcome::Answered(200));
        self.check();
    }
}

fn start() -> Vec<u8> {
    [PREFACE.to_vec(), frame(SETTINGS, 0, 0, b"")].concat()
}

/// A payload: field blocks whole and in parts, settings, windows, and bytes of any kind.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    let wholes = vec![
        block(&get("/ok/1")),
        block(&get("/no")),
        block(&put("/put/1")),
        block(&[(":method", "GET"), (":scheme", "https"), (":authority", "evil.test"), (":path", "/ok/1")]),
        block(&[(":status", "200")]),
        block(&[("trailer", "x"), ("host", "evil.test")]),
        setting(4, 0),
        setting(1, 0),
        1u32.to_be_bytes().to_vec(),
        Vec::new(),
    ];
    prop_oneof![
        4 => select(wholes.clone()),
        2 => (select(wholes), any::<Index>()).prop_map(|(whole, at)| {
            let end = at.index(whole.len() + 1);
            whole[..end].to_vec()
        }),
        1 => vec(any::<u8>(), 0..40),
    ]
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let kinds = prop_oneof![8 => 0u8..11, 1 => any::<u8>()];
    let flags = prop_oneof![4 => select(vec![0, END_STREAM, END_HEADERS, END_STREAM | END_HEADERS]), 1 => any::<u8>()];
    let streams = select(vec![0u32, 1, 1, 1, 3, 3, 5, 2, 0x8000_0001]);
    (kinds, flags, streams, payload()).prop_map(|(kind, flags, stream, payload)| frame(kind, flags, stream, &payload))
}

#[test]
fn frames_of_any_kind() {
    let scene = Scene::new();
    let preface = prop_oneof![9 => Just(start()), 1 => vec(any::<u8>(), 0..60)];
    let mut runner =
        TestRunner::new(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() });
    let outcome = runner.run(&(preface, vec(any_frame(), 1..16)), |(preface, frames)| {
        let mut client = scene.client("h2");
        let _ = client.write_all(&preface);
        let _ = client.write_all(&frames.concat());
        let _ = client.write_all(&frame(PING, 0, 0, b"at last."));
        let _ = client.sock.shutdown(std::net::Shutdown::Write);
        while read_frame(&mut client).is_some_and(|frame| frame.kind != PING || frame.flags & ACK == 0) {}
        scene.check();
        Ok(())
    });
    outcome.unwrap();
    scene.still_serves();
}

#[test]
fn requests_in_pieces_of_any_kind() {
    let scene = Scene::new();
    let pieces = select(vec![
        "GET /ok/1 HTTP/1.1\r\n",
        "GET /no HTTP/1.1\r\n",
        "PUT /put/1 HTTP/1.1\r\n",
        "Host: web.test\r\n",
        "Host: evil.test\r\n",
        "Content-Length: 3\r\n",
        "Content-Length: 40\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Connection: close\r\n",
        "Expect: 100-continue\r\n",
        "\r\n",
        "\r\n",
        "\n",
        "abc",
        "0\r\n\r\n",
        "3\r\nabc\r\n",
        " ",
        ":",
        "Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Key: x\r\n",
        "HTTP/1.0\r\n",
        "\0",
        "GET",
    ]);
    let whole = Just("GET /ok/1 HTTP/1.1\r\nHost: web.test\r\n\r\n");
    let mut runner =
        TestRunner::new(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() });
    let outcome = runner.run(&vec(prop_oneof![3 => pieces, 1 => whole], 1..14), |parts| {
        let mut client = scene.client("http/1.1");
        for part in &parts {
            let _ = client.write_all(part.as_bytes());
        }
        client.conn.send_close_notify();
        let _ = client.flush();
        let _ = client.sock.shutdown(std::net::Shutdown::Write);
        let mut answers = Vec::new();
        let _ = client.read_to_end(&mut answers);
        scene.check();
        Ok(())
    });
    outcome.unwrap();
    scene.still_serves();
}
