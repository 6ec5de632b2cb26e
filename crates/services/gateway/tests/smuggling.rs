//! The tables of `cases/`: each payload is refused with a reason, or the server sees exactly the requests that the
//! table says. HTTP/1.1 inside opened TLS and in plain, HTTP/2 on its way down to HTTP/1.1.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "help for tests")]

mod support;

use std::{
    io::{Read, Write},
    sync::mpsc::{Receiver, Sender, channel},
};

use serde::Deserialize;
use support::{
    Origin, World,
    frames::{self, DATA, END_HEADERS, END_STREAM, HEADERS, Outcome, PREFACE, SETTINGS, block, frame},
    tls::{Shown, Tls, inspected, read_head, read_request},
};

/// A payload; each character of `send` is a byte.
#[derive(Debug, Deserialize)]
struct Case {
    name: String,
    send: String,
    /// What the server sees: method, target, body.
    #[serde(default)]
    origin: Vec<String>,
    /// How the last answer refuses: a status, or the reason of a 400; `null` for a 400 of any.
    #[serde(default, deserialize_with = "present")]
    refused: Option<Option<String>>,
    /// Plain HTTP: `reset` where it has no answer, `left` where what comes last is not taken up.
    #[serde(default)]
    plain: Option<String>,
}

fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("cases/smuggling.json")).unwrap()
}

/// Reads requests by a reader of its own and tells them; answers each.
fn serve(stream: &mut (impl Read + Write), tell: &Sender<String>) {
    while let Some((head, body)) = read_request(stream) {
        let target = head.lines().next().unwrap().rsplit_once(' ').unwrap().0;
        tell.send(format!("{target} {}", String::from_utf8_lossy(&body))).unwrap();
        if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_err() {
            return;
        }
    }
}

/// Sends a case and reads as many answers as it has; then what the server saw is all.
fn check(case: &Case, client: &mut (impl Read + Write), seen: &Receiver<String>, world: &World) {
    let _ = client.write_all(&bytes(&case.send));
    let name = &case.name;
    for request in &case.origin {
        let answer = answer(client);
        assert!(answer.starts_with("HTTP/1.1 200 ") || answer.starts_with("HTTP/1.0 200 "), "{name}: {answer}");
        assert_eq!(&seen.recv_timeout(support::PATIENCE).unwrap(), request, "{name}");
    }
    match &case.refused {
        None => {}
        // Within a body the answer may be a torn connection: the record says why.
        Some(Some(reason)) if reason.starts_with("body:") => {
            let answer = answer(client);
            assert!(!answer.starts_with("HTTP/1.1 2"), "{name}: {answer}");
        }
        Some(Some(status)) if status.parse::<u16>().is_ok() => {
            let answer = answer(client);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {answer}");
        }
        Some(reason) => {
            let answer = answer(client);
            assert!(answer.starts_with("HTTP/1.1 400 "), "{name}: {answer}");
            let reason = reason.as_deref().unwrap_or("\"detail\":\"");
            assert!(answer.contains(reason), "{name}: {answer}");
            world.event("flow.decided", |event| event["rule"] == "guard:malformed");
            let mut rest = Vec::new();
            let _ = client.read_to_end(&mut rest);
            assert!(rest.is_empty(), "{name}: more after the refusal: {}", rest.escape_ascii());
        }
    }
    assert!(seen.try_recv().is_err(), "{name}: the server saw more");
}

fn answer(client: &mut impl Read) -> String {
    let head = read_head(client);
    let length = head.to_ascii_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    // What is torn is told by what is missing.
    let _ = client.read_exact(&mut body);
    head + &String::from_utf8_lossy(&body)
}

#[test]
fn inside_tls() {
    let tls = Tls::new();
    for case in cases() {
        let (tell, seen) = channel();
        let origin = tls.origin(Shown::Good, move |mut stream| serve(&mut stream, &tell));
        let world = tls.world(inspected());
        let mut client = tls.client(&world, "web.test", origin.port());
        check(&case, &mut client, &seen, &world);
        if case.origin.is_empty()
            && !case
                .refused
                .as_ref()
                .is_some_and(|reason| reason.as_ref().is_some_and(|reason| reason.starts_with("body:")))
        {
            assert_eq!(origin.connections(), 0, "{}", case.name);
        }
    }
}

#[test]
fn in_plain_http() {
    for case in cases() {
        let (tell, seen) = channel();
        if case.plain.as_deref() == Some("reset") {
            let world = World::new(inspected());
            let mut client = world.granted("web.test:1");
            let _ = client.write_all(&bytes(&case.send));
            assert!(support::is_refused(&mut client), "{}", case.name);
            continue;
        }
        let case = match case.plain.as_deref() {
            Some("left") => Case { refused: None, ..case },
            Some(_) | None => case,
        };
        let origin = Origin::start(move |mut stream| serve(&mut stream, &tell));
        let world = World::new(inspected());
        let mut client = world.granted(&format!("web.test:{}", origin.port()));
        check(&case, &mut client, &seen, &world);
    }
}

/// A server that answers as soon as it has a head, and then passes over the body that the head says, as most do.
fn answer_early(stream: &mut (impl Read + Write), tell: &Sender<String>) {
    loop {
        let head = read_head(stream);
        let Some(line) = head.lines().next().filter(|_| head.ends_with("\r\n\r\n")) else { return };
        tell.send(line.to_owned()).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno";
        if stream.write_all(answer).is_err() || stream.read_exact(&mut vec![0; length.unwrap_or(0)]).is_err() {
            return;
        }
    }
}

