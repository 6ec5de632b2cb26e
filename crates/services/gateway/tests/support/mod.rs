//! A gateway on loopback: its proxy port, a DNS server of ours, and servers that say what reached them.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "help for tests")]

/// Requests that are signed with AWS keys.
pub mod aws;
/// HTTP/2 by hand.
pub mod frames;
/// HTTP/2 by a library.
pub mod http2;
/// A network namespace of a test's own.
pub mod namespace;
/// Secrets in files, and policies that attach them.
pub mod secrets;
/// TLS of both sides.
pub mod tls;

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use audit_event::RunContext;
use audit_log::{AuditLog, Options};
use gateway::{Gateway, Question, SandboxSockets, Settings};
use policy::{
    CompiledPolicy, HostPattern, OwnAddresses,
    model::{Action, Group, HttpMatch, Lists, PolicySpec, Rule, To},
};
use serde_json::Value;
use values::{Labels, Revision, RuleName};

/// No test waits longer for anything.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A running gateway and its surroundings.
pub struct World {
    pub gateway: Gateway,
    pub proxy: SocketAddr,
    pub dns: Dns,
    pub folder: tempfile::TempDir,
    next_revision: AtomicUsize,
}

/// Answers every A question with 127.0.0.1 (names that begin with `mirror`: 203.0.113.5; with `both`: 127.0.0.2 as well),
/// HTTPS of names that begin with `hides` with a configuration of ECH, and everything else with nothing.
pub struct Dns {
    pub address: SocketAddr,
    pub questions: Arc<AtomicUsize>,
}

pub fn rule(name: &str, priority: i64, action: Action, group: Group) -> Rule {
    Rule::new(RuleName::new(name).unwrap(), priority, action, To::Inline(group))
}

/// Opens loopback under these names, on every port.
pub fn loopback(name: &str, priority: i64, action: Action, names: &[&str]) -> Rule {
    let group = Group { cidrs: vec!["127.0.0.0/8".parse().unwrap()], ..Group::default() };
    let names = names.iter().map(|name| HostPattern::parse(name).unwrap()).collect();
    Rule { names, ..rule(name, priority, action, group) }
}

pub fn deny_hosts(name: &str, priority: i64, hosts: &[&str]) -> Rule {
    let hosts = hosts.iter().map(|host| HostPattern::parse(host).unwrap()).collect();
    rule(name, priority, Action::Deny, Group { hosts, ..Group::default() })
}

pub fn methods(methods: &[&str], paths: &[&str]) -> Vec<HttpMatch> {
    vec![HttpMatch {
        methods: methods.iter().map(|method| (*method).to_owned()).collect(),
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        ..HttpMatch::default()
    }]
}

pub fn compile(rules: Vec<Rule>, revision: u64) -> Arc<CompiledPolicy> {
    let spec = PolicySpec { name: "test".to_owned(), rules, ..PolicySpec::default() };
    let own = OwnAddresses::default();
    Arc::new(CompiledPolicy::compile(spec, Lists::default(), own, Revision(revision)).expect("a policy that compiles"))
}

pub fn settings(dns: &Dns) -> Settings {
    Settings {
        workers: 2,
        host_resolvers: vec![dns.address],
        connect_timeout: Duration::from_secs(5),
        ..Settings::default()
    }
}

impl World {
    pub fn new(rules: Vec<Rule>) -> Self {
        Self::with(rules, None, |settings| settings)
    }

    pub fn with(
        rules: Vec<Rule>,
        questions: Option<tokio::sync::mpsc::Sender<Question>>,
        adjust: impl FnOnce(Settings) -> Settings,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = listener.local_addr().unwrap();
        let sockets = SandboxSockets { proxy: vec![listener.into()], ..SandboxSockets::default() };
        let mut world = Self::with_sockets(rules, questions, sockets, adjust);
        world.proxy = proxy;
        world
    }

    pub fn with_sockets(
        rules: Vec<Rule>,
        questions: Option<tokio::sync::mpsc::Sender<Question>>,
        sockets: SandboxSockets,
        adjust: impl FnOnce(Settings) -> Settings,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let context = RunContext { sandbox: "run-test".to_owned(), thread: None, tool_call: None };
        let audit = AuditLog::open(&folder.path().join("events.jsonl"), context, Options::default()).unwrap();
        let dns = Dns::start();
        let settings = adjust(settings(&dns));
        let gateway =
            Gateway::start(sockets, compile(rules, 1), Labels::default(), audit, questions, settings).unwrap();
        let proxy = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { gateway, proxy, dns, folder, next_revision: AtomicUsize::new(2) }
    }

    pub fn events_file(&self) -> PathBuf {
        self.folder.path().join("events.jsonl")
    }

    /// Every event so far.
    pub fn events(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.events_file()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits until there is an event like this.
    pub fn event(&self, what: &str, matches: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let events = self.events();
            if let Some(event) = events.iter().find(|event| event["event"] == what && matches(event)) {
                return event.clone();
            }
            assert!(Instant::now() < deadline, "no such {what}: {events:#?}");
            thread::yield_now();
        }
    }

    pub fn apply(&self, rules: Vec<Rule>) -> gateway::Applied {
        let revision = self.next_revision.fetch_add(1, Ordering::Relaxed);
        self.gateway.apply(compile(rules, revision as u64)).unwrap()
    }

