//! A connection that was let through by a host name is held to that name, also where it doesn't begin as HTTP.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "help for tests")]

mod support;

use std::{
    io::{Read, Write},
    net::Shutdown,
    sync::Arc,
};

use policy::model::{self, Action, Rule};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    client::{EchGreaseConfig, EchMode},
    crypto::hpke::Hpke as _,
    pki_types::ServerName,
};
use support::{Origin, PATIENCE, World, hello, is_refused, loopback, methods, read_rest};

const OTHER: &str = "GET /secret HTTP/1.1\r\nHost: other.test\r\n\r\n";

/// An origin that keeps a connection whatever comes, and tells everything that it got from one.
fn listener() -> (Origin, std::sync::mpsc::Receiver<String>) {
    let (tell, told) = std::sync::mpsc::channel();
    let origin = Origin::start(move |mut stream| {
        let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            all.extend_from_slice(&buffer[..count]);
        }
        let _ = tell.send(String::from_utf8_lossy(&all).into_owned());
    });
    (origin, told)
}

#[test]
fn a_request_behind_something_else_reaches_nobody() {
    let (origin, told) = listener();
    let world = World::new(vec![loopback("local", 10, Action::Allow, &["web.test"])]);
    let long = format!("{} / HTTP/1.1\r\nHost: other.test\r\n\r\n", "A".repeat(70));
    let longer = format!("{} / HTTP/1.1\r\nHost: other.test\r\n\r\n", "A".repeat(5000));
    let late = format!("hello\r\n{}{OTHER}", "x y\n".repeat(900));
    let across =
        format!("hello\r\n{}\r\nGET /{} HTTP/1.1\r\nHost: other.test\r\n\r\n", "x ".repeat(2000), "a".repeat(9000));
    let starts = [
        format!("hello\r\n{OTHER}"),
        format!("hello\n\n\n{OTHER}"),
        format!("\x01\r\n {OTHER}"),
        "hello\nGET\t/ HTTP/1.1 \nHost: other.test\n\n".to_owned(),
        "hello\r\nget http://other.test/ http/1.0\r\n\r\n".to_owned(),
        format!("hello\r\nM{long}"),
        long,
        longer,
        late,
        across,
    ];
    for start in &starts {
        for piece in [start.len(), 7, 1] {
            let mut stream = world.granted(&format!("web.test:{}", origin.port()));
            // The gateway may be done with it before all is written.
            let _ = start.as_bytes().chunks(piece).try_for_each(|bytes| stream.write_all(bytes));
            read_rest(&mut stream);
            drop(stream);
            let got = told.recv_timeout(support::PATIENCE).unwrap();
            let shown = &start[..start.len().min(90)];
            let whole = got.contains("Host:") || got.to_ascii_lowercase().contains("http/1.0\r");
            assert!(!whole, "{shown:?} by {piece}: {got:?}");
        }
    }
    let denied = world.event("flow.decided", |event| event["rule"] == "guard:malformed");
    assert_eq!((&denied["layer"], &denied["destination"]["name"]), (&"http".into(), &"web.test".into()));
}

#[test]
fn a_request_to_a_server_that_spoke_first_reaches_nobody() {
    let (tell, told) = std::sync::mpsc::channel();
    let origin = Origin::start(move |mut stream| {
        stream.write_all(b"220 hello\r\n").unwrap();
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        let _ = tell.send(String::from_utf8_lossy(&all).into_owned());
    });
    let world = World::new(vec![loopback("local", 10, Action::Allow, &["web.test"])]);
    let mut stream = world.granted(&format!("web.test:{}", origin.port()));
    stream.read_exact(&mut [0; 11]).unwrap();
    stream.write_all(OTHER.as_bytes()).unwrap();
    read_rest(&mut stream);
    assert!(!told.recv_timeout(support::PATIENCE).unwrap().contains("Host:"));
}

