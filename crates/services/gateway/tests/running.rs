//! What changes while a gateway runs: the policy, the record, the load, a person's answers, the end.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "help for tests")]

mod support;

use std::{
    collections::HashMap,
    io::{Read, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use gateway::{Answer, Question, Reply, Settings};
use policy::model::Action;
use support::{Origin, PATIENCE, World, is_refused, loopback, methods, read_head, read_response};

fn ping(stream: &mut std::net::TcpStream) {
    stream.write_all(b"\x00ping").unwrap();
    let mut back = [0; 5];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"\x00ping");
}

#[test]
fn a_new_policy_cuts_what_it_denies_and_disturbs_nothing_else() {
    let kept_origin = Origin::echo();
    let cut_origin = Origin::echo();
    let world = World::new(vec![loopback("local", 10, Action::Allow, &[])]);
    let mut cut: Vec<_> = (0..20).map(|_| world.granted(&cut_origin.address.to_string())).collect();
    cut.iter_mut().for_each(ping);

    // One that stays allowed moves bytes all the while and loses none.
    let mut kept = world.granted(&kept_origin.address.to_string());
    ping(&mut kept);
    let stop = Arc::new(AtomicBool::new(false));
    let (mut writer, mut reader) = (kept.try_clone().unwrap(), kept);
    let stopped = Arc::clone(&stop);
    let writing = thread::spawn(move || {
        let block: Vec<u8> = (0..=250).collect();
        let mut written = 0;
        while !stopped.load(Ordering::SeqCst) || written < 1 << 20 {
            writer.write_all(&block).unwrap();
            written += block.len();
        }
        writer.shutdown(std::net::Shutdown::Write).unwrap();
        written
    });
    let reading = thread::spawn(move || {
        let mut buffer = [0; 8192];
        let mut at = 0;
        loop {
            let count = reader.read(&mut buffer).unwrap();
            if count == 0 {
                return at;
            }
            for byte in &buffer[..count] {
                assert_eq!(usize::from(*byte), at % 251);
                at += 1;
            }
        }
    });

    let mut deny = loopback("no-more", 5, Action::Deny, &[]);
    deny.ports = vec![(cut_origin.port(), cut_origin.port())];
    let applied = world.apply(vec![deny, loopback("local", 10, Action::Allow, &[])]);
    assert_eq!((applied.revision.0, applied.rejudged, applied.cut), (2, 21, 20));
    for stream in &mut cut {
        assert!(is_refused(stream));
    }
    let ended = world.event("flow.ended", |event| event["ended_by"] == "policy");
    assert_eq!((&ended["revision"], &ended["ended_revision"]), (&"1".into(), &"2".into()));
    assert_eq!(ended["rule"], "no-more");
    stop.store(true, Ordering::SeqCst);
    assert_eq!(writing.join().unwrap(), reading.join().unwrap());
    assert_eq!(world.gateway.summary().cut, 20);
}

/// Sends numbered blocks and compares what comes back, until told to stop. How many bytes came back as they were sent.
fn flow(mut stream: std::net::TcpStream, stop: &AtomicBool) -> usize {
    let (mut moved, mut got) = (0, vec![0; 8192]);
    while !stop.load(Ordering::SeqCst) || moved == 0 {
        let sent: Vec<u8> = (moved..moved + got.len()).map(|at| u8::try_from(at % 251).unwrap()).collect();
        stream.write_all(&sent).unwrap();
        stream.read_exact(&mut got).unwrap();
        assert!(sent == got, "a byte was lost or changed near {moved}");
        moved += got.len();
    }
    moved
}

#[test]
fn many_cuts_are_each_recorded_once_and_take_no_byte_from_the_others() {
    const CUT: usize = 150;
    let (kept_origin, cut_origin) = (Origin::echo(), Origin::echo());
    let allow = || loopback("local", 10, Action::Allow, &[]);
    let world = World::new(vec![allow()]);
    let stop = Arc::new(AtomicBool::new(false));
    let streams: Vec<_> = (0..6)
        .map(|_| {
            let (stream, stop) = (world.granted(&kept_origin.address.to_string()), Arc::clone(&stop));
            thread::spawn(move || flow(stream, &stop))
        })
        .collect();
    for round in 1..=3 {
        let mut cut: Vec<_> = (0..CUT).map(|_| world.granted(&cut_origin.address.to_string())).collect();
        cut.iter_mut().for_each(ping);
        let mut deny = loopback("no-more", 5, Action::Deny, &[]);
        deny.ports = vec![(cut_origin.port(), cut_origin.port())];
        let applied = world.apply(vec![deny, allow()]);
        assert_eq!((applied.rejudged, applied.cut), (6 + CUT as u64, CUT as u64), "round {round}");
        assert!(cut.iter_mut().all(is_refused), "round {round}");
        world.apply(vec![allow()]);
    }
    stop.store(true, Ordering::SeqCst);
    for stream in streams {
        assert!(stream.join().unwrap() > 0);
    }
    // When `apply` has returned, all of it is in the record: each once, behind its decisions, with its bytes.
    let events = world.events();
    let mut decided = HashMap::new();
    let mut ended = 0;
    for event in events {
        let flow = event["flow"].to_string();
        if event["event"] == "flow.decided" {
            *decided.entry(flow).or_insert(0) += 1;
        } else if event["ended_by"] == "policy" {
            assert!(decided.remove(&flow).is_some(), "not decided, or ended twice: {event}");
            assert_eq!((&event["bytes"]["sent"], &event["bytes"]["received"]), (&5.into(), &5.into()), "{event}");
            assert_eq!(event["rule"], "no-more");
            ended += 1;
        }
    }
    assert_eq!((ended, decided.len()), (3 * CUT, 6));
}

#[test]
fn a_new_policy_that_looks_at_requests_reaches_a_kept_connection() {
    let (origin, told) = Origin::http();
    let world = World::new(vec![loopback("local", 10, Action::Allow, &["web.test"])]);
    let mut stream = world.granted(&format!("web.test:{}", origin.port()));
    let get = b"GET /api/1 HTTP/1.1\r\nHost: web.test\r\n\r\n";
    stream.write_all(get).unwrap();
    assert_eq!(read_response(&mut stream).1, "ok");
    let mut rule = loopback("read-only", 10, Action::Allow, &["web.test"]);
    rule.http = methods(&["GET"], &[]);
    let applied = world.apply(vec![rule]);
    assert_eq!((applied.rejudged, applied.cut), (1, 0));
    stream.write_all(get).unwrap();
    assert_eq!(read_response(&mut stream).1, "ok");
    stream.write_all(b"POST /api/1 HTTP/1.1\r\nHost: web.test\r\nContent-Length: 0\r\n\r\n").unwrap();
    assert!(read_head(&mut stream).starts_with("HTTP/1.1 403 "));
    assert_eq!(told.try_iter().count(), 2);
}

#[test]
fn nothing_leaves_without_its_record() {
    let (origin, told) = Origin::http();
    let world = World::new(vec![loopback("local", 10, Action::Allow, &["web.test"])]);
    let target = format!("web.test:{}", origin.port());
    drop(world.granted(&target));
    world.event("flow.ended", |_| true);
    let before = (origin.connections(), world.dns.questions());
    // The record is gone: what is written to it now nobody will read.
    std::fs::remove_file(world.events_file()).unwrap();
    let (_, head) = world.tunnel(&target);
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    let mut absolute = world.client();
    let request = format!("GET http://{target}/ HTTP/1.1\r\nHost: {target}\r\n\r\n");
    absolute.write_all(request.as_bytes()).unwrap();
    assert!(read_head(&mut absolute).starts_with("HTTP/1.1 503 "));
    let (_, fresh) = world.tunnel(&format!("fresh.test:{}", origin.port()));
    assert!(!fresh.starts_with("HTTP/1.1 200 "), "{fresh}");
    assert_eq!((origin.connections(), world.dns.questions()), before);
    assert!(told.try_recv().is_err());
    assert!(world.gateway.summary().errors >= 2);
}

#[test]
fn a_person_is_asked_and_the_answer_holds() {
    let origin = Origin::echo();
    let (ask, mut asked) = tokio::sync::mpsc::channel::<Question>(8);
    let person = thread::spawn(move || {
        let mut answers = [Answer::Deny, Answer::Once, Answer::ThisRun].into_iter();
        let mut seen = Vec::new();
        while let Some(question) = asked.blocking_recv() {
            let answer = answers.next().expect("no more than three questions");
            seen.push((question.what, question.rule));
            question.reply.send(Reply { answer, by: Some("ada".to_owned()) }).unwrap();
        }
        seen
    });
    let world = World::with(vec![loopback("ask-me", 10, Action::Ask, &["web.test"])], Some(ask), |settings| settings);
    let target = format!("web.test:{}", origin.port());
    let statuses: Vec<bool> = (0..5).map(|_| world.tunnel(&target).1.starts_with("HTTP/1.1 200 ")).collect();
    assert_eq!(
        statuses,
        [false, true, true, true, true],
        "{:#?}",
        world
            .events()
            .iter()
            .map(|e| format!("{} {} {} {}", e["event"], e["verdict"], e["rule"], e["reason"]))
            .collect::<Vec<_>>()
    );
    world.event("approval.answered", |event| event["answer"] == "run" && event["by"] == "ada");
    world.event("flow.decided", |event| {
        event["verdict"] == "allowed" && event["reason"] == "a person allowed it for this run"
    });
    // Approved connections stay when the policy is the same in its next revision.
    let mut open = world.granted(&target);
    ping(&mut open);
    let applied = world.apply(vec![loopback("ask-me", 10, Action::Ask, &["web.test"])]);
    assert_eq!(applied.cut, 0);
    ping(&mut open);
    world.gateway.stop(Duration::ZERO);
    let seen = person.join().unwrap();
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[0], (target, "ask-me".to_owned()));
}

