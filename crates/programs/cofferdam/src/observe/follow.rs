//! Waiting for new lines of a record: the kernel tells when its folder or file changes (inotify(7)), and when the
//! process that writes it ends. Rotation gives the path to a new file; the old one is read to its end first.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::Path,
};

use anyhow::{Context as _, Result};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::inotify::{self, CreateFlags, WatchFlags},
    process::{Pid, PidfdFlags, pidfd_open},
};

use crate::files;

/// Gives every line from the file's beginning on, until the writer ends. Without a writer: until interrupted.
pub(super) fn follow(path: &Path, writer: Option<u32>, take: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    let changes = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let wanted = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::DELETE_SELF;
    inotify::add_watch(&changes, folder, wanted).with_context(|| format!("watching {}", folder.display()))?;
    // Registered first, read then: nothing written in between is missed.
    let ended =
        writer.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
    let ended = match ended {
        Some(Ok(ended)) => Some(ended),
        Some(Err(_)) => return Tail::open(path)?.read(take),
        None => None,
    };
    let mut tail = Tail::open(path)?;
    loop {
        tail.read(take)?;
        if tail.was_replaced(path) {
            tail.read(take)?;
            tail = Tail::open(path)?;
            continue;
        }
        if !wait(&changes, ended.as_ref())? {
            return tail.read(take);
        }
    }
}

/// Waits for a change; `false` when the writer ended.
fn wait(changes: &OwnedFd, ended: Option<&OwnedFd>) -> Result<bool> {
    let mut descriptors = vec![PollFd::new(changes, PollFlags::IN)];
    descriptors.extend(ended.map(|ended| PollFd::new(ended, PollFlags::IN)));
    loop {
        match poll(&mut descriptors, None) {
            Err(rustix::io::Errno::INTR) => {}
            other => {
                other?;
                break;
            }
        };
    }
    let over = descriptors.get(1).is_some_and(|ended| !ended.revents().is_empty());
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(changes, &mut buffer);
    // Which change it was makes no difference; they are only taken out of the queue.
    while reader.next().is_ok() {}
    Ok(!over)
}

/// A file read line by line; a line without its end waits for the rest.
struct Tail {
    reader: BufReader<File>,
    inode: u64,
    partial: Vec<u8>,
}

impl Tail {
    fn open(path: &Path) -> Result<Self> {
        let file = files::open_or_given(path).with_context(|| format!("opening {}", path.display()))?;
        let inode = file.metadata()?.ino();
        Ok(Self { reader: BufReader::new(file), inode, partial: Vec::new() })
    }

    fn read(&mut self, take: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
        while self.reader.read_until(b'\n', &mut self.partial)? > 0 {
            if self.partial.ends_with(b"\n") {
                take(&String::from_utf8_lossy(&self.partial))?;
                self.partial.clear();
            }
        }
        Ok(())
    }

    fn was_replaced(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|found| found.ino() != self.inode)
    }
}
