//! Secrets over HTTP/2, with clients and servers that speak it: attached, taken out of trailers, renewed after a 401.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "help for tests")]

mod support;

use std::{net::SocketAddr, sync::mpsc::Receiver};

use bytes::Bytes;
use data_encoding::BASE64;
use http::{HeaderMap, Method, StatusCode, request::Parts};
use policy::model::credential::{Attach, Field, Place};
use support::{
    Origin,
    http2::{self, Seen, client, get, request, seen},
    read_response,
    secrets::{Keeping, SECRET},
    tls::{Shown, Tls},
};

fn origin(tls: &Tls, answers: http2::Answers) -> (SocketAddr, Receiver<Seen>) {
    http2::origin(tls.server_config(Shown::Good, &["h2"]), answers)
}

fn swapped() -> Attach {
    let field = Field { method: "POST".to_owned(), path: "/api/1".to_owned(), place: Place::Json("/token".to_owned()) };
    Attach::Placeholder { headers: vec!["x-key".to_owned()], fields: vec![field] }
}

#[tokio::test]
async fn each_way_of_attaching_puts_it_into_the_stream_that_is_bound_alone() {
    let basic = format!("Basic {}", BASE64.encode(format!("bot:{SECRET}").as_bytes()));
    let header = Attach::Header { name: "x-key".to_owned(), format: "Token {value}".to_owned() };
    for (attach, name, expected, path) in [
        (Attach::Bearer, "authorization", format!("Bearer {SECRET}"), "/api/1?key=mine"),
        (Attach::Basic { username: "bot".to_owned() }, "authorization", basic, "/api/1?key=mine"),
        (header, "x-key", format!("Token {SECRET}"), "/api/1?key=mine"),
        (Attach::Cookie { name: "sid".to_owned() }, "cookie", format!("a=1; sid={SECRET}"), "/api/1?key=mine"),
        (Attach::Query { name: "key".to_owned() }, "x-kept", "1".to_owned(), &format!("/api/1?key={SECRET}")),
        (swapped(), "x-key", SECRET.to_owned(), "/api/1?key=mine"),
    ] {
        let tls = Tls::new();
        let (origin, requests) = origin(&tls, http2::ok);
        let keeping = Keeping::new(&tls, attach.clone());
        let sender = client(&tls, &keeping.world, origin.port()).await;
        for uri in ["/api/1?key=mine", "/open/1"] {
            let mut asked = request(Method::GET, "web.test", uri);
            let is_swapped = matches!(attach, Attach::Placeholder { .. });
            let own = if is_swapped { keeping.placeholder.text() } else { "mine" };
            // A cookie may come in crumbs (RFC 9113, 8.2.3).
            for (name, value) in
                [("authorization", "Bearer mine"), ("x-key", own), ("cookie", "a=1"), ("cookie", "sid=mine")]
            {
                asked.headers_mut().append(name, value.parse().unwrap());
            }
            asked.headers_mut().insert("x-kept", "1".parse().unwrap());
            assert_eq!(get(&sender, asked).await.0, StatusCode::OK);
            let seen = seen(&requests);
            if uri == "/open/1" {
                assert!(!format!("{seen:?}").contains(SECRET), "{attach:?}: {seen:?}");
            } else {
                assert_eq!(seen.values(name), [expected.as_str()], "{attach:?}: {seen:?}");
                assert_eq!(seen.head.uri.path_and_query().unwrap().as_str(), path, "{attach:?}");
            }
        }
        let used = keeping.world.events().iter().filter(|event| event["event"] == "credential.used").count();
        assert!(used == 1 && !keeping.record_tells(SECRET), "{attach:?}");
    }
}

/// Sends a body with these trailers.
async fn post(
    sender: &h2::client::SendRequest<Bytes>,
    fields: HeaderMap,
    body: &str,
    trailers: HeaderMap,
) -> (StatusCode, String, HeaderMap) {
    let mut asked = request(Method::POST, "web.test", "/api/1");
    *asked.headers_mut() = fields;
    let mut ready = sender.clone().ready().await.unwrap();
    let (response, mut sending) = ready.send_request(asked, false).unwrap();
    sending.send_data(Bytes::copy_from_slice(body.as_bytes()), false).unwrap();
    sending.send_trailers(trailers).unwrap();
    http2::whole(response.await.unwrap()).await
}

