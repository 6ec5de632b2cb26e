//! Looking processes up beside the workers.
//!
//! A look-up walks `/proc`, which can take milliseconds in a sandbox of thousands of processes. It has a
//! thread of its own with a bounded queue. A decision that needs the process waits for it, within a
//! bound; for an allowed flow the look-up is a courtesy: it is put off the path, limited in rate, and
//! its result goes with the flow's end.

use std::{
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
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
/// How many courtesies a second.
const COURTESIES: u64 = 100;

/// The way to the thread that looks up.
#[derive(Debug)]
pub(crate) struct Processes {
    queue: SyncSender<Order>,
    started: Instant,
    /// The second in the upper half, the courtesies of that second in the lower.
    courtesies: AtomicU64,
}

#[derive(Debug)]
struct Order {
    client: SocketAddr,
    server: SocketAddr,
    answer: Answer,
}

#[derive(Debug)]
enum Answer {
    /// A decision waits.
    Decision { digest: bool, reply: oneshot::Sender<Option<Process>> },
    /// Nobody waits.
    Courtesy(ProcessSlot),
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
        self.order(Order { client, server, answer: Answer::Decision { digest, reply } });
        tokio::time::timeout(WAIT, answer).await.ok()?.ok()?
    }

    /// The same, put into the slot when it is found.
    pub(crate) fn find_later(&self, client: SocketAddr, server: SocketAddr, slot: ProcessSlot) {
        // Counted here, so that a flood of connections does not even wake the thread.
        let second = self.started.elapsed().as_secs() << 32;
        let before = self.courtesies.load(Ordering::Relaxed);
        let next = if before >= second { before + 1 } else { second };
        if next - second < COURTESIES {
            self.courtesies.store(next, Ordering::Relaxed);
            self.order(Order { client, server, answer: Answer::Courtesy(slot) });
        }
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
    while let Ok(order) = orders.recv() {
        sequence = sequence.wrapping_add(1);
        let digest = match &order.answer {
            Answer::Decision { digest, reply } if !reply.is_closed() => *digest,
            Answer::Decision { .. } => continue,
            Answer::Courtesy(_) => false,
        };
        let inode = socket_diagnosis::inode(diagnosis, order.client, order.server, sequence).ok().flatten();
        let found = inode.and_then(|inode| holders.find(inode)).and_then(|pid| holders.describe(pid, digest));
        match order.answer {
            Answer::Decision { reply, .. } => drop(reply.send(found)),
            Answer::Courtesy(slot) => {
                if let Some(process) = found {
                    // Only this order holds the right to fill it.
                    let _ = slot.set(process);
                }
            }
        }
    }
}
