//! The caller's terminal and output, while the workload has others.
//!
//! ```text
//! the caller's terminal  ⇄  a thread here  ⇄  master | slave  ⇄  the workload
//! the caller's file      ←  a thread here  ←  a pipe          ←
//! ```
//! The workload never holds the caller's terminal, so it can't type into it, or change what stands behind it. A
//! prompt of ours pauses the copying: the terminal is as it was before, until the prompt is done.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use rustix::io::{Errno, ioctl_fionread};

use crate::standard::{OutletKind, Outside};

/// What of the output a terminal is given.
mod filter;
/// The settings of the caller's terminal.
mod keyboard;
/// Output that goes to no terminal.
mod outlet;
/// The thread between two terminals.
mod screen;
/// A thread that can be paused.
mod worker;

use filter::Filter;
use worker::Worker;

/// The signal handler's way to the copying thread.
static RESIZED: AtomicI32 = AtomicI32::new(-1);

/// How long who reads the workload's output may take to show what was written before a prompt.
const SHOWN: Duration = Duration::from_millis(250);

/// Why the terminal can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// Its settings.
    #[error("the terminal's settings can't be {what}")]
    Settings {
        /// Read or changed.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The copying.
    #[error("the standard streams can't be copied to and from")]
    Copy(#[source] io::Error),
    /// What the workload wrote to a file or a pipe.
    #[error("the command's output could not be written to the end")]
    Output(#[source] io::Error),
}

impl ConsoleError {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            ConsoleError::Settings { .. } => "redirect standard input and output, or use another terminal",
            ConsoleError::Output(_) => "a part of the output is missing: see that its file system is not full",
            ConsoleError::Copy(_) => "too many files may be open, or too many threads run: see `ulimit -a`",
        };
        Some(text.to_owned())
    }
}

/// What of the workload's output its caller's terminal is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passed {
    /// What draws: not what acts on the terminal's owner (docs/decisions/terminal-output.md).
    Harmless,
    /// All of it.
    All,
}

/// The caller's terminal and output, connected to the workload's.
#[derive(Debug)]
pub struct Console {
    terminal: Option<Worker>,
    outlets: Vec<Worker>,
    /// Read by programs that may show what they read.
    shown_by_others: Vec<OwnedFd>,
}

/// While it lives, the terminal is as it was, and nothing of the workload appears on it.
#[derive(Debug)]
pub struct Paused<'a> {
    console: &'a Console,
}

impl Console {
    /// Connects what is outside with the workload's terminal, where it has one, and its pipes.
    pub fn attach(outside: Outside, master: Option<OwnedFd>, passed: Passed) -> Result<Console, ConsoleError> {
        let mut console = Console { terminal: None, outlets: Vec::new(), shown_by_others: Vec::new() };
        for outlet in outside.outlets {
            if outlet.kind != OutletKind::File {
                console.shown_by_others.push(outlet.to.try_clone().map_err(ConsoleError::Copy)?);
            }
            console.outlets.push(Worker::start("output", Box::new(move |ear| outlet::run(&outlet, &ear)))?);
        }
        if let (Some(caller), Some(master)) = (outside.caller, master) {
            let filter = match passed {
                Passed::Harmless => Some(Filter::default()),
                Passed::All => None,
            };
            let copier = screen::Copier::new(caller, master, filter)?;
            let worker = Worker::start("console", Box::new(move |ear| copier.run(&ear)))?;
            watch_signals(worker.word().as_raw_fd())?;
            console.terminal = Some(worker);
        }
        Ok(console)
    }

    /// Stops copying and gives the terminal back until the value is dropped.
    #[expect(clippy::disallowed_methods, reason = "that a reader has emptied its pipe is no event for the writer")]
    pub fn pause(&self) -> Paused<'_> {
        self.workers().for_each(Worker::pause);
        let patience = Instant::now() + SHOWN;
        while self.shown_by_others.iter().any(|reader| ioctl_fionread(reader).is_ok_and(|waiting| waiting > 0))
            && Instant::now() < patience
        {
            std::thread::sleep(Duration::from_millis(5));
        }
        Paused { console: self }
    }

    /// Copies what is left and gives the terminal back. Call it when the workload has ended. Comes back when all that
    /// was written has been taken, however long its reader takes for that. An error where some could not be.
    pub fn finish(mut self) -> Result<(), ConsoleError> {
        self.end();
        let ends: Vec<Result<(), Errno>> = self.outlets.iter_mut().map(Worker::finish).collect();
        ends.into_iter().collect::<Result<(), Errno>>().map_err(|errno| ConsoleError::Output(errno.into()))
    }

    fn end(&mut self) {
        RESIZED.store(-1, Ordering::SeqCst);
        if let Some(terminal) = &mut self.terminal {
            // A terminal that is gone shows nothing more.
            let _ = terminal.finish();
        }
    }

    fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.terminal.iter().chain(&self.outlets)
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // The terminal must be given back; output that nobody takes is let go with the process.
        self.end();
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.console.workers().for_each(Worker::resume);
    }
}

/// From now on a change of the terminal's size, and the return from a stop, are words to the thread.
fn watch_signals(word: libc::c_int) -> Result<(), ConsoleError> {
    RESIZED.store(word, Ordering::SeqCst);
    let handler: extern "C" fn(libc::c_int) = on_change;
    // SAFETY: an all-zero sigaction is a valid one.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART;
    for signal in [libc::SIGWINCH, libc::SIGCONT] {
        // SAFETY: the handler makes async-signal-safe calls only, and lives as long as the program.
        if unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) } != 0 {
            return Err(ConsoleError::Copy(io::Error::last_os_error()));
        }
    }
    Ok(())
}

extern "C" fn on_change(_: libc::c_int) {
    let word = RESIZED.load(Ordering::SeqCst);
    if word >= 0 {
        // SAFETY: writes one byte to a pipe by number; errno is put back for the code that was interrupted.
        unsafe {
            let errno = *libc::__errno_location();
            libc::write(word, [worker::CHANGED].as_ptr().cast(), 1);
            *libc::__errno_location() = errno;
        }
    }
}

/// Whether an attempt may be made again.
fn try_again(errno: Errno) -> bool {
    matches!(errno, Errno::INTR | Errno::AGAIN)
}

/// Whether the copying goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    On,
    End,
}
