//! Pipes for splice(2), few and shared.
//!
//! A user without privileges gets 64 pipes of 1 MiB; after that every new pipe is 8 KiB, silently
//! (pipe(7), `pipe-user-pages-soft`). So a thread keeps a few, a direction holds one only while it is in
//! bulk, and a pipe that came out small is not used. One that still holds bytes is never given back.

use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

/// The most pipes of one thread.
const PIPE_LIMIT: usize = 16;
/// What a pipe should hold.
pub(super) const PIPE_SIZE: usize = 1 << 20;
/// A smaller one is slower than copying.
const PIPE_MINIMUM: usize = 256 * 1024;

/// A pipe and what it holds.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) read: OwnedFd,
    pub(super) write: OwnedFd,
    /// Bytes in it.
    pub(super) held: usize,
}

/// The pipes of one thread.
#[derive(Debug, Default)]
pub(super) struct Pipes {
    free: Vec<Pipe>,
    made: usize,
    /// A direction has moved bytes in bulk since this was last cleared.
    pub(super) in_bulk: bool,
}

impl Pipes {
    /// An empty pipe, where one is to be had.
    pub(super) fn take(&mut self) -> Option<Pipe> {
        if let Some(pipe) = self.free.pop() {
            return Some(pipe);
        }
        if self.made >= PIPE_LIMIT {
            return None;
        }
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        match fcntl_setpipe_size(&write, PIPE_SIZE) {
            Ok(size) if size >= PIPE_MINIMUM => {
                self.made += 1;
                Some(Pipe { read, write, held: 0 })
            }
            Ok(_) | Err(_) => {
                // The quota is used up; asking again costs a pipe each time.
                self.made = PIPE_LIMIT;
                None
            }
        }
    }

    /// Gives a pipe back; one that holds bytes is closed instead.
    pub(super) fn give_back(&mut self, pipe: Pipe) {
        if pipe.held == 0 {
            self.free.push(pipe);
        } else {
            self.made = self.made.saturating_sub(1);
        }
    }
}
