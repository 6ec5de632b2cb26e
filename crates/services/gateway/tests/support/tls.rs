//! TLS of both sides: a client that trusts the run, and servers with certificates of every kind.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        mpsc::{Receiver, channel},
    },
    time::SystemTime,
};

use certificates::{Issuer, Leaves, Scope, UpstreamRoots};
use data_encoding::BASE64;
use gateway::{Inspection, Settings};
use policy::model::{Action, Rule};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName},
    server::WebPkiClientVerifier,
};

use super::{Origin, PATIENCE, World, loopback, methods};

pub type ClientTls = StreamOwned<ClientConnection, TcpStream>;
pub type ServerTls = StreamOwned<ServerConnection, TcpStream>;

/// What a server shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    Good,
    Expired,
    WrongName,
    SelfSigned,
    Stranger,
    WantsCertificate,
    Mirror,
    Both,
}

/// Everybody's certificates.
pub struct Tls {
    authority: rcgen::Issuer<'static, KeyPair>,
    folder: tempfile::TempDir,
    inspection: Inspection,
    anchors: Vec<CertificateDer<'static>>,
}

fn authority(name: &str) -> (rcgen::Issuer<'static, KeyPair>, String) {
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = parameters.self_signed(&key).unwrap().pem();
    (rcgen::Issuer::new(parameters, key), pem)
}

impl Tls {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (authority, pem) = authority("Ours");
        let bundle = folder.path().join("roots.pem");
        std::fs::write(&bundle, pem).unwrap();
        let issuer = Issuer::for_run(Scope::Any, SystemTime::now()).unwrap();
        let anchors = issuer.anchors().to_vec();
        let leaves = Arc::new(Leaves::new(issuer, 16).unwrap());
        let inspection = Inspection { leaves, roots: UpstreamRoots::from_bundle(&bundle).unwrap() };
        Self { authority, folder, inspection, anchors }
    }

    pub fn world(&self, rules: Vec<Rule>) -> World {
        World::with(rules, None, |settings| self.settings(settings))
    }

    pub fn settings(&self, settings: Settings) -> Settings {
        Settings { inspection: Some(self.inspection.clone()), ..settings }
    }

    pub fn server_config(&self, shown: Shown, protocols: &[&str]) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let name = match shown {
            Shown::WrongName => "other.test",
            Shown::Mirror => "mirror.test",
            Shown::Both => "both.test",
            Shown::Good | Shown::Expired | Shown::SelfSigned | Shown::Stranger | Shown::WantsCertificate => "web.test",
        };
        let mut parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        if shown == Shown::Expired {
            parameters.not_after = date_time_ymd(2020, 1, 1);
        }
        let certificate = match shown {
            Shown::SelfSigned => parameters.self_signed(&key).unwrap(),
            Shown::Stranger => parameters.signed_by(&key, &authority("A stranger").0).unwrap(),
            Shown::Good | Shown::Expired | Shown::WrongName | Shown::WantsCertificate | Shown::Mirror | Shown::Both => {
                parameters.signed_by(&key, &self.authority).unwrap()
            }
        };
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let provider = Arc::new(default_provider());
        let roots = Arc::new(self.roots());
        let nobody = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider)).build().unwrap();
        let verifier = if shown == Shown::WantsCertificate { nobody } else { WebPkiClientVerifier::no_client_auth() };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate.der().clone()], key.into())
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// A server that gives every opened connection to a function of its own thread.
    pub fn origin(&self, shown: Shown, serve: impl Fn(ServerTls) + Send + Sync + 'static) -> Origin {
        self.origin_of(shown, "http/1.1", serve)
    }

    /// The same for a protocol.
    pub fn origin_of(&self, shown: Shown, protocol: &str, serve: impl Fn(ServerTls) + Send + Sync + 'static) -> Origin {
        let config = self.server_config(shown, &[protocol]);
        Origin::start(move |stream| {
            let mut tls = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream);
            if tls.conn.complete_io(&mut tls.sock).is_ok() {
                serve(tls);
            }
        })
    }

    /// Answers every request with 200 and tells it, head and body.
    pub fn http(&self, shown: Shown) -> (Origin, Receiver<String>) {
        let (tell, told) = channel();
        let origin = self.origin(shown, move |mut stream| {
            while let Some(request) = read_message(&mut stream) {
                let _ = tell.send(request);
                if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_err() {
                    return;
                }
            }
        });
        (origin, told)
    }

    /// What clients trust.
    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        for anchor in &self.anchors {
            roots.add(anchor.clone()).unwrap();
        }
        roots
    }

    pub fn client_config(&self, protocols: &[&str]) -> Arc<ClientConfig> {
        let roots = self.roots();
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// A client through the proxy, its handshake done.
    pub fn client(&self, world: &World, name: &str, port: u16) -> ClientTls {
        self.opened(world.granted(&format!("{name}:{port}")), name)
    }

    /// The same, which offers one protocol, or none.
    pub fn client_of(&self, world: &World, protocols: &[&str], port: u16) -> ClientTls {
        self.opened_of(world.granted(&format!("web.test:{port}")), "web.test", protocols)
    }

    pub fn opened(&self, stream: TcpStream, name: &str) -> ClientTls {
        self.opened_of(stream, name, &["http/1.1"])
    }

    fn opened_of(&self, stream: TcpStream, name: &str, protocols: &[&str]) -> ClientTls {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connection = ClientConnection::new(self.client_config(protocols), name).unwrap();
        let mut tls = StreamOwned::new(connection, stream);
        tls.conn.complete_io(&mut tls.sock).unwrap();
        tls
    }

    /// What a client must trust, as a bundle.
    pub fn anchors_pem(&self) -> String {
        let pem = |anchor: &CertificateDer<'_>| {
            let lines = BASE64.encode(anchor);
            format!("-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n")
        };
        self.anchors.iter().map(pem).collect()
    }

    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }
}

