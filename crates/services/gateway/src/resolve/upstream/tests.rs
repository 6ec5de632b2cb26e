//! Servers that cut, lie, fail, keep silent; over UDP, TCP, TLS and HTTPS.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::RecordType,
};
use policy::model::{DnsServer, Hop, ProxyAddress, Route};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{RootCertStore, ServerConfig, crypto::aws_lc_rs, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
};
use tokio_rustls::TlsAcceptor;

use super::{Roots, ServerError, Upstream, UpstreamError};
use crate::resolve::scripted::{Over, Server, a, bytes, code, name, response};

const ASKED: &str = "www.example.com.";

fn upstream(servers: &[SocketAddr], limit: Duration) -> Upstream {
    Upstream::new(servers, limit, Roots::only(RootCertStore::empty()))
}

async fn ask(servers: &[SocketAddr]) -> Result<Message, UpstreamError> {
    let upstream = upstream(servers, Duration::from_secs(3));
    upstream.ask(&Route::default(), &name(ASKED), RecordType::A).await
}

fn answer(query: &Message) -> Vec<Vec<u8>> {
    bytes(&response(query, [a(ASKED, 60, "192.0.2.1")]))
}

fn failure(outcome: Result<Message, UpstreamError>) -> ServerError {
    match outcome {
        Err(UpstreamError::Failed { source, .. }) => source,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn each_question_has_an_id_and_a_port_of_its_own() {
    let server = Server::start(|query, _| answer(query)).await;
    for _ in 0..8 {
        assert_eq!(ask(&[server.address]).await.unwrap().answers.len(), 1);
    }
    let seen = server.seen();
    assert!(seen.iter().all(|seen| seen.over == Over::Udp && seen.name == ASKED));
    let distinct = |values: Vec<u16>| values.into_iter().collect::<std::collections::HashSet<_>>().len();
    assert!(distinct(seen.iter().map(|seen| seen.id).collect()) > 4);
    assert!(distinct(seen.iter().map(|seen| seen.peer.port()).collect()) > 4);
}

#[tokio::test]
async fn a_cut_answer_is_asked_for_again_over_tcp() {
    for cut_within_a_record in [false, true] {
        let server = Server::start(move |query, over| {
            let mut message = response(query, [a(ASKED, 60, "192.0.2.9")]);
            message.metadata.truncation = over == Over::Udp;
            let mut bytes = message.to_vec().unwrap();
            if over == Over::Udp && cut_within_a_record {
                bytes.truncate(bytes.len() - 3);
            }
            vec![bytes]
        })
        .await;
        let message = ask(&[server.address]).await.unwrap();
        assert!(!message.metadata.truncation);
        assert_eq!(server.seen().iter().map(|seen| seen.over).collect::<Vec<_>>(), [Over::Udp, Over::Tcp]);
    }
}

#[tokio::test]
async fn lies_are_passed_over_until_the_answer_comes() {
    let server = Server::start(|query, _| {
        let mut all = Vec::new();
        let mut wrong_id = response(query, [a(ASKED, 60, "192.0.2.66")]);
        wrong_id.metadata.id ^= 1;
        all.extend(bytes(&wrong_id));
        let mut other_name = response(query, [a("evil.example.", 60, "192.0.2.66")]);
        other_name.queries[0].name = name("evil.example.");
        all.extend(bytes(&other_name));
        let mut other_type = response(query, []);
        other_type.queries[0].query_type = RecordType::TXT;
        all.extend(bytes(&other_type));
        let mut no_question = response(query, [a(ASKED, 60, "192.0.2.66")]);
        no_question.queries.clear();
        all.extend(bytes(&no_question));
        let mut a_query = response(query, []).to_vec().unwrap();
        a_query[2] &= 0x7F;
        all.push(a_query);
        all.push(vec![0xFF; 40]);
        all.push(Vec::new());
        all.extend(answer(query));
        all
    })
    .await;
    let message = ask(&[server.address]).await.unwrap();
    assert_eq!(message.answers, [a(ASKED, 60, "192.0.2.1")]);
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_server_that_only_lies_is_given_up() {
    let server = Server::start(|query, _| {
        let mut wrong = response(query, [a(ASKED, 60, "192.0.2.66")]);
        wrong.metadata.id ^= 1;
        vec![wrong.to_vec().unwrap(); 70]
    })
    .await;
    assert!(matches!(failure(ask(&[server.address]).await), ServerError::Unrelated));
}

#[tokio::test]
async fn servers_that_are_down_or_fail_are_followed_by_the_next() {
    let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let failing = Server::start(|query, _| code(query, ResponseCode::ServFail)).await;
    let refusing = Server::start(|query, _| code(query, ResponseCode::Refused)).await;
    let good = Server::start(|query, _| answer(query)).await;
    let servers = [closed, failing.address, refusing.address, good.address];
    let upstream = upstream(&servers, Duration::from_secs(5));
    for _ in 0..2 {
        upstream.ask(&Route::default(), &name(ASKED), RecordType::A).await.unwrap();
    }
    // The second time the good one is asked first.
    assert_eq!((failing.seen().len(), refusing.seen().len(), good.seen().len()), (1, 1, 2));
    assert!(matches!(failure(ask(&[refusing.address, failing.address]).await), ServerError::Code(2)));
    assert!(matches!(failure(ask(&[closed]).await), ServerError::Dial(_)));
    assert!(matches!(ask(&[]).await, Err(UpstreamError::NoServer)));
}

#[tokio::test]
async fn a_silent_server_costs_its_patience_and_no_more() {
    let silent = Server::start(|_, _| Vec::new()).await;
    let good = Server::start(|query, _| answer(query)).await;
    let upstream_one = upstream(&[silent.address, good.address], Duration::from_secs(2));
    upstream_one.ask(&Route::default(), &name(ASKED), RecordType::A).await.unwrap();
    let upstream = upstream(&[silent.address], Duration::from_millis(300));
    let outcome = upstream.ask(&Route::default(), &name(ASKED), RecordType::A).await;
    assert!(matches!(failure(outcome), ServerError::Silent));
}

#[tokio::test]
async fn negative_answers_end_the_search() {
    let server = Server::start(|query, _| code(query, ResponseCode::NXDomain)).await;
    let other = Server::start(|query, _| answer(query)).await;
    let message = ask(&[server.address, other.address]).await.unwrap();
    assert_eq!(message.metadata.response_code, ResponseCode::NXDomain);
    assert!(other.seen().is_empty());
}

#[tokio::test]
async fn through_a_proxy_questions_go_over_tcp() {
    let server = Server::start(|query, _| answer(query)).await;
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = proxy.local_addr().unwrap();
    let target = server.address;
    let played = tokio::spawn(async move {
        let (mut client, _) = proxy.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.read_u8().await.unwrap());
        }
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        let mut upstream = TcpStream::connect(target).await.unwrap();
        tokio::io::copy_bidirectional(&mut client, &mut upstream).await.unwrap();
        String::from_utf8(head).unwrap()
    });
    let hop = Hop::HttpProxy(ProxyAddress { host: "127.0.0.1".into(), port: address.port() });
    let route = Route { hop, dns: vec![DnsServer::Plain(server.address)] };
    let upstream = upstream(&[], Duration::from_secs(3));
    upstream.ask(&route, &name(ASKED), RecordType::A).await.unwrap();
    assert_eq!(server.seen()[0].over, Over::Tcp);
    assert!(played.await.unwrap().starts_with(&format!("CONNECT {target} HTTP/1.1")));
}

/// A TLS configuration for `dns.example` and the roots that trust it.
fn certificate(alpn: &[u8]) -> (TlsAcceptor, RootCertStore) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec!["dns.example".to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![alpn.to_vec()];
    (TlsAcceptor::from(Arc::new(config)), roots)
}

#[tokio::test]
async fn over_tls_one_connection_serves_several_questions() {
    let (acceptor, roots) = certificate(b"dot");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            // Two questions on a connection, then it is closed.
            for _ in 0..2 {
                let Ok(length) = stream.read_u16().await else { break };
                let mut buffer = vec![0; usize::from(length)];
                stream.read_exact(&mut buffer).await.unwrap();
                let reply = answer(&Message::from_vec(&buffer).unwrap()).remove(0);
                let length = u16::try_from(reply.len()).unwrap();
                stream.write_all(&[&length.to_be_bytes()[..], &reply].concat()).await.unwrap();
                stream.flush().await.unwrap();
            }
        }
    });
    let upstream = Upstream::new(&[], Duration::from_secs(5), Roots::only(roots));
    let route = |host: &str| Route { hop: Hop::Direct, dns: vec![DnsServer::Tls(address, host.into())] };
    for _ in 0..4 {
        upstream.ask(&route("dns.example"), &name(ASKED), RecordType::A).await.unwrap();
    }
    assert_eq!(connections.load(Ordering::SeqCst), 2, "a closed connection is replaced without a failure");
    let outcome = upstream.ask(&route("other.example"), &name(ASKED), RecordType::A).await;
    assert!(matches!(failure(outcome), ServerError::Tls(_)), "the certificate is for another name");
}

