//! What comes back from a host that a credential is bound to, looked through for it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "help for tests")]

mod support;

use std::io::{Read as _, Write as _};

use data_encoding::BASE64;
use flate2::{
    Compression,
    write::{GzEncoder, ZlibEncoder},
};
use policy::model::credential::Attach;
use support::{
    Origin,
    secrets::{Keeping, SECRET},
    tls::{ClientTls, Shown, Tls, read_head, read_message},
};

const GET: &str = "GET /api/1 HTTP/1.1\r\nHost: web.test\r\n\r\n";
const OPEN: &str = "GET /open/1 HTTP/1.1\r\nHost: web.test\r\n\r\n";

/// A server that sends these bytes for every request, in pieces of this size, and closes.
fn answers(tls: &Tls, bytes: Vec<u8>, piece: usize) -> Origin {
    tls.origin(Shown::Good, move |mut stream| {
        if read_message(&mut stream).is_none() {
            return;
        }
        for piece in bytes.chunks(piece) {
            if stream.write_all(piece).is_err() || stream.flush().is_err() {
                return;
            }
        }
        stream.conn.send_close_notify();
        let _ = stream.flush();
        let _ = stream.read(&mut [0; 1]);
    })
}

/// The answer to a request, to the end of the connection.
fn whole(client: &mut ClientTls, request: &str) -> String {
    client.write_all(request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = client.read(&mut buffer) {
        bytes.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn told_by(tls: &Tls, origin: &Origin, keeping: &Keeping, request: &str) -> String {
    let mut client = tls.client(&keeping.world, "web.test", origin.port());
    whole(&mut client, request)
}

/// The same without the framing of chunks, whose sizes depend on how the bytes came. What is not framed whole is left
/// as it is.
fn unframed(told: &str) -> String {
    let Some((head, mut rest)) = told.split_once("\r\n\r\n") else { return told.to_owned() };
    let mut out = format!("{head}\r\n\r\n");
    while let Some((size, following)) = rest.split_once("\r\n") {
        let Ok(size) = usize::from_str_radix(size, 16) else { break };
        let Some(data) = following.get(..size).filter(|_| size > 0) else { break };
        out.push_str(data);
        rest = following[size..].strip_prefix("\r\n").unwrap_or("");
    }
    out + rest
}

fn stars() -> String {
    "*".repeat(SECRET.len())
}

#[test]
fn the_head_the_body_and_the_trailers_are_masked() {
    let tls = Tls::new();
    let basic = BASE64.encode(format!("user:{SECRET}").as_bytes());
    let answer = format!(
        "HTTP/1.1 200 {SECRET}\r\nTransfer-Encoding: chunked\r\nLocation: https://other.test/?t={SECRET}\r\n\
         Set-Cookie: t={SECRET}; Path=/\r\nX-Was: Basic {basic}\r\nX-{SECRET}: 1\r\nX-Kept: 1\r\n\r\n\
         {:x}\r\nsent: {SECRET}\r\n0\r\nX-Trailer: {SECRET}\r\n\r\n",
        SECRET.len() + 6
    );
    for piece in [1, 7, 100_000] {
        let origin = answers(&tls, answer.clone().into_bytes(), piece);
        let keeping = Keeping::new(&tls, Attach::Bearer);
        let told = told_by(&tls, &origin, &keeping, &GET.replace("\r\n\r\n", "\r\nTE: trailers\r\n\r\n"));
        let told = unframed(&told);
        assert!(told.starts_with("HTTP/1.1 200 OK\r\n"), "{told}");
        assert!(!told.contains(SECRET) && !told.to_lowercase().contains(&SECRET.to_lowercase()), "{told}");
        assert!(!told.contains(&basic[8..40]), "{told}");
        assert!(told.contains("?t=") && told.to_ascii_lowercase().contains("x-kept: 1"), "{told}");
        assert!(told.contains("sent: "), "{told}");
    }
}

#[test]
fn a_length_that_was_told_is_kept_however_the_body_is_cut() {
    let tls = Tls::new();
    let body = format!("{{\"a\":\"{SECRET}\",\"b\":\"ghp_\"}}");
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    for piece in [1, 3, 60, 100_000] {
        let origin = answers(&tls, answer.clone().into_bytes(), piece);
        let keeping = Keeping::new(&tls, Attach::Bearer);
        let told = told_by(&tls, &origin, &keeping, GET);
        assert!(told.ends_with(&format!("\r\n\r\n{}", body.replace(SECRET, &stars()))), "{told}");
        assert!(told.to_ascii_lowercase().contains(&format!("content-length: {}\r\n", body.len())), "{told}");
    }
}

fn encoded(coding: &str, data: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        }
        "deflate" => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        }
        "br" => {
            let mut out = Vec::new();
            brotli::CompressorWriter::new(&mut out, 4096, 5, 22).write_all(data).unwrap();
            out
        }
        _ => {
            let mut out = Vec::with_capacity(zstd_safe::compress_bound(data.len()));
            zstd_safe::compress(&mut out, data, 3).unwrap();
            out
        }
    }
}

