//! HTTP/2 of a hostile client inside opened TLS, frame by frame: what RFC 9113 forbids ends in its error, floods take
//! neither memory nor the server's time, and nothing that has two meanings reaches a server.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "help for tests")]

mod support;

use std::{
    io::{Read, Write},
    sync::mpsc::Receiver,
};

use support::{
    Origin, World,
    frames::{
        self, ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, Outcome, PADDED, PING, PREFACE,
        PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, WITH_PRIORITY, block, frame, get, put, read_frame,
        request, setting,
    },
    peak,
    tls::{ClientTls, Shown, Tls, inspected},
};

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const FRAME_SIZE_ERROR: u32 = 6;
const COMPRESSION_ERROR: u32 = 9;
const ENHANCE_YOUR_CALM: u32 = 11;

/// How much more memory a flood may take at its peak, in KiB.
const GROWTH: usize = 24 * 1024;

/// A server of HTTP/1.1, so that what passes is written down as lines, and a gateway before it.
struct Scene {
    tls: Tls,
    world: World,
    origin: Origin,
    seen: Receiver<String>,
}

impl Scene {
    fn new() -> Self {
        let tls = Tls::new();
        let (origin, seen) = tls.http(Shown::Good);
        let world = tls.world(inspected());
        Self { tls, world, origin, seen }
    }

    /// A client whose preface and settings went out.
    fn client(&self) -> ClientTls {
        let mut client = self.bare();
        client.write_all(PREFACE).unwrap();
        client.write_all(&frame(SETTINGS, 0, 0, b"")).unwrap();
        client
    }

    fn bare(&self) -> ClientTls {
        self.tls.client_of(&self.world, &["h2"], self.origin.port())
    }

    /// A good request on a connection of its own still has its answer.
    fn still_serves(&self, name: &str) {
        let mut client = self.client();
        client.write_all(&request(1, END_STREAM, &get("/ok/after"))).unwrap();
        assert_eq!(frames::outcome(&mut client), Outcome::Answered(200), "{name}");
        let seen = self.seen.recv_timeout(support::PATIENCE).unwrap();
        assert!(seen.starts_with("GET /ok/after "), "{name}: {seen}");
    }
}

/// A head in two frames, with something between them.
fn interrupted(between: Vec<u8>) -> Vec<u8> {
    let block = block(&get("/ok/1"));
    let (one, two) = block.split_at(5);
    [frame(HEADERS, END_STREAM, 1, one), between, frame(CONTINUATION, END_HEADERS, 1, two)].concat()
}

fn opened(stream: u32) -> Vec<u8> {
    request(stream, 0, &put("/put/1"))
}

