//! HTTP/2 by a library: a server that tells what reached it, and a client through the proxy.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        mpsc::{Receiver, channel},
    },
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, request::Parts};
use rustls::{ServerConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};

use super::{PATIENCE, World, tls::Tls};

/// A request as it reached a server.
#[derive(Debug)]
pub struct Seen {
    pub head: Parts,
    pub body: String,
    pub trailers: HeaderMap,
    /// Whether the client showed a certificate.
    pub known: bool,
}

impl Seen {
    /// Its first line, with its body and trailers.
    pub fn line(&self) -> String {
        let Self { head, body, trailers, .. } = self;
        format!("{} {} {:?} {body} {trailers:?}", head.method, head.uri, head.version)
    }

    /// The values of a field.
    pub fn values(&self, name: &str) -> Vec<&str> {
        self.head.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    }
}

/// What is answered: a status, and text that stands in the body and in a trailer.
pub type Answers = fn(&Parts) -> (StatusCode, String);

/// `ok`.
pub fn ok(_: &Parts) -> (StatusCode, String) {
    (StatusCode::OK, "ok".to_owned())
}

/// A server of HTTP/2 on a thread of its own: tells each request and answers it, with a trailer. What ends with
/// `/endless` is answered without an end.
pub fn origin(config: Arc<ServerConfig>, answers: Answers) -> (SocketAddr, Receiver<Seen>) {
    let (tell, seen) = channel();
    let (ready, address) = channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            ready.send(listener.local_addr().unwrap()).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, tell) = (TlsAcceptor::from(Arc::clone(&config)), tell.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let known = stream.get_ref().1.peer_certificates().is_some();
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
                            let body = String::from_utf8_lossy(&bytes).into_owned();
                            let (status, text) = answers(&head);
                            let endless = head.uri.path().ends_with("/endless");
                            tell.send(Seen { head, body, trailers, known }).unwrap();
                            let response = Response::builder().status(status).body(()).unwrap();
                            let mut stream = respond.send_response(response, false).unwrap();
                            if endless {
                                stream.send_data(Bytes::from_static(b"first"), false).unwrap();
                                std::future::pending::<()>().await;
                            }
                            let mut trailers = HeaderMap::new();
                            trailers.insert("grpc-status", HeaderValue::from_static("0"));
                            trailers.insert("grpc-message", text.parse().unwrap());
                            stream.send_data(text.into(), false).unwrap();
                            stream.send_trailers(trailers).unwrap();
                        });
                    }
                });
            }
        });
    });
    (address.recv_timeout(PATIENCE).unwrap(), seen)
}

/// What reached a server within the patience of a test.
pub fn seen(requests: &Receiver<Seen>) -> Seen {
    requests.recv_timeout(PATIENCE).expect("a request")
}

/// A client through the proxy.
pub async fn client(tls: &Tls, world: &World, port: u16) -> h2::client::SendRequest<Bytes> {
    handshake(connected(tls, world, port).await).await
}

/// Its opened TLS.
async fn connected(tls: &Tls, world: &World, port: u16) -> TlsStream<TcpStream> {
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

async fn handshake(stream: TlsStream<TcpStream>) -> h2::client::SendRequest<Bytes> {
    let (sender, driver) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move {
        // It ends with the test.
        let _ = driver.await;
    });
    sender
}

pub fn request(method: Method, host: &str, path: &str) -> Request<()> {
    let uri = format!("https://{host}{path}");
    Request::builder().method(method).uri(uri).version(Version::HTTP_2).body(()).unwrap()
}

/// Sends a request without a body; the answer whole.
pub async fn get(sender: &h2::client::SendRequest<Bytes>, request: Request<()>) -> (StatusCode, String, HeaderMap) {
    let mut ready = sender.clone().ready().await.unwrap();
    let (response, _) = ready.send_request(request, true).unwrap();
    whole(response.await.unwrap()).await
}

/// An answer to its end.
pub async fn whole(response: Response<h2::RecvStream>) -> (StatusCode, String, HeaderMap) {
    let (head, mut body) = response.into_parts();
    let mut bytes = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.unwrap();
        body.flow_control().release_capacity(chunk.len()).unwrap();
        bytes.extend_from_slice(&chunk);
    }
    let trailers = body.trailers().await.unwrap().unwrap_or_default();
    (head.status, String::from_utf8_lossy(&bytes).into_owned(), trailers)
}
