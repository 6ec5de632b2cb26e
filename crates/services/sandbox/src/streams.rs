//! The workload's standard streams, and which of them would be a way out.
//!
//! An inherited descriptor is a hole in every namespace. A pipe, a file or a connected Unix stream
//! (what a parent process hands out) leads to whoever made it and nowhere else. A folder leads to every file above
//! it, a network or datagram socket to the host's network, and a terminal to whoever types on it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Gid, OFlags, Uid, fchown, fcntl_getfl, fstat, fstatfs};
use rustix::net::{AddressFamily, SocketType, getpeername, sockopt};
use rustix::termios::isatty;

use crate::error::StartError;
use crate::identity::Ids;

/// Where the workload reads and writes, where it does not use a terminal of its own.
#[derive(Debug, Default)]
pub enum Streams {
    /// This process's own.
    #[default]
    Inherit,
    /// These: standard input, output and error.
    Given([OwnedFd; 3]),
}

const NAMES: [&str; 3] = ["standard input", "standard output", "standard error"];

/// Refuses what leads past the walls.
pub(crate) fn check(streams: [BorrowedFd<'_>; 3]) -> Result<(), StartError> {
    for (stream, name) in streams.into_iter().zip(NAMES) {
        if let Some(what) = leads_out(stream) {
            return Err(StartError::Stream { stream: name, what });
        }
    }
    Ok(())
}

fn leads_out(stream: BorrowedFd<'_>) -> Option<&'static str> {
    let Ok(found) = fstat(stream) else { return Some("not open") };
    if fcntl_getfl(stream).is_ok_and(|flags| flags.contains(OFlags::PATH)) {
        return Some("a place in the host's file system");
    }
    if isatty(stream) {
        return Some("a terminal");
    }
    match FileType::from_raw_mode(found.st_mode) {
        FileType::Fifo | FileType::RegularFile | FileType::CharacterDevice => None,
        FileType::Socket => leads_to_network(stream),
        FileType::Directory => Some("a folder"),
        FileType::BlockDevice => Some("a block device"),
        FileType::Symlink | FileType::Unknown => Some("neither a file, a pipe nor a terminal"),
    }
}

fn leads_to_network(stream: BorrowedFd<'_>) -> Option<&'static str> {
    let unix = sockopt::socket_domain(stream).is_ok_and(|domain| domain == AddressFamily::UNIX);
    let kind = sockopt::socket_type(stream);
    let ordered = kind.is_ok_and(|kind| kind == SocketType::STREAM || kind == SocketType::SEQPACKET);
    match (unix && ordered, getpeername(stream).is_ok()) {
        (true, true) => None,
        (true, false) => Some("a socket that is not connected"),
        (false, _) => Some("a network or datagram socket"),
    }
}

/// Gives the anonymous pipes among them to a sandbox of root: `/dev/stderr` opens a pipe once more, as its owner.
/// Nothing is known by a pipe's owner but that. A file of the caller stays the caller's.
pub(crate) fn give(streams: [BorrowedFd<'_>; 3], sandbox: Ids) {
    const PIPES: u64 = 0x5049_5045;
    let (uid, gid) = (Uid::from_raw(sandbox.uid), Gid::from_raw(sandbox.gid));
    for stream in streams {
        if fstatfs(stream).is_ok_and(|found| u64::try_from(found.f_type).is_ok_and(|kind| kind == PIPES)) {
            // Where it is refused, a program that opens its standard error by name is told so.
            let _ = fchown(stream, Some(uid), Some(gid));
        }
    }
}

/// `/dev/null`, three times.
pub(crate) fn nothing() -> Result<[OwnedFd; 3], StartError> {
    let open = || {
        let file = std::fs::File::options().read(true).write(true).open("/dev/null");
        file.map(OwnedFd::from).map_err(|source| StartError::Read { path: "/dev/null".into(), source })
    };
    Ok([open()?, open()?, open()?])
}

/// These, but nothing in place of those that are a terminal of the workload's own.
pub(crate) fn without<'a>(
    given: [BorrowedFd<'a>; 3],
    on_terminal: [bool; 3],
    nothing: &'a [OwnedFd; 3],
) -> [BorrowedFd<'a>; 3] {
    let [input, output, errors] = given;
    let [no_input, no_output, no_errors] = borrow(nothing);
    let [own_input, own_output, own_errors] = on_terminal;
    [
        if own_input { no_input } else { input },
        if own_output { no_output } else { output },
        if own_errors { no_errors } else { errors },
    ]
}

/// The three as borrowed descriptors.
pub(crate) fn borrow(streams: &[OwnedFd; 3]) -> [BorrowedFd<'_>; 3] {
    let [input, output, errors] = streams;
    [input.as_fd(), output.as_fd(), errors.as_fd()]
}
