//! UDP to the ports that rules open (spec/egress.md, 8).
//!
//! ```text
//! sandbox ── any address, an opened port ──> the port's socket ── (client, destination) ──> flow ──> a socket of its own
//!        <── from the address it was sent to ──────────────────────────────────────────────────────── upstream
//! ```
//! Every address is local in the sandbox's namespace, so a socket on a port takes in what was sent to any address at
//! that port; `IP_PKTINFO` (ip(7)) says which, and lets the answer come from there. The first datagram of a pair waits
//! for the decision and its record; one that is denied is dropped, and the pair not judged again for a moment, so that
//! a flood of it costs no records. A port's socket belongs to one worker, so a flow has one owner.
//!
//! Bounds: [`FLOW_LIMIT`] flows of a worker, [`WAITING_LIMIT`] datagrams that wait for a decision, the idle time of
//! the settings.

/// A flow that was let through.
mod open;

use std::{
    cell::RefCell,
    collections::{HashMap, hash_map::Entry as Place},
    io::{self, IoSliceMut},
    net::SocketAddr,
    os::fd::OwnedFd,
    rc::Rc,
    time::{Duration, Instant},
};

use audit_event::{EndedBy, Event};
use policy::{Fact, Protocol};
use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use tokio::{
    io::{Interest, Ready},
    net::UdpSocket,
};

use open::OpenDatagrams;

use crate::{
    decide::{self, Limits},
    establish,
    flow::{Counted, Ends, Flow},
    in_force::InForce,
    readings,
    rejudge::{self, Look, Share},
    worker::Worker,
};

/// The most flows of one worker.
const FLOW_LIMIT: usize = 4096;
/// How many datagrams of a flow wait for its decision; more are dropped, as a full queue of the network would.
const WAITING_LIMIT: usize = 8;
/// How long a denied pair is not judged again.
const DENIED: Duration = Duration::from_secs(5);
/// The largest datagram, and the most that the kernel hands over at once.
const DATAGRAM_LIMIT: usize = 64 * 1024;
/// How many datagrams are taken before others have their turn.
const BATCH: usize = 64;

/// Who speaks with whom, as the sandbox sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Pair {
    client: SocketAddr,
    server: SocketAddr,
}

#[derive(Debug)]
enum State {
    /// The first datagrams wait.
    Deciding(Vec<Vec<u8>>),
    Open(Rc<OpenDatagrams>),
    Denied(Instant),
}

/// The UDP flows of one worker.
#[derive(Debug)]
pub(crate) struct Datagrams {
    flows: RefCell<HashMap<Pair, State>>,
    /// For one datagram on its way: a buffer for each flow would be 64 KiB of idle memory.
    buffer: RefCell<Vec<u8>>,
}

impl Default for Datagrams {
    fn default() -> Self {
        Self { flows: RefCell::default(), buffer: RefCell::new(vec![0; DATAGRAM_LIMIT]) }
    }
}

/// A port's socket in the sandbox's namespace.
#[derive(Debug)]
pub(crate) struct PortSocket {
    socket: UdpSocket,
    state: UdpSocketState,
    port: u16,
}

impl PortSocket {
    /// Takes a socket that was handed in.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        let socket = std::net::UdpSocket::from(socket);
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let port = socket.local_addr()?.port();
        Ok(Self { socket: UdpSocket::from_std(socket)?, state, port })
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<RecvMeta> {
        let mut meta = [RecvMeta::default()];
        self.socket.try_io(Interest::READABLE, || {
            self.state.recv(UdpSockRef::from(&self.socket), &mut [IoSliceMut::new(buffer)], &mut meta)
        })?;
        let [meta] = meta;
        Ok(meta)
    }

    /// Answers a client from the address that it wrote to. A full buffer drops it, as a network would.
    fn answer(&self, pair: Pair, contents: &[u8]) {
        let transmit = Transmit {
            destination: pair.client,
            ecn: None,
            contents,
            segment_size: None,
            src_ip: Some(pair.server.ip()),
        };
        let _ = self.state.try_send(UdpSockRef::from(&self.socket), &transmit);
    }
}

