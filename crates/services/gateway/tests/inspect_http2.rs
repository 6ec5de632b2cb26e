//! Opened TLS with HTTP/2, at the wire: each stream is judged by itself.

#![allow(clippy::unwrap_used, reason = "help for tests")]

mod support;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        mpsc::{Receiver, channel},
    },
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use policy::model::{Action, Rule};
use rustls::pki_types::ServerName;
use support::{
    PATIENCE, World, loopback, methods,
    tls::{Shown, Tls, inspected, told},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};

/// A server of HTTP/2 on a thread of its own: tells each request and answers with `ok` and a trailer.
fn origin(tls: &Tls) -> (SocketAddr, Receiver<String>) {
    let (tell, heads) = channel();
    let (ready, address) = channel();
    let config = tls.server_config(Shown::Good, &["h2", "http/1.1"]);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            ready.send(listener.local_addr().unwrap()).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, tell) = (TlsAcceptor::from(Arc::clone(&config)), tell.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let mut connection = h2::server::handshake(stream).await.unwrap();
                    while let Some(Ok((request, mut respond))) = connection.accept().await {
                        let (head, mut body) = request.into_parts();
                        let tell = tell.clone();
                        tokio::spawn(async move {
                            let mut bytes = Vec::new();
                            while let Some(Ok(chunk)) = body.data().await {
                                body.flow_control().release_capacity(chunk.len()).unwrap();
                                bytes.extend_from_slice(&chunk);
                            }
                            let trailers = body.trailers().await.ok().flatten().unwrap_or_default();
                            let text = String::from_utf8_lossy(&bytes).into_owned();
                            tell.send(format!("{} {} {:?} {text} {trailers:?}", head.method, head.uri, head.version))
                                .unwrap();
                            let mut stream = respond.send_response(Response::new(()), false).unwrap();
                            if head.uri.path().ends_with("/endless") {
                                stream.send_data(Bytes::from_static(b"first"), false).unwrap();
                                std::future::pending::<()>().await;
                            }
                            stream.send_data(Bytes::from_static(b"ok"), false).unwrap();
                            let mut trailers = HeaderMap::new();
                            trailers.insert("grpc-status", "0".parse().unwrap());
                            stream.send_trailers(trailers).unwrap();
                        });
                    }
                });
            }
        });
    });
    (address.recv_timeout(PATIENCE).unwrap(), heads)
}

async fn client(tls: &Tls, world: &World, port: u16) -> TlsStream<TcpStream> {
    let mut stream = TcpStream::connect(world.proxy).await.unwrap();
    let target = format!("web.test:{port}");
    stream.write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let connector = TlsConnector::from(tls.client_config(&["h2", "http/1.1"]));
    let opened = connector.connect(ServerName::try_from("web.test").unwrap(), stream).await.unwrap();
    assert_eq!(opened.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    opened
}

fn request(method: Method, host: &str, path: &str) -> Request<()> {
    let uri = format!("https://{host}{path}");
    Request::builder().method(method).uri(uri).version(Version::HTTP_2).body(()).unwrap()
}

async fn handshake(stream: TlsStream<TcpStream>) -> h2::client::SendRequest<Bytes> {
    let (sender, driver) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move {
        // It ends with the test.
        let _ = driver.await;
    });
    sender
}

/// Sends a request without a body; the answer whole.
async fn get(sender: &h2::client::SendRequest<Bytes>, request: Request<()>) -> (StatusCode, String, HeaderMap) {
    let mut ready = sender.clone().ready().await.unwrap();
    let (response, _) = ready.send_request(request, true).unwrap();
    let (head, mut body) = response.await.unwrap().into_parts();
    let mut bytes = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.unwrap();
        body.flow_control().release_capacity(chunk.len()).unwrap();
        bytes.extend_from_slice(&chunk);
    }
    let trailers = body.trailers().await.unwrap().unwrap_or_default();
    (head.status, String::from_utf8_lossy(&bytes).into_owned(), trailers)
}

#[tokio::test]
async fn each_stream_is_judged_by_itself() {
    let tls = Tls::new();
    let (origin, heads) = origin(&tls);
    let world = tls.world(inspected());
    let sender = handshake(client(&tls, &world, origin.port()).await).await;
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
    assert_eq!(told(&heads), "GET https://web.test/ok/1 HTTP/2.0  {}");
    assert!(heads.try_recv().is_err());
    world.event("flow.decided", |event| event["verdict"] == "denied" && event["http"]["path"] == "/no");
}

#[tokio::test]
async fn bodies_and_trailers_go_up() {
    let tls = Tls::new();
    let (origin, heads) = origin(&tls);
    let world = tls.world(inspected());
    let sender = handshake(client(&tls, &world, origin.port()).await).await;
    let mut ready = sender.ready().await.unwrap();
    let (response, mut body) = ready.send_request(request(Method::PUT, "web.test", "/put/1"), false).unwrap();
    body.send_data(Bytes::from_static(b"abc"), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("checksum", "1".parse().unwrap());
    body.send_trailers(trailers).unwrap();
    assert_eq!(response.await.unwrap().status(), StatusCode::OK);
    let head = told(&heads);
    assert!(head.starts_with("PUT https://web.test/put/1 HTTP/2.0 abc") && head.contains("checksum"), "{head}");
}

#[tokio::test]
async fn a_server_of_http1_serves_streams_too() {
    let tls = Tls::new();
    let (origin, heads) = tls.http(Shown::Good);
    let world = tls.world(inspected());
    let sender = handshake(client(&tls, &world, origin.port()).await).await;
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
    let sender = handshake(client(&tls, &world, origin.port()).await).await;
    let mut ready = sender.clone().ready().await.unwrap();
    let (response, _) = ready.send_request(request(Method::GET, "web.test", "/ok/endless"), true).unwrap();
    let mut body = response.await.unwrap().into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), "first");
    told(&heads);
    let narrow = Rule { http: methods(&["GET"], &["/other"]), ..loopback("narrow", 10, Action::Allow, &["web.test"]) };
    assert_eq!(world.apply(vec![narrow]).cut, 1);
    assert!(body.data().await.unwrap().is_err());
    let (other, ok) = tokio::join!(
        get(&sender, request(Method::GET, "web.test", "/other")),
        get(&sender, request(Method::GET, "web.test", "/ok/1")),
    );
    assert_eq!((other.0, ok.0), (StatusCode::OK, StatusCode::FORBIDDEN));
}
