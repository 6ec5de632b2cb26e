//! Opening: the lock, the chain that is there, a torn last line.

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder},
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt, FileExt},
    },
    path::{Path, PathBuf},
};

use audit_event::{Broken, BrokenReason, Chain, Event, MAX_LINE, Position, RunContext, SaltKey, Verifier, VerifyError};
use rustix::{
    fs::{AtFlags, FileType, FlockOperation, Mode, OFlags},
    io::Errno,
    rand::GetRandomFlags,
};

use crate::{
    files::{beside, closed_name, closed_numbers, folder},
    flush::Progress,
    log::{Durability, Options, RecordError},
    rotate::{OPEN, PRIVATE},
    writer::{Active, Mark, Writer},
};

/// How much of the end is read at first; a line longer than this makes it more.
const TAIL: u64 = 64 << 10;

/// Why a log can't be opened. Without it nothing may run.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The path names no file.
    #[error("{} names no file", path.display())]
    NoName {
        /// The path.
        path: PathBuf,
    },
    /// Its folder can't be made or opened.
    #[error("can't use the folder of {}", path.display())]
    Folder {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process writes this log.
    #[error("{} is being written, or held locked, by another process", path.display())]
    Busy {
        /// The path.
        path: PathBuf,
    },
    /// The file can't be opened, read, cut or locked.
    #[error("can't use {}", path.display())]
    File {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A device, a pipe, a symbolic link or a file with two names.
    #[error("{} is no ordinary file with one name", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The chain that is there is broken at its end, or this is no log.
    #[error("{} does not end in an unbroken chain of events", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// Where.
        #[source]
        source: Broken,
    },
    /// The operating system gives no random bytes.
    #[error("no random bytes for the salts")]
    Random {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The flush thread can't be started.
    #[error("can't start the thread that flushes the log")]
    Thread {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A torn last line was moved aside, but that can't be recorded.
    #[error("can't record that a torn line was moved aside")]
    Recovered {
        /// Why.
        #[source]
        source: RecordError,
    },
}

/// A log that is open, and the event to record first.
pub(crate) struct Opened {
    pub(crate) writer: Writer,
    pub(crate) recovered: Option<Event>,
}

/// Opens the log at `path` for events of one context.
pub(crate) fn open(path: &Path, context: &RunContext, options: Options) -> Result<Opened, OpenError> {
    let name = path.file_name().ok_or_else(|| OpenError::NoName { path: path.to_owned() })?;
    let directory = open_folder(path)?;
    let active = open_file(path, name, &directory)?;
    lock(path, name, &directory, &active)?;
    let file_error = |source: io::Error| OpenError::File { path: path.to_owned(), source };
    let numbers = closed_numbers(folder(path), name).map_err(file_error)?;

    let file = fs::File::from(active);
    let tail = read_tail(path, &file)?;
    let recovered = match tail.torn {
        0 => None,
        torn => Some(
            move_torn(path, name, &directory, &file, &tail).map(|file| Event::AuditRecovered { file, bytes: torn })?,
        ),
    };
    let stat = rustix::fs::fstat(&file).map_err(|errno| file_error(errno.into()))?;
    let position = match (tail.last, numbers.last()) {
        (Some(last), _) => last,
        (None, Some(newest)) => position_of_closed(&path.with_file_name(closed_name(name, *newest)))?,
        (None, None) => Position::START,
    };
    let written = Mark { position, length: tail.end, first: tail.first.unwrap_or(position.seq + 1) };
    if options.durability == Durability::Fsync {
        // The lines of an earlier writer count from here on, and so does the file's name.
        rustix::fs::fdatasync(&file).and_then(|()| rustix::fs::fsync(&directory)).map_err(|e| file_error(e.into()))?;
    }
    let writer = Writer {
        path: path.to_owned(),
        name: name.to_owned(),
        folder: directory,
        active: Active::new(file.into(), &stat),
        chain: Chain::new(context, position, random_key()?),
        buffer: Vec::new(),
        written,
        durable: written,
        unclean: false,
        ended: None,
        rotate_at: options.rotate_bytes,
        next_closed: numbers.last().map_or(1, |newest| newest + 1),
        recorded: 0,
        progress: Progress::new(position.seq),
        progressed: false,
        options,
    };
    Ok(Opened { writer, recovered })
}

fn open_folder(path: &Path) -> Result<OwnedFd, OpenError> {
    let error = |source| OpenError::Folder { path: path.to_owned(), source };
    // Only folders that are made here are private; somebody else's keep their mode.
    DirBuilder::new().recursive(true).mode(0o700).create(folder(path)).map_err(error)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(folder(path), flags, Mode::empty()).map_err(|errno| error(errno.into()))
}

/// Locks the log's own file: a file made for that could be held, or replaced, by who may write the folder.
fn lock(path: &Path, name: &OsStr, directory: &OwnedFd, file: &OwnedFd) -> Result<(), OpenError> {
    let file_error = |errno: Errno| OpenError::File { path: path.to_owned(), source: errno.into() };
    let busy = || OpenError::Busy { path: path.to_owned() };
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Err(busy()),
        Err(errno) => return Err(file_error(errno)),
    }
    // Its writer may have closed it meanwhile, to go on in another.
    let held = rustix::fs::fstat(file).map_err(file_error)?;
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) if (found.st_dev, found.st_ino) == (held.st_dev, held.st_ino) => Ok(()),
        Ok(_) | Err(Errno::NOENT) => Err(busy()),
        Err(errno) => Err(file_error(errno)),
    }
}

