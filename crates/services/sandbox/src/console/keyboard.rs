//! The settings of the caller's terminal: as they were, raw for the workload, or another program's.
//!
//! Where the workload has the terminal to itself it is raw from the start: the workload's own terminal does the rest.
//! In a pipeline the other programs use it too (`run -- make | less`). There it stays as it was, for whoever reads,
//! until the workload's terminal is set otherwise (a pager, a password). What is typed while another program has
//! changed the settings is that program's: it is not read here.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::getpgrp;
use rustix::termios::{LocalModes, OptionalActions, OutputModes, Termios, tcgetattr, tcgetpgrp, tcsetattr};

use super::ConsoleError;

/// The caller's terminal as something that is typed into.
#[derive(Debug)]
pub(super) struct Keyboard {
    keys: OwnedFd,
    /// In a pipeline not known until no other program has changed it.
    before: Option<Termios>,
    /// What was set last, as the terminal has it.
    set: Option<Termios>,
    is_shared: bool,
}

/// Whose the keys are now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// The workload's, each.
    Workloads,
    /// Lines, where no other program of the pipeline reads them.
    Anybodys,
    /// Not ours: another program's, or we are in the background.
    Others,
    /// The terminal is gone.
    Nobodys,
}

impl Keyboard {
    pub(super) fn new(keys: OwnedFd, is_shared: bool) -> Result<Keyboard, ConsoleError> {
        let now = tcgetattr(&keys).map_err(|errno| ConsoleError::Settings { what: "read", source: errno.into() })?;
        let before = (!is_shared || takes_lines(&now)).then_some(now);
        Ok(Keyboard { keys, before, set: None, is_shared })
    }

    pub(super) fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// Sets the terminal as the workload's own wants it, unless another program has it.
    pub(super) fn follow(&mut self, workloads: BorrowedFd<'_>) -> Whose {
        if !self.in_front() {
            return Whose::Others;
        }
        let Ok(now) = tcgetattr(&self.keys) else { return Whose::Nobodys };
        let before = match &self.before {
            Some(before) => before.clone(),
            None if takes_lines(&now) => self.before.insert(now.clone()).clone(),
            None => return Whose::Others,
        };
        let set_here = self.set.as_ref().is_some_and(|set| is_same(set, &now));
        if self.is_shared && !set_here && !is_same(&before, &now) {
            return Whose::Others;
        }
        let (settings, whose) = match tcgetattr(workloads) {
            Ok(inside) if self.is_shared => like(&inside, before),
            Ok(_) | Err(_) => (raw(&before), Whose::Workloads),
        };
        if !is_same(&settings, &now) {
            if tcsetattr(&self.keys, OptionalActions::Now, &settings).is_err() {
                return Whose::Nobodys;
            }
            // Read back: a terminal need not take all of it.
            self.set = tcgetattr(&self.keys).ok();
        }
        whose
    }

    /// As it was, where it is not another program's by now.
    pub(super) fn restore(&mut self) {
        let Ok(now) = tcgetattr(&self.keys) else { return };
        let set_here = self.set.take().is_some_and(|set| is_same(&set, &now));
        if set_here && self.in_front() {
            // A terminal that is gone needs nothing.
            let _ = self.before.as_ref().map(|before| tcsetattr(&self.keys, OptionalActions::Drain, before));
        }
    }

    /// In the background the terminal is not touched. One that controls nobody here has no foreground.
    fn in_front(&self) -> bool {
        match tcgetpgrp(&self.keys) {
            Ok(foreground) => foreground == getpgrp(),
            Err(Errno::IO) => false,
            // No job control: not our controlling terminal, or its foreground lives in an outer pid namespace.
            Err(_) => true,
        }
    }
}

impl AsFd for Keyboard {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.keys.as_fd()
    }
}

/// In a pipeline: raw where the workload's terminal has become anything but one that takes lines and echoes them.
fn like(inside: &Termios, before: Termios) -> (Termios, Whose) {
    if takes_lines(inside) {
        return (before, Whose::Anybodys);
    }
    let mut raw = raw(&before);
    if inside.output_modes.contains(OutputModes::OPOST) {
        // The others write lines too.
        raw.output_modes = before.output_modes;
    }
    (raw, Whose::Workloads)
}

/// As a terminal is for a program that asks nothing of it.
fn takes_lines(settings: &Termios) -> bool {
    settings.local_modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
}

fn raw(before: &Termios) -> Termios {
    let mut raw = before.clone();
    raw.make_raw();
    raw
}

fn is_same(one: &Termios, other: &Termios) -> bool {
    (one.input_modes, one.output_modes, one.local_modes) == (other.input_modes, other.output_modes, other.local_modes)
}
