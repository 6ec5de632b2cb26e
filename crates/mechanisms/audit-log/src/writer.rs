//! The one who holds the file: appends lines, and takes back what could not be written whole.

use std::{
    ffi::OsString,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    sync::Arc,
};

use audit_event::{Chain, Event, MAX_LINE, Position};
use jiff::Timestamp;
use rustix::{
    fs::{AtFlags, Stat},
    io::Errno,
};

use crate::{
    flush::Progress,
    log::{Durability, Options, RecordError},
};

/// A buffer that grew past this in a large batch is given back.
const KEPT_BUFFER: usize = 256 << 10;

/// An event's line is in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) seq: u64,
    pub(crate) generation: u64,
}

/// The end of the last line that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) position: Position,
    /// The file's length.
    pub(crate) length: u64,
    /// The number of the file's first line.
    pub(crate) first: u64,
}

/// The file that is written, held locked, and what makes it that file.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) file: Arc<OwnedFd>,
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

impl Active {
    pub(crate) fn new(file: OwnedFd, stat: &Stat) -> Self {
        Self { file: Arc::new(file), device: stat.st_dev, inode: stat.st_ino }
    }

    fn is(&self, stat: &Stat) -> bool {
        stat.st_dev == self.device && stat.st_ino == self.inode
    }
}

/// What a flush that begins now covers.
#[derive(Debug)]
pub(crate) struct Covered {
    pub(crate) file: Arc<OwnedFd>,
    mark: Mark,
    generation: u64,
}

/// Appends lines to one log.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) path: PathBuf,
    pub(crate) name: OsString,
    pub(crate) folder: OwnedFd,
    pub(crate) options: Options,
    pub(crate) active: Active,
    pub(crate) chain: Chain,
    pub(crate) buffer: Vec<u8>,
    /// What is written.
    pub(crate) written: Mark,
    /// What the disk has; used with `Durability::Fsync` only.
    pub(crate) durable: Mark,
    /// The file may hold more than `written` says; it is cut before the next line.
    pub(crate) unclean: bool,
    /// Nothing more is written.
    pub(crate) ended: Option<RecordError>,
    /// The file is closed when it is this long.
    pub(crate) rotate_at: u64,
    pub(crate) next_closed: u64,
    pub(crate) recorded: u64,
    pub(crate) progress: Progress,
    /// `progress` has something that the waiting have not been told.
    pub(crate) progressed: bool,
}

impl Writer {
    pub(crate) fn position(&self) -> Position {
        self.written.position
    }

    pub(crate) fn recorded(&self) -> u64 {
        self.recorded
    }

    pub(crate) fn take_progress(&mut self) -> Option<Progress> {
        std::mem::take(&mut self.progressed).then_some(self.progress)
    }

