//! The working directory's `.git`: writable, but for what makes the host run something.
//!
//! A workload that could write a hook, or a setting such as `core.fsmonitor`, would run programs outside the sandbox
//! the next time somebody types `git status`. So `.git` is a mount of its own (it can't be moved away and replaced),
//! and inside it hooks and settings are read-only. A worktree's `.git` is a file that names a folder elsewhere; that
//! one is mounted too, if it names this working directory in turn: else any file could have a folder mounted.
//!
//! Not covered: a repository that the workload itself makes inside the working directory. Whoever runs git in such a
//! folder on the host trusts what the workload wrote, as with a Makefile.

use std::fs;
use std::path::{Path, PathBuf};

use init_protocol::Mount;

/// Folders of a repository that the host's git runs programs from, and files that name such programs.
const PROTECTED: [(&str, Kind); 3] =
    [("hooks", Kind::Folder), ("config", Kind::File), ("config.worktree", Kind::OptionalFile)];
/// More submodules than this are not looked at one by one.
const MOST_MODULES: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Made where it is missing: an empty one means the same to git.
    Folder,
    /// Made where it is missing: an empty one means the same to git.
    File,
    /// Protected where it is there.
    OptionalFile,
}

/// The mounts over a working directory, and what could not be protected.
#[derive(Debug, Default)]
pub(crate) struct Protected {
    pub(crate) mounts: Vec<Mount>,
    pub(crate) notes: Vec<String>,
}

/// What protects the repository in a working directory, if there is one.
pub(crate) fn protect(working_directory: &Path) -> Protected {
    let git = working_directory.join(".git");
    let mut protected = Protected::default();
    let Ok(found) = fs::symlink_metadata(&git) else { return protected };
    if found.is_dir() {
        protected.mounts.push(Mount::own(&git, true));
        protected.folder(&git);
    } else if found.is_file() {
        protected.mounts.push(Mount::own(&git, false));
        match worktree(&git) {
            Some((own, common)) => protected.worktree(&own, &common),
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

    /// Mounts a worktree's repository; what says where it lies stays as it is.
    fn worktree(&mut self, own: &Path, common: &Path) {
        self.mounts.push(Mount::own(common, true));
        self.folder(common);
        for name in ["commondir", "gitdir"] {
            self.mounts.push(Mount::own(own.join(name), false));
        }
        self.entry(&own.join("config.worktree"), Kind::OptionalFile);
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
    if fs::metadata(file).ok()?.len() > 8_192 {
        return None;
    }
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
