//! Servers that do us harm, inside opened TLS: what they send reaches the client clean, or not at all.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "help for tests")]

mod support;

use std::{io::Read, io::Write};

use support::{
    frames::{
        self, ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PUSH_PROMISE, RST_STREAM,
        SETTINGS, WINDOW_UPDATE, block, frame, greet, read_frame, setting,
    },
    peak,
    tls::{ServerTls, Shown, Tls, inspected, read_head, read_message},
};

const GET_OK: &str = "GET /ok/1 HTTP/1.1\r\nHost: web.test\r\n\r\n";
/// How much more memory a flood may take at its peak, in KiB.
const GROWTH: usize = 24 * 1024;

/// What a client gets of an HTTP/1.1 answer, to its end.
fn answered(answer: &'static [u8], request: &str) -> String {
    let tls = Tls::new();
    let origin = tls.origin(Shown::Good, move |mut stream| {
        read_head(&mut stream);
        let _ = stream.write_all(answer);
        stream.conn.send_close_notify();
        let _ = stream.flush();
        let _ = stream.read(&mut [0; 1]);
    });
    let world = tls.world(inspected());
    let mut client = tls.client(&world, "web.test", origin.port());
    client.write_all(request.as_bytes()).unwrap();
    let mut text = read_head(&mut client);
    let length = text.to_ascii_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    if client.read_exact(&mut body).is_err() {
        text.push_str("(cut)");
    }
    text + &String::from_utf8_lossy(&body)
}

#[test]
fn an_answer_of_two_meanings_is_none() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x00",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA : b\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 99 Low\r\nContent-Length: 2\r\n\r\nok",
        b"SSH-2.0-server\r\n",
        b"",
    ] {
        let text = answered(answer, GET_OK);
        assert!(text.starts_with("HTTP/1.1 502 ") && text.contains("upstream"), "{}: {text}", answer.escape_ascii());
    }
}

#[test]
fn what_leads_past_us_is_taken_out_of_an_answer() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nAlt-Svc: h3=\":443\"\r\nalt-svc: h2=\"evil.test:443\"\r\n\
        Cofferdam-Verdict: denied\r\nKeep-Alive: timeout=5\r\nConnection: X-Hop\r\nX-Hop: 1\r\nSet-Cookie: a=b\r\n\r\nok";
    let text = answered(answer, GET_OK).to_ascii_lowercase();
    assert!(text.starts_with("http/1.1 200 ") && text.ends_with("ok") && text.contains("set-cookie: a=b"), "{text}");
    for name in ["alt-svc", "cofferdam-verdict", "keep-alive", "x-hop"] {
        assert!(!text.contains(name), "{name} in {text}");
    }
}

#[test]
fn answers_before_the_answer_are_dropped() {
    let answer = b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
        HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let text = answered(answer, GET_OK);
    assert!(text.starts_with("HTTP/1.1 200 ") && text.ends_with("ok"), "{text}");
}