/// `web.test`, for GET under `/ok` and PUT under `/put` alone.
pub fn inspected() -> Vec<Rule> {
    let get = Rule { http: methods(&["GET"], &["/ok/**"]), ..loopback("reads", 10, Action::Allow, &["web.test"]) };
    let put = Rule { http: methods(&["PUT"], &["/put/**"]), ..loopback("writes", 11, Action::Allow, &["web.test"]) };
    vec![get, put]
}

/// One head, up to and with its empty line; empty where the peer closed.
pub fn read_head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0; 1];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            Ok(_) | Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// One message with a Content-Length or without a body; `None` where the peer closed.
pub fn read_message(stream: &mut impl Read) -> Option<String> {
    let head = read_head(stream);
    if !head.ends_with("\r\n\r\n") {
        return None;
    }
    let length = head.to_ascii_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    Some(head + &String::from_utf8_lossy(&body))
}

/// One request by a reader of its own, head and body; `None` where the peer closed within it.
pub fn read_request(stream: &mut impl Read) -> Option<(String, Vec<u8>)> {
    let head = read_head(stream);
    if !head.ends_with("\r\n\r\n") {
        return None;
    }
    let lower = head.to_ascii_lowercase();
    let mut body = Vec::new();
    if lower.contains("transfer-encoding: chunked\r\n") {
        loop {
            let size = usize::from_str_radix(read_line(stream)?.trim_end(), 16).ok()?;
            if size == 0 {
                while read_line(stream)? != "\r\n" {}
                return Some((head, body));
            }
            let mut chunk = vec![0; size + 2];
            stream.read_exact(&mut chunk).ok()?;
            body.extend_from_slice(&chunk[..size]);
        }
    }
    if let Some(length) = lower.lines().find_map(|line| line.strip_prefix("content-length: ")) {
        body = vec![0; length.parse().ok()?];
        stream.read_exact(&mut body).ok()?;
    }
    Some((head, body))
}

fn read_line(stream: &mut impl Read) -> Option<String> {
    let mut line = String::new();
    while !line.ends_with('\n') {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        line.push(char::from(byte[0]));
    }
    Some(line)
}

/// Sends a request and reads its answer.
pub fn exchange(stream: &mut ClientTls, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    read_message(stream).expect("an answer")
}

/// What reached a server within the patience of a test.
pub fn told(heads: &Receiver<String>) -> String {
    heads.recv_timeout(PATIENCE).expect("a request")
}
