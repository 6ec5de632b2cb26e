//! One thread of a gateway: its listeners, its connections, and the pump that moves their bytes.

/// Whether to look for more or to sleep.
mod busy_poll;
/// The pump's turns.
mod drive;

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io,
    os::fd::OwnedFd,
    rc::Rc,
    sync::{Arc, atomic::AtomicU64, mpsc},
    time::Duration,
};

use audit_event::{EndedBy, Event, Transfer};
use jiff::Timestamp;
use tokio::{
    io::unix::AsyncFd,
    net::{TcpListener, UdpSocket},
    runtime::LocalOptions,
    sync::{Notify, mpsc as orders},
    task::{AbortHandle, JoinHandle},
    time::Instant,
};

use crate::{
    accept::{self, Listener},
    crowd::Crowd,
    datagrams::{self, Datagrams, PortSocket},
    dns::{self, DnsContext},
    flow::{Live, OpenFlow},
    inspect::Inspected,
    metadata,
    pump::{self, Bounds, Key, Pump},
    record::{self, End},
    rejected::{self, Rejections},
    rejudge::{self, Share},
    shared::Shared,
};

/// How many connections are gone over at once when the gateway stops.
const STOP_SLICE: usize = 512;

/// What a worker is told.
#[derive(Debug)]
pub(crate) enum Order {
    /// A new policy is in force: go over the open connections.
    GoOver(mpsc::Sender<Share>),
    /// Take no more connections, wait so long for those that are open, and end.
    Stop(Duration),
}

/// The sockets of one worker: duplicates of those handed in.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    /// Redirected TCP.
    pub(crate) transparent: Vec<OwnedFd>,
    /// The explicit proxy.
    pub(crate) proxy: Vec<OwnedFd>,
    /// DNS over UDP.
    pub(crate) dns_udp: Vec<OwnedFd>,
    /// DNS over TCP.
    pub(crate) dns_tcp: Vec<OwnedFd>,
    /// Opened UDP ports, each of this worker alone.
    pub(crate) datagrams: Vec<OwnedFd>,
    /// What the sandbox's own rules reject: one worker's alone.
    pub(crate) rejections: Option<OwnedFd>,
}

/// One thread of a gateway.
pub(crate) struct Worker {
    /// What all share.
    pub(crate) shared: Arc<Shared>,
    /// Its open connections.
    pub(crate) pump: RefCell<Pump<Box<OpenFlow>>>,
    /// Its UDP flows.
    pub(crate) datagrams: Datagrams,
    /// Its connections whose TLS is opened.
    pub(crate) inspected: Inspected,
    /// Its connections that are answered in place of a cloud's metadata service.
    pub(crate) metadata: metadata::Open,
    /// Hears of what the sandbox's own rules reject.
    pub(crate) rejections: Option<Rejections>,
    /// Told when the pump was touched from outside its own turn.
    wake: Notify,
    /// Its connections, decided or not.
    pub(crate) live: Rc<Live>,
    /// Judgements that open connections wait for.
    waiting: RefCell<HashMap<Key, AbortHandle>>,
    /// Since when ends wait to be recorded.
    ends_wait: Cell<Option<std::time::Instant>>,
    /// A connection was taken since the pump last had its turn.
    arrived: Cell<bool>,
    /// Counts what moves on connections whose TLS is opened.
    pub(crate) moves: Arc<AtomicU64>,
}

/// Runs a worker until it is told to stop. `ready` is told when it listens, or why it does not.
pub(crate) fn run(
    shared: Arc<Shared>,
    dns: Arc<DnsContext>,
    sockets: Sockets,
    crowd: Crowd,
    orders: orders::UnboundedReceiver<Order>,
    ready: &mpsc::Sender<io::Result<()>>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default())
    {
        Ok(runtime) => runtime,
        Err(error) => {
            // The starter waits for one answer of each worker.
            let _ = ready.send(Err(error));
            return;
        }
    };
    runtime.block_on(async {
        match Worker::start(shared, dns, sockets, crowd) {
            Ok((worker, listeners)) => {
                let _ = ready.send(Ok(()));
                worker.serve(listeners, orders).await;
            }
            Err(error) => {
                let _ = ready.send(Err(error));
            }
        }
    });
}

impl Worker {
    fn start(
        shared: Arc<Shared>,
        dns: Arc<DnsContext>,
        sockets: Sockets,
        crowd: Crowd,
    ) -> io::Result<(Rc<Self>, Vec<JoinHandle<()>>)> {
        let settings = &shared.settings;
        let bounds = Bounds {
            idle: settings.idle_timeout,
            half_open: settings.half_open_timeout,
            total: settings.total_timeout,
            first_bytes: settings.sniff_timeout,
        };
        let worker = Rc::new(Self {
            pump: RefCell::new(Pump::new(bounds)?),
            datagrams: Datagrams::default(),
            inspected: Inspected::default(),
            metadata: metadata::Open::default(),
            rejections: sockets.rejections.map(Rejections::new).transpose()?,
            wake: Notify::new(),
            live: Rc::new(Live::new(crowd)),
            waiting: RefCell::default(),
            ends_wait: Cell::new(None),
            arrived: Cell::new(false),
            moves: Arc::default(),
            shared,
        });
        let mut tasks = Vec::new();
        for socket in sockets.transparent {
            let listener = Listener::new(socket)?;
            tasks.push(tokio::task::spawn_local(accept::transparent(Rc::clone(&worker), listener)));
        }
        for socket in sockets.proxy {
            let listener = Listener::new(socket)?;
            tasks.push(tokio::task::spawn_local(accept::proxy(Rc::clone(&worker), listener)));
        }
        for socket in sockets.dns_udp {
            let socket = std::net::UdpSocket::from(socket);
            socket.set_nonblocking(true)?;
            tasks.push(tokio::task::spawn_local(dns::serve_udp(UdpSocket::from_std(socket)?, Arc::clone(&dns))));
        }
        for socket in sockets.dns_tcp {
            tasks.push(tokio::task::spawn_local(dns::serve_tcp(listener(socket)?, Arc::clone(&dns))));
        }
        for socket in sockets.datagrams {
            tasks.push(tokio::task::spawn_local(datagrams::serve(Rc::clone(&worker), PortSocket::new(socket)?)));
        }
        tasks.push(tokio::task::spawn_local(rejected::serve(Rc::clone(&worker))));
        Ok((worker, tasks))
    }

