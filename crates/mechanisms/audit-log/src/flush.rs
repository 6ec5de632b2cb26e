//! On the disk, many events at a time.
//!
//! With [`Durability::Fsync`](crate::Durability::Fsync) lines are written as always, then a thread flushes the file
//! and tells everybody how far the disk is: one flush serves all that were written before it began.
//!
//! A flush that fails leaves unknown what the disk has. Nobody was told that these lines are recorded, so the file is
//! cut back to what the last good flush covered, the chain goes back with it, and the *generation* is counted up:
//! whoever waits with an older generation gets the error, even where the number was given out again meanwhile.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    },
    thread,
};

use rustix::io::Errno;

use crate::{
    log::{RecordError, Shared},
    writer::Written,
};

/// How far the disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    durable: u64,
    generation: u64,
    failed: Option<Errno>,
}

impl Progress {
    pub(crate) fn new(durable: u64) -> Self {
        Self { durable, generation: 0, failed: None }
    }

    /// The disk has everything up to this number.
    pub(crate) fn reached(&mut self, seq: u64) {
        self.durable = self.durable.max(seq);
    }

    /// A flush failed and what it was to cover was taken back.
    pub(crate) fn failed(&mut self, source: Errno) {
        self.generation += 1;
        self.failed = Some(source);
    }

    /// Takes what is newer; says whether anything was.
    pub(crate) fn advance(&mut self, other: Progress) -> bool {
        let newer = (other.generation, other.durable) > (self.generation, self.durable);
        if newer {
            *self = other;
        }
        newer
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn settles(&self, written: &Written) -> bool {
        self.generation != written.generation || self.durable >= written.seq
    }

    pub(crate) fn answer(&self, written: &Written, path: &Path) -> Result<(), RecordError> {
        if self.generation == written.generation && self.durable >= written.seq {
            return Ok(());
        }
        Err(RecordError::Flush { path: path.to_owned(), source: self.failed.unwrap_or(Errno::IO) })
    }
}

/// Starts the flush thread. It ends when the sender is dropped.
pub(crate) fn start(shared: Arc<Shared>) -> io::Result<SyncSender<()>> {
    let (wake, woken) = sync_channel(1);
    thread::Builder::new().name("audit-flush".into()).spawn(move || {
        while woken.recv().is_ok() {
            flush(&shared);
        }
    })?;
    Ok(wake)
}

/// Brings all that is written to the disk. Others go on writing meanwhile.
pub(crate) fn flush(shared: &Shared) {
    let covered = shared.writer().covered();
    let flushed = rustix::fs::fdatasync(&covered.file);
    let progress = shared.writer().flushed(&covered, flushed);
    shared.publish(progress);
}
