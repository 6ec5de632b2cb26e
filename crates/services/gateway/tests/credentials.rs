//! Secrets on the wire: attached to what they are bound to, and to nothing else.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "help for tests")]

mod support;

use std::{
    io::{Read as _, Write as _},
    sync::mpsc::channel,
};

use data_encoding::BASE64;
use policy::model::credential::{Attach, Field, Place};
use support::{
    hello, is_refused, loopback, methods,
    secrets::{Keeping, SECRET},
    tls::{Shown, Tls, exchange, read_head, read_message, read_request, told},
};

fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: web.test\r\n{fields}\r\n")
}

fn header(name: &str) -> Attach {
    Attach::Header { name: name.to_owned(), format: "Token token={value}".to_owned() }
}

/// The fields of a head that a server takes for this one.
fn values<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    fields.filter(|(field, _)| field.replace('_', "-").eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}

#[test]
fn each_way_of_attaching_puts_the_secret_in_and_takes_the_sandbox_s_own_out() {
    let own = "authorization: Bearer mine\r\nAUTHORIZATION: Basic mine\r\nx-key: mine\r\nX_Key: mine\r\n\
               Cookie: a=1; sid=mine\r\n";
    let basic = format!("Basic {}", BASE64.encode(format!("bot:{SECRET}").as_bytes()));
    for (attach, name, expected, target) in [
        (Attach::Bearer, "authorization", format!("Bearer {SECRET}"), "/api/1?key=mine"),
        (Attach::Basic { username: "bot".to_owned() }, "authorization", basic, "/api/1?key=mine"),
        (header("x-key"), "x-key", format!("Token token={SECRET}"), "/api/1?key=mine"),
        (Attach::Cookie { name: "sid".to_owned() }, "cookie", format!("a=1; sid={SECRET}"), "/api/1?key=mine"),
        (Attach::Query { name: "key".to_owned() }, "host", "web.test".to_owned(), &format!("/api/1?key={SECRET}")),
    ] {
        let tls = Tls::new();
        let (origin, heads) = tls.http(Shown::Good);
        let keeping = Keeping::new(&tls, attach);
        let mut client = tls.client(&keeping.world, "web.test", origin.port());
        assert!(exchange(&mut client, &get("/api/1?key=mine", own)).ends_with("ok"));
        let head = told(&heads);
        assert_eq!(values(&head, name), [expected.as_str()], "{head}");
        assert!(head.starts_with(&format!("GET {target} ")), "{head}");
        let used = keeping.world.event("credential.used", |_| true);
        let decided = keeping.world.event("flow.decided", |event| event["credential"] == "token");
        assert_eq!(
            (&used["credential"], &used["host"], &used["flow"]),
            (&"token".into(), &"web.test".into(), &decided["flow"])
        );
        assert_eq!(used["token"].as_str().unwrap().len(), 16);
        assert!(used["seq"].as_u64() > decided["seq"].as_u64());
        assert!(!keeping.record_tells(SECRET) && !keeping.record_tells("mine"));
    }
}