#[test]
fn a_handshake_that_is_not_agreed_to_makes_no_request_of_what_follows() {
    let (tell, seen) = channel();
    let origin = Origin::start(move |mut stream| answer_early(&mut stream, &tell));
    let world = World::new(inspected());
    let mut client = world.granted(&format!("web.test:{}", origin.port()));
    let front = "GET /ok/2 HTTP/1.1\r\nhost: web.test\r\nx: ";
    let sent = format!(
        "GET /ok/1 HTTP/1.1\r\nhost: web.test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         content-length: {}\r\n\r\n{front}GET /denied HTTP/1.1\r\n\r\n",
        front.len()
    );
    let _ = client.write_all(sent.as_bytes());
    let _ = client.read_to_end(&mut Vec::new());
    let seen: Vec<String> = seen.try_iter().collect();
    assert!(!seen.iter().any(|line| line.contains("/denied")), "{seen:?}");
}

#[test]
fn in_plain_http_a_body_that_the_server_leaves_unread_is_no_request() {
    let hidden = "DELETE /denied HTTP/1.1\r\nhost: web.test\r\n\r\n";
    let length = hidden.len();
    let sized = format!("PUT /put/1 HTTP/1.1\r\nhost: web.test\r\ncontent-length: {length}\r\n\r\n{hidden}");
    let chunked = format!(
        "PUT /put/1 HTTP/1.1\r\nhost: web.test\r\ntransfer-encoding: chunked\r\n\r\n{length:x}\r\n{hidden}\r\n0\r\n\r\n"
    );
    let get = "GET /ok/1 HTTP/1.1\r\nhost: web.test\r\n\r\n";
    for (sent, due) in [(sized.clone(), 1), (chunked, 1), (format!("{get}{sized}"), 2), (format!("{sized}{get}"), 1)] {
        let (tell, seen) = channel();
        // Answers each head that it finds, and looks for the next right behind.
        let origin = Origin::start(move |mut stream| {
            loop {
                let head = read_head(&mut stream);
                let last = head.to_ascii_lowercase().contains("\r\nconnection: close\r\n");
                let Some(line) = head.lines().next() else { return };
                tell.send(line.to_owned()).unwrap();
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                if stream.write_all(answer).is_err() || last {
                    return;
                }
            }
        });
        let world = World::new(inspected());
        let mut client = world.granted(&format!("web.test:{}", origin.port()));
        client.write_all(sent.as_bytes()).unwrap();
        for _ in 0..due {
            assert!(answer(&mut client).starts_with("HTTP/1.1 200 "), "{sent}");
        }
        let _ = client.shutdown(std::net::Shutdown::Write);
        let _ = client.read_to_end(&mut Vec::new());
        let seen: Vec<String> = seen.try_iter().collect();
        assert_eq!(seen.len(), due, "{sent}: {seen:?}");
    }
}

/// A head in fields; each character is a byte.
#[derive(Debug, Deserialize)]
struct Http2Case {
    name: String,
    fields: Vec<(String, String)>,
    data: Option<String>,
    /// A status, or `reset` and its code.
    outcome: String,
    /// What the server sees.
    origin: Option<String>,
}

fn bytes(text: &str) -> Vec<u8> {
    text.chars().map(|byte| u8::try_from(u32::from(byte)).unwrap()).collect()
}

#[test]
fn from_http2_down_to_http1() {
    let cases: Vec<Http2Case> = serde_json::from_str(include_str!("cases/smuggling_http2.json")).unwrap();
    let tls = Tls::new();
    let (tell, seen) = channel();
    let origin = tls.origin(Shown::Good, move |mut stream| serve(&mut stream, &tell));
    let world = tls.world(inspected());
    let mut wrong = Vec::new();
    for case in cases {
        let mut client = tls.client_of(&world, &["h2"], origin.port());
        let fields: Vec<_> = case.fields.iter().map(|(name, value)| (bytes(name), bytes(value))).collect();
        let end = if case.data.is_none() { END_STREAM } else { 0 };
        let mut sent = [PREFACE.to_vec(), frame(SETTINGS, 0, 0, b"")].concat();
        sent.extend(frame(HEADERS, END_HEADERS | end, 1, &block(&fields)));
        sent.extend(case.data.iter().flat_map(|data| frame(DATA, END_STREAM, 1, data.as_bytes())));
        client.write_all(&sent).unwrap();
        let outcome = match frames::outcome(&mut client) {
            Outcome::Answered(status) => status.to_string(),
            Outcome::Reset(code) => format!("reset {code}"),
            Outcome::GoAway(code) => format!("go away {code}"),
            Outcome::Closed => "closed".to_owned(),
        };
        let origin = case.origin.is_some().then(|| seen.recv_timeout(support::PATIENCE).unwrap_or_default());
        if (&outcome, &origin) != (&case.outcome, &case.origin) {
            wrong
                .push(format!("{}: {outcome}, {origin:?} where {}, {:?} is due", case.name, case.outcome, case.origin));
        }
        if let Ok(more) = seen.try_recv() {
            wrong.push(format!("{}: the server saw {more:?}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
