//! WebSockets inside opened TLS, at the wire: rules look at the handshake, and behind it only messages pass.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "help for tests")]

mod support;

use std::io::{Read, Write};

use policy::model::{Action, Rule};
use support::{
    World, loopback, methods,
    tls::{ClientTls, ServerTls, Shown, Tls, exchange, inspected, read_head},
};

/// The key of RFC 6455, 1.3, and its answer.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

fn handshake(path: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: web.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
    )
}

fn agreed(more: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n{more}\r\n"
    )
}

/// A server that agrees with these fields and then does this.
fn agreeing(tls: &Tls, more: &'static str, serve: fn(&mut ServerTls)) -> support::Origin {
    tls.origin(Shown::Good, move |mut stream| {
        if !read_head(&mut stream).ends_with("\r\n\r\n") {
            return;
        }
        let _ = stream.write_all(agreed(more).as_bytes());
        serve(&mut stream);
        let _ = stream.flush();
        let _ = stream.read(&mut [0; 1]);
    })
}

/// Sends back what it gets.
fn echo(stream: &mut ServerTls) {
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut piece) {
        if stream.write_all(&piece[..count]).is_err() {
            return;
        }
    }
}

fn open(tls: &Tls, world: &World, port: u16, more: &str) -> ClientTls {
    let mut client = tls.client(world, "web.test", port);
    client.write_all(handshake("/ok/ws", more).as_bytes()).unwrap();
    let head = read_head(&mut client);
    assert!(head.starts_with("HTTP/1.1 101 ") && head.to_ascii_lowercase().contains("upgrade: websocket"), "{head}");
    client
}

#[test]
fn frames_pass_as_they_are_until_a_new_policy() {
    let tls = Tls::new();
    let origin = agreeing(&tls, "", |stream| {
        stream.write_all(b"\x01\x01a\x89\x00\x80\x01b").unwrap();
        let mut frame = [0; 7];
        stream.read_exact(&mut frame).unwrap();
        assert_eq!(&frame, b"\x81\x81mask\x00", "the mask stays the client's");
        stream.write_all(b"\x82\x01c").unwrap();
    });
    let world = tls.world(inspected());
    let mut denied = tls.client(&world, "web.test", origin.port());
    assert!(exchange(&mut denied, &handshake("/no", "")).starts_with("HTTP/1.1 403 "));
    let mut client = open(&tls, &world, origin.port(), "");
    let mut first = [0; 8];
    client.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"\x01\x01a\x89\x00\x80\x01b");
    client.write_all(b"\x81\x81mask\x00").unwrap();
    let mut back = [0; 3];
    client.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"\x82\x01c");
    let narrow = Rule { http: methods(&["GET"], &["/other"]), ..loopback("narrow", 10, Action::Allow, &["web.test"]) };
    assert_eq!(world.apply(vec![narrow]).cut, 1);
    assert!(client.read(&mut back).is_err());
}

#[test]
fn only_an_answer_to_this_handshake_opens_it() {
    for answer in [
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".to_owned(),
        agreed("").replace("s3pP", "AAAA"),
        agreed("").replace("Upgrade: websocket", "Upgrade: h2c"),
        agreed("").replace("Connection: Upgrade\r\n", ""),
        agreed("Sec-WebSocket-Extensions: permessage-deflate\r\n"),
        agreed("Sec-WebSocket-Extensions: x-own\r\n"),
    ] {
        let tls = Tls::new();
        let sent = answer.clone();
        let origin = tls.origin(Shown::Good, move |mut stream| {
            read_head(&mut stream);
            let _ = stream.write_all(sent.as_bytes());
            let _ = stream.flush();
            let _ = stream.read(&mut [0; 1]);
        });
        let world = tls.world(inspected());
        let mut client = tls.client(&world, "web.test", origin.port());
        let told = exchange(&mut client, &handshake("/ok/ws", ""));
        assert!(told.starts_with("HTTP/1.1 502 "), "{answer}: {told}");
    }
}

