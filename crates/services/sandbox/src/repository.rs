//! The working directory's `.git`: writable, but for what makes the host run something.
//!
//! A workload that could write a hook, or a setting such as `core.fsmonitor`, would run programs outside the sandbox
//! the next time somebody types `git status`. So `.git` is a mount of its own (it can't be moved away and replaced),
//! and inside it hooks and settings are read-only. A worktree's `.git` is a file that names a folder elsewhere; that
//! one is mounted too, if it names this working directory in turn: else any file could have a folder mounted.
//!
//! Two files more could give git other settings where they are missing: `commondir`, which a main repository does not
//! have, and `config.worktree`. For the time of a run they stand there, saying "here" (`.`) and nothing, read-only
//! inside; the last run that holds them takes them away.
//!
//! Other worktrees of the repository: what says where they lie is read-only; one that no window shows can't be worked
//! in, so its folder is read-only as a whole.
//!
//! Mounts can't hold what is not there yet: a repository that the workload makes, or what a program of the host
//! replaces. That is `watch`'s, at the end.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use init_protocol::Mount;

use crate::error::StartError;

/// What git would run in a repository.
mod facts;
/// Disarms that.
mod place;
/// What settings a repository has, and which are harmless.
mod settings;
/// What changed at the end.
mod watch;

pub(crate) use place::allow;
pub(crate) use watch::open_below;
pub use watch::{AtTheEnd, RepositoryWatch};

/// Folders of a repository that the host's git runs programs from, and files that name such programs.
const PROTECTED: [(&str, Kind); 3] =
    [("hooks", Kind::Folder), ("config", Kind::File), ("config.worktree", Kind::OptionalFile)];
/// What a worktree's folder has of such.
const PROTECTED_IN_WORKTREE: [&str; 3] = ["commondir", "gitdir", "config.worktree"];
/// More submodules than this are not looked at one by one.
const MOST_MODULES: usize = 24;
/// More worktrees neither.
const MOST_WORKTREES: usize = 32;

/// How long a file that other runs share may be held by one alone, and how often that is looked at.
const LOCK_WAIT: Duration = Duration::from_secs(2);
const LOCK_LOOK: Duration = Duration::from_millis(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Made where it is missing: an empty one means the same to git.
    Folder,
    /// Made where it is missing: an empty one means the same to git.
    File,
    /// Protected where it is there.
    OptionalFile,
}

/// Says where a repository's settings lie; in a main repository it is not there.
const COMMON: &str = "commondir";
/// Settings of one worktree, where the repository has that extension.
const OWN_CONFIG: &str = "config.worktree";
/// What `commondir` holds where it stands for its absence.
const HERE: &str = ".\n";

/// The mounts over a working directory, and what could not be protected.
#[derive(Debug, Default)]
pub(crate) struct Protected {
    pub(crate) mounts: Vec<Mount>,
    pub(crate) notes: Vec<String>,
}

/// The repository of a worktree, which lies elsewhere and is mounted writable with it.
pub fn common_folder(working_directory: &Path) -> Option<PathBuf> {
    let git = working_directory.join(".git");
    let is_file = fs::symlink_metadata(&git).is_ok_and(|found| found.is_file());
    is_file.then(|| worktree(&git)).flatten().map(|(_, common)| common)
}

/// What protects the repository in a working directory, if there is one. `windows` are the writable folders.
pub(crate) fn protect(working_directory: &Path, windows: &[&Path]) -> Protected {
    let git = working_directory.join(".git");
    let mut protected = Protected::default();
    let Ok(found) = fs::symlink_metadata(&git) else { return protected };
    if found.is_dir() {
        protected.mounts.push(Mount::own(&git, true));
        protected.folder(&git);
        protected.worktrees(&git, windows);
    } else if found.is_file() {
        protected.mounts.push(Mount::own(&git, false));
        match worktree(&git) {
            Some((_, common)) => {
                protected.mounts.push(Mount::own(&common, true));
                protected.folder(&common);
                protected.worktrees(&common, windows);
            }
            None => protected.notes.push(format!("{} names a repository that is not mounted", git.display())),
        }
    } else {
        protected
            .notes
            .push(format!("{} is a symbolic link, so its hooks and settings can't be protected", git.display()));
    }
    protected
}