#[test]
fn what_is_out_of_the_binding_never_carries_it() {
    let tls = Tls::new();
    let (origin, heads) = tls.http(Shown::Good);
    let keeping = Keeping::new(&tls, Attach::Bearer);
    let mut client = tls.client(&keeping.world, "web.test", origin.port());
    for denied in [
        get("/other", ""),
        get("/api/../other", ""),
        get("/api/..%2fother", ""),
        get("/api%2f1", ""),
        "DELETE /api/1 HTTP/1.1\r\nHost: web.test\r\n\r\n".to_owned(),
    ] {
        let answer = exchange(&mut client, &denied);
        assert!(answer.starts_with("HTTP/1.1 403 "), "{denied}");
        let what = if denied.starts_with("GET") { "path" } else { "method" };
        let reason =
            format!("destination is the host's loopback; credential token of rule uses is not bound to this {what}");
        assert!(answer.contains(&format!("\"detail\":\"{reason}\"")), "{answer}");
        assert!(!answer.contains("/api/**") && !answer.contains("POST"), "not what else it is bound to: {answer}");
        keeping.world.event("flow.decided", |event| event["reason"] == reason.as_str());
    }
    assert!(exchange(&mut client, &get("/open/1", "Authorization: Bearer mine\r\n")).ends_with("ok"));
    let head = told(&heads);
    assert_eq!(values(&head, "authorization"), ["Bearer mine"], "without a credential the sandbox's own goes on");
    // Another host than the handshake's, whatever the proxy was told.
    let mut client = tls.client(&keeping.world, "web.test", origin.port());
    let other = "GET /api/1 HTTP/1.1\r\nHost: other.test\r\n\r\n";
    assert!(exchange(&mut client, other).starts_with("HTTP/1.1 421 "));
    let mut crossed = keeping.world.granted(&format!("web.test:{}", origin.port()));
    crossed.write_all(&hello("other.test")).unwrap();
    assert!(is_refused(&mut crossed));
    assert!(heads.try_recv().is_err() && !keeping.record_tells("credential.used"));
}

#[test]
fn another_service_of_the_same_host_never_gets_it() {
    let tls = Tls::new();
    let (origin, heads) = tls.http(Shown::Good);
    let keeping = Keeping::new(&tls, Attach::Bearer);
    let (mut neither, mut both) = (keeping.spec.clone(), keeping.spec.clone());
    neither.credentials.get_mut(&support::secrets::name("token")).unwrap().bind.ports.clear();
    both.credentials.get_mut(&support::secrets::name("token")).unwrap().bind.ports =
        vec![(origin.port(), origin.port())];
    // Neither the rule nor the binding names a port: HTTPS's alone is meant.
    keeping.apply(neither);
    let mut client = tls.client(&keeping.world, "web.test", origin.port());
    assert!(exchange(&mut client, &get("/api/1", "")).starts_with("HTTP/1.1 403 "));
    assert!(exchange(&mut client, &get("/open/1", "")).ends_with("ok"));
    assert_eq!(values(&told(&heads), "authorization"), [""; 0]);
    assert!(!keeping.record_tells("credential.used"));
    // The binding names one of two.
    keeping.apply(both);
    let mut client = tls.client(&keeping.world, "web.test", origin.port());
    assert!(exchange(&mut client, &get("/api/1", "")).ends_with("ok"));
    assert_eq!(values(&told(&heads), "authorization"), [format!("Bearer {SECRET}")]);
    let (second, second_heads) = tls.http(Shown::Good);
    let mut client = tls.client(&keeping.world, "web.test", second.port());
    assert!(exchange(&mut client, &get("/api/1", "")).starts_with("HTTP/1.1 403 "));
    assert!(exchange(&mut client, &get("/open/1", "")).ends_with("ok"));
    assert_eq!(values(&told(&second_heads), "authorization"), [""; 0]);
}

#[test]
fn the_server_gets_the_path_that_was_judged() {
    let tls = Tls::new();
    let (origin, heads) = tls.http(Shown::Good);
    let keeping = Keeping::new(&tls, Attach::Bearer);
    let mut client = tls.client(&keeping.world, "web.test", origin.port());
    assert!(exchange(&mut client, &get("/other/%2e%2E/api/./a%20b?x=/../", "")).ends_with("ok"));
    let head = told(&heads);
    assert!(head.starts_with("GET /api/a%20b?x=/../ "), "{head}");
}

