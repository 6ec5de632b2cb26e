//! Stand-ins for providers: a small server on loopback whose answers the test decides, and a clock that the test moves.

#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "a stand-in that fails fails its test")]

use std::{
    collections::BTreeMap,
    fs,
    future::Future,
    io::{BufRead as _, BufReader, Read, Write},
    net::TcpListener,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};
use credentials::{Clock, Credentials, Issued, Material, ObtainError, OpenError, Patience, Surroundings};
use policy::model::credential::{Attach, Bind, Credential, Source, Stored};
use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::PrivateKeyDer};
use tempfile::TempDir;
use values::CredentialName;

/// A request that a stand-in got.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    pub target: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Asked {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// A parameter of the form that is the body.
    pub fn parameter(&self, name: &str) -> Option<String> {
        url::form_urlencoded::parse(self.body.as_bytes())
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }

    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }
}

/// What a stand-in answers.
pub enum Reply {
    /// A status and a body.
    Body(u16, String),
    /// A status, one more field, and a body.
    Field(u16, &'static str, String, String),
    /// These bytes and no others.
    Raw(Vec<u8>),
    /// Nothing, while the client waits.
    Silence,
}

/// Success with a JSON body.
pub fn json(body: impl Into<String>) -> Reply {
    Reply::Body(200, body.into())
}

/// A provider's stand-in.
pub struct StandIn {
    pub url: String,
    log: Arc<Mutex<Vec<Asked>>>,
    arrived: Arc<Condvar>,
}

impl StandIn {
    /// Over plain HTTP.
    pub fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Result<Self> {
        Self::listen(None, answer)
    }

    /// Over TLS, for `localhost`, under roots of its own.
    pub fn with_tls(
        certificate: &SelfSigned,
        answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Result<Self> {
        Self::listen(Some(certificate.config.clone()), answer)
    }

    fn listen(
        tls: Option<Arc<ServerConfig>>,
        answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let url = tls.as_ref().map_or(format!("http://127.0.0.1:{port}"), |_| format!("https://localhost:{port}"));
        let (log, arrived) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Condvar::new()));
        let answer = Arc::new(answer);
        let seen = (log.clone(), arrived.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, seen, tls) = (answer.clone(), seen.clone(), tls.clone());
                thread::spawn(move || {
                    let _ = match tls {
                        Some(config) => ServerConnection::new(config)
                            .map_err(anyhow::Error::from)
                            .and_then(|tls| serve(StreamOwned::new(tls, stream), &*answer, &seen)),
                        None => serve(stream, &*answer, &seen),
                    };
                });
            }
        });
        Ok(Self { url, log, arrived })
    }

    /// What it was asked so far.
    pub fn log(&self) -> Vec<Asked> {
        self.log.lock().unwrap().clone()
    }

    /// The request lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.log().iter().map(Asked::line).collect()
    }

    /// Waits until it was asked so often.
    pub fn wait_for(&self, count: usize) -> Vec<Asked> {
        let log = self.log.lock().unwrap();
        let (log, late) =
            self.arrived.wait_timeout_while(log, Duration::from_secs(60), |log| log.len() < count).unwrap();
        assert!(!late.timed_out(), "the stand-in was asked {} times, not {count}", log.len());
        log.clone()
    }
}

type Seen = (Arc<Mutex<Vec<Asked>>>, Arc<Condvar>);

fn serve(mut stream: impl Read + Write, answer: &dyn Fn(&Asked) -> Reply, seen: &Seen) -> Result<()> {
    let asked = read_request(&mut stream)?;
    seen.0.lock().unwrap().push(asked.clone());
    seen.1.notify_all();
    let bytes = match answer(&asked) {
        Reply::Body(status, body) => response(status, "", &body),
        Reply::Field(status, name, value, body) => response(status, &format!("{name}: {value}\r\n"), &body),
        Reply::Raw(bytes) => bytes,
        Reply::Silence => {
            // Until the client gives up.
            let _ = stream.read(&mut [0]);
            return Ok(());
        }
    };
    let _ = stream.write_all(&bytes);
    Ok(stream.flush()?)
}

