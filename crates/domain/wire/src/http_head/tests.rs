//! One verdict wherever the bytes are cut, and what is refused.

use proptest::prelude::{any, prop, prop_assert_eq, proptest};

use super::{Form, Framing, Head, fields::authority, read};

const LIMIT: usize = 64 * 1024;

fn malformed(bytes: &[u8], proxy: bool) -> &'static str {
    match read(bytes, LIMIT, proxy) {
        Head::Malformed(reason) => reason,
        other => panic!("{}: {other:?}", bytes.escape_ascii()),
    }
}

fn complete(text: &str, proxy: bool) -> super::RequestHead {
    match read(text.as_bytes(), LIMIT, proxy) {
        Head::Complete(head, used) => {
            assert_eq!(used, text.len());
            *head
        }
        other => panic!("{text:?}: {other:?}"),
    }
}

const ORDINARY: &str = "POST /a/b?c=d HTTP/1.1\r\nHost: API.example.com:8080\r\nContent-Length: 5\r\nX:\t y \r\n\r\n";

#[test]
fn one_verdict_at_every_cut() {
    for cut in 0..ORDINARY.len() {
        assert_eq!(read(&ORDINARY.as_bytes()[..cut], LIMIT, false), Head::Incomplete, "cut at {cut}");
    }
    let head = complete(ORDINARY, false);
    assert_eq!(head.framing, Framing::Length(5));
    assert_eq!(head.authority, authority("api.example.com:8080").unwrap());
    assert_eq!(
        String::from_utf8(head.write(false)).unwrap(),
        "POST /a/b?c=d HTTP/1.1\r\nHost: API.example.com:8080\r\nContent-Length: 5\r\nX: y\r\n\r\n"
    );
    assert_eq!(head.facts().path.as_deref(), Some("/a/b"));
}

