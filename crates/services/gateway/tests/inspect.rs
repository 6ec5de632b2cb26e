//! Opened TLS, at the wire: each request inside is judged, recorded and sent on by itself.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "help for tests")]

mod support;

use std::{
    io::{Read, Write},
    sync::{Arc, mpsc::channel},
};

use gateway::{Answer, Question, Reply};
use policy::model::{Action, Rule, TlsMode};
use support::{
    Origin, World, compile, deny_hosts, hello, is_refused, loopback, methods,
    namespace::Namespace,
    peak,
    tls::{Shown, Tls, exchange, inspected, read_head, read_message, told},
};

const GET_OK: &str = "GET /ok/1 HTTP/1.1\r\nHost: web.test\r\n\r\n";

#[test]
fn each_request_of_one_connection_is_judged_and_recorded() {
    let tls = Tls::new();
    let (origin, heads) = tls.http(Shown::Good);
    let world = tls.world(inspected());
    let mut client = tls.client(&world, "web.test", origin.port());
    assert!(exchange(&mut client, GET_OK).ends_with("\r\n\r\nok"));
    let sent = told(&heads);
    assert!(
        sent.starts_with("GET /ok/1 HTTP/1.1\r\n") && sent.to_ascii_lowercase().contains("host: web.test"),
        "{sent}"
    );
    let denied = exchange(&mut client, "POST /ok/1 HTTP/1.1\r\nHost: web.test\r\nContent-Length: 3\r\n\r\nabc");
    assert!(denied.starts_with("HTTP/1.1 403 ") && denied.contains("application/problem+json"), "{denied}");
    assert!(denied.to_ascii_lowercase().contains("cofferdam-verdict: denied; rule="), "{denied}");
    let outside = exchange(&mut client, "GET /ok/../secret HTTP/1.1\r\nHost: web.test\r\n\r\n");
    assert!(outside.starts_with("HTTP/1.1 403 "), "{outside}");
    let put = exchange(&mut client, "PUT /put/x HTTP/1.1\r\nHost: web.test\r\nContent-Length: 3\r\n\r\nxyz");
    assert!(put.ends_with("ok"), "{put}");
    assert!(told(&heads).ends_with("\r\n\r\nxyz"));
    assert_eq!(origin.connections(), 1, "the server's connection is kept too");
    drop(client);
    let decided =
        world.event("flow.decided", |event| event["verdict"] == "allowed" && event["http"]["method"] == "PUT");
    assert_eq!((&decided["tls"]["mode"], &decided["tls"]["sni"]), (&"inspect".into(), &"web.test".into()));
    assert_eq!((&decided["http"]["path"], &decided["rule"]), (&"/put/x".into(), &"writes".into()));
    world.event("flow.decided", |event| event["verdict"] == "denied" && event["http"]["method"] == "POST");
    let ended = world.event("flow.ended", |_| true);
    assert!(ended["bytes"]["sent"].as_u64().unwrap() > 0 && ended["bytes"]["received"].as_u64().unwrap() > 0);
    assert!(heads.try_recv().is_err());
}

#[test]
fn a_request_for_another_host_than_the_handshake_is_misdirected() {
    let tls = Tls::new();
    let (origin, heads) = tls.http(Shown::Good);
    let world = tls.world(inspected());
    for host in ["other.test", "web.test:1", "127.0.0.1"] {
        let mut client = tls.client(&world, "web.test", origin.port());
        let answer = exchange(&mut client, &format!("GET /ok/1 HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 421 "), "{host}: {answer}");
    }
    world.event("flow.decided", |event| event["rule"] == "guard:binding");
    assert!(heads.try_recv().is_err() && origin.connections() == 0);
}

#[test]
fn a_server_that_can_t_be_verified_gets_nothing() {
    let tls = Tls::new();
    for (shown, words) in [
        (Shown::Expired, "expired"),
        (Shown::WrongName, "other.test"),
        (Shown::SelfSigned, "the server's certificate"),
        (Shown::Stranger, "issued by nobody"),
    ] {
        let (origin, heads) = tls.http(shown);
        let world = tls.world(inspected());
        let mut client = tls.client(&world, "web.test", origin.port());
        let answer = exchange(&mut client, GET_OK);
        assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains(words), "{shown:?}: {answer}");
        world.event("flow.ended", |event| event["error"].as_str().is_some_and(|error| error.contains(words)));
        assert!(heads.try_recv().is_err(), "{shown:?}");
    }
}

