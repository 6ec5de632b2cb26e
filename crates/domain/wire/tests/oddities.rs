//! Oddities that peers differ on, at the doors that the gateway uses: one verdict each, and the reason.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may panic")]

use policy::Layer;
use wire::{
    http_head::{Head, RequestHead, read},
    intent::{Intent, classify},
};

const LIMIT: usize = 64 * 1024;

fn head(text: &str) -> Result<RequestHead, &'static str> {
    match read(text.as_bytes(), LIMIT, false) {
        Head::Complete(head, _) => Ok(*head),
        Head::Malformed(reason) => Err(reason),
        other => panic!("{text:?}: {other:?}"),
    }
}

#[test]
fn fields_that_name_another_method_or_path() {
    for (fields, expected) in [
        ("", None),
        ("X-HTTP-Method-Override: DELETE\r\n", Some("a field that names another method")),
        ("x-http-method: delete\r\n", Some("a field that names another method")),
        ("X-Method-Override: POST\r\n", None),
        ("X-Method-Override: POST\r\nX-Method-Override: PUT\r\n", Some("a field that names another method")),
        ("X-HTTP-Method-Override: post\r\n", Some("a field that names another method")),
        ("X-HTTP-Method-Override:\r\n", Some("a field that names another method")),
        ("X-Original-URL: /secret\r\n", Some("a field that names another path")),
        ("X-Rewrite-Url: /public/../secret\r\n", Some("a field that names another path")),
        ("X-Original-Url: /public?q\r\n", None),
        ("X_HTTP_Method_Override: DELETE\r\n", Some("a field that names another method")),
        ("X_Original-URL: /secret\r\n", Some("a field that names another path")),
        ("X-Forwarded-Uri: /secret\r\n", Some("a field that names another path")),
        ("X-HTTP-Path-Override: /secret\r\n", Some("a field that names another path")),
        ("x_envoy_original_path: /secret\r\n", Some("a field that names another path")),
        ("X-Forwarded-Path: /secret\r\n", Some("a field that names another path")),
        ("X-Forwarded-Prefix: /secret\r\n", Some("a field that names another path")),
        ("Destination: https://a.example/secret\r\n", Some("a field that names another path")),
    ] {
        let head = head(&format!("POST /public?q HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n")).unwrap();
        assert_eq!(head.overrides(), expected, "{fields:?}");
    }
}

#[test]
fn parameters_that_name_another_method() {
    for (query, is_other) in [
        ("", false),
        ("?method=DELETE", false),
        ("?q=a;b&x=%zz", false),
        ("?_method=POST", false),
        ("?_method=DELETE", true),
        ("?_method=delete", true),
        ("?_method=", true),
        ("?_method", true),
        ("?_method=POST&_method=DELETE", true),
        ("?%5fMethod=DELETE", true),
        ("?_method[]=DELETE", true),
        ("?a=1;_method=DELETE", true),
        ("?_method=%zz", true),
    ] {
        let head = head(&format!("POST /public{query} HTTP/1.1\r\nHost: a.example\r\n\r\n")).unwrap();
        assert_eq!(head.overrides(), is_other.then_some("a parameter that names another method"), "{query:?}");
    }
}

#[test]
fn a_connection_option_removes_no_field() {
    let with = |fields: &str| head(&format!("GET / HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n"));
    for fields in [
        "X-Mode: safe\r\nConnection: x-mode\r\n",
        "Connection: close, X-MODE\r\nX-Mode: safe\r\n",
        "Connection: close\r\nConnection: ,\tx-mode ,\r\nX-Mode: safe\r\n",
        // To a server that takes both names for one.
        "Connection: X_Mode\r\nX-Mode: safe\r\n",
        "Connection: X-Mode\r\nX_Mode: safe\r\n",
        "Connection: cookie\r\nCookie: a=b\r\n",
    ] {
        assert_eq!(with(fields), Err("a Connection option that would remove a needed field"), "{fields:?}");
    }
    for (fields, written) in [
        ("Connection: keep-alive, TE\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\n", None),
        ("Connection: Close, Trailer\r\nTrailer: x-sum\r\n", None),
        ("Connection: Upgrade\r\nUpgrade: websocket\r\n", None),
        // A field of that name may be added on the way.
        ("Connection: close, x-mode\r\n", Some("Connection: close\r\n")),
        ("Connection: x-mode\r\n", Some("")),
    ] {
        let head = with(fields).unwrap();
        let expected = format!("GET / HTTP/1.1\r\nHost: a.example\r\n{}\r\n", written.unwrap_or(fields));
        assert_eq!(String::from_utf8(head.write(false)).unwrap(), expected, "{fields:?}");
    }
}