impl Protected {
    /// Protects a repository's folder, and those of its submodules.
    fn folder(&mut self, git: &Path) {
        for (name, kind) in PROTECTED {
            self.entry(&git.join(name), kind);
        }
        let mut modules = Vec::new();
        find_modules(&git.join("modules"), &mut modules);
        for module in &modules {
            for (name, kind) in PROTECTED {
                self.entry(&module.join(name), kind);
            }
        }
        if modules.len() >= MOST_MODULES {
            self.notes.push(format!("{} has more submodules than are protected one by one", git.display()));
        }
    }

    fn entry(&mut self, path: &Path, kind: Kind) {
        let made = match (fs::symlink_metadata(path), kind) {
            (Ok(found), _) if found.file_type().is_symlink() => Err("it is a symbolic link".to_owned()),
            (Ok(_), _) => Ok(true),
            (Err(_), Kind::OptionalFile) => Ok(false),
            (Err(_), Kind::Folder) => fs::create_dir(path).map(|()| true).map_err(|error| error.to_string()),
            (Err(_), Kind::File) => fs::File::create_new(path).map(|_| true).map_err(|error| error.to_string()),
        };
        match made {
            Ok(true) => self.mounts.push(Mount::own(path, false)),
            Ok(false) => {}
            Err(reason) => self.notes.push(format!("{} can't be protected: {reason}", path.display())),
        }
    }

    /// Keeps the worktrees of a repository where they are.
    fn worktrees(&mut self, git: &Path, windows: &[&Path]) {
        let entries = fs::read_dir(git.join("worktrees")).into_iter().flatten().flatten();
        for (number, entry) in entries.enumerate() {
            let own = entry.path();
            if number == MOST_WORKTREES {
                self.notes.push(format!("{} has more worktrees than are protected one by one", git.display()));
                return;
            }
            let tree = read_path(&own.join("gitdir"), "", &own).and_then(|git| git.canonicalize().ok());
            match tree.is_some_and(|tree| windows.iter().any(|window| tree.starts_with(window))) {
                true => PROTECTED_IN_WORKTREE.iter().for_each(|name| self.entry(&own.join(name), Kind::OptionalFile)),
                false => self.mounts.push(Mount::own(own, false)),
            }
        }
    }
}

/// Protects a repository that has no folder around it.
pub(crate) fn protect_bare(git: &Path) -> Protected {
    let mut protected = Protected::default();
    protected.folder(git);
    protected
}

/// Files that stand for their absence while a sandbox runs.
#[derive(Debug, Default)]
pub(crate) struct Held {
    files: Vec<Placeholder>,
}

/// One of them, locked by every run that needs it.
#[derive(Debug)]
struct Placeholder {
    path: PathBuf,
    file: File,
    text: String,
}

/// Sees to it that no writable repository of the mounts gets other settings; adds the mounts for it.
pub(crate) fn hold(mounts: &mut Vec<Mount>) -> Result<Held, StartError> {
    let mut held = Held::default();
    // Listed before any is held: what is added below is no repository.
    let missing: Vec<(PathBuf, PathBuf, &str)> = mounts.iter().flat_map(to_hold).collect();
    for (path, target, text) in missing {
        if mounts.iter().any(|mount| mount.target() == target) {
            continue;
        }
        let file = match hold_one(&path, text) {
            // Who may not make it here may not make it in the sandbox either.
            Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => {
                continue;
            }
            held => held.map_err(|error| StartError::Mount { path: path.clone(), source: error })?,
        };
        held.files.extend(file.map(|file| Placeholder { path: path.clone(), file, text: text.to_owned() }));
        mounts.push(Mount::Bind { source: path, target, writable: false, optional: false, owned: true });
    }
    Ok(held)
}

/// The files of a writable mount of a repository's or worktree's folder that must not be made.
fn to_hold(mount: &Mount) -> Vec<(PathBuf, PathBuf, &'static str)> {
    let Mount::Bind { source, target, writable: true, .. } = mount else { return Vec::new() };
    let has_head = fs::symlink_metadata(source.join("HEAD")).is_ok();
    let names: &[(&str, &str)] = match (has_head, source.join("objects").is_dir(), source.join(COMMON).is_file()) {
        (true, true, _) => &[(COMMON, HERE), (OWN_CONFIG, "")],
        (true, false, true) => &[(OWN_CONFIG, "")],
        (true, false, false) | (false, ..) => &[],
    };
    names.iter().map(|(name, text)| (source.join(name), target.join(name), *text)).collect()
}

