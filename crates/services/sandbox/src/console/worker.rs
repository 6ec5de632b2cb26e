//! A thread that copies, and that can be paused.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use super::ConsoleError;

/// Told to a thread, one byte each.
pub(super) const CHANGED: u8 = b'c';
const PAUSE: u8 = b'p';
const FINISH: u8 = b'f';

/// The thread, from outside.
#[derive(Debug)]
pub(super) struct Worker {
    word: OwnedFd,
    paused: Receiver<()>,
    resume: Option<Sender<()>>,
    thread: Option<JoinHandle<Result<(), Errno>>>,
}

/// What a thread does.
pub(super) type Task = Box<dyn FnOnce(Ear) -> Result<(), Errno> + Send>;

/// What the thread hears.
pub(super) struct Ear {
    hears: OwnedFd,
    tell_paused: Sender<()>,
    resumed: Receiver<()>,
}

/// A word to the thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// The terminal's size, or who is in its foreground.
    Changed,
    /// [`Ear::wait`] when nothing is copied any more.
    Pause,
    /// Copy what is left, then end.
    Finish,
}

impl Worker {
    pub(super) fn start(name: &str, task: Task) -> Result<Worker, ConsoleError> {
        let (hears, word) =
            pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(|errno| ConsoleError::Copy(errno.into()))?;
        let (tell_paused, paused) = channel();
        let (resume, resumed) = channel();
        let ear = Ear { hears, tell_paused, resumed };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || task(ear));
        let thread = thread.map_err(ConsoleError::Copy)?;
        Ok(Worker { word, paused, resume: Some(resume), thread: Some(thread) })
    }

    /// Where [`CHANGED`] is written.
    pub(super) fn word(&self) -> BorrowedFd<'_> {
        self.word.as_fd()
    }

    /// Comes back when the thread copies nothing more.
    pub(super) fn pause(&self) {
        if rustix::io::write(&self.word, &[PAUSE]).is_ok() {
            // An error means that the thread has ended.
            let _ = self.paused.recv();
        }
    }

    pub(super) fn resume(&self) {
        if let Some(resume) = &self.resume {
            // Without a thread there is nothing to go on.
            let _ = resume.send(());
        }
    }

    /// Waits for the thread's end, and gives what went wrong.
    pub(super) fn finish(&mut self) -> Result<(), Errno> {
        let _ = rustix::io::write(&self.word, &[FINISH]);
        self.resume = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(end)) => end,
            // A thread that panicked has nothing more to copy.
            Some(Err(_)) => Err(Errno::IO),
            None => Ok(()),
        }
    }
}

impl Ear {
    /// The next word; an ear that nobody speaks to any more hears the end.
    pub(super) fn hear(&self) -> Word {
        let mut word = [0_u8; 1];
        let heard = rustix::io::read(&self.hears, word.as_mut_slice());
        match (heard, word) {
            (Ok(1), [CHANGED]) | (Err(_), _) => Word::Changed,
            (Ok(1), [PAUSE]) => Word::Pause,
            (Ok(_), _) => Word::Finish,
        }
    }

    /// Pauses. `false` where it will not go on.
    pub(super) fn wait(&self) -> bool {
        self.tell_paused.send(()).is_ok() && self.resumed.recv().is_ok()
    }
}

impl AsFd for Ear {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.hears.as_fd()
    }
}