    /// A whole policy.
    pub fn apply_spec(&self, spec: PolicySpec) -> gateway::Applied {
        let revision = Revision(self.next_revision.fetch_add(1, Ordering::Relaxed) as u64);
        let compiled = CompiledPolicy::compile(spec, Lists::default(), OwnAddresses::default(), revision);
        self.gateway.apply(Arc::new(compiled.expect("a policy that compiles"))).unwrap()
    }

    pub fn client(&self) -> TcpStream {
        connect(self.proxy)
    }

    /// A CONNECT and its response head.
    pub fn tunnel(&self, target: &str) -> (TcpStream, String) {
        let mut stream = self.client();
        stream.write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes()).unwrap();
        let head = read_head(&mut stream);
        (stream, head)
    }

    /// A CONNECT that must succeed.
    pub fn granted(&self, target: &str) -> TcpStream {
        let (stream, head) = self.tunnel(target);
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        stream
    }
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Reads up to and with the empty line; what came if the peer closes before.
pub fn read_head(stream: &mut TcpStream) -> String {
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

pub fn read_rest(stream: &mut TcpStream) -> String {
    let mut rest = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        rest.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8_lossy(&rest).into_owned()
}

/// Whether the peer closed or reset without a byte.
pub fn is_refused(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 1]) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => {
            assert!(!matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut), "a hang");
            true
        }
    }
}

/// A server that gives every connection to a function of its own thread.
pub struct Origin {
    pub address: SocketAddr,
    pub connections: Arc<AtomicUsize>,
}

impl Origin {
    pub fn start(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST.into(), serve)
    }

    pub fn start_at(at: IpAddr, serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((at, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (serve, counter) = (Arc::new(serve), Arc::clone(&connections));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                counter.fetch_add(1, Ordering::SeqCst);
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.set_nodelay(true).unwrap();
                let serve = Arc::clone(&serve);
                thread::spawn(move || serve(stream));
            }
        });
        Self { address, connections }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Sends back what it gets.
    pub fn echo() -> Self {
        Self::start(|mut stream| {
            let mut buffer = [0; 64 * 1024];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                if stream.write_all(&buffer[..count]).is_err() {
                    return;
                }
            }
        })
    }

    /// Answers every request head with 200 and tells the heads; bodies by Content-Length are read and told too.
    pub fn http() -> (Self, Receiver<String>) {
        let (tell, told): (Sender<String>, Receiver<String>) = channel();
        let origin = Self::start(move |mut stream| {
            loop {
                let head = read_head(&mut stream);
                if !head.ends_with("\r\n\r\n") {
                    return;
                }
                let length = head
                    .lines()
                    .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok())
                    .unwrap_or(0);
                let mut body = vec![0; length];
                if stream.read_exact(&mut body).is_err() {
                    return;
                }
                tell.send(head.clone() + &String::from_utf8_lossy(&body)).unwrap();
                let close = head.to_ascii_lowercase().contains("connection: close");
                let connection = if close { "Connection: close\r\n" } else { "" };
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{connection}\r\nok");
                if stream.write_all(answer.as_bytes()).is_err() || close {
                    return;
                }
            }
        });
        (origin, told)
    }
}

/// The first flight of a real client.
pub fn hello(name: &str) -> Vec<u8> {
    let roots = rustls::RootCertStore::empty();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
    let mut client = rustls::ClientConnection::new(std::sync::Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// Reads one response with a Content-Length.
pub fn read_response(stream: &mut TcpStream) -> (String, String) {
    let head = read_head(stream);
    let length: usize = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok())
        .unwrap_or_else(|| panic!("no length: {head:?}"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    (head, String::from_utf8(body).unwrap())
}

impl Dns {
    pub fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let questions = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&questions);
        thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((count, from)) = socket.recv_from(&mut buffer) {
                counter.fetch_add(1, Ordering::SeqCst);
                if let Some(answer) = answer(&buffer[..count]) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Self { address, questions }
    }

    pub fn questions(&self) -> usize {
        self.questions.load(Ordering::SeqCst)
    }
}

/// RFC 1035, 4: the question back, and for A one answer that points at its name.
fn answer(question: &[u8]) -> Option<Vec<u8>> {
    let mut at = 12;
    while *question.get(at)? != 0 {
        at += 1 + usize::from(question[at]);
    }
    let end = at + 5;
    let kind = question.get(at + 1..at + 3)?;
    let mut out = question.get(..2)?.to_vec();
    let name = question.get(13..end)?;
    let records: &[&[u8]] = match kind {
        [0, 1] if name.starts_with(b"mirror") => &[&[203, 0, 113, 5]],
        [0, 1] if name.starts_with(b"both") => &[&[127, 0, 0, 1], &[127, 0, 0, 2]],
        [0, 1] => &[&[127, 0, 0, 1]],
        // RFC 9460, 2.2: the name itself, and one parameter.
        [0, 65] if name.starts_with(b"hides") => &[&[0, 1, 0, 0, 5, 0, 2, 0, 0]],
        _ => &[],
    };
    out.extend([0x81, 0x80, 0, 1, 0, u8::try_from(records.len()).ok()?, 0, 0, 0, 0]);
    out.extend(question.get(12..end)?);
    for record in records {
        out.extend([0xc0, 12, kind[0], kind[1], 0, 1, 0, 0, 0, 60, 0, u8::try_from(record.len()).ok()?]);
        out.extend(*record);
    }
    Some(out)
}

/// The most memory this process ever had, in KiB.
pub fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
