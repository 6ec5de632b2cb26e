//! Moves the bytes of decided connections: one epoll set per thread, no task and no buffer per connection.
//!
//! ```text
//!            up: client ──recv──> gate ──send──> upstream      copy through the thread's one buffer,
//!          down: client <──send── gate <──recv── upstream      splice once a direction is in bulk
//! ```
//! Bytes are kept only when the other side can't take them (back-pressure) or while a head is cut. Each
//! direction ends on its own (half-close). What needs a judgement is handed out with [`Pump::take_asked`]
//! and waits, unread, until it is passed or taken out; the pump itself judges nothing.
//!
//! Edge-triggered: a short read means drained, unless the peer has closed, when it is read to its end.

/// One way through a connection.
mod direction;
/// What may pass from the client.
mod gate;
/// Pipes for splice(2).
mod pipes;
/// One connection.
mod tunnel;

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::event::{Timespec, epoll};
use wire::exchange::Bounds as BodyBounds;

pub(crate) use gate::{Asked, Gate};
use pipes::Pipes;
use tunnel::{Side, Tunnel};

/// How many bytes are read at once.
pub(crate) const READ_SIZE: usize = wire::exchange::PIECE_LIMIT;
/// How many events are taken at once.
const EVENT_LIMIT: usize = 256;

/// What is waited for: bytes and ends. Room to write only where it once ran out.
const READING: epoll::EventFlags = epoll::EventFlags::IN.union(epoll::EventFlags::RDHUP).union(epoll::EventFlags::ET);

/// Names a connection in a pump; one that ended is not found again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    index: u32,
    generation: u32,
}

/// Who ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// The client closed or reset.
    Client,
    /// The server closed or reset.
    Server,
    /// Both directions ended in order.
    Finished,
    /// A bound on idle or total time.
    Bound,
}

/// A connection that left the pump, with what it moved.
#[derive(Debug)]
pub(crate) struct Left<F> {
    /// The client's socket; dropping it closes it.
    pub(crate) client: OwnedFd,
    /// The server's socket.
    pub(crate) upstream: OwnedFd,
    /// What the caller attached.
    pub(crate) flow: F,
    /// Bytes from the client.
    pub(crate) sent: u64,
    /// Bytes to the client.
    pub(crate) received: u64,
}

/// A connection that ended by itself.
#[derive(Debug)]
pub(crate) struct Ended<F> {
    /// Its name until now.
    pub(crate) key: Key,
    /// What it was.
    pub(crate) left: Left<F>,
    /// Who ended it.
    pub(crate) by: By,
    /// What failed.
    pub(crate) error: Option<io::Error>,
}

/// How a connection starts.
#[derive(Debug)]
pub(crate) struct Start {
    /// Checked bytes that go to the server first.
    pub(crate) to_upstream: Vec<u8>,
    /// Bytes of ours that go to the client first.
    pub(crate) to_client: Vec<u8>,
    /// Bytes that the client sent already and the gate has not seen.
    pub(crate) unread: Vec<u8>,
    /// What may pass.
    pub(crate) gate: Gate,
}

impl Start {
    /// Nothing passes from the client before its first bytes are judged.
    pub(crate) fn first(to_client: Vec<u8>, limit: usize) -> Self {
        Start { to_upstream: Vec::new(), to_client, unread: Vec::new(), gate: Gate::first(limit) }
    }
}

/// How long connections may do nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Without a byte, open on both sides.
    pub(crate) idle: Duration,
    /// Without a byte, closed on one side.
    pub(crate) half_open: Duration,
    /// In all.
    pub(crate) total: Option<Duration>,
    /// For first bytes that were begun.
    pub(crate) first_bytes: Duration,
}

/// What a turn of the pump found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nothing to do.
    Idle,
    /// Everything there was to do, and did it.
    Done,
    /// The same, and bytes moved in bulk: looked at too early, there would be few of them at a time.
    Bulk,
    /// More than one turn can do.
    More,
}

/// The connections of one thread.
pub(crate) struct Pump<F> {
    epoll: OwnedFd,
    slots: Vec<Slot<F>>,
    free: Vec<u32>,
    buffer: Box<[u8]>,
    pipes: Pipes,
    events: Vec<epoll::Event>,
    /// Connections that used up their turn.
    again: Vec<Key>,
    asked: Vec<(Key, Asked)>,
    ended: Vec<Ended<F>>,
    started: Instant,
    bounds: Bounds,
}

