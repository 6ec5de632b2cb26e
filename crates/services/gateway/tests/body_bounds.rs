//! `maxBody` and `maxResponse`, at the wire: inside opened TLS over HTTP/1.1 and HTTP/2, and in plain HTTP.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "help for tests")]

mod support;

use std::{
    io::{Read, Write},
    sync::mpsc::{Receiver, channel},
};

use policy::model::Rule;
use support::{
    Origin, World,
    frames::{self, DATA, END_STREAM, Outcome, PREFACE, SETTINGS, frame, request},
    tls::{Shown, Tls, inspected, read_message, read_request},
};

const BOUND: u64 = 10;

fn bounded() -> Vec<Rule> {
    let bound = |rule: Rule| Rule { max_body: Some(BOUND), max_response: Some(BOUND), ..rule };
    inspected().into_iter().map(bound).collect()
}

/// Answers by the path: `/…/length/N`, `/…/chunks/N` or `/…/close/N` has N bytes; tells what came, as far as it came.
fn serve(stream: &mut (impl Read + Write), tell: &std::sync::mpsc::Sender<String>) {
    while let Some((head, _)) = read_request(stream) {
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let mut parts = path.rsplit('/');
        let count: usize = parts.next().unwrap().parse().unwrap();
        let _ = tell.send(path.clone());
        let body = "x".repeat(count);
        let (answer, close) = match parts.next().unwrap() {
            "length" => (format!("HTTP/1.1 200 OK\r\nContent-Length: {count}\r\n\r\n{body}"), false),
            "chunks" => {
                let chunks: String = body.bytes().map(|_| "1\r\nx\r\n").collect();
                (format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"), false)
            }
            _ => (format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{body}"), true),
        };
        let close = close || head.contains("Connection: close") || head.contains("connection: close");
        if stream.write_all(answer.as_bytes()).is_err() || close {
            return;
        }
    }
}

/// A client inside TLS or in plain, before a server that serves as above.
struct Scene {
    world: World,
    #[expect(dead_code, reason = "serves while it is held")]
    tls: Tls,
    seen: Receiver<String>,
    connect: Connect,
}

/// Opens a connection of the client's.
type Connect = Box<dyn Fn(&World) -> Box<dyn ReadWrite>>;

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

fn scenes() -> [(&'static str, Scene); 2] {
    let (tell, seen) = channel();
    let tls = Tls::new();
    let origin = tls.origin(Shown::Good, move |mut stream| {
        serve(&mut stream, &tell);
        stream.conn.send_close_notify();
        let _ = stream.flush();
    });
    let world = tls.world(bounded());
    let config = tls.client_config(&["http/1.1"]);
    let port = origin.port();
    let connect = Box::new(move |world: &World| -> Box<dyn ReadWrite> {
        let stream = world.granted(&format!("web.test:{port}"));
        let name = rustls::pki_types::ServerName::try_from("web.test").unwrap();
        let connection = rustls::ClientConnection::new(config.clone(), name).unwrap();
        Box::new(rustls::StreamOwned::new(connection, stream))
    });
    let inside = Scene { world, tls, seen, connect };
    let (tell, seen) = channel();
    let origin = Origin::start(move |mut stream| serve(&mut stream, &tell));
    let port = origin.port();
    let connect =
        Box::new(move |world: &World| -> Box<dyn ReadWrite> { Box::new(world.granted(&format!("web.test:{port}"))) });
    let plain = Scene { world: World::new(bounded()), tls: Tls::new(), seen, connect };
    [("inside TLS", inside), ("in plain", plain)]
}

/// Everything until the peer closes or tears it, and whether it was torn.
fn rest(client: &mut dyn ReadWrite) -> (String, bool) {
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match client.read(&mut piece) {
            Ok(0) => return (String::from_utf8_lossy(&text).into_owned(), false),
            Ok(count) => text.extend_from_slice(&piece[..count]),
            Err(_) => return (String::from_utf8_lossy(&text).into_owned(), true),
        }
    }
}

#[test]
fn a_body_that_says_to_be_too_long_is_refused_before_anything_is_sent() {
    for (name, scene) in scenes() {
        let mut client = (scene.connect)(&scene.world);
        let put = |length| format!("PUT /put/length/2 HTTP/1.1\r\nHost: web.test\r\nContent-Length: {length}\r\n\r\n");
        client.write_all(format!("{}0123456789", put(10)).as_bytes()).unwrap();
        assert!(read_message(&mut client).unwrap().ends_with("xx"), "{name}");
        assert_eq!(scene.seen.recv_timeout(support::PATIENCE).unwrap(), "/put/length/2");
        // In plain HTTP none follows a body.
        let mut client = (scene.connect)(&scene.world);
        client.write_all(put(11).as_bytes()).unwrap();
        let answer = read_message(&mut client).unwrap();
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("maxBody"), "{name}: {answer}");
        scene.world.event("flow.decided", |event| {
            event["verdict"] == "denied"
                && event["rule"] == "writes"
                && event["reason"].as_str().unwrap().contains("maxBody")
        });
        assert!(scene.seen.try_recv().is_err(), "{name}");
    }
}

#[test]
fn a_body_that_turns_out_too_long_is_cut() {
    for (name, scene) in scenes() {
        let mut client = (scene.connect)(&scene.world);
        let head = "PUT /put/length/2 HTTP/1.1\r\nHost: web.test\r\nTransfer-Encoding: chunked\r\n\r\n";
        client.write_all(format!("{head}a\r\n0123456789\r\n1\r\nx\r\n").as_bytes()).unwrap();
        let (answer, torn) = rest(&mut *client);
        assert!(torn || answer.starts_with("HTTP/1.1 413 "), "{name}: {answer}");
        let mentions = |event: &serde_json::Value| {
            event.to_string().contains("maxBody") || event.to_string().contains("longer than the bound")
        };
        let events = || scene.world.events().iter().any(mentions);
        while !events() {
            std::thread::yield_now();
        }
    }
}

#[test]
fn an_answer_that_is_too_long_is_refused_or_cut() {
    for (name, scene) in scenes() {
        for (path, whole) in [
            ("length/10", true),
            ("chunks/10", true),
            ("close/10", true),
            ("length/11", false),
            ("chunks/11", false),
            ("close/11", false),
        ] {
            let mut client = (scene.connect)(&scene.world);
            let get = format!("GET /ok/{path} HTTP/1.1\r\nHost: web.test\r\nConnection: close\r\n\r\n");
            client.write_all(get.as_bytes()).unwrap();
            let (answer, torn) = rest(&mut *client);
            scene.seen.recv_timeout(support::PATIENCE).unwrap();
            let bytes = answer.split_once("\r\n\r\n").map_or(0, |(_, body)| body.matches('x').count());
            if whole {
                assert!(answer.starts_with("HTTP/1.1 200 ") && bytes == 10 && !torn, "{name}, {path}: {answer}");
            } else {
                assert!(torn || answer.starts_with("HTTP/1.1 502 "), "{name}, {path}: {answer}");
                assert!(answer.starts_with("HTTP/1.1 502 ") || bytes <= 10, "{name}, {path}: {answer}");
                scene.world.event("flow.ended", |event| {
                    event["error"].as_str().is_some_and(|error| error.contains("longer than the"))
                });
            }
        }
    }
}

#[test]
fn streams_are_held_to_the_bounds_too() {
    let tls = Tls::new();
    let (tell, seen) = channel();
    let origin = tls.origin(Shown::Good, move |mut stream| serve(&mut stream, &tell));
    let world = tls.world(bounded());
    for (length, data, expected) in [
        (None, 10, Outcome::Answered(200)),
        (Some("11"), 11, Outcome::Answered(413)),
        (None, 11, Outcome::Answered(413)),
    ] {
        let mut client = tls.client_of(&world, &["h2"], origin.port());
        client.write_all(&[PREFACE.to_vec(), frame(SETTINGS, 0, 0, b"")].concat()).unwrap();
        let mut fields = frames::put("/put/length/2").to_vec();
        fields.extend(length.map(|length| ("content-length", length)));
        client.write_all(&request(1, 0, &fields)).unwrap();
        client.write_all(&frame(DATA, END_STREAM, 1, &vec![b'y'; data])).unwrap();
        assert_eq!(frames::outcome(&mut client), expected, "{length:?} {data}");
    }
    let mut client = tls.client_of(&world, &["h2"], origin.port());
    client.write_all(&[PREFACE.to_vec(), frame(SETTINGS, 0, 0, b"")].concat()).unwrap();
    client.write_all(&request(1, END_STREAM, &frames::get("/ok/chunks/11"))).unwrap();
    // A reset takes what was not written yet with it, and be it the head.
    let cut = match frames::outcome(&mut client) {
        Outcome::Answered(200) => frames::outcome(&mut client),
        other => other,
    };
    assert!(matches!(cut, Outcome::Reset(_)), "cut, and told so: {cut:?}");
    drop(seen);
}