#[test]
fn a_question_whose_flow_went_away_ends_as_withdrawn() {
    let origin = Origin::echo();
    let (ask, mut asked) = tokio::sync::mpsc::channel::<Question>(8);
    let world = World::with(vec![loopback("ask-me", 10, Action::Ask, &["web.test"])], Some(ask), |settings| settings);
    let target = format!("web.test:{}", origin.port());
    let mut client = world.client();
    client.write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes()).unwrap();
    let question = asked.blocking_recv().unwrap();
    rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
    drop(client);
    let event = world.event("approval.answered", |event| event["answer"] == "withdrawn");
    assert_eq!((&event["flow"], &event["by"]), (&question.flow.into(), &serde_json::Value::Null));
    assert!(question.reply.is_closed());
    // One that nobody takes up is no answer either.
    let mut client = world.client();
    client.write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes()).unwrap();
    drop(asked.blocking_recv().unwrap());
    assert!(read_head(&mut client).starts_with("HTTP/1.1 403 "));
    world.event("approval.answered", |event| event["answer"] == "not-asked");
}

#[test]
fn the_end_of_a_rule_cuts_what_it_allowed() {
    let (short, long) = (Origin::echo(), Origin::echo());
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(5);
    let mut ends = loopback("for-a-while", 5, Action::Allow, &[]);
    ends.ports = vec![(short.port(), short.port())];
    ends.expires = Some(soon);
    let mut always = loopback("always", 10, Action::Allow, &["long.test"]);
    always.ports = vec![(long.port(), long.port())];
    let world = World::new(vec![ends, always]);
    let mut cut = world.granted(&format!("127.0.0.1:{}", short.port()));
    let mut stays = world.granted(&format!("long.test:{}", long.port()));
    ping(&mut cut);
    ping(&mut stays);
    assert!(is_refused(&mut cut));
    assert!(jiff::Timestamp::now() > soon);
    let ended = world.event("flow.ended", |event| event["ended_by"] == "policy");
    assert_eq!((&ended["rule"], &ended["ended_revision"]), (&"guard:loopback".into(), &"1".into()));
    ping(&mut stays);
    let (_, head) = world.tunnel(&format!("127.0.0.1:{}", short.port()));
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
}