#[test]
fn compressed_answers_are_masked_and_told_as_they_are() {
    let tls = Tls::new();
    let text = format!("before {SECRET} behind, {}", "and more text. ".repeat(2000));
    for coding in ["gzip", "deflate", "br", "zstd"] {
        let bytes = encoded(coding, text.as_bytes());
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {}\r\nETag: \"1\"\r\n\r\n",
            bytes.len()
        );
        for piece in [1, 100_000] {
            let origin = answers(&tls, [head.as_bytes(), &bytes].concat(), piece);
            let keeping = Keeping::new(&tls, Attach::Bearer);
            let told = unframed(&told_by(&tls, &origin, &keeping, GET));
            let head = told.split_once("\r\n\r\n").unwrap().0.to_ascii_lowercase();
            assert!(!head.contains("content-encoding") && !head.contains("content-length"), "{coding}: {head}");
            assert!(!told.contains(SECRET) && told.contains("before ") && told.contains(" behind, and"), "{coding}");
            assert!(told.matches("and more text. ").count() >= 1990, "{coding}");
        }
        let cut = bytes[..bytes.len() - 4].to_vec();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {}\r\n\r\n", cut.len());
        let origin = answers(&tls, [head.as_bytes(), &cut].concat(), 100_000);
        let keeping = Keeping::new(&tls, Attach::Bearer);
        let told = told_by(&tls, &origin, &keeping, GET);
        assert!(!told.ends_with("0\r\n\r\n"), "{coding}: what is cut short is not told as whole");
    }
}

#[test]
fn what_can_t_be_looked_through_is_not_asked_for_and_not_passed_on() {
    let tls = Tls::new();
    let (origin, heads) = tls.http(Shown::Good);
    let keeping = Keeping::new(&tls, Attach::Bearer);
    let fields = "Accept-Encoding: compress, gzip;q=0.5, sdch, br\r\nRange: bytes=0-3\r\nIf-Range: \"1\"\r\n";
    let told = told_by(&tls, &origin, &keeping, &GET.replace("\r\n\r\n", &format!("\r\n{fields}\r\n")));
    assert!(told.ends_with("ok"), "{told}");
    let head = support::tls::told(&heads).to_ascii_lowercase();
    assert!(head.contains("accept-encoding: gzip;q=0.5, br\r\n") && !head.contains("range"), "{head}");
    for answer in [
        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-3/9\r\nContent-Length: 4\r\n\r\nghp_",
        "HTTP/1.1 200 OK\r\nContent-Encoding: compress\r\nContent-Length: 4\r\n\r\nabcd",
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip, gzip\r\nContent-Length: 4\r\n\r\nabcd",
        "HTTP/1.1 200 OK\r\nGrpc-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",
    ] {
        let origin = answers(&tls, answer.as_bytes().to_vec(), 100_000);
        let told = told_by(&tls, &origin, &keeping, GET);
        assert!(told.starts_with("HTTP/1.1 502 ") && !told.contains("ghp_"), "{told}");
    }
}

#[test]
fn a_request_without_the_secret_is_not_told_it_later() {
    let tls = Tls::new();
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{SECRET}", SECRET.len());
    let origin = answers(&tls, answer.into_bytes(), 100_000);
    let keeping = Keeping::new(&tls, Attach::Bearer);
    assert!(told_by(&tls, &origin, &keeping, GET).ends_with(&stars()));
    let bare = told_by(&tls, &origin, &keeping, OPEN);
    assert!(bare.starts_with("HTTP/1.1 200 ") && bare.ends_with(&stars()), "{bare}");
    // Also where the policy has no credential any more.
    let mut spec = keeping.spec.clone();
    spec.rules.remove(0);
    spec.credentials.clear();
    keeping.apply(spec);
    let bare = told_by(&tls, &origin, &keeping, OPEN);
    assert!(bare.starts_with("HTTP/1.1 200 ") && bare.ends_with(&stars()), "{bare}");
}

