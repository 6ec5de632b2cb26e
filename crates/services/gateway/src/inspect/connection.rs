//! One client's connection whose TLS is opened.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::Instant,
};

use audit_event::{EndedBy, Event, Process};
use certificates::Protocols;
use policy::{Fact, HostName, Target, TlsFacts};
use tokio::{sync::Notify, task::JoinHandle};
use wire::http_head::RequestHead;

use super::{
    lines::{Line, Lines},
    link::Link,
    rejections::Rejections,
};
use crate::{
    flow::{Counted, Ends, Flow, OpenFlow, Seen, cut_query},
    readings::Readings,
    record::{self, End},
    worker::Worker,
};

/// Runs the library's tasks on the worker's own thread.
#[derive(Debug, Clone, Copy)]
pub(super) struct LocalTasks;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for LocalTasks {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

/// How many requests a client may take back at once before their answers, and how many more each second
/// (CVE-2023-44487): each was judged, recorded and perhaps sent on.
const TAKEN_BACK: f64 = 128.0;
const TAKEN_BACK_PER_SECOND: f64 = 16.0;

/// The requests that a client took back.
#[derive(Debug, Default)]
struct TakenBack {
    /// So many, less what time made good.
    count: f64,
    last: Option<Instant>,
    enough: Rc<Notify>,
}

impl TakenBack {
    fn note(&mut self, now: Instant) {
        let passed = self.last.map_or(0.0, |last| now.saturating_duration_since(last).as_secs_f64());
        self.last = Some(now);
        self.count = (self.count - passed * TAKEN_BACK_PER_SECOND).max(0.0) + 1.0;
        if self.count > TAKEN_BACK {
            self.enough.notify_one();
        }
    }
}

/// One client's connection.
pub(super) struct Connection {
    pub(super) worker: Rc<Worker>,
    pub(super) link: Arc<Link>,
    pub(super) readings: Readings,
    /// The name that the client's TLS is for: every request must be.
    pub(super) host: HostName,
    /// What is offered to servers.
    pub(super) protocols: Protocols,
    pub(super) lines: Lines,
    /// A WebSocket's frames on their way.
    pub(super) tunnel: RefCell<Option<JoinHandle<()>>>,
    /// The first request that was sent on: the connection's end is recorded as its.
    first: RefCell<Option<Rc<RefCell<Box<OpenFlow>>>>>,
    process: RefCell<Option<Process>>,
    asked: Cell<bool>,
    cut: Cell<bool>,
    fault: Cell<Option<&'static str>>,
    taken_back: RefCell<TakenBack>,
    /// Told when it holds memory for nothing that others need.
    pub(super) gives_way: Notify,
    /// What came that is no HTTP/2.
    pub(super) rejections: Rejections,
    is_http1: bool,
    id: u64,
    ends: Ends,
    pub(super) port: u16,
    original: Option<SocketAddr>,
    tls: Fact<TlsFacts>,
    seen: Seen,
    #[expect(dead_code, reason = "counts while it is held")]
    count: Counted,
}

impl Connection {
    pub(super) fn new(
        worker: &Rc<Worker>,
        flow: Flow,
        readings: Readings,
        host: HostName,
        is_http1: bool,
        link: Arc<Link>,
    ) -> Self {
        Self {
            worker: Rc::clone(worker),
            lines: Lines::new(flow.id, &link),
            link,
            readings,
            host,
            protocols: if is_http1 { Protocols::Http1 } else { Protocols::Either },
            tunnel: RefCell::default(),
            first: RefCell::default(),
            process: RefCell::new(flow.process),
            asked: Cell::new(false),
            cut: Cell::new(false),
            fault: Cell::default(),
            taken_back: RefCell::default(),
            gives_way: Notify::new(),
            rejections: Rejections::default(),
            is_http1,
            id: flow.id,
            ends: Ends { client: flow.client, server: flow.server },
            port: flow.facts.port,
            original: flow.facts.original,
            tls: flow.facts.tls,
            seen: flow.seen,
            count: flow.count,
        }
    }

