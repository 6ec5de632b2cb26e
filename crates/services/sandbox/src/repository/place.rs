//! Disarms what git would run in a repository's folder: moves it aside, or takes it out.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RawMode, RenameFlags, Uid};
use rustix::fs::{chmod, fchmod, fchown, fstat, openat, renameat, renameat_with, statat};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

use super::facts::{Content, Facts, SETTINGS};
use super::settings::{Setting, Settings, write};
use super::watch::AtTheEnd;

/// Tries to find a free name beside a file: from the fifth on, names that nobody can guess.
const MOST_NAMES: u32 = 20;

/// A repository's folder at the end.
pub(super) struct Place<'a> {
    pub(super) folder: &'a OwnedFd,
    pub(super) path: &'a Path,
    pub(super) window: &'a Path,
    pub(super) is_new: bool,
}

impl Place<'_> {
    /// Takes harmful settings out of a file.
    pub(super) fn settings(&self, name: &str, before: Option<&Content>, now: Option<&Content>, end: &mut AtTheEnd) {
        let Some(now) = now.filter(|now| !now.is_same(before)) else { return };
        let path = self.path.join(name);
        let known = before.map(|before| self.harmful(before).0).unwrap_or_default();
        let known: HashSet<&Setting> = known.iter().collect();
        let (mut harmful, broken) = self.harmful(now);
        harmful.retain(|setting| !known.contains(setting));
        let is_link = now.is_link();
        if harmful.is_empty() && !broken && !is_link {
            // One that says nothing means what none means: another run may hold its place.
            if !self.is_new && now.text().is_some_and(|text| !text.trim_ascii().is_empty()) {
                end.changed.push(format!("{} was changed while the command ran", path.display()));
            }
            return;
        }
        let mut names: Vec<String> = harmful.iter().map(Setting::name).collect();
        names.dedup();
        let why = match (names.is_empty(), is_link) {
            (false, _) => format!("git would have run what these settings name: {}", bounded(&names)),
            (true, true) => "it is a symbolic link".to_owned(),
            (true, false) => "it can't be read in one way only".to_owned(),
        };
        match self.replace_settings(name, now, &harmful) {
            Ok(Disarmed::Aside(aside)) => end.harmful.push(format!(
                "{}: {why}. What could be harmful was taken out; the file as it was is {}",
                path.display(),
                self.path.join(aside).display()
            )),
            Ok(Disarmed::Emptied) => {
                end.harmful.push(format!("{}: {why}. What could be harmful was taken out", path.display()));
            }
            Err(error) => end.failed.push(format!(
                "could not be moved aside ({error}), do not use git there before you read it: {why}: {}",
                path.display()
            )),
        }
    }

    /// The harmful settings of a file, and whether there is more that can't be read.
    fn harmful(&self, content: &Content) -> (Vec<Setting>, bool) {
        match content.text() {
            Some(text) => {
                let settings = Settings::parse(text);
                (settings.harmful(&|path| self.is_inside(path)), settings.broken)
            }
            None => (Vec::new(), true),
        }
    }

    /// Whether a path in a setting stays where the workload could write anyway.
    fn is_inside(&self, path: &str) -> bool {
        fs::canonicalize(self.path.join(path)).is_ok_and(|path| path.starts_with(self.window))
    }

    fn replace_settings(&self, name: &str, now: &Content, harmful: &[Setting]) -> Result<Disarmed, Errno> {
        let harmful: HashSet<&Setting> = harmful.iter().collect();
        let mut kept = now.text().map(Settings::parse).unwrap_or_default().all;
        kept.retain(|setting| !harmful.contains(setting));
        let kept = write(&kept);
        let disarmed = disarm(self.folder, OsStr::new(name), kept.as_bytes())?;
        if let Disarmed::Aside(aside) = &disarmed {
            self.write_new(name, kept.as_bytes(), Some(aside))?;
        }
        Ok(disarmed)
    }

    pub(super) fn hooks(&self, before: &Facts, now: &Facts, end: &mut AtTheEnd) {
        if now.hooks_link.is_some() && now.hooks_link != before.hooks_link {
            // What it leads to may be somebody else's: the link alone is the workload's.
            return self.aside(Path::new("hooks"), "leads git to hooks", end);
        }
        let fresh = now.hooks.iter().filter(|(name, content)| !content.is_same(before.hooks.get(*name)));
        for name in fresh.map(|(name, _)| name) {
            let below = Path::new("hooks").join(name);
            match now.hooks_link {
                None => self.aside(&below, "is a hook that git would run", end),
                Some(_) => end.harmful.push(format!(
                    "{} is a hook that git would run, and was not there at the start: read it",
                    self.path.join(below).display()
                )),
            }
        }
    }

    /// Moves an entry of the folder, or of one right below it, aside.
    pub(super) fn aside(&self, below: &Path, what: &str, end: &mut AtTheEnd) {
        let path = self.path.join(below);
        let (parent, name) = (below.parent().unwrap_or(Path::new("")), below.file_name().unwrap_or_default());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let disarmed = match parent.as_os_str().is_empty() {
            true => disarm(self.folder, name, b""),
            false => openat(self.folder, parent, flags, Mode::empty()).and_then(|folder| disarm(&folder, name, b"")),
        };
        let path = path.display();
        match disarmed {
            Ok(Disarmed::Aside(aside)) => {
                let aside = self.path.join(parent).join(aside);
                end.harmful.push(format!("{path} {what}, and was not there at the start. It is {} now", aside.display()));
            }
            Ok(Disarmed::Emptied) => {
                end.harmful.push(format!("{path} {what}, and was not there at the start. It is empty now"));
            }
            Err(error) => end.failed.push(format!(
                "could not be moved aside ({error}), do not use git there: what {what}, and was not there at the start: {path}"
            )),
        }
    }

    pub(super) fn put_back(&self, name: &str, text: &[u8], end: &mut AtTheEnd) {
        if let Err(error) = self.write_new(name, text, None) {
            end.failed.push(format!("could not be put back ({error}): {}", self.path.join(name).display()));
        }
    }

    /// Writes a file that is not there, in one step, as its owner's where one is given to learn that from.
    fn write_new(&self, name: &str, text: &[u8], like: Option<&OsStr>) -> Result<(), Errno> {
        let fresh = format!("{name}.cofferdam");
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match openat(self.folder, &fresh, flags, Mode::from_raw_mode(0o644)) {
            // The workload's, then.
            Err(Errno::EXIST) => {
                move_aside(self.folder, OsStr::new(&fresh))?;
                openat(self.folder, &fresh, flags, Mode::from_raw_mode(0o644))?
            }
            opened => opened?,
        };
        let owner = like.and_then(|like| {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            fstat(openat(self.folder, like, flags, Mode::empty()).ok()?).ok()
        });
        let owner = owner.filter(|owner| FileType::from_raw_mode(owner.st_mode) == FileType::RegularFile);
        if let Some(owner) = owner.map_or_else(|| fstat(self.folder).ok(), Some) {
            // Who may not give files away owns them all.
            let _ = fchown(&file, Some(Uid::from_raw(owner.st_uid)), Some(Gid::from_raw(owner.st_gid)));
            if FileType::from_raw_mode(owner.st_mode) == FileType::RegularFile {
                fchmod(&file, Mode::from_raw_mode(owner.st_mode & 0o666))?;
            }
        }
        let written = File::from(file).write_all(text);
        written.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        renameat(self.folder, &fresh, self.folder, name)
    }
}

