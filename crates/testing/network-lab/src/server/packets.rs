//! Packets on the namespace's links: what no server would see, such as ICMP, a closed port, a scan.
//!
//! One AF_PACKET socket (packet(7)); the first packet of each TCP connection and every UDP and ICMP packet is
//! told; neighbour discovery and what goes back to the host are not.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use anyhow::{Context as _, Result};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, eth, socket_with, sockopt},
};

use super::recorder::Recorder;
use crate::{addresses, reached::What};

/// Room for a burst: 8 MiB.
const BUFFER: usize = 8 << 20;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMP_V6: u8 = 58;

#[derive(Clone)]
pub(super) struct Packets {
    /// Whoever reads a packet tells it before another may read: after a drain nothing is half told.
    socket: Arc<Mutex<OwnedFd>>,
    recorder: Recorder,
    link: Arc<str>,
}

impl Packets {
    pub(super) fn watch(recorder: &Recorder) -> Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::PACKET, SocketType::DGRAM, flags, Some(eth::ALL))
            .context("open a packet socket")?;
        sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER)
            .or_else(|_| sockopt::set_socket_recv_buffer_size(&socket, BUFFER))
            .context("the packet socket's buffer")?;
        let readable = socket.try_clone().context("clone the packet socket")?;
        let packets = Self { socket: Arc::new(Mutex::new(socket)), recorder: recorder.clone(), link: "link".into() };
        let watched = packets.clone();
        thread::spawn(move || {
            loop {
                let waited = poll(&mut [PollFd::new(&readable, PollFlags::IN)], None);
                if waited.is_err_and(|error| error != Errno::INTR) {
                    return;
                }
                watched.drain();
            }
        });
        Ok(packets)
    }

    /// Tells everything that has arrived until now.
    pub(super) fn drain(&self) {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffer = vec![0; 65_536];
        loop {
            match rustix::io::read(&*socket, &mut buffer) {
                Ok(count) => self.tell(buffer.get(..count).unwrap_or_default()),
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => return,
                // A link went down or up: told once, nothing lost.
                Err(error) => return eprintln!("network-lab-server: packet socket: {error}"),
            }
        }
    }

    fn tell(&self, packet: &[u8]) {
        let Some(seen) = Seen::read(packet) else { return };
        if seen.worth_telling() {
            let local = SocketAddr::new(seen.destination, seen.destination_port);
            let peer = SocketAddr::new(seen.source, seen.source_port);
            let visit = self.recorder.visit(&self.link, Some(local), Some(peer));
            visit.tell(What::Packet { protocol: seen.protocol, data: seen.payload.to_vec() });
        }
    }
}

/// One packet, read.
struct Seen<'a> {
    source: IpAddr,
    destination: IpAddr,
    source_port: u16,
    destination_port: u16,
    protocol: u8,
    first_of_connection: bool,
    icmp_type: u8,
    payload: &'a [u8],
}

impl<'a> Seen<'a> {
    /// Reads an IP packet; `None` where it is none or is cut.
    fn read(packet: &'a [u8]) -> Option<Self> {
        let (source, destination, protocol, transport): (IpAddr, IpAddr, u8, &[u8]) = match packet.first()? >> 4 {
            4 => {
                let header = usize::from(packet.first()? & 0x0f) * 4;
                let source = Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(12..16)?).ok()?);
                let destination = Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(16..20)?).ok()?);
                (source.into(), destination.into(), *packet.get(9)?, packet.get(header..)?)
            }
            6 => {
                let source = Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(8..24)?).ok()?);
                let destination = Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(24..40)?).ok()?);
                let (protocol, transport) = behind_options(*packet.get(6)?, packet.get(40..)?)?;
                (source.into(), destination.into(), protocol, transport)
            }
            _ => return None,
        };
        let port = |at: usize| Some(u16::from_be_bytes([*transport.get(at)?, *transport.get(at + 1)?]));
        let has_ports = protocol == TCP || protocol == UDP;
        Some(Self {
            source,
            destination,
            source_port: if has_ports { port(0)? } else { 0 },
            destination_port: if has_ports { port(2)? } else { 0 },
            protocol,
            // SYN without ACK.
            first_of_connection: protocol == TCP && transport.get(13)? & 0x12 == 0x02,
            icmp_type: *transport.first()?,
            payload: transport.get(if protocol == TCP { 20 } else { 8 }..).unwrap_or_default(),
        })
    }

    fn worth_telling(&self) -> bool {
        let back = [addresses::HOST, addresses::HOST_V6, addresses::HOST_CORPORATE, addresses::HOST_CORPORATE_V6];
        if back.iter().any(|host| host.parse() == Ok(self.destination)) {
            return false;
        }
        match self.protocol {
            TCP => self.first_of_connection,
            ICMP => self.icmp_type == 8,
            // Not neighbour discovery and group membership: what kernels say of themselves. No kernel advertises a router.
            ICMP_V6 => matches!(self.icmp_type, 128 | 134),
            _ => true,
        }
    }
}

/// What stands behind IPv6's hop-by-hop options, routing and destination options (RFC 8200, 4).
fn behind_options(mut protocol: u8, mut rest: &[u8]) -> Option<(u8, &[u8])> {
    while matches!(protocol, 0 | 43 | 60) {
        protocol = *rest.first()?;
        rest = rest.get((usize::from(*rest.get(1)?) + 1) * 8..)?;
    }
    Some((protocol, rest))
}
