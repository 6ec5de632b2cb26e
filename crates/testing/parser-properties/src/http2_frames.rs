//! HTTP/2 inside opened TLS, against a whole gateway on loopback: whatever frames come, each stream has one verdict, what
//! was not allowed reaches no server, and the next client is served. A panic of any thread ends a fuzzer; memory is bounded
//! by its `-rss_limit_mb`.

/// The gateway and its surroundings, as the gateway's own tests have them.
#[path = "../../../services/gateway/tests/support/mod.rs"]
mod support;

use std::{
    collections::BTreeMap,
    io::Write,
    sync::{
        LazyLock, Mutex, PoisonError,
        mpsc::{Receiver, channel},
    },
};

use support::{
    Origin, World,
    frames::{self, ACK, END_STREAM, HEADERS, PING, PREFACE, SETTINGS, frame, get, read_frame, status},
    tls::{ClientTls, Shown, Tls, inspected, read_request},
};

/// `web.test` may be sent GET under `/ok` and PUT under `/put`.
struct Scene {
    tls: Tls,
    world: World,
    origin: Origin,
    seen: Receiver<String>,
}

static SCENE: LazyLock<Mutex<Scene>> = LazyLock::new(|| Mutex::new(Scene::new()));

/// A choice of the beginning and of the pieces that are sent at once, and frames.
pub(crate) fn inspected_frames(bytes: &[u8]) {
    let Some((choice, frames)) = crate::split_choice(bytes) else { return };
    let scene = SCENE.lock().unwrap_or_else(PoisonError::into_inner);
    scene.send(choice, frames);
    scene.still_serves();
}

impl Scene {
    fn new() -> Self {
        let tls = Tls::new();
        let (tell, seen) = channel();
        let origin = tls.origin(Shown::Good, move |mut stream| {
            while let Some((head, _)) = read_request(&mut stream) {
                let told = tell.send(head);
                if told.is_err() || stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_err() {
                    return;
                }
            }
        });
        let world = tls.world(inspected());
        Self { tls, world, origin, seen }
    }

    fn client(&self) -> ClientTls {
        self.tls.client_of(&self.world, &["h2"], self.origin.port())
    }

    fn send(&self, choice: u8, frames: &[u8]) {
        let mut client = self.client();
        let piece = match choice >> 1 {
            0 => usize::MAX,
            size => usize::from(size),
        };
        let mut bytes = if choice & 1 == 0 { start() } else { Vec::new() };
        bytes.extend_from_slice(frames);
        for piece in bytes.chunks(piece.min(bytes.len()).max(1)) {
            // It may have been let go of.
            let _ = client.write_all(piece);
        }
        let _ = client.write_all(&frame(PING, 0, 0, b"at last."));
        let _ = client.sock.shutdown(std::net::Shutdown::Write);
        let mut verdicts: BTreeMap<u32, u16> = BTreeMap::new();
        while let Some(frame) = read_frame(&mut client) {
            if frame.kind == PING && frame.flags & ACK != 0 && frame.payload == b"at last." {
                break;
            }
            // Trailers are a second block, which has no status.
            if frame.kind == HEADERS && frame.payload.first().is_some_and(|first| first & 0x80 != 0 || *first == 8) {
                let status = status(&frame.payload);
                let before = if status < 200 { None } else { verdicts.insert(frame.stream, status) };
                assert_eq!(before, None, "a second verdict of stream {}: {status}", frame.stream);
            }
        }
        self.check();
    }

    /// What the server saw was allowed, all of it.
    fn check(&self) {
        for seen in self.seen.try_iter() {
            let allowed = seen.starts_with("GET /ok/") || seen.starts_with("PUT /put/");
            let lower = seen.to_ascii_lowercase();
            assert!(allowed && lower.contains("\r\nhost: web.test\r\n"), "the server saw {seen:?}");
            assert_eq!(lower.matches("\nhost:").count(), 1, "the server saw {seen:?}");
        }
    }

    fn still_serves(&self) {
        let mut client = self.client();
        client.write_all(&start()).expect("a connection");
        client.write_all(&frames::request(1, END_STREAM, &get("/ok/after"))).expect("a connection");
        assert_eq!(frames::outcome(&mut client), frames::Outcome::Answered(200));
        self.check();
    }
}

fn start() -> Vec<u8> {
    [PREFACE.to_vec(), frame(SETTINGS, 0, 0, b"")].concat()
}