    /// Writes a batch with one write(2). Each event has its own answer.
    pub(crate) fn write<'e>(
        &mut self,
        events: impl IntoIterator<Item = &'e Event>,
    ) -> Vec<Result<Written, RecordError>> {
        let ready = self.ready();
        let now = Timestamp::now();
        let mut answers: Vec<Result<Written, RecordError>> = events
            .into_iter()
            .map(|event| match &ready {
                Ok(()) => self.append(event, now),
                Err(error) => Err(error.clone()),
            })
            .collect();
        if let Err(error) = self.commit() {
            for answer in &mut answers {
                *answer = answer.clone().and(Err(error.clone()));
            }
            return answers;
        }
        self.recorded += answers.iter().filter(|answer| answer.is_ok()).count() as u64;
        if self.written.length >= self.rotate_at && self.ended.is_none() {
            self.rotate();
        }
        answers
    }

    /// Cuts what a failure left behind.
    fn ready(&mut self) -> Result<(), RecordError> {
        if let Some(error) = &self.ended {
            return Err(error.clone());
        }
        if self.unclean {
            self.cut().map_err(|source| self.write_error(source))?;
        }
        Ok(())
    }

    fn cut(&mut self) -> Result<(), Errno> {
        self.buffer.clear();
        self.chain.rewind(self.written.position);
        rustix::fs::ftruncate(&self.active.file, self.written.length)?;
        self.unclean = false;
        Ok(())
    }

    /// Adds an event's line to the buffer.
    fn append(&mut self, event: &Event, now: Timestamp) -> Result<Written, RecordError> {
        let (from, before) = (self.buffer.len(), self.chain.position());
        let seq = self.chain.append(event, now, &mut self.buffer)?;
        let bytes = self.buffer.len() - from;
        if bytes > MAX_LINE {
            self.buffer.truncate(from);
            self.chain.rewind(before);
            return Err(RecordError::TooLong { bytes });
        }
        Ok(Written { seq, generation: self.progress.generation() })
    }

    /// Brings the buffer into the file. On an error the file and the chain are what they were.
    pub(crate) fn commit(&mut self) -> Result<(), RecordError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.unclean = true;
        let outcome = self.write_buffer();
        if outcome.is_ok() {
            self.written.length += self.buffer.len() as u64;
            self.written.position = self.chain.position();
            self.unclean = false;
        }
        self.buffer.clear();
        self.buffer.shrink_to(KEPT_BUFFER);
        if let Err(error) = outcome {
            // What somebody else did to the file is left as it is for people to look at.
            if self.ended.is_some() {
                return Err(error);
            }
            // When even this fails, the next caller tries it again before anything else.
            if let Err(source) = self.cut() {
                tracing::warn!(path = %self.path.display(), %source, "can't take back a piece of a line");
            }
            return Err(error);
        }
        Ok(())
    }

    fn write_buffer(&mut self) -> Result<(), RecordError> {
        let mut rest = self.buffer.as_slice();
        while !rest.is_empty() {
            match rustix::io::write(self.active.file.as_fd(), rest) {
                Ok(0) => return Err(self.write_error(Errno::IO)),
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(source) => return Err(self.write_error(source)),
            }
        }
        self.check_file(self.written.length + self.buffer.len() as u64)
    }

    /// Whether the file is still the one that others find under its name, and as long as it must be.
    fn check_file(&mut self, length: u64) -> Result<(), RecordError> {
        let error = match rustix::fs::statat(&self.folder, self.name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if !self.active.is(&stat) => RecordError::Vanished { path: self.path.clone() },
            Ok(stat) if u64::try_from(stat.st_size) != Ok(length) => RecordError::Meddled { path: self.path.clone() },
            Ok(_) => return Ok(()),
            Err(Errno::NOENT | Errno::NOTDIR) => RecordError::Vanished { path: self.path.clone() },
            Err(source) => return Err(self.write_error(source)),
        };
        self.ended = Some(error.clone());
        Err(error)
    }

    fn write_error(&self, source: Errno) -> RecordError {
        let path = self.path.clone();
        match source {
            Errno::NOSPC | Errno::DQUOT => RecordError::Full { path },
            source => RecordError::Write { path, source },
        }
    }

    /// What a flush that begins now covers.
    pub(crate) fn covered(&self) -> Covered {
        Covered { file: self.active.file.clone(), mark: self.written, generation: self.progress.generation() }
    }

    /// A flush ended.
    pub(crate) fn flushed(&mut self, covered: &Covered, flushed: Result<(), Errno>) -> Progress {
        // Closing a file flushes it, so nothing hangs on a flush of an older one or of an older generation.
        let current = Arc::ptr_eq(&covered.file, &self.active.file) && covered.generation == self.progress.generation();
        match flushed {
            Ok(()) if current && covered.mark.length >= self.durable.length => {
                self.durable = covered.mark;
                self.progress.reached(covered.mark.position.seq);
            }
            Err(source) if current => self.take_back(source),
            Ok(()) | Err(_) => {}
        }
        self.progress
    }

    /// Goes back to what the disk has: nobody was told of more.
    pub(crate) fn take_back(&mut self, source: Errno) {
        tracing::warn!(path = %self.path.display(), %source, "a flush failed");
        let lost = self.written.position.seq - self.durable.position.seq;
        self.recorded = self.recorded.saturating_sub(lost);
        self.written = self.durable;
        self.unclean = true;
        self.progress.failed(source);
        self.progressed = true;
    }

    /// Whether lines must be on the disk.
    pub(crate) fn must_flush(&self) -> bool {
        self.options.durability == Durability::Fsync
    }
}

#[cfg(test)]
mod tests;