fn fields(fields: &[(&'static str, &str)]) -> HeaderMap {
    fields.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
}

/// What it was sent, told back.
fn tells(head: &Parts) -> (StatusCode, String) {
    (StatusCode::OK, format!("was {:?}", head.headers.get("authorization")))
}

#[tokio::test]
async fn trailers_carry_nothing_in_its_place_and_do_not_tell_it() {
    let tls = Tls::new();
    let (origin, requests) = origin(&tls, tells);
    let keeping = Keeping::new(&tls, Attach::Bearer);
    let sender = client(&tls, &keeping.world, origin.port()).await;
    let trailers = fields(&[("authorization", "Bearer mine"), ("x_key", "mine"), ("cookie", "a=b"), ("checksum", "1")]);
    let (status, body, trailers) = post(&sender, HeaderMap::new(), "abc", trailers).await;
    let seen = seen(&requests);
    assert_eq!((seen.body.as_str(), seen.trailers.len()), ("abc", 0), "{seen:?}");
    assert_eq!(seen.values("authorization"), [format!("Bearer {SECRET}")]);
    assert!(status == StatusCode::OK && body.starts_with("was Some(\"Bearer "), "{body}");
    let message = trailers.get("grpc-message").unwrap().to_str().unwrap();
    assert!(message.starts_with("was ") && trailers.get("grpc-status").unwrap() == "0", "{trailers:?}");
    assert!(!body.contains(SECRET) && !message.contains(SECRET), "{body} {message}");
}

#[tokio::test]
async fn a_body_is_swapped_and_its_length_told_anew() {
    let tls = Tls::new();
    let (origin, requests) = origin(&tls, http2::ok);
    let keeping = Keeping::new(&tls, swapped());
    let sender = client(&tls, &keeping.world, origin.port()).await;
    let body = format!("{{\"token\":\"{}\"}}", keeping.placeholder.text());
    let head = fields(&[("content-type", "application/json"), ("content-length", &body.len().to_string())]);
    assert_eq!(post(&sender, head, &body, HeaderMap::new()).await.0, StatusCode::OK);
    let seen = seen(&requests);
    assert_eq!(seen.body, format!("{{\"token\":\"{SECRET}\"}}"));
    assert_eq!(seen.values("content-length"), [seen.body.len().to_string()]);
}

#[tokio::test]
async fn after_a_401_a_stream_is_sent_once_more_with_a_new_secret() {
    let tls = Tls::new();
    let (origin, requests) = origin(&tls, |head| {
        let is_new = head.headers.get("authorization").is_some_and(|value| value == "Bearer new-secret-0a1b2c3d4e5f");
        (if is_new { StatusCode::OK } else { StatusCode::UNAUTHORIZED }, "ok".to_owned())
    });
    let keeping = Keeping::new(&tls, Attach::Bearer);
    let sender = client(&tls, &keeping.world, origin.port()).await;
    // Its source has no other: the answer is passed on.
    assert_eq!(get(&sender, request(Method::GET, "web.test", "/api/1")).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(seen(&requests).values("authorization"), [format!("Bearer {SECRET}")]);
    std::fs::write(&keeping.file, "new-secret-0a1b2c3d4e5f").unwrap();
    assert_eq!(get(&sender, request(Method::GET, "web.test", "/api/2")).await.0, StatusCode::OK);
    let last = std::iter::from_fn(|| requests.try_recv().ok()).last().unwrap();
    assert_eq!(last.head.uri.path(), "/api/2");
    assert_eq!(last.values("authorization"), ["Bearer new-secret-0a1b2c3d4e5f"]);
}

#[test]
fn plain_http_never_carries_it() {
    let tls = Tls::new();
    let (origin, heads) = Origin::http();
    let keeping = Keeping::new(&tls, Attach::Bearer);
    let port = origin.port();
    let ask = |path: &str, through_tunnel: bool| {
        use std::io::Write as _;
        let (mut client, target) = match through_tunnel {
            true => (keeping.world.granted(&format!("web.test:{port}")), path.to_owned()),
            false => (keeping.world.client(), format!("http://web.test:{port}{path}")),
        };
        client.write_all(format!("GET {target} HTTP/1.1\r\nHost: web.test:{port}\r\n\r\n").as_bytes()).unwrap();
        read_response(&mut client).0
    };
    for through_tunnel in [true, false] {
        assert!(ask("/api/1", through_tunnel).starts_with("HTTP/1.1 403 "));
        assert!(ask("/open/1", through_tunnel).starts_with("HTTP/1.1 200 "));
        let head = heads.recv_timeout(support::PATIENCE).unwrap().to_ascii_lowercase();
        assert!(head.starts_with("get /open/1 ") && !head.contains("authorization"), "{head}");
    }
    assert!(heads.try_recv().is_err() && !keeping.record_tells("credential.used"));
}