/// What RFC 9113 forbids, and what it says comes of it: its section, the bytes behind the client's settings, the end.
fn violations() -> Vec<(&'static str, Vec<u8>, Outcome)> {
    use Outcome::{GoAway, Reset};
    let goaway = |name, bytes, code| (name, bytes, GoAway(code));
    let huge = vec![0; 16_385];
    vec![
        goaway("4.2 a frame longer than agreed", [opened(1), frame(DATA, 0, 1, &huge)].concat(), FRAME_SIZE_ERROR),
        goaway("4.3 a field block that is none", frame(HEADERS, END_HEADERS, 1, &[0xff; 32]), COMPRESSION_ERROR),
        goaway("5.1 data on an idle stream", frame(DATA, END_STREAM, 1, b"x"), PROTOCOL_ERROR),
        goaway("5.1 a reset of an idle stream", frame(RST_STREAM, 0, 1, &[0; 4]), PROTOCOL_ERROR),
        goaway("5.1 a window of an idle stream", frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]), PROTOCOL_ERROR),
        goaway("5.1 a continuation on an idle stream", frame(CONTINUATION, END_HEADERS, 1, b""), PROTOCOL_ERROR),
        goaway("5.1.1 an even stream", request(2, END_STREAM, &get("/ok/1")), PROTOCOL_ERROR),
        goaway(
            "5.1.1 a stream lower than the last",
            [opened(5), request(3, END_STREAM, &get("/ok/1"))].concat(),
            PROTOCOL_ERROR,
        ),
        goaway("6.1 data on stream 0", frame(DATA, END_STREAM, 0, b"x"), PROTOCOL_ERROR),
        goaway("6.1 padding longer than data", [opened(1), frame(DATA, PADDED, 1, &[9, 0])].concat(), PROTOCOL_ERROR),
        goaway(
            "6.2 a head on stream 0",
            frame(HEADERS, END_HEADERS | END_STREAM, 0, &block(&get("/ok/1"))),
            PROTOCOL_ERROR,
        ),
        goaway("6.2 padding longer than a head", frame(HEADERS, END_HEADERS | PADDED, 1, &[200, 0]), PROTOCOL_ERROR),
        goaway("6.3 a priority on stream 0", frame(PRIORITY, 0, 0, &[0, 0, 0, 1, 0]), PROTOCOL_ERROR),
        goaway("6.4 a reset of stream 0", frame(RST_STREAM, 0, 0, &[0; 4]), PROTOCOL_ERROR),
        goaway(
            "6.4 a reset of another length",
            [opened(1), frame(RST_STREAM, 0, 1, &[0; 3])].concat(),
            FRAME_SIZE_ERROR,
        ),
        goaway("6.5 settings on a stream", frame(SETTINGS, 0, 1, b""), PROTOCOL_ERROR),
        goaway("6.5 settings of another length", frame(SETTINGS, 0, 0, b"123"), FRAME_SIZE_ERROR),
        goaway("6.5 an acknowledgement with settings", frame(SETTINGS, ACK, 0, &setting(1, 1)), FRAME_SIZE_ERROR),
        goaway("6.5.2 a push setting of 2", frame(SETTINGS, 0, 0, &setting(2, 2)), PROTOCOL_ERROR),
        goaway("6.5.2 a window too large", frame(SETTINGS, 0, 0, &setting(4, 1 << 31)), FLOW_CONTROL_ERROR),
        goaway("6.5.2 a frame size too small", frame(SETTINGS, 0, 0, &setting(5, 16_383)), PROTOCOL_ERROR),
        goaway("6.5.2 a frame size too large", frame(SETTINGS, 0, 0, &setting(5, 1 << 24)), PROTOCOL_ERROR),
        goaway(
            "6.6 a push of a client",
            [opened(1), frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])].concat(),
            PROTOCOL_ERROR,
        ),
        goaway("6.7 a ping on a stream", frame(PING, 0, 1, &[0; 8]), PROTOCOL_ERROR),
        goaway("6.7 a ping of another length", frame(PING, 0, 0, &[0; 7]), FRAME_SIZE_ERROR),
        goaway("6.8 a farewell on a stream", frame(GOAWAY, 0, 1, &[0; 8]), PROTOCOL_ERROR),
        goaway("6.9 a window of nothing", frame(WINDOW_UPDATE, 0, 0, &[0; 4]), PROTOCOL_ERROR),
        goaway("6.9 a window of another length", frame(WINDOW_UPDATE, 0, 0, &[0; 3]), FRAME_SIZE_ERROR),
        goaway(
            "6.9.1 a window that overflows",
            frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()),
            FLOW_CONTROL_ERROR,
        ),
        (
            "6.9.1 a stream's window that overflows",
            [opened(1), frame(WINDOW_UPDATE, 0, 1, &0x7fff_ffff_u32.to_be_bytes())].concat(),
            Reset(FLOW_CONTROL_ERROR),
        ),
        (
            "6.9 a stream's window of nothing",
            [opened(1), frame(WINDOW_UPDATE, 0, 1, &[0; 4])].concat(),
            Reset(PROTOCOL_ERROR),
        ),
        goaway("6.10 data within a head", interrupted(frame(DATA, 0, 1, b"x")), PROTOCOL_ERROR),
        goaway("6.10 a ping within a head", interrupted(frame(PING, 0, 0, &[0; 8])), PROTOCOL_ERROR),
        goaway("6.10 another head within a head", interrupted(request(3, END_STREAM, &get("/ok/2"))), PROTOCOL_ERROR),
        goaway("6.10 another stream's continuation", interrupted(frame(CONTINUATION, 0, 3, b"")), PROTOCOL_ERROR),
        (
            "5.3.1 a stream that waits for itself",
            frame(
                HEADERS,
                END_HEADERS | END_STREAM | WITH_PRIORITY,
                1,
                &[&[0, 0, 0, 1, 0][..], &block(&get("/ok/1"))].concat(),
            ),
            Reset(PROTOCOL_ERROR),
        ),
    ]
}

