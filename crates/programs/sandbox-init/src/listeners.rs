//! The sockets that lead out of the sandbox: opened inside its network namespace, held by the gateway.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use init_protocol::{GatewayPorts, Handed};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, listen, netlink, socket_with, sockopt};

use crate::failure::{Failure, Step};
use crate::network::Families;

const HINT: &str = "the gateway's sockets could not be opened in the sandbox's network namespace";

/// Connections that wait for the gateway; the kernel cuts it to net.core.somaxconn.
const BACKLOG: i32 = 65_535;

/// Opens them all.
pub(crate) fn open(ports: GatewayPorts, families: Families) -> Result<Vec<(Handed, OwnedFd)>, Failure> {
    let v4 = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let wanted = [
        (Handed::TransparentV4, SocketType::STREAM, v4, ports.transparent),
        (Handed::TransparentV6, SocketType::STREAM, v6, ports.transparent),
        (Handed::DnsUdpV4, SocketType::DGRAM, v4, ports.dns),
        (Handed::DnsUdpV6, SocketType::DGRAM, v6, ports.dns),
        (Handed::DnsTcpV4, SocketType::STREAM, v4, ports.dns),
        (Handed::DnsTcpV6, SocketType::STREAM, v6, ports.dns),
        (Handed::ProxyV4, SocketType::STREAM, v4, ports.proxy),
    ];
    let mut opened = Vec::with_capacity(wanted.len() + 2);
    for (handed, kind, address, port) in wanted {
        if address.is_ipv6() && !families.ipv6 {
            continue;
        }
        let address = SocketAddr::new(address, port);
        opened.push((handed, open_one(kind, address).step_on("listen on", address, HINT)?));
    }
    let diagnosis =
        socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(netlink::SOCK_DIAG))
            .step("open sock_diag", "the kernel lacks CONFIG_INET_DIAG")?;
    opened.push((Handed::SocketDiagnosis, diagnosis));
    Ok(opened)
}

/// Opens a socket on every address of each family, for each UDP port that the policy opens.
pub(crate) fn datagrams(ports: &[u16], families: Families) -> Result<Vec<OwnedFd>, Failure> {
    const HINT: &str = "the sandbox itself uses the UDP port; name another in the policy";
    let mut opened = Vec::with_capacity(2 * ports.len());
    for port in ports {
        for address in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
            if address.is_ipv6() && !families.ipv6 {
                continue;
            }
            let address = SocketAddr::new(address, *port);
            opened.push(open_one(SocketType::DGRAM, address).step_on("open UDP", address, HINT)?);
        }
    }
    Ok(opened)
}

/// No address reuse: with it, a workload of the same user could bind the gateway's own ports beside it.
fn open_one(kind: SocketType, address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let protocol = if kind == SocketType::STREAM { ipproto::TCP } else { ipproto::UDP };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, Some(protocol))?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &address)?;
    if kind == SocketType::STREAM {
        listen(&socket, BACKLOG)?;
    }
    Ok(socket)
}
