//! What no mount may show, and what no mount may make writable, wherever the mounts show it.
//!
//! One pass over all mounts of a plan:
//! - a place counts only where it is seen: the deepest mount over it is the one that shows it;
//! - each folder between that mount and the place becomes a mount of its own, since a mount point can't be renamed
//!   away (rename(2), EBUSY) and what holds one can;
//! - mounts are sorted, parents first, and a plan in which a mount covers an earlier one is refused.

use std::fs;
use std::path::{Path, PathBuf};

use init_protocol::Mount;

use crate::plan::{Cover, PlanError};
use crate::repository::{self, Protected};
use crate::survey::Window;

/// Repositories below a writable folder that are protected one by one.
const MOST_REPOSITORIES: usize = 32;
/// Mounts of a plan from which on no more are added for repositories: each is a descriptor where root starts it.
const MOST_MOUNTS: usize = 120;

/// The mounts of a plan while what must be protected is added.
#[derive(Debug)]
pub(crate) struct Protection {
    mounts: Vec<Mount>,
    /// Paths that were made read-only, for people.
    pub(crate) closed: Vec<PathBuf>,
    pub(crate) notes: Vec<String>,
}

/// Where a mount shows a path of the host.
struct Place {
    target: PathBuf,
    /// The mount's own target.
    window: PathBuf,
    writable: bool,
    owned: bool,
}

impl Protection {
    /// Begins with what is mounted anyway.
    pub(crate) fn new(mounts: Vec<Mount>) -> Self {
        Self { mounts, closed: Vec::new(), notes: Vec::new() }
    }

    /// Protects the repositories of each writable folder of the caller's, the one at its top and those below it.
    pub(crate) fn repositories(&mut self, working_directory: &Path, windows: &[Window]) {
        let writable: Vec<&Window> = windows.iter().filter(|window| window.writable).collect();
        let sources: Vec<&Path> = writable.iter().map(|window| window.source.as_path()).collect();
        for window in writable {
            let (source, target) = (&window.source, &window.target);
            let in_folders = window.survey.repositories.iter().map(|below| (source.join(below), true));
            let bare = window.survey.git_folders.iter().filter(|below| is_bare(below));
            let all: Vec<(PathBuf, bool)> = in_folders.chain(bare.map(|below| (source.join(below), false))).collect();
            let mut left_out = window.survey.unseen.is_some();
            for (number, (folder, has_folder)) in all.into_iter().enumerate() {
                let is_worked_in = folder == *working_directory;
                if !is_worked_in && (number >= MOST_REPOSITORIES || self.mounts.len() >= MOST_MOUNTS) {
                    left_out = true;
                    continue;
                }
                let is_file = fs::symlink_metadata(folder.join(".git")).is_ok_and(|found| found.is_file());
                match (has_folder, is_file && !is_worked_in) {
                    // A submodule or worktree: what it names is protected where it lies, if it is mounted at all.
                    (true, true) => self.at(Mount::own(folder.join(".git"), false), source, target),
                    (true, false) => {
                        self.add_repository(repository::protect(&folder, &sources), source, target, is_worked_in);
                    }
                    (false, _) => self.add_repository(repository::protect_bare(&folder), source, target, false),
                }
            }
            if left_out {
                self.notes.push(format!(
                    "{} is large: only the nearest repositories have their hooks and settings held; the others are \
                     compared at the end",
                    source.display()
                ));
            }
        }
    }

    fn add_repository(&mut self, protected: Protected, source: &Path, target: &Path, is_worked_in: bool) {
        for mount in protected.mounts {
            // The repository of a worktree lies elsewhere, and is mounted for the working directory only.
            if mount.target().starts_with(source) || is_worked_in {
                self.at(mount, source, target);
            }
        }
        self.notes.extend(protected.notes);
    }

    /// Adds a mount that stands at its own path, where a window shows that path.
    fn at(&mut self, mount: Mount, source: &Path, target: &Path) {
        let Mount::Bind { source: own, writable, optional, owned, .. } = mount else { return };
        let place = match own.strip_prefix(source) {
            Ok(below) => target.join(below),
            Err(_) => own.clone(),
        };
        let Some(seen) = self.place(&own, place) else {
            if !own.starts_with(source) {
                self.mounts.push(Mount::Bind { target: own.clone(), source: own, writable, optional, owned });
            }
            return;
        };
        self.pin(&own, &seen);
        let mount = Mount::Bind { source: own, target: seen.target, writable, optional, owned };
        if !self.mounts.contains(&mount) {
            self.mounts.push(mount);
        }
    }

    /// The mounts so far.
    pub(crate) fn mounts(&self) -> &[Mount] {
        &self.mounts
    }

    /// The place, where that is what is seen there, below a mount: what is mounted by its own path was asked for.
    pub(crate) fn shown(&self, real: &Path, place: PathBuf) -> Option<PathBuf> {
        self.place(real, place).filter(|seen| seen.target != seen.window).map(|seen| seen.target)
    }

