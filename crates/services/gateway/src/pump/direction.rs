//! One way through a connection.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, Shutdown},
    pipe::{SpliceFlags, splice},
};

use super::{
    READ_SIZE,
    pipes::{PIPE_SIZE, Pipe, Pipes},
};

/// Large reads in a row after which a direction is in bulk.
const BULK_AFTER: u8 = 4;
/// A read from here on is large. A sender that keeps pace with us is never far ahead, so full reads are rare.
const LARGE_READ: usize = READ_SIZE / 4;

/// One way through a connection.
#[derive(Debug, Default)]
pub(super) struct Direction {
    /// Bytes given to the receiving socket.
    pub(super) moved: u64,
    /// Bytes that the receiving side could not take yet.
    pending: Option<Box<Pending>>,
    pipe: Option<Box<Pipe>>,
    large_reads: u8,
    /// The sending side closed.
    pub(super) ended: bool,
    /// The receiving side was told so.
    pub(super) closed: bool,
}

#[derive(Debug)]
struct Pending {
    bytes: Vec<u8>,
    at: usize,
}

/// Why a direction stopped moving.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// The receiving side is full.
    Blocked,
    /// Nothing waits to be written.
    Clear,
}

/// What a read found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// So many bytes.
    Some(usize),
    /// Nothing now.
    None,
    /// The end.
    End,
}

impl Direction {
    /// Starts with bytes to write.
    pub(super) fn with(bytes: Vec<u8>) -> Self {
        let mut direction = Self::default();
        direction.push(bytes);
        direction
    }

    /// Queues bytes behind those that wait.
    pub(super) fn push(&mut self, bytes: Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        match &mut self.pending {
            Some(pending) => pending.bytes.extend_from_slice(&bytes),
            None => self.pending = Some(Box::new(Pending { bytes, at: 0 })),
        }
    }

    /// Whether bytes wait to be written.
    pub(super) fn is_waiting(&self) -> bool {
        self.pending.is_some() || self.pipe.as_ref().is_some_and(|pipe| pipe.held > 0)
    }

    /// Writes what waits: pending bytes, then the pipe's.
    pub(super) fn flush(&mut self, to: &OwnedFd) -> io::Result<Flow> {
        while let Some(pending) = &mut self.pending {
            let rest = pending.bytes.get(pending.at..).unwrap_or_default();
            if rest.is_empty() {
                self.pending = None;
                break;
            }
            match rustix::net::send(to, rest, SendFlags::NOSIGNAL) {
                Ok(count) => {
                    pending.at += count;
                    self.moved += count as u64;
                }
                Err(Errno::AGAIN) => return Ok(Flow::Blocked),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(pipe) = &mut self.pipe {
            while pipe.held > 0 {
                match splice(&pipe.read, None, to, None, pipe.held, SpliceFlags::MOVE | SpliceFlags::NONBLOCK) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(count) => {
                        pipe.held -= count;
                        self.moved += count as u64;
                    }
                    Err(Errno::AGAIN) => return Ok(Flow::Blocked),
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(Flow::Clear)
    }

    /// Writes bytes at once as far as they go; keeps the rest. Only after [`Direction::flush`] said clear.
    pub(super) fn write(&mut self, to: &OwnedFd, bytes: &[u8]) -> io::Result<Flow> {
        let mut rest = bytes;
        while self.pending.is_none() && !rest.is_empty() {
            match rustix::net::send(to, rest, SendFlags::NOSIGNAL) {
                Ok(count) => {
                    self.moved += count as u64;
                    rest = rest.get(count..).unwrap_or_default();
                    // A socket that took a part is full; asking again would only cost a call.
                    if !rest.is_empty() {
                        break;
                    }
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if rest.is_empty() {
            return Ok(Flow::Clear);
        }
        self.push(rest.to_vec());
        Ok(Flow::Blocked)
    }

    /// Reads into the thread's buffer.
    pub(super) fn read(&mut self, from: &OwnedFd, buffer: &mut [u8]) -> io::Result<Taken> {
        loop {
            return match rustix::net::recv(from, &mut *buffer, RecvFlags::empty()) {
                Ok((0, _)) => {
                    self.ended = true;
                    Ok(Taken::End)
                }
                Ok((count, _)) => {
                    self.large_reads = if count >= LARGE_READ { self.large_reads.saturating_add(1) } else { 0 };
                    Ok(Taken::Some(count))
                }
                Err(Errno::AGAIN) => Ok(Taken::None),
                Err(Errno::INTR) => continue,
                Err(error) => Err(error.into()),
            };
        }
    }

    /// Whether so many unseen bytes should go through a pipe, which is then held.
    pub(super) fn is_bulk(&mut self, unseen: u64, pipes: &mut Pipes) -> bool {
        if unseen == 0 || self.large_reads < BULK_AFTER || (self.pipe.is_none() && unseen < PIPE_SIZE as u64) {
            return false;
        }
        if self.pipe.is_none() {
            self.pipe = pipes.take().map(Box::new);
            if self.pipe.is_none() {
                // None to be had: copy on, and try again after as many large reads.
                self.large_reads = 0;
            }
        }
        pipes.in_bulk |= self.pipe.is_some();
        self.pipe.is_some()
    }

    /// Moves up to `limit` bytes from the socket into the pipe.
    pub(super) fn fill(&mut self, from: &OwnedFd, limit: u64) -> io::Result<Taken> {
        let Some(pipe) = &mut self.pipe else { return Ok(Taken::None) };
        let length = usize::try_from(limit).unwrap_or(usize::MAX).min(PIPE_SIZE);
        loop {
            let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
            return match splice(from.as_fd(), None, &pipe.write, None, length, flags) {
                Ok(0) => {
                    self.ended = true;
                    Ok(Taken::End)
                }
                Ok(count) => {
                    pipe.held += count;
                    if count < LARGE_READ {
                        // Perhaps no longer in bulk: the next read tells.
                        self.large_reads = BULK_AFTER - 1;
                    }
                    Ok(Taken::Some(count))
                }
                Err(Errno::AGAIN) => Ok(Taken::None),
                Err(Errno::INTR) => continue,
                Err(error) => Err(error.into()),
            };
        }
    }

    /// Nothing to move for now: an empty pipe goes back.
    pub(super) fn release_pipe(&mut self, pipes: &mut Pipes) {
        if let Some(pipe) = self.pipe.take_if(|pipe| pipe.held == 0) {
            pipes.give_back(*pipe);
        }
    }

    /// For good: whatever the pipe holds.
    pub(super) fn drop_pipe(&mut self, pipes: &mut Pipes) {
        if let Some(pipe) = self.pipe.take() {
            pipes.give_back(*pipe);
        }
    }

    /// Passes the end on, once everything before it was written. Where this is the second end, closing the socket, which
    /// comes next, passes it on: the peer's own end was read, so nothing unread makes that a reset.
    pub(super) fn close(&mut self, to: &OwnedFd, second: bool) {
        if self.closed {
            return;
        }
        self.closed = true;
        if !second {
            // It fails only where the socket is gone, which the other direction finds out.
            let _ = rustix::net::shutdown(to, Shutdown::Write);
        }
    }
}
