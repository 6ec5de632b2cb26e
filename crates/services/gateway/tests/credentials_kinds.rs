//! Secrets that are more than a text in a field: AWS signatures, client certificates, HTTP/2, WebSockets, redirects.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "help for tests")]

mod support;

use std::{
    io::{Read as _, Write as _},
    sync::{Arc, mpsc::channel},
    time::Instant,
};

use credentials::sigv4::Payload;
use policy::model::credential::{Attach, Source, Stored};
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    RootCertStore, ServerConfig, ServerConnection, StreamOwned, crypto::aws_lc_rs::default_provider,
    server::WebPkiClientVerifier,
};
use support::{
    Origin, PATIENCE,
    aws::{field, is_signed, sigv4},
    secrets::{Keeping, SECRET, credential},
    tls::{ClientTls, Shown, Tls, exchange, read_head, read_message, told},
};

fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: web.test\r\n{fields}\r\n")
}

#[test]
fn what_was_signed_with_placeholders_is_signed_anew() {
    let tls = Tls::new();
    let (origin, heads) = tls.http(Shown::Good);
    let own = "Authorization: AWS4-HMAC-SHA256 Credential=AKIAFAKE/x, SignedHeaders=host, Signature=0\r\n\
               X-Amz-Date: 20200101T000000Z\r\nX-Amz-Security-Token: mine\r\n";
    let keeping = sigv4(&tls, "s3");
    let mut client = tls.client(&keeping.world, "web.test", origin.port());
    assert!(exchange(&mut client, &get("/api/key%20a?list-type=2&prefix=b", own)).ends_with("ok"));
    let request = told(&heads);
    assert!(is_signed(&request, "s3", &Payload::of_body(b"")), "{request}");
    assert!(!request.contains("AKIAFAKE") && !request.contains("mine") && !request.contains(SECRET), "{request}");
    let post = |fields: &str, body: &str| {
        format!("POST /api/1 HTTP/1.1\r\nHost: web.test\r\nContent-Length: {}\r\n{own}{fields}\r\n{body}", body.len())
    };
    assert!(exchange(&mut client, &post("", "abc")).ends_with("ok"));
    assert!(is_signed(&told(&heads), "s3", &Payload::Unsigned), "S3 takes a body that streams");
    let hashed = "X-Amz-Content-Sha256: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\r\n";
    assert!(exchange(&mut client, &post(hashed, "abc")).ends_with("ok"));
    assert!(is_signed(&told(&heads), "s3", &Payload::of_body(b"abc")));
    for refused in
        ["X-Amz-Content-Sha256: STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD\r\n", "X-Amz-Content-Sha256: 00\r\n"]
    {
        let mut client = tls.client(&keeping.world, "web.test", origin.port());
        assert!(exchange(&mut client, &post(refused, "abc")).starts_with("HTTP/1.1 502 "), "{refused}");
    }
    let mut presigned = tls.client(&keeping.world, "web.test", origin.port());
    let answer = exchange(&mut presigned, &get("/api/1?X-Amz-Signature=0&X-Amz-Credential=mine", ""));
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("presigned"), "{answer}");
    // Objects are read in parts, and as they are kept.
    let parts = "Range: bytes=0-3\r\nAccept-Encoding: identity, x-own\r\n";
    assert!(exchange(&mut client, &get("/api/1", parts)).ends_with("ok"));
    let request = told(&heads).to_ascii_lowercase();
    assert!(request.contains("range: bytes=0-3\r\n") && request.contains("x-own"), "{request}");
    // Elsewhere the body is hashed.
    let keeping = sigv4(&tls, "dynamodb");
    let mut client = tls.client(&keeping.world, "web.test", origin.port());
    assert!(exchange(&mut client, &post("Content-Type: application/x-amz-json-1.0\r\n", "{\"a\":1}")).ends_with("ok"));
    let request = told(&heads);
    assert!(is_signed(&request, "dynamodb", &Payload::of_body(b"{\"a\":1}")) && request.ends_with("{\"a\":1}"));
    let used = keeping.world.event("credential.used", |_| true);
    assert_eq!(used["attach"], "sigv4");
    assert!(!keeping.record_tells(SECRET) && heads.try_recv().is_err());
}