#[test]
fn what_has_no_one_meaning_is_refused() {
    let cases: &[(&str, &str)] = &[
        ("GET / HTTP/1.1\nHost: a.example\r\n\r\n", "line feed"),
        ("GET / HTTP/1.1\r\nHost: a.example\n\r\n", "line feed"),
        ("GET / HTTP/1.1\r\nHost: a.example\r\n\n", "line feed"),
        ("GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", "carriage return"),
        ("GET / HTTP/1.1\r\nHost: a.example\r\nX: a\0b\r\n\r\n", "NUL"),
        ("GET / HTTP/1.1\r\nHost: a.example\r\n folded\r\n\r\n", "folded"),
        ("GET / HTTP/1.1\r\n Host: a.example\r\n\r\n", "folded"),
        ("GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n", "two Host"),
        ("GET / HTTP/1.1\r\nHost : a.example\r\n\r\n", "header name"),
        ("GET / HTTP/1.1\r\nHost: a.example b.example\r\n\r\n", "no host name"),
        ("GET / HTTP/1.1\r\nHost: a@b.example\r\n\r\n", "no host name"),
        ("GET / HTTP/1.1\r\nHost: b\u{fc}cher.example\r\n\r\n", "not ASCII"),
        ("GET / HTTP/1.1\r\nHost: \u{c}a.example\r\n\r\n", "control"),
        ("GET / HTTP/1.1\r\nHost: a.example\r\nX: y\u{c}\r\n\r\n", "control"),
        ("POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\u{b}\r\n\r\n", "control"),
        ("GET / HTTP/1.1\r\nHost: 2130706433\r\n\r\n", "no host name"),
        ("GET / HTTP/1.1\r\nHost: 0177.0.0.1\r\n\r\n", "no host name"),
        ("GET / HTTP/1.1\r\nHost: 127.1\r\n\r\n", "no host name"),
        ("GET / HTTP/1.1\r\nHost: ::1\r\n\r\n", "brackets"),
        ("GET / HTTP/1.1\r\nHost: a.example:080\r\n\r\n", "port"),
        ("GET / HTTP/1.1\r\nHost: a.example:65536\r\n\r\n", "port"),
        ("GET / HTTP/1.1\r\nHost: a.example:https\r\n\r\n", "port"),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", "no host name"),
        ("GET / HTTP/1.1\r\n\r\n", "no Host"),
        ("GET / HTTP/1.0\r\n\r\n", "no Host"),
        ("GET /\r\n", "method, target and version"),
        ("GET  / HTTP/1.1\r\nHost: a.example\r\n\r\n", "method, target and version"),
        ("GET\t/ HTTP/1.1\r\nHost: a.example\r\n\r\n", "method, target and version"),
        ("GET / HTTP/1.1 \r\nHost: a.example\r\n\r\n", "method, target and version"),
        ("GET / HTTP/2.0\r\nHost: a.example\r\n\r\n", "version"),
        ("GET / http/1.1\r\nHost: a.example\r\n\r\n", "version"),
        ("FOO / HTTP/1.2\r\nHost: a.example\r\n\r\n", "version"),
        ("\r\nGET / HTTP/1.1\r\nHost: a.example\r\n\r\n", "white space"),
        ("get / HTTP/1.1\r\nHost: a.example\r\n\r\n", "lower case"),
        ("Get / HTTP/1.1\r\nHost: a.example\r\n\r\n", "lower case"),
        ("TRACE / HTTP/1.1\r\nHost: a.example\r\n\r\n", "TRACE"),
        ("TRACK / HTTP/1.1\r\nHost: a.example\r\n\r\n", "TRACE"),
        ("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n", "CONNECT inside"),
        ("GET /\u{e9} HTTP/1.1\r\nHost: a.example\r\n\r\n", "visible ASCII"),
        ("GET /#f HTTP/1.1\r\nHost: a.example\r\n\r\n", "visible ASCII"),
        ("GET a.example HTTP/1.1\r\nHost: a.example\r\n\r\n", "unknown form"),
        ("GET * HTTP/1.1\r\nHost: a.example\r\n\r\n", "unknown form"),
        ("GET https://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", "unknown form"),
        ("GET http://b.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", "host of the target"),
        ("GET http://u@a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", "no host name"),
        ("GET http://a.example:81/ HTTP/1.1\r\nHost: a.example\r\n\r\n", "host of the target"),
        ("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", "two Content-Length"),
        ("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1, 1\r\n\r\n", "no number"),
        ("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: +1\r\n\r\n", "no number"),
        ("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length:\r\n\r\n", "no number"),
        ("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 99999999999999999999\r\n\r\n", "no number"),
        ("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "beside"),
        ("POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: xchunked\r\n\r\n", "coding"),
        ("POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "coding"),
        ("POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: \"chunked\"\r\n\r\n", "coding"),
        ("POST / HTTP/1.0\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n", "coding"),
        (
            "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n",
            "two Transfer",
        ),
        ("POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding : chunked\r\n\r\n", "header name"),
        ("GET / HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", "other than WebSocket"),
        ("GET / HTTP/1.1\r\nHost: a.example\r\nHTTP2-Settings: AA\r\n\r\n", "HTTP/2"),
        ("POST / HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "no HTTP/1.1 GET"),
        (
            "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\n",
            "an upgrade with a body",
        ),
        ("GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close, host\r\n\r\n", "Connection option"),
        ("GET / HTTP/1.1\r\nHost: a.example\r\n: x\r\n\r\n", "header name"),
        ("GET / HTTP/1.1\r\nHost: a.example\r\nnocolon\r\n\r\n", "colon"),
        ("GET / HTTP/1.1\r\nHost: a.example\r\nX: \u{1}\r\n\r\n", "control"),
    ];
    for (text, expected) in cases {
        let reason = malformed(text.as_bytes(), false);
        assert!(reason.contains(expected), "{text:?}: {reason}");
        for cut in 1..text.len() {
            let early = read(&text.as_bytes()[..cut], LIMIT, false);
            assert!(early == Head::Incomplete || early == Head::Malformed(reason), "{text:?} cut at {cut}: {early:?}");
        }
    }
}

#[test]
fn proxy_requests() {
    let connect = complete("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n", true);
    assert_eq!((connect.form, connect.authority.port), (Form::Authority, Some(443)));
    complete("CONNECT [2001:db8::1]:443 HTTP/1.0\r\n\r\n", true);
    for target in [
        "a.example",
        "a.example:0",
        "a.example:007",
        "a.example:65536",
        "a.example:https",
        "[[::1]]:443",
        "2130706433:80",
        "0177.0.0.1:80",
        "0x7f000001:80",
        "127.1:80",
        "u@a.example:443",
        "::1:443",
        "[fe80::1%25eth0]:80",
        ":443",
        "a..b:443",
    ] {
        malformed(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes(), true);
    }
    malformed(b"CONNECT a.example:443 HTTP/1.1\r\nHost: b.example\r\n\r\n", true);
    let get = complete(
        "GET http://a.example?x HTTP/1.1\r\nHost: a.example:80\r\nProxy-Connection: keep-alive\r\nConnection: keep-alive\r\n\r\n",
        true,
    );
    assert_eq!(
        String::from_utf8(get.write(true)).unwrap(),
        "GET /?x HTTP/1.1\r\nHost: a.example:80\r\nConnection: close\r\n\r\n"
    );
}

#[test]
fn other_protocols() {
    for bytes in [
        &b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"[..],
        b"*1\r\n$4\r\nPING\r\n",
        b"EHLO a.example\r\n",
        b"\x00\x00\x00\x08",
        b"abc\x01",
        b"hello \xff",
    ] {
        assert_eq!(read(bytes, LIMIT, false), Head::NotHttp, "{}", bytes.escape_ascii());
    }
    assert_eq!(read(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", LIMIT, false), Head::Http2);
    let upgrade = complete(
        "GET /ws HTTP/1.1\r\nHost: a.example\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n",
        false,
    );
    assert!(upgrade.websocket);
    let long = format!("GET /{} HTTP/1.1\r\nHost: a.example\r\n\r\n", "a".repeat(20_000));
    malformed(long.as_bytes(), false);
    let many = format!("GET / HTTP/1.1\r\nHost: a.example\r\n{}\r\n", "X: y\r\n".repeat(300));
    assert_eq!(malformed(many.as_bytes(), false), "too many header fields");
    let big = format!("GET / HTTP/1.1\r\nHost: a.example\r\nX: {}\r\n\r\n", "a".repeat(70_000));
    assert_eq!(malformed(big.as_bytes(), false), "a request head longer than the bound");
}

#[test]
fn the_next_line_is_no_part_of_the_first() {
    for text in ["GET\n", "GET\n/ HTTP/1.1\r\n", "GET \r\n/", "get\nhttp://a.example/\n"] {
        assert_eq!(read(text.as_bytes(), LIMIT, false), Head::NotHttp, "{text:?}");
    }
}

proptest! {
    #[test]
    fn no_later_byte_changes_a_verdict(at in 0usize..80, value in any::<u8>(), more in prop::collection::vec(any::<u8>(), 1..40), cut in 0usize..90) {
        let mut bytes = ORDINARY.as_bytes().to_vec();
        let at = at % bytes.len();
        bytes[at] = value;
        bytes.truncate(cut.max(1));
        let verdict = read(&bytes, LIMIT, false);
        bytes.extend(more);
        if verdict != Head::Incomplete {
            prop_assert_eq!(read(&bytes, LIMIT, false), verdict);
        }
    }
}