/// Makes the file, or finds it. It comes back where it only stands for its absence: then it is shared by all runs.
fn hold_one(path: &Path, text: &str) -> Result<Option<File>, std::io::Error> {
    loop {
        match File::create_new(path) {
            Ok(mut made) => {
                share(&made)?;
                made.write_all(text.as_bytes())?;
                return Ok(Some(made));
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        if !fs::metadata(path)?.is_file() {
            return Err(std::io::Error::new(ErrorKind::InvalidInput, format!("{} is no file", path.display())));
        }
        let found = File::open(path)?;
        share(&found)?;
        match fs::read_to_string(path) {
            // Taken away by another run before the lock was ours.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(found_text) => return Ok((found_text == text || found_text.is_empty()).then_some(found)),
        }
    }
}

/// Holds a file together with other runs. One that takes its files away has it alone for a moment; longer only another
/// sandbox's workload would.
#[expect(clippy::disallowed_methods, reason = "the kernel tells of a lock that is free only who waits without a bound")]
fn share(file: &File) -> Result<(), std::io::Error> {
    let start = Instant::now();
    loop {
        match file.try_lock_shared() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if start.elapsed() < LOCK_WAIT => std::thread::sleep(LOCK_LOOK),
            Err(TryLockError::WouldBlock) => {
                return Err(std::io::Error::new(ErrorKind::WouldBlock, "another process holds it locked"));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

impl Held {
    /// Takes the files away, but for those that another run still holds.
    pub(crate) fn release(&self) {
        for placeholder in &self.files {
            if placeholder.file.try_lock().is_ok() && placeholder.stands() {
                // One that is gone already is what is wanted.
                let _ = fs::remove_file(&placeholder.path);
            }
        }
    }
}

impl Placeholder {
    /// Whether it is still there: a program of the host may have made it real.
    fn stands(&self) -> bool {
        let (Ok(there), Ok(ours)) = (fs::symlink_metadata(&self.path), self.file.metadata()) else { return false };
        let is_same = (there.dev(), there.ino()) == (ours.dev(), ours.ino());
        is_same && fs::read_to_string(&self.path).is_ok_and(|text| text == self.text || text.is_empty())
    }
}

/// The folder that a worktree's `.git` file names, and the repository that this one belongs to.
/// Both sides must name each other.
fn worktree(git: &Path) -> Option<(PathBuf, PathBuf)> {
    let named = read_path(git, "gitdir: ", git.parent()?)?;
    let own = named.canonicalize().ok()?;
    let back = read_path(&own.join("gitdir"), "", &own)?;
    if back.canonicalize().ok()? != git.canonicalize().ok()? {
        return None;
    }
    let common = read_path(&own.join("commondir"), "", &own)?.canonicalize().ok()?;
    let inside = own.parent() == Some(&common.join("worktrees"));
    // A repository that lies in the working directory was within the workload's reach before.
    let apart = !common.starts_with(git.parent()?);
    (inside && apart && common.join("HEAD").is_file() && common.join("config").is_file()).then_some((own, common))
}

/// A path in a file of one line, taken from a folder where it is relative.
fn read_path(file: &Path, before: &str, from: &Path) -> Option<PathBuf> {
    // A pipe that nobody writes to would hold up the start for ever.
    fs::metadata(file).ok().filter(|found| found.is_file() && found.len() <= 8_192)?;
    let text = fs::read_to_string(file).ok()?;
    let path = text.strip_prefix(before)?.trim_end_matches(['\n', '\r']);
    (!path.is_empty()).then(|| from.join(path))
}

/// Submodules' folders: those with a HEAD, at any depth.
fn find_modules(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if found.len() >= MOST_MODULES {
            return;
        }
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let path = entry.path();
        if path.join("HEAD").exists() {
            found.push(path.clone());
            find_modules(&path.join("modules"), found);
        } else {
            find_modules(&path, found);
        }
    }
}

#[cfg(test)]
#[path = "repository/tests.rs"]
mod tests;