#[test]
fn upgrades() {
    let with = |fields: &str| head(&format!("GET / HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n"));
    for (fields, websocket) in [
        ("Connection: upgrade\r\nUpgrade: websocket\r\n", Ok(true)),
        ("Connection: keep-alive\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n", Ok(true)),
        // Without `Connection: upgrade` no server switches, and no answer makes it a tunnel.
        ("Upgrade: websocket\r\n", Ok(false)),
        ("Connection: close\r\nUpgrade: websocket\r\n", Ok(false)),
        ("Connection: upgrade\r\n", Ok(false)),
        ("Connection: upgrade\r\nUpgrade: websocket, h2c\r\n", Err("an upgrade to something other than WebSocket")),
        (
            "Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n",
            Err("an upgrade to something other than WebSocket"),
        ),
        ("Connection: upgrade\r\nUpgrade: TLS/1.0\r\n", Err("an upgrade to something other than WebSocket")),
        ("Connection: upgrade, HTTP2-Settings\r\nHTTP2-Settings: AA\r\n", Err("an upgrade to HTTP/2")),
        (
            "Connection: upgrade, Transfer-Encoding\r\nUpgrade: websocket\r\n",
            Err("a Connection option that would remove a needed field"),
        ),
    ] {
        assert_eq!(with(fields).map(|head| head.websocket), websocket, "{fields:?}");
    }
}

#[test]
fn long_names() {
    let label = "a".repeat(63);
    let longest = [label.as_str(), &label, &label, &"b".repeat(61)].join(".");
    for (host, taken) in [
        (format!("{label}.example"), true),
        (format!("a{label}.example"), false),
        (longest.clone(), true),
        (format!("{longest}."), true),
        (format!("{longest}b"), false),
        (format!("{longest}.b"), false),
    ] {
        let request = head(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(request.is_ok(), taken, "Host of {} bytes", host.len());
        let hello = classify(&client_hello(&[host.as_bytes()]), LIMIT).unwrap();
        assert_eq!(matches!(hello, Intent::Tls(_)), taken, "server name of {} bytes", host.len());
    }
    let huge = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "a".repeat(70_000));
    assert_eq!(head(&huge), Err("a request head longer than the bound"));
    assert_eq!(head(&huge[..LIMIT]), Err("a request head longer than the bound"), "no byte more is waited for");
}

#[test]
fn first_bytes_of_old_and_odd_clients() {
    // An SSL 2 hello carries no name: it is no TLS to us, and judged by the address alone.
    let ssl2 = [&[0x80, 0x2e, 1, 3, 3, 0, 0x15, 0, 0, 0, 0x10][..], &[1; 40]].concat();
    assert_eq!(classify(&ssl2, LIMIT), Some(Intent::Raw));
    for (names, reason) in [
        (&[&b"a.example"[..], b"b.example"][..], "two server names"),
        (&[b"a.example", b"a.example"], "two server names"),
        (&[b""], "a server name that is no host name"),
        (&[b"."], "a server name that is no host name"),
        (&[b"*.example"], "a server name that is no host name"),
        (&[b"a.example:443"], "a server name that is no host name"),
        (&[b"127.1"], "a server name that is no host name"),
        (&[b"[::1]"], "an address as the server name"),
    ] {
        let intent = classify(&client_hello(names), LIMIT);
        assert_eq!(intent, Some(Intent::Malformed(Layer::Tls, reason)), "{names:?}");
    }
}

/// A hello with these server names, and GREASE (RFC 8701) among its suites and extensions.
fn client_hello(names: &[&[u8]]) -> Vec<u8> {
    let vector = |data: &[u8]| [&u16::try_from(data.len()).unwrap().to_be_bytes(), data].concat();
    let list: Vec<u8> = names.iter().flat_map(|name| [&[0][..], &vector(name)].concat()).collect();
    let extensions = [&[0x1a, 0x1a, 0, 0, 0, 0][..], &vector(&vector(&list)), &[0xfa, 0xfa, 0, 1, 0]].concat();
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0);
    body.extend(vector(&[0x2a, 0x2a, 0x13, 0x01]));
    body.extend([1, 0]);
    body.extend(vector(&extensions));
    let message = [&[1, 0][..], &vector(&body)].concat();
    [&[22, 3, 1][..], &vector(&message)].concat()
}
