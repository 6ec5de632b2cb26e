//! Connections to servers: dialled by the route that was decided, verified, and kept for the next request.

use std::{
    cell::RefCell,
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use certificates::{Leaves, Protocols, Upstream, UpstreamRoots};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use policy::{HostName, model::Route};
use rustls::{client::Resumption, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{body::Upload, link::ServerStream};
use crate::{
    dial::{self, DialError},
    inspect::{
        connection::{Connection, LocalTasks},
        link::Link,
    },
    refuse::Status,
    resolve::BindingGuard,
    settings::Inspection,
};

/// The most hosts whose sessions are kept.
const HOSTS: usize = 1024;
/// The most sessions kept of one host.
const SESSIONS: usize = 8;
/// The most free connections that one client's connection keeps.
const FREE_LINES: usize = 8;
/// The most header fields of a response.
const FIELDS: usize = 256;
/// How much of a stream, and of a connection, a server may send ahead of the client.
const STREAM_WINDOW: u32 = 512 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// The longest head, and how much of a body waits in memory.
const BUFFER: usize = 128 * 1024;

/// What a gateway opens TLS with.
#[derive(Debug)]
pub(crate) struct Inspector {
    pub(super) leaves: Arc<Leaves>,
    roots: UpstreamRoots,
    upstreams: Mutex<HashMap<(HostName, Protocols), Upstream>>,
}

impl Inspector {
    /// As the program set it.
    pub(crate) fn new(inspection: &Inspection) -> Self {
        let Inspection { leaves, roots } = inspection;
        Self { leaves: Arc::clone(leaves), roots: roots.clone(), upstreams: Mutex::default() }
    }

    /// How to talk to this host.
    fn upstream(&self, host: &HostName, protocols: Protocols) -> Result<Upstream, rustls::Error> {
        let mut known = self.upstreams.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (host.clone(), protocols);
        if let Some(upstream) = known.get(&key) {
            return Ok(upstream.clone());
        }
        let upstream = self.roots.client_config(protocols, None, Resumption::in_memory_sessions(SESSIONS))?;
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

/// An error and what caused it, in one line.
pub(super) fn report(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Who sends on a connection.
pub(super) enum Sender {
    Http1(http1::SendRequest<Upload>),
    Http2(http2::SendRequest<Upload>),
}

/// A connection to a server that is who it should be.
pub(super) struct Line {
    pub(super) sender: Sender,
    pub(super) address: IpAddr,
    route: Route,
    /// Whether it carried a request before: it may have been closed by the server meanwhile.
    pub(super) used: bool,
    _binding: Option<BindingGuard>,
}

impl Line {
    fn leads(&self, route: &Route, addresses: &[IpAddr]) -> bool {
        self.route == *route && addresses.contains(&self.address)
    }

    fn is_usable(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_ready(),
            Sender::Http2(sender) => sender.is_ready() && !sender.is_closed(),
        }
    }
}

/// Where a request goes.
pub(super) struct Destination<'a> {
    pub(super) host: &'a HostName,
    pub(super) route: &'a Route,
    pub(super) addresses: &'a [IpAddr],
    pub(super) port: u16,
    pub(super) protocols: Protocols,
    pub(super) timeout: Duration,
}

/// The connections to servers of one client's connection.
#[derive(Default)]
pub(super) struct Lines {
    free: RefCell<Vec<Line>>,
    /// One at a time dials, so that streams that come together share a connection.
    dialling: tokio::sync::Mutex<()>,
}

impl Lines {
    /// One that leads there and is free.
    fn take(&self, to: &Destination<'_>) -> Option<Line> {
        let mut free = self.free.borrow_mut();
        free.retain(Line::is_usable);
        let at = free.iter().position(|line| line.leads(to.route, to.addresses))?;
        let line = free.get_mut(at)?;
        if let Sender::Http2(sender) = &line.sender {
            let sender = Sender::Http2(sender.clone());
            return Some(Line { sender, address: line.address, route: line.route.clone(), used: true, _binding: None });
        }
        Some(free.swap_remove(at))
    }

    /// One that leads there: a free one, or a new one.
    pub(super) async fn reach(
        &self,
        inspector: &Inspector,
        to: &Destination<'_>,
        link: &Arc<Link>,
        hold: impl FnOnce(IpAddr) -> Option<BindingGuard>,
    ) -> Result<Line, ReachError> {
        if let Some(line) = self.take(to) {
            return Ok(line);
        }
        let _turn = self.dialling.lock().await;
        if let Some(line) = self.take(to) {
            return Ok(line);
        }
        let mut line = connect(inspector, to, link).await?;
        line._binding = hold(line.address);
        if let Sender::Http2(sender) = &line.sender {
            let sender = Sender::Http2(sender.clone());
            let shared = Line { sender, address: line.address, route: line.route.clone(), used: false, _binding: None };
            self.free.borrow_mut().push(line);
            return Ok(shared);
        }
        Ok(line)
    }

    /// A new one in place of one that the server closed.
    pub(super) async fn again(&self, connection: &Connection, line: &Line) -> Result<Line, ReachError> {
        let shared = &connection.worker.shared;
        let Some(inspector) = &shared.inspector else {
            return Err(ReachError::Own("TLS is not opened here".to_owned()));
        };
        let to = Destination {
            host: &connection.host,
            route: &line.route,
            addresses: &[line.address],
            port: connection.port,
            protocols: connection.protocols,
            timeout: shared.settings.connect_timeout,
        };
        let mut line = connect(inspector, &to, &connection.link).await?;
        line._binding = shared.names.hold(&connection.host, line.address);
        Ok(line)
    }

    /// The answer is through: the connection is free.
    pub(super) fn give_back(&self, line: Line) {
        let mut free = self.free.borrow_mut();
        match &line.sender {
            Sender::Http1(sender) if !sender.is_closed() && free.len() < FREE_LINES => {
                free.push(Line { used: true, ..line });
            }
            Sender::Http1(_) | Sender::Http2(_) => {}
        }
    }
}

async fn connect(inspector: &Inspector, to: &Destination<'_>, link: &Arc<Link>) -> Result<Line, ReachError> {
    let dialled = dial::connect(to.route, to.addresses, to.port, to.timeout).await?;
    let own = |error: &dyn std::error::Error| ReachError::Own(report(error));
    let stream = dialled.socket.into_stream().map_err(|error| own(&error))?;
    let upstream = inspector.upstream(to.host, to.protocols).map_err(|error| own(&error))?;
    let name = ServerName::try_from(to.host.as_str().to_owned()).map_err(|error| own(&error))?;
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
    let sender = speak(stream, link).await.map_err(|error| ReachError::Broken(report(&error)))?;
    Ok(Line { sender, address: dialled.address, route: to.route.clone(), used: false, _binding: None })
}

/// Starts the protocol that the handshake agreed on.
async fn speak(stream: TlsStream<TcpStream>, link: &Arc<Link>) -> hyper::Result<Sender> {
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let stream = TokioIo::new(ServerStream::new(stream, Arc::clone(link)));
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
