//! Exchanges from message to message, as bytes come.

use super::{Bounds, ClientStep, Exchange};
use crate::{
    body::TOO_LONG,
    http_head::{Head, RequestHead, read},
};

const LIMIT: usize = 64 * 1024;

fn head(text: &str) -> (RequestHead, Vec<u8>) {
    match read(text.as_bytes(), LIMIT, false) {
        Head::Complete(head, used) => (*head, text.as_bytes()[used..].to_vec()),
        other => panic!("{other:?}"),
    }
}

/// Feeds all bytes; returns what was forwarded, and the head that waits.
fn client(exchange: &mut Exchange, bytes: &[u8]) -> Result<(Vec<u8>, Option<RequestHead>), &'static str> {
    let mut rest = bytes;
    let mut forwarded = Vec::new();
    loop {
        match exchange.client(rest)? {
            ClientStep::Forward(count) => {
                forwarded.extend_from_slice(&rest[..count]);
                rest = &rest[count..];
                if rest.is_empty() {
                    return Ok((forwarded, None));
                }
            }
            ClientStep::Kept => return Ok((forwarded, None)),
            ClientStep::Judge(head) => return Ok((forwarded, Some(*head))),
        }
    }
}

fn server(exchange: &mut Exchange, bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let taken = exchange.server(rest).unwrap();
        rest = &rest[taken..];
    }
}

#[test]
fn a_request_behind_another_waits_for_its_answer() {
    let (first, rest) = head(
        "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n\r\nhiGET /2 HTTP/1.1\r\nHost: b.example\r\n\r\n",
    );
    let mut exchange = Exchange::new(&first, Bounds::default(), false, LIMIT);
    let (forwarded, waiting) = client(&mut exchange, &rest).unwrap();
    assert_eq!((forwarded.as_slice(), waiting), (&b"hi"[..], None));
    assert!(exchange.is_full() && !exchange.has_due());
    server(&mut exchange, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Le");
    server(&mut exchange, b"ngth: 3\r\n\r\nabc");
    assert!(exchange.has_due());
    let held = exchange.take_held();
    let (_, waiting) = client(&mut exchange, &held).unwrap();
    let second = waiting.unwrap();
    assert_eq!(second.authority.host, policy::Target::parse("b.example").unwrap());
    assert_eq!(exchange.client(b"").unwrap(), ClientStep::Kept);
}

#[test]
fn a_websocket_is_a_tunnel_only_after_101() {
    let text = "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x01\x02";
    let (first, rest) = head(text);
    let mut exchange = Exchange::new(&first, Bounds::default(), false, LIMIT);
    assert_eq!(exchange.client(&rest).unwrap(), ClientStep::Kept);
    server(&mut exchange, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x03");
    assert!(exchange.has_due());
    let held = exchange.take_held();
    assert_eq!(exchange.client(&held).unwrap(), ClientStep::Forward(2));
    assert_eq!(exchange.unseen_from_server(), u64::MAX);

    let mut refused = Exchange::new(&first, Bounds::default(), false, LIMIT);
    server(&mut refused, b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n");
    assert!(client(&mut refused, b"\x01\x02").is_err());
}

#[test]
fn a_101_that_nobody_asked_for_ends_it() {
    let (first, _) = head("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
    let mut exchange = Exchange::new(&first, Bounds::default(), false, LIMIT);
    assert!(exchange.server(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").is_err());
}

#[test]
fn nothing_follows_a_response_without_framing() {
    let (first, _) = head("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
    let mut exchange = Exchange::new(&first, Bounds::default(), false, LIMIT);
    server(&mut exchange, b"garbage\r\n\r\n");
    let (forwarded, waiting) = client(&mut exchange, b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
    assert!(forwarded.is_empty() && waiting.is_none() && !exchange.has_due());
}

#[test]
fn bounds_on_bodies_are_held() {
    let bounds = Bounds { body: Some(3), response: Some(3), method: false };
    let (first, _) = head("POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n");
    let bounded = || Exchange::new(&first, bounds, false, LIMIT);
    assert!(client(&mut bounded(), b"3\r\nabc\r\n0\r\n\r\n").is_ok());
    assert_eq!(client(&mut bounded(), b"3\r\nabc\r\n1\r\nd\r\n"), Err(TOO_LONG));
    let text: [(&[u8], Result<(), &str>); 6] = [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", Ok(())),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", Err(TOO_LONG)),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n", Err(TOO_LONG)),
        (b"HTTP/1.1 200 OK\r\n\r\nabc", Ok(())),
        (b"HTTP/1.1 200 OK\r\n\r\nabcd", Err(TOO_LONG)),
        (b"garbage\r\n\r\n", Err("a response head that is not HTTP")),
    ];
    for (bytes, expected) in text {
        let mut exchange = bounded();
        let mut rest = bytes;
        let mut outcome = Ok(());
        while !rest.is_empty() && outcome.is_ok() {
            outcome = exchange.server(rest).map(|taken| rest = &rest[taken..]);
        }
        assert_eq!(outcome, expected, "{}", bytes.escape_ascii());
    }
}

#[test]
fn one_request_where_it_is_the_last() {
    let (first, _) = head("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
    let mut exchange = Exchange::new(&first, Bounds::default(), true, LIMIT);
    server(&mut exchange, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client(&mut exchange, b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap(), (Vec::new(), None));
    assert!(!exchange.has_due() && !exchange.is_full());
}