#[derive(Debug)]
struct Slot<F> {
    generation: u32,
    tunnel: Option<Box<Tunnel<F>>>,
}

impl<F> Pump<F> {
    /// An empty pump.
    pub(crate) fn new(bounds: Bounds) -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            slots: Vec::new(),
            free: Vec::new(),
            buffer: vec![0; READ_SIZE].into_boxed_slice(),
            pipes: Pipes::default(),
            events: Vec::with_capacity(EVENT_LIMIT),
            again: Vec::new(),
            asked: Vec::new(),
            ended: Vec::new(),
            started: Instant::now(),
            bounds,
        })
    }

    /// The epoll set: readable when [`Pump::turn`] has something to do.
    pub(crate) fn epoll(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// Takes a connection in and moves what is there.
    pub(crate) fn insert(
        &mut self,
        client: OwnedFd,
        upstream: OwnedFd,
        start: Start,
        flow: F,
    ) -> Result<Key, (io::Error, F)> {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.slots.push(Slot { generation: 0, tunnel: None });
                let Ok(index) = u32::try_from(self.slots.len() - 1) else {
                    return Err((io::ErrorKind::OutOfMemory.into(), flow));
                };
                index
            }
        };
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return Err((io::ErrorKind::NotFound.into(), flow));
        };
        let key = Key { index, generation: slot.generation };
        let added = epoll::add(&self.epoll, &client, data(key, Side::Client), READING)
            .and_then(|()| epoll::add(&self.epoll, &upstream, data(key, Side::Upstream), READING));
        if let Err(error) = added {
            self.free.push(index);
            return Err((error.into(), flow));
        }
        slot.tunnel = Some(Box::new(Tunnel::new(client, upstream, start, flow, self.started)));
        self.advance(key);
        Ok(key)
    }

    /// Moves what can be moved. Unless there is more, nothing is left to do before the epoll set is readable again.
    pub(crate) fn turn(&mut self) -> Turn {
        if self.free.len() == self.slots.len() && !self.is_due() {
            // No connection: nothing to ask the kernel for.
            return Turn::Idle;
        }
        let was_due = self.is_due();
        self.pipes.in_bulk = false;
        for key in std::mem::take(&mut self.again) {
            self.advance(key);
        }
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let taken = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&now));
        let drained = match taken {
            Ok(count) => count < EVENT_LIMIT,
            Err(rustix::io::Errno::INTR) => false,
            Err(_) => true,
        };
        for event in &events {
            let (key, side) = key_and_side(event.data.u64());
            if let Some(tunnel) = self.tunnel(key) {
                tunnel.note(side, event.flags);
                self.advance(key);
            }
        }
        let idle = events.is_empty() && !was_due;
        self.events = events;
        match drained && self.again.is_empty() {
            false => Turn::More,
            true if idle => Turn::Idle,
            true if self.pipes.in_bulk => Turn::Bulk,
            true => Turn::Done,
        }
    }

    /// Whether there is something to do that the epoll set does not tell of.
    pub(crate) fn is_due(&self) -> bool {
        !(self.again.is_empty() && self.asked.is_empty() && self.ended.is_empty())
    }

    /// What waits for a judgement.
    pub(crate) fn take_asked(&mut self) -> Vec<(Key, Asked)> {
        std::mem::take(&mut self.asked)
    }

    /// What ended.
    pub(crate) fn take_ended(&mut self) -> Vec<Ended<F>> {
        std::mem::take(&mut self.ended)
    }

    /// Whether a refusal can stand in the place of a response: nothing of another is under way.
    pub(crate) fn can_answer(&mut self, key: Key) -> bool {
        self.tunnel(key).is_some_and(|tunnel| tunnel.can_answer())
    }

    /// What the caller attached.
    pub(crate) fn flow(&mut self, key: Key) -> Option<&mut F> {
        self.tunnel(key).map(|tunnel| &mut tunnel.flow)
    }

    /// The first bytes were judged: they go on, and the gate becomes this one.
    pub(crate) fn pass_first(&mut self, key: Key, gate: Gate, to_upstream: Vec<u8>, unread: Vec<u8>) {
        if let Some(tunnel) = self.tunnel(key) {
            tunnel.pass_first(gate, to_upstream, unread);
            self.advance(key);
        }
    }

    /// A request head was judged: it goes on.
    pub(crate) fn pass_request(&mut self, key: Key, head: &wire::http_head::RequestHead, bounds: BodyBounds) {
        if let Some(tunnel) = self.tunnel(key) {
            tunnel.pass_request(head, bounds);
            self.advance(key);
        }
    }

    /// Takes a connection out, sockets and all.
    pub(crate) fn take(&mut self, key: Key) -> Option<Left<F>> {
        let slot = self.slots.get_mut(key.index as usize).filter(|slot| slot.generation == key.generation)?;
        let tunnel = slot.tunnel.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.index);
        Some(tunnel.leave(&mut self.pipes))
    }

    /// Takes a socket that lives on out of the epoll set; closing does that for the others.
    pub(crate) fn forget(&self, socket: &OwnedFd) {
        let _ = epoll::delete(&self.epoll, socket);
    }

    /// Every connection in these slots; `next_slot` is where the following slice starts, `None` at the end.
    pub(crate) fn slice(&mut self, from: usize, count: usize) -> (Vec<Key>, Option<usize>) {
        let end = (from + count).min(self.slots.len());
        let keys = self
            .slots
            .get(from..end)
            .unwrap_or_default()
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.tunnel.is_some())
            .filter_map(|(at, slot)| Some(Key { index: u32::try_from(from + at).ok()?, generation: slot.generation }))
            .collect();
        (keys, (end < self.slots.len()).then_some(end))
    }

    /// Ends what crossed a bound. Called about once a second.
    pub(crate) fn sweep(&mut self) {
        let seconds = self.seconds();
        let bounds = self.bounds;
        let late: Vec<Key> = (0u32..)
            .zip(&self.slots)
            .filter(|(_, slot)| slot.tunnel.as_ref().is_some_and(|tunnel| tunnel.is_late(seconds, &bounds)))
            .map(|(index, slot)| Key { index, generation: slot.generation })
            .collect();
        for key in late {
            self.end(key, By::Bound, None);
        }
    }

    fn seconds(&self) -> u32 {
        u32::try_from(self.started.elapsed().as_secs()).unwrap_or(u32::MAX)
    }

    fn tunnel(&mut self, key: Key) -> Option<&mut Tunnel<F>> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation == key.generation { slot.tunnel.as_deref_mut() } else { None }
    }

    fn advance(&mut self, key: Key) {
        let seconds = self.seconds();
        let Some(slot) = self.slots.get_mut(key.index as usize) else { return };
        let Some(tunnel) = slot.tunnel.as_deref_mut().filter(|_| slot.generation == key.generation) else { return };
        let mut outcome = tunnel.advance(&mut self.buffer, &mut self.pipes, seconds);
        for side in [Side::Client, Side::Upstream] {
            if let Some(socket) = tunnel.began_to_wait(side)
                && let Err(error) =
                    epoll::modify(&self.epoll, socket, data(key, side), READING | epoll::EventFlags::OUT)
            {
                outcome.ended = Some((side.owner(), Some(error.into())));
            }
        }
        if let Some(asked) = outcome.asked {
            self.asked.push((key, asked));
        }
        match outcome.ended {
            Some((by, error)) => self.end(key, by, error),
            None if outcome.again => self.again.push(key),
            None => {}
        }
    }

    fn end(&mut self, key: Key, by: By, error: Option<io::Error>) {
        if let Some(left) = self.take(key) {
            if by != By::Finished {
                // The other side must not take a torn stream for a whole one.
                reset(&left.client);
                reset(&left.upstream);
            }
            self.ended.push(Ended { key, left, by, error });
        }
    }
}

/// Makes closing this socket a reset.
pub(crate) fn reset(socket: impl AsFd) {
    let _ = rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

fn data(key: Key, side: Side) -> epoll::EventData {
    let side = match side {
        Side::Client => 0,
        Side::Upstream => 1,
    };
    epoll::EventData::new_u64(u64::from(key.generation) << 32 | u64::from(key.index) << 1 | side)
}

#[expect(clippy::cast_possible_truncation, reason = "the halves of a u64 that `data` put together")]
fn key_and_side(data: u64) -> (Key, Side) {
    let key = Key { index: data as u32 >> 1, generation: (data >> 32) as u32 };
    (key, if data & 1 == 0 { Side::Client } else { Side::Upstream })
}

#[cfg(test)]
mod tests;
