//! What git would run in the repositories of writable folders: seen at the start, looked at again at the end.
//!
//! Mounts hold hooks and settings of the repositories that are there at the start. They can't hold a repository that
//! the workload makes, nor a file that a program of the host replaced meanwhile (a rename takes the mount with it). So
//! at the end everything that git takes for a repository's folder is compared with the start, and what git would run
//! that was not there is disarmed: the harmful settings are taken out of the file, which is kept whole beside it; a
//! hook, and a `commondir` that leads elsewhere, are moved aside. Nothing is lost, everything is named
//! (docs/decisions/repositories-at-the-end.md).

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, readlinkat, renameat, renameat_with};
use rustix::fs::{FileType, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Uid, fchmod, fchown, fstat, openat, openat2};
use rustix::io::Errno;

use super::settings::{Setting, Settings, write};
use crate::survey::{MOST_ENTRIES, Survey, Unseen, look};

/// Files with settings.
const SETTINGS: [&str; 2] = ["config", "config.worktree"];
/// What a worktree's folder says about where its repository lies (gitrepository-layout(5)).
const WORKTREE_COMMON: &str = "../..";
/// Larger files than this are not read: no repository has such, and what can't be read is not trusted.
const LARGEST: u64 = 1 << 20;
/// Repositories of one folder that are compared.
const MOST_REPOSITORIES: usize = 10_000;
/// Entries of a folder with hooks that are looked at.
const MOST_HOOKS: usize = 512;
/// Tries to find a free name beside a file.
const MOST_NAMES: u32 = 1000;

/// The repositories of a run's writable folders, as they were at its start.
#[derive(Debug, Clone, Default)]
pub struct RepositoryWatch {
    folders: Vec<PathBuf>,
    /// By the repository's folder.
    start: BTreeMap<PathBuf, Facts>,
    complete: bool,
}

/// What was found at the end.
#[derive(Debug, Default)]
pub struct AtTheEnd {
    /// What git would have run, and was disarmed; or could not be. For people, loudly.
    pub harmful: Vec<String>,
    /// What else changed that git reads.
    pub changed: Vec<String>,
}

/// What git would run in one repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Facts {
    settings: BTreeMap<&'static str, Content>,
    hooks: BTreeMap<OsString, Content>,
    /// Where the hooks lie, where that is a link.
    hooks_link: Option<OsString>,
    common: Option<Content>,
    rebase: Option<Content>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    Text(Vec<u8>),
    /// A link, and what it leads to.
    Link(OsString, Option<Vec<u8>>),
    /// Too large, or not to be read.
    Unknown,
}

impl RepositoryWatch {
    /// Begins, with what the start's look through these folders found.
    pub(crate) fn new<'a>(windows: impl Iterator<Item = (&'a Path, &'a Survey)>) -> RepositoryWatch {
        let mut watch = RepositoryWatch { complete: true, ..RepositoryWatch::default() };
        for (folder, survey) in windows {
            watch.folders.push(folder.to_owned());
            watch.complete &= survey.unseen.is_none() && survey.git_folders.len() <= MOST_REPOSITORIES;
            for below in survey.git_folders.iter().take(MOST_REPOSITORIES) {
                let facts = open_below(folder, below).map(|folder| Facts::read(&folder));
                watch.start.insert(folder.join(below), facts.unwrap_or_default());
            }
        }
        watch
    }

    /// Looks again, when nothing of the workload is left, and disarms what was not there.
    pub fn settle(&self) -> AtTheEnd {
        let mut end = AtTheEnd::default();
        let mut left = MOST_ENTRIES;
        for folder in &self.folders {
            let survey = look(folder, &mut left);
            let mut repositories: Vec<&Path> =
                survey.git_folders.iter().take(MOST_REPOSITORIES).map(PathBuf::as_path).collect();
            // The nearest one is looked at whatever lies around it: a prompt runs git there.
            let nearest = Path::new(".git");
            if !repositories.contains(&nearest) && folder.join(nearest).is_dir() {
                repositories.push(nearest);
            }
            for below in repositories {
                self.settle_one(folder, below, &mut end);
            }
            let missed = match &survey.unseen {
                None if survey.git_folders.len() > MOST_REPOSITORIES => {
                    Some(format!("has more than {MOST_REPOSITORIES} repositories"))
                }
                None => None,
                Some(Unseen::Bound) => Some(format!("holds more than {MOST_ENTRIES} files")),
                Some(Unseen::Folder(unseen)) => Some(format!("holds {}, which can't be searched", unseen.display())),
            };
            end.harmful.extend(missed.map(|why| {
                format!("{} {why}: not every repository in it was checked for what git would run", folder.display())
            }));
        }
        if !self.complete && end.harmful.is_empty() {
            end.changed.push("not every repository was seen at the start, so not all could be compared".to_owned());
        }
        end
    }

    fn settle_one(&self, window: &Path, below: &Path, end: &mut AtTheEnd) {
        let path = window.join(below);
        let folder = match open_below(window, below) {
            Ok(folder) => folder,
            Err(error) => {
                end.harmful.push(format!("{} was not checked for what git would run: {error}", path.display()));
                return;
            }
        };
        let nothing = Facts::default();
        let (before, now) = (self.start.get(&path), Facts::read(&folder));
        if before == Some(&now) {
            return;
        }
        let place = Place { folder: &folder, path: &path, window, is_new: before.is_none() };
        let before = before.unwrap_or(&nothing);
        for name in SETTINGS {
            place.settings(name, before.settings.get(name), now.settings.get(name), end);
        }
        place.hooks(before, &now, end);
        let common = now.common.as_ref().filter(|common| before.common.as_ref() != Some(*common));
        if common.is_some_and(|common| !common.is_text(WORKTREE_COMMON) && !common.is_text(".")) {
            place.aside(Path::new("commondir"), "would have led git to other settings", end);
            if let Some(Content::Text(text)) = &before.common {
                place.put_back("commondir", text, end);
            }
        }
        let rebase = now.rebase.as_ref().filter(|rebase| before.rebase.as_ref() != Some(*rebase));
        if rebase.is_some_and(Content::runs_something) {
            end.harmful.push(format!(
                "{}/rebase-merge/git-rebase-todo names programs that `git rebase --continue` would run",
                path.display()
            ));
        }
    }
}