fn response(status: u16, fields: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} X\r\nConnection: close\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

fn read_request(stream: &mut impl Read) -> Result<Asked> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut words = first.split_whitespace();
    let (method, target) = (words.next().context("a method")?.to_owned(), words.next().context("a target")?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Asked { method, target, headers, body: String::from_utf8(body)? })
}

/// A certificate for `localhost` that is its own root.
pub struct SelfSigned {
    config: Arc<ServerConfig>,
    pub pem: String,
}

impl SelfSigned {
    pub fn new() -> Result<Self> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)?;
        Ok(Self { config: Arc::new(config), pem: made.cert.pem() })
    }
}

/// A gate that a stand-in waits at.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    pub fn pass(&self) {
        let gate = self.0.0.lock().unwrap();
        let (_gate, late) = self.0.1.wait_timeout_while(gate, Duration::from_secs(60), |open| !*open).unwrap();
        assert!(!late.timed_out(), "the gate stayed shut");
    }
}

/// A clock that the test moves; a pause moves it too.
#[derive(Clone)]
pub struct Hand(Arc<AtomicU64>);

impl Hand {
    pub fn forward(&self, seconds: u64) {
        self.0.fetch_add(seconds * 1000, Ordering::SeqCst);
    }

    pub fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.0.load(Ordering::SeqCst))
    }

    fn clock(&self) -> Clock {
        let (shown, moved) = (self.clone(), self.clone());
        Clock::new(
            move || shown.now(),
            move |time| {
                moved.0.fetch_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
            },
        )
    }
}

/// 2026-11-21T12:00:00Z.
pub const NOON: u64 = 1_795_262_400;

/// A folder, a clock and an environment of the test's own.
pub struct World {
    pub folder: TempDir,
    pub hand: Hand,
    pub surroundings: Surroundings,
}

impl World {
    pub fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let hand = Hand(Arc::new(AtomicU64::new(NOON * 1000)));
        let home = folder.path().join("home");
        fs::create_dir(&home)?;
        let surroundings = Surroundings {
            policy_dir: folder.path().to_owned(),
            environment: BTreeMap::from([("PATH".into(), "/usr/bin:/bin".into())]),
            home,
            roots: None,
            writable_by_workload: Vec::new(),
            clock: hand.clock(),
            patience: Patience { call: Duration::from_secs(20), fetch: Duration::from_secs(60) },
        };
        Ok(Self { folder, hand, surroundings })
    }

    pub fn variable(&mut self, name: &str, value: &str) {
        self.surroundings.environment.insert(name.into(), value.into());
    }

    /// Writes a file into the folder; its path there.
    pub fn file(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, text)?;
        Ok(path)
    }

    /// One credential of this source, named `one`.
    pub fn open(&self, source: Source) -> Result<Credentials, OpenError> {
        Credentials::open(&specs(source), self.surroundings.clone())
    }
}

pub fn specs(source: Source) -> BTreeMap<CredentialName, Credential> {
    let credential = Credential { source, attach: Attach::Bearer, bind: Bind::default(), expose: None };
    BTreeMap::from([(name(), credential)])
}

pub fn name() -> CredentialName {
    CredentialName::new("one").unwrap()
}

pub fn env(name: &str) -> Stored {
    Stored::Env(name.to_owned())
}

/// Waits for a future on this thread, in no runtime at all.
pub fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        thread::park();
    }
}

pub fn obtain(credentials: &Credentials) -> Result<Arc<Issued>, ObtainError> {
    block_on(credentials.obtain(&name()))
}

/// The text of the secret.
pub fn text(issued: &Issued) -> &str {
    match &issued.material {
        Material::Text(secret) => secret.expose_str().unwrap_or("(no UTF-8)"),
        Material::Aws(_) | Material::Certificate { .. } => "(no text)",
    }
}

/// The text of the secret that may be used now, or why there is none.
pub fn obtained(credentials: &Credentials) -> String {
    match obtain(credentials) {
        Ok(issued) => text(&issued).to_owned(),
        Err(error) => format!("error: {error}"),
    }
}
