//! One connection in the pump.

use std::{io, os::fd::OwnedFd, time::Instant};

use rustix::event::epoll::EventFlags;

use super::{
    Bounds, By, Left, READ_SIZE, Start,
    direction::{Direction, Flow, Taken},
    gate::{Asked, Gate, Step},
    pipes::Pipes,
};
use wire::{exchange::Bounds as BodyBounds, http_head::RequestHead};

/// How often one connection may read in a turn before others have theirs.
const READS_PER_TURN: usize = 16;

/// The two ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The sandbox's.
    Client,
    /// The server's.
    Upstream,
}

impl Side {
    /// Whose end it is.
    pub(super) fn owner(self) -> By {
        match self {
            Side::Client => By::Client,
            Side::Upstream => By::Server,
        }
    }
}

/// What epoll last said of a socket.
#[derive(Debug, Clone, Copy)]
struct Ready {
    readable: bool,
    /// Closed by its peer: read to the end, a short read proves nothing.
    closing: bool,
    /// Broken: reset by its peer or by the network.
    gone: bool,
    /// Room to write is waited for.
    full: bool,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Tunnel<F> {
    client: OwnedFd,
    upstream: OwnedFd,
    client_ready: Ready,
    upstream_ready: Ready,
    up: Direction,
    down: Direction,
    gate: Gate,
    /// Client bytes that the gate is still to see.
    unread: Vec<u8>,
    /// Something was handed out and is not answered.
    asked: bool,
    opened: u32,
    active: u32,
    pub(super) flow: F,
}

/// What a turn led to.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// This waits for a judgement.
    pub(super) asked: Option<Asked>,
    /// It is over.
    pub(super) ended: Option<(By, Option<io::Error>)>,
    /// There is more to do at once.
    pub(super) again: bool,
}

impl<F> Tunnel<F> {
    pub(super) fn new(client: OwnedFd, upstream: OwnedFd, start: Start, flow: F, epoch: Instant) -> Self {
        let seconds = u32::try_from(epoch.elapsed().as_secs()).unwrap_or(u32::MAX);
        // Entering the epoll set makes an edge of whatever is there already.
        let ready = Ready { readable: false, closing: false, gone: false, full: false };
        Self {
            client,
            upstream,
            client_ready: ready,
            upstream_ready: ready,
            up: Direction::with(start.to_upstream),
            down: Direction::with(start.to_client),
            gate: start.gate,
            unread: start.unread,
            asked: false,
            opened: seconds,
            active: seconds,
            flow,
        }
    }

    /// Takes note of an event.
    pub(super) fn note(&mut self, side: Side, flags: EventFlags) {
        let ready = match side {
            Side::Client => &mut self.client_ready,
            Side::Upstream => &mut self.upstream_ready,
        };
        let closing = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        ready.readable |= closing || flags.contains(EventFlags::IN);
        ready.closing |= closing;
        ready.gone |= flags.contains(EventFlags::ERR);
    }

    /// The socket of a side that could not take all for the first time.
    pub(super) fn began_to_wait(&mut self, side: Side) -> Option<&OwnedFd> {
        let (ready, direction, socket) = match side {
            Side::Client => (&mut self.client_ready, &self.down, &self.client),
            Side::Upstream => (&mut self.upstream_ready, &self.up, &self.upstream),
        };
        if ready.full || !direction.is_waiting() {
            return None;
        }
        ready.full = true;
        Some(socket)
    }

    /// The first bytes were judged.
    pub(super) fn pass_first(&mut self, gate: Gate, to_upstream: Vec<u8>, unread: Vec<u8>) {
        let before = std::mem::replace(&mut self.gate, gate);
        self.asked = false;
        self.up.push(to_upstream);
        self.down.push(before.into_server_bytes());
        self.unread = unread;
    }

    /// A head was judged.
    pub(super) fn pass_request(&mut self, head: &RequestHead, bounds: BodyBounds) {
        self.asked = false;
        if let Gate::Http(exchange) = &mut self.gate {
            self.unread = exchange.pass(head, bounds);
            self.up.push(head.write(exchange.is_last()));
        }
    }

    /// Whether a refusal can stand in the place of a response.
    pub(super) fn can_answer(&self) -> bool {
        !self.down.is_waiting()
            && match &self.gate {
                Gate::First(_) => true,
                Gate::Http(exchange) => !exchange.is_answering(),
                Gate::Open | Gate::NoRequest(_) => false,
            }
    }

    /// Whether a bound is crossed.
    pub(super) fn is_late(&self, now: u32, bounds: &Bounds) -> bool {
        let idle = u64::from(now.saturating_sub(self.active));
        let half_open = self.up.closed != self.down.closed;
        let bound = if half_open { bounds.half_open.min(bounds.idle) } else { bounds.idle };
        // One that waits for a person has its own bound.
        (!self.asked && idle >= bound.as_secs().max(1))
            || (self.gate.is_within_first() && idle >= bounds.first_bytes.as_secs().max(1))
            || bounds.total.is_some_and(|total| u64::from(now.saturating_sub(self.opened)) >= total.as_secs().max(1))
    }

    /// Moves what can be moved, in both directions.
    pub(super) fn advance(&mut self, buffer: &mut [u8], pipes: &mut Pipes, seconds: u32) -> Outcome {
        let mut outcome = Outcome::default();
        let before = self.up.moved + self.down.moved;
        for _ in 0..2 {
            if let Err((by, error)) =
                self.move_up(buffer, pipes, &mut outcome).and_then(|()| self.move_down(buffer, pipes, &mut outcome))
            {
                outcome.ended = Some((by, Some(error)));
                return outcome;
            }
            // The answer that was just moved may have made room for the request behind it.
            match self.gate.take_due() {
                Some(due) if self.unread.is_empty() => self.unread = due,
                Some(due) => self.unread.extend(due),
                None => break,
            }
            outcome.again = true;
        }
        if self.up.moved + self.down.moved != before {
            self.active = seconds;
        }
        if self.up.closed && self.down.closed {
            outcome.ended = Some((By::Finished, None));
        } else if self.client_ready.gone && (self.asked || self.up.ended) {
            outcome.ended = Some((By::Client, None));
        } else if self.upstream_ready.gone && self.down.ended {
            outcome.ended = Some((By::Server, None));
        }
        outcome
    }