#[test]
fn what_is_no_message_ends_both_directions() {
    let masked = [&[0x82, 0xfe, 1, 0][..], &[7; 260]].concat();
    for (bytes, words) in [
        (&b"GET /no HTTP/1.1\r\nHost: web.test\r\n\r\n"[..], "no known kind"),
        (b"\x81\x01a", "without a mask"),
        (b"\xc1\x81maska", "nobody agreed on"),
        (b"\x80\x81maska", "a continuation of no message"),
        (&masked, "longer than the bound"),
    ] {
        let tls = Tls::new();
        let origin = agreeing(&tls, "", echo);
        let rules = inspected().into_iter().map(|rule| Rule { max_body: Some(255), ..rule }).collect();
        let world = tls.world(rules);
        let mut client = open(&tls, &world, origin.port(), "");
        client.write_all(bytes).unwrap();
        assert!(client.read_exact(&mut [0; 1]).is_err(), "{}", bytes.escape_ascii());
        world.event("flow.ended", |event| event["error"].as_str().is_some_and(|error| error.contains(words)));
    }
    for (serve, words) in [
        ((|stream| drop(stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n"))) as fn(&mut ServerTls), "in parts"),
        (|stream| drop(stream.write_all(b"\x81\x81maska")), "with a mask"),
        (|stream| drop(stream.write_all(&[&[0x82, 126, 1, 0][..], &[7; 256]].concat())), "longer than the bound"),
    ] {
        let tls = Tls::new();
        let origin = agreeing(&tls, "", serve);
        let rules = inspected().into_iter().map(|rule| Rule { max_response: Some(255), ..rule }).collect();
        let world = tls.world(rules);
        let mut client = open(&tls, &world, origin.port(), "");
        assert!(client.read_exact(&mut [0; 1]).is_err(), "{words}");
        world.event("flow.ended", |event| event["error"].as_str().is_some_and(|error| error.contains(words)));
    }
}

#[test]
fn compressed_messages_pass_where_both_agreed() {
    let tls = Tls::new();
    let origin =
        agreeing(&tls, "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n", |stream| {
            stream.write_all(b"\xc1\x07\xf2H\xcd\xc9\xc9\x07\x00").unwrap();
        });
    let world = tls.world(inspected());
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    let mut client = open(&tls, &world, origin.port(), offer);
    let mut message = [0; 9];
    client.read_exact(&mut message).unwrap();
    assert_eq!(&message, b"\xc1\x07\xf2H\xcd\xc9\xc9\x07\x00");
}

#[test]
fn many_messages_go_both_ways() {
    let tls = Tls::new();
    let origin = agreeing(&tls, "", |stream| {
        // Answers each client's message of 1000 bytes with one of its own.
        let mut message = [0; 1008];
        while stream.read_exact(&mut message).is_ok() {
            stream.write_all(&[&[0x82, 126, 3, 232][..], &message[8..]].concat()).unwrap();
        }
    });
    let world = tls.world(inspected());
    let mut client = open(&tls, &world, origin.port(), "");
    for at in 0..200u8 {
        client.write_all(&[&[0x82, 0xfe, 3, 232, 0, 0, 0, 0][..], &[at; 1000]].concat()).unwrap();
        let mut back = [0; 1004];
        client.read_exact(&mut back).unwrap();
        assert_eq!((&back[..4], &back[4..]), (&[0x82, 126, 3, 232][..], &[at; 1000][..]));
    }
    drop(client);
    let ended = world.event("flow.ended", |_| true);
    assert!(ended["bytes"]["sent"].as_u64().unwrap() > 200_000, "{ended}");
}

#[test]
fn a_bound_on_the_life_of_a_connection_ends_its_messages_too() {
    let tls = Tls::new();
    let origin = agreeing(&tls, "", |stream| {
        while stream.write_all(b"\x82\x01c").is_ok() && stream.flush().is_ok() {
            std::thread::yield_now();
        }
    });
    let world = World::with(inspected(), None, |settings| {
        tls.settings(gateway::Settings { total_timeout: Some(std::time::Duration::from_secs(1)), ..settings })
    });
    let mut client = open(&tls, &world, origin.port(), "");
    let deadline = std::time::Instant::now() + support::PATIENCE;
    while client.read_exact(&mut [0; 3]).is_ok() {
        assert!(std::time::Instant::now() < deadline, "messages go on behind the end");
    }
    world.event("flow.ended", |event| event["ended_by"] == "bound");
}
