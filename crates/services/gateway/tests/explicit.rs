//! The explicit proxy: CONNECT, absolute-form HTTP and SOCKS5 through policy and record.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "help for tests")]

mod support;

use std::{
    io::{Read, Write},
    net::Shutdown,
    thread,
};

use policy::model::Action;
use support::{Origin, World, deny_hosts, hello, is_refused, loopback, methods, read_head, read_response, read_rest};

#[test]
fn a_tunnel_is_decided_recorded_and_forwarded() {
    let origin = Origin::echo();
    let world = World::new(vec![loopback("local", 10, Action::Allow, &[])]);
    let mut stream = world.granted(&origin.address.to_string());
    stream.write_all(b"\x00ping").unwrap();
    let mut back = [0; 5];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"\x00ping");
    let decided = world.event("flow.decided", |_| true);
    assert_eq!((&decided["verdict"], &decided["rule"]), (&"allowed".into(), &"local".into()));
    assert_eq!(decided["destination"]["address"], "127.0.0.1");
    drop(stream);
    let ended = world.event("flow.ended", |_| true);
    assert_eq!(ended["flow"], decided["flow"]);
    assert_eq!((&ended["bytes"]["sent"], &ended["bytes"]["received"]), (&5.into(), &5.into()));
}

#[test]
fn a_denied_name_is_told_why_and_asked_of_nobody() {
    let world = World::new(vec![loopback("local", 10, Action::Allow, &["web.test"])]);
    let (mut stream, head) = world.tunnel("denied.test:443");
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    assert!(head.contains("Cofferdam-Verdict: denied; rule=\"mode-default\"; revision=1"), "{head}");
    let body: serde_json::Value = serde_json::from_str(&read_rest(&mut stream)).unwrap();
    assert_eq!((&body["rule"], &body["status"]), (&"mode-default".into(), &403.into()));
    let event = world.event("flow.decided", |event| event["verdict"] == "denied");
    assert_eq!(event["destination"]["name"], "denied.test");
    assert_eq!(world.dns.questions(), 0);
    let summary = world.gateway.summary();
    assert_eq!((summary.denied, summary.denials[0].what.as_str()), (1, "denied.test"));
}

#[test]
fn a_tunnel_by_name_goes_to_the_resolved_address() {
    let (origin, told) = Origin::http();
    let world = World::new(vec![loopback("local", 10, Action::Allow, &["web.test"])]);
    let mut stream = world.granted(&format!("web.test:{}", origin.port()));
    for _ in 0..3 {
        let request = format!("GET /a HTTP/1.1\r\nHost: web.test:{}\r\n\r\n", origin.port());
        stream.write_all(request.as_bytes()).unwrap();
        assert_eq!(read_response(&mut stream).1, "ok");
        assert!(told.recv().unwrap().starts_with("GET /a HTTP/1.1\r\n"));
    }
}

#[test]
fn what_a_tunnel_says_must_be_for_its_target() {
    let (origin, told) = Origin::http();
    let world = World::new(vec![loopback("local", 10, Action::Allow, &["web.test", "other.test"])]);
    let port = origin.port();
    for request in [
        "GET / HTTP/1.1\r\nHost: other.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: web.test:1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: web.test\r\nHost: other.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "CONNECT web.test:443 HTTP/1.1\r\nHost: web.test\r\n\r\n",
        "GET / HTTP/1.1\nHost: web.test\n\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        let mut stream = world.granted(&format!("web.test:{port}"));
        stream.write_all(request.as_bytes()).unwrap();
        let answer = read_rest(&mut stream);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{request:?}: {answer:?}");
    }
    let mut tls = world.granted(&format!("web.test:{port}"));
    tls.write_all(&hello("other.test")).unwrap();
    assert!(is_refused(&mut tls));
    assert!(told.try_recv().is_err());
    world.event("flow.decided", |event| event["rule"] == "guard:binding" && event["tls"]["sni"] == "other.test");
    world.event("flow.decided", |event| event["rule"] == "guard:malformed" && event["layer"] == "http");
}

#[test]
fn a_connection_by_address_keeps_the_host_of_its_first_request() {
    let (origin, told) = Origin::http();
    let world = World::new(vec![loopback("local", 10, Action::Allow, &[])]);
    let mut stream = world.granted(&origin.address.to_string());
    for _ in 0..2 {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: intranet.test\r\n\r\n").unwrap();
        assert_eq!(read_response(&mut stream).1, "ok");
    }
    stream.write_all(b"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n").unwrap();
    assert!(read_head(&mut stream).starts_with("HTTP/1.1 421 "));
    assert_eq!(told.try_iter().count(), 2);
    assert_eq!(world.dns.questions(), 0);
}