#[test]
fn without_anyone_to_ask_it_is_a_deny() {
    let origin = Origin::echo();
    let world = World::new(vec![loopback("ask-me", 10, Action::Ask, &["web.test"])]);
    let (_, head) = world.tunnel(&format!("web.test:{}", origin.port()));
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    assert_eq!(origin.connections(), 0);
}

#[test]
fn a_flood_is_bounded_and_passes() {
    let origin = Origin::echo();
    let world = World::with(vec![loopback("local", 10, Action::Allow, &[])], None, |settings| Settings {
        max_connections: 50,
        ..settings
    });
    let mut first = world.granted(&origin.address.to_string());
    ping(&mut first);
    let flood: Vec<_> = (0..500).map(|_| std::net::TcpStream::connect(world.proxy)).collect();
    // Those above the bound are reset at once, some before the connect even returns; none is left hanging.
    for stream in flood.iter().skip(100) {
        let Ok(mut stream) = stream.as_ref() else { continue };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        assert!(matches!(stream.read(&mut [0; 1]), Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset));
    }
    ping(&mut first);
    drop(flood);
    let mut stream = loop {
        // The room is free when the flood's connections have ended.
        let Ok(mut stream) = std::net::TcpStream::connect(world.proxy) else { continue };
        let request = format!("CONNECT {} HTTP/1.1\r\n\r\n", origin.address);
        if stream.write_all(request.as_bytes()).is_ok() && read_head(&mut stream).starts_with("HTTP/1.1 200 ") {
            break stream;
        }
    };
    ping(&mut stream);
}

