//! Opened TLS in which nothing is asked: it is held open no longer than a client may take to say what it wants.

#![allow(clippy::unwrap_used, reason = "help for tests")]

mod support;

use std::{
    io::{ErrorKind, Read as _, Write as _},
    time::Duration,
};

use gateway::Settings;
use support::{
    World,
    frames::{self, HEADERS, Outcome, PREFACE, SETTINGS, block, frame, get, request},
    tls::{ClientTls, Shown, Tls, exchange, inspected},
};

fn impatient(tls: &Tls) -> World {
    World::with(inspected(), None, |settings| Settings {
        sniff_timeout: Duration::from_secs(2),
        idle_timeout: Duration::from_secs(3600),
        ..tls.settings(settings)
    })
}

/// Waits until the gateway closes.
fn is_closed(client: &mut ClientTls) {
    let mut piece = [0; 4096];
    loop {
        match client.read(&mut piece) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => {
                assert!(!matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "held open");
                return;
            }
        }
    }
}

#[test]
fn a_client_that_asks_for_nothing_is_let_go_of_and_one_that_asked_is_not() {
    let tls = Tls::new();
    let (origin, _heads) = tls.http(Shown::Good);
    let world = impatient(&tls);
    let start = [PREFACE.to_vec(), frame(SETTINGS, 0, 0, b"")].concat();
    let mut asked = tls.client(&world, "web.test", origin.port());
    let asks = "GET /ok/1 HTTP/1.1\r\nHost: web.test\r\n\r\n";
    assert!(exchange(&mut asked, asks).ends_with("ok"));
    let mut streams = tls.client_of(&world, &["h2"], origin.port());
    streams.write_all(&[start.clone(), request(1, frames::END_STREAM, &get("/ok/1"))].concat()).unwrap();
    assert_eq!(frames::outcome(&mut streams), Outcome::Answered(200));
    // A head that never ends.
    let head = frame(HEADERS, frames::END_STREAM, 1, &block(&get("/ok/1")));
    let silent = [
        ("http/1.1", Vec::new()),
        ("h2", Vec::new()),
        ("h2", PREFACE.to_vec()),
        ("h2", start.clone()),
        ("h2", [start, head].concat()),
    ];
    let mut silent = silent.map(|(protocol, said)| {
        let mut client = tls.client_of(&world, &[protocol], origin.port());
        client.write_all(&said).unwrap();
        client.flush().unwrap();
        client
    });
    silent.iter_mut().for_each(is_closed);
    assert!(exchange(&mut asked, asks).ends_with("ok"), "still open");
    streams.write_all(&request(3, frames::END_STREAM, &get("/ok/3"))).unwrap();
    assert_eq!(frames::outcome(&mut streams), Outcome::Answered(200));
}
