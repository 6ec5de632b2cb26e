//! The programs that sources run, so that none outlives its use or the run.

use std::{
    io,
    os::unix::process::CommandExt as _,
    process::{Child, Command, ExitStatus},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::process::{Pid, Signal, kill_process_group};

/// The programs under way.
#[derive(Default)]
pub(crate) struct Children(Mutex<Groups>);

#[derive(Default)]
struct Groups {
    /// Process groups; each one's leader is not waited for yet, so its number is still its own.
    running: Vec<Pid>,
    ended: bool,
}

impl Children {
    /// Starts one, as the leader of a process group of its own: what it starts goes with it.
    pub(super) fn start(&self, command: &mut Command) -> io::Result<Running<'_>> {
        let child = command.process_group(0).spawn()?;
        let group = Pid::from_child(&child);
        let mut groups = self.lock();
        groups.running.push(group);
        if groups.ended {
            kill(group);
        }
        drop(groups);
        Ok(Running { children: self, child, group })
    }

    /// Kills all that run, and whatever is started from now on.
    pub(crate) fn end(&self) {
        let mut groups = self.lock();
        groups.ended = true;
        groups.running.iter().copied().for_each(kill);
    }

    fn lock(&self) -> MutexGuard<'_, Groups> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A program under way.
pub(super) struct Running<'a> {
    children: &'a Children,
    pub(super) child: Child,
    group: Pid,
}

impl Running<'_> {
    /// Ends it and what it started; how it ended, which may have been by itself.
    pub(super) fn finish(mut self) -> io::Result<ExitStatus> {
        self.children.lock().running.retain(|group| *group != self.group);
        kill(self.group);
        self.child.wait()
    }
}

fn kill(group: Pid) {
    // Where nothing is left of it, there is nothing to do.
    let _ = kill_process_group(group, Signal::KILL);
}
