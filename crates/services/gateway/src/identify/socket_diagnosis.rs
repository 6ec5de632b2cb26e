//! Which inode a connection's socket has (sock_diag(7)).
//!
//! Over a socket that was made in the sandbox's namespace. The kernel answers within the send, so nothing waits. A TCP
//! connection has both its ends; of a UDP socket only the local port is known (where a question was redirected from, only
//! its sender knows), so all with that port are listed.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
};

use rustix::net::{RecvFlags, SendFlags, netlink::SocketAddrNetlink};
use smallvec::SmallVec;

/// `SOCK_DIAG_BY_FAMILY` (linux/sock_diag.h).
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST`.
const FLAG_REQUEST: u16 = 1;
/// `NLM_F_DUMP`: all that fit, not one.
const FLAG_DUMP: u16 = 0x300;
/// IPPROTO_TCP and IPPROTO_UDP.
const TCP: u8 = 6;
const UDP: u8 = 17;
/// Answers to earlier questions that are passed over.
const MESSAGE_LIMIT: usize = 16;
/// Reads of one listing: more sockets than a sandbox can have.
const LISTING_LIMIT: usize = 1 << 20;
/// nlmsghdr and inet_diag_req_v2.
const REQUEST_SIZE: usize = 16 + 56;
/// Where the ports stand: behind nlmsghdr and four bytes of inet_diag_msg.
const PORTS_AT: usize = 16 + 4;
/// Where `idiag_inode` stands: behind nlmsghdr, at the end of inet_diag_msg.
const INODE_AT: usize = 16 + 68;

/// The inode of the socket with these ends, seen from its owner. `None` where there is none any more.
pub(super) fn inode(
    diagnosis: &OwnedFd,
    local: SocketAddr,
    remote: SocketAddr,
    sequence: u32,
) -> io::Result<Option<u64>> {
    let kernel = SocketAddrNetlink::new(0, 0);
    let request = request(TCP, FLAG_REQUEST, local, remote, sequence);
    rustix::net::sendto(diagnosis, &request, SendFlags::empty(), &kernel)?;
    let mut buffer = [0; 1024];
    for _ in 0..MESSAGE_LIMIT {
        let (count, _) = rustix::net::recv(diagnosis, &mut buffer, RecvFlags::DONTWAIT)?;
        let message = buffer.get(..count).unwrap_or_default();
        if number(message, 8) != Some(sequence) {
            // The answer to an earlier question that was given up.
            continue;
        }
        let kind = message.get(4..6);
        // Where there is no such connection the kernel answers with the socket that listens on its port.
        let is_it = message.get(PORTS_AT..PORTS_AT + 4) == Some(&ports(local, remote));
        return Ok(if kind == Some(&BY_FAMILY.to_ne_bytes()) && is_it {
            number(message, INODE_AT).map(u64::from).filter(|inode| *inode != 0)
        } else {
            None
        });
    }
    Err(io::ErrorKind::InvalidData.into())
}

/// The inode of the one UDP socket with this local port. `None` where there is none, or more than one.
pub(super) fn datagram_inode(diagnosis: &OwnedFd, local: SocketAddr, sequence: u32) -> io::Result<Option<u64>> {
    let mut found = None;
    // An IPv6 socket may have sent the IPv4 datagram, too.
    for family in [IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED)] {
        let (local, any) = (SocketAddr::new(family, local.port()), SocketAddr::new(family, 0));
        let request = request(UDP, FLAG_REQUEST | FLAG_DUMP, local, any, sequence);
        let kernel = SocketAddrNetlink::new(0, 0);
        rustix::net::sendto(diagnosis, &request, SendFlags::empty(), &kernel)?;
        for inode in listed(diagnosis, local.port(), sequence)? {
            if found.replace(inode).is_some_and(|other| other != inode) {
                return Ok(None);
            }
        }
    }
    Ok(found)
}

/// The inodes of the sockets with this local port in the answer to a question for all; of many the first two.
///
/// Read to its end in any case: a listing that was left half read would have the kernel refuse every further question
/// (`EBUSY`), and the workload can make one as long as its descriptors go.
fn listed(diagnosis: &OwnedFd, port: u16, sequence: u32) -> io::Result<SmallVec<[u64; 2]>> {
    /// `NLMSG_DONE` and `NLMSG_ERROR`.
    const LAST: [u16; 2] = [3, 2];
    let mut inodes = SmallVec::new();
    let mut buffer = [0; 8192];
    for _ in 0..LISTING_LIMIT {
        let (count, _) = rustix::net::recv(diagnosis, &mut buffer, RecvFlags::DONTWAIT)?;
        let mut rest = buffer.get(..count).unwrap_or_default();
        while let Some(length) = number(rest, 0).and_then(|length| usize::try_from(length).ok()) {
            let message = rest.get(..length).unwrap_or(rest);
            rest = rest.get(length.next_multiple_of(4).max(16)..).unwrap_or_default();
            if number(message, 8) != Some(sequence) {
                continue;
            }
            let kind = message.get(4..6);
            if LAST.iter().any(|last| kind == Some(&last.to_ne_bytes())) {
                return Ok(inodes);
            }
            if message.get(PORTS_AT..PORTS_AT + 2) == Some(&port.to_be_bytes()) && inodes.len() < 2 {
                inodes.extend(number(message, INODE_AT).map(u64::from).filter(|inode| *inode != 0));
            }
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

/// nlmsghdr { len u32, type u16, flags u16, seq u32, pid u32 }, then inet_diag_req_v2 { family u8, protocol u8,
/// ext u8, pad u8, states u32, sport be16, dport be16, src be32[4], dst be32[4], if u32, cookie u32[2] }.
fn request(protocol: u8, flags: u16, local: SocketAddr, remote: SocketAddr, sequence: u32) -> Vec<u8> {
    let family: u8 = if local.is_ipv4() { 2 } else { 10 };
    let mut bytes = Vec::with_capacity(REQUEST_SIZE);
    bytes.extend(u32::try_from(REQUEST_SIZE).unwrap_or_default().to_ne_bytes());
    bytes.extend(BY_FAMILY.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend([family, protocol, 0, 0]);
    bytes.extend(u32::MAX.to_ne_bytes());
    bytes.extend(ports(local, remote));
    bytes.extend(address(local));
    bytes.extend(address(remote));
    bytes.extend([0; 4]);
    bytes.extend(u64::MAX.to_ne_bytes());
    bytes
}

fn ports(local: SocketAddr, remote: SocketAddr) -> [u8; 4] {
    let ([a, b], [c, d]) = (local.port().to_be_bytes(), remote.port().to_be_bytes());
    [a, b, c, d]
}

fn address(of: SocketAddr) -> [u8; 16] {
    match of.ip() {
        IpAddr::V6(v6) => v6.octets(),
        IpAddr::V4(v4) => {
            let mut octets = Ipv6Addr::UNSPECIFIED.octets();
            for (to, from) in octets.iter_mut().zip(v4.octets()) {
                *to = from;
            }
            octets
        }
    }
}

fn number(message: &[u8], at: usize) -> Option<u32> {
    message.get(at..).and_then(|rest| rest.first_chunk::<4>()).map(|bytes| u32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream, UdpSocket},
        os::{
            fd::{AsFd, OwnedFd},
            linux::fs::MetadataExt,
        },
    };

    use rustix::net::{AddressFamily, SocketFlags, SocketType, netlink, socket_with};

    use super::{datagram_inode, inode};

    fn diagnosis() -> OwnedFd {
        let flags = SocketFlags::CLOEXEC;
        socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(netlink::SOCK_DIAG)).unwrap()
    }

    fn inode_of(socket: impl AsFd) -> u64 {
        std::fs::File::from(socket.as_fd().try_clone_to_owned().unwrap()).metadata().unwrap().st_ino()
    }

    #[test]
    fn finds_the_inode_of_a_udp_socket_by_its_port_alone() {
        let diagnosis = diagnosis();
        for bind in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
            let Ok(socket) = UdpSocket::bind(bind) else { continue };
            let local = socket.local_addr().unwrap();
            assert_eq!(datagram_inode(&diagnosis, local, 3).unwrap(), Some(inode_of(&socket)), "{bind}");
            drop(socket);
            assert_eq!(datagram_inode(&diagnosis, local, 4).unwrap(), None);
        }
        // Of two it can't be told which one asked.
        let one = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = one.local_addr().unwrap().port();
        let _other = UdpSocket::bind(("127.0.0.2", port)).unwrap();
        assert_eq!(datagram_inode(&diagnosis, one.local_addr().unwrap(), 5).unwrap(), None);
    }

    /// A listing that is not read to its end would keep the kernel from answering any further question.
    #[test]
    fn a_thousand_sockets_on_one_port_hide_no_other() {
        let diagnosis = diagnosis();
        // This test has a process of its own.
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let all = rustix::process::Rlimit { current: limit.maximum, ..limit };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, all).unwrap();
        let any = socket2::SockAddr::from(std::net::SocketAddr::from(([127, 0, 0, 1], 0)));
        let mut crowd: Vec<socket2::Socket> = Vec::new();
        for _ in 0..3000 {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
            socket.set_reuse_port(true).unwrap();
            let address = crowd.first().map_or_else(|| any.clone(), |first| first.local_addr().unwrap());
            socket.bind(&address).unwrap();
            crowd.push(socket);
        }
        let crowded = crowd[0].local_addr().unwrap().as_socket().unwrap();
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        for sequence in 0..4 {
            assert_eq!(datagram_inode(&diagnosis, crowded, 10 * sequence + 1).unwrap_or(None), None);
            let found = datagram_inode(&diagnosis, other.local_addr().unwrap(), 10 * sequence + 2).unwrap();
            assert_eq!(found, Some(inode_of(&other)));
            let (local, remote) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
            assert_eq!(inode(&diagnosis, local, remote, 10 * sequence + 3).unwrap(), Some(inode_of(&client)));
        }
    }

    #[test]
    fn finds_the_inode_of_a_connection_and_nothing_for_none() {
        let diagnosis = diagnosis();
        for bind in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(bind) else { continue };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (local, remote) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
            assert_eq!(inode(&diagnosis, local, remote, 7).unwrap(), Some(inode_of(&client)));
            assert_eq!(inode(&diagnosis, remote, "192.0.2.1:9".parse().unwrap(), 8).unwrap_or(None), None);
        }
    }
}