    async fn serve(self: Rc<Self>, listeners: Vec<JoinHandle<()>>, mut orders: orders::UnboundedReceiver<Order>) {
        let pump = tokio::task::spawn_local(Rc::clone(&self).drive());
        let mut gone_over = Timestamp::now();
        let stop = loop {
            let (order, since) = tokio::select! {
                order = orders.recv() => (order, Timestamp::now()),
                ended = rejudge::a_rule_ends(&self.shared, gone_over) => (Some(Order::GoOver(mpsc::channel().0)), ended),
            };
            gone_over = since;
            match order {
                Some(Order::GoOver(told)) => rejudge::go_over(&self, told).await,
                Some(Order::Stop(wait)) => break wait,
                None => break Duration::ZERO,
            }
        };
        for listener in &listeners {
            listener.abort();
        }
        // Nothing tells when a UDP flow is done: waiting for its idle time would only hold up the end.
        for event in self.datagrams.end_all(&self) {
            self.record_now(event).await;
        }
        rejected::finish(&self).await;
        let deadline = Instant::now() + stop;
        while self.live.count() > 0 {
            if tokio::time::timeout_at(deadline, self.live.ended.notified()).await.is_err() {
                break;
            }
        }
        self.end_all().await;
        pump.abort();
        self.record_ends().await;
    }

    /// Runs a judgement that an open connection waits for.
    pub(crate) fn spawn_for(self: &Rc<Self>, key: Key, judgement: impl Future<Output = ()> + 'static) {
        let worker = Rc::clone(self);
        let task = tokio::task::spawn_local(async move {
            judgement.await;
            worker.forget_waiting(key);
        });
        self.waiting.borrow_mut().insert(key, task.abort_handle());
    }

    /// The connection is gone: nobody waits for its judgement.
    pub(crate) fn stop_waiting(&self, key: Key) {
        if let Some(task) = self.waiting.borrow_mut().remove(&key) {
            task.abort();
        }
    }

    /// The judgement is made.
    pub(crate) fn forget_waiting(&self, key: Key) {
        self.waiting.borrow_mut().remove(&key);
    }

    /// Records the end of a flow. Where that fails it is said; the flow has ended all the same.
    pub(crate) async fn record_now(&self, event: Event) {
        if let Err(error) = self.shared.audit.record(event).await {
            tracing::error!(%error, "the end of a flow could not be recorded");
            self.shared.tally.error();
        }
    }

    /// The same, several with one write.
    pub(crate) async fn record_ends_now(&self, events: &[Event]) {
        for answer in self.shared.audit.record_all(events).await {
            if let Err(error) = answer {
                tracing::error!(%error, "the end of a flow could not be recorded");
                self.shared.tally.error();
            }
        }
    }

    /// The same, where its rule wants one.
    pub(crate) async fn record_end(&self, event: Option<Event>) {
        if let Some(event) = event {
            self.record_now(event).await;
        }
    }

    /// The same, without waiting.
    pub(crate) fn record_later(&self, event: Event) {
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_local(async move {
            if let Err(error) = shared.audit.record(event).await {
                tracing::error!(%error, "the end of a flow could not be recorded");
                shared.tally.error();
            }
        });
    }

    /// Ends what is still open.
    async fn end_all(&self) {
        self.record_ends_now(&self.inspected.end_all()).await;
        self.record_ends_now(&self.metadata.end_all()).await;
        let mut from = Some(0);
        while let Some(start) = from {
            let (keys, next) = self.pump.borrow_mut().slice(start, STOP_SLICE);
            from = next;
            for key in keys {
                let Some(left) = self.pump.borrow_mut().take(key) else { continue };
                self.stop_waiting(key);
                pump::reset(&left.client);
                pump::reset(&left.upstream);
                self.shared.tally.moved(left.sent, left.received);
                let end = End {
                    by: EndedBy::Shutdown,
                    cut: None,
                    bytes: Transfer { sent: left.sent, received: left.received },
                    error: None,
                };
                if left.flow.records_end {
                    self.record_now(record::ended(&left.flow, end)).await;
                }
            }
        }
    }
}

/// Waits for a descriptor with the runtime.
#[expect(
    deprecated,
    reason = "its successor is unsafe, because a type may lie about its descriptor; an OwnedFd keeps one open as long as it lives"
)]
pub(crate) fn watch(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(descriptor)
}

fn listener(socket: OwnedFd) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}