#[test]
fn other_protocols_pass_by_name_and_by_address_anything_does() {
    let origin = Origin::echo();
    let world = World::new(vec![loopback("local", 10, Action::Allow, &["web.test"])]);
    let by_name = [
        "EHLO a.example\r\nMAIL FROM:<a@a.example>\r\n".to_owned(),
        "<34>1 host app: 10.0.0.1 \"GET / HTTP/1.1\" 200 5\n<34>1 again\n".to_owned(),
        "*1\r\n$4\r\nPING\r\n".to_owned(),
        format!("{}\n", "A".repeat(5000)),
        format!("\x00{}", "binary \x01\n".repeat(40_000)),
    ];
    let by_address = [format!("hello\r\n{OTHER}")];
    let named = by_name.iter().map(|text| (format!("web.test:{}", origin.port()), text));
    for (target, text) in named.chain(by_address.iter().map(|text| (origin.address.to_string(), text))) {
        let mut stream = world.granted(&target);
        let mut writer = stream.try_clone().unwrap();
        let sent = text.clone();
        let writing = std::thread::spawn(move || writer.write_all(sent.as_bytes()).unwrap());
        let mut back = vec![0; text.len()];
        stream.read_exact(&mut back).unwrap();
        writing.join().unwrap();
        assert!(back == text.as_bytes(), "{:?}", &text[..text.len().min(90)]);
    }
}

#[test]
fn a_name_on_the_port_of_http_speaks_http() {
    // A rule that looks at the request lets the gateway read the tunnel before it dials.
    let mut posts = loopback("no-posts", 5, Action::Deny, &["web.test"]);
    posts.http = methods(&["POST"], &[]);
    let world = World::new(vec![posts, loopback("local", 10, Action::Allow, &["web.test"])]);
    let tls = hello("web.test");
    for start in [&b"hello\r\n"[..], b"\x00\x01", &tls[..], b"hello\r\nGET / HTTP/1.1\r\nHost: other.test\r\n\r\n"] {
        let mut stream = world.granted("web.test:80");
        stream.write_all(start).unwrap();
        assert_eq!(read_rest(&mut stream), "", "{}", start.escape_ascii());
    }
    world.event("flow.decided", |event| event["rule"] == "guard:malformed");
    let refused = world.events().iter().filter(|event| event["rule"] == "guard:malformed").count();
    assert_eq!(refused, 4);
}

#[test]
fn what_servers_read_differently_is_left_out() {
    let (origin, told) = Origin::http();
    let world = World::new(vec![loopback("local", 10, Action::Allow, &["web.test"])]);
    let mut stream = world.granted(&format!("web.test:{}", origin.port()));
    for expect in ["100-continue", "y 100-continue", "x"] {
        let request = format!("POST / HTTP/1.1\r\nHost: web.test\r\nExpect: {expect}\r\nContent-Length: 2\r\n\r\nab");
        stream.write_all(request.as_bytes()).unwrap();
        assert_eq!(support::read_response(&mut stream).1, "ok");
        assert_eq!(told.recv().unwrap(), "POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: 2\r\n\r\nab");
    }
}

/// The first flight of a client that offers an encrypted ClientHello, which may hide another name or nothing.
fn encrypted_hello(name: &str) -> Vec<u8> {
    let suite = rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_128;
    let (key, _) = suite.generate_key_pair().unwrap();
    let mode = EchMode::Grease(EchGreaseConfig::new(suite, key));
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_ech(mode)
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut bytes = Vec::new();
    ClientConnection::new(Arc::new(config), name).unwrap().write_tls(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_hello_that_may_hide_another_name_is_refused_unless_the_rule_allows_it() {
    let names = ["web.test", "hides.test", "tls-ech.dev"];
    let open = loopback("local", 10, Action::Allow, &names);
    for (rule, passing) in [(open.clone(), &names[..1]), (Rule { ech: model::EchMode::Allow, ..open }, &names[..])] {
        let world = World::new(vec![rule]);
        for name in names {
            let (origin, told) = listener();
            let mut stream = world.granted(&format!("{name}:{}", origin.port()));
            let hello = encrypted_hello(name);
            stream.write_all(&hello).unwrap();
            if passing.contains(&name) {
                stream.shutdown(Shutdown::Write).unwrap();
                assert_eq!(told.recv_timeout(PATIENCE).unwrap(), String::from_utf8_lossy(&hello), "{name}");
            } else {
                assert!(is_refused(&mut stream), "{name}");
                assert_eq!(told.recv_timeout(PATIENCE).unwrap(), "", "{name}");
                world.event("flow.decided", |event| event["rule"] == "guard:ech" && event["tls"]["sni"] == name);
            }
        }
    }
}
