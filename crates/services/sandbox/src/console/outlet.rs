//! Output that goes to a file, or to a program that may show it: copied from a pipe.

use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use super::worker::{Ear, Word};
use super::{Next, try_again};
use crate::standard::{Outlet, OutletKind};

/// As much as a pipe holds.
const CHUNK: usize = 64 * 1024;
/// As much as a pipe that is ready takes without a wait (PIPE_BUF).
const AT_ONCE: usize = 4096;

/// Copies until the last writer is gone, or nobody reads. The pipe closes then: a workload that writes on is told as
/// every writer of a pipe is.
pub(super) fn run(outlet: &Outlet, ear: &Ear) -> Result<(), Errno> {
    let mut copying = Copying { outlet, buffer: vec![0; CHUNK], from: 0, to: 0, finishing: false };
    loop {
        match copying.step(ear) {
            Ok(Next::On) => {}
            // Who stopped reading wants no more, and that is no fault.
            Ok(Next::End) | Err(Errno::PIPE | Errno::CONNRESET) => return Ok(()),
            Err(errno) => return Err(errno),
        }
    }
}

struct Copying<'a> {
    outlet: &'a Outlet,
    buffer: Vec<u8>,
    /// What of the buffer is not written yet.
    from: usize,
    to: usize,
    finishing: bool,
}

impl Copying<'_> {
    /// Waits for something to do, and does it. What is read is written before more is read: who waits for its reader
    /// waits as long as it would without us.
    fn step(&mut self, ear: &Ear) -> Result<Next, Errno> {
        let is_empty = self.from == self.to;
        if is_empty && self.finishing {
            return self.read_rest();
        }
        let other = if is_empty {
            PollFd::new(&self.outlet.from, PollFlags::IN)
        } else {
            PollFd::new(&self.outlet.to, PollFlags::OUT)
        };
        let mut watched = [other, PollFd::new(ear, PollFlags::IN)];
        // When the word to finish has come, nothing more is said.
        let watched = if self.finishing { watched.get_mut(..1).unwrap_or_default() } else { &mut watched };
        match poll(watched, None) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Next::On),
            Err(errno) => return Err(errno),
        }
        let mut ready = watched.iter().map(|one| !one.revents().is_empty());
        let (is_ready, is_told) = (ready.next().unwrap_or_default(), ready.next().unwrap_or_default());
        if is_told {
            match ear.hear() {
                Word::Changed => {}
                Word::Pause if ear.wait() => {}
                Word::Pause => return Ok(Next::End),
                Word::Finish => self.finishing = true,
            }
            return Ok(Next::On);
        }
        match (is_ready, is_empty) {
            (false, _) => Ok(Next::On),
            (true, true) => self.read(),
            (true, false) => self.write(),
        }
    }

    fn read(&mut self) -> Result<Next, Errno> {
        match rustix::io::read(&self.outlet.from, self.buffer.as_mut_slice()) {
            Ok(0) => Ok(Next::End),
            Ok(filled) => {
                (self.from, self.to) = (0, filled);
                Ok(Next::On)
            }
            Err(errno) if try_again(errno) => Ok(Next::On),
            Err(errno) => Err(errno),
        }
    }

    /// The workload is gone: what is there is all that will come.
    fn read_rest(&mut self) -> Result<Next, Errno> {
        let mut watched = [PollFd::new(&self.outlet.from, PollFlags::IN)];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        match poll(&mut watched, Some(&now)) {
            Ok(0) => Ok(Next::End),
            Ok(_) => self.read(),
            Err(Errno::INTR) => Ok(Next::On),
            Err(errno) => Err(errno),
        }
    }

    fn write(&mut self) -> Result<Next, Errno> {
        let waiting = self.buffer.get(self.from..self.to).unwrap_or_default();
        let to = self.outlet.to.as_fd();
        let written = match self.outlet.kind {
            OutletKind::File => rustix::io::write(to, waiting),
            OutletKind::Pipe => rustix::io::write(to, waiting.get(..AT_ONCE).unwrap_or(waiting)),
            OutletKind::Socket => send(to, waiting, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
        };
        match written {
            Ok(written) => {
                self.from += written;
                Ok(Next::On)
            }
            Err(errno) if try_again(errno) => Ok(Next::On),
            Err(errno) => Err(errno),
        }
    }
}
