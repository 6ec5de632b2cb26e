//! Recording an event: the caller writes it, or another caller who is just writing takes it along.
//!
//! The writer's lock is held for one line and one write(2), a few microseconds. Who finds it taken puts the event in
//! the queue and waits for the lock; the first to get it writes all that is queued, the others find their answer.
//! The queue is therefore never longer than the number of threads that record.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError,
        atomic::{AtomicU64, Ordering},
        mpsc::SyncSender,
    },
};

use audit_event::{EncodeError, Event, MAX_LINE, RunContext};
use rustix::io::Errno;
use tokio::sync::watch;

use crate::{
    flush::{self, Progress},
    open::{self, OpenError},
    writer::{Writer, Written},
};

/// So many events left for later are written at once.
const LATER_MANY: usize = 64;
/// The most that are kept while they can't be written.
const LATER_LIMIT: usize = 4096;

/// When an event counts as recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// It is in the file: it survives the death of every process of ours, not a loss of power.
    Written,
    /// It is on the disk.
    Fsync,
}

/// How a log is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// When an event counts as recorded.
    pub durability: Durability,
    /// A file of this size is closed and the chain goes on in a new one.
    pub rotate_bytes: u64,
    /// How many closed files are kept; the oldest go first. 0 keeps all.
    pub keep_files: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { durability: Durability::Written, rotate_bytes: 256 << 20, keep_files: 0 }
    }
}

/// Proof that an event is recorded. Only the log makes one.
#[derive(Debug, PartialEq, Eq)]
pub struct Recorded {
    seq: u64,
}

impl Recorded {
    /// The event's number in the chain.
    pub fn seq(&self) -> u64 {
        self.seq
    }
}

/// Why an event isn't recorded. What it speaks of must not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The disk, or the user's share of it, is full. The next event tries again.
    #[error("{} can't take an event: the disk is full", path.display())]
    Full {
        /// The log.
        path: PathBuf,
    },
    /// The file can't be written. The next event tries again.
    #[error("can't write an event to {}", path.display())]
    Write {
        /// The log.
        path: PathBuf,
        /// What the kernel said.
        source: Errno,
    },
    /// What was written did not reach the disk; it was taken back. The next event tries again.
    #[error("an event written to {} did not reach the disk", path.display())]
    Flush {
        /// The log.
        path: PathBuf,
        /// What the kernel said.
        source: Errno,
    },
    /// The file was deleted, renamed or replaced while it was written. Nothing more is recorded.
    #[error("{} was moved or deleted while events were written to it", path.display())]
    Vanished {
        /// The log.
        path: PathBuf,
    },
    /// Somebody else wrote to the file, or cut it. Nothing more is recorded.
    #[error("{} was changed by somebody else while events were written to it", path.display())]
    Meddled {
        /// The log.
        path: PathBuf,
    },
    /// A full file was closed but the next one could not take its place. Nothing more is recorded.
    #[error("{} was full and the next file could not take its place", path.display())]
    Rotate {
        /// The log.
        path: PathBuf,
        /// What the kernel said.
        source: Errno,
    },
    /// Who wrote this event along with others died before it could say how that ended.
    #[error("an event was handed over to be written and no answer came")]
    Unanswered,
    /// The event's line is too long.
    #[error("an event's line has {bytes} bytes, more than {MAX_LINE}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The event can't be written as a line.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// The record of one run. Clones write to the same file.
#[derive(Debug, Clone)]
pub struct AuditLog {
    handle: Arc<Handle>,
}

/// Lives as long as any clone; when it goes, so does the flush thread.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    /// Wakes the flush thread; there is none with [`Durability::Written`].
    wake: Option<SyncSender<()>>,
}

/// What the callers and the flush thread share.
#[derive(Debug)]
pub(crate) struct Shared {
    path: PathBuf,
    recorded: AtomicU64,
    queue: Mutex<Vec<Waiting>>,
    /// Events that nobody waits for: the next write takes them along.
    later: Mutex<Vec<Event>>,
    writer: Mutex<Writer>,
    progress: watch::Sender<Progress>,
}

