//! Looking processes up beside the workers.
//!
//! A look-up walks `/proc`, which can take milliseconds in a sandbox of thousands of processes. It has a
//! thread of its own with a bounded queue. A decision that needs the process waits for it, within a
//! bound; for an allowed flow the look-up is a courtesy: it is put off the path, limited in rate and in time, and
//! its result goes with the flow's end. One walk serves all that wait.

use std::{
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use audit_event::Process;
use tokio::sync::oneshot;

use super::{holder::Holders, socket_diagnosis};
use crate::flow::ProcessSlot;

/// How many look-ups may wait.
const QUEUE: usize = 256;
/// How long a decision waits for one.
const WAIT: Duration = Duration::from_secs(2);
/// How long a record waits for a courtesy.
const COURTESY_WAIT: Duration = Duration::from_millis(250);
/// How many courtesies a second.
const COURTESIES: u64 = 100;
/// After courtesies that took longer than this, as in a sandbox of thousands of descriptors, others have to wait,
const LONG: Duration = Duration::from_millis(2);
/// this many times as long: they get a tenth of a processor at most.
const RESTS: u32 = 9;

/// The way to the thread that looks up.
#[derive(Debug)]
pub(crate) struct Processes {
    queue: SyncSender<Order>,
    started: Instant,
    /// The second in the upper half, the courtesies of that second in the lower.
    courtesies: AtomicU64,
}

/// What is known of a process's socket.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asker {
    /// Both ends of its TCP connection.
    Stream {
        /// Its own.
        client: SocketAddr,
        /// The other, as it sees it.
        server: SocketAddr,
    },
    /// Where its datagram came from.
    Datagram(SocketAddr),
}

#[derive(Debug)]
struct Order {
    asker: Asker,
    answer: Answer,
}

#[derive(Debug)]
enum Answer {
    /// A decision waits.
    Decision { digest: bool, reply: oneshot::Sender<Option<Process>> },
    /// Nobody waits.
    Courtesy(ProcessSlot),
    /// A record waits for a moment.
    Record(oneshot::Sender<Option<Process>>),
}

impl Order {
    fn is_waited_for(&self) -> bool {
        matches!(self.answer, Answer::Decision { .. })
    }

    /// Nobody waits any more for a decision that was given up.
    fn is_wanted(&self) -> bool {
        match &self.answer {
            Answer::Decision { reply, .. } | Answer::Record(reply) => !reply.is_closed(),
            Answer::Courtesy(_) => true,
        }
    }
}

impl Processes {
    /// Starts the thread. It ends when the last user of this is gone.
    pub(crate) fn start(diagnosis: OwnedFd, init: u32) -> std::io::Result<Self> {
        let (queue, orders) = sync_channel(QUEUE);
        thread::Builder::new().name("processes".to_owned()).spawn(move || serve(&diagnosis, init, &orders))?;
        Ok(Self { queue, started: Instant::now(), courtesies: AtomicU64::new(0) })
    }

    /// The process behind a connection.
    pub(crate) async fn find(&self, client: SocketAddr, server: SocketAddr, digest: bool) -> Option<Process> {
        let (reply, answer) = oneshot::channel();
        self.order(Order { asker: Asker::Stream { client, server }, answer: Answer::Decision { digest, reply } });
        tokio::time::timeout(WAIT, answer).await.ok()?.ok()?
    }

    /// The same, put into the slot when it is found.
    pub(crate) fn find_later(&self, client: SocketAddr, server: SocketAddr, slot: ProcessSlot) {
        if self.may_ask() {
            self.order(Order { asker: Asker::Stream { client, server }, answer: Answer::Courtesy(slot) });
        }
    }

    /// The process for a record that can do without, where it is found in a moment.
    pub(crate) async fn find_soon(&self, asker: Asker) -> Option<Process> {
        if !self.may_ask() {
            return None;
        }
        let (reply, answer) = oneshot::channel();
        self.order(Order { asker, answer: Answer::Record(reply) });
        tokio::time::timeout(COURTESY_WAIT, answer).await.ok()?.ok()?
    }

    /// Whether this second has a courtesy left. Counted here, so that a flood does not even wake the thread.
    fn may_ask(&self) -> bool {
        let second = self.started.elapsed().as_secs() << 32;
        let before = self.courtesies.load(Ordering::Relaxed);
        let next = if before >= second { before + 1 } else { second };
        let may = next - second < COURTESIES;
        if may {
            self.courtesies.store(next, Ordering::Relaxed);
        }
        may
    }

    fn order(&self, order: Order) {
        match self.queue.try_send(order) {
            // Dropping an order answers it with nothing.
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }
}

fn serve(diagnosis: &OwnedFd, init: u32, orders: &Receiver<Order>) {
    let mut holders = Holders::new(init);
    let mut sequence = 0u32;
    let mut courtesies = Vec::new();
    let mut rest = Instant::now();
    loop {
        let mut waiting = Vec::new();
        match next(orders, (!courtesies.is_empty()).then_some(rest)) {
            Ok(order) => waiting.extend(order),
            Err(Closed) => return,
        }
        waiting.extend(orders.try_iter().take(QUEUE));
        let (decisions, others): (Vec<_>, Vec<_>) = waiting.into_iter().partition(Order::is_waited_for);
        courtesies.extend(others);
        courtesies.truncate(QUEUE);
        let mut inode = |order: &Order| {
            sequence = sequence.wrapping_add(1);
            let found = match order.asker {
                Asker::Stream { client, server } => socket_diagnosis::inode(diagnosis, client, server, sequence),
                Asker::Datagram(client) => socket_diagnosis::datagram_inode(diagnosis, client, sequence),
            };
            found.ok().flatten()
        };
        answer(decisions, &mut inode, &mut holders);
        let started = Instant::now();
        if !courtesies.is_empty() && started >= rest {
            answer(std::mem::take(&mut courtesies), &mut inode, &mut holders);
            let took = started.elapsed();
            if took > LONG {
                rest = Instant::now() + took * RESTS;
            }
        }
    }
}

/// Everybody who could order is gone.
struct Closed;

/// The next order; `None` when the time came first.
fn next(orders: &Receiver<Order>, until: Option<Instant>) -> Result<Option<Order>, Closed> {
    let Some(until) = until else { return orders.recv().map(Some).map_err(|_| Closed) };
    match orders.recv_timeout(until.saturating_duration_since(Instant::now())) {
        Ok(order) => Ok(Some(order)),
        Err(RecvTimeoutError::Timeout) => Ok(None),
        Err(RecvTimeoutError::Disconnected) => Err(Closed),
    }
}

/// Answers these with one walk for all of them.
fn answer(orders: Vec<Order>, inode: &mut impl FnMut(&Order) -> Option<u64>, holders: &mut Holders) {
    let orders: Vec<(Option<u64>, Order)> =
        orders.into_iter().filter(Order::is_wanted).map(|order| (inode(&order), order)).collect();
    let found = holders.find(orders.iter().filter_map(|(inode, _)| *inode).collect());
    for (inode, order) in orders {
        let pid = inode.and_then(|inode| found.get(&inode).copied());
        match order.answer {
            Answer::Decision { digest, reply } => {
                let _ = reply.send(pid.and_then(|pid| holders.describe(pid, digest)));
            }
            Answer::Record(reply) => {
                let _ = reply.send(pid.and_then(|pid| holders.describe(pid, false)));
            }
            Answer::Courtesy(slot) => {
                if let Some(process) = pid.and_then(|pid| holders.describe(pid, false)) {
                    // Only this order holds the right to fill it.
                    let _ = slot.set(process);
                }
            }
        }
    }
}