#[test]
fn a_hijacked_agent_can_t_have_it_moved_removed_or_doubled() {
    let tls = Tls::new();
    let (origin, heads) = tls.http(Shown::Good);
    let keeping = Keeping::new(&tls, header("x-key"));
    let mut client = tls.client(&keeping.world, "web.test", origin.port());
    let tricks = "Connection: trailer, keep-alive\r\nTE: trailers\r\nTrailer: x-key\r\nX-Key: a\r\nx_kEY: b\r\n";
    assert!(exchange(&mut client, &get("/api/1", tricks)).ends_with("ok"));
    let expected = format!("Token token={SECRET}");
    assert_eq!(values(&told(&heads), "x-key"), [expected.as_str()]);
    assert!(exchange(&mut client, &get("/api/1", "Connection: x-key\r\n")).ends_with("ok"));
    assert_eq!(values(&told(&heads), "x-key"), [expected.as_str()]);
    // In the trailers of a body either.
    let chunked = "POST /api/1 HTTP/1.1\r\nHost: web.test\r\nTransfer-Encoding: chunked\r\nTrailer: x-key\r\n\r\n\
                   1\r\na\r\n0\r\nx-key: mine\r\n\r\n";
    client.write_all(chunked.as_bytes()).unwrap();
    drop(client);
    for refused in [
        "TRACE /api/1 HTTP/1.1\r\nHost: web.test\r\n\r\n".to_owned(),
        get("/api/1", "Connection: authorization\r\n"),
        get("/api/1", "Connection: x-key\r\nX-Key: a\r\n"),
        get("/api/1", "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"),
        get("http://other.test/api/1", ""),
    ] {
        let mut client = tls.client(&keeping.world, "web.test", origin.port());
        assert!(exchange(&mut client, &refused).starts_with("HTTP/1.1 400 "), "{refused}");
    }
}

#[test]
fn connections_that_carried_it_serve_nobody_else() {
    let tls = Tls::new();
    let (origin, heads) = tls.http(Shown::Good);
    let keeping = Keeping::new(&tls, Attach::Bearer);
    let mut client = tls.client(&keeping.world, "web.test", origin.port());
    for path in ["/api/1", "/open/1", "/api/2", "/open/2"] {
        assert!(exchange(&mut client, &get(path, "")).ends_with("ok"));
        let head = told(&heads);
        assert_eq!(values(&head, "authorization").len(), usize::from(path.starts_with("/api")), "{head}");
    }
    assert_eq!(origin.connections(), 2);
}

#[test]
fn a_source_that_has_none_denies_with_the_reason_and_sends_nothing() {
    let tls = Tls::new();
    let (origin, heads) = tls.http(Shown::Good);
    let keeping = Keeping::new(&tls, Attach::Bearer);
    std::fs::remove_file(&keeping.file).unwrap();
    let mut client = tls.client(&keeping.world, "web.test", origin.port());
    let answer = exchange(&mut client, &get("/api/1", "Authorization: Bearer mine\r\n"));
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("application/problem+json"), "{answer}");
    assert!(answer.contains("credential `token`"), "{answer}");
    keeping.world.event("flow.ended", |event| event["error"].as_str().is_some_and(|error| error.contains("token")));
    assert!(heads.try_recv().is_err() && origin.connections() == 0 && !keeping.record_tells("credential.used"));
    assert!(exchange(&mut client, &get("/open/1", "")).ends_with("ok"), "what needs none goes on");
}

#[test]
fn without_its_record_no_secret_leaves() {
    let tls = Tls::new();
    let (origin, heads) = tls.http(Shown::Good);
    let keeping = Keeping::new(&tls, Attach::Bearer);
    let mut client = tls.client(&keeping.world, "web.test", origin.port());
    std::fs::remove_file(keeping.world.events_file()).unwrap();
    assert!(exchange(&mut client, &get("/api/1", "")).starts_with("HTTP/1.1 503 "));
    assert!(heads.try_recv().is_err() && origin.connections() == 0);
}