/// An event whose caller found the writer busy.
#[derive(Debug)]
struct Waiting {
    event: Event,
    answer: Arc<OnceLock<Result<Written, RecordError>>>,
}

impl Shared {
    pub(crate) fn new(path: PathBuf, writer: Writer) -> Self {
        let progress = watch::Sender::new(Progress::new(writer.position().seq));
        Self {
            path,
            recorded: AtomicU64::new(0),
            queue: Mutex::default(),
            later: Mutex::default(),
            writer: Mutex::new(writer),
            progress,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The writer. A caller that panicked while it held the lock left a state that the writer itself repairs.
    pub(crate) fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn later(&self) -> MutexGuard<'_, Vec<Event>> {
        self.later.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what could not be written for the next write, within the bound; the error of what is not there.
    fn keep_unwritten<T>(&self, events: Vec<Event>, answers: Vec<Result<T, RecordError>>) -> Result<(), RecordError> {
        let mut outcome = Ok(());
        for (event, answer) in events.into_iter().zip(answers) {
            let Err(error) = answer else { continue };
            let mut later = self.later();
            match &error {
                RecordError::Full { .. } | RecordError::Write { .. } | RecordError::Flush { .. }
                    if later.len() < LATER_LIMIT =>
                {
                    later.push(event);
                }
                error => tracing::error!(path = %self.path.display(), %error, "an event is lost"),
            }
            outcome = Err(error);
        }
        outcome
    }

    /// The writer, if nobody has it.
    fn free_writer(&self) -> Option<MutexGuard<'_, Writer>> {
        match self.writer.try_lock() {
            Ok(writer) => Some(writer),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn write(&self, event: Event) -> Result<Written, RecordError> {
        match self.free_writer() {
            Some(mut writer) => self.write_with_waiting(&mut writer, Some(&event)).unwrap_or_else(unanswered),
            None => self.wait(event),
        }
    }

    /// Queues an event and waits until somebody has written it, perhaps this thread.
    fn wait(&self, event: Event) -> Result<Written, RecordError> {
        let answer = Arc::new(OnceLock::new());
        self.queue().push(Waiting { event, answer: answer.clone() });
        let mut writer = self.writer();
        if answer.get().is_none() {
            self.write_with_waiting(&mut writer, None);
        }
        answer.get().cloned().unwrap_or_else(unanswered)
    }

    /// Writes the caller's event and all that wait, and gives the answer for the caller's.
    fn write_with_waiting(&self, writer: &mut Writer, own: Option<&Event>) -> Option<Result<Written, RecordError>> {
        let waiting = std::mem::take(&mut *self.queue());
        let later = std::mem::take(&mut *self.later());
        let all = own.into_iter().chain(waiting.iter().map(|other| &other.event)).chain(&later);
        let mut answers = self.write_batch(writer, all);
        let of_later = answers.split_off(answers.len().saturating_sub(later.len()));
        // Kept or said: who writes something else is not held up by it.
        let _ = self.keep_unwritten(later, of_later);
        let rest = answers.split_off(usize::from(own.is_some()).min(answers.len()));
        for (other, answer) in waiting.iter().zip(rest) {
            // Set once: an event leaves the queue with the one who answers it.
            let _ = other.answer.set(answer);
        }
        answers.pop()
    }

    fn write_batch<'e>(
        &self,
        writer: &mut Writer,
        events: impl IntoIterator<Item = &'e Event>,
    ) -> Vec<Result<Written, RecordError>> {
        let answers = writer.write(events);
        self.recorded.store(writer.recorded(), Ordering::Relaxed);
        if let Some(progress) = writer.take_progress() {
            self.publish(progress);
        }
        answers
    }

    /// Tells the waiting how far the disk is. Two flushes may end in the other order: never back.
    pub(crate) fn publish(&self, progress: Progress) {
        self.progress.send_if_modified(|known| known.advance(progress));
    }
}

fn unanswered() -> Result<Written, RecordError> {
    Err(RecordError::Unanswered)
}

impl AuditLog {
    /// Opens the log at `path`, or makes it. The chain that is there goes on.
    pub fn open(path: &Path, context: RunContext, options: Options) -> Result<AuditLog, OpenError> {
        let durability = options.durability;
        let opened = open::open(path, &context, options)?;
        let shared = Arc::new(Shared::new(path.to_owned(), opened.writer));
        let wake = match durability {
            Durability::Written => None,
            Durability::Fsync => Some(flush::start(shared.clone()).map_err(|source| OpenError::Thread { source })?),
        };
        let log = AuditLog { handle: Arc::new(Handle { shared, wake }) };
        if let Some(event) = opened.recovered {
            log.record_blocking(event).map_err(|source| OpenError::Recovered { source })?;
        }
        Ok(log)
    }

    /// Records an event. With [`Durability::Written`] the answer is there at the first poll.
    pub async fn record(&self, event: Event) -> Result<Recorded, RecordError> {
        let written = self.handle.shared.write(event)?;
        if let Some(wake) = &self.handle.wake {
            let mut progress = self.handle.shared.progress.subscribe();
            // A full channel means that the thread is woken already.
            let _ = wake.try_send(());
            let settled = progress.wait_for(|progress| progress.settles(&written)).await;
            settled.map_err(|_| RecordError::Unanswered)?.answer(&written, self.path())?;
        }
        Ok(Recorded { seq: written.seq })
    }

    /// Leaves an event that nothing waits for to the next write: the next event's, or [`AuditLog::record_waiting`].
    /// Many of them are written at once.
    pub fn record_later(&self, event: Event) {
        let shared = &self.handle.shared;
        let many = {
            let mut later = shared.later();
            later.push(event);
            later.len() >= LATER_MANY
        };
        // Where somebody is just writing, the next write takes them along.
        if many && let Some(mut writer) = shared.free_writer() {
            shared.write_with_waiting(&mut writer, None);
        }
    }

    /// Writes what was left for later.
    pub async fn record_waiting(&self) -> Result<(), RecordError> {
        let shared = &self.handle.shared;
        let events = std::mem::take(&mut *shared.later());
        if events.is_empty() {
            return Ok(());
        }
        let answers = self.record_all(&events).await;
        shared.keep_unwritten(events, answers)
    }

    /// Records several events with one write; each has its own answer, in their order. With [`Durability::Written`]
    /// the answers are there at the first poll.
    pub async fn record_all<'e>(
        &self,
        events: impl IntoIterator<Item = &'e Event>,
    ) -> Vec<Result<Recorded, RecordError>> {
        let shared = &self.handle.shared;
        let all = shared.write_batch(&mut shared.writer(), events);
        let mut answers = Vec::with_capacity(all.len());
        let Some(wake) = &self.handle.wake else {
            answers.extend(all.into_iter().map(|written| written.map(|written| Recorded { seq: written.seq })));
            return answers;
        };
        let mut progress = shared.progress.subscribe();
        // A full channel means that the thread is woken already.
        let _ = wake.try_send(());
        for written in all {
            let settled = match written {
                Ok(written) => match progress.wait_for(|progress| progress.settles(&written)).await {
                    Ok(settled) => settled.answer(&written, self.path()).map(|()| Recorded { seq: written.seq }),
                    Err(_) => Err(RecordError::Unanswered),
                },
                Err(error) => Err(error),
            };
            answers.push(settled);
        }
        answers
    }

    /// Records an event and blocks the thread until it is. Needs no runtime.
    pub fn record_blocking(&self, event: Event) -> Result<Recorded, RecordError> {
        let written = self.handle.shared.write(event)?;
        if self.handle.wake.is_some() {
            let mut progress = *self.handle.shared.progress.borrow();
            if !progress.settles(&written) {
                flush::flush(&self.handle.shared);
                progress = *self.handle.shared.progress.borrow();
            }
            progress.answer(&written, self.path())?;
        }
        Ok(Recorded { seq: written.seq })
    }

    /// How many events were recorded since the log was opened, its own checkpoints included.
    pub fn events(&self) -> u64 {
        self.handle.shared.recorded.load(Ordering::Relaxed)
    }

    /// The file that is written.
    pub fn path(&self) -> &Path {
        self.handle.shared.path()
    }
}
