//! What the kernel says of a packet that it rejected (nfnetlink_log), and what the packet's own headers say.
//!
//! The kernel's part is a netlink message with attributes; the packet is the workload's, cut to its first bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use policy::Protocol;

/// nlmsghdr, then nfgenmsg.
const HEADER: usize = 16;
const ATTRIBUTES: usize = HEADER + 4;
/// NFNL_SUBSYS_ULOG and NFULNL_MSG_PACKET.
const PACKET: u16 = 4 << 8;
/// NFULA_PAYLOAD and NFULA_SEQ.
const PAYLOAD: u16 = 9;
const SEQUENCE: u16 = 12;
/// Without the bits that say how an attribute is nested (NLA_TYPE_MASK).
const KIND: u16 = 0x3fff;
/// IPv6 headers between the first and the transport's that are passed over (RFC 8200, 4).
const MOST_EXTENSIONS: usize = 8;

/// A packet that was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rejected {
    /// Its number among all that were, where the kernel numbers them.
    pub(super) sequence: Option<u32>,
    /// `None` where its headers can't be read.
    pub(super) attempt: Option<Attempt>,
}

/// Who wanted to reach whom. Ports are 0 where the protocol has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Attempt {
    pub(super) protocol: Protocol,
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
}

/// Reads each packet in what the kernel sent at once.
pub(super) fn read(mut messages: &[u8]) -> Vec<Rejected> {
    let mut found = Vec::new();
    while let Some(length) = host_u32(messages, 0).and_then(|length| usize::try_from(length).ok()) {
        let Some(message) = messages.get(..length.max(HEADER)) else { break };
        if host_u16(message, 4) == Some(PACKET) {
            found.push(packet(message.get(ATTRIBUTES..).unwrap_or_default()));
        }
        messages = messages.get(message.len().next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn packet(mut attributes: &[u8]) -> Rejected {
    let mut rejected = Rejected { sequence: None, attempt: None };
    while let (Some(length), Some(kind)) = (host_u16(attributes, 0), host_u16(attributes, 2)) {
        let Some(value) = attributes.get(4..usize::from(length)) else { break };
        match kind & KIND {
            SEQUENCE => rejected.sequence = value.first_chunk().map(|bytes| u32::from_be_bytes(*bytes)),
            PAYLOAD => rejected.attempt = attempt(value),
            _ => {}
        }
        attributes = attributes.get(usize::from(length).next_multiple_of(4)..).unwrap_or_default();
    }
    rejected
}

fn attempt(packet: &[u8]) -> Option<Attempt> {
    let (protocol, source, destination, transport): (u8, IpAddr, IpAddr, &[u8]) = match packet.first()? >> 4 {
        4 => {
            let own = usize::from(packet.first()? & 0xf) * 4;
            let (source, destination) = (Ipv4Addr::from(*chunk(packet, 12)?), Ipv4Addr::from(*chunk(packet, 16)?));
            (*packet.get(9)?, source.into(), destination.into(), packet.get(own.max(20)..).unwrap_or_default())
        }
        6 => {
            let (source, destination) = (Ipv6Addr::from(*chunk(packet, 8)?), Ipv6Addr::from(*chunk(packet, 24)?));
            let (protocol, transport) = behind_extensions(*packet.get(6)?, packet.get(40..).unwrap_or_default())?;
            (protocol, source.into(), destination.into(), transport)
        }
        _ => return None,
    };
    let port = |at: usize| chunk::<2>(transport, at).map(|bytes| u16::from_be_bytes(*bytes));
    let (protocol, source_port, port) = match protocol {
        6 => (Protocol::Tcp, port(0)?, port(2)?),
        // UDP, and UDP-Lite, which has its ports in the same place.
        17 | 136 => (Protocol::Udp, port(0)?, port(2)?),
        1 | 58 => (Protocol::Icmp, 0, 0),
        _ => return None,
    };
    Some(Attempt {
        protocol,
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, port),
    })
}

/// The transport's protocol, and the bytes from its header on.
fn behind_extensions(mut next: u8, mut rest: &[u8]) -> Option<(u8, &[u8])> {
    for _ in 0..MOST_EXTENSIONS {
        let length = match next {
            // Hop-by-hop, routing, destination options.
            0 | 43 | 60 => (usize::from(*rest.get(1)?) + 1) * 8,
            // A fragment.
            44 => 8,
            _ => return Some((next, rest)),
        };
        next = *rest.first()?;
        rest = rest.get(length..)?;
    }
    None
}

fn chunk<const N: usize>(bytes: &[u8], at: usize) -> Option<&[u8; N]> {
    bytes.get(at..)?.first_chunk()
}

fn host_u16(bytes: &[u8], at: usize) -> Option<u16> {
    chunk(bytes, at).map(|bytes| u16::from_ne_bytes(*bytes))
}

fn host_u32(bytes: &[u8], at: usize) -> Option<u32> {
    chunk(bytes, at).map(|bytes| u32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use policy::Protocol;
    use proptest::prelude::{any, prop_assert, proptest};

    use super::{Attempt, Rejected, read};

    /// A message as the kernel makes it: sequence number and packet.
    fn message(sequence: u32, packet: &[u8]) -> Vec<u8> {
        let attribute = |kind: u16, value: &[u8]| {
            let mut bytes = u16::try_from(value.len() + 4).unwrap().to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        let inside = [attribute(12, &sequence.to_be_bytes()), attribute(10, &[0]), attribute(9, packet)].concat();
        let mut bytes = u32::try_from(20 + inside.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(0x400_u16.to_ne_bytes());
        bytes.resize(20, 0);
        bytes.extend(inside);
        bytes
    }

    fn v4(protocol: u8, behind: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0, 192, 0, 2, 1, 198, 51, 100, 7];
        packet.extend(behind);
        packet
    }

    fn v6(next: u8, behind: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, 0, next, 64];
        packet.extend([0; 15]);
        packet.push(1);
        packet.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5]);
        packet.extend(behind);
        packet
    }

    fn attempt(packet: &[u8]) -> Option<(Protocol, String)> {
        let [Rejected { sequence: Some(7), attempt }] = read(&message(7, packet))[..] else { panic!("{packet:?}") };
        attempt.map(|Attempt { protocol, destination, .. }| (protocol, destination.to_string()))
    }

    #[test]
    fn a_packet_says_where_it_was_going() {
        let ports = [0x9c, 0x40, 0x11, 0x5c];
        for (packet, expected) in [
            (v4(17, &ports), Some((Protocol::Udp, "198.51.100.7:4444"))),
            (v4(6, &ports), Some((Protocol::Tcp, "198.51.100.7:4444"))),
            (v4(1, &[8, 0]), Some((Protocol::Icmp, "198.51.100.7:0"))),
            (v4(136, &ports), Some((Protocol::Udp, "198.51.100.7:4444"))),
            (v4(132, &ports), None),
            (v4(17, &ports[..3]), None),
            (v6(17, &ports), Some((Protocol::Udp, "[2001:db8::5]:4444"))),
            (v6(58, &[128]), Some((Protocol::Icmp, "[2001:db8::5]:0"))),
            (v6(60, &[&[17, 0, 0, 0, 0, 0, 0, 0], &ports[..]].concat()), Some((Protocol::Udp, "[2001:db8::5]:4444"))),
            (v6(60, &[17, 9]), None),
            (vec![0x25; 60], None),
            (Vec::new(), None),
        ] {
            let expected = expected.map(|(protocol, to)| (protocol, to.to_owned()));
            assert_eq!(attempt(&packet), expected, "{packet:?}");
        }
        // Options in the first header.
        let mut packet = v4(17, &[&[1; 4], &ports[..]].concat());
        packet[0] = 0x46;
        assert_eq!(attempt(&packet), Some((Protocol::Udp, "198.51.100.7:4444".to_owned())));
    }

    #[test]
    fn several_are_read_at_once_and_others_are_passed_over() {
        let mut other = message(1, &v4(1, &[]));
        other[4] = 3;
        let all = [message(1, &v4(1, &[])), other, message(3, &v4(1, &[]))].concat();
        assert_eq!(read(&all).iter().map(|one| one.sequence).collect::<Vec<_>>(), [Some(1), Some(3)]);
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(read(&bytes).len() <= bytes.len() / 16);
            let whole = message(1, &bytes);
            prop_assert!(read(&whole).len() == 1);
            for cut in 0..whole.len() {
                read(&whole[..cut]);
            }
        }
    }
}
