//! Requests under way, and what a new policy makes of them.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::{Rc, Weak},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use audit_event::{EndedBy, Event};
use bytes::Bytes;
use policy::{Decision, Fact, Guard, Layer, ProcessFacts, Step};
use tokio::time::Instant;
use values::Revision;
use wire::exchange::Bounds;

use super::{connection::Connection, lines::Pool, link::Link, room::Rooms};
use crate::{
    budget::{Meter, Room},
    flow::OpenFlow,
    in_force::InForce,
    record::{self, End},
    refuse,
    rejudge::{self, Look, Share},
    together::Together,
    worker::Worker,
};

/// Why an answer ends that has more bytes than the rule's `maxResponse`.
pub(super) const ANSWER_TOO_LONG: &str = "the answer is longer than the rule's `maxResponse`";

/// The opened connections of one worker, and their requests.
#[derive(Default)]
pub(crate) struct Inspected {
    connections: RefCell<HashMap<u64, Rc<Connection>>>,
    requests: RefCell<HashMap<u64, Weak<UnderWay>>>,
    next: Cell<u64>,
    /// Connections to servers that are free.
    pub(super) pool: Pool,
    /// What is recorded of requests in one turn.
    pub(super) together: Rc<Together>,
}

impl Inspected {
    fn number(&self) -> u64 {
        self.next.set(self.next.get() + 1);
        self.next.get()
    }

    pub(super) fn add(&self, connection: &Rc<Connection>) -> u64 {
        let number = self.number();
        self.connections.borrow_mut().insert(number, Rc::clone(connection));
        number
    }

    pub(super) fn remove(&self, number: u64) {
        self.connections.borrow_mut().remove(&number);
    }

    /// Closes connections to servers that nobody has used for long, and those that hold what others need.
    pub(crate) fn sweep(&self, rooms: Option<&Rooms>) {
        self.pool.sweep();
        if let Some(rooms) = rooms {
            self.make_way(rooms);
        }
    }

    pub(super) fn each_connection(&self, with: impl FnMut(&Rc<Connection>)) {
        self.connections.borrow().values().for_each(with);
    }

    /// The ends of what is open still, when the worker stops.
    pub(crate) fn end_all(&self) -> Vec<Event> {
        let connections: Vec<_> = self.connections.borrow_mut().drain().map(|(_, connection)| connection).collect();
        connections.iter().filter_map(|connection| connection.end(EndedBy::Shutdown, None)).collect()
    }

    pub(super) fn under_way(&self) -> Vec<Rc<UnderWay>> {
        self.requests.borrow().values().filter_map(Weak::upgrade).collect()
    }
}

/// Which side waits to hear of a cut.
#[derive(Debug, Clone, Copy)]
pub(super) enum Side {
    /// The body of the request.
    Up,
    /// The body of the response.
    Down,
    /// Whoever waits for the response.
    Head,
}

/// A request that was sent on, until both its bodies are through.
pub(super) struct UnderWay {
    worker: Rc<Worker>,
    number: u64,
    /// What is kept of it.
    pub(super) open: Rc<RefCell<Box<OpenFlow>>>,
    link: Arc<Link>,
    /// Its memory.
    room: Arc<Room>,
    /// How far its client is behind what there is for it.
    pub(super) meter: RefCell<Meter>,
    /// When a piece of a body last went on.
    moved: Cell<Instant>,
    /// It became a WebSocket: only the connection knows what moves.
    pub(super) is_tunnel: Cell<bool>,
    /// What is left of the bounds on its bodies.
    left: Cell<Bounds>,
    /// Why a body was ended, where it was longer than its bound or named another method.
    ended: Cell<Option<&'static str>>,
    is_cut: Cell<bool>,
    cut: RefCell<Option<(Decision, Revision)>>,
    up: RefCell<Option<Waker>>,
    down: RefCell<Option<Waker>>,
    head: RefCell<Option<Waker>>,
}

impl UnderWay {
    /// Enters it among those that a new policy goes over.
    pub(super) fn enter(
        worker: &Rc<Worker>,
        open: Rc<RefCell<Box<OpenFlow>>>,
        link: Arc<Link>,
        room: Arc<Room>,
    ) -> Rc<Self> {
        link.serves();
        let number = worker.inspected.number();
        let left = Cell::new(open.borrow().bounds);
        let under_way = Rc::new(Self {
            worker: Rc::clone(worker),
            number,
            open,
            link,
            room,
            meter: RefCell::default(),
            moved: Cell::new(Instant::now()),
            is_tunnel: Cell::new(false),
            left,
            ended: Cell::default(),
            is_cut: Cell::new(false),
            cut: RefCell::default(),
            up: RefCell::default(),
            down: RefCell::default(),
            head: RefCell::default(),
        });
        worker.inspected.requests.borrow_mut().insert(number, Rc::downgrade(&under_way));
        under_way
    }

