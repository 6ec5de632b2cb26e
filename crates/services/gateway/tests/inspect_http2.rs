//! Opened TLS with HTTP/2, at the wire: each stream is judged by itself.

#![allow(clippy::unwrap_used, reason = "help for tests")]

mod support;

use std::{io::Write as _, net::SocketAddr, sync::mpsc::Receiver};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, StatusCode};
use policy::model::{Action, Rule};
use support::{
    frames::{self, END_HEADERS, END_STREAM, HEADERS, Outcome, PREFACE, SETTINGS, block, frame, read_frame},
    http2::{self, Seen, client, get, request, seen},
    loopback, methods,
    tls::{Shown, Tls, inspected, told},
};

fn origin(tls: &Tls) -> (SocketAddr, Receiver<Seen>) {
    http2::origin(tls.server_config(Shown::Good, &["h2", "http/1.1"]), http2::ok)
}

#[tokio::test]
async fn each_stream_is_judged_by_itself() {
    let tls = Tls::new();
    let (origin, heads) = origin(&tls);
    let world = tls.world(inspected());
    let sender = client(&tls, &world, origin.port()).await;
    let (ok, no, other, plain) = tokio::join!(
        get(&sender, request(Method::GET, "web.test", "/ok/1")),
        get(&sender, request(Method::GET, "web.test", "/no")),
        get(&sender, request(Method::GET, "other.test", "/ok/1")),
        get(&sender, request(Method::TRACE, "web.test", "/ok/1")),
    );
    assert_eq!((ok.0, ok.1.as_str()), (StatusCode::OK, "ok"));
    assert_eq!(ok.2.get("grpc-status").unwrap(), "0", "trailers come through");
    assert_eq!(no.0, StatusCode::FORBIDDEN);
    assert!(no.1.contains("\"rule\""), "{}", no.1);
    assert_eq!((other.0, plain.0), (StatusCode::MISDIRECTED_REQUEST, StatusCode::BAD_REQUEST));
    assert_eq!(seen(&heads).line(), "GET https://web.test/ok/1 HTTP/2.0  {}");
    assert!(heads.try_recv().is_err());
    world.event("flow.decided", |event| event["verdict"] == "denied" && event["http"]["path"] == "/no");
}

#[tokio::test]
async fn bodies_and_trailers_go_up() {
    let tls = Tls::new();
    let (origin, heads) = origin(&tls);
    let world = tls.world(inspected());
    let sender = client(&tls, &world, origin.port()).await;
    let mut ready = sender.ready().await.unwrap();
    let (response, mut body) = ready.send_request(request(Method::PUT, "web.test", "/put/1"), false).unwrap();
    body.send_data(Bytes::from_static(b"abc"), false).unwrap();
    // A server could take the others for a part of the head.
    let names =
        ["host", "content-length", "authorization", "cookie", "x_method-override", "x-original-url", "checksum"];
    let trailers = names.map(|name| (HeaderName::from_static(name), "1".parse().unwrap()));
    body.send_trailers(HeaderMap::from_iter(trailers)).unwrap();
    assert_eq!(response.await.unwrap().status(), StatusCode::OK);
    let seen = seen(&heads);
    assert!(seen.line().starts_with("PUT https://web.test/put/1 HTTP/2.0 abc"), "{seen:?}");
    assert_eq!(seen.trailers.keys().collect::<Vec<_>>(), ["checksum"]);
}

#[tokio::test]
async fn a_server_of_http1_serves_streams_too() {
    let tls = Tls::new();
    let (origin, heads) = tls.http(Shown::Good);
    let world = tls.world(inspected());
    let sender = client(&tls, &world, origin.port()).await;
    let (one, two) = tokio::join!(
        get(&sender, request(Method::GET, "web.test", "/ok/1")),
        get(&sender, request(Method::GET, "web.test", "/ok/2")),
    );
    assert_eq!((one.1.as_str(), two.1.as_str()), ("ok", "ok"));
    let head = told(&heads).to_ascii_lowercase();
    assert!(head.starts_with("get /ok/") && head.contains("host: web.test\r\n"), "{head}");
}

