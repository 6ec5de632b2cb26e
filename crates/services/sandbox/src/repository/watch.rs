//! What git would run in the repositories of writable folders: seen at the start, looked at again at the end.
//!
//! Mounts hold hooks and settings of the repositories that are there at the start. They can't hold a repository that
//! the workload makes, nor a file that a program of the host replaced meanwhile (a rename takes the mount with it). So
//! at the end everything that git takes for a repository's folder is compared with the start, and what git would run
//! that was not there is disarmed: the harmful settings are taken out of the file, which is kept whole beside it; a
//! hook, and a `commondir` that leads elsewhere, are moved aside. Nothing is lost, everything is named
//! (docs/decisions/repositories-at-the-end.md).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use super::facts::{Content, Facts, MOST_TEXT, SETTINGS};
use super::place::{Place, allow_reading};
use crate::survey::{MOST_ENTRIES, Survey, Unseen, look_everywhere};

/// What a worktree's folder says about where its repository lies (gitrepository-layout(5)).
const WORKTREE_COMMON: &str = "../..";
/// Repositories of one folder that are compared.
const MOST_REPOSITORIES: usize = 10_000;

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
    /// What git would run and what could not be disarmed, or not looked at. For people, loudly and first.
    pub failed: Vec<String>,
    /// What git would have run, and was disarmed. For people, loudly.
    pub harmful: Vec<String>,
    /// What else changed that git reads.
    pub changed: Vec<String>,
}

impl RepositoryWatch {
    /// Begins, with what the start's look through these folders found.
    pub(crate) fn new<'a>(windows: impl Iterator<Item = (&'a Path, &'a Survey)>) -> RepositoryWatch {
        let mut watch = RepositoryWatch { complete: true, ..RepositoryWatch::default() };
        let mut left = MOST_TEXT;
        for (folder, survey) in windows {
            watch.folders.push(folder.to_owned());
            watch.complete &= survey.unseen.is_none() && survey.git_folders.len() <= MOST_REPOSITORIES;
            for below in repositories(folder, survey) {
                let facts = open_below(folder, &below).map(|folder| Facts::read(&folder, &mut left));
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
            let survey = look_everywhere(folder, &mut left);
            end.changed.extend(survey.opened.as_ref().map(|(count, first)| {
                format!(
                    "folders that could not be searched can be by their owner again: {count}, such as {}",
                    first.display()
                )
            }));
            let mut repositories = repositories(folder, &survey);
            // The nearest one is looked at whatever lies around it: a prompt runs git there.
            let nearest = Path::new(".git");
            if folder.join(nearest).is_dir() {
                repositories.insert(nearest.to_owned());
            }
            for below in &repositories {
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
            end.failed.extend(missed.map(|why| {
                format!("not every repository was checked for what git would run: {} {why}", folder.display())
            }));
        }
        if !self.complete && end.failed.is_empty() && end.harmful.is_empty() {
            end.changed.push("not every repository was seen at the start, so not all could be compared".to_owned());
        }
        end
    }

    fn settle_one(&self, window: &Path, below: &Path, end: &mut AtTheEnd) {
        let path = window.join(below);
        let folder = match open_below(window, below) {
            Ok(folder) => folder,
            Err(error) => {
                end.failed.push(format!("was not checked for what git would run ({error}): {}", path.display()));
                return;
            }
        };
        let nothing = Facts::default();
        allow_reading(&folder);
        let (before, now) = (self.start.get(&path), Facts::read(&folder, &mut { MOST_TEXT }));
        let place = Place { folder: &folder, path: &path, window, is_new: before.is_none() };
        let before = before.unwrap_or(&nothing);
        for name in SETTINGS {
            place.settings(name, before.settings.get(name), now.settings.get(name), end);
        }
        place.hooks(before, &now, end);
        let common = now.common.as_ref().filter(|common| !common.is_same(before.common.as_ref()));
        let leads_home =
            |common: &Content| common.is_path(".") || (common.is_path(WORKTREE_COMMON) && above(below).is_some());
        if common.is_some_and(|common| !leads_home(common)) {
            place.aside(Path::new("commondir"), "would have led git to other settings", end);
            if let Some(text) = before.common.as_ref().filter(|before| !before.is_link()).and_then(Content::text) {
                place.put_back("commondir", text, end);
            }
        }
        let rebase = now.rebase.as_ref().filter(|rebase| !rebase.is_same(before.rebase.as_ref()));
        if rebase.is_some_and(Content::runs_something) {
            end.harmful.push(format!(
                "{}/rebase-merge/git-rebase-todo names programs that `git rebase --continue` would run",
                path.display()
            ));
        }
    }
}

/// The repositories of a folder: those that were found, and those that worktrees among them lead to. Such a one needs
/// no HEAD for git to read its settings.
fn repositories(folder: &Path, survey: &Survey) -> BTreeSet<PathBuf> {
    let mut all = BTreeSet::new();
    for below in survey.git_folders.iter().take(MOST_REPOSITORIES) {
        all.insert(below.clone());
        let common = above(below).filter(|_| {
            let common = open_below(folder, below)
                .ok()
                .and_then(|folder| Content::read(&folder, OsStr::new("commondir"), &mut { MOST_TEXT }));
            common.is_some_and(|common| common.is_path(WORKTREE_COMMON))
        });
        all.extend(common.map(Path::to_owned));
    }
    all
}

/// The repository that a folder is a worktree's of, by its place.
fn above(below: &Path) -> Option<&Path> {
    let worktrees = below.parent()?;
    if worktrees.file_name()? == "worktrees" { worktrees.parent() } else { None }
}

/// Opens a folder below another one, with no link on the way: a second workload may write there still.
pub(crate) fn open_below(window: &Path, below: &Path) -> Result<OwnedFd, io::Error> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let window = rustix::fs::open(window, flags, Mode::empty())?;
    if below.as_os_str().is_empty() {
        return Ok(window);
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    Ok(openat2(window.as_fd(), below, flags, Mode::empty(), resolve)?)
}
