//! The network namespace: loopback up, and every address of both families local to it.
//!
//! With `local default dev lo`, whatever the workload dials arrives on loopback, where the firewall sends it to the
//! gateway's sockets. There is no other device, so there is nowhere else for a packet to go.

use rustix::io::Errno;
use rustix::net::{AddressFamily, Protocol};

use crate::failure::{Failure, Step};
use crate::netlink::{ACKNOWLEDGE, CREATE, EXCLUSIVE, Message, Netlink};

/// NETLINK_ROUTE is protocol 0.
const ROUTE: Option<Protocol> = None;
/// Loopback is the first device of every network namespace.
const LOOPBACK: u32 = 1;
/// RTM_NEWLINK.
const NEW_LINK: u16 = 16;
/// RTM_NEWROUTE.
const NEW_ROUTE: u16 = 24;
/// IFF_UP.
const UP: u32 = 1;
/// RTA_OIF.
const OUTPUT_INTERFACE: u16 = 4;
/// RT_TABLE_LOCAL, RTPROT_BOOT, RT_SCOPE_HOST and RTN_LOCAL: the middle of rtmsg.
const LOCAL_ROUTE: [u8; 4] = [255, 3, 254, 2];

const HINT: &str = "the kernel refused to set up loopback in a new network namespace; run `cofferdam doctor`";

/// Which address families the sandbox has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Families {
    /// Whether the kernel speaks IPv6 here.
    pub(crate) ipv6: bool,
}

/// Brings loopback up and makes every address local.
pub(crate) fn build() -> Result<Families, Failure> {
    let netlink = Netlink::open(ROUTE).step("network: open netlink", HINT)?;
    let run = |message| netlink.transact(vec![message]).map_err(|(_, errno)| errno);
    run(loopback_up()).step("network: loopback up", HINT)?;
    run(local_default(AddressFamily::INET)).step("network: IPv4 route", HINT)?;
    let ipv6 = match run(local_default(AddressFamily::INET6)) {
        Ok(()) => true,
        // No IPv6 in this kernel, or turned off: no socket of that family can send, so nothing can get out by it.
        Err(Errno::OPNOTSUPP | Errno::AFNOSUPPORT | Errno::ACCESS | Errno::INVAL) => false,
        Err(errno) => return Err(Failure::new("network: IPv6 route", errno, HINT)),
    };
    Ok(Families { ipv6 })
}

/// ifinfomsg: family, padding, type, index, flags, the flags to change.
fn loopback_up() -> Message {
    let mut fixed = vec![0; 4];
    for field in [LOOPBACK, UP, UP] {
        fixed.extend_from_slice(&field.to_ne_bytes());
    }
    Message::new(NEW_LINK, ACKNOWLEDGE).fixed(&fixed)
}

/// rtmsg: family, lengths of destination and source, tos, table, protocol, scope, type, flags.
fn local_default(family: AddressFamily) -> Message {
    let family = u8::try_from(family.as_raw()).unwrap_or_default();
    let mut fixed = vec![family, 0, 0, 0];
    fixed.extend_from_slice(&LOCAL_ROUTE);
    fixed.extend_from_slice(&0_u32.to_ne_bytes());
    Message::new(NEW_ROUTE, ACKNOWLEDGE | CREATE | EXCLUSIVE)
        .fixed(&fixed)
        .bytes(OUTPUT_INTERFACE, &LOOPBACK.to_ne_bytes())
}