#[test]
fn a_torn_answer_is_seen_to_be_torn() {
    let text = answered(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok", GET_OK);
    assert!(text.contains("(cut)"), "{text}");
}

#[test]
fn answers_without_a_body_leave_the_connection_in_step() {
    let tls = Tls::new();
    let origin = tls.origin(Shown::Good, |mut stream| {
        while let Some(request) = read_message(&mut stream) {
            let answer: &[u8] = match request.split(' ').nth(1).unwrap() {
                "/ok/204" => b"HTTP/1.1 204 No Content\r\n\r\n",
                "/ok/304" => b"HTTP/1.1 304 Not Modified\r\nContent-Length: 50\r\nETag: \"a\"\r\n\r\n",
                "/ok/head" => b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n",
                _ => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;ext=1\r\nok\r\n0\r\nLate: 1\r\n\r\n",
            };
            stream.write_all(answer).unwrap();
        }
    });
    let mut rules = inspected();
    rules[0].http[0].methods.push("HEAD".to_owned());
    let world = tls.world(rules);
    let mut client = tls.client(&world, "web.test", origin.port());
    for (method, path, status) in
        [("GET", "/ok/204", "204"), ("HEAD", "/ok/head", "200"), ("GET", "/ok/304", "304"), ("HEAD", "/no", "403")]
    {
        client.write_all(format!("{method} {path} HTTP/1.1\r\nHost: web.test\r\n\r\n").as_bytes()).unwrap();
        let head = read_head(&mut client);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{method} {path}: {head}");
    }
    let text = answered_in_chunks(&mut client);
    assert!(text.ends_with("\r\n2\r\nok\r\n0\r\n\r\n"), "chunks are written anew: {text}");
    assert_eq!(origin.connections(), 1);
}

fn answered_in_chunks(client: &mut support::tls::ClientTls) -> String {
    client.write_all(GET_OK.as_bytes()).unwrap();
    let mut text = read_head(client);
    while !text.ends_with("0\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        text.push(char::from(byte[0]));
    }
    text
}

/// A client of ours asks a server of HTTP/2 that does this after the request came; what the client gets, and how much
/// memory it took at most.
fn against_http2(serve: impl Fn(&mut ServerTls) + Send + Sync + 'static) -> (String, usize) {
    let tls = Tls::new();
    let origin = tls.origin_of(Shown::Good, "h2", move |mut stream| {
        if greet(&mut stream, b"").is_none() {
            return;
        }
        while read_frame(&mut stream).is_some_and(|frame| frame.kind != HEADERS) {}
        serve(&mut stream);
        let _ = stream.flush();
        while read_frame(&mut stream).is_some() {}
    });
    let world = tls.world(inspected());
    // Offers both, so that the server is offered both.
    let mut client = tls.client_of(&world, &["h2"], origin.port());
    let before = peak();
    client.write_all(frames::PREFACE).unwrap();
    client.write_all(&frame(SETTINGS, 0, 0, b"")).unwrap();
    client.write_all(&frames::request(1, END_STREAM, &frames::get("/ok/1"))).unwrap();
    let mut text = format!("{:?}", frames::outcome(&mut client));
    if text == "Answered(200)" {
        while let Some(frame) = read_frame(&mut client) {
            match frame.kind {
                DATA => text.push_str(&String::from_utf8_lossy(&frame.payload)),
                RST_STREAM => text.push_str(" reset"),
                _ => {}
            }
            if frame.kind == RST_STREAM || (matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0) {
                break;
            }
        }
    }
    (text, peak().saturating_sub(before))
}

const OK_HEAD: [(&str, &str); 1] = [(":status", "200")];

fn ok(stream: &mut ServerTls) {
    let _ = stream.write_all(&frame(HEADERS, END_HEADERS, 1, &block(&OK_HEAD)));
    let _ = stream.write_all(&frame(DATA, END_STREAM, 1, b"ok"));
}

/// Writes the same until the peer has enough, or so often.
fn flood(stream: &mut ServerTls, bytes: &[u8], times: usize) {
    let batch = bytes.repeat(64);
    for _ in 0..times / 64 {
        if stream.write_all(&batch).is_err() {
            return;
        }
    }
}

/// What a server sends, and whether a good answer follows.
type Flood = (&'static str, fn(&mut ServerTls), bool);

const FLOODS: [Flood; 9] = [
    ("pings", |s| flood(s, &frame(PING, 0, 0, b"12345678"), 100_000), true),
    ("settings", |s| flood(s, &frame(SETTINGS, 0, 0, &setting(4, 70_000)), 100_000), true),
    ("window updates", |s| flood(s, &frame(WINDOW_UPDATE, 0, 1, &1u32.to_be_bytes()), 100_000), true),
    ("frames of no known kind", |s| flood(s, &frame(0xbb, 0, 1, b"abc"), 100_000), true),
    ("early answers", |s| flood(s, &frame(HEADERS, END_HEADERS, 1, &block(&[(":status", "103")])), 100_000), true),
    ("heads again and again", |s| flood(s, &frame(HEADERS, END_HEADERS, 1, &block(&OK_HEAD)), 100_000), false),
    (
        "continuations",
        |s| {
            let _ = s.write_all(&frame(HEADERS, 0, 1, &block(&OK_HEAD)));
            flood(s, &frame(CONTINUATION, 0, 1, &block(&[("a", "b")])), 200_000);
        },
        false,
    ),
    (
        "empty continuations",
        |s| {
            let _ = s.write_all(&frame(HEADERS, 0, 1, &block(&OK_HEAD)));
            flood(s, &frame(CONTINUATION, 0, 1, b""), 200_000);
        },
        false,
    ),
    (
        "a field of the table named again and again",
        |s| {
            // One field of 4,000 bytes enters the table, then 12,000 references to it.
            let mut bomb = block(&OK_HEAD);
            bomb.extend([0x40, 1, b'a', 0x7f, 0xa1, 0x1e]);
            bomb.extend(vec![b'x'; 127 + 0x21 + 0x1e * 128]);
            bomb.extend(vec![0xbe; 12_000]);
            let _ = s.write_all(&frame(HEADERS, END_HEADERS, 1, &bomb));
        },
        false,
    ),
];

#[test]
fn floods_of_frames_end_and_take_no_memory() {
    for (name, serve, then_ok) in FLOODS {
        let (text, grown) = against_http2(move |stream| {
            serve(stream);
            if then_ok {
                ok(stream);
            }
        });
        let is_ended = text == "Answered(502)" || text.starts_with("Reset") || text.ends_with("reset");
        assert!(is_ended || (then_ok && text == "Answered(200)ok"), "{name}: {text}");
        assert!(grown < GROWTH, "{name}: {grown} KiB more at the peak");
    }
}

#[test]
fn empty_data_goes_nowhere() {
    let (text, grown) = against_http2(|stream| {
        let _ = stream.write_all(&frame(HEADERS, END_HEADERS, 1, &block(&OK_HEAD)));
        flood(stream, &frame(DATA, 0, 1, b""), 200_000);
        let _ = stream.write_all(&frame(DATA, END_STREAM, 1, b"ok"));
    });
    assert!(text == "Answered(200)ok" || text.starts_with("Reset") || text.ends_with("reset"), "{text}");
    assert!(grown < GROWTH, "{grown} KiB more at the peak");
}

#[test]
fn frames_out_of_place_end_in_an_error() {
    type Case = (&'static str, fn(&mut ServerTls));
    let cases: [Case; 11] = [
        ("a push", |s| {
            let promise = [&2u32.to_be_bytes()[..], &block(&frames::get("/ok/pushed"))].concat();
            let _ = s.write_all(&frame(PUSH_PROMISE, END_HEADERS, 1, &promise));
        }),
        ("data before the head", |s| drop(s.write_all(&frame(DATA, END_STREAM, 1, b"ok")))),
        ("data of a stream that is none", |s| drop(s.write_all(&frame(DATA, END_STREAM, 7, b"ok")))),
        ("a head without a status", |s| {
            let _ = s.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[("a", "b")])));
        }),
        ("a head with a field of one hop", |s| {
            let fields = [(":status", "200"), ("transfer-encoding", "chunked")];
            let _ = s.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&fields)));
        }),
        ("a head with a line end in a value", |s| {
            let fields = [(":status", "200"), ("a", "b\r\nset-cookie: c=d")];
            let _ = s.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&fields)));
        }),
        ("a head with an upper-case name", |s| {
            let _ =
                s.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[(":status", "200"), ("A", "b")])));
        }),
        ("a head that is no field block", |s| drop(s.write_all(&frame(HEADERS, END_HEADERS, 1, &[0xff; 40])))),
        ("a frame longer than was agreed", |s| drop(s.write_all(&frame(DATA, END_STREAM, 1, &vec![0; 70_000])))),
        ("a farewell", |s| {
            let _ = s.write_all(&frame(GOAWAY, 0, 0, &[0; 8]));
        }),
        ("settings that are acknowledged with a body", |s| drop(s.write_all(&frame(SETTINGS, ACK, 0, b"123456")))),
    ];
    for (name, serve) in cases {
        let (text, _) = against_http2(serve);
        assert_eq!(text, "Answered(502)", "{name}");
    }
}

#[test]
fn an_answer_that_does_not_hold_its_length_is_cut() {
    for length in ["1", "50"] {
        let (text, _) = against_http2(move |stream| {
            let fields = [(":status", "200"), ("content-length", length)];
            let _ = stream.write_all(&frame(HEADERS, END_HEADERS, 1, &block(&fields)));
            let _ = stream.write_all(&frame(DATA, END_STREAM, 1, b"ok"));
        });
        assert!(text.starts_with("Reset") || text.ends_with("reset"), "{length}: {text}");
    }
}