#[test]
fn slow_first_bytes_are_cut() {
    let origin = Origin::echo();
    let world = World::with(vec![loopback("local", 10, Action::Allow, &["web.test"])], None, |settings| Settings {
        sniff_timeout: Duration::from_millis(300),
        ..settings
    });
    let mut request = world.client();
    request.write_all(b"CONNECT web.test").unwrap();
    assert!(is_refused(&mut request) || read_head(&mut request).is_empty());
    let mut tunnel = world.granted(&format!("web.test:{}", origin.port()));
    tunnel.write_all(&[22, 3, 1]).unwrap();
    assert!(is_refused(&mut tunnel));
    let mut address = world.granted(&origin.address.to_string());
    address.write_all(&[22, 3, 1]).unwrap();
    assert!(is_refused(&mut address));
}

/// Connections that are never at rest must not keep others from their bounds.
#[test]
fn steady_traffic_holds_up_no_bound() {
    let origin = Origin::echo();
    let world = World::with(vec![loopback("local", 10, Action::Allow, &["web.test"])], None, |settings| Settings {
        sniff_timeout: Duration::from_millis(300),
        workers: 1,
        ..settings
    });
    let stop = std::sync::atomic::AtomicBool::new(false);
    let target = format!("web.test:{}", origin.port());
    thread::scope(|scope| {
        for _ in 0..4 {
            let mut busy = world.granted(&origin.address.to_string());
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    ping(&mut busy);
                }
            });
        }
        let mut tunnel = world.granted(&target);
        tunnel.write_all(&[22, 3, 1]).unwrap();
        let refused = is_refused(&mut tunnel);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(refused);
    });
}

#[test]
fn a_stop_lets_open_connections_finish() {
    let origin = Origin::echo();
    let world = World::new(vec![loopback("local", 10, Action::Allow, &[])]);
    let mut stream = world.granted(&origin.address.to_string());
    ping(&mut stream);
    let World { gateway, folder, proxy, .. } = world;
    let stopping = thread::spawn(move || gateway.stop(PATIENCE));
    // No more are taken once the listener's descriptors are closed.
    while std::net::TcpStream::connect(proxy).is_ok() {
        thread::yield_now();
    }
    ping(&mut stream);
    drop(stream);
    let summary = stopping.join().unwrap();
    assert_eq!((summary.open, summary.allowed, summary.sent), (0, 1, 10));
    let text = std::fs::read_to_string(folder.path().join("events.jsonl")).unwrap();
    assert!(text.contains("\"ended_by\":\"finished\""), "{text}");
}
