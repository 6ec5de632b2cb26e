//! Sockets that leave as a hop says.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use policy::model::Hop;
use rustix::io::Errno;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpStream, UdpSocket};

use super::{DialError, netns};
use crate::socket::Socket as Connected;

/// Why this machine can't use a route.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RouteError {
    /// The interface is not there.
    #[error("there is no network interface {0:?}")]
    NoInterface(String),
    /// Binding to an interface is not permitted to this process.
    #[error("binding to the interface {0:?} needs CAP_NET_RAW on this kernel")]
    InterfaceNotPermitted(String),
    /// Marking is not permitted to this process.
    #[error("setting the firewall mark {0} needs CAP_NET_ADMIN")]
    MarkNotPermitted(u32),
    /// The source address is not one of this machine's.
    #[error("{0} is no address of this machine")]
    NoSourceAddress(IpAddr),
    /// The source address is of the other family than everything that could be dialled.
    #[error("from the source address {from} nothing of the family of {to} can be reached")]
    OtherFamily {
        /// The route's source address.
        from: IpAddr,
        /// What was to be dialled.
        to: IpAddr,
    },
    /// The network namespace can't be opened.
    #[error("the network namespace {path} can't be opened")]
    NoNamespace {
        /// Where it was looked for.
        path: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Entering the network namespace is not permitted, or it is none.
    #[error("the network namespace {path} can't be entered (CAP_SYS_ADMIN over it is needed)")]
    NamespaceNotPermitted {
        /// Where it is.
        path: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A proxy carries TCP only.
    #[error("a proxy route carries no UDP")]
    ProxyCarriesTcpOnly,
    /// The kernel refused in a way that none of the others names.
    #[error("the kernel refused a socket for the route")]
    Kernel(#[source] io::Error),
}

/// Whether an error says that we, and not the far end, ran out of something.
pub(super) fn is_exhaustion(error: &io::Error) -> bool {
    // EADDRNOTAVAIL on connect: no ephemeral port is left for this destination.
    let ours = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL, Errno::AGAIN];
    error.raw_os_error().is_some_and(|code| ours.iter().any(|errno| errno.raw_os_error() == code))
}

/// A connected socket with TCP_NODELAY.
pub(super) async fn tcp_stream(hop: &Hop, address: SocketAddr) -> Result<Connected, DialError> {
    let socket = open(hop, address.ip(), Type::STREAM).await.map_err(|error| file(error, address))?;
    let from_kernel = |source| DialError::from_kernel(address, source);
    socket.set_tcp_nodelay(true).map_err(from_kernel)?;
    match socket.connect(&address.into()) {
        Ok(()) => return Ok(Connected::Own(socket.into())),
        Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(from_kernel(error)),
    }
    // To a server on this machine the connection is there when the call returns, which a second call tells (connect(2)).
    match socket.connect(&address.into()) {
        Ok(()) => return Ok(Connected::Own(socket.into())),
        Err(error) if error.raw_os_error() == Some(Errno::ALREADY.raw_os_error()) => {}
        Err(error) => return Err(from_kernel(error)),
    }
    let stream = TcpStream::from_std(socket.into()).map_err(from_kernel)?;
    stream.writable().await.map_err(from_kernel)?;
    match stream.take_error().map_err(from_kernel)? {
        None => Ok(stream.into()),
        Some(error) => Err(from_kernel(error)),
    }
}

/// A UDP socket that speaks with this address alone.
pub(crate) async fn udp_socket(hop: &Hop, address: SocketAddr) -> Result<UdpSocket, DialError> {
    let socket = open(hop, address.ip(), Type::DGRAM).await.map_err(|error| file(error, address))?;
    let connected = socket.connect(&address.into()).and_then(|()| UdpSocket::from_std(socket.into()));
    connected.map_err(|source| DialError::from_kernel(address, source))
}

/// Running out of descriptors is no fault of the route.
fn file(error: RouteError, address: SocketAddr) -> DialError {
    match error {
        RouteError::Kernel(source) if is_exhaustion(&source) => DialError::Exhausted { address, source },
        error => DialError::Route(error),
    }
}

/// Opens a socket and binds it as the hop says. A proxy itself is reached as the host reaches it.
async fn open(hop: &Hop, to: IpAddr, kind: Type) -> Result<Socket, RouteError> {
    match hop {
        Hop::Direct => here(to, kind),
        Hop::Interface(name) => {
            let socket = here(to, kind)?;
            socket.bind_device(Some(name.as_bytes())).map_err(|source| bad_interface(name, source))?;
            Ok(socket)
        }
        Hop::Mark(mark) => {
            let socket = here(to, kind)?;
            socket.set_mark(*mark).map_err(|source| match source.kind() {
                io::ErrorKind::PermissionDenied => RouteError::MarkNotPermitted(*mark),
                _ => RouteError::Kernel(source),
            })?;
            Ok(socket)
        }
        Hop::Netns(name) => netns::open(name, domain(to), kind).await,
        Hop::SourceAddress(from) => {
            if from.is_ipv4() != to.is_ipv4() {
                return Err(RouteError::OtherFamily { from: *from, to });
            }
            let socket = here(to, kind)?;
            socket.bind(&SocketAddr::new(*from, 0).into()).map_err(|source| match source.kind() {
                io::ErrorKind::AddrNotAvailable => RouteError::NoSourceAddress(*from),
                _ => RouteError::Kernel(source),
            })?;
            Ok(socket)
        }
        Hop::HttpProxy(_) | Hop::Socks5(_) => Err(RouteError::ProxyCarriesTcpOnly),
    }
}

fn here(to: IpAddr, kind: Type) -> Result<Socket, RouteError> {
    Socket::new(domain(to), kind.nonblocking().cloexec(), None).map_err(RouteError::Kernel)
}

fn bad_interface(name: &str, source: io::Error) -> RouteError {
    match source.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NODEV) => RouteError::NoInterface(name.to_owned()),
        Some(Errno::PERM) => RouteError::InterfaceNotPermitted(name.to_owned()),
        _ => RouteError::Kernel(source),
    }
}

fn domain(to: IpAddr) -> Domain {
    match to {
        IpAddr::V4(_) => Domain::IPV4,
        IpAddr::V6(_) => Domain::IPV6,
    }
}
