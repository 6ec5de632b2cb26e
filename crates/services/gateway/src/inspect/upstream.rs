//! Connections to servers: dialled by the route that was decided, and verified.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use certificates::{ClientCertificate, Leaves, Protocols, Upstream, UpstreamRoots};
use credentials::TokenId;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use policy::HostName;
use rustls::{client::Resumption, pki_types::ServerName};
use tokio_rustls::TlsConnector;
use values::Revision;

use super::{
    ahead::Ahead,
    connection::LocalTasks,
    lines::{Destination, Line, Place, Sender},
    link::{Carried, Link, ServerStream},
    room::Rooms,
};
use crate::{
    dial::{self, DialError},
    refuse::Status,
    report::report,
    settings::Inspection,
};

/// The most hosts whose sessions are kept.
const HOSTS: usize = 1024;
/// The most sessions kept of one host.
const SESSIONS: usize = 8;
/// The most header fields of a response.
const FIELDS: usize = 256;
/// How much of a stream, and of a connection, a server may send ahead of the client.
const STREAM_WINDOW: u32 = 512 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// The longest head, and how much of a body waits in memory.
const BUFFER: usize = 128 * 1024;

/// A certificate of ours, shown to a server that asks.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    pub(super) id: TokenId,
    pub(super) certificate: ClientCertificate,
}

/// A server, whom it knows us as, and the rule's own bundle by which it is verified, as a policy means it.
type Peer = (HostName, Protocols, Option<TokenId>, Option<PathBuf>, Revision);

/// What a gateway opens TLS with.
#[derive(Debug)]
pub(crate) struct Inspector {
    pub(super) leaves: Arc<Leaves>,
    roots: UpstreamRoots,
    upstreams: Mutex<HashMap<Peer, Upstream>>,
    rooms: Rooms,
}

impl Inspector {
    /// As the program set it.
    pub(crate) fn new(inspection: &Inspection, patience: Duration) -> Self {
        let Inspection { leaves, roots } = inspection;
        Self {
            leaves: Arc::clone(leaves),
            roots: roots.clone(),
            upstreams: Mutex::default(),
            rooms: Rooms::new(patience),
        }
    }

    /// The memory for connections and requests.
    pub(crate) fn rooms(&self) -> &Rooms {
        &self.rooms
    }

    /// A new policy may mean other roots by the same path.
    pub(crate) fn forget(&self) {
        self.upstreams.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// How to talk to the server of this destination.
    fn upstream(&self, to: &Destination<'_>) -> Result<Upstream, rustls::Error> {
        let (protocols, shown) = (to.protocols, to.shown);
        let mut known = self.upstreams.lock().unwrap_or_else(PoisonError::into_inner);
        // A session says who we are.
        let shown_id = shown.map(|shown| shown.id.clone());
        let key = (to.place.host.clone(), protocols, shown_id, to.place.roots.clone(), to.place.revision);
        if let Some(upstream) = known.get(&key) {
            return Ok(upstream.clone());
        }
        let upstream = {
            let certificate = shown.map(|shown| &shown.certificate);
            to.roots.unwrap_or(&self.roots).client_config(
                protocols,
                certificate,
                Resumption::in_memory_sessions(SESSIONS),
            )?
        };
        if known.len() >= HOSTS {
            known.clear();
        }
        known.insert(key, upstream.clone());
        Ok(upstream)
    }
}

/// Why a server was not reached.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReachError {
    /// No connection.
    #[error("{fault}: {words}", fault = .0.fault(), words = report(.0))]
    Dial(#[from] DialError),
    /// TLS failed.
    #[error("upstream: {0}")]
    Tls(certificates::Fault),
    /// It broke, or took too long.
    #[error("upstream: {0}")]
    Broken(String),
    /// Ours.
    #[error("gateway: {0}")]
    Own(String),
}

impl ReachError {
    pub(super) fn status(&self) -> Status {
        match self {
            ReachError::Dial(error) if error.timed_out() => Status::GatewayTimeout,
            ReachError::Dial(_) | ReachError::Tls(_) | ReachError::Broken(_) | ReachError::Own(_) => Status::BadGateway,
        }
    }
}

/// A new connection, verified, which counts what moves for `link`.
pub(super) async fn connect(inspector: &Inspector, to: &Destination<'_>, link: &Arc<Link>) -> Result<Line, ReachError> {
    let Place { host, port, route, .. } = &to.place;
    let dialled = dial::connect(route, to.addresses, *port, to.timeout).await?;
    let own = |error: &dyn std::error::Error| ReachError::Own(report(error));
    let stream = Ahead::new(&[], dialled.socket.into_stream().map_err(|error| own(&error))?);
    let upstream = inspector.upstream(to).map_err(|error| own(&error))?;
    let name = ServerName::try_from(host.as_str().to_owned()).map_err(|error| own(&error))?;
    let connector = TlsConnector::from(upstream.config());
    let stream = match tokio::time::timeout(to.timeout, connector.connect(name, stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            return Err(match upstream.stream_fault(&error) {
                Some(fault) => ReachError::Tls(fault),
                None => ReachError::Broken(format!("the server ended the TLS handshake: {}", report(&error))),
            });
        }
        Err(_) => return Err(ReachError::Broken("the server did not finish the TLS handshake in time".to_owned())),
    };
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let carried = Carried::new(link);
    let sender = speak(ServerStream::new(stream, upstream, Arc::clone(&carried)), is_http2)
        .await
        .map_err(|error| ReachError::Broken(report(&error)))?;
    Ok(Line::new(sender, dialled.address, to.place.clone(), to.shown.cloned(), to.roots.cloned(), carried))
}

/// Starts the protocol that the handshake agreed on.
async fn speak(stream: ServerStream, is_http2: bool) -> hyper::Result<Sender> {
    let stream = TokioIo::new(stream);
    if is_http2 {
        let mut builder = http2::Builder::new(LocalTasks);
        builder
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(64 * 1024)
            .max_send_buf_size(BUFFER);
        let (sender, driver) = builder.handshake(stream).await?;
        tokio::task::spawn_local(async move {
            // What breaks here breaks the requests on it, and is told there.
            let _ = driver.await;
        });
        Ok(Sender::Http2(sender))
    } else {
        let mut builder = http1::Builder::new();
        builder.max_headers(FIELDS).max_buf_size(BUFFER);
        let (sender, driver) = builder.handshake(stream).await?;
        tokio::task::spawn_local(async move {
            // What breaks here breaks the request on it, and is told there.
            let _ = driver.with_upgrades().await;
        });
        Ok(Sender::Http1(sender))
    }
}
