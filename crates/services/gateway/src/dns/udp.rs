//! DNS over UDP.
//!
//! Datagrams are taken as they are there, up to a batch; what can be answered at once is recorded and answered, and
//! what upstream must be asked for goes on as a task of its own, so that a slow name holds up no other.

use std::{
    collections::HashMap,
    io::IoSlice,
    net::SocketAddr,
    os::fd::AsFd,
    sync::{Arc, Mutex, PoisonError},
};

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
    repeat::{Place, Repeats},
};
use crate::identify::Asker;

/// The largest datagram: none is cut, so that bytes behind a message are seen and refused.
const DATAGRAM_LIMIT: usize = 65_535;
/// How many datagrams are taken before the answers go out.
const BATCH: usize = 32;
/// The most questions that wait for upstream.
const WAITING_LIMIT: usize = 1024;

/// Serves until it is dropped. Of the workers that hold the same socket one serves, for each datagram would wake them
/// all; when it stops, the next takes its turn.
pub(crate) async fn serve_udp(socket: UdpSocket, context: Arc<DnsContext>) {
    // Out of this worker's poll until it is its turn.
    let Ok(socket) = socket.into_std() else { return };
    let turn = context.turns.of(&socket);
    let _mine = turn.lock().await;
    let socket = match UdpSocket::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(%error, "a DNS socket can't be served");
            return;
        }
    };
    let mut server = Server {
        socket: Arc::new(socket),
        context,
        waiting: JoinSet::new(),
        datagram: vec![0; DATAGRAM_LIMIT],
        out: Vec::with_capacity(BATCH * 512),
        ready: Vec::with_capacity(BATCH),
        events: Vec::with_capacity(BATCH),
        repeats: Repeats::default(),
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

/// Whose turn it is at each socket.
#[derive(Debug, Default)]
pub(super) struct Turns {
    by_socket: Mutex<HashMap<u64, Arc<tokio::sync::Mutex<()>>>>,
}

impl Turns {
    /// The turn at a socket: one for all its descriptors.
    fn of(&self, socket: &impl AsFd) -> Arc<tokio::sync::Mutex<()>> {
        match rustix::fs::fstat(socket) {
            Ok(stat) => {
                let mut turns = self.by_socket.lock().unwrap_or_else(PoisonError::into_inner);
                Arc::clone(turns.entry(stat.st_ino).or_default())
            }
            Err(_) => Arc::default(),
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
    /// Events of answers that are given once.
    events: Vec<Event>,
    /// Answers that are given again, with their events.
    repeats: Repeats,
}

/// An answer that waits for its record.
struct Ready {
    peer: SocketAddr,
    from: usize,
    tells: Tells,
}

/// Which event must be recorded before an answer leaves.
#[derive(Clone, Copy)]
enum Tells {
    /// None: what there is to tell is told.
    Nothing,
    /// This one of the events.
    Once(usize),
    /// The one that is kept with the answer.
    Again(Place),
}

impl Server {
    async fn batch(&mut self) {
        self.out.clear();
        self.context.begin(&mut self.repeats);
        for _ in 0..BATCH {
            let Ok((length, peer)) = self.socket.try_recv_from(&mut self.datagram) else { break };
            let from = self.out.len();
            let message = self.datagram.get(..length).unwrap_or_default();
            match self.context.first(message, Transport::Udp, Some(&mut self.repeats), &mut self.out) {
                First::Nothing => {}
                First::Again(place) => self.ready.push(Ready { peer, from, tells: Tells::Again(place) }),
                First::Answer(Some(event))
                    if self.context.wants_process(&event) && self.waiting.len() < WAITING_LIMIT =>
                {
                    self.answer_with_process(peer, from, event);
                }
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
        let events = self.ready.iter().filter_map(|ready| match ready.tells {
            Tells::Nothing => None,
            Tells::Once(number) => self.events.get(number),
            Tells::Again(place) => self.repeats.event(place),
        });
        let recorded = self.context.record_all(events).await;
        self.events.clear();
        let mut recorded = recorded.into_iter();
        let ends = self.ready.iter().skip(1).map(|ready| ready.from).chain([self.out.len()]);
        let mut withheld = Vec::new();
        let mut answers: Vec<(SocketAddrAny, [IoSlice<'_>; 1])> = Vec::with_capacity(self.ready.len());
        for (ready, end) in self.ready.iter().zip(ends) {
            let Some(answer) = self.out.get(ready.from..end) else { continue };
            match matches!(ready.tells, Tells::Nothing) || recorded.next().unwrap_or(false) {
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
        let tells = if event.is_some() { Tells::Once(self.events.len()) } else { Tells::Nothing };
        self.ready.push(Ready { peer, from, tells });
        self.events.extend(event);
    }

    /// The same, when it is known who asked. Others need not wait for it.
    fn answer_with_process(&mut self, peer: SocketAddr, from: usize, event: Event) {
        let answer = self.out.split_off(from);
        let (socket, context) = (Arc::clone(&self.socket), Arc::clone(&self.context));
        self.waiting.spawn(async move {
            let event = context.with_process(event, Asker::Datagram(peer)).await;
            let answer = if context.record(Some(event)).await { answer } else { reply::withheld(&answer) };
            drop(socket.send_to(&answer, peer).await);
        });
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
