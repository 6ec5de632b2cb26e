//! One exchange over UDP, TCP or TLS.

use std::{
    io,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use hickory_proto::{
    op::Message,
    rr::{Name, RecordType},
};
use policy::model::{DnsServer, Hop, Route};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::client::TlsStream;
use wire::dns::answer::{answers, is_cut_answer};

use super::{
    Roots, ServerError, https,
    tls::{self, Protocol},
};
use crate::dial::{self, DialError};

/// The largest datagram that is looked at.
const DATAGRAM_LIMIT: usize = 4096;
/// How many datagrams that are no answer are passed over before the server is given up.
const UNRELATED_LIMIT: usize = 64;
/// How long an idle TLS connection is kept.
const IDLE_LIFE: Duration = Duration::from_secs(10);
/// The most idle TLS connections.
const IDLE_LIMIT: usize = 16;
/// How long a connection to a server may take; the caller's own wait is shorter.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

type Tls = TlsStream<tokio::net::TcpStream>;

/// A TLS connection that nobody uses.
#[derive(Debug)]
struct Idle {
    hop: Hop,
    server: SocketAddr,
    name: String,
    since: Instant,
    stream: Tls,
}

/// How servers are spoken to, and the connections to them that are kept.
#[derive(Debug)]
pub(super) struct Connections {
    roots: Roots,
    idle: Mutex<Vec<Idle>>,
    https: https::Sessions,
}

impl Connections {
    pub(super) fn new(roots: Roots) -> Self {
        Self { roots, idle: Mutex::default(), https: https::Sessions::default() }
    }

    /// Asks one server once. One that gave nothing useful over UDP just now (`is_mute`) is asked over TCP as well.
    pub(super) async fn exchange(
        &self,
        hop: &Hop,
        server: &DnsServer,
        name: &Name,
        record: RecordType,
        is_mute: bool,
    ) -> Result<Message, ServerError> {
        let mut query = super::query(name, record);
        match server {
            DnsServer::Plain(address) if is_mute => both(hop, *address, &query).await,
            DnsServer::Plain(address) => plain(hop, *address, &query).await,
            DnsServer::Tls(address, host) => self.over_tls(hop, *address, host, &query).await,
            DnsServer::Https(address, host, path) => {
                // RFC 8484, 4.1: the same question is the same message, so that it can be cached.
                query.metadata.id = 0;
                let bytes = to_bytes(&query)?;
                let answer = self.https.post(&self.roots, hop, (*address, host, path), bytes).await?;
                checked(&answer, &query)
            }
        }
    }

    /// DNS over TLS (RFC 7858). A kept connection may have been closed meanwhile: then a new one is tried.
    async fn over_tls(
        &self,
        hop: &Hop,
        server: SocketAddr,
        name: &str,
        query: &Message,
    ) -> Result<Message, ServerError> {
        if let Some(mut stream) = self.take_idle(hop, server, name)
            && let Ok(message) = framed(&mut stream, query).await
        {
            self.keep(hop, server, name, stream);
            return Ok(message);
        }
        let stream = connect(hop, server).await?;
        let mut stream = tls::handshake(&self.roots, stream, name, Protocol::Dot).await?;
        let message = framed(&mut stream, query).await?;
        self.keep(hop, server, name, stream);
        Ok(message)
    }

    fn take_idle(&self, hop: &Hop, server: SocketAddr, name: &str) -> Option<Tls> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|kept| kept.since.elapsed() < IDLE_LIFE);
        let place = idle.iter().position(|kept| kept.server == server && kept.name == name && kept.hop == *hop)?;
        Some(idle.swap_remove(place).stream)
    }

    fn keep(&self, hop: &Hop, server: SocketAddr, name: &str, stream: Tls) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_LIMIT {
            idle.push(Idle { hop: hop.clone(), server, name: name.to_owned(), since: Instant::now(), stream });
        }
    }
}

