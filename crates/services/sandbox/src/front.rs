//! The thin front: a process that survives the gateway.
//!
//! `cofferdam run` forks once, before it has a thread. The child goes on and becomes the gateway; this parent keeps
//! nothing but the wait for it. When the gateway is killed, the front is still there: it gives the terminal back as
//! it was, says what the gateway can't do any more, and ends with 125, so that nobody mistakes the workload's
//! disappearance for success. When the front is killed, the gateway dies with it, and with the gateway the sandbox.

use std::io::{self, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{DumpableBehavior, Pid, Signal, getppid, set_dumpable_behavior, set_parent_process_death_signal};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::standard;

/// Cofferdam failed.
const FAILED: i32 = 125;
/// What the front passes on. The others either can't be caught, or stop and continue both processes alike.
const PASSED_ON: [i32; 7] =
    [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2, libc::SIGWINCH];

/// Why there is no front.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// Only a process with one thread can be copied.
    #[error("the front must be made before any thread")]
    Threads,
    /// The kernel refused.
    #[error("the front can't be made")]
    Fork(#[source] io::Error),
}

impl GuardError {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            GuardError::Threads => None,
            GuardError::Fork(_) => {
                Some("a limit on processes may be reached: see `ulimit -u` and free memory".to_owned())
            }
        }
    }
}

/// The longest word that is left with the front: as much as a pipe takes at once.
const LONGEST_WORD: usize = 4096;

/// The gateway's side of the front.
#[derive(Debug)]
pub struct Front {
    words: OwnedFd,
}

impl Front {
    /// Leaves a word with the front, to be said only if the gateway is killed: what it then can't do any more.
    pub fn leave_word(&self, text: &str) {
        let end = text.floor_char_boundary(LONGEST_WORD - 1);
        let line = format!("{}\n", text.get(..end).unwrap_or_default());
        // A front that is gone took the gateway with it.
        let _ = rustix::io::write(&self.words, line.as_bytes());
    }
}

/// Forks. Comes back in the child only; the parent ends with the child's code, or with 125 when it was killed.
pub fn guard() -> Result<Front, GuardError> {
    if std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() > 1) {
        return Err(GuardError::Threads);
    }
    let terminal =
        standard::terminal_of(standard::own()).and_then(|terminal| Some((terminal, tcgetattr(terminal).ok()?)));
    let watched = signals(&[&PASSED_ON[..], &[libc::SIGCHLD]].concat());
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: both sets are live; this is the only thread.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const watched, before.as_mut_ptr()) };
    let front = rustix::process::getpid();
    let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
    let (left, words) = pipe_with(flags).map_err(|errno| GuardError::Fork(errno.into()))?;
    // SAFETY: there is one thread, so the child is a whole program.
    match unsafe { libc::fork() } {
        -1 => Err(GuardError::Fork(io::Error::last_os_error())),
        0 => {
            // SAFETY: the set was filled by the call above.
            unsafe { libc::sigprocmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
            drop(left);
            die_with(front).map_err(|errno| GuardError::Fork(errno.into()))?;
            Ok(Front { words })
        }
        child => {
            drop(words);
            let ended = watch(child, &watched);
            std::process::exit(end(ended, terminal.as_ref(), &left))
        }
    }
}

/// Nobody but root may read this process's memory or be its debugger, and it leaves no core.
pub fn make_undumpable() -> Result<(), io::Error> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(io::Error::from)
}

/// In the child: no gateway without its front.
fn die_with(front: Pid) -> Result<(), Errno> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != Some(front) {
        // It died before the line above.
        std::process::exit(FAILED);
    }
    Ok(())
}

/// How the gateway ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Exited(i32),
    Killed(i32),
}

/// Waits for the child, passing signals on.
fn watch(child: libc::pid_t, watched: &libc::sigset_t) -> Ended {
    loop {
        if let Some(ended) = reap(child) {
            return ended;
        }
        let mut information = MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: the set is live, and the kernel fills the information it is given.
        let signal = unsafe { libc::sigwaitinfo(watched, information.as_mut_ptr()) };
        // SAFETY: zeroed is a valid value, and the call above may have filled it.
        let from_kernel = unsafe { information.assume_init() }.si_code > 0;
        // What the terminal sends reaches the whole foreground group: the gateway has it already.
        if PASSED_ON.contains(&signal) && !from_kernel {
            // SAFETY: the child is not reaped, so its number is still its own.
            unsafe { libc::kill(child, signal) };
        }
    }
}

fn reap(child: libc::pid_t) -> Option<Ended> {
    let mut status = 0;
    // SAFETY: writes to a live integer.
    let reaped = unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) };
    if reaped != child {
        return None;
    }
    if libc::WIFEXITED(status) {
        return Some(Ended::Exited(libc::WEXITSTATUS(status)));
    }
    libc::WIFSIGNALED(status).then(|| Ended::Killed(libc::WTERMSIG(status)))
}

fn end(ended: Ended, terminal: Option<&(BorrowedFd<'_>, Termios)>, left: &OwnedFd) -> i32 {
    match ended {
        Ended::Exited(code) => code,
        Ended::Killed(signal) => {
            if let Some((terminal, settings)) = terminal {
                // The gateway may have left it raw. A terminal that is gone needs nothing.
                let _ = tcsetattr(terminal, OptionalActions::Now, settings);
            }
            // The code says it, too, where nobody reads.
            let _ = writeln!(
                io::stderr(),
                "cofferdam: the gateway was killed (signal {signal}); everything in the sandbox was killed with it"
            );
            let mut words = [0; LONGEST_WORD];
            let length = rustix::io::read(left, &mut words).unwrap_or(0);
            for line in String::from_utf8_lossy(words.get(..length).unwrap_or_default()).lines() {
                let _ = writeln!(io::stderr(), "cofferdam: {line}");
            }
            FAILED
        }
    }
}

fn signals(numbers: &[i32]) -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset fills the set before anything reads it.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for number in numbers {
            libc::sigaddset(set.as_mut_ptr(), *number);
        }
        set.assume_init()
    }
}