/// A repository's folder at the end.
struct Place<'a> {
    folder: &'a OwnedFd,
    path: &'a Path,
    window: &'a Path,
    is_new: bool,
}

impl Place<'_> {
    /// Takes harmful settings out of a file.
    fn settings(&self, name: &str, before: Option<&Content>, now: Option<&Content>, end: &mut AtTheEnd) {
        let Some(now) = now.filter(|now| before != Some(*now)) else { return };
        let path = self.path.join(name);
        let known: Vec<Setting> = before.map(|before| self.harmful(before).0).unwrap_or_default();
        let (mut harmful, broken) = self.harmful(now);
        harmful.retain(|setting| !known.contains(setting));
        let is_link = matches!(now, Content::Link(..));
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
            Ok(aside) => end.harmful.push(format!(
                "{}: {why}. What could be harmful was taken out; the file as it was is {}",
                path.display(),
                aside.display()
            )),
            Err(error) => end.harmful.push(format!(
                "{}: {why}. It could not be moved aside ({error}): do not use git there before you read it",
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

    fn replace_settings(&self, name: &str, now: &Content, harmful: &[Setting]) -> Result<PathBuf, Errno> {
        let mut kept = now.text().map(Settings::parse).unwrap_or_default().all;
        kept.retain(|setting| !harmful.contains(setting));
        let aside = self.move_aside(self.folder, OsStr::new(name))?;
        self.write_new(name, write(&kept).as_bytes(), Some(&aside))?;
        Ok(self.path.join(aside))
    }

    fn hooks(&self, before: &Facts, now: &Facts, end: &mut AtTheEnd) {
        if now.hooks_link.is_some() && now.hooks_link != before.hooks_link {
            // What it leads to may be somebody else's: the link alone is the workload's.
            return self.aside(Path::new("hooks"), "leads git to hooks", end);
        }
        let fresh = now.hooks.iter().filter(|(name, content)| before.hooks.get(*name) != Some(*content));
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
    fn aside(&self, below: &Path, what: &str, end: &mut AtTheEnd) {
        let path = self.path.join(below);
        let (parent, name) = (below.parent().unwrap_or(Path::new("")), below.file_name().unwrap_or_default());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let moved = match parent.as_os_str().is_empty() {
            true => self.move_aside(self.folder, name),
            false => {
                openat(self.folder, parent, flags, Mode::empty()).and_then(|folder| self.move_aside(&folder, name))
            }
        };
        end.harmful.push(match moved {
            Ok(aside) => {
                format!("{} {what}, and was not there at the start. It is {} now", path.display(), aside.display())
            }
            Err(error) => {
                format!("{} {what}, and could not be moved aside ({error}): do not use git there", path.display())
            }
        });
    }

    fn put_back(&self, name: &str, text: &[u8], end: &mut AtTheEnd) {
        if let Err(error) = self.write_new(name, text, None) {
            end.harmful.push(format!("{} could not be put back: {error}", self.path.join(name).display()));
        }
    }

    /// Gives an entry a name beside it that nothing has, and that git does not use.
    fn move_aside(&self, folder: &OwnedFd, name: &OsStr) -> Result<OsString, Errno> {
        for number in 1..MOST_NAMES {
            let mut aside = name.to_owned();
            aside.push(if number == 1 { ".aside".to_owned() } else { format!(".aside-{number}") });
            match renameat_with(folder, name, folder, &aside, RenameFlags::NOREPLACE) {
                Ok(()) => return Ok(aside),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
        Err(Errno::EXIST)
    }

    /// Writes a file that is not there, in one step, as its owner's where one is given to learn that from.
    fn write_new(&self, name: &str, text: &[u8], like: Option<&OsStr>) -> Result<(), Errno> {
        let fresh = format!("{name}.cofferdam");
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match openat(self.folder, &fresh, flags, Mode::from_raw_mode(0o644)) {
            // The workload's, then.
            Err(Errno::EXIST) => {
                self.move_aside(self.folder, OsStr::new(&fresh))?;
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

impl Facts {
    fn read(folder: &OwnedFd) -> Facts {
        let settings = SETTINGS.into_iter().filter_map(|name| Some((name, Content::read(folder, OsStr::new(name))?)));
        Facts {
            settings: settings.collect(),
            hooks: hooks(folder),
            hooks_link: link(folder, "hooks"),
            common: Content::read(folder, OsStr::new("commondir")),
            rebase: Content::read(folder, OsStr::new("rebase-merge/git-rebase-todo")),
        }
    }
}

/// The hooks of a repository; git's samples are none.
fn hooks(folder: &OwnedFd) -> BTreeMap<OsString, Content> {
    let mut found = BTreeMap::new();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(hooks) = openat(folder, "hooks", flags, Mode::empty()) else { return found };
    for entry in Dir::read_from(&hooks).into_iter().flatten().flatten().take(MOST_HOOKS) {
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        let is_letter = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
        let is_hook = name.as_bytes().iter().all(is_letter);
        if is_hook && let Some(content) = Content::read(&hooks, name) {
            found.insert(name.to_owned(), content);
        }
    }
    found
}

fn link(folder: &OwnedFd, name: &str) -> Option<OsString> {
    readlinkat(folder, name, Vec::new()).ok().map(|to| OsStr::from_bytes(to.to_bytes()).to_owned())
}

impl Content {
    fn read(folder: &OwnedFd, name: &OsStr) -> Option<Content> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let text = |flags| -> Result<Vec<u8>, Errno> {
            let file = File::from(openat(folder, name, flags, Mode::empty())?);
            let found = fstat(&file)?;
            if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
                return Err(Errno::INVAL);
            }
            let mut text = Vec::new();
            let read = file.take(LARGEST + 1).read_to_end(&mut text);
            read.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
            if text.len() as u64 > LARGEST { Err(Errno::FBIG) } else { Ok(text) }
        };
        match text(flags | OFlags::NOFOLLOW) {
            Ok(text) => Some(Content::Text(text)),
            Err(Errno::NOENT | Errno::NOTDIR) => None,
            Err(Errno::LOOP) => {
                let to = readlinkat(folder, name, Vec::new()).ok()?;
                Some(Content::Link(OsStr::from_bytes(to.to_bytes()).to_owned(), text(flags).ok()))
            }
            Err(_) => Some(Content::Unknown),
        }
    }

    fn text(&self) -> Option<&[u8]> {
        match self {
            Content::Text(text) | Content::Link(_, Some(text)) => Some(text),
            Content::Link(_, None) | Content::Unknown => None,
        }
    }

    fn is_text(&self, expected: &str) -> bool {
        matches!(self, Content::Text(text) if text.trim_ascii_end() == expected.as_bytes())
    }

    /// Whether a list of steps has one that runs a program.
    fn runs_something(&self) -> bool {
        let Some(text) = self.text() else { return true };
        text.split(|byte| *byte == b'\n').any(|line| {
            let word = line.trim_ascii_start().split(u8::is_ascii_whitespace).next();
            matches!(word, Some(b"exec" | b"x"))
        })
    }
}

/// Opens a folder below another one, with no link on the way: a second workload may write there still.
fn open_below(window: &Path, below: &Path) -> Result<OwnedFd, io::Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let window = rustix::fs::open(window, flags, Mode::empty())?;
    if below.as_os_str().is_empty() {
        return Ok(window);
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    Ok(openat2(window.as_fd(), below, flags, Mode::empty(), resolve)?)
}

fn bounded(names: &[String]) -> String {
    let mut text: String = names.iter().take(8).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > 8 {
        text.push_str(&format!(" and {} more", names.len() - 8));
    }
    text.chars().take(400).collect()
}
