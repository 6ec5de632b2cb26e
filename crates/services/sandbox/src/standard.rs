//! What this process reads and writes, and what a workload gets in its place.
//!
//! ```text
//! a terminal     → the workload's own terminal, which is copied (and is its controlling one)
//! a file         → a pipe, which is copied: who holds a file's descriptor can cut the file short
//! a pipe, socket → itself; where a person may be asked, a pipe that is copied, so that a question can hold it
//! others         → itself
//! ```
//! Standard input is the workload's as it is, unless it is a terminal.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use init_protocol::Terminal;
use rustix::fs::{FileType, Mode, OFlags, fstat};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::{isatty, tcgetwinsize};

use crate::console::ConsoleError;
use crate::streams::Streams;

/// The standard streams of this process and those of its workload.
#[derive(Debug)]
pub struct Standard {
    /// For the plan: the workload's own terminal, where this process has one.
    pub terminal: Terminal,
    /// For the start. Let it go after the start: these pipes end with the last of their writers.
    pub streams: Streams,
    /// For [`crate::Console::attach`].
    pub outside: Outside,
}

/// This process's ends of what the workload got.
#[derive(Debug, Default)]
pub struct Outside {
    pub(crate) caller: Option<Caller>,
    pub(crate) outlets: Vec<Outlet>,
}

/// The caller's terminal.
#[derive(Debug)]
pub(crate) struct Caller {
    /// Where keys come from, and whose settings count.
    pub(crate) keys: OwnedFd,
    /// Where output goes.
    pub(crate) screen: OwnedFd,
    /// Standard input is one.
    pub(crate) is_input: bool,
    /// Other programs use it too: a pipeline's.
    pub(crate) is_shared: bool,
}

/// Output that is copied.
#[derive(Debug)]
pub(crate) struct Outlet {
    pub(crate) from: OwnedFd,
    pub(crate) to: OwnedFd,
    pub(crate) kind: OutletKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutletKind {
    File,
    Pipe,
    Socket,
}

/// The caller's terminal: the one that is typed into, where standard input is none that of the output.
pub(crate) fn terminal_of(streams: [BorrowedFd<'_>; 3]) -> Option<BorrowedFd<'_>> {
    streams.into_iter().find(|stream| isatty(stream))
}

/// This process's own three.
pub(crate) fn own() -> [BorrowedFd<'static>; 3] {
    [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()]
}

impl Standard {
    /// Of this process. `asks`: a person may be asked on the terminal while the workload writes.
    pub fn of_this_process(asks: bool) -> Result<Standard, ConsoleError> {
        let own = own();
        let [input, output, errors] = own;
        let are_terminals = own.map(isatty);
        let [input_is, output_is, _] = are_terminals;
        let caller = match terminal_of(own) {
            None => None,
            Some(keys) => {
                let screen = [output, errors, input].into_iter().find(|stream| isatty(stream)).unwrap_or(keys);
                let is_shared = !(input_is && output_is);
                Some(Caller { keys: own_copy(keys)?, screen: own_copy(screen)?, is_input: input_is, is_shared })
            }
        };
        let terminal = match &caller {
            Some(caller) => {
                let (rows, columns) = size(caller.screen.as_fd());
                Terminal::New { rows, columns, streams: are_terminals }
            }
            None => Terminal::Inherit,
        };
        let mut outlets = Vec::new();
        let given_output = inside(output, asks, &mut outlets)?;
        let given_errors = match &given_output {
            Some(given) if is_same(output, errors) => Some(copy(given.as_fd())?),
            Some(_) | None => inside(errors, asks, &mut outlets)?,
        };
        let streams = [
            copy(input)?,
            given_output.map_or_else(|| copy(output), Ok)?,
            given_errors.map_or_else(|| copy(errors), Ok)?,
        ];
        Ok(Standard { terminal, streams: Streams::Given(streams), outside: Outside { caller, outlets } })
    }
}

/// What the workload writes to in place of an output, where that is copied.
fn inside(output: BorrowedFd<'_>, asks: bool, outlets: &mut Vec<Outlet>) -> Result<Option<OwnedFd>, ConsoleError> {
    let Ok(found) = fstat(output) else { return Ok(None) };
    let kind = match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => OutletKind::File,
        FileType::Fifo if asks => OutletKind::Pipe,
        FileType::Socket if asks => OutletKind::Socket,
        FileType::Fifo
        | FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Directory
        | FileType::Symlink
        | FileType::Unknown => return Ok(None),
    };
    let (from, given) = pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
    outlets.push(Outlet { from, to: copy(output)?, kind });
    Ok(Some(given))
}

/// Whether two descriptors are one open file, so that what is written to both keeps its order.
fn is_same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    /// KCMP_FILE of kcmp(2).
    const FILE: libc::c_int = 0;
    let process = rustix::process::getpid().as_raw_nonzero().get();
    // SAFETY: compares two descriptors of this process by number.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, process, process, FILE, one.as_raw_fd(), other.as_raw_fd()) };
    match (order, fstat(one), fstat(other)) {
        (0, _, _) => true,
        // A kernel without the call: the same file is taken for the same opening.
        (-1, Ok(one), Ok(other)) => (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino),
        _ => false,
    }
}

/// Opens a terminal once more, so that not to wait for it is a setting of this process alone.
fn own_copy(terminal: BorrowedFd<'_>) -> Result<OwnedFd, ConsoleError> {
    let path = format!("/proc/self/fd/{}", terminal.as_raw_fd());
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(opened) => Ok(opened),
        // Somebody else's terminal (after `su`), or one of another mount namespace.
        Err(_) => copy(terminal),
    }
}

fn copy(stream: BorrowedFd<'_>) -> Result<OwnedFd, ConsoleError> {
    stream.try_clone_to_owned().map_err(ConsoleError::Copy)
}

fn failed(errno: Errno) -> ConsoleError {
    ConsoleError::Copy(io::Error::from(errno))
}

/// Rows and columns. Some terminals do not know their size.
fn size(terminal: BorrowedFd<'_>) -> (u16, u16) {
    let or = |value: u16, usual| if value == 0 { usual } else { value };
    tcgetwinsize(terminal).map_or((24, 80), |size| (or(size.ws_row, 24), or(size.ws_col, 80)))
}