#[test]
fn events_of_a_stream_come_at_once_and_what_came_before_the_secret_was_sent_is_masked_as_well() {
    let tls = Tls::new();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let origin = tls.origin(Shown::Good, move |mut stream| {
        let Some(request) = read_message(&mut stream) else { return };
        if request.starts_with("GET /api/") {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
            let _ = stream.read(&mut [0; 1]);
            return;
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: first\n\n").unwrap();
        let _ = wait.lock().unwrap().recv();
        let _ = stream.write_all(format!("data: {SECRET}\n\n").as_bytes());
        stream.conn.send_close_notify();
        let _ = stream.flush();
    });
    let keeping = Keeping::new(&tls, Attach::Bearer);
    let mut listens = tls.client(&keeping.world, "web.test", origin.port());
    listens.write_all(OPEN.as_bytes()).unwrap();
    assert!(read_head(&mut listens).starts_with("HTTP/1.1 200 "));
    let mut seen = Vec::new();
    let mut byte = [0; 1];
    while !seen.ends_with(b"data: first\n\n") {
        listens.read_exact(&mut byte).unwrap();
        seen.push(byte[0]);
    }
    // Only now the secret is sent for the first time, by another request.
    assert!(told_by(&tls, &origin, &keeping, GET).ends_with("ok"));
    go.send(()).unwrap();
    while !seen.ends_with(b"\r\n0\r\n\r\n") {
        listens.read_exact(&mut byte).unwrap();
        seen.push(byte[0]);
    }
    let seen = String::from_utf8_lossy(&seen);
    let masked = format!("data: {}\n\n", stars());
    assert!(seen.contains(&masked) && !seen.contains(SECRET), "{seen}");
}

/// The body as it is framed, of a server that sends this, and the rest only when some of it was seen.
fn framed(request: &str, kind: &str, sent: &[u8], rest: &'static [u8]) -> Vec<u8> {
    let tls = Tls::new();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = [format!("{:x}\r\n", sent.len()).as_bytes(), sent, b"\r\n"].concat();
    let origin = tls.origin(Shown::Good, move |mut stream| {
        let Some(_) = read_message(&mut stream) else { return };
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&chunk).unwrap();
        let _ = wait.lock().unwrap().recv();
        let rest = [format!("{:x}\r\n", rest.len()).as_bytes(), rest, b"\r\n0\r\n\r\n"].concat();
        let _ = stream.write_all(&rest);
        let _ = stream.read(&mut [0; 1]);
    });
    let keeping = Keeping::new(&tls, Attach::Bearer);
    let mut client = tls.client(&keeping.world, "web.test", origin.port());
    client.write_all(request.as_bytes()).unwrap();
    assert!(read_head(&mut client).starts_with("HTTP/1.1 200 "));
    let mut seen = Vec::new();
    let mut byte = [0; 1];
    while !seen.ends_with(b"\r\n0\r\n\r\n") {
        client.read_exact(&mut byte).unwrap();
        seen.push(byte[0]);
        if seen.ends_with(b"now") {
            go.send(()).unwrap();
        }
    }
    seen
}

#[test]
fn how_a_stream_is_cut_tells_nothing_of_a_guess() {
    let cut = |guess: &str| {
        let sent = format!("now{}{guess}", ".".repeat(600));
        String::from_utf8(framed(GET, "text/plain", sent.as_bytes(), b".")).unwrap().replace(guess, "?")
    };
    assert_eq!(cut(&SECRET[..9]), cut("ghp_26C7f"));
}

#[test]
fn a_message_of_a_remote_call_comes_at_its_end() {
    // It would wait for ever, for the server sends no more before it was seen.
    let call = "POST /api/1 HTTP/1.1\r\nHost: web.test\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n";
    let seen = framed(call, "application/grpc+proto", b"\0\0\0\0\x09hello now", b"\0\0\0\0\0");
    assert!(String::from_utf8_lossy(&seen).contains("hello now"));
}

#[test]
fn an_answer_like_a_remote_call_s_to_another_request_is_cut_like_all() {
    let (first, second) = SECRET.split_at(20);
    // Whoever chose its beginning chose where its message ends.
    let text = format!("now{}{first}", ".".repeat(600));
    let sent = [&[0][..], &(text.len() as u32).to_be_bytes(), text.as_bytes()].concat();
    let seen = String::from_utf8(framed(GET, "application/grpc", &sent, second.as_bytes())).unwrap();
    assert!(!seen.contains(first) && !seen.contains(second), "{seen:?}");
}
