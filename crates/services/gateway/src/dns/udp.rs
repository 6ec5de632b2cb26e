//! DNS over UDP.
//!
//! Datagrams are taken as they are there, up to a batch; what can be answered at once is recorded and answered, and
//! what upstream must be asked for goes on as a task of its own, so that a slow name holds up no other.

use std::{io::IoSlice, net::SocketAddr, sync::Arc};

use audit_event::Event;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, addr::SocketAddrArg, sendmmsg};
use tokio::{net::UdpSocket, task::JoinSet};

use wire::dns::{
    question::{Parsed, ResponseCode, parse},
    reply::{self, Transport},
};

use super::{
    DnsContext,
    decide::{First, Pending},
};

/// The largest question; none that a resolver sends comes near.
const DATAGRAM_LIMIT: usize = 4096;
/// How many datagrams are taken before the answers go out.
const BATCH: usize = 32;
/// The most questions that wait for upstream.
const WAITING_LIMIT: usize = 1024;

/// Serves until it is dropped.
pub(crate) async fn serve_udp(socket: UdpSocket, context: Arc<DnsContext>) {
    let mut server = Server {
        socket: Arc::new(socket),
        context,
        waiting: JoinSet::new(),
        datagram: vec![0; DATAGRAM_LIMIT],
        out: Vec::with_capacity(BATCH * 512),
        ready: Vec::with_capacity(BATCH),
        events: Vec::with_capacity(BATCH),
    };
    loop {
        let socket = Arc::clone(&server.socket);
        tokio::select! {
            readable = socket.readable() => {
                if readable.is_err() {
                    return;
                }
                server.batch().await;
            }
            Some(_) = server.waiting.join_next() => {}
        }
    }
}

struct Server {
    socket: Arc<UdpSocket>,
    context: Arc<DnsContext>,
    waiting: JoinSet<()>,
    datagram: Vec<u8>,
    out: Vec<u8>,
    ready: Vec<Ready>,
    events: Vec<Event>,
}

/// An answer that waits for its record.
struct Ready {
    peer: SocketAddr,
    from: usize,
    /// Whether an event of it stands among the events, in the same order.
    told: bool,
}

impl Server {
    async fn batch(&mut self) {
        self.out.clear();
        for _ in 0..BATCH {
            let Ok((length, peer)) = self.socket.try_recv_from(&mut self.datagram) else { break };
            let from = self.out.len();
            let message = self.datagram.get(..length).unwrap_or_default();
            match self.context.first(message, Transport::Udp, &mut self.out) {
                First::Nothing => {}
                First::Answer(event) => self.answer(peer, from, event),
                First::Upstream(pending) if self.waiting.len() < WAITING_LIMIT => self.wait(*pending, peer),
                First::Upstream(_) => {
                    if let Parsed::Question(question) = parse(message) {
                        // Nothing was asked and nothing told: the client will try again.
                        reply::bare(&mut self.out, &question, ResponseCode::ServFail);
                        self.answer(peer, from, None);
                    }
                }
            }
        }
        self.send().await;
    }

    /// Records what is ready with one write, then answers with another.
    async fn send(&mut self) {
        if self.ready.is_empty() {
            return;
        }
        let recorded = self.context.record_all(&self.events).await;
        self.events.clear();
        let mut recorded = recorded.into_iter();
        let ends = self.ready.iter().skip(1).map(|ready| ready.from).chain([self.out.len()]);
        let mut withheld = Vec::new();
        let mut answers: Vec<(SocketAddrAny, [IoSlice<'_>; 1])> = Vec::with_capacity(self.ready.len());
        for (ready, end) in self.ready.iter().zip(ends) {
            let Some(answer) = self.out.get(ready.from..end) else { continue };
            match !ready.told || recorded.next().unwrap_or(false) {
                true => answers.push((ready.peer.as_any(), [IoSlice::new(answer)])),
                false => withheld.push((reply::withheld(answer), ready.peer)),
            }
        }
        send_all(&self.socket, &answers);
        for (answer, peer) in withheld {
            drop(self.socket.try_send_to(&answer, peer));
        }
        self.ready.clear();
    }

    fn answer(&mut self, peer: SocketAddr, from: usize, event: Option<Event>) {
        self.ready.push(Ready { peer, from, told: event.is_some() });
        self.events.extend(event);
    }

    fn wait(&mut self, pending: Pending, peer: SocketAddr) {
        let (socket, context) = (Arc::clone(&self.socket), Arc::clone(&self.context));
        self.waiting.spawn(async move {
            let answer = context.finish(pending).await;
            drop(socket.send_to(&answer, peer).await);
        });
    }
}

/// Sends datagrams in as few calls as the kernel lets. One that can't be sent (a full buffer, a client that is gone)
/// is passed over: DNS over UDP answers once and is asked again.
fn send_all(socket: &UdpSocket, answers: &[(SocketAddrAny, [IoSlice<'_>; 1])]) {
    let mut controls: Vec<SendAncillaryBuffer<'_, '_, '_>> =
        answers.iter().map(|_| SendAncillaryBuffer::default()).collect();
    let mut messages: Vec<MMsgHdr<'_>> = answers
        .iter()
        .zip(&mut controls)
        .map(|((peer, answer), control)| MMsgHdr::new_with_addr(peer, answer, control))
        .collect();
    let mut rest = messages.as_mut_slice();
    while !rest.is_empty() {
        let sent = sendmmsg(socket, rest, SendFlags::DONTWAIT).unwrap_or(0);
        rest = rest.get_mut(sent.max(1)..).unwrap_or_default();
    }
}
