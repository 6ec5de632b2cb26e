//! Memory for requests inside opened TLS: one bound for the whole run.
//!
//! What a client asks for and does not take waits here: in buffers towards it, in those of the server's connection, and
//! in what was read and not looked at. A request takes room for all of that before it is sent on, and gives it back when
//! the last byte of its answer has left for the client. The numbers are what was measured with answers that nobody
//! takes (`tests/inspect_memory.rs`).
//!
//! While others find no room, connections are ended that hold it for nothing: whose client is a minute behind, through
//! which nothing passed for five, or which carry no request.

use std::{collections::HashMap, sync::Arc, time::Duration};

use hyper::body::Body as _;
use tokio::time::Instant;
use wire::http_head::RequestHead;

use super::{
    arriving::Arriving,
    link::Link,
    under_way::{Inspected, UnderWay},
};
use crate::budget::{Budget, NoRoom, Room};

/// For requests, in KiB.
const REQUESTS: usize = 384 * 1024;
/// For connections, whatever they carry: a request on one must be able to hear that there is no room.
const CONNECTIONS: usize = 512 * 1024;
/// What one of them holds, with refusals on all its streams that its client does not take.
const CONNECTION: u32 = 256;
/// What an answer may come to hold.
const ANSWER: usize = 384;
/// What a body may.
const BODY: usize = 256;
/// How many times a head is held: as read, as judged, as written, as sent.
const HEADS: usize = 6;
/// How long nothing may pass on a request where others find no room: a server may think.
const SILENCE: Duration = Duration::from_secs(5 * 60);
/// Why a connection is ended.
pub(super) const GAVE_WAY: &str = "it held memory that other requests of this sandbox need, and did not go on";

/// The memory of a run for this.
#[derive(Debug)]
pub(crate) struct Rooms {
    requests: Budget,
    connections: Budget,
    patience: Duration,
}

impl Rooms {
    /// All free. A client that does nothing for so long holds none that others need.
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            requests: Budget::new(REQUESTS, "requests inside TLS", patience),
            connections: Budget::new(CONNECTIONS, "connections whose TLS is opened", patience),
            patience,
        }
    }

    /// Room for a connection: its TLS, its buffers, and answers of ours that it does not take.
    pub(super) async fn of_connection(&self) -> Result<Room, NoRoom> {
        self.connections.room(CONNECTION).await
    }

    /// Room for a request.
    pub(super) async fn of_request(&self, head: &RequestHead, body: &Arriving) -> Result<Arc<Room>, NoRoom> {
        let fields: usize = head.fields.iter().map(|(name, value)| name.len() + value.len()).sum();
        let head = (fields + head.origin_target().len()) * HEADS / 1024;
        let body = if body.is_end_stream() { 0 } else { BODY };
        self.requests.room(u32::try_from(ANSWER + head + body).unwrap_or(u32::MAX)).await.map(Arc::new)
    }

    fn are_wanted(&self) -> bool {
        self.requests.is_wanted() || self.connections.is_wanted()
    }
}

impl Inspected {
    /// Ends what holds memory for nothing, where others need it.
    pub(super) fn make_way(&self, rooms: &Rooms) {
        if !rooms.are_wanted() {
            return;
        }
        let now = Instant::now();
        let mut busy: HashMap<*const Link, bool> = HashMap::new();
        for request in self.under_way() {
            *busy.entry(Arc::as_ptr(request.link())).or_default() |= request.holds_for_nothing(rooms.patience, now);
        }
        self.each_connection(|connection| {
            let ends = match busy.get(&Arc::as_ptr(&connection.link)) {
                Some(stuck) => *stuck,
                None => connection.link.unserved(now) >= rooms.patience,
            };
            if ends {
                connection.gives_way.notify_one();
            }
        });
    }
}

impl UnderWay {
    /// Whether its client does not take what is there, or nothing passed for long.
    fn holds_for_nothing(&self, patience: Duration, now: Instant) -> bool {
        self.meter.borrow().is_behind(patience, now) || self.silent(now) >= SILENCE
    }
}
