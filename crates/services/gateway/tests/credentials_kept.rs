//! What outlives a policy and a secret's use: secrets are looked for as long as a server may tell them, connections serve
//! the policy that they were made under, and the sandbox is told nothing of where secrets lie.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "help for tests")]

mod support;

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, mpsc::channel},
};

use credentials::{Clock, Credentials, Patience, Surroundings};
use flate2::{Compression, write::GzEncoder};
use gateway::{Secrets, Settings};
use policy::model::{
    Action, PolicySpec, Rule,
    credential::{Attach, Aws, AwsKeys, Credential, Source, Stored},
};
use support::{
    Origin, PATIENCE, World, deny_hosts,
    frames::{END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS, frame, get, greet, read_frame, request},
    loopback,
    secrets::{Keeping, SECRET, credential, name},
    tls::{ClientTls, Shown, Tls, exchange, inspected, read_message},
};

const OPEN: &str = "GET /open/1 HTTP/1.1\r\nHost: web.test\r\n\r\n";

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// A server that tells, compressed where it is asked to be, the first secret that it was sent.
fn telling(tls: &Tls, compressed: bool) -> Origin {
    let first = Mutex::new(None);
    tls.origin(Shown::Good, move |mut stream| {
        let Some(head) = read_message(&mut stream) else { return };
        let mut fields = head.lines().filter_map(|line| line.split_once(": Bearer "));
        let told = {
            let mut first = first.lock().unwrap();
            if first.is_none() {
                *first = fields.next().map(|(_, token)| token.to_owned());
            }
            first.clone().unwrap_or_default()
        };
        let (coding, body) = match compressed {
            // So long that it is worth compressing: a secret alone is stored as it is.
            true => ("Content-Encoding: gzip\r\n", gzip(format!("{told}{}", " and more".repeat(200)).as_bytes())),
            false => ("", told.into_bytes()),
        };
        let length = body.len();
        let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n{coding}Content-Length: {length}\r\n\r\n");
        let _ = stream.write_all(&[head.as_bytes(), &body].concat());
        stream.conn.send_close_notify();
        let _ = stream.flush();
    })
}

/// The answer, to the end of the connection.
fn whole(mut client: ClientTls, request: &str) -> String {
    client.write_all(request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut bytes = Vec::new();
    let _ = client.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A run with so many credentials, each of a path of its own.
fn many(tls: &Tls, count: usize) -> World {
    let mut specs: BTreeMap<_, Credential> = BTreeMap::new();
    let mut rules = Vec::new();
    for at in 0..count {
        let file = tls.folder().join(format!("token{at}"));
        std::fs::write(&file, format!("{SECRET}{at:03}\n")).unwrap();
        let mut spec = credential(Source::Stored(Stored::File(file)), Attach::Bearer);
        spec.bind.paths = vec![format!("/api/{at}")];
        specs.insert(name(&format!("token{at}")), spec);
        let named = Some(name(&format!("token{at}")));
        let priority = i64::try_from(at).unwrap() + 10;
        rules.push(Rule { credential: named, ..loopback(&format!("r{at}"), priority, Action::Allow, &["web.test"]) });
    }
    let surroundings = Surroundings {
        policy_dir: tls.folder().to_owned(),
        environment: BTreeMap::new(),
        home: tls.folder().to_owned(),
        roots: None,
        writable_by_workload: Vec::new(),
        clock: Clock::system(),
        patience: Patience::default(),
    };
    let credentials = Some(Arc::new(Credentials::open(&specs, surroundings).unwrap()));
    let secrets = Secrets { credentials, ..Secrets::default() };
    let world = World::with(Vec::new(), None, |settings| Settings { secrets, ..tls.settings(settings) });
    world.apply_spec(PolicySpec { rules, credentials: specs, ..PolicySpec::default() });
    world
}

#[test]
fn a_secret_in_use_is_not_forgotten_for_those_of_others() {
    let tls = Tls::new();
    let origin = telling(&tls, false);
    let world = many(&tls, 80);
    for at in 0..80 {
        let client = tls.client(&world, "web.test", origin.port());
        let told = whole(client, &format!("GET /api/{at} HTTP/1.1\r\nHost: web.test\r\n\r\n"));
        assert!(told.starts_with("HTTP/1.1 200 ") && !told.contains(SECRET), "{at}: {told}");
    }
}

#[test]
fn a_host_that_was_told_a_secret_is_looked_through_under_a_policy_that_only_signs() {
    let tls = Tls::new();
    let origin = telling(&tls, true);
    let keeping = Keeping::new(&tls, Attach::Bearer);
    let told = whole(tls.client(&keeping.world, "web.test", origin.port()), &OPEN.replace("open", "api"));
    assert!(told.starts_with("HTTP/1.1 200 ") && told.contains(&"*".repeat(SECRET.len())), "{told}");
    let keys = AwsKeys::Static {
        access_key_id: "AKIAREALREALREALREAL".to_owned(),
        secret_access_key: Stored::File(keeping.file.clone()),
    };
    let aws = Aws { keys, assume_role: None, sts_endpoint: None, region: "eu-central-1".to_owned() };
    let attach = Attach::SigV4 { service: "s3".to_owned(), region: "eu-central-1".to_owned() };
    let mut spec = keeping.spec.clone();
    spec.credentials.insert(name("token"), credential(Source::Aws(Box::new(aws)), attach));
    keeping.apply(spec);
    let told = whole(tls.client(&keeping.world, "web.test", origin.port()), OPEN);
    assert!(told.starts_with("HTTP/1.1 200 "), "{told}");
    assert!(told.contains(&"*".repeat(SECRET.len())), "it is decoded and masked: {told}");
}

#[test]
fn its_use_stands_in_the_record_before_it_leaves() {
    let tls = Tls::new();
    let record = Arc::new(OnceLock::new());
    let (tell, told) = channel();
    let known: Arc<OnceLock<PathBuf>> = Arc::clone(&record);
    let origin = tls.origin(Shown::Good, move |mut stream| {
        while read_message(&mut stream).is_some() {
            let text = std::fs::read_to_string(known.get().unwrap()).unwrap();
            let _ = tell.send(["flow.decided", "credential.used"].map(|event| text.matches(event).count()));
            if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_err() {
                return;
            }
        }
    });
    let keeping = Keeping::new(&tls, Attach::Bearer);
    record.set(keeping.world.events_file()).unwrap();
    let mut client = tls.client(&keeping.world, "web.test", origin.port());
    for at in 1..4 {
        assert!(exchange(&mut client, &OPEN.replace("open", "api")).ends_with("ok"));
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), [at, at]);
    }
}