/// Connects to a server by the hop.
pub(super) async fn connect(hop: &Hop, server: SocketAddr) -> Result<tokio::net::TcpStream, ServerError> {
    let route = Route { hop: hop.clone(), dns: Vec::new() };
    let dialled =
        dial::connect(&route, &[server.ip()], server.port(), DIAL_TIMEOUT).await.map_err(ServerError::Dial)?;
    dialled.socket.into_stream().map_err(ServerError::Broken)
}

async fn plain(hop: &Hop, server: SocketAddr, query: &Message) -> Result<Message, ServerError> {
    let over_udp = match hop {
        // These carry TCP only.
        Hop::HttpProxy(_) | Hop::Socks5(_) => None,
        Hop::Direct | Hop::Interface(_) | Hop::Mark(_) | Hop::Netns(_) | Hop::SourceAddress(_) => {
            datagram(hop, server, query).await?
        }
    };
    match over_udp {
        Some(message) => Ok(message),
        None => framed(&mut connect(hop, server).await?, query).await,
    }
}

/// Asks in both ways at once: the first answer counts.
async fn both(hop: &Hop, server: SocketAddr, query: &Message) -> Result<Message, ServerError> {
    let over_tcp = async { framed(&mut connect(hop, server).await?, query).await };
    let (mut over_udp, mut over_tcp) = (std::pin::pin!(plain(hop, server, query)), std::pin::pin!(over_tcp));
    tokio::select! {
        outcome = &mut over_udp => match outcome {
            Ok(message) => Ok(message),
            Err(error) => over_tcp.await.map_err(|_| error),
        },
        outcome = &mut over_tcp => match outcome {
            Ok(message) => Ok(message),
            Err(_) => over_udp.await,
        },
    }
}

/// One question over UDP from a port of its own. Nothing where the answer was cut and TCP is to be asked.
async fn datagram(hop: &Hop, server: SocketAddr, query: &Message) -> Result<Option<Message>, ServerError> {
    let socket = dial::udp_socket(hop, server).await.map_err(ServerError::Dial)?;
    let broken = |source: io::Error| match source.kind() {
        io::ErrorKind::ConnectionRefused => ServerError::Dial(DialError::Refused(server)),
        _ => ServerError::Broken(source),
    };
    socket.send(&to_bytes(query)?).await.map_err(broken)?;
    let mut buffer = vec![0_u8; DATAGRAM_LIMIT];
    for _ in 0..UNRELATED_LIMIT {
        let length = socket.recv(&mut buffer).await.map_err(broken)?;
        let bytes = buffer.get(..length).unwrap_or_default();
        match Message::from_vec(bytes) {
            Ok(message) if answers(&message, query) => {
                return Ok((!message.metadata.truncation).then_some(message));
            }
            // A cut message may end within a record: what can be read of it says enough.
            Err(_) if is_cut_answer(bytes, query) => return Ok(None),
            Ok(_) | Err(_) => {}
        }
    }
    Err(ServerError::Unrelated)
}

/// One question behind its length (RFC 1035, 4.2.2).
async fn framed(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), query: &Message) -> Result<Message, ServerError> {
    let bytes = to_bytes(query)?;
    let length = u16::try_from(bytes.len()).map_err(|_| ServerError::Malformed)?;
    // In one write: some servers read the length and the message in one go.
    let frame = [length.to_be_bytes().as_slice(), &bytes].concat();
    stream.write_all(&frame).await.map_err(ServerError::Broken)?;
    stream.flush().await.map_err(ServerError::Broken)?;
    let length = stream.read_u16().await.map_err(ServerError::Broken)?;
    let mut answer = vec![0_u8; usize::from(length)];
    stream.read_exact(&mut answer).await.map_err(ServerError::Broken)?;
    checked(&answer, query)
}

/// The message, if it is the answer.
fn checked(bytes: &[u8], query: &Message) -> Result<Message, ServerError> {
    let message = Message::from_vec(bytes).map_err(|_| ServerError::Malformed)?;
    if answers(&message, query) { Ok(message) } else { Err(ServerError::Unrelated) }
}

fn to_bytes(query: &Message) -> Result<Vec<u8>, ServerError> {
    query.to_vec().map_err(|_| ServerError::Malformed)
}
