//! A full file is closed and the chain goes on in the next.
//!
//! ```text
//! 1 make PATH.next, empty            can fail: then the file just grows on, and it is tried again later
//! 2 write `audit.checkpoint` to PATH and, where lines must be on the disk, flush it
//! 3 PATH → PATH.000007, PATH.next → PATH
//! ```
//!
//! Stopped between any two steps, [`crate::open`] finds the last line in PATH or, where that is missing or empty, in
//! the newest closed file.

use std::{ffi::OsStr, os::fd::OwnedFd};

use audit_event::Event;
use jiff::Timestamp;
use rustix::{
    fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags},
    io::Errno,
};

use crate::{
    files::{beside, closed_name, closed_numbers, folder},
    log::RecordError,
    writer::{Active, Mark, Writer},
};

/// A file that could not be closed grows by this much before it is tried again.
const TRY_AGAIN_AFTER: u64 = 1 << 20;

/// How a log's file is opened.
pub(crate) const OPEN: OFlags =
    OFlags::RDWR.union(OFlags::APPEND).union(OFlags::CREATE).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Only for the user who runs it.
pub(crate) const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);

impl Writer {
    /// Closes the file and goes on in a new one. The events written so far stay recorded whatever happens.
    pub(crate) fn rotate(&mut self) {
        let next_name = beside(&self.name, ".next");
        let next = match self.make_next(&next_name) {
            Ok(next) => next,
            Err(source) => return self.put_off(source),
        };
        let closed = closed_name(&self.name, self.next_closed);
        if let Err(error) = self.write_checkpoint(&closed) {
            tracing::warn!(path = %self.path.display(), %error, "can't close the full file");
            self.rotate_at = self.written.length + TRY_AGAIN_AFTER;
            return;
        }
        if let Err(source) = self.swap(&closed, &next_name) {
            self.ended = Some(RecordError::Rotate { path: self.path.clone(), source });
            return;
        }
        self.active = next;
        self.written = Mark { length: 0, first: self.written.position.seq + 1, ..self.written };
        self.durable = self.written;
        self.rotate_at = self.options.rotate_bytes;
        self.next_closed += 1;
        self.drop_oldest();
    }

    fn put_off(&mut self, source: Errno) {
        tracing::warn!(path = %self.path.display(), %source, "can't make the next file; this one grows on");
        self.rotate_at = self.written.length + TRY_AGAIN_AFTER;
    }

    fn make_next(&self, name: &OsStr) -> Result<Active, Errno> {
        // One that was left behind is empty or holds nothing that counts, and may have another name somewhere.
        match rustix::fs::unlinkat(&self.folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
        // Locked before anybody else may open it.
        let file: OwnedFd = rustix::fs::openat(&self.folder, name, OPEN | OFlags::EXCL, Mode::empty())?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        rustix::fs::fchmod(&file, PRIVATE)?;
        let stat = rustix::fs::fstat(&file)?;
        Ok(Active::new(file, &stat))
    }

    fn write_checkpoint(&mut self, closed: &OsStr) -> Result<(), RecordError> {
        let event = Event::AuditCheckpoint {
            file: closed.to_string_lossy().into_owned(),
            events: self.written.position.seq + 2 - self.written.first,
        };
        self.chain.append(&event, Timestamp::now(), &mut self.buffer)?;
        self.commit()?;
        self.recorded += 1;
        if self.must_flush() {
            if let Err(source) = rustix::fs::fdatasync(&self.active.file) {
                self.take_back(source);
                return Err(RecordError::Flush { path: self.path.clone(), source });
            }
            self.durable = self.written;
            self.progress.reached(self.written.position.seq);
            self.progressed = true;
        }
        Ok(())
    }

    fn swap(&self, closed: &OsStr, next: &OsStr) -> Result<(), Errno> {
        let name = self.name.as_os_str();
        match rustix::fs::renameat_with(&self.folder, name, &self.folder, closed, RenameFlags::NOREPLACE) {
            // A file system without this flag: the lock keeps every other writer of ours away.
            Err(Errno::INVAL | Errno::NOSYS) => rustix::fs::renameat(&self.folder, name, &self.folder, closed)?,
            renamed => renamed?,
        }
        rustix::fs::renameat(&self.folder, next, &self.folder, name)?;
        if self.must_flush() {
            rustix::fs::fsync(&self.folder)?;
        }
        Ok(())
    }

    /// Deletes the oldest closed files, where only some are kept.
    fn drop_oldest(&self) {
        if self.options.keep_files == 0 {
            return;
        }
        let numbers = match closed_numbers(folder(&self.path), &self.name) {
            Ok(numbers) => numbers,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "can't list closed files");
                return;
            }
        };
        let many = numbers.len().saturating_sub(self.options.keep_files);
        for number in numbers.into_iter().take(many) {
            let old = closed_name(&self.name, number);
            if let Err(error) = rustix::fs::unlinkat(&self.folder, old.as_os_str(), AtFlags::empty()) {
                tracing::warn!(file = %old.display(), %error, "can't delete a closed file");
            }
        }
    }
}