#[test]
fn the_sandbox_is_not_told_where_a_secret_lies() {
    let tls = Tls::new();
    let (origin, _heads) = tls.http(Shown::Good);
    let keeping = Keeping::new(&tls, Attach::Bearer);
    std::fs::remove_file(&keeping.file).unwrap();
    let mut client = tls.client(&keeping.world, "web.test", origin.port());
    let told = exchange(&mut client, &OPEN.replace("open", "api"));
    let place = keeping.file.to_str().unwrap();
    assert!(told.starts_with("HTTP/1.1 502 ") && told.contains("credential `token` could not be obtained"), "{told}");
    assert!(!told.contains(place) && !told.contains(tls.folder().to_str().unwrap()), "{told}");
    let event = keeping.world.event("flow.ended", |event| event["ended_by"] == "unreachable");
    assert!(event.to_string().contains(place), "the record says where: {event}");
}

/// Waits for the answer of a stream.
fn answered(client: &mut ClientTls, stream: u32) {
    loop {
        let frame = read_frame(client).unwrap();
        if frame.kind == HEADERS && frame.stream == stream {
            assert_eq!(frame.payload.first(), Some(&0x88), "200");
            return;
        }
    }
}

#[test]
fn a_client_of_http2_has_a_new_connection_to_the_server_under_a_new_policy() {
    let tls = Tls::new();
    let origin = tls.origin_of(Shown::Good, "h2", |mut stream| {
        if greet(&mut stream, b"").is_none() {
            return;
        }
        while let Some(got) = read_frame(&mut stream) {
            let answer = frame(HEADERS, END_HEADERS | END_STREAM, got.stream, &[0x88]);
            if got.kind == HEADERS && stream.write_all(&answer).is_err() {
                return;
            }
        }
    });
    let world = tls.world(inspected());
    let mut client = tls.client_of(&world, &["h2"], origin.port());
    client.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, b"")].concat()).unwrap();
    for (stream, connections) in [(1, 1), (3, 1), (5, 2), (7, 2)] {
        if stream == 5 {
            world.apply([inspected(), vec![deny_hosts("other", 5, &["other.test"])]].concat());
        }
        client.write_all(&request(stream, END_STREAM, &get("/ok/1"))).unwrap();
        answered(&mut client, stream);
        assert_eq!(origin.connections(), connections, "{stream}");
    }
}