#[tokio::test]
async fn a_new_policy_cuts_a_stream_and_leaves_the_connection() {
    let tls = Tls::new();
    let (origin, heads) = origin(&tls);
    let world = tls.world(inspected());
    let sender = client(&tls, &world, origin.port()).await;
    let mut ready = sender.clone().ready().await.unwrap();
    let (response, _) = ready.send_request(request(Method::GET, "web.test", "/ok/endless"), true).unwrap();
    let mut body = response.await.unwrap().into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), "first");
    seen(&heads);
    let narrow = Rule { http: methods(&["GET"], &["/other"]), ..loopback("narrow", 10, Action::Allow, &["web.test"]) };
    assert_eq!(world.apply(vec![narrow]).cut, 1);
    assert!(body.data().await.unwrap().is_err());
    let (other, ok) = tokio::join!(
        get(&sender, request(Method::GET, "web.test", "/other")),
        get(&sender, request(Method::GET, "web.test", "/ok/1")),
    );
    assert_eq!((other.0, ok.0), (StatusCode::OK, StatusCode::FORBIDDEN));
}

#[test]
fn what_the_library_rejects_by_itself_is_recorded() {
    let tls = Tls::new();
    let (origin, heads) = tls.http(Shown::Good);
    let with = |name: &'static str, value: &'static str| {
        let fields: Vec<_> = frames::get("/ok/1").into_iter().chain([(name, value)]).collect();
        block(&fields)
    };
    for (block, expected) in [
        (with("transfer-encoding", "chunked"), Outcome::Reset(1)),
        (with("a", "b\r\nHost: evil.test"), Outcome::GoAway(1)),
    ] {
        let bad = |stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &block);
        // Alone: nothing was sent on, so it is a flow that was denied.
        let world = tls.world(inspected());
        let mut client = tls.client_of(&world, &["h2"], origin.port());
        client.write_all(&[PREFACE.to_vec(), frame(SETTINGS, 0, 0, b""), bad(1)].concat()).unwrap();
        assert_eq!(frames::outcome(&mut client), expected);
        drop(client);
        let denied = world.event("flow.decided", |_| true);
        assert_eq!((&denied["verdict"], &denied["rule"]), (&"denied".into(), &"guard:malformed".into()));
        assert!(denied["error"].as_str().unwrap().contains("rejected as malformed HTTP/2, times: 1"), "{denied}");
        // Behind a request: told with the connection's end.
        let world = tls.world(inspected());
        let mut client = tls.client_of(&world, &["h2"], origin.port());
        let good = frames::request(1, END_STREAM, &frames::get("/ok/1"));
        client.write_all(&[PREFACE.to_vec(), frame(SETTINGS, 0, 0, b""), good].concat()).unwrap();
        assert_eq!(frames::outcome(&mut client), Outcome::Answered(200));
        client.write_all(&bad(3)).unwrap();
        while read_frame(&mut client)
            .is_some_and(|frame| frame.kind != frames::RST_STREAM && frame.kind != frames::GOAWAY)
        {}
        drop(client);
        let ended = world.event("flow.ended", |_| true);
        assert!(ended["error"].as_str().unwrap().contains("rejected as malformed HTTP/2, times: 1"), "{ended}");
        told(&heads);
        assert!(heads.try_recv().is_err());
    }
}

#[test]
fn a_body_that_is_ended_short_behind_its_answer_is_nothing_malformed() {
    let tls = Tls::new();
    let (origin, heads) = tls.http(Shown::Good);
    let world = tls.world(inspected());
    let mut client = tls.client_of(&world, &["h2"], origin.port());
    let denied: Vec<_> = frames::put("/no").into_iter().chain([("content-length", "6")]).collect();
    let denied = frames::request(1, 0, &denied);
    client.write_all(&[PREFACE.to_vec(), frame(SETTINGS, 0, 0, b""), denied].concat()).unwrap();
    assert_eq!(frames::outcome(&mut client), Outcome::Answered(403));
    // As curl does.
    client.write_all(&frame(frames::DATA, END_STREAM, 1, b"")).unwrap();
    while read_frame(&mut client).unwrap().kind != frames::RST_STREAM {}
    client.write_all(&frames::request(3, END_STREAM, &frames::get("/ok/1"))).unwrap();
    assert_eq!(frames::outcome(&mut client), Outcome::Answered(200));
    told(&heads);
    drop(client);
    let ended = world.event("flow.ended", |_| true);
    assert!(!ended["error"].as_str().is_some_and(|error| error.contains("rejected")), "{ended}");
    let rules: Vec<_> = world.events().into_iter().map(|event| event["rule"].clone()).collect();
    assert!(!rules.contains(&"guard:malformed".into()), "{rules:?}");
}