#[test]
fn what_the_protocol_forbids_ends_in_its_error() {
    let scene = Scene::new();
    let mut wrong = Vec::new();
    for (name, bytes, expected) in violations() {
        let mut client = scene.client();
        client.write_all(&bytes).unwrap();
        let outcome = frames::outcome(&mut client);
        // A harder end than is due is an end as well (5.4.1), and the library has one code for what it can't read.
        if outcome != expected && outcome != Outcome::GoAway(PROTOCOL_ERROR) {
            wrong.push(format!("{name}: {outcome:?} where {expected:?} is due"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    while scene.seen.try_recv().is_ok() {}
    scene.still_serves("after all of them");
}

#[test]
fn bytes_that_are_no_preface_get_nowhere() {
    let scene = Scene::new();
    for bytes in [&b"GET /ok/1 HTTP/1.1\r\nHost: web.test\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", &[0; 64]] {
        let mut client = scene.bare();
        client.write_all(bytes).unwrap();
        let outcome = frames::outcome(&mut client);
        assert!(matches!(outcome, Outcome::Closed | Outcome::GoAway(PROTOCOL_ERROR)), "{outcome:?}");
    }
    assert_eq!(scene.origin.connections(), 0);
}

/// Writes the same so often, or until the peer takes no more; then reads on.
fn flood(client: &mut ClientTls, bytes: &[u8], times: usize) {
    client.sock.set_write_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
    let batch = bytes.repeat(64);
    for _ in 0..times / 64 {
        if client.write_all(&batch).is_err() {
            break;
        }
    }
    client.sock.set_write_timeout(Some(support::PATIENCE)).unwrap();
}

/// A field of 4,000 bytes that enters the table, and then is named so often.
fn bomb(times: usize) -> Vec<u8> {
    let mut bomb = block(&get("/ok/bomb"));
    bomb.extend([0x40, 1, b'a', 0x7f, 0xa1, 0x1e]);
    bomb.extend(vec![b'x'; 127 + 0x21 + 0x1e * 128]);
    bomb.extend(vec![0xbe; times]);
    bomb
}

#[test]
fn floods_of_frames_end_and_take_no_memory() {
    type Case = (&'static str, fn(&mut ClientTls), &'static [Outcome]);
    use Outcome::{Answered, GoAway};
    const SERVED_OR_ENDED: &[Outcome] = &[Answered(200), GoAway(ENHANCE_YOUR_CALM), Outcome::Closed];
    let cases: [Case; 12] = [
        ("pings", |c| flood(c, &frame(PING, 0, 0, &[7; 8]), 200_000), SERVED_OR_ENDED),
        ("settings", |c| flood(c, &frame(SETTINGS, 0, 0, &setting(4, 70_000)), 100_000), SERVED_OR_ENDED),
        ("empty settings", |c| flood(c, &frame(SETTINGS, 0, 0, b""), 200_000), SERVED_OR_ENDED),
        ("priorities", |c| flood(c, &frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 0]), 200_000), SERVED_OR_ENDED),
        ("windows", |c| flood(c, &frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]), 200_000), SERVED_OR_ENDED),
        ("frames of no known kind", |c| flood(c, &frame(0xbb, 0, 3, b"abc"), 200_000), SERVED_OR_ENDED),
        (
            "empty data",
            |c| {
                c.write_all(&request(1, 0, &put("/put/1"))).unwrap();
                flood(c, &frame(DATA, 0, 1, b""), 200_000);
            },
            SERVED_OR_ENDED,
        ),
        (
            "data of one byte",
            |c| {
                c.write_all(&request(1, 0, &put("/put/1"))).unwrap();
                flood(c, &frame(DATA, 0, 1, b"x"), 60_000);
            },
            SERVED_OR_ENDED,
        ),
        (
            "padding without data",
            |c| {
                c.write_all(&request(1, 0, &put("/put/1"))).unwrap();
                flood(c, &frame(DATA, PADDED, 1, &[&[255][..], &[0; 255]].concat()), 20_000);
            },
            SERVED_OR_ENDED,
        ),
        (
            "continuations",
            |c| {
                c.write_all(&frame(HEADERS, 0, 1, &block(&get("/ok/1")))).unwrap();
                flood(c, &frame(CONTINUATION, 0, 1, &block(&[("a", "b")])), 200_000);
            },
            &[GoAway(ENHANCE_YOUR_CALM), GoAway(PROTOCOL_ERROR), Outcome::Closed],
        ),
        (
            "empty continuations",
            |c| {
                c.write_all(&frame(HEADERS, 0, 1, &block(&get("/ok/1")))).unwrap();
                flood(c, &frame(CONTINUATION, 0, 1, b""), 200_000);
            },
            &[GoAway(ENHANCE_YOUR_CALM), GoAway(PROTOCOL_ERROR), Outcome::Closed],
        ),
        (
            "a field of the table named again and again",
            |c| {
                c.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb(12_000))).unwrap();
            },
            &[Answered(431), Outcome::Reset(PROTOCOL_ERROR), GoAway(ENHANCE_YOUR_CALM), GoAway(COMPRESSION_ERROR)],
        ),
    ];
    let scene = Scene::new();
    for (name, attack, expected) in cases {
        let mut client = scene.client();
        let before = peak();
        attack(&mut client);
        let _ = client.write_all(&request(3, END_STREAM, &get("/ok/3")));
        let outcome = frames::outcome(&mut client);
        let grown = peak().saturating_sub(before);
        println!("{name}: {outcome:?}, {grown} KiB");
        assert!(expected.contains(&outcome), "{name}: {outcome:?}");
        assert!(grown < GROWTH, "{name}: {grown} KiB more at the peak");
        drop(client);
        while scene.seen.try_recv().is_ok() {}
    }
    scene.still_serves("after all of them");
}

