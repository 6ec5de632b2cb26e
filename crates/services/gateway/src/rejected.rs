//! Attempts that end at the sandbox's own rules: UDP to ports that no rule opened, ICMP, the gateway's own ports.
//!
//! The kernel rejects them by itself and tells of it; nothing of them leaves, whatever happens here. Each is judged for
//! its reason, and recorded as denied.
//!
//! Bounds: a destination is recorded once in [`AGAIN`], [`DESTINATIONS`] are remembered, [`BATCH`] packets are taken in a
//! [`TURN`]. What the kernel could not tell meanwhile it numbers: the summary counts it.

/// What the kernel says.
mod packet;

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io,
    net::IpAddr,
    os::fd::OwnedFd,
    rc::Rc,
    time::{Duration, Instant},
};

use policy::{Fact, Protocol, Verdict};
use rustix::{
    io::Errno,
    net::{RecvFlags, recv},
};
use tokio::io::unix::AsyncFd;

use crate::{
    decide::{self, Limits},
    flow::{Counted, Ends, Flow},
    readings,
    record::{self, Said},
    worker::{Worker, watch},
};

use packet::{Attempt, Rejected};

/// How long a destination is not recorded again.
const AGAIN: Duration = Duration::from_secs(5);
/// How many destinations are remembered.
const DESTINATIONS: usize = 1024;
/// How many packets are taken at once, and how long one turn with so many takes: a flood costs no more.
const BATCH: usize = 64;
const TURN: Duration = Duration::from_millis(100);
/// Turns at the end: more than a full socket holds, and not for ever where the workload still runs.
const LAST_TURNS: usize = 16;
/// What is counted without a record.
const UNTOLD: &str = "more that the sandbox itself rejected";
/// Why, where the policy would have said yes: by a rule that came too late for a socket, or by watching only.
const REJECTED: &str = "the sandbox's own rules reject it: no socket was opened for it at the start";

/// Why, where the sandbox's own loopback is not open.
const OWN_PORT: &str = "it is the gateway's own port, to which only the sandbox's redirection leads";

/// Where a packet was going. Its source makes no difference.
type Destination = (Protocol, IpAddr, u16);

/// Hears of what the sandbox's own rules reject.
#[derive(Debug)]
pub(crate) struct Rejections {
    socket: AsyncFd<OwnedFd>,
    /// When each destination may be recorded again.
    recorded: RefCell<HashMap<Destination, Instant>>,
    /// The number that the next packet has.
    next: Cell<u32>,
}

impl Rejections {
    /// Takes a socket that was handed in.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self { socket: watch(socket)?, recorded: RefCell::default(), next: Cell::new(0) })
    }

    /// What is there, as far as one turn goes.
    fn take(&self) -> Vec<Rejected> {
        let mut buffer = [0; 8 << 10];
        let mut taken = Vec::new();
        while taken.len() < BATCH {
            match recv(self.socket.get_ref(), &mut buffer, RecvFlags::DONTWAIT) {
                Ok((filled, _)) => taken.extend(packet::read(buffer.get(..filled).unwrap_or_default())),
                // More came than fitted: the numbers tell how many.
                Err(Errno::INTR | Errno::NOBUFS) => {}
                Err(_) => break,
            }
        }
        taken
    }

    /// How many there were between the one before and this one that the kernel could not tell of.
    fn missed(&self, sequence: Option<u32>) -> u32 {
        let Some(sequence) = sequence else { return 0 };
        let missed = sequence.wrapping_sub(self.next.get());
        if missed > u32::MAX / 2 {
            // One that comes after a later one was counted then.
            return 0;
        }
        self.next.set(sequence.wrapping_add(1));
        missed
    }

    /// Whether this one is recorded.
    fn is_due(&self, attempt: &Attempt) -> bool {
        let mut recorded = self.recorded.borrow_mut();
        let now = Instant::now();
        if recorded.len() >= DESTINATIONS {
            recorded.retain(|_, until| *until > now);
        }
        let destination = (attempt.protocol, attempt.destination.ip(), attempt.destination.port());
        if recorded.get(&destination).is_some_and(|until| *until > now) || recorded.len() >= DESTINATIONS {
            return false;
        }
        recorded.insert(destination, now + AGAIN);
        true
    }
}

/// Records what is rejected, until it is dropped.
pub(crate) async fn serve(worker: Rc<Worker>) {
    let Some(rejections) = &worker.rejections else { return };
    loop {
        let Ok(mut ready) = rejections.socket.readable().await else { return };
        let taken = rejections.take();
        if taken.len() < BATCH {
            ready.clear_ready();
        }
        let is_flood = taken.len() >= BATCH;
        tell(&worker, rejections, taken).await;
        if is_flood {
            tokio::time::sleep(TURN).await;
        }
    }
}

/// Records what is still there when the workload is gone.
pub(crate) async fn finish(worker: &Worker) {
    let Some(rejections) = &worker.rejections else { return };
    for _ in 0..LAST_TURNS {
        let taken = rejections.take();
        if taken.is_empty() {
            return;
        }
        tell(worker, rejections, taken).await;
    }
}

async fn tell(worker: &Worker, rejections: &Rejections, taken: Vec<Rejected>) {
    for Rejected { sequence, attempt } in taken {
        let missed = u64::from(rejections.missed(sequence)) + u64::from(attempt.is_none());
        if missed > 0 {
            worker.shared.tally.denied_untold(missed, UNTOLD, "mode-default");
        }
        if let Some(attempt) = attempt.filter(|attempt| rejections.is_due(attempt)) {
            deny(worker, attempt).await;
        }
    }
}

/// Judges an attempt, for its reason, and records it as denied.
async fn deny(worker: &Worker, attempt: Attempt) {
    let shared = &worker.shared;
    let count = Counted::new(shared.tally.clone(), Rc::clone(&worker.live));
    let Attempt { protocol, source, destination } = attempt;
    let ends = Ends { client: source, server: destination };
    let mut flow = Flow::new(shared.flow_number(), ends, destination.port(), Some(destination), count);
    flow.facts.protocol = protocol;
    flow.facts.tls = Fact::Absent;
    flow.request = Fact::Absent;
    let readings = readings::by_answer(shared, destination);
    let Some(judged) = decide::judge(shared, &mut flow, &readings, Limits::default()).await else { return };
    let mut decision = judged.decision;
    let mut said = Said::default();
    if destination.ip().is_loopback() {
        said.reason = Some(OWN_PORT.to_owned());
    }
    if decision.verdict != Verdict::Denied {
        said = Said { verdict: Some("denied"), reason: Some(REJECTED.to_owned()), error: None };
        decision.permit = None;
        decision.route = None;
    }
    let revision = judged.in_force.policy.revision();
    if let Err(error) = record::decided(shared, &flow, &decision, revision, said).await {
        tracing::error!(%error, "an attempt that the sandbox rejected could not be recorded");
        shared.tally.error();
    }
}
