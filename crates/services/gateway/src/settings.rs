//! What the program hands to a gateway: sockets, bounds, and who answers questions.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use certificates::{Leaves, UpstreamRoots};
use credentials::Credentials;
use policy::{HttpFacts, Protocol};
use secret_swap::Placeholder;
use tokio::sync::oneshot;
use values::CredentialName;

/// The sockets of one sandbox, made inside its network namespace.
#[derive(Debug, Default)]
pub struct SandboxSockets {
    /// Listeners that redirected TCP arrives at, one for each address family.
    pub transparent: Vec<OwnedFd>,
    /// Where DNS arrives over UDP.
    pub dns_udp: Vec<OwnedFd>,
    /// Listeners where DNS arrives over TCP.
    pub dns_tcp: Vec<OwnedFd>,
    /// Listeners of the explicit proxy.
    pub proxy: Vec<OwnedFd>,
    /// Where datagrams to the UDP ports arrive that the policy opens, one socket for each port and address family.
    pub datagrams: Vec<OwnedFd>,
    /// A `NETLINK_SOCK_DIAG` socket of the sandbox's namespace: who opened a connection.
    pub socket_diagnosis: Option<OwnedFd>,
    /// A `NETLINK_NETFILTER` socket that hears of each packet that the sandbox's own rules reject (nfnetlink_log).
    pub rejections: Option<OwnedFd>,
    /// The sandbox's first process, seen from here.
    pub init_pid: Option<u32>,
}

/// What TLS is opened with.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// What the sandbox's clients are shown.
    pub leaves: Arc<Leaves>,
    /// Whose certificates servers must have.
    pub roots: UpstreamRoots,
}

/// Where secrets come from, and what the sandbox holds in place of them.
#[derive(Clone, Default)]
pub struct Secrets {
    /// Where they come from; without it a rule with a credential is refused by name.
    pub credentials: Option<Arc<Credentials>>,
    /// What the sandbox holds in place of them.
    pub placeholders: Arc<BTreeMap<CredentialName, Placeholder>>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("placeholders", &self.placeholders.len()).finish_non_exhaustive()
    }
}

/// Bounds and surroundings of a gateway.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Threads; 0 is one for each processor.
    pub workers: usize,
    /// How long a client may take to say what it wants.
    pub sniff_timeout: Duration,
    /// How many bytes it may take (a ClientHello, an HTTP head).
    pub sniff_limit: usize,
    /// How long a client that says nothing is waited for before it is judged as one whose server speaks first.
    pub server_first: Duration,
    /// How long a connection upstream may take, over all addresses.
    pub connect_timeout: Duration,
    /// How long a name may take to resolve.
    pub resolve_timeout: Duration,
    /// A connection without a byte for so long is ended.
    pub idle_timeout: Duration,
    /// A client that leaves what it asked for lying for so long gives back the memory that others need for theirs.
    pub progress_timeout: Duration,
    /// The longest life of a connection.
    pub total_timeout: Option<Duration>,
    /// A connection closed on one side and without a byte for so long is ended.
    pub half_open_timeout: Duration,
    /// A UDP flow without a datagram for so long is ended (RFC 4787, 4.3: at least two minutes).
    pub datagram_idle_timeout: Duration,
    /// The most connections of one sandbox at a time.
    pub max_connections: usize,
    /// How long a question waits for its answer.
    pub ask_timeout: Duration,
    /// The DNS servers of the host, for routes without their own.
    pub host_resolvers: Vec<SocketAddr>,
    /// What TLS is opened with, where rules look inside; without it none is.
    pub inspection: Option<Inspection>,
    /// Where relative paths of the policy's bundles of roots begin; without it a rule with one is refused by name.
    pub policy_folder: Option<PathBuf>,
    /// The secrets that rules attach.
    pub secrets: Secrets,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            workers: 0,
            sniff_timeout: Duration::from_secs(5),
            sniff_limit: 64 * 1024,
            server_first: Duration::from_millis(300),
            connect_timeout: Duration::from_secs(10),
            resolve_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(3600),
            progress_timeout: Duration::from_secs(60),
            total_timeout: None,
            half_open_timeout: Duration::from_secs(300),
            datagram_idle_timeout: Duration::from_secs(120),
            max_connections: 20_000,
            ask_timeout: Duration::from_secs(120),
            host_resolvers: Vec::new(),
            inspection: None,
            policy_folder: None,
            secrets: Secrets::default(),
        }
    }
}

/// What a person is asked about one flow. All text is cleaned for a terminal.
#[derive(Debug)]
pub struct Question {
    /// The flow that waits.
    pub flow: u64,
    /// Where it wants to go: `api.example.com:443`, with the method and path where they are known.
    pub what: String,
    /// The host of `what` alone: a name or an address, as a rule would name it.
    pub host: String,
    /// The port of `what`.
    pub port: u16,
    /// The transport protocol of `what`.
    pub protocol: Protocol,
    /// The address that was judged.
    pub address: Option<IpAddr>,
    /// The request, where the flow was decided by it: as it was sent, not cleaned for a terminal.
    pub request: Option<HttpFacts>,
    /// Whether the flow is TLS; then the request was seen inside.
    pub inside_tls: bool,
    /// Which process, where it was found.
    pub who: Option<String>,
    /// Why a person is asked: the rule and its reason.
    pub why: String,
    /// The rule that asks.
    pub rule: String,
    /// Where the answer goes. Closed when the client went away or the wait is over.
    pub reply: oneshot::Sender<Reply>,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The answer.
    pub answer: Answer,
    /// Who gave it.
    pub by: Option<String>,
}

/// What a person answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answer {
    /// This flow.
    Once,
    /// Every flow to this host and port while the gateway runs.
    ThisRun,
    /// Every flow to this host and port while the gateway runs, with the same method and path where the flow was
    /// decided by its request; whoever asked writes a rule that says so.
    Always,
    /// No.
    Deny,
}