    /// Covers a folder of the host wherever it would be seen.
    pub(crate) fn hide(&mut self, path: &Path) -> Result<(), PlanError> {
        let real = real(path)?;
        for place in self.places(&real) {
            self.pin(&real, &place);
            self.mounts.push(Mount::Tmpfs { target: place.target, size: 4096, mode: 0o000 });
        }
        Ok(())
    }

    /// Makes a file or folder of the host read-only wherever it is seen.
    pub(crate) fn close(&mut self, path: &Path) -> Result<(), PlanError> {
        let real = real(path)?;
        for place in self.places(&real).into_iter().filter(|place| place.writable) {
            self.pin(&real, &place);
            let (writable, optional, owned) = (false, false, place.owned);
            self.mounts.push(Mount::Bind { source: real.clone(), target: place.target, writable, optional, owned });
            if !self.closed.iter().any(|closed| closed == path) {
                self.closed.push(path.to_owned());
            }
        }
        Ok(())
    }

    /// Shows another file wherever this one would be seen.
    pub(crate) fn cover(&mut self, cover: &Cover) {
        let Ok(real) = real(&cover.path) else { return };
        for place in self.places(&real) {
            self.pin(&real, &place);
            let (source, target) = (cover.with.clone(), place.target);
            self.mounts.push(Mount::Bind { source, target, writable: false, optional: false, owned: false });
        }
    }

    /// The mounts, in an order in which none covers another.
    pub(crate) fn finish(self) -> Vec<Mount> {
        let mut mounts = self.mounts;
        mounts.sort_by_key(|mount| depth(mount.target()));
        mounts
    }

    /// Every place at which a path of the host is seen.
    fn places(&self, real: &Path) -> Vec<Place> {
        let mut places: Vec<Place> = Vec::new();
        for mount in &self.mounts {
            let Mount::Bind { source, target, .. } = mount else { continue };
            let Some(below) = below(real, source) else { continue };
            let target = if below.as_os_str().is_empty() { target.clone() } else { target.join(below) };
            if places.iter().any(|place| place.target == target) {
                continue;
            }
            places.extend(self.place(real, target));
        }
        places
    }

    /// What is seen at a place, if it is this path of the host.
    fn place(&self, real: &Path, target: PathBuf) -> Option<Place> {
        let over = self.mounts.iter().filter(|mount| target.starts_with(mount.target()));
        // Of several at one place the last is seen, and `max_by_key` gives the last.
        let Mount::Bind { source, target: window, writable, owned, .. } =
            over.max_by_key(|mount| depth(mount.target()))?
        else {
            return None;
        };
        let rest = target.strip_prefix(window).ok()?;
        let shown = below(real, source)? == rest;
        shown.then(|| Place { window: window.clone(), writable: *writable, owned: *owned, target: target.clone() })
    }

    /// Makes every folder between a mount and a place a mount, where the workload could rename it.
    fn pin(&mut self, real: &Path, place: &Place) {
        if !place.writable {
            return;
        }
        let folders = real.ancestors().zip(place.target.ancestors()).skip(1);
        for (source, target) in folders.take_while(|(_, target)| *target != place.window) {
            if !target.starts_with(&place.window) {
                break;
            }
            self.mounts.push(Mount::Bind {
                source: source.to_owned(),
                target: target.to_owned(),
                writable: true,
                optional: false,
                owned: place.owned,
            });
        }
    }
}

/// Refuses an order in which a mount covers an earlier one: what that protected would be seen.
pub(crate) fn check_order(mounts: &[Mount]) -> Result<(), PlanError> {
    for (index, later) in mounts.iter().enumerate() {
        let earlier = mounts.iter().take(index).map(Mount::target);
        let mut covered = earlier.filter(|path| *path != later.target() && path.starts_with(later.target()));
        if let Some(path) = covered.next() {
            return Err(PlanError::Covered { path: path.to_owned(), by: later.target().to_owned() });
        }
    }
    Ok(())
}

fn real(path: &Path) -> Result<PathBuf, PlanError> {
    fs::canonicalize(path).map_err(|source| PlanError::Protected { path: path.to_owned(), source })
}

/// How a path of the host, free of links, lies below a mount's source.
fn below(real: &Path, source: &Path) -> Option<PathBuf> {
    if let Ok(below) = real.strip_prefix(source) {
        return Some(below.to_owned());
    }
    let source = fs::canonicalize(source).ok()?;
    real.strip_prefix(source).ok().map(Path::to_owned)
}

/// Whether a repository's folder stands for itself, and is no part of another one's.
fn is_bare(below: &Path) -> bool {
    let in_another = below.iter().any(|part| part == ".git");
    let is_worktrees = below.parent().and_then(Path::file_name).is_some_and(|above| above == "worktrees");
    !in_another && !is_worktrees
}

fn depth(path: &Path) -> usize {
    path.components().count()
}

#[cfg(test)]
#[path = "protection/tests.rs"]
mod tests;