#[tokio::test]
async fn over_https_one_connection_serves_several_questions() {
    let (acceptor, roots) = certificate(b"h2");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                tokio::spawn(async move {
                    let (head, mut body) = request.into_parts();
                    let mut question = Vec::new();
                    while let Some(part) = body.data().await {
                        question.extend_from_slice(&part.unwrap());
                    }
                    let query = Message::from_vec(&question).unwrap();
                    assert_eq!(query.metadata.id, 0);
                    let media = if head.uri.path() == "/dns-query" { "application/dns-message" } else { "text/html" };
                    let response = http::Response::builder().header("content-type", media).body(()).unwrap();
                    let mut stream = respond.send_response(response, false).unwrap();
                    stream.send_data(answer(&query).remove(0).into(), true).unwrap();
                });
            }
        }
    });
    let upstream = Upstream::new(&[], Duration::from_secs(5), Roots::only(roots));
    let route = |path: &str| Route {
        hop: Hop::Direct,
        dns: vec![DnsServer::Https(address, "dns.example".into(), path.into())],
    };
    for _ in 0..3 {
        upstream.ask(&route("/dns-query"), &name(ASKED), RecordType::A).await.unwrap();
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    let outcome = upstream.ask(&route("/other"), &name(ASKED), RecordType::A).await;
    assert!(matches!(failure(outcome), ServerError::Http(_)));
}

#[tokio::test]
async fn a_connection_of_a_stopped_worker_is_replaced() {
    let (acceptor, roots) = certificate(b"h2");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(acceptor.accept(stream).await.unwrap()).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let mut body = request.into_body();
                    tokio::spawn(async move {
                        let question = body.data().await.unwrap().unwrap();
                        let response = http::Response::builder().header("content-type", "application/dns-message");
                        let mut stream = respond.send_response(response.body(()).unwrap(), false).unwrap();
                        let query = Message::from_vec(&question).unwrap();
                        stream.send_data(answer(&query).remove(0).into(), true).unwrap();
                    });
                }
            });
        }
    });
    let upstream = Arc::new(Upstream::new(&[], Duration::from_secs(5), Roots::only(roots)));
    let route = Route { hop: Hop::Direct, dns: vec![DnsServer::Https(address, "dns.example".into(), "/".into())] };
    let (shared, by) = (Arc::clone(&upstream), route.clone());
    tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(shared.ask(&by, &name(ASKED), RecordType::A)).unwrap();
    })
    .await
    .unwrap();
    upstream.ask(&route, &name(ASKED), RecordType::A).await.unwrap();
}
