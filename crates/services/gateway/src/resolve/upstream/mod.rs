//! Asks DNS servers: the route's own, or the host's.
//!
//! ```text
//! ask ─> each server in turn, twice, within one deadline
//!          plain ─> UDP, TCP where the answer was cut; TCP at once where the route is a proxy;
//!                   both at once the second time, where UDP brought nothing
//!          tls   ─> DNS over TLS, connections kept
//!          https ─> DNS over HTTPS, one HTTP/2 connection kept
//! ```
//! Every socket leaves by the route's hop, so a lookup never leaves by another way than the flow it is for. An
//! answer counts only where it comes from the server asked, under the id asked with, for the question asked;
//! anything else is passed over, and the wait goes on. A server that failed is asked last for a while.

/// One exchange over UDP, TCP or TLS.
mod exchange;
/// DNS over HTTPS.
mod https;
/// TLS for DNS servers.
mod tls;

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Edns, Message, Query},
    rr::{Name, RecordType},
};
use policy::model::{DnsServer, Hop, Route};
use smallvec::SmallVec;
use tokio::time::{timeout, timeout_at};
use wire::dns::answer;

use crate::dial::DialError;

pub(super) use tls::Roots;

/// The largest UDP answer that is asked for: it crosses no path in fragments.
const PAYLOAD: u16 = 1232;
/// How often each server is asked.
const ROUNDS: usize = 2;
/// The shortest and longest wait for one server.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(2));
/// How long a server that failed is asked after the others.
const LAME_LIFE: Duration = Duration::from_secs(10);

/// Why one server gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServerError {
    /// It can't be reached.
    #[error("it can't be reached")]
    Dial(#[source] DialError),
    /// The connection to it broke.
    #[error("the connection to it broke")]
    Broken(#[source] io::Error),
    /// It did not answer in time.
    #[error("it did not answer in time")]
    Silent,
    /// It answered what was not asked, again and again.
    #[error("its answers are for other questions")]
    Unrelated,
    /// Its answer is no DNS message.
    #[error("its answer is malformed")]
    Malformed,
    /// It answered with an error code.
    #[error("it answered with the error code {0}")]
    Code(u16),
    /// TLS could not be set up.
    #[error("TLS with it failed")]
    Tls(#[source] io::Error),
    /// No trusted roots could be loaded from this machine.
    #[error("this machine's trusted certificates can't be used")]
    Roots(#[source] Arc<rustls::Error>),
    /// DNS over HTTPS failed.
    #[error("HTTP with it failed: {0}")]
    Http(String),
}

/// Why a question got no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    /// There is nobody to ask.
    #[error("no DNS server is known: the host has none, and the route names none")]
    NoServer,
    /// The last server's failure.
    #[error("the DNS server {server} gave no answer")]
    Failed {
        /// Which.
        server: SocketAddr,
        /// Why.
        #[source]
        source: ServerError,
    },
}

impl UpstreamError {
    /// Why, in a word or two for people.
    pub(super) fn in_short(&self) -> String {
        let UpstreamError::Failed { source, .. } = self else { return "no DNS server known".to_owned() };
        match source {
            ServerError::Dial(_) | ServerError::Broken(_) => "DNS server unreachable".to_owned(),
            ServerError::Silent => "timeout".to_owned(),
            ServerError::Unrelated | ServerError::Malformed => "unusable answer".to_owned(),
            ServerError::Code(1) => "FORMERR".to_owned(),
            ServerError::Code(2) => "SERVFAIL".to_owned(),
            ServerError::Code(4) => "NOTIMP".to_owned(),
            ServerError::Code(5) => "REFUSED".to_owned(),
            ServerError::Code(other) => format!("DNS error {other}"),
            ServerError::Tls(_) | ServerError::Roots(_) => "TLS with the DNS server failed".to_owned(),
            ServerError::Http(_) => "HTTP with the DNS server failed".to_owned(),
        }
    }
}

/// The client side of DNS.
#[derive(Debug)]
pub(super) struct Upstream {
    host_resolvers: Vec<DnsServer>,
    limit: Duration,
    lame: Mutex<HashMap<SocketAddr, Instant>>,
    connections: exchange::Connections,
}

impl Upstream {
    pub(super) fn new(host_resolvers: &[SocketAddr], limit: Duration, roots: Roots) -> Self {
        Self {
            host_resolvers: host_resolvers.iter().copied().map(DnsServer::Plain).collect(),
            limit,
            lame: Mutex::default(),
            connections: exchange::Connections::new(roots),
        }
    }

    /// Asks until a server answers, or the time is over.
    pub(super) async fn ask(&self, route: &Route, name: &Name, record: RecordType) -> Result<Message, UpstreamError> {
        // The host's own servers are reached as the host reaches them.
        let direct = Hop::Direct;
        let (servers, hop) =
            if route.dns.is_empty() { (&self.host_resolvers, &direct) } else { (&route.dns, &route.hop) };
        let mut order: Vec<&DnsServer> = servers.iter().collect();
        self.put_lame_last(&mut order);
        let turns = u32::try_from(order.len().max(1) * ROUNDS).unwrap_or(u32::MAX);
        let patience = (self.limit / turns).clamp(PATIENCE.0, PATIENCE.1);
        let deadline = tokio::time::Instant::now() + self.limit;
        let mut last = Err(UpstreamError::NoServer);
        let mut mute: SmallVec<[SocketAddr; 4]> = SmallVec::new();
        for server in order.iter().cycle().take(order.len() * ROUNDS) {
            let is_mute = mute.contains(&address(server));
            let one = timeout(patience, self.connections.exchange(hop, server, name, record, is_mute));
            let outcome = match timeout_at(deadline, one).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) | Err(_) => Err(ServerError::Silent),
            };
            match outcome {
                Ok(message) if answer::is_final(&message) => return Ok(message),
                Ok(message) => {
                    let source = ServerError::Code(u16::from(message.metadata.response_code));
                    last = Err(UpstreamError::Failed { server: address(server), source });
                }
                Err(source) => {
                    if matches!(source, ServerError::Silent | ServerError::Unrelated) {
                        mute.push(address(server));
                    }
                    last = Err(UpstreamError::Failed { server: address(server), source });
                }
            }
            self.mark_lame(address(server));
            if tokio::time::Instant::now() >= deadline {
                break;
            }
        }
        last
    }

    fn put_lame_last(&self, order: &mut [&DnsServer]) {
        let mut lame = self.lame.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        lame.retain(|_, since| now.saturating_duration_since(*since) < LAME_LIFE);
        if !lame.is_empty() {
            order.sort_by_key(|server| lame.contains_key(&address(server)));
        }
    }

    fn mark_lame(&self, server: SocketAddr) {
        self.lame.lock().unwrap_or_else(PoisonError::into_inner).insert(server, Instant::now());
    }
}

/// Where a server listens.
fn address(server: &DnsServer) -> SocketAddr {
    match server {
        DnsServer::Plain(address) | DnsServer::Tls(address, _) | DnsServer::Https(address, _, _) => *address,
    }
}

/// A query with a random id.
fn query(name: &Name, record: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name.clone(), record));
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD);
    message.set_edns(edns);
    message
}

#[cfg(test)]
mod tests;
