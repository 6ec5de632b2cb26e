//! A flow that was let through.

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use audit_event::{EndedBy, Event, Transfer};
use audit_log::Recorded;
use policy::Permit;
use rustix::net::SendFlags;
use tokio::{net::UdpSocket, sync::Notify, time::Instant};
use values::{Revision, RuleName};

use crate::{
    establish::Established,
    flow::OpenFlow,
    forward,
    record::{self, End},
    worker::Worker,
};

use super::BATCH;

/// A UDP flow and its socket upstream.
#[derive(Debug)]
pub(crate) struct OpenDatagrams {
    upstream: UdpSocket,
    pub(super) flow: RefCell<Box<OpenFlow>>,
    sent: Cell<u64>,
    received: Cell<u64>,
    active: Cell<Instant>,
    /// It ended: the relay stops.
    over: Cell<bool>,
    told: Notify,
}

impl OpenDatagrams {
    /// The one place where a UDP flow is opened. The permit and the record's proof are used up by it; `None` where
    /// another policy came into force meanwhile and denies it.
    pub(super) fn new(worker: &Worker, established: Established<UdpSocket>) -> Option<Rc<Self>> {
        let Established { permit, recorded, upstream, open, in_force } = established;
        let mut open = open;
        let current = worker.shared.in_force();
        let denied =
            if Arc::ptr_eq(&in_force, &current) { None } else { forward::no_longer_allowed(&mut open, &current) };
        let _used_up: (Permit, Recorded) = (permit, recorded);
        let datagrams = Self {
            upstream,
            flow: RefCell::new(open),
            sent: Cell::new(0),
            received: Cell::new(0),
            active: Cell::new(Instant::now()),
            over: Cell::new(false),
            told: Notify::new(),
        };
        match denied {
            None => Some(Rc::new(datagrams)),
            Some(decision) => {
                worker.shared.tally.cut(1);
                let cut = (current.policy.revision(), decision.rule);
                if let Some(event) = datagrams.end(worker, EndedBy::Policy, Some(cut), None) {
                    worker.record_later(event);
                }
                None
            }
        }
    }

    /// A datagram of the client. A full buffer drops it, as a network would; an error shows in [`Self::relay`].
    pub(super) fn send(&self, datagram: &[u8]) {
        if let Ok(count) = rustix::net::send(&self.upstream, datagram, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            self.sent.set(self.sent.get() + count as u64);
            self.active.set(Instant::now());
        }
    }

    /// Hands what the server says to `answer` until the flow ends; `None` where somebody else ended it.
    pub(super) async fn relay(
        &self,
        idle: Duration,
        buffer: &RefCell<Vec<u8>>,
        answer: impl Fn(&[u8]),
    ) -> Option<(EndedBy, Option<io::Error>)> {
        loop {
            let bound = self.active.get() + idle;
            tokio::select! {
                biased;
                () = self.told.notified() => {}
                ready = self.upstream.readable() => {
                    if let Err(error) = ready {
                        return Some((EndedBy::Server, Some(error)));
                    }
                }
                () = tokio::time::sleep_until(bound) => {
                    if self.active.get() + idle <= Instant::now() {
                        return Some((EndedBy::Bound, None));
                    }
                }
            }
            if self.over.get() {
                return None;
            }
            match self.receive(&mut buffer.borrow_mut(), &answer) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // ICMP said that there is nobody.
                Err(error) => return Some((EndedBy::Server, Some(error))),
            }
        }
    }

    fn receive(&self, buffer: &mut [u8], answer: &impl Fn(&[u8])) -> io::Result<()> {
        for _ in 0..BATCH {
            let count = self.upstream.try_recv(buffer)?;
            self.received.set(self.received.get() + count as u64);
            self.active.set(Instant::now());
            answer(buffer.get(..count).unwrap_or_default());
        }
        Ok(())
    }

    /// Ends it: nothing more is sent or told. The event of its end, where the rule wants one.
    pub(super) fn end(
        &self,
        worker: &Worker,
        by: EndedBy,
        cut: Option<(Revision, RuleName)>,
        error: Option<io::Error>,
    ) -> Option<Event> {
        self.over.set(true);
        self.told.notify_one();
        let bytes = Transfer { sent: self.sent.get(), received: self.received.get() };
        worker.shared.tally.moved(bytes.sent, bytes.received);
        let flow = self.flow.borrow();
        let end = End { by, cut, bytes, error: error.map(|error| error.to_string()) };
        flow.records_end.then(|| record::ended(&flow, end))
    }
}
