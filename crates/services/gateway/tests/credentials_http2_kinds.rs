//! Secrets that are more than a text in a field, with clients and servers of HTTP/2: AWS signatures and client certificates.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "help for tests")]

mod support;

use std::sync::Arc;

use bytes::Bytes;
use credentials::sigv4::Payload;
use http::{HeaderMap, Method, StatusCode};
use policy::model::credential::{Attach, Source, Stored};
use rcgen::{CertificateParams, KeyPair};
use rustls::{RootCertStore, ServerConfig, crypto::aws_lc_rs::default_provider, server::WebPkiClientVerifier};
use support::{
    aws::{is_signed, sigv4},
    http2::{self, Seen, client, get, request, seen},
    secrets::{Keeping, SECRET, credential},
    tls::{Shown, Tls},
};

/// A request as HTTP/1.1 would have it.
fn text(seen: &Seen) -> String {
    let (uri, mut text) = (&seen.head.uri, String::new());
    let target = uri.path_and_query().unwrap();
    text.push_str(&format!("{} {target} HTTP/1.1\r\nhost: {}\r\n", seen.head.method, uri.authority().unwrap()));
    for (name, value) in &seen.head.headers {
        text.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
    }
    format!("{text}\r\n{}", seen.body)
}

/// A request of a library of AWS, signed with a placeholder.
async fn ask(
    sender: &h2::client::SendRequest<Bytes>,
    method: Method,
    path: &str,
    fields: &[(&'static str, &str)],
    pieces: &[&str],
) -> StatusCode {
    let mut asked = request(method, "web.test", path);
    let own = [
        ("authorization", "AWS4-HMAC-SHA256 Credential=AKIAFAKE/x, SignedHeaders=host, Signature=0"),
        ("x-amz-date", "20200101T000000Z"),
        ("x-amz-security-token", "mine"),
    ];
    for (name, value) in own.iter().chain(fields) {
        asked.headers_mut().insert(*name, value.parse().unwrap());
    }
    let mut ready = sender.clone().ready().await.unwrap();
    let (response, mut sending) = ready.send_request(asked, pieces.is_empty()).unwrap();
    for (at, piece) in pieces.iter().enumerate() {
        sending.send_data(Bytes::copy_from_slice(piece.as_bytes()), at + 1 == pieces.len()).unwrap();
    }
    response.await.unwrap().status()
}

#[tokio::test]
async fn what_was_signed_with_placeholders_is_signed_anew_on_each_stream() {
    let tls = Tls::new();
    let (origin, requests) = http2::origin(tls.server_config(Shown::Good, &["h2"]), http2::ok);
    let keeping = sigv4(&tls, "s3");
    let sender = client(&tls, &keeping.world, origin.port()).await;
    let hashed = ("x-amz-content-sha256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    for (method, path, fields, pieces, payload) in [
        (Method::GET, "/api/key%20a?list-type=2&prefix=b", &[][..], &[][..], Payload::of_body(b"")),
        (Method::POST, "/api/1", &[], &["a", "bc"], Payload::Unsigned),
        (Method::POST, "/api/1", &[hashed], &["ab", "c"], Payload::of_body(b"abc")),
    ] {
        assert_eq!(ask(&sender, method, path, fields, pieces).await, StatusCode::OK);
        let sent = text(&seen(&requests));
        assert!(is_signed(&sent, "s3", &payload), "{payload:?}: {sent}");
        assert!(!sent.contains("AKIAFAKE") && !sent.contains("mine") && !sent.contains(SECRET), "{sent}");
        assert!(sent.ends_with(&format!("\r\n\r\n{}", pieces.concat())), "{sent}");
    }
    // A body that is hashed first, where the service takes no other.
    let keeping = sigv4(&tls, "dynamodb");
    let sender = client(&tls, &keeping.world, origin.port()).await;
    let kind = ("content-type", "application/x-amz-json-1.0");
    assert_eq!(ask(&sender, Method::POST, "/api/1", &[kind], &["{\"a\"", ":1}"]).await, StatusCode::OK);
    let sent = text(&seen(&requests));
    assert!(is_signed(&sent, "dynamodb", &Payload::of_body(b"{\"a\":1}")) && sent.ends_with("{\"a\":1}"), "{sent}");
    assert_eq!(keeping.world.event("credential.used", |_| true)["attach"], "sigv4");
    assert!(!keeping.record_tells(SECRET));
}

#[tokio::test]
async fn chunks_that_were_signed_are_signed_anew_wherever_frames_cut_them() {
    let tls = Tls::new();
    let (origin, requests) = http2::origin(tls.server_config(Shown::Good, &["h2"]), http2::ok);
    let keeping = sigv4(&tls, "s3");
    let sender = client(&tls, &keeping.world, origin.port()).await;
    let zeros = "0".repeat(64);
    let body = format!("5;chunk-signature={zeros}\r\nhello\r\n0;chunk-signature={zeros}\r\n\r\n");
    let length = body.len().to_string();
    let fields = [
        ("content-encoding", "aws-chunked"),
        ("x-amz-decoded-content-length", "5"),
        ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
        ("content-length", length.as_str()),
    ];
    let (one, rest) = body.split_at(40);
    let (two, three) = rest.split_at(48);
    assert_eq!(ask(&sender, Method::POST, "/api/1", &fields, &[one, two, three]).await, StatusCode::OK);
    let seen = seen(&requests);
    assert!(is_signed(&text(&seen), "s3", &Payload::Streaming), "{seen:?}");
    let sent = &seen.body;
    assert_eq!(sent.len(), body.len());
    assert!(sent.contains("\r\nhello\r\n") && !sent.contains(&zeros) && sent.ends_with("\r\n\r\n"), "{sent}");
}

#[tokio::test]
async fn a_client_certificate_is_shown_on_a_connection_of_its_own() {
    let tls = Tls::new();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["agent.test".to_owned()]).unwrap().self_signed(&key).unwrap();
    let (chain, key_file) = (tls.folder().join("client.pem"), tls.folder().join("client.key"));
    std::fs::write(&chain, certificate.pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let provider = Arc::new(default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .unwrap();
    let shown = tls.server_config(Shown::Good, &["h2"]);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::clone(&shown.cert_resolver));
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (origin, requests) = http2::origin(Arc::new(config), http2::ok);
    let source = Source::Certificate { chain, key: Stored::File(key_file.clone()) };
    let keeping = Keeping::of(&tls, credential(source, Attach::ClientCertificate), key_file);
    let sender = client(&tls, &keeping.world, origin.port()).await;
    for (path, known) in [("/open/1", false), ("/api/1", true), ("/open/2", false), ("/api/2", true)] {
        assert_eq!(get(&sender, request(Method::GET, "web.test", path)).await.0, StatusCode::OK);
        let seen = seen(&requests);
        assert_eq!((seen.head.uri.path(), seen.known, seen.trailers), (path, known, HeaderMap::new()));
    }
    assert_eq!(keeping.world.event("credential.used", |_| true)["attach"], "client-certificate");
}