/// What became of something that git would have run.
enum Disarmed {
    /// It has this name now.
    Aside(OsString),
    /// It could not get another name: what it said is gone.
    Emptied,
}

/// Moves an entry aside; where that can't be, only `kept` stays in it.
fn disarm(folder: &OwnedFd, name: &OsStr, kept: &[u8]) -> Result<Disarmed, Errno> {
    match move_aside(folder, name) {
        Ok(aside) => Ok(Disarmed::Aside(aside)),
        Err(error) => overwrite(folder, name, kept).map(|()| Disarmed::Emptied).map_err(|_| error),
    }
}

/// Gives an entry a name beside it that nothing has, and that git does not use.
fn move_aside(folder: &OwnedFd, name: &OsStr) -> Result<OsString, Errno> {
    allow(folder, 0o300);
    for number in 1..MOST_NAMES {
        let mut aside = name.to_owned();
        aside.push(match number {
            1 => ".aside".to_owned(),
            2..=4 => format!(".aside-{number}"),
            _ => format!(".aside-{:016x}", random()?),
        });
        let moved = match renameat_with(folder, name, folder, &aside, RenameFlags::NOREPLACE) {
            // Not every file system knows how.
            Err(Errno::INVAL) => match statat(folder, &aside, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => renameat(folder, name, folder, &aside),
                Ok(_) => Err(Errno::EXIST),
                Err(errno) => Err(errno),
            },
            moved => moved,
        };
        match moved {
            Ok(()) => return Ok(aside),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::EXIST)
}

fn random() -> Result<u64, Errno> {
    let mut bytes = [0; 8];
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(u64::from_ne_bytes(bytes))
}

/// Writes over a file, in place.
fn overwrite(folder: &OwnedFd, name: &OsStr, text: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = openat(folder, name, flags | OFlags::PATH, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&found)?.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    allow(&found, 0o200);
    let file = openat(folder, name, flags | OFlags::WRONLY | OFlags::TRUNC | OFlags::NONBLOCK, Mode::empty())?;
    File::from(file).write_all(text).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// Gives a file's owner, who we are, these rights where the workload took them away. Says whether it did.
pub(crate) fn allow(file: &OwnedFd, rights: RawMode) -> bool {
    let Ok(found) = fstat(file) else { return false };
    let mode = found.st_mode & 0o7777;
    // Where it can't be, what comes next says so.
    mode & rights != rights
        && chmod(format!("/proc/self/fd/{}", file.as_raw_fd()), Mode::from_raw_mode(mode | rights)).is_ok()
}

/// Gives us the rights to read what git reads in a repository's folder.
pub(super) fn allow_reading(folder: &OwnedFd) {
    allow(folder, 0o500);
    for name in ["hooks", "commondir"].iter().chain(&SETTINGS) {
        let found = openat(folder, *name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
        let Ok(found) = found else { continue };
        match fstat(&found).map(|found| FileType::from_raw_mode(found.st_mode)) {
            Ok(FileType::Directory) => allow(&found, 0o500),
            Ok(FileType::RegularFile) => allow(&found, 0o400),
            Ok(_) | Err(_) => false,
        };
    }
}

fn bounded(names: &[String]) -> String {
    let mut text: String = names.iter().take(8).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > 8 {
        text.push_str(&format!(" and {} more", names.len() - 8));
    }
    text.chars().take(400).collect()
}