#[test]
fn after_a_401_the_request_is_sent_once_more_with_a_new_secret() {
    let tls = Tls::new();
    let (tell, heads) = channel();
    let origin = tls.origin(Shown::Good, move |mut stream| {
        while let Some(request) = read_message(&mut stream) {
            let status = if request.contains("new-secret") { "200 OK" } else { "401 Unauthorized" };
            let _ = tell.send(request);
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok");
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
    let keeping = Keeping::new(&tls, Attach::Bearer);
    let mut client = tls.client(&keeping.world, "web.test", origin.port());
    // Its source has no other: the answer is passed on.
    assert!(exchange(&mut client, &get("/api/1", "")).starts_with("HTTP/1.1 401 "));
    assert!(told(&heads).contains(SECRET));
    let mut fresh = tls.client(&keeping.world, "web.test", origin.port());
    std::fs::write(&keeping.file, "new-secret-0a1b2c3d4e5f").unwrap();
    let answer = exchange(&mut fresh, &get("/api/2", ""));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let last = std::iter::from_fn(|| heads.try_recv().ok()).last().unwrap();
    assert!(last.contains("/api/2") && last.contains("new-secret"), "{last}");
}

#[test]
fn after_a_401_a_request_with_a_body_is_not_sent_again() {
    let start = "POST /api/1 HTTP/1.1\r\nHost: web.test\r\n";
    for (request, expected, sent) in [
        (get("/api/1", ""), "HTTP/1.1 200 ", 2),
        (format!("{start}Content-Length: 1\r\n\r\na"), "HTTP/1.1 401 ", 1),
        (format!("{start}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"), "HTTP/1.1 401 ", 1),
    ] {
        let tls = Tls::new();
        let (tell, heads) = channel();
        let file = tls.folder().join("token");
        let origin = tls.origin(Shown::Good, move |mut stream| {
            while let Some((head, _)) = read_request(&mut stream) {
                // The secret that it carries was replaced on its way.
                std::fs::write(&file, "new-secret-0a1b2c3d4e5f").unwrap();
                let status = if head.contains(SECRET) { "401 Unauthorized" } else { "200 OK" };
                let _ = tell.send(head);
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok");
                if stream.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
        });
        let keeping = Keeping::new(&tls, Attach::Bearer);
        let answer = exchange(&mut tls.client(&keeping.world, "web.test", origin.port()), &request);
        assert!(answer.starts_with(expected), "{request}: {answer}");
        let heads: Vec<String> = heads.try_iter().collect();
        assert_eq!(heads.len(), sent, "{request}: {heads:?}");
        assert!(heads[0].contains(SECRET) && !heads[1..].iter().any(|head| head.contains(SECRET)), "{heads:?}");
    }
}

#[test]
fn a_new_policy_that_unbinds_it_cuts_what_carries_it() {
    let tls = Tls::new();
    let (started, heads) = channel();
    let origin = tls.origin(Shown::Good, move |mut stream| {
        while let Some(head) = read_message(&mut stream) {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nfirst").unwrap();
            started.send(head).unwrap();
        }
    });
    let keeping = Keeping::new(&tls, Attach::Bearer);
    let mut carries = tls.client(&keeping.world, "web.test", origin.port());
    let mut bare = tls.client(&keeping.world, "web.test", origin.port());
    carries.write_all(get("/api/1", "").as_bytes()).unwrap();
    bare.write_all(get("/open/1", "").as_bytes()).unwrap();
    for client in [&mut carries, &mut bare] {
        assert!(read_head(client).starts_with("HTTP/1.1 200 "));
        told(&heads);
    }
    // The request is allowed still, and no more with the secret.
    let mut spec = keeping.spec.clone();
    spec.rules[1].http = methods(&["GET"], &["/**"]);
    spec.rules.remove(0);
    let applied = keeping.apply(spec);
    assert_eq!((applied.rejudged, applied.cut), (2, 1));
    let mut rest = Vec::new();
    let end = carries.read_to_end(&mut rest);
    assert!(end.is_err() && rest.len() <= 5, "{end:?} after {rest:?}");
}

fn swapped() -> Attach {
    let field = |method: &str, path: &str, place| Field { method: method.to_owned(), path: path.to_owned(), place };
    Attach::Placeholder {
        headers: vec!["authorization".to_owned()],
        fields: vec![
            field("POST", "/api/form", Place::Form("token".to_owned())),
            field("POST", "/api/json", Place::Json("/token".to_owned())),
            field("GET", "/api/query", Place::Query("key".to_owned())),
            field("GET", "/api/bot{placeholder}".replace("bot", "").as_str(), Place::Path),
        ],
    }
}

#[test]
fn a_placeholder_is_swapped_where_the_policy_says_and_nowhere_else() {
    let tls = Tls::new();
    let (origin, heads) = tls.http(Shown::Good);
    let keeping = Keeping::new(&tls, swapped());
    let p = keeping.placeholder.text().to_owned();
    let basic = |token: &str| BASE64.encode(format!("x:{token}").as_bytes());
    let post = |path: &str, kind: &str, body: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: web.test\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let json = "application/json";
    for (request, expected, count) in [
        (get("/api/1", &format!("Authorization: token {p}\r\nX-Note: {p}\r\n")), format!("token {SECRET}"), 1),
        (get("/api/1", &format!("Authorization: Basic {}\r\n", basic(&p))), basic(SECRET), 0),
        (get("/api/1", &format!("AUTHORIZATION: Bearer attacker\r\nAuthorization: {p}\r\n")), SECRET.to_owned(), 1),
        (get(&format!("/api/query?key={p}&q={p}"), ""), format!("/api/query?key={SECRET}&q={p}"), 1),
        (get(&format!("/api/{p}"), ""), format!("GET /api/{SECRET} "), 1),
        (
            post("/api/json", json, &format!("{{\"note\":\"{p}\",\"token\":\"{p}\"}}")),
            format!("{{\"note\":\"{p}\",\"token\":\"{SECRET}\"}}"),
            1,
        ),
        (
            post("/api/form", "application/x-www-form-urlencoded", &format!("token={p}&n={p}")),
            format!("token={SECRET}&n={p}"),
            1,
        ),
        (post("/api/1", json, &format!("{{\"token\":\"{p}\"}}")), format!("{{\"token\":\"{p}\"}}"), 0),
        (get("/api/1", &format!("Authorization: Bearer attacker\r\nCookie: {p}\r\n")), p.clone(), 0),
    ] {
        let mut client = tls.client(&keeping.world, "web.test", origin.port());
        assert!(exchange(&mut client, &request).ends_with("ok"), "{request}");
        let head = told(&heads);
        assert!(head.contains(&expected) && head.matches(SECRET).count() == count, "{request}\n{head}");
        assert!(!head.contains("attacker"), "{head}");
    }
    let used = keeping.world.events().iter().filter(|event| event["event"] == "credential.used").count();
    assert_eq!(used, 7, "recorded where it went along");
    assert!(!keeping.record_tells(SECRET));
}

#[test]
fn a_body_in_which_a_placeholder_may_stand_has_a_bound() {
    let tls = Tls::new();
    let (origin, heads) = tls.http(Shown::Good);
    let keeping = Keeping::new(&tls, swapped());
    let mut client = tls.client(&keeping.world, "web.test", origin.port());
    let head = "POST /api/json HTTP/1.1\r\nHost: web.test\r\nContent-Type: application/json\r\n";
    let answer = exchange(&mut client, &format!("{head}Content-Length: 2000000\r\n\r\n"));
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("1 MiB"), "{answer}");
    assert!(heads.try_recv().is_err());
    // In chunks, with another length than before.
    let mut client = tls.client(&keeping.world, "web.test", origin.port());
    let body = format!("{{\"token\":\"{}\"}}", keeping.placeholder.text());
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    assert!(exchange(&mut client, &chunked).ends_with("ok"));
    assert!(told(&heads).ends_with(&format!("{{\"token\":\"{SECRET}\"}}")));
}

#[test]
fn without_keepers_a_policy_with_credentials_is_refused_by_name() {
    let tls = Tls::new();
    let keeping = Keeping::new(&tls, Attach::Bearer);
    let world = tls.world(vec![loopback("plain", 10, policy::model::Action::Allow, &["web.test"])]);
    let compiled = policy::CompiledPolicy::compile(
        keeping.spec.clone(),
        policy::model::Lists::default(),
        policy::OwnAddresses::default(),
        values::Revision(2),
    );
    let error = world.gateway.apply(std::sync::Arc::new(compiled.unwrap())).unwrap_err();
    assert!(error.to_string().contains("rule uses: "), "{error}");
}