#[test]
fn malformed_requests_are_refused_before_anything_is_sent() {
    let tls = Tls::new();
    let (origin, heads) = tls.http(Shown::Good);
    let world = tls.world(inspected());
    for bytes in [
        "GET /ok/1 HTTP/1.1\r\nHost: web.test\r\nHost: web.test\r\n\r\n",
        "GET /ok/1 HTTP/1.1\nHost: web.test\n\n",
        "PUT /put/1 HTTP/1.1\r\nHost: web.test\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "PUT /put/1 HTTP/1.1\r\nHost: web.test\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        "PUT /put/1 HTTP/1.1\r\nHost: web.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "GET /ok/1 HTTP/1.1\r\nHost: web.test\r\nA: b\r\n c\r\n\r\n",
        "GET http://other.test/ok/1 HTTP/1.1\r\nHost: web.test\r\n\r\n",
        "CONNECT web.test:443 HTTP/1.1\r\nHost: web.test:443\r\n\r\n",
        "TRACE /ok/1 HTTP/1.1\r\nHost: web.test\r\n\r\n",
        "GET /ok/1 HTTP/1.1\r\nHost: web.test\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
        "SSH-2.0-client\r\n\r\n",
    ] {
        let mut client = tls.client(&world, "web.test", origin.port());
        let answer = exchange(&mut client, bytes);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{bytes:?}: {answer}");
    }
    world.event("flow.decided", |event| event["rule"] == "guard:malformed");
    assert!(heads.try_recv().is_err() && origin.connections() == 0);
}

#[test]
fn of_two_pipelined_requests_the_denied_one_stays() {
    let tls = Tls::new();
    let (origin, heads) = tls.http(Shown::Good);
    let world = tls.world(inspected());
    let mut client = tls.client(&world, "web.test", origin.port());
    client.write_all(format!("{GET_OK}GET /no HTTP/1.1\r\nHost: web.test\r\n\r\n{GET_OK}").as_bytes()).unwrap();
    for status in ["200", "403", "200"] {
        let answer = read_message(&mut client).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
    assert!(told(&heads).starts_with("GET /ok/1 ") && told(&heads).starts_with("GET /ok/1 "));
    assert!(heads.try_recv().is_err());
}

#[test]
fn nothing_leaves_without_its_record() {
    let tls = Tls::new();
    let (origin, heads) = tls.http(Shown::Good);
    let world = tls.world(inspected());
    let mut client = tls.client(&world, "web.test", origin.port());
    assert!(exchange(&mut client, GET_OK).ends_with("ok"));
    told(&heads);
    let text = std::fs::read_to_string(world.events_file()).unwrap();
    assert!(text.contains("\"/ok/1\""), "the record stands before the answer came: {text}");
    // The record is gone: what is written to it now nobody will read.
    std::fs::remove_file(world.events_file()).unwrap();
    let mut fresh = tls.client(&world, "web.test", origin.port());
    for client in [&mut client, &mut fresh] {
        let answer = exchange(client, GET_OK);
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    }
    assert!(heads.try_recv().is_err() && origin.connections() == 1);
}

#[test]
fn a_person_is_asked_about_the_request() {
    let tls = Tls::new();
    let (origin, heads) = tls.http(Shown::Good);
    let (ask, mut asked) = tokio::sync::mpsc::channel::<Question>(8);
    let person = std::thread::spawn(move || {
        let mut seen = Vec::new();
        for answer in [Answer::Deny, Answer::Once, Answer::Always, Answer::Deny] {
            let question = asked.blocking_recv().unwrap();
            assert!(question.inside_tls && question.request.is_some_and(|request| request.method == "POST"));
            seen.push(question.what);
            question.reply.send(Reply { answer, by: None }).unwrap();
        }
        seen
    });
    let mut rules = inspected();
    let posts = methods(&["POST"], &["/ask/**"]);
    rules.push(Rule { http: posts, ..loopback("asks", 12, Action::Ask, &["web.test"]) });
    let world = World::with(rules, Some(ask), |settings| tls.settings(settings));
    let mut client = tls.client(&world, "web.test", origin.port());
    let post = "POST /ask/1 HTTP/1.1\r\nHost: web.test\r\nContent-Length: 0\r\n\r\n";
    assert!(exchange(&mut client, GET_OK).ends_with("ok"), "what is allowed asks nobody");
    assert!(exchange(&mut client, post).starts_with("HTTP/1.1 403 "));
    assert!(exchange(&mut client, post).ends_with("ok"));
    assert!(exchange(&mut client, post).ends_with("ok"));
    assert!(exchange(&mut client, post).ends_with("ok"), "always: this request asks nobody any more");
    assert!(exchange(&mut client, &post.replace("/ask/1", "/ask/2")).starts_with("HTTP/1.1 403 "), "another path does");
    let what = |number: u8| format!("POST web.test:{}/ask/{number}", origin.port());
    assert_eq!(person.join().unwrap(), [what(1), what(1), what(1), what(2)]);
    assert!(told(&heads).starts_with("GET") && told(&heads).starts_with("POST /ask/1 "));
}

#[test]
fn a_server_that_closes_after_each_answer_is_dialled_again() {
    let tls = Tls::new();
    let origin = tls.origin(Shown::Good, |mut stream| {
        read_message(&mut stream).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        stream.conn.send_close_notify();
        let _ = stream.flush();
    });
    let world = tls.world(inspected());
    let mut client = tls.client(&world, "web.test", origin.port());
    for _ in 0..5 {
        let answer = exchange(&mut client, GET_OK);
        assert!(answer.ends_with("ok"), "{answer}");
    }
    assert_eq!(origin.connections(), 5);
}

#[test]
fn a_denied_name_is_never_opened_and_one_without_request_conditions_stays_untouched() {
    let tls = Tls::new();
    let origin = Origin::echo();
    let mut rules = inspected();
    rules.push(Rule {
        ports: vec![(origin.port(), origin.port())],
        ..loopback("plain", 5, Action::Allow, &["plain.test"])
    });
    let world = tls.world(rules);
    let mut stream = world.granted(&format!("plain.test:{}", origin.port()));
    let bytes = hello("plain.test");
    stream.write_all(&bytes).unwrap();
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).unwrap();
    assert!(back == bytes, "the ClientHello itself came to the server");
    let decided = world.event("flow.decided", |event| event["verdict"] == "allowed");
    assert_eq!(decided["tls"]["mode"], "none", "decided by the tunnel's target alone");
    let (_, head) = world.tunnel(&format!("evil.test:{}", origin.port()));
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
}