#[test]
fn requests_that_are_taken_back_end_the_connection() {
    const TIMES: u32 = 10_000;
    let scene = Scene::new();
    // At once: most are gone before anybody looks at them.
    let mut client = scene.client();
    let mut bytes = Vec::new();
    for at in 0..TIMES {
        let stream = at * 2 + 1;
        bytes.extend(request(stream, END_STREAM, &get("/ok/1")));
        bytes.extend(frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
    }
    let _ = client.write_all(&bytes);
    let outcome = ended(&mut client);
    assert!(matches!(outcome, Outcome::GoAway(ENHANCE_YOUR_CALM) | Outcome::Closed), "{outcome:?}");
    // One after the other, each when it was taken up.
    let mut client = scene.client();
    let mut sent = 0;
    for at in 0..TIMES {
        let stream = at * 2 + 1;
        let taken = client.write_all(&request(stream, END_STREAM, &get("/ok/1"))).is_ok()
            && is_answered_ping(&mut client)
            && client.write_all(&frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())).is_ok();
        if !taken {
            break;
        }
        sent = at;
    }
    assert!(sent < TIMES - 1, "nobody ended it");
    drop(client);
    let mut fresh = scene.client();
    fresh.write_all(&request(1, END_STREAM, &get("/ok/after"))).unwrap();
    assert_eq!(frames::outcome(&mut fresh), Outcome::Answered(200));
}

/// Reads to the end of a connection.
fn ended(client: &mut ClientTls) -> Outcome {
    loop {
        match frames::outcome(client) {
            Outcome::Answered(_) | Outcome::Reset(_) => {}
            outcome @ (Outcome::GoAway(_) | Outcome::Closed) => return outcome,
        }
    }
}

fn is_answered_ping(client: &mut ClientTls) -> bool {
    if client.write_all(&frame(PING, 0, 0, b"taken up")).is_err() {
        return false;
    }
    while let Some(frame) = read_frame(client) {
        match frame.kind {
            PING if frame.flags & ACK != 0 => return true,
            GOAWAY => return false,
            _ => {}
        }
    }
    false
}