    /// A flow of this connection, before its request is known.
    pub(super) fn flow(&self) -> Flow {
        let count = Counted::new(self.worker.shared.tally.clone(), Rc::clone(&self.worker.live));
        let mut flow = Flow::new(self.id, self.ends, self.port, self.original, count);
        flow.facts.tls = self.tls.clone();
        flow.together = Some(Rc::clone(&self.worker.inspected.together));
        if let Some(reading) = self.readings.first() {
            flow.facts.name = reading.name.clone();
            flow.facts.address = reading.address;
        }
        flow.seen = self.seen.clone();
        flow.seen.inspected = true;
        flow.request = Fact::Absent;
        let found = self.first.borrow().as_ref().and_then(|open| open.borrow().process.get().cloned());
        flow.process = found.or_else(|| self.process.borrow().clone());
        flow
    }

    /// Takes a request's head into its flow.
    pub(super) fn see(&self, flow: &mut Flow, head: &RequestHead) {
        flow.request = Fact::Known(head.facts());
        flow.judged_by_request = true;
        flow.seen.path = Some(cut_query(&head.origin_target()).to_owned());
        flow.seen.host = Some(head.authority.host.clone());
    }

    /// Whether a request is for what the client's TLS is for.
    pub(super) fn is_for(&self, head: &RequestHead) -> bool {
        head.authority.host == Target::Name(self.host.clone())
            && head.authority.port.is_none_or(|port| port == self.port)
    }

    /// A request's head came whole.
    pub(super) fn note_asked(&self) {
        self.asked.set(true);
    }

    /// Whether one ever did.
    pub(super) fn was_asked(&self) -> bool {
        self.asked.get()
    }

    /// A request was taken back by its client before its answer.
    pub(super) fn note_taken_back(&self) {
        self.taken_back.borrow_mut().note(Instant::now());
    }

    /// Waits until the client has taken back more requests than any does in earnest.
    pub(super) async fn is_flooded(&self) {
        let enough = Rc::clone(&self.taken_back.borrow().enough);
        enough.notified().await;
    }

    /// What was found of the process serves the next request.
    pub(super) fn keep_process(&self, flow: &Flow) {
        if flow.process.is_some() {
            self.process.borrow_mut().clone_from(&flow.process);
        }
    }

    /// A request is sent on: its answer is about to come.
    pub(super) fn note_sent(&self, open: &Rc<RefCell<Box<OpenFlow>>>) {
        self.worker.note_arrival();
        self.first.borrow_mut().get_or_insert_with(|| Rc::clone(open));
    }

    /// A new policy cut a response; the end is recorded with that.
    pub(super) fn cut_by_policy(&self) {
        if self.is_http1 {
            self.first.borrow_mut().take();
            let bytes = self.link.moved();
            self.worker.shared.tally.moved(bytes.sent, bytes.received);
        }
        self.cut_under_response();
    }

    /// A response can't be brought to its end. The next thing on HTTP/1.1 could be taken for a part of it.
    pub(super) fn cut_under_response(&self) {
        if self.is_http1 {
            self.cut.set(true);
            self.link.tear();
        }
    }

    /// An answer is through, and its server's connection free: the next request is about to come.
    pub(super) fn give_back(&self, line: Line) {
        self.worker.note_arrival();
        self.lines.give_back(&self.worker.inspected.pool, line);
    }

    /// What passes here has no one meaning, or is longer than it may be.
    pub(super) fn cut_for(&self, fault: &'static str) {
        self.fault.set(Some(fault));
        self.cut_under_response();
    }

    /// Why it was cut, where it was for a fault.
    pub(super) fn fault(&self) -> Option<String> {
        self.fault.get().map(str::to_owned)
    }

    /// What its client sent that never became a request, in words; none where there was nothing of the kind.
    pub(super) fn rejected(&self) -> Option<String> {
        let times = self.rejections.get();
        (times > 0).then(|| format!("rejected as malformed HTTP/2, times: {times}"))
    }

    /// Whether a response was cut.
    pub(super) fn was_cut(&self) -> bool {
        self.cut.get()
    }

    /// The event of its end; none where nothing was ever sent on.
    pub(super) fn end(&self, by: EndedBy, error: Option<String>) -> Option<Event> {
        let open = self.first.borrow_mut().take()?;
        let open = open.borrow();
        let bytes = self.link.moved();
        self.worker.shared.tally.moved(bytes.sent, bytes.received);
        open.records_end.then(|| record::ended(&open, End { by, cut: None, bytes, error }))
    }
}