    /// Client to upstream.
    fn move_up(&mut self, buffer: &mut [u8], pipes: &mut Pipes, outcome: &mut Outcome) -> Result<(), (By, io::Error)> {
        for _ in 0..READS_PER_TURN {
            if self.up.flush(&self.upstream).map_err(|error| (By::Server, error))? == Flow::Blocked || self.asked {
                return Ok(());
            }
            if !self.unread.is_empty() {
                let unread = std::mem::take(&mut self.unread);
                self.take_from_client(&unread, outcome)?;
                continue;
            }
            if self.up.ended {
                self.up.release_pipe(pipes);
                self.up.close(&self.upstream, self.down.closed);
                return Ok(());
            }
            if !self.client_ready.readable || !self.gate.wants_client() {
                self.up.release_pipe(pipes);
                return Ok(());
            }
            let unseen = self.gate.unseen_from_client();
            if self.up.is_bulk(unseen, pipes) {
                let taken = self.up.fill(&self.client, unseen).map_err(|error| (By::Client, error))?;
                match taken {
                    Taken::Some(count) => self.gate.skip_from_client(count as u64),
                    Taken::None => self.client_ready.readable = false,
                    Taken::End => {}
                }
                continue;
            }
            match self.up.read(&self.client, buffer).map_err(|error| (By::Client, error))? {
                Taken::Some(count) => {
                    self.client_ready.readable = count == READ_SIZE || self.client_ready.closing;
                    let bytes = buffer.get(..count).unwrap_or_default();
                    self.take_from_client(bytes, outcome)?;
                }
                Taken::None => self.client_ready.readable = false,
                Taken::End => {
                    if let Some(asked) = self.gate.client_ended() {
                        self.asked = true;
                        outcome.asked = Some(asked);
                    }
                }
            }
        }
        outcome.again = true;
        Ok(())
    }

    /// Lets the gate see client bytes and writes what passes.
    fn take_from_client(&mut self, bytes: &[u8], outcome: &mut Outcome) -> Result<(), (By, io::Error)> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.gate.client(rest) {
                Step::Forward(count) => {
                    let (now, later) = rest.split_at(count.min(rest.len()));
                    self.up.write(&self.upstream, now).map_err(|error| (By::Server, error))?;
                    rest = later;
                }
                Step::Kept => return Ok(()),
                Step::Ask(asked) => {
                    self.asked = true;
                    outcome.asked = Some(asked);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Upstream to client.
    fn move_down(
        &mut self,
        buffer: &mut [u8],
        pipes: &mut Pipes,
        outcome: &mut Outcome,
    ) -> Result<(), (By, io::Error)> {
        for _ in 0..READS_PER_TURN {
            if self.down.flush(&self.client).map_err(|error| (By::Client, error))? == Flow::Blocked {
                return Ok(());
            }
            if self.down.ended {
                self.down.release_pipe(pipes);
                self.down.close(&self.client, self.up.closed);
                return Ok(());
            }
            if !self.upstream_ready.readable || !self.gate.wants_server() {
                self.down.release_pipe(pipes);
                return Ok(());
            }
            let unseen = self.gate.unseen_from_server();
            if self.down.is_bulk(unseen, pipes) {
                let taken = self.down.fill(&self.upstream, unseen).map_err(|error| (By::Server, error))?;
                match taken {
                    Taken::Some(count) => self.gate.skip_from_server(count as u64),
                    Taken::None => self.upstream_ready.readable = false,
                    Taken::End => {}
                }
                continue;
            }
            match self.down.read(&self.upstream, buffer).map_err(|error| (By::Server, error))? {
                Taken::Some(count) => {
                    self.upstream_ready.readable = count == READ_SIZE || self.upstream_ready.closing;
                    let bytes = buffer.get(..count).unwrap_or_default();
                    self.take_from_server(bytes, outcome)?;
                }
                Taken::None => self.upstream_ready.readable = false,
                Taken::End => {}
            }
        }
        outcome.again = true;
        Ok(())
    }

    /// Lets the gate see server bytes and writes what passes.
    fn take_from_server(&mut self, bytes: &[u8], outcome: &mut Outcome) -> Result<(), (By, io::Error)> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.gate.server(rest) {
                Ok(Step::Forward(count)) => {
                    let (now, later) = rest.split_at(count.min(rest.len()));
                    self.down.write(&self.client, now).map_err(|error| (By::Client, error))?;
                    rest = later;
                }
                Ok(Step::Ask(asked)) => {
                    // The server spoke first: its bytes wait in the gate.
                    self.asked = true;
                    outcome.asked = Some(asked);
                    return Ok(());
                }
                Ok(Step::Kept) => return Ok(()),
                Err(reason) => return Err((By::Server, io::Error::new(io::ErrorKind::InvalidData, reason))),
            }
        }
        Ok(())
    }

    /// Gives up the sockets.
    pub(super) fn leave(mut self, pipes: &mut Pipes) -> Left<F> {
        self.up.drop_pipe(pipes);
        self.down.drop_pipe(pipes);
        Left {
            client: self.client,
            upstream: self.upstream,
            flow: self.flow,
            sent: self.up.moved,
            received: self.down.moved,
        }
    }
}
