//! What git would run in one repository, as it is on the disk now, and how it is told whether that is what was there.
//!
//! Text is compared where it was kept; what was too large for that, by what the kernel says of the file: it changes the
//! time of a change itself, so nobody can write one back.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat};
use rustix::io::Errno;

/// Files with settings.
pub(super) const SETTINGS: [&str; 2] = ["config", "config.worktree"];
/// Larger files than this are not read: no repository has such, and what can't be read is not trusted.
const LARGEST: u64 = 1 << 20;
/// How much text is kept at once.
pub(super) const MOST_TEXT: u64 = 64 << 20;
/// What git runs from a folder of hooks (githooks(5)), and what Microsoft's git does.
#[rustfmt::skip]
const HOOKS: [&str; 33] = [
    "applypatch-msg", "commit-msg", "fsmonitor-watchman", "p4-changelist", "p4-post-changelist", "p4-pre-submit",
    "p4-prepare-changelist", "post-applypatch", "post-checkout", "post-command", "post-commit", "post-index-change",
    "post-indexchanged", "post-merge", "post-receive", "post-rewrite", "post-update", "pre-applypatch", "pre-auto-gc",
    "pre-command", "pre-commit", "pre-merge-commit", "pre-push", "pre-rebase", "pre-receive", "prepare-commit-msg",
    "proc-receive", "push-to-checkout", "read-object", "reference-transaction", "sendemail-validate", "update",
    "virtual-filesystem",
];

/// What git would run in one repository.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    pub(super) settings: BTreeMap<&'static str, Content>,
    pub(super) hooks: BTreeMap<&'static str, Content>,
    /// Where the hooks lie, where that is a link.
    pub(super) hooks_link: Option<OsString>,
    pub(super) common: Option<Content>,
    pub(super) rebase: Option<Content>,
}

/// A file.
#[derive(Debug, Clone)]
pub(super) struct Content {
    text: Text,
    /// The file, and what it leads to where it is a link, as the kernel describes them.
    stamp: [Option<String>; 2],
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Text {
    Own(Vec<u8>),
    /// A link, and what it leads to.
    Link(OsString, Option<Vec<u8>>),
    /// Too large, or not to be read.
    Unknown,
}

impl Facts {
    /// Reads them, keeping as much text as is left to keep.
    pub(super) fn read(folder: &OwnedFd, left: &mut u64) -> Facts {
        let mut one = |name| Content::read(folder, OsStr::new(name), left);
        let settings = SETTINGS.into_iter().filter_map(|name| Some((name, one(name)?))).collect();
        let (common, rebase) = (one("commondir"), one("rebase-merge/git-rebase-todo"));
        Facts { settings, hooks: hooks(folder, left), hooks_link: link(folder, "hooks"), common, rebase }
    }
}

/// The hooks of a repository, by the names that git knows: what else lies there does not matter.
fn hooks(folder: &OwnedFd, left: &mut u64) -> BTreeMap<&'static str, Content> {
    // Git needs no more than to pass through.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(hooks) = openat(folder, "hooks", flags, Mode::empty()) else { return BTreeMap::new() };
    HOOKS.into_iter().filter_map(|name| Some((name, Content::read(&hooks, OsStr::new(name), left)?))).collect()
}

fn link(folder: &OwnedFd, name: &str) -> Option<OsString> {
    readlinkat(folder, name, Vec::new()).ok().map(|to| OsStr::from_bytes(to.to_bytes()).to_owned())
}

fn stamp(found: &Stat) -> String {
    let (written, changed) = ((found.st_mtime, found.st_mtime_nsec), (found.st_ctime, found.st_ctime_nsec));
    format!("{} {} {} {} {written:?} {changed:?}", found.st_dev, found.st_ino, found.st_mode, found.st_size)
}

impl Content {
    pub(super) fn read(folder: &OwnedFd, name: &OsStr, left: &mut u64) -> Option<Content> {
        let described = |flags| statat(folder, name, flags).ok().map(|found| stamp(&found));
        let stamp = [described(AtFlags::SYMLINK_NOFOLLOW), described(AtFlags::empty())];
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let mut text = |flags| -> Result<Vec<u8>, Errno> {
            let file = File::from(openat(folder, name, flags, Mode::empty())?);
            let found = fstat(&file)?;
            if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
                return Err(Errno::INVAL);
            }
            let most = LARGEST.min(*left);
            let mut text = Vec::new();
            let read = file.take(most + 1).read_to_end(&mut text);
            read.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
            let length = text.len() as u64;
            *left = left.saturating_sub(if length > most { 0 } else { length });
            if length > most { Err(Errno::FBIG) } else { Ok(text) }
        };
        let text = match text(flags | OFlags::NOFOLLOW) {
            Ok(text) => Text::Own(text),
            Err(Errno::NOENT | Errno::NOTDIR) => return None,
            Err(Errno::LOOP) => {
                let to = readlinkat(folder, name, Vec::new()).ok()?;
                Text::Link(OsStr::from_bytes(to.to_bytes()).to_owned(), text(flags).ok())
            }
            Err(_) => Text::Unknown,
        };
        Some(Content { text, stamp })
    }

    /// Whether this is what was there before.
    pub(super) fn is_same(&self, before: Option<&Content>) -> bool {
        let Some(before) = before else { return false };
        let is_read = self.text().is_some();
        (is_read && self.text == before.text)
            || (self.stamp.first().is_some_and(Option::is_some) && self.stamp == before.stamp)
    }

    pub(super) fn is_link(&self) -> bool {
        matches!(self.text, Text::Link(..))
    }

    pub(super) fn text(&self) -> Option<&[u8]> {
        match &self.text {
            Text::Own(text) | Text::Link(_, Some(text)) => Some(text),
            Text::Link(_, None) | Text::Unknown => None,
        }
    }

    /// Whether git reads this path in it: it drops ends of lines and no spaces.
    pub(super) fn is_path(&self, expected: &str) -> bool {
        let Text::Own(text) = &self.text else { return false };
        std::str::from_utf8(text).is_ok_and(|text| text.trim_end_matches(['\n', '\r']) == expected)
    }

    /// Whether a list of steps has one that runs a program.
    pub(super) fn runs_something(&self) -> bool {
        let Some(text) = self.text() else { return true };
        text.split(|byte| *byte == b'\n').any(|line| {
            let word = line.trim_ascii_start().split(u8::is_ascii_whitespace).next();
            matches!(word, Some(b"exec" | b"x"))
        })
    }
}
