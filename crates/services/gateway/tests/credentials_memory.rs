//! What is decoded or signed anew takes bounded memory, however much of it there is and whoever leaves it lying.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "help for tests")]

mod support;

use std::io::{Read as _, Write as _};

use flate2::{Compression, write::GzEncoder};
use policy::model::credential::{Attach, Field, Place};
use support::{
    Origin,
    frames::{DATA, END_STREAM, HEADERS, PREFACE, RST_STREAM, SETTINGS, frame, get, read_frame, request, setting},
    peak,
    secrets::{Keeping, SECRET},
    tls::{ClientTls, Shown, Tls, exchange, read_message, told},
};

/// What a bomb decodes to.
const LARGE: usize = 32 << 20;
/// What all of them together may take, in KiB: the budget, and as much for connections and the test's own servers.
const GROWTH: usize = 192 * 1024;

fn gzip() -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&vec![0; LARGE]).unwrap();
    encoder.finish().unwrap()
}

/// With a window of so many bits.
fn brotli(bits: u32) -> Vec<u8> {
    let mut out = Vec::new();
    brotli::CompressorWriter::new(&mut out, 4096, 9, bits).write_all(&vec![0; LARGE]).unwrap();
    out
}

/// A server that sends this to every request and leaves the connection open.
fn bombs(tls: &Tls, coding: &str, body: &[u8]) -> Origin {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {}\r\n\r\n", body.len());
    let answer = [head.as_bytes(), body].concat();
    tls.origin(Shown::Good, move |mut stream| {
        while read_message(&mut stream).is_some() {
            if stream.write_all(&answer).is_err() {
                return;
            }
        }
        let _ = stream.read(&mut [0; 1]);
    })
}

/// Asks on so many streams, none of which takes more than some bytes.
fn ask(tls: &Tls, keeping: &Keeping, origin: &Origin, streams: u32) -> ClientTls {
    let mut client = tls.client_of(&keeping.world, &["h2"], origin.port());
    client.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &setting(4, 16))].concat()).unwrap();
    for stream in 0..streams {
        client.write_all(&request(stream * 2 + 1, END_STREAM, &get("/open/1"))).unwrap();
    }
    client
}

/// Reads until so many streams had a first piece; those that had it.
fn first_pieces(client: &mut ClientTls, count: usize) -> Vec<u32> {
    let mut began = Vec::new();
    while began.len() < count {
        let frame = read_frame(client).unwrap();
        if frame.kind == DATA && frame.flags & END_STREAM == 0 && !began.contains(&frame.stream) {
            began.push(frame.stream);
        }
    }
    began
}

#[test]
fn a_hundred_answers_that_nobody_takes_are_decoded_by_pieces() {
    let tls = Tls::new();
    let origin = bombs(&tls, "gzip", &gzip());
    let keeping = Keeping::new(&tls, Attach::Bearer);
    let before = peak();
    let mut client = ask(&tls, &keeping, &origin, 100);
    first_pieces(&mut client, 100);
    let grown = peak().saturating_sub(before);
    assert!(grown < GROWTH / 2, "{grown} KiB");
}

#[test]
fn large_windows_wait_for_each_other() {
    let tls = Tls::new();
    let origin = bombs(&tls, "br", &brotli(22));
    let keeping = Keeping::new(&tls, Attach::Bearer);
    let before = peak();
    let mut client = ask(&tls, &keeping, &origin, 60);
    let began = first_pieces(&mut client, 10);
    // One that is given up makes room for one that waits.
    for stream in began {
        client.write_all(&frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())).unwrap();
    }
    first_pieces(&mut client, 10);
    let grown = peak().saturating_sub(before);
    assert!(grown < GROWTH, "{grown} KiB");
}

#[test]
fn windows_that_are_too_large_are_refused() {
    let tls = Tls::new();
    let origin = bombs(&tls, "br", &brotli(24));
    let keeping = Keeping::new(&tls, Attach::Bearer);
    let mut client = ask(&tls, &keeping, &origin, 1);
    loop {
        let frame = read_frame(&mut client).unwrap();
        assert_ne!(frame.kind, DATA);
        if frame.kind == RST_STREAM || (frame.kind == HEADERS && frame.payload.first() != Some(&0x88)) {
            break;
        }
    }
}

#[test]
fn bodies_that_do_not_come_give_way_to_others() {
    let tls = Tls::new();
    let (origin, heads) = tls.http(Shown::Good);
    let field = Field { method: "POST".to_owned(), path: "/api/1".to_owned(), place: Place::Json("/key".to_owned()) };
    let attach = Attach::Placeholder { headers: vec!["x-key".to_owned()], fields: vec![field] };
    let keeping = Keeping::new(&tls, attach);
    let head = "POST /api/1 HTTP/1.1\r\nHost: web.test\r\nContent-Type: application/json\r\n";
    let slow = || {
        let mut client = tls.client(&keeping.world, "web.test", origin.port());
        client.write_all(format!("{head}Content-Length: 1000\r\n\r\n{{").as_bytes()).unwrap();
        client
    };
    // More than are read at a time.
    let slow: Vec<_> = (0..40).map(|_| slow()).collect();
    let mut client = tls.client(&keeping.world, "web.test", origin.port());
    let body = format!("{{\"key\":\"{}\"}}", keeping.placeholder.text());
    let ask = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    let deadline = std::time::Instant::now() + support::PATIENCE;
    loop {
        let answer = exchange(&mut client, &ask);
        if answer.starts_with("HTTP/1.1 200 ") {
            break;
        }
        assert!(answer.starts_with("HTTP/1.1 503 ") && std::time::Instant::now() < deadline, "{answer}");
    }
    assert!(told(&heads).contains(SECRET));
    let slow_one = |event: &serde_json::Value| event["error"].as_str().is_some_and(|error| error.contains("too long"));
    keeping.world.event("flow.ended", slow_one);
    drop(slow);
}
