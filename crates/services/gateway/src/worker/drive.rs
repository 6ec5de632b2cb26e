//! A worker's turns: the pump moves bytes, and what it found is answered and recorded.

use std::{
    rc::Rc,
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use audit_event::{EndedBy, Transfer};
use tokio::time::MissedTickBehavior;

use super::{Worker, busy_poll::BusyPoll, watch};
use crate::{
    flow::OpenFlow,
    inspect::Inspector,
    late,
    pump::{By, Ended, Turn},
    record::{self, End},
};

/// How often the bounds on time are looked after: idle, half-open, first bytes, total.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How long the end of a connection may wait to be recorded while a worker has no rest.
const ENDS_WAIT: Duration = Duration::from_millis(5);

impl Worker {
    /// Turns the pump whenever there is something to move.
    pub(super) async fn drive(self: Rc<Self>) {
        let epoll = match self.pump.borrow().epoll().try_clone_to_owned().and_then(watch) {
            Ok(epoll) => epoll,
            Err(error) => {
                tracing::error!(%error, "the pump can't be waited for");
                return;
            }
        };
        let mut tick = tokio::time::interval(SWEEP_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut swept = Instant::now();
        let mut poll = BusyPoll::new(swept);
        let mut moved = 0;
        loop {
            let asleep = Instant::now();
            tokio::select! {
                ready = epoll.readable() => match ready {
                    // Cleared before the turn: what comes during it makes it readable again.
                    Ok(mut ready) => ready.clear_ready(),
                    Err(error) => {
                        tracing::error!(%error, "the pump can't be waited for");
                        return;
                    }
                },
                () = self.wake.notified() => {}
                _ = tick.tick() => {}
            }
            let mut now = Instant::now();
            poll.woken(asleep, now);
            loop {
                // Here, not with the tick: steady traffic keeps this loop from its end.
                if now.duration_since(swept) >= SWEEP_EVERY {
                    self.pump.borrow_mut().sweep();
                    self.inspected.sweep(self.shared.inspector.as_ref().map(Inspector::rooms));
                    swept = now;
                }
                let turn = self.turn_once();
                self.answer();
                let arrived = self.arrived.replace(false);
                now = Instant::now();
                match turn {
                    // Others of this thread have theirs in between.
                    Turn::More => {}
                    Turn::Done | Turn::Idle if poll.looks_again(arrived || turn == Turn::Done, now) => {
                        // Not between two steps of a request: its next is a turn of this thread's away.
                        let before = std::mem::replace(&mut moved, self.moves.load(Ordering::Relaxed));
                        if before == moved || turn == Turn::Done {
                            thread::yield_now();
                        }
                    }
                    Turn::Done | Turn::Idle | Turn::Bulk => break,
                }
                if self.ends_wait.get().is_some_and(|since| now.duration_since(since) >= ENDS_WAIT) {
                    self.record_ends_beside();
                }
                tokio::task::yield_now().await;
            }
            self.record_ends_beside();
        }
    }

    /// Writes the ends that no decision has taken along, beside the pump: where lines must be on the disk, it would
    /// stand still meanwhile.
    fn record_ends_beside(self: &Rc<Self>) {
        if self.ends_wait.take().is_some() {
            let worker = Rc::clone(self);
            tokio::task::spawn_local(async move { worker.record_ends().await });
        }
    }

    /// A connection was taken: more is about to come.
    pub(crate) fn note_arrival(&self) {
        self.arrived.set(true);
        self.wake.notify_one();
    }

    /// Moves what can be moved.
    pub(crate) fn turn_once(&self) -> Turn {
        self.pump.borrow_mut().turn()
    }

    /// Sees to it that the pump has a turn soon, where it was touched outside its own and has something left to do.
    pub(crate) fn wake_if_due(&self) {
        if self.pump.borrow().is_due() {
            self.wake.notify_one();
        }
    }

    /// Deals with what the pump found: questions and ends.
    fn answer(self: &Rc<Self>) {
        loop {
            let (asked, ended) = {
                let mut pump = self.pump.borrow_mut();
                (pump.take_asked(), pump.take_ended())
            };
            if asked.is_empty() && ended.is_empty() {
                return;
            }
            for (key, asked) in asked {
                late::take_up(self, key, asked);
            }
            for ended in ended {
                self.note_end(ended);
            }
        }
    }

    /// Writes the ends that no decision has taken along.
    pub(super) async fn record_ends(&self) {
        if let Err(error) = self.shared.audit.record_waiting().await {
            tracing::error!(%error, "the end of a flow could not be recorded");
            self.shared.tally.error();
        }
    }

    /// Closes what ended, and leaves its event for the next write.
    fn note_end(&self, ended: Ended<Box<OpenFlow>>) {
        self.stop_waiting(ended.key);
        let Ended { left, by, error, .. } = ended;
        self.shared.tally.moved(left.sent, left.received);
        if !left.flow.records_end {
            return;
        }
        let end = End {
            by: match by {
                By::Client => EndedBy::Client,
                By::Server => EndedBy::Server,
                By::Finished => EndedBy::Finished,
                By::Bound => EndedBy::Bound,
            },
            cut: None,
            bytes: Transfer { sent: left.sent, received: left.received },
            error: error.map(|error| error.to_string()),
        };
        // Nothing waits for it: the next decision's write takes it along, or the clock.
        self.shared.audit.record_later(record::ended(&left.flow, end));
        if self.ends_wait.get().is_none() {
            self.ends_wait.set(Some(Instant::now()));
        }
    }
}
