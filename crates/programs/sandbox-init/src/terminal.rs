//! A terminal of the sandbox's own: the workload never holds the caller's.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::failure::{Failure, Step};

const HINT: &str = "the sandbox's own terminal could not be made";

/// Both ends of a pseudo-terminal of the sandbox's devpts.
pub(crate) struct PseudoTerminal {
    /// The host's end. Init keeps a copy to ask which process group is in front.
    pub(crate) master: OwnedFd,
    /// The workload's end.
    pub(crate) slave: OwnedFd,
}

/// Makes one.
pub(crate) fn open(rows: u16, columns: u16) -> Result<PseudoTerminal, Failure> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = rustix::fs::open("/dev/pts/ptmx", flags, Mode::empty()).step("terminal: open", HINT)?;
    unlockpt(&master).step("terminal: unlock", HINT)?;
    let peer = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = ioctl_tiocgptpeer(&master, peer).step("terminal: open the other end", HINT)?;
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&slave, size).step("terminal: size", HINT)?;
    Ok(PseudoTerminal { master, slave })
}