#[test]
fn a_client_hello_has_one_verdict_wherever_it_is_cut() {
    let origin = Origin::echo();
    let world = World::with(vec![loopback("local", 10, Action::Allow, &["web.test"])], None, |settings| {
        gateway::Settings { workers: 1, ..settings }
    });
    let target = format!("web.test:{}", origin.port());
    for (name, allowed) in [("web.test", true), ("other.test", false)] {
        let hello = hello(name);
        for cut in (1..hello.len()).step_by(37).chain([1, 2, 3, 4, 5, 6, 9, hello.len() - 1]) {
            let mut stream = world.granted(&target);
            stream.write_all(&hello[..cut]).unwrap();
            // The one worker has dealt with the first piece when it has answered another client.
            world.tunnel("denied.test:443");
            stream.write_all(&hello[cut..]).unwrap();
            if allowed {
                let mut back = vec![0; hello.len()];
                stream.read_exact(&mut back).unwrap();
                assert!(back == hello, "cut at {cut}");
            } else {
                assert!(is_refused(&mut stream), "cut at {cut}");
            }
        }
    }
}

#[test]
fn another_host_on_a_kept_connection_is_misdirected() {
    let (origin, told) = Origin::http();
    let world = World::new(vec![loopback("local", 10, Action::Allow, &["web.test", "other.test"])]);
    let mut stream = world.granted(&format!("web.test:{}", origin.port()));
    // Both at once: the second hides behind the first.
    stream.write_all(b"GET /1 HTTP/1.1\r\nHost: web.test\r\n\r\nGET /2 HTTP/1.1\r\nHost: other.test\r\n\r\n").unwrap();
    assert_eq!(read_response(&mut stream).1, "ok");
    let answer = read_rest(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
    assert!(told.recv().unwrap().starts_with("GET /1"));
    assert!(told.try_recv().is_err());
}

#[test]
fn every_request_is_judged_where_a_rule_looks_at_requests() {
    let (origin, told) = Origin::http();
    let mut rule = loopback("read-only", 10, Action::Allow, &["web.test"]);
    rule.http = methods(&["GET"], &["/api/**"]);
    let world = World::new(vec![rule]);
    let requests = [
        ("GET /api/1 HTTP/1.1\r\nHost: web.test\r\n\r\n", true),
        ("GET /api/%2e%2e/secret HTTP/1.1\r\nHost: web.test\r\n\r\n", false),
        ("GET /api/..%2fsecret HTTP/1.1\r\nHost: web.test\r\n\r\n", false),
        ("POST /api/1 HTTP/1.1\r\nHost: web.test\r\nContent-Length: 0\r\n\r\n", false),
        ("GET /api/1 HTTP/1.1\r\nHost: web.test\r\nX-HTTP-Method-Override: DELETE\r\n\r\n", false),
    ];
    for (request, allowed) in requests {
        // As the first request of a tunnel, and as the second.
        for before in [0, 1] {
            let mut stream = world.granted(&format!("web.test:{}", origin.port()));
            for _ in 0..before {
                stream.write_all(b"GET /api/first HTTP/1.1\r\nHost: web.test\r\n\r\n").unwrap();
                assert_eq!(read_response(&mut stream).1, "ok");
                assert!(told.recv().unwrap().starts_with("GET /api/first"));
            }
            stream.write_all(request.as_bytes()).unwrap();
            let (head, _) = read_response(&mut stream);
            assert_eq!(head.starts_with("HTTP/1.1 200 "), allowed, "{request:?}: {head}");
            assert_eq!(head.starts_with("HTTP/1.1 403 "), !allowed, "{request:?}: {head}");
            assert_eq!(told.try_recv().is_ok(), allowed, "{request:?}");
        }
    }
    world.event("flow.decided", |event| event["http"]["path"] == "/api/1" && event["http"]["method"] == "POST");
}

#[test]
fn a_request_to_the_proxy_goes_on_in_origin_form() {
    let (origin, told) = Origin::http();
    let world = World::new(vec![loopback("local", 10, Action::Allow, &["web.test"])]);
    let port = origin.port();
    let mut stream = world.client();
    let request = format!(
        "POST http://web.test:{port}/a?b HTTP/1.1\r\nHost: web.test:{port}\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic bm86cGU=\r\nContent-Length: 3\r\n\r\nabc"
    );
    stream.write_all(request.as_bytes()).unwrap();
    assert_eq!(read_response(&mut stream).1, "ok");
    let expected =
        format!("POST /a?b HTTP/1.1\r\nHost: web.test:{port}\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc");
    assert_eq!(told.recv().unwrap(), expected);
    assert_eq!(read_rest(&mut stream), "");
    let event = world.event("flow.decided", |event| event["verdict"] == "allowed");
    assert_eq!((&event["http"]["path"], &event["http"]["method"]), (&"/a".into(), &"POST".into()));
}

#[test]
fn requests_without_one_meaning_are_refused() {
    let world = World::new(vec![loopback("local", 10, Action::Allow, &["web.test"])]);
    for target in
        ["2130706433:80", "0177.0.0.1:80", "127.1:80", "web.test:080", "web.test", "u@web.test:80", "[fe80::1%25lo]:80"]
    {
        let (_, head) = world.tunnel(target);
        assert!(head.starts_with("HTTP/1.1 400 "), "{target}: {head}");
    }
    let (_, mapped) = world.tunnel("[::ffff:169.254.169.254]:80");
    assert!(mapped.starts_with("HTTP/1.1 403 ") && mapped.contains("guard:metadata"), "{mapped}");
    for request in ["GET / HTTP/1.1\r\nHost: web.test\r\n\r\n", "GET http://a.test/ HTTP/1.1\r\nHost: web.test\r\n\r\n"]
    {
        let mut stream = world.client();
        stream.write_all(request.as_bytes()).unwrap();
        assert!(read_head(&mut stream).starts_with("HTTP/1.1 400 "), "{request}");
    }
    let mut tls = world.client();
    tls.write_all(&hello("web.test")).unwrap();
    assert!(is_refused(&mut tls));
}

#[test]
fn socks_by_name_and_by_address() {
    let origin = Origin::echo();
    let world = World::new(vec![loopback("local", 10, Action::Allow, &["web.test"])]);
    let port = origin.port().to_be_bytes();
    let name = |name: &str| [&[5, 1, 0, 3, u8::try_from(name.len()).unwrap()][..], name.as_bytes(), &port].concat();
    let cases: Vec<(Vec<u8>, u8)> = vec![
        (name("web.test"), 0),
        (name("denied.test"), 2),
        (name("0x7f.1"), 2),
        ([&[5, 1, 0, 1, 127, 0, 0, 1][..], &port].concat(), 0),
        ([&[5, 1, 0, 1, 169, 254, 169, 254][..], &port].concat(), 2),
        ([&[5, 2, 0, 1, 127, 0, 0, 1][..], &port].concat(), 7),
        ([&[5, 3, 0, 1, 127, 0, 0, 1][..], &port].concat(), 7),
    ];
    for (request, expected) in cases {
        let mut stream = world.client();
        stream.write_all(&[5, 1, 0]).unwrap();
        let mut greeting = [0; 2];
        stream.read_exact(&mut greeting).unwrap();
        assert_eq!(greeting, [5, 0]);
        stream.write_all(&request).unwrap();
        let mut reply = [0; 10];
        stream.read_exact(&mut reply).unwrap();
        assert_eq!(reply[1], expected, "{}", request.escape_ascii());
        if expected == 0 {
            stream.write_all(b"\x01hello").unwrap();
            let mut back = [0; 6];
            stream.read_exact(&mut back).unwrap();
            assert_eq!(&back, b"\x01hello");
        }
    }
}

#[test]
fn socks_with_and_without_a_password() {
    let origin = Origin::echo();
    let world = World::new(vec![loopback("local", 10, Action::Allow, &["web.test"])]);
    let request = [&[5, 1, 0, 3, 8][..], b"web.test", &origin.port().to_be_bytes()].concat();
    let password = b"\x01\x06person\x0dnobodys-thing";
    for (methods, chosen) in [(&[0, 2][..], 0), (&[2, 1, 0], 0), (&[2], 2), (&[1, 2], 2)] {
        let greeting = [&[5, u8::try_from(methods.len()).unwrap()], methods].concat();
        let said = if chosen == 2 { password.to_vec() } else { Vec::new() };
        // Each message after the answer to the one before, and all at once.
        for at_once in [false, true] {
            let mut stream = world.client();
            let mut answer = Vec::new();
            let mut say = |bytes: &[u8], length: usize| {
                stream.write_all(bytes).unwrap();
                let before = answer.len();
                answer.resize(before + length, 0);
                stream.read_exact(&mut answer[before..]).unwrap();
            };
            if at_once {
                let length = if chosen == 2 { 14 } else { 12 };
                say(&[&greeting[..], &said, &request].concat(), length);
            } else {
                say(&greeting, 2);
                if chosen == 2 {
                    say(&said, 2);
                }
                say(&request, 10);
            }
            assert_eq!(answer[..2], [5, chosen], "{methods:?}");
            assert!(chosen == 0 || answer[2..4] == [1, 0], "{answer:?}");
            assert_eq!(answer[answer.len() - 10..][..2], [5, 0], "{answer:?}");
            stream.write_all(b"\x01hello").unwrap();
            let mut back = [0; 6];
            stream.read_exact(&mut back).unwrap();
            assert_eq!(&back, b"\x01hello");
        }
    }
    assert_eq!(origin.connections(), 8);
    world.event("flow.decided", |event| event["verdict"] == "allowed" && event["destination"]["name"] == "web.test");
    let record = std::fs::read_to_string(world.events_file()).unwrap();
    assert!(!record.contains("nobodys-thing"), "a password in the record");
}

#[test]
fn what_socks_can_not_do_is_refused_by_name() {
    let world = World::new(vec![loopback("local", 10, Action::Allow, &["web.test"])]);
    let v4_connect: &[u8] = b"\x04\x01\0\x50\0\0\0\x01user\0web.test\0";
    let v4_bind: &[u8] = b"\x04\x02\0\x50\0\0\0\x01user\0web.test\0";
    let open: &[u8] = &[5, 1, 0];
    for (said, expected, reason) in [
        (&[&[5, 1, 1][..]][..], [5, 0xff], "neither no authentication"),
        (&[&[5, 0]], [5, 0xff], "neither no authentication"),
        (&[open, &[5, 2, 0, 1, 127, 0, 0, 1, 0, 80]], [5, 7], "BIND"),
        (&[open, &[5, 3, 0, 1, 0, 0, 0, 0, 0, 0]], [5, 7], "UDP ASSOCIATE"),
        (&[open, &[5, 9, 0, 1, 127, 0, 0, 1, 0, 80]], [5, 7], "unknown SOCKS5 command"),
        (&[v4_connect], [0, 91], "SOCKS4"),
        (&[v4_bind], [0, 91], "SOCKS4"),
    ] {
        let mut stream = world.client();
        let mut answer = [0; 2];
        for bytes in said {
            stream.write_all(bytes).unwrap();
            stream.read_exact(&mut answer).unwrap();
        }
        assert_eq!(answer, expected, "{said:?}");
        let _rest = read_rest(&mut stream);
        world.event("flow.decided", |event| {
            event["rule"] == "guard:malformed" && event["reason"].as_str().is_some_and(|said| said.contains(reason))
        });
    }
    // A user name and password that are none.
    let mut stream = world.client();
    stream.write_all(&[5, 1, 2]).unwrap();
    stream.read_exact(&mut [0; 2]).unwrap();
    stream.write_all(&[5, 1, 0]).unwrap();
    assert!(is_refused(&mut stream));
}

#[test]
fn an_answer_after_the_clients_end_arrives() {
    let origin = Origin::start(|mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(format!("{} bytes", all.len()).as_bytes()).unwrap();
    });
    let world = World::new(vec![loopback("local", 10, Action::Allow, &["web.test"])]);
    for target in [origin.address.to_string(), format!("web.test:{}", origin.port())] {
        let mut stream = world.granted(&target);
        stream.write_all(&[0; 1000]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_rest(&mut stream), "1000 bytes");
    }
}

