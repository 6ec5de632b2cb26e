//! Life as PID 1: reap every child, pass signals on, and go when the workload or the host is gone.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use init_protocol::{Channel, ToInit};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, wait};

use crate::failure::{Failure, Step};
use crate::workload::foreground;

const HINT: &str = "init could not watch its children";

/// Tells when a child changed.
pub(crate) struct ChildWatch {
    descriptor: OwnedFd,
}

impl ChildWatch {
    /// From here on SIGCHLD is read, not delivered.
    pub(crate) fn new() -> Result<ChildWatch, Failure> {
        let mut children = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: the set is written by sigemptyset before it is read; the descriptor is checked before it is owned.
        let descriptor = unsafe {
            libc::sigemptyset(children.as_mut_ptr());
            libc::sigaddset(children.as_mut_ptr(), libc::SIGCHLD);
            libc::sigprocmask(libc::SIG_BLOCK, children.as_ptr(), std::ptr::null_mut());
            libc::signalfd(-1, children.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
        };
        if descriptor < 0 {
            let errno = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL);
            return Err(Failure::new("watch children", errno, HINT));
        }
        // SAFETY: signalfd made it, and nobody else has it.
        Ok(ChildWatch { descriptor: unsafe { OwnedFd::from_raw_fd(descriptor) } })
    }

    /// Forgets what was told so far: the children are asked for next.
    fn drain(&self) {
        let mut told = [0_u8; 1024];
        while rustix::io::read(&self.descriptor, told.as_mut_slice()).is_ok_and(|filled| filled > 0) {}
    }
}

/// How the wait ended.
pub(crate) enum End {
    /// The workload's exit code, or 128 and the signal.
    Workload(i32),
    /// The host is gone.
    HostGone,
}

/// Waits for the end of the workload or of the host.
pub(crate) fn watch(
    channel: &Channel,
    children: &ChildWatch,
    workload: Pid,
    terminal: Option<BorrowedFd<'_>>,
) -> Result<End, Failure> {
    loop {
        children.drain();
        if let Some(code) = reap(workload) {
            return Ok(End::Workload(code));
        }
        let mut watched =
            [PollFd::new(channel, PollFlags::IN), PollFd::from_borrowed_fd(children.descriptor.as_fd(), PollFlags::IN)];
        match poll(&mut watched, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Failure::new("wait", errno, HINT)),
        }
        let [from_host, _] = watched.map(|entry| !entry.revents().is_empty());
        if !from_host {
            continue;
        }
        match channel.receive::<ToInit>() {
            Ok((ToInit::Signal(number), _)) => {
                let group = foreground(terminal, workload);
                // SAFETY: sends a signal by number; a group that is gone, or an odd number, is refused by the kernel.
                unsafe { libc::kill(-group.as_raw_nonzero().get(), number) };
            }
            // The host speaks only these here: anything else means that it is not itself any more.
            Ok((ToInit::Begin { .. } | ToInit::Build { .. } | ToInit::Start, _)) | Err(_) => return Ok(End::HostGone),
        }
    }
}

/// Reaps every child that ended; the workload's code when it is among them.
fn reap(workload: Pid) -> Option<i32> {
    let mut ended = None;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                if pid == workload {
                    let signalled = status.terminating_signal().map(|signal| 128 + signal);
                    ended = ended.or(status.exit_status().or(signalled));
                }
            }
            Err(Errno::INTR) => {}
            Ok(None) | Err(_) => return ended,
        }
    }
}

/// Waits for the host's word to start.
pub(crate) fn await_start(channel: &Channel) -> Result<Option<()>, Failure> {
    match channel.receive::<ToInit>() {
        Ok((ToInit::Start, _)) => Ok(Some(())),
        Ok((ToInit::Begin { .. } | ToInit::Signal(_) | ToInit::Build { .. }, _)) => {
            Err(Errno::PROTO).step("await start", HINT)
        }
        Err(_) => Ok(None),
    }
}