#[test]
fn a_redirected_flow_is_opened_too() {
    let Some(namespace) = Namespace::new() else { return };
    let tls = Tls::new();
    let (origin, heads) = tls.http(Shown::Good);
    let mut rules = inspected();
    rules.push(deny_hosts("no-evil", 5, &["evil.test"]));
    let world = namespace.world(rules, |settings| tls.settings(settings));
    namespace.resolve("web.test").unwrap();
    let mut client = tls.opened(namespace.connect(origin.address), "web.test");
    assert!(exchange(&mut client, GET_OK).ends_with("ok"));
    assert!(told(&heads).starts_with("GET /ok/1 "));
    assert!(exchange(&mut client, "DELETE /ok/1 HTTP/1.1\r\nHost: web.test\r\n\r\n").starts_with("HTTP/1.1 403 "));
    // A name that is denied whatever the request is refused without a handshake.
    let mut evil = namespace.connect(origin.address);
    evil.write_all(&hello("evil.test")).unwrap();
    assert!(is_refused(&mut evil));
    let decided = world.event("flow.decided", |event| event["destination"]["name"] == "evil.test");
    assert_eq!((&decided["verdict"], &decided["tls"]["mode"]), (&"denied".into(), &"passthrough".into()));
}

#[test]
fn a_new_policy_cuts_the_request_under_way_and_the_next_is_judged_by_it() {
    let tls = Tls::new();
    let (started, heads) = channel();
    let origin = tls.origin(Shown::Good, move |mut stream| {
        while let Some(head) = read_message(&mut stream) {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nfirst").unwrap();
            started.send(head).unwrap();
            // The rest never comes.
        }
    });
    let world = tls.world(inspected());
    let mut client = tls.client(&world, "web.test", origin.port());
    client.write_all(GET_OK.as_bytes()).unwrap();
    assert!(read_head(&mut client).starts_with("HTTP/1.1 200 "));
    told(&heads);
    let mut idle = tls.client(&world, "web.test", origin.port());
    let narrow = Rule { http: methods(&["GET"], &["/other"]), ..loopback("narrow", 10, Action::Allow, &["web.test"]) };
    let applied = world.apply(vec![narrow]);
    assert_eq!((applied.rejudged, applied.cut), (1, 1));
    let mut rest = Vec::new();
    let end = client.read_to_end(&mut rest);
    assert!(end.is_err() && rest.len() <= 5, "{end:?} after {rest:?}");
    world.event("flow.ended", |event| event["ended_by"] == "policy");
    assert_eq!(world.events().iter().filter(|event| event["event"] == "flow.ended").count(), 1);
    // The other connection carries no request: it stays, and its next is judged by what holds now.
    assert!(exchange(&mut idle, GET_OK).starts_with("HTTP/1.1 403 "));
}