#[test]
fn a_server_may_speak_first_but_not_where_tls_is_due() {
    let origin = Origin::start(|mut stream| {
        stream.write_all(b"220 hello\r\n").unwrap();
        let _ = stream.read(&mut [0; 10]);
    });
    let world = World::new(vec![loopback("local", 10, Action::Allow, &["web.test"])]);
    for target in [origin.address.to_string(), format!("web.test:{}", origin.port())] {
        let mut stream = world.granted(&target);
        let mut banner = [0; 11];
        stream.read_exact(&mut banner).unwrap();
        assert_eq!(&banner, b"220 hello\r\n");
    }
}

#[test]
fn a_websocket_goes_through_after_its_upgrade() {
    let origin = Origin::start(|mut stream| {
        let head = read_head(&mut stream);
        assert!(head.contains("Upgrade: websocket\r\n"), "{head}");
        stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
            .unwrap();
        let mut frame = [0; 4];
        stream.read_exact(&mut frame).unwrap();
        stream.write_all(&frame).unwrap();
    });
    let world = World::new(vec![loopback("local", 10, Action::Allow, &["web.test"])]);
    let port = origin.port();
    let head = "Host: web.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut tunnel = world.granted(&format!("web.test:{port}"));
    tunnel.write_all(format!("GET /ws HTTP/1.1\r\n{head}").as_bytes()).unwrap();
    let mut absolute = world.client();
    let head = head.replace("web.test", &format!("web.test:{port}"));
    absolute.write_all(format!("GET http://web.test:{port}/ws HTTP/1.1\r\n{head}").as_bytes()).unwrap();
    for stream in [&mut tunnel, &mut absolute] {
        assert!(read_head(stream).starts_with("HTTP/1.1 101 "));
        stream.write_all(&[0x81, 0x02, 0xff, 0x00]).unwrap();
        let mut frame = [0; 4];
        stream.read_exact(&mut frame).unwrap();
        assert_eq!(frame, [0x81, 0x02, 0xff, 0x00]);
    }
}