/// Serves a port until it is dropped.
pub(crate) async fn serve(worker: Rc<Worker>, port: PortSocket) {
    let port = Rc::new(port);
    let mut buffer = vec![0; DATAGRAM_LIMIT];
    loop {
        if port.socket.ready(Interest::READABLE).await.map(Ready::is_error).unwrap_or(true) {
            return;
        }
        for _ in 0..BATCH {
            match port.receive(&mut buffer) {
                Ok(meta) => take(&worker, &port, &meta, buffer.get(..meta.len).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // What an earlier answer met: nothing of this socket.
                Err(_) => {}
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Takes what the kernel handed over at once: datagrams of one pair.
fn take(worker: &Rc<Worker>, port: &Rc<PortSocket>, meta: &RecvMeta, bytes: &[u8]) {
    let Some(to) = meta.dst_ip else { return };
    let server = SocketAddr::new(policy::address::canonical(to), port.port);
    let pair = Pair { client: meta.addr, server };
    if bytes.is_empty() {
        take_one(worker, port, pair, bytes);
    }
    for datagram in bytes.chunks(meta.stride.max(1)) {
        take_one(worker, port, pair, datagram);
    }
}

fn take_one(worker: &Rc<Worker>, port: &Rc<PortSocket>, pair: Pair, datagram: &[u8]) {
    let mut flows = worker.datagrams.flows.borrow_mut();
    if flows.len() >= FLOW_LIMIT {
        // A denial is only remembered to save records: it must not take the place of a flow that may be allowed.
        flows.retain(|_, state| !matches!(state, State::Denied(_)));
    }
    let count = flows.len();
    match flows.entry(pair) {
        Place::Occupied(mut place) => match place.get_mut() {
            State::Open(open) => open.send(datagram),
            State::Deciding(waiting) if waiting.len() < WAITING_LIMIT => waiting.push(datagram.to_vec()),
            State::Deciding(_) => {}
            State::Denied(until) if *until > Instant::now() => {}
            State::Denied(_) => {
                place.insert(State::Deciding(vec![datagram.to_vec()]));
                decide_later(worker, port, pair);
            }
        },
        Place::Vacant(place) if count < FLOW_LIMIT => {
            place.insert(State::Deciding(vec![datagram.to_vec()]));
            decide_later(worker, port, pair);
        }
        Place::Vacant(_) => worker.shared.tally.error(),
    }
}

fn decide_later(worker: &Rc<Worker>, port: &Rc<PortSocket>, pair: Pair) {
    let (worker, port) = (Rc::clone(worker), Rc::clone(port));
    tokio::task::spawn_local(async move {
        let Some(open) = open(&worker, pair).await else { return worker.datagrams.deny(pair) };
        let Some(waiting) = worker.datagrams.admit(pair, &open) else {
            return worker.record_end(open.end(&worker, EndedBy::Shutdown, None, None)).await;
        };
        for datagram in waiting {
            open.send(&datagram);
        }
        let idle = worker.shared.settings.datagram_idle_timeout;
        let end = open.relay(idle, &worker.datagrams.buffer, |answer| port.answer(pair, answer)).await;
        if let Some((by, error)) = end {
            worker.datagrams.remove(pair);
            worker.record_end(open.end(&worker, by, None, error)).await;
        }
    });
}

/// Decides about a pair; `None` where nothing goes on, which is recorded.
async fn open(worker: &Worker, pair: Pair) -> Option<Rc<OpenDatagrams>> {
    let shared = &worker.shared;
    let count = Counted::new(shared.tally.clone(), Rc::clone(&worker.live));
    if count.total() > shared.settings.max_connections as u64 {
        shared.tally.error();
        return None;
    }
    let ends = Ends { client: pair.client, server: pair.server };
    let mut flow = Flow::new(shared.flow_number(), ends, pair.server.port(), Some(pair.server), count);
    flow.facts.protocol = Protocol::Udp;
    flow.facts.tls = Fact::Absent;
    flow.request = Fact::Absent;
    let readings = readings::by_answer(shared, pair.server);
    let judged = decide::judge(shared, &mut flow, &readings, Limits::default()).await?;
    let established = establish::establish_datagrams(shared, flow, &readings, judged).await.ok()?;
    OpenDatagrams::new(worker, established)
}

impl Datagrams {
    fn deny(&self, pair: Pair) {
        self.flows.borrow_mut().insert(pair, State::Denied(Instant::now() + DENIED));
    }

    /// Opens a pair; what waited for it. `None` where the gateway stopped meanwhile.
    fn admit(&self, pair: Pair, open: &Rc<OpenDatagrams>) -> Option<Vec<Vec<u8>>> {
        let mut flows = self.flows.borrow_mut();
        match flows.get_mut(&pair) {
            Some(state @ State::Deciding(_)) => match std::mem::replace(state, State::Open(Rc::clone(open))) {
                State::Deciding(waiting) => Some(waiting),
                State::Open(_) | State::Denied(_) => None,
            },
            Some(State::Open(_) | State::Denied(_)) | None => None,
        }
    }

    fn remove(&self, pair: Pair) {
        self.flows.borrow_mut().remove(&pair);
    }

    fn open(&self) -> Vec<(Pair, Rc<OpenDatagrams>)> {
        let flows = self.flows.borrow();
        let open = flows.iter().filter_map(|(pair, state)| match state {
            State::Open(open) => Some((*pair, Rc::clone(open))),
            State::Deciding(_) | State::Denied(_) => None,
        });
        open.collect()
    }

    /// A new policy: what it denies ends, and is counted. The events go to `events`.
    pub(crate) fn go_over(&self, worker: &Worker, in_force: &InForce, share: &mut Share, events: &mut Vec<Event>) {
        // A pair that was denied may be allowed now.
        self.flows.borrow_mut().retain(|_, state| !matches!(state, State::Denied(_)));
        for (pair, open) in self.open() {
            share.rejudged += 1;
            let decision = match rejudge::look_at(&mut open.flow.borrow_mut(), in_force) {
                Look::GoesOn => continue,
                Look::Cut(decision) => decision,
                Look::NeedsProcess => rejudge::undecided(),
            };
            self.remove(pair);
            share.cut += 1;
            let cut = (in_force.policy.revision(), decision.rule);
            events.extend(open.end(worker, EndedBy::Policy, Some(cut), None));
        }
    }

    /// The gateway stops.
    pub(crate) fn end_all(&self, worker: &Worker) -> Vec<Event> {
        let open = self.open();
        self.flows.borrow_mut().clear();
        open.into_iter().filter_map(|(_, open)| open.end(worker, EndedBy::Shutdown, None, None)).collect()
    }
}