/// Opens an ordinary file of the log. Nothing else is waited for, nor written.
fn open_file(path: &Path, name: &OsStr, directory: &OwnedFd) -> Result<OwnedFd, OpenError> {
    let not_a_file = || OpenError::NotAFile { path: path.with_file_name(name) };
    let file_error = |errno: Errno| OpenError::File { path: path.with_file_name(name), source: errno.into() };
    let file = match rustix::fs::openat(directory, name, OPEN | OFlags::NONBLOCK | OFlags::NOCTTY, PRIVATE) {
        Ok(file) => file,
        Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => return Err(not_a_file()),
        Err(errno) => return Err(file_error(errno)),
    };
    let stat = rustix::fs::fstat(&file).map_err(file_error)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_nlink != 1 {
        return Err(not_a_file());
    }
    Ok(file)
}

/// The end of a file of the log.
struct Tail {
    /// Where the last whole line ends.
    end: u64,
    /// The bytes behind it.
    torn: u64,
    /// The last line, where there is one.
    last: Option<Position>,
    /// The first line's number, where there is one.
    first: Option<u64>,
}

/// Reads the end of a file and verifies the lines there.
fn read_tail(path: &Path, file: &fs::File) -> Result<Tail, OpenError> {
    let file_error = |source: io::Error| OpenError::File { path: path.to_owned(), source };
    let length = file.metadata().map_err(file_error)?.len();
    let mut size = TAIL;
    loop {
        let start = length.saturating_sub(size);
        let mut bytes = vec![0; usize::try_from(length - start).unwrap_or(0)];
        file.read_exact_at(&mut bytes, start).map_err(file_error)?;
        let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let (whole, torn) = bytes.split_at(end);
        // What begins before the part that was read can't be checked.
        let skipped = match start {
            0 => Some(0),
            _ => whole.iter().position(|byte| *byte == b'\n').map(|at| at + 1).filter(|at| *at < end),
        };
        let Some(skipped) = skipped else {
            if size > 2 * MAX_LINE as u64 {
                let source = Broken { seq: 0, line: 0, reason: BrokenReason::TooLong };
                return Err(OpenError::Broken { path: path.to_owned(), source });
            }
            size *= 8;
            continue;
        };
        let (_, lines) = whole.split_at(skipped);
        let last = verify_lines(path, lines)?;
        let first = match last {
            Some(_) => Some(first_number(path, file)?),
            None => None,
        };
        return Ok(Tail { end: start + end as u64, torn: torn.len() as u64, last, first });
    }
}

fn verify_lines(path: &Path, lines: &[u8]) -> Result<Option<Position>, OpenError> {
    let mut verifier = Verifier::default();
    match verifier.read(lines) {
        Ok(()) => {}
        Err(VerifyError::Broken(source)) => return Err(OpenError::Broken { path: path.to_owned(), source }),
        Err(VerifyError::Read(source)) => return Err(OpenError::File { path: path.to_owned(), source }),
    }
    let verified = verifier.finish();
    Ok((verified.events > 0).then_some(verified.last))
}

/// The number of a file's first line.
fn first_number(path: &Path, file: &fs::File) -> Result<u64, OpenError> {
    let file_error = |source: io::Error| OpenError::File { path: path.to_owned(), source };
    let mut head = Vec::new();
    let mut chunk = [0; 8 << 10];
    while !head.contains(&b'\n') && head.len() <= MAX_LINE {
        let read = file.read_at(&mut chunk, head.len() as u64).map_err(file_error)?;
        if read == 0 {
            break;
        }
        head.extend_from_slice(chunk.get(..read).unwrap_or_default());
    }
    let line = head.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
    let mut verifier = Verifier::default();
    match verifier.read(line) {
        Ok(()) => Ok(verifier.finish().last.seq),
        Err(VerifyError::Broken(source)) => Err(OpenError::Broken { path: path.to_owned(), source }),
        Err(VerifyError::Read(source)) => Err(file_error(source)),
    }
}

/// Moves the piece of a line that a stopped writer left into a file of its own, and says its name.
fn move_torn(
    path: &Path,
    name: &OsStr,
    directory: &OwnedFd,
    file: &fs::File,
    tail: &Tail,
) -> Result<String, OpenError> {
    let aside = beside(name, ".torn");
    let mut side_file = fs::File::from(open_file(path, &aside, directory)?);
    let moved = usize::try_from(tail.torn).map_err(io::Error::other).and_then(|length| {
        let mut piece = vec![0; length];
        file.read_exact_at(&mut piece, tail.end)?;
        piece.push(b'\n');
        io::Write::write_all(&mut side_file, &piece)?;
        side_file.sync_data()?;
        file.set_len(tail.end)
    });
    moved.map_err(|source| OpenError::File { path: path.to_owned(), source })?;
    Ok(aside.to_string_lossy().into_owned())
}

fn position_of_closed(path: &Path) -> Result<Position, OpenError> {
    let file_error = |source: io::Error| OpenError::File { path: path.to_owned(), source };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| file_error(errno.into()))?;
    Ok(read_tail(path, &fs::File::from(file))?.last.unwrap_or(Position::START))
}

fn random_key() -> Result<SaltKey, OpenError> {
    let mut bytes = [0; 32];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match rustix::rand::getrandom(rest, GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(OpenError::Random { source: errno.into() }),
        }
    }
    Ok(SaltKey::from_random(bytes))
}