#[test]
fn answers_that_nobody_takes_wait_at_their_server() {
    const STREAMS: u32 = 100;
    let tls = Tls::new();
    let origin = tls.origin(Shown::Good, |mut stream| {
        while support::tls::read_message(&mut stream).is_some() {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n");
            let piece = vec![0; 64 * 1024];
            for _ in 0..1024 {
                if stream.write_all(&piece).is_err() {
                    return;
                }
            }
        }
    });
    let world = tls.world(inspected());
    let mut client = tls.client_of(&world, &["h2"], origin.port());
    client.write_all(&[PREFACE.to_vec(), frame(SETTINGS, 0, 0, &setting(4, 0))].concat()).unwrap();
    let before = peak();
    for at in 0..STREAMS {
        client.write_all(&request(at * 2 + 1, END_STREAM, &get("/ok/big"))).unwrap();
        assert_eq!(frames::outcome(&mut client), Outcome::Answered(200));
    }
    assert!(is_answered_ping(&mut client), "the connection itself is not held up");
    let grown = peak().saturating_sub(before);
    println!("{grown} KiB for {STREAMS} answers that wait");
    assert!(grown < 48 * 1024, "{grown} KiB more at the peak");
    let mut rest = [0; 9];
    client.write_all(&frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 5])).unwrap();
    client.read_exact(&mut rest).unwrap();
    assert_eq!((&rest[..4], &rest[5..]), (&[0, 0, 5, DATA][..], &[0, 0, 0, 1][..]), "what was asked for, and no more");
}

/// What comes on stream 1 until its answer's end, and until the connection answers a ping that is sent `then`.
fn until_ping(client: &mut ClientTls, then: &[u8]) -> Vec<Frame> {
    let mut seen = Vec::new();
    while let Some(frame) = read_frame(client) {
        if frame.stream == 1 && frame.kind == DATA && frame.flags & END_STREAM != 0 {
            client.write_all(then).unwrap();
            client.write_all(&frames::frame(PING, 0, 0, &[5; 8])).unwrap();
        }
        match (frame.kind, frame.stream) {
            (PING, 0) if frame.payload == [5; 8] => return seen,
            (_, 1) => seen.push(frame),
            _ => {}
        }
    }
    panic!("the connection ended: {seen:?}");
}

#[test]
fn a_refused_request_may_end_its_body_behind_the_answer() {
    let scene = Scene::new();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let cases = [(nobody, "/put/1", 502), (scene.origin.port(), "/no", 403)];
    for (port, path, status) in cases {
        let mut client = scene.tls.client_of(&scene.world, &["h2"], port);
        client.write_all(PREFACE).unwrap();
        client.write_all(&frame(SETTINGS, 0, 0, b"")).unwrap();
        client.write_all(&request(1, 0, &put(path))).unwrap();
        let seen = until_ping(&mut client, &frame(DATA, 0, 1, &[b'x'; 9000]));
        let kinds: Vec<u8> = seen.iter().map(|frame| frame.kind).filter(|kind| *kind != WINDOW_UPDATE).collect();
        assert_eq!((frames::status(&seen[0].payload), &kinds[..]), (status, &[HEADERS, DATA][..]), "{seen:?}");
        // It ends here, and the stream with it; another follows.
        client.write_all(&frame(DATA, END_STREAM, 1, b"last")).unwrap();
        client.write_all(&request(3, END_STREAM, &get("/no"))).unwrap();
        let next = read_frame(&mut client).unwrap();
        assert_eq!((next.kind, next.stream), (HEADERS, 3), "{next:?}");
    }
    assert!(scene.seen.try_recv().is_err());
}

#[test]
fn a_refused_request_without_end_is_reset_without_an_error() {
    let scene = Scene::new();
    let mut client = scene.client();
    client.write_all(&request(1, 0, &put("/no"))).unwrap();
    assert_eq!(frames::outcome(&mut client), Outcome::Answered(403));
    let piece = frame(DATA, 0, 1, &[b'x'; 16_000]);
    let mut window = 65_535;
    let code = loop {
        if window >= 16_000 && client.write_all(&piece).is_ok() {
            window -= 16_000;
            continue;
        }
        let frame = read_frame(&mut client).unwrap();
        match (frame.kind, frame.stream) {
            (RST_STREAM, 1) => break frame.payload,
            (WINDOW_UPDATE, 1) => window += u32::from_be_bytes(frame.payload.try_into().unwrap()),
            _ => {}
        }
    };
    assert_eq!(code, [0; 4], "NO_ERROR (RFC 9113, 8.1)");
    scene.still_serves("after it");
}
