//! A sandbox whose walls stand, a workload that runs in it, and how it ended.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use init_protocol::{Channel, ChannelError, FromInit, ToInit};

use crate::groups::ControlGroup;
use crate::launch::Child;
use crate::repository::Held;

/// What belongs to one sandbox on the host's side. When the last of it is dropped the control socket closes, init
/// exits, and the kernel kills everything inside.
#[derive(Debug)]
pub(crate) struct Handle {
    channel: Channel,
    child: Child,
    group: ControlGroup,
    held: Held,
}

impl Handle {
    pub(crate) fn new(channel: Channel, child: Child, group: ControlGroup, held: Held) -> Handle {
        Handle { channel, child, group, held }
    }

    pub(crate) fn channel(&self) -> &Channel {
        &self.channel
    }

    pub(crate) fn child(&self) -> &Child {
        &self.child
    }

    pub(crate) fn group(&self) -> &ControlGroup {
        &self.group
    }

    /// Kills everything inside and waits until the kernel is done.
    pub(crate) fn end(&self) {
        self.kill();
        self.reap();
    }

    fn kill(&self) {
        self.child.kill();
    }

    fn reap(&self) {
        self.child.reap();
        self.group.remove();
        self.held.release();
    }
}

/// Walls that stand, with nothing inside yet.
#[derive(Debug)]
pub struct Sandbox {
    handle: Arc<Handle>,
}

impl Sandbox {
    pub(crate) fn new(handle: Arc<Handle>) -> Sandbox {
        Sandbox { handle }
    }

    /// Runs the workload. Call it when the gateway listens.
    pub fn run(self) -> Result<Running, ChannelError> {
        self.handle.channel.send(&ToInit::Start, &[])?;
        Ok(Running { handle: self.handle })
    }

    /// Takes the walls down again.
    pub fn discard(self) {
        self.handle.end();
    }

    /// Init's process id, as the host sees it. The sandbox's processes are its descendants.
    pub fn init_pid(&self) -> u32 {
        self.handle.child.pid.unsigned_abs()
    }
}

/// A workload that runs.
#[derive(Debug)]
pub struct Running {
    handle: Arc<Handle>,
}

/// Reaches into a sandbox from another thread, or from a signal's handling.
#[derive(Debug, Clone)]
pub struct Remote {
    handle: Arc<Handle>,
}

impl Running {
    /// Waits for the end, until nothing of the sandbox is left.
    pub fn wait(self) -> Exit {
        let exit = self.ended();
        self.clear();
        exit
    }

    /// Waits for the end. What else runs inside is not gone yet: [`Running::clear`] sees to it.
    pub fn ended(&self) -> Exit {
        loop {
            match self.handle.channel.receive::<FromInit>() {
                Ok((FromInit::Ended { code }, _)) => break Exit::Ended { code },
                Ok((FromInit::NotRun { code, reason }, _)) => break Exit::NotRun { code, reason },
                Ok((FromInit::Failed { step, errno, hint }, _)) => break Exit::Failed { step, errno, hint },
                Ok((FromInit::Listeners { .. } | FromInit::Datagrams | FromInit::Standing { .. }, _)) => {}
                Err(_) => break Exit::Lost,
            }
        }
    }

    /// Kills what is left inside, and waits until it is gone.
    pub fn clear(self) {
        self.handle.end();
    }

    /// For other threads.
    pub fn remote(&self) -> Remote {
        Remote { handle: Arc::clone(&self.handle) }
    }

    /// Init's process id, as the host sees it.
    pub fn init_pid(&self) -> u32 {
        self.handle.child.pid.unsigned_abs()
    }

    /// Becomes readable when init ends.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.handle.child.pidfd.as_fd()
    }
}

impl Remote {
    /// Sends a signal to the workload's foreground process group.
    pub fn signal(&self, number: i32) -> Result<(), ChannelError> {
        self.handle.channel.send(&ToInit::Signal(number), &[])
    }

    /// Kills everything inside. [`Running::wait`] then returns [`Exit::Lost`].
    pub fn kill(&self) {
        self.handle.kill();
    }
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// The workload ended.
    Ended {
        /// Its exit code, or 128 and the signal.
        code: i32,
    },
    /// The workload could not be run.
    NotRun {
        /// 126: found but can't be run. 127: not found.
        code: u8,
        /// Why.
        reason: String,
    },
    /// Init failed after the walls stood.
    Failed {
        /// Where.
        step: String,
        /// What the kernel said.
        errno: i32,
        /// What to do about it.
        hint: String,
    },
    /// Init was killed, by [`Remote::kill`] or from outside: everything inside died with it.
    Lost,
}

impl Exit {
    /// The exit code of a command that ran this: the workload's own, 126 or 127, else 125.
    pub fn code(&self) -> u8 {
        match self {
            Exit::Ended { code } => u8::try_from(*code).unwrap_or(255),
            Exit::NotRun { code, .. } => *code,
            Exit::Failed { .. } | Exit::Lost => 125,
        }
    }
}