#[test]
fn an_unreachable_server_is_said() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let world = World::new(vec![loopback("local", 10, Action::Allow, &["web.test"])]);
    let (_, head) = world.tunnel(&format!("web.test:{port}"));
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    world.event("flow.ended", |event| event["ended_by"] == "unreachable");
}

#[test]
fn a_gigabyte_arrives_whole() {
    const SIZE: u64 = 1 << 30;
    let origin = Origin::start(|mut stream| {
        let mut request = [0; 2];
        stream.read_exact(&mut request).unwrap();
        let block = vec![7; 1 << 20];
        let mut left = SIZE;
        while left > 0 {
            let count = left.min(block.len() as u64);
            stream.write_all(&block[..usize::try_from(count).unwrap()]).unwrap();
            left -= count;
        }
    });
    let world = World::new(vec![loopback("local", 10, Action::Allow, &[])]);
    let mut stream = world.granted(&origin.address.to_string());
    stream.write_all(b"\x00\x01").unwrap();
    let mut buffer = vec![0; 1 << 20];
    let mut total = 0u64;
    loop {
        let count = stream.read(&mut buffer).unwrap();
        if count == 0 {
            break;
        }
        assert!(buffer[..count].iter().all(|byte| *byte == 7));
        total += count as u64;
    }
    assert_eq!(total, SIZE);
    drop(stream);
    assert_eq!(world.event("flow.ended", |_| true)["bytes"]["received"], SIZE);
}

