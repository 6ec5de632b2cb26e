//! Connects to checked addresses by a route.
//!
//! The caller hands over the addresses that the guards and the policy let through; nothing else is ever
//! dialled, and a proxy is told the same address, never a name it could resolve anew. So a guard holds on
//! every route (spec/egress.md, 3). Names and policy stay with the caller.
//!
//! ```text
//! addresses ── eyeballs ──> attempt ── socket (direct, interface, mark, netns, source) ──> upstream
//!                              └────── socket to the proxy ── CONNECT or SOCKS5 ─────────> upstream
//! ```

/// In which order, and when, the addresses are tried.
mod eyeballs;
/// Sockets made in another network namespace.
mod netns;
/// CONNECT and SOCKS5 to the next hop.
mod proxy;
/// Sockets that leave as a hop says.
mod socket;

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use policy::model::{Hop, ProxyAddress, Route};
use tokio::net::{TcpStream, UdpSocket};

pub(crate) use proxy::ProxyError;
pub(crate) use socket::RouteError;
pub(crate) use socket::udp_socket;

use crate::socket::Socket;

/// A connection to an upstream.
#[derive(Debug)]
pub(crate) struct Dialled {
    /// Connected, with TCP_NODELAY.
    pub(crate) socket: Socket,
    /// The checked address it leads to; behind a proxy this is not the peer.
    pub(crate) address: IpAddr,
}

/// Who has to act so that a dial succeeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The far end, or the network to it.
    Upstream,
    /// Whoever wrote the route, or runs its proxy.
    Operator,
    /// This process: it is out of descriptors, ports or memory.
    Gateway,
}

/// Why nothing was connected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// No address was given, or none of a family that the route can use.
    #[error("there is no address to connect to")]
    NoAddress,
    /// The upstream refused.
    #[error("{0} refused the connection")]
    Refused(SocketAddr),
    /// The upstream did not answer in time.
    #[error("{0} did not answer in time")]
    TimedOut(SocketAddr),
    /// The network says that the upstream can't be reached, or the connection broke at once.
    #[error("{address} can't be reached")]
    Unreachable {
        /// Where to.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The route's proxy did not connect us.
    #[error("the proxy {proxy} did not connect to {address}")]
    Proxy {
        /// The proxy, as the policy names it.
        proxy: String,
        /// Where to.
        address: SocketAddr,
        /// What it did.
        #[source]
        source: ProxyError,
    },
    /// The route can't be used on this machine.
    #[error("the route can't be used")]
    Route(#[from] RouteError),
    /// We are out of descriptors, ports or memory.
    #[error("the gateway can't open a socket to {address}")]
    Exhausted {
        /// Where to.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Upstream => "upstream",
            Fault::Operator => "route",
            Fault::Gateway => "gateway",
        })
    }
}

impl DialError {
    /// Who is at fault.
    pub(crate) fn fault(&self) -> Fault {
        match self {
            DialError::NoAddress | DialError::Refused(_) | DialError::TimedOut(_) | DialError::Unreachable { .. } => {
                Fault::Upstream
            }
            DialError::Proxy { source, .. } => source.fault(),
            DialError::Route(_) => Fault::Operator,
            DialError::Exhausted { .. } => Fault::Gateway,
        }
    }

    /// Whether it was only a matter of time.
    pub(crate) fn timed_out(&self) -> bool {
        match self {
            DialError::TimedOut(_) => true,
            DialError::Proxy { source, .. } => source.timed_out(),
            DialError::NoAddress
            | DialError::Refused(_)
            | DialError::Unreachable { .. }
            | DialError::Route(_)
            | DialError::Exhausted { .. } => false,
        }
    }

    /// Files an error of the kernel.
    fn from_kernel(address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::ConnectionRefused => DialError::Refused(address),
            io::ErrorKind::TimedOut => DialError::TimedOut(address),
            _ if socket::is_exhaustion(&source) => DialError::Exhausted { address, source },
            _ => DialError::Unreachable { address, source },
        }
    }
}

/// Connects to one of the checked addresses, by the route, within the timeout.
///
/// Addresses are tried as RFC 8305 says: the families take turns, IPv6 first, each attempt 250 ms after the one
/// before or as soon as that failed; the first connection wins and the others are dropped.
pub(crate) async fn connect(
    route: &Route,
    addresses: &[IpAddr],
    port: u16,
    timeout: Duration,
) -> Result<Dialled, DialError> {
    let targets = eyeballs::order(addresses, port);
    let Some(first) = targets.first().copied() else { return Err(DialError::NoAddress) };
    match tokio::time::timeout(timeout, eyeballs::race(&route.hop, &targets)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(DialError::TimedOut(first)),
    }
}

/// A socket that speaks with the first of the checked addresses that the route has a way to. Nothing is sent.
pub(crate) async fn datagrams(
    route: &Route,
    addresses: &[IpAddr],
    port: u16,
) -> Result<(UdpSocket, IpAddr), DialError> {
    let mut last = DialError::NoAddress;
    for address in eyeballs::order(addresses, port) {
        match udp_socket(&route.hop, address).await {
            Ok(socket) => return Ok((socket, address.ip())),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// One attempt at one address.
async fn attempt(hop: &Hop, address: SocketAddr) -> Result<Dialled, DialError> {
    let socket = match hop {
        Hop::Direct | Hop::Interface(_) | Hop::Mark(_) | Hop::Netns(_) | Hop::SourceAddress(_) => {
            socket::tcp_stream(hop, address).await?
        }
        Hop::HttpProxy(proxy) => {
            let mut stream = to_proxy(proxy, address).await?;
            proxy::http_connect(&mut stream, address).await.map_err(|source| failed_proxy(proxy, address, source))?;
            stream.into()
        }
        Hop::Socks5(proxy) => {
            let mut stream = to_proxy(proxy, address).await?;
            proxy::socks5(&mut stream, address).await.map_err(|source| failed_proxy(proxy, address, source))?;
            stream.into()
        }
    };
    Ok(Dialled { socket, address: address.ip() })
}

/// Connects to a proxy. Its name is the operator's, so the host's own resolver may be asked for it.
async fn to_proxy(proxy: &ProxyAddress, target: SocketAddr) -> Result<TcpStream, DialError> {
    let found = tokio::net::lookup_host((proxy.host.as_str(), proxy.port)).await;
    let found: Vec<SocketAddr> =
        found.map_err(|source| failed_proxy(proxy, target, ProxyError::Unresolved(source)))?.collect();
    let mut last = None;
    for address in found {
        match socket::tcp_stream(&Hop::Direct, address).await {
            Ok(socket) => return socket.into_stream().map_err(|source| DialError::from_kernel(address, source)),
            Err(error @ DialError::Exhausted { .. }) => return Err(error),
            Err(error) => last = Some(error),
        }
    }
    let source = match last {
        Some(error) => ProxyError::Unreachable(Box::new(error)),
        None => ProxyError::Unresolved(io::Error::new(io::ErrorKind::NotFound, "no address")),
    };
    Err(failed_proxy(proxy, target, source))
}

fn failed_proxy(proxy: &ProxyAddress, address: SocketAddr, source: ProxyError) -> DialError {
    DialError::Proxy { proxy: format!("{}:{}", proxy.host, proxy.port), address, source }
}

#[cfg(test)]
mod tests;