#[test]
fn chunks_that_were_signed_are_signed_anew_in_the_same_length() {
    let tls = Tls::new();
    let (origin, heads) = tls.http(Shown::Good);
    let keeping = sigv4(&tls, "s3");
    let mut client = tls.client(&keeping.world, "web.test", origin.port());
    let zeros = "0".repeat(64);
    let body = format!("5;chunk-signature={zeros}\r\nhello\r\n0;chunk-signature={zeros}\r\n\r\n");
    let request = format!(
        "POST /api/1 HTTP/1.1\r\nHost: web.test\r\nContent-Encoding: aws-chunked\r\nX-Amz-Decoded-Content-Length: 5\r\n\
         X-Amz-Content-Sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    assert!(exchange(&mut client, &request).ends_with("ok"));
    let sent = told(&heads);
    assert!(is_signed(&sent, "s3", &Payload::Streaming), "{sent}");
    let (_, body) = sent.split_once("\r\n\r\n").unwrap();
    assert!(body.contains("\r\nhello\r\n") && !body.contains(&zeros) && body.ends_with("\r\n\r\n"), "{body}");
    // A body that ends in the middle of a chunk is not one: nothing takes it for whole.
    let mut client = tls.client(&keeping.world, "web.test", origin.port());
    let cut = request.replace(&format!("Content-Length: {}", body.len()), "Content-Length: 20");
    client.write_all(cut.as_bytes()).unwrap();
    let answer = read_head(&mut client);
    assert!(!answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn keys_whose_session_is_over_are_renewed_for_the_next_request() {
    for (status, fields, body) in [
        ("400 Bad Request", "", "<Error><Code>ExpiredToken</Code></Error>"),
        ("403 Forbidden", "", "{\"__type\":\"com.amazon.coral.service#ExpiredTokenException\"}"),
        ("400 Bad Request", "x-amzn-ErrorType: ExpiredTokenException:\r\n", "{}"),
    ] {
        let tls = Tls::new();
        let (tell, heads) = channel();
        let answer = format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len());
        let origin = tls.origin(Shown::Good, move |mut stream| {
            while let Some(request) = read_message(&mut stream) {
                let fine = request.starts_with("GET /api/fine ");
                let _ = tell.send(request);
                let answer = if fine { "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" } else { &answer };
                if stream.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
        });
        let keeping = sigv4(&tls, "s3");
        let mut client = tls.client(&keeping.world, "web.test", origin.port());
        assert!(exchange(&mut client, &get("/api/fine", "")).ends_with("ok"));
        assert!(is_signed(&told(&heads), "s3", &Payload::of_body(b"")));
        let ask = |client: &mut ClientTls| {
            assert!(exchange(client, &get("/api/1", "")).ends_with(body), "the answer goes on as it is");
            is_signed(&told(&heads), "s3", &Payload::of_body(b""))
        };
        std::fs::write(&keeping.file, "another-key-0a1b2c3d4e5f").unwrap();
        assert!(ask(&mut client), "kept until a server says that it is over");
        let deadline = Instant::now() + PATIENCE;
        // Renewed beside the answer, and no more often than its source bears.
        while ask(&mut client) {
            assert!(Instant::now() < deadline, "{status} {fields}{body}");
        }
    }
}

#[test]
fn a_client_certificate_is_shown_to_whom_it_is_bound_alone() {
    let tls = Tls::new();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["agent.test".to_owned()]).unwrap().self_signed(&key).unwrap();
    let (chain, key_file) = (tls.folder().join("client.pem"), tls.folder().join("client.key"));
    std::fs::write(&chain, certificate.pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider()))
        .allow_unauthenticated()
        .build()
        .unwrap();
    let shown = tls.server_config(Shown::Good, &["http/1.1"]);
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::clone(&shown.cert_resolver));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let config = Arc::new(config);
    let origin = Origin::start(move |stream| {
        let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream);
        while read_message(&mut stream).is_some() {
            let who = if stream.conn.peer_certificates().is_some() { "known" } else { "nobody" };
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{who}", who.len());
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
    let source = Source::Certificate { chain, key: Stored::File(key_file.clone()) };
    let keeping = Keeping::of(&tls, credential(source, Attach::ClientCertificate), key_file);
    let mut client = tls.client(&keeping.world, "web.test", origin.port());
    for (path, who) in [("/open/1", "nobody"), ("/api/1", "known"), ("/open/2", "nobody"), ("/api/2", "known")] {
        let answer = exchange(&mut client, &get(path, ""));
        assert!(answer.ends_with(who), "{path}: {answer}");
    }
    assert_eq!(origin.connections(), 2);
    assert_eq!(keeping.world.event("credential.used", |_| true)["attach"], "client-certificate");
}

#[test]
fn a_redirect_carries_it_nowhere() {
    let tls = Tls::new();
    let (tell, heads) = channel();
    let origin = tls.origin(Shown::Good, move |mut stream| {
        while let Some(request) = read_message(&mut stream) {
            let _ = tell.send(request);
            let answer = b"HTTP/1.1 302 Found\r\nLocation: https://other.test/open/1\r\nContent-Length: 0\r\n\r\n";
            if stream.write_all(answer).is_err() {
                return;
            }
        }
    });
    let (elsewhere, other) = tls.http(Shown::WrongName);
    let keeping = Keeping::new(&tls, Attach::Bearer);
    let mut client = tls.client(&keeping.world, "web.test", origin.port());
    let answer = exchange(&mut client, &get("/api/1", ""));
    assert!(answer.starts_with("HTTP/1.1 302 ") && answer.contains("https://other.test/open/1"), "{answer}");
    assert!(told(&heads).contains(SECRET));
    assert!(heads.try_recv().is_err() && other.try_recv().is_err(), "nobody follows but the client");
    let mut client = tls.client(&keeping.world, "other.test", elsewhere.port());
    assert!(exchange(&mut client, "GET /open/1 HTTP/1.1\r\nHost: other.test\r\n\r\n").ends_with("ok"));
    assert!(!told(&other).to_ascii_lowercase().contains("authorization"));
}

const HANDSHAKE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
                         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Extensions: permessage-deflate\r\n";

#[test]
fn a_websocket_is_opened_with_it_and_looked_through() {
    let tls = Tls::new();
    let (tell, heads) = channel();
    let origin = tls.origin(Shown::Good, move |mut stream| {
        let head = read_head(&mut stream);
        let accept = field(&head, "sec-websocket-key").map(accept_key).unwrap();
        tell.send(head).unwrap();
        let agreed = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        stream.write_all(agreed.as_bytes()).unwrap();
        let (one, two) = SECRET.split_at(9);
        let first = [&[0x01, 9][..], one.as_bytes(), &[0x80, two.len() as u8], two.as_bytes()].concat();
        stream.write_all(&first).unwrap();
        stream.write_all(b"\x81\x03ghp").unwrap();
        stream.flush().unwrap();
        let _ = stream.read(&mut [0; 1]);
    });
    let keeping = Keeping::new(&tls, Attach::Bearer);
    let mut client = tls.client(&keeping.world, "web.test", origin.port());
    client.write_all(get("/api/ws", HANDSHAKE).as_bytes()).unwrap();
    let head = read_head(&mut client);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let sent = told(&heads);
    assert!(sent.contains(SECRET) && !sent.to_ascii_lowercase().contains("extensions"), "{sent}");
    let mut frames = vec![0; 4 + SECRET.len() + 5];
    client.read_exact(&mut frames).unwrap();
    let stars = "*".repeat(SECRET.len());
    let (one, two) = stars.split_at(9);
    let expected = [&[0x01, 9][..], one.as_bytes(), &[0x80, two.len() as u8], two.as_bytes(), b"\x81\x03ghp"].concat();
    assert_eq!(frames, expected);
}

#[test]
fn a_websocket_whose_server_compresses_unasked_is_not_opened() {
    let tls = Tls::new();
    let origin = tls.origin(Shown::Good, |mut stream| {
        let head = read_head(&mut stream);
        let accept = field(&head, "sec-websocket-key").map(accept_key).unwrap();
        let agreed = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
        );
        stream.write_all(agreed.as_bytes()).unwrap();
        let _ = stream.read(&mut [0; 1]);
    });
    let keeping = Keeping::new(&tls, Attach::Bearer);
    let mut client = tls.client(&keeping.world, "web.test", origin.port());
    client.write_all(get("/api/ws", HANDSHAKE).as_bytes()).unwrap();
    let head = read_head(&mut client);
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
}

/// RFC 6455, 4.2.2.
fn accept_key(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    data_encoding::BASE64.encode(digest.as_ref())
}

#[tokio::test]
async fn a_stream_of_http2_carries_it_as_well() {
    let tls = Tls::new();
    let (origin, heads) = tls.http(Shown::Good);
    let keeping = Keeping::new(&tls, Attach::Bearer);
    let stream = {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect(keeping.world.proxy).await.unwrap();
        let target = format!("web.test:{}", origin.port());
        stream.write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let connector = tokio_rustls::TlsConnector::from(tls.client_config(&["h2"]));
        connector.connect(rustls::pki_types::ServerName::try_from("web.test").unwrap(), stream).await.unwrap()
    };
    let (sender, driver) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move {
        // It ends with the test.
        let _ = driver.await;
    });
    for (path, count) in [("/api/1", 1), ("/open/1", 0)] {
        let mut ready = sender.clone().ready().await.unwrap();
        let request = http::Request::builder()
            .uri(format!("https://web.test{path}"))
            .version(http::Version::HTTP_2)
            .header("x-authorization", "kept");
        let request = if count == 1 {
            request.header("authorization", "Bearer one").header("authorization", "Bearer two")
        } else {
            request
        };
        let (response, _) = ready.send_request(request.body(()).unwrap(), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
        let head = told(&heads);
        assert_eq!(head.matches(SECRET).count(), count, "{head}");
        assert!(!head.contains("Bearer one") && !head.contains("Bearer two"), "{head}");
    }
}