    /// Ready when it was cut.
    pub(super) fn poll_cut(&self, side: Side, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_cut.get() {
            return Poll::Ready(());
        }
        let place = match side {
            Side::Up => &self.up,
            Side::Down => &self.down,
            Side::Head => &self.head,
        };
        let mut place = place.borrow_mut();
        if !place.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *place = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    pub(super) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// How long nothing of its bodies went on.
    pub(super) fn silent(&self, now: Instant) -> Duration {
        let request = now.saturating_duration_since(self.moved.get());
        if self.is_tunnel.get() { request.min(self.link.silent(now)) } else { request }
    }

    /// A piece of a body goes on.
    pub(super) fn note_moved(&self, now: Instant) {
        self.moved.set(now);
    }

    /// The same bytes, for which there is room until they are let go of: the library of HTTP/2 holds them behind the end
    /// of the body that they are of.
    pub(super) fn roomed(&self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Roomed { bytes, _room: Arc::clone(&self.room) })
    }

    /// Takes so many bytes of a body; `false` where they are more than it may have, which is recorded.
    pub(super) fn take(&self, side: Side, count: usize) -> bool {
        let mut left = self.left.get();
        let (place, words) = match side {
            Side::Up => (&mut left.body, refuse::TOO_LONG),
            Side::Down | Side::Head => (&mut left.response, ANSWER_TOO_LONG),
        };
        let Some(bound) = place else { return true };
        match bound.checked_sub(count as u64) {
            Some(rest) => {
                *bound = rest;
                self.left.set(left);
                true
            }
            None => {
                self.end_body(words);
                false
            }
        }
    }

    /// A body goes no further, for this reason, which is recorded.
    pub(super) fn end_body(&self, reason: &'static str) {
        self.ended.set(Some(reason));
        let end = End { by: EndedBy::Bound, cut: None, bytes: self.link.moved(), error: Some(reason.to_owned()) };
        self.worker.record_later(record::ended(&self.open.borrow(), end));
    }

    /// How long the answer may be.
    pub(super) fn answer_bound(&self) -> Option<u64> {
        self.left.get().response
    }

    /// The denial of a request whose body was ended; none where it was not.
    pub(super) fn denied_body(&self) -> Option<(Decision, Revision)> {
        let open = self.open.borrow();
        self.ended.get().map(|reason| {
            let mut decision = Decision::by_guard(Guard::Malformed, Layer::Http, reason);
            decision.rule = open.rule.clone();
            (decision, open.revision)
        })
    }

    /// What cut it.
    pub(super) fn take_cut(&self) -> Option<(Decision, Revision)> {
        self.cut.borrow_mut().take()
    }

    /// Stops both its bodies.
    fn stop(&self, decision: Decision, revision: Revision) {
        *self.cut.borrow_mut() = Some((decision, revision));
        self.is_cut.set(true);
        for place in [&self.up, &self.down, &self.head] {
            if let Some(waker) = place.borrow_mut().take() {
                waker.wake();
            }
        }
    }

    /// What this policy says of it now.
    pub(super) fn look(&self, in_force: &InForce) -> Look {
        rejudge::look_at(&mut self.open.borrow_mut(), in_force)
    }

    async fn look_with_process(&self, worker: &Worker, in_force: &InForce) -> Option<Decision> {
        let ends = {
            let open = self.open.borrow();
            (open.client, open.server)
        };
        let found = match &worker.shared.processes {
            Some(processes) => processes.find(ends.0, ends.1, true).await,
            None => None,
        };
        let mut open = self.open.borrow_mut();
        open.facts.process = match &found {
            Some(process) => Fact::Known(ProcessFacts {
                pid: process.pid,
                executable: process.exe.clone(),
                digest: process.digest.clone(),
            }),
            None => Fact::Absent,
        };
        match rejudge::judge(&mut open, in_force) {
            Step::Decided(decision) if open.still_goes_on(&decision) => None,
            Step::Decided(decision) => Some(decision),
            Step::Needs(_) => Some(rejudge::undecided()),
        }
    }

    fn cut(&self, decision: Decision, in_force: &InForce) -> Event {
        let revision = in_force.policy.revision();
        let cut = Some((revision, decision.rule.clone()));
        let end = End { by: EndedBy::Policy, cut, bytes: self.link.moved(), error: None };
        let event = record::ended(&self.open.borrow(), end);
        self.stop(decision, revision);
        event
    }
}

/// A piece of a body, and its room.
struct Roomed {
    bytes: Bytes,
    _room: Arc<Room>,
}

impl AsRef<[u8]> for Roomed {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.link.served();
        self.worker.inspected.requests.borrow_mut().remove(&self.number);
    }
}

/// Goes over the requests under way and cuts those that the policy now denies.
pub(crate) async fn go_over(worker: &Rc<Worker>, in_force: &InForce, share: &mut Share, events: &mut Vec<Event>) {
    // What the new policy wants of a connection, such as its route, may not be what it has.
    worker.inspected.pool.clear();
    let mut late = Vec::new();
    for request in worker.inspected.under_way() {
        share.rejudged += 1;
        match request.look(in_force) {
            Look::GoesOn => {}
            Look::Cut(decision) => {
                events.push(request.cut(decision, in_force));
                share.cut += 1;
            }
            Look::NeedsProcess => late.push(request),
        }
    }
    for request in late {
        if let Some(decision) = request.look_with_process(worker, in_force).await {
            events.push(request.cut(decision, in_force));
            share.cut += 1;
        }
    }
}