#[test]
fn a_deny_by_name_holds_for_the_address_too() {
    let origin = Origin::echo();
    let world = World::new(vec![
        deny_hosts("no-evil", 5, &["evil.test"]),
        loopback("local", 10, Action::Allow, &["web.test", "evil.test"]),
    ]);
    let (_, head) = world.tunnel(&format!("evil.test:{}", origin.port()));
    assert!(head.starts_with("HTTP/1.1 403 ") && head.contains("no-evil"), "{head}");
    // By address, with the denied name in the ClientHello.
    let mut stream = world.granted(&origin.address.to_string());
    stream.write_all(&hello("evil.test")).unwrap();
    assert!(is_refused(&mut stream));
    world.event("flow.decided", |event| event["verdict"] == "denied" && event["tls"]["sni"] == "evil.test");
    assert_eq!(origin.connections(), 0);
}

#[test]
fn clients_that_end_before_they_say_anything_leave_nothing_behind() {
    let world = World::new(vec![loopback("local", 10, Action::Allow, &[])]);
    let clients: Vec<_> = (0..50)
        .map(|_| {
            let proxy = world.proxy;
            thread::spawn(move || drop(support::connect(proxy)))
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    let summary = world.gateway.stop(support::PATIENCE);
    assert_eq!((summary.open, summary.allowed, summary.denied), (0, 0, 0));
}
