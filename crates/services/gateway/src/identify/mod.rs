//! Who opened a connection, and where it was going.

/// Which process holds a socket.
mod holder;
/// Looking processes up beside the workers.
mod processes;
/// Which inode a connection's socket has.
mod socket_diagnosis;

use std::{io, net::SocketAddr, os::fd::AsFd};

pub(crate) use processes::{Asker, Processes};
use rustix::net::sockopt::{ip_original_dst, ipv6_original_dst};

/// The address that a redirected client dialled (`SO_ORIGINAL_DST`, `IP6T_SO_ORIGINAL_DST`).
///
/// A connection to the listener itself was not redirected: it has no destination, and going on would loop.
pub(crate) fn original_destination(socket: impl AsFd, local: SocketAddr) -> io::Result<SocketAddr> {
    let original = match local {
        SocketAddr::V4(_) => SocketAddr::V4(ip_original_dst(socket)?),
        SocketAddr::V6(_) => SocketAddr::V6(ipv6_original_dst(socket)?),
    };
    if original.port() == local.port() && original.ip() == local.ip() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "the connection was made to the gateway's own port"));
    }
    Ok(SocketAddr::new(policy::address::canonical(original.ip()), original.port()))
}
