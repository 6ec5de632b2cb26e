//! What reached the servers, told to the test: one line each on standard output.

use std::{
    collections::BTreeMap,
    io::Write as _,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

use super::Line;
use crate::reached::{Place, Reached, What};

/// How many bytes of a connection are kept.
pub(super) const KEPT: usize = 64 * 1024;

/// How long a fence waits for open connections to end before it tells what they carried so far.
const PATIENCE: Duration = Duration::from_millis(400);

/// Tells what reached one place.
#[derive(Clone)]
pub(super) struct Recorder {
    place: Place,
    next: Arc<AtomicU64>,
    open: Arc<Mutex<BTreeMap<u64, Open>>>,
    ended: Arc<Notify>,
}

/// A connection that has not ended, or the plain text within one.
type Open = (Visit, Arc<Mutex<Carrying>>);

/// What an open connection has carried so far.
#[derive(Default)]
pub(super) struct Carrying {
    pub(super) data: Vec<u8>,
    pub(super) received: u64,
    pub(super) sent: u64,
}

/// One connection or datagram exchange at one server.
#[derive(Clone)]
pub(super) struct Visit {
    recorder: Recorder,
    server: Arc<str>,
    local: Option<SocketAddr>,
    peer: Option<SocketAddr>,
    connection: u64,
}

impl Recorder {
    pub(super) fn new(place: Place) -> Self {
        Self { place, next: Arc::new(AtomicU64::new(1)), open: Arc::default(), ended: Arc::default() }
    }

    pub(super) fn visit(&self, server: &Arc<str>, local: Option<SocketAddr>, peer: Option<SocketAddr>) -> Visit {
        let connection = self.next.fetch_add(1, Ordering::Relaxed);
        Visit { recorder: self.clone(), server: server.clone(), local, peer, connection }
    }

    pub(super) fn line(&self, line: &Line) {
        if let Ok(mut text) = serde_json::to_string(line) {
            text.push('\n');
            let mut output = std::io::stdout().lock();
            if output.write_all(text.as_bytes()).and_then(|()| output.flush()).is_err() {
                std::process::exit(1);
            }
        }
    }

    /// Waits, within bounds, for open connections to end; tells what the others carried so far.
    pub(super) async fn settle(&self) {
        let all_ended = async {
            loop {
                let ended = self.ended.notified();
                if self.lock().is_empty() {
                    return;
                }
                ended.await;
            }
        };
        if timeout(PATIENCE, all_ended).await.is_err() {
            let open: Vec<_> = self.lock().values().cloned().collect();
            for (visit, carrying) in open {
                visit.told_so_far(&carrying);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Visit {
    pub(super) fn tell(&self, what: What) {
        self.recorder.line(&Line::Reached(Box::new(Reached {
            place: self.recorder.place,
            server: self.server.to_string(),
            local: self.local,
            peer: self.peer,
            connection: self.connection,
            what,
        })));
    }

    /// Opens the record of what this connection carries; [`Visit::close`] ends it.
    pub(super) fn open(&self) -> (u64, Arc<Mutex<Carrying>>) {
        let carrying = Arc::new(Mutex::new(Carrying::default()));
        let number = self.recorder.next.fetch_add(1, Ordering::Relaxed);
        self.recorder.lock().insert(number, (self.clone(), carrying.clone()));
        (number, carrying)
    }

    pub(super) fn close(&self, number: u64) {
        let closed = self.recorder.lock().remove(&number);
        if let Some((_, carrying)) = closed {
            self.told_so_far(&carrying);
        }
        self.recorder.ended.notify_waiters();
    }

    fn told_so_far(&self, carrying: &Mutex<Carrying>) {
        let carrying = carrying.lock().unwrap_or_else(PoisonError::into_inner);
        self.tell(What::Carried { data: carrying.data.clone(), received: carrying.received, sent: carrying.sent });
    }
}