#[test]
fn large_bodies_go_both_ways_in_bounded_memory() {
    const SIZE: usize = 50 * 1024 * 1024;
    let tls = Tls::new();
    let origin = tls.origin(Shown::Good, |mut stream| {
        let head = read_head(&mut stream);
        assert!(head.to_ascii_lowercase().contains("transfer-encoding: chunked"), "{head}");
        let mut buffer = vec![0; 64 * 1024];
        let (mut total, mut last) = (0, Vec::new());
        while !last.ends_with(b"\r\n0\r\n\r\n") {
            let count = stream.read(&mut buffer).unwrap();
            total += count;
            last.extend_from_slice(&buffer[..count]);
            last.drain(..last.len().saturating_sub(8));
        }
        assert!(total > SIZE, "{total} with the framing of the chunks");
        stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n").as_bytes()).unwrap();
        for _ in 0..SIZE / buffer.len() {
            if stream.write_all(&buffer).is_err() {
                return;
            }
        }
        stream.flush().unwrap();
        let _ = stream.read(&mut buffer);
    });
    let world = tls.world(inspected());
    let mut client = tls.client(&world, "web.test", origin.port());
    let before = peak();
    client.write_all(b"PUT /put/big HTTP/1.1\r\nHost: web.test\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    let chunk = [b"10000\r\n".to_vec(), vec![7; 0x10000], b"\r\n".to_vec()].concat();
    for _ in 0..SIZE / 0x10000 {
        client.write_all(&chunk).unwrap();
    }
    client.write_all(b"0\r\n\r\n").unwrap();
    assert!(read_head(&mut client).starts_with("HTTP/1.1 200 "));
    let mut buffer = vec![0; 64 * 1024];
    let mut received = 0;
    while received < SIZE {
        received += client.read(&mut buffer).unwrap();
    }
    assert_eq!(received, SIZE);
    let grown = peak().saturating_sub(before);
    assert!(grown < 24 * 1024, "{grown} KiB more at the peak");
}

#[test]
fn a_client_that_expects_100_is_told_to_go_on_after_the_decision() {
    let tls = Tls::new();
    let (origin, heads) = tls.http(Shown::Good);
    let world = tls.world(inspected());
    let mut client = tls.client(&world, "web.test", origin.port());
    let ask = |path: &str| {
        format!("PUT {path} HTTP/1.1\r\nHost: web.test\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    };
    client.write_all(ask("/put/1").as_bytes()).unwrap();
    assert!(read_head(&mut client).starts_with("HTTP/1.1 100 "));
    assert!(exchange(&mut client, "abc").ends_with("ok"));
    assert!(told(&heads).ends_with("abc"));
    client.write_all(ask("/no").as_bytes()).unwrap();
    assert!(read_message(&mut client).unwrap().starts_with("HTTP/1.1 403 "));
}

#[test]
fn a_client_that_does_not_trust_the_run_is_told_apart() {
    let tls = Tls::new();
    let (origin, _heads) = tls.http(Shown::Good);
    let world: World = tls.world(inspected());
    let stream = world.granted(&format!("web.test:{}", origin.port()));
    let stranger = Tls::new();
    let name = rustls::pki_types::ServerName::try_from("web.test").unwrap();
    let connection = rustls::ClientConnection::new(Arc::clone(&stranger.client_config(&[])), name).unwrap();
    let mut client = rustls::StreamOwned::new(connection, stream);
    assert!(client.conn.complete_io(&mut client.sock).is_err());
    world
        .event("flow.decided", |event| event["error"].as_str().is_some_and(|error| error.contains("tls: passthrough")));
    assert_eq!(origin.connections(), 0);
}

#[test]
fn what_is_not_set_up_is_refused_by_name() {
    let inspect = Rule { tls: TlsMode::Inspect, ..loopback("looks", 10, Action::Allow, &["web.test"]) };
    let world = World::new(vec![loopback("local", 10, Action::Allow, &["web.test"])]);
    let error = world.gateway.apply(compile(vec![inspect], 2)).unwrap_err();
    assert!(error.to_string().contains("rule looks: ") && error.to_string().contains("TLS"), "{error}");
}

#[test]
fn a_rule_that_only_inspects_allows_and_records_each_request() {
    let tls = Tls::new();
    let (origin, heads) = tls.http(Shown::Good);
    let inspect = Rule { tls: TlsMode::Inspect, ..loopback("looks", 10, Action::Allow, &["web.test"]) };
    let world = tls.world(vec![inspect]);
    let mut client = tls.client(&world, "web.test", origin.port());
    assert!(exchange(&mut client, "DELETE /any HTTP/1.1\r\nHost: web.test\r\n\r\n").ends_with("ok"));
    assert!(told(&heads).starts_with("DELETE /any "));
    world.event("flow.decided", |event| event["http"]["method"] == "DELETE" && event["tls"]["mode"] == "inspect");
}
