//! One look through what is mounted from the host: Unix sockets, and what git takes for a repository.
//!
//! The nearest entries come first, links are not followed, and the look is bounded. A folder that can't be listed and
//! that the workload could open counts like the bound: what is in it is not known.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use init_protocol::Mount;
use rustix::fs::{Access, access};
use rustix::process::geteuid;

use crate::repository::{allow, open_below};

/// The rights to list a folder and to pass through it.
const SEARCH: u32 = 0o500;
/// Entries looked at, over all mounts of a plan.
pub(crate) const MOST_ENTRIES: usize = 500_000;

/// What lies below a folder. Every path is relative to it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Survey {
    /// Unix sockets.
    pub(crate) sockets: Vec<PathBuf>,
    /// Folders with an entry `.git`, the outer first.
    pub(crate) repositories: Vec<PathBuf>,
    /// Folders that git takes for a repository's own: `.git`, a submodule's, a worktree's, a bare one.
    pub(crate) git_folders: Vec<PathBuf>,
    /// Where the look ended early.
    pub(crate) unseen: Option<Unseen>,
    /// How many folders their owner could not search before this look, and the first of them.
    pub(crate) opened: Option<(usize, PathBuf)>,
}

/// Why not everything was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unseen {
    /// There are more entries than are looked at.
    Bound,
    /// This folder can't be listed.
    Folder(PathBuf),
}

/// A folder of the host that is mounted, and what lies in it.
#[derive(Debug)]
pub(crate) struct Window {
    /// On the host, free of links.
    pub(crate) source: PathBuf,
    /// In the sandbox.
    pub(crate) target: PathBuf,
    pub(crate) writable: bool,
    pub(crate) survey: Survey,
}

/// Looks into each folder of the caller's among these mounts that no window shows yet.
pub(crate) fn add_windows(windows: &mut Vec<Window>, mounts: &[Mount], left: &mut usize) {
    for mount in mounts {
        let Mount::Bind { source, target, writable, owned: true, .. } = mount else { continue };
        let Ok(source) = fs::canonicalize(source) else { continue };
        let shown = |window: &Window| {
            let below = source.strip_prefix(&window.source).ok();
            window.writable >= *writable && below.is_some_and(|below| window.target.join(below) == *target)
        };
        if !source.is_dir() || windows.iter().any(shown) {
            continue;
        }
        let survey = look(&source, left);
        windows.push(Window { source, target: target.clone(), writable: *writable, survey });
    }
}

/// Looks through a folder while entries are left.
pub(crate) fn look(folder: &Path, left: &mut usize) -> Survey {
    look_through(folder, left, false)
}

/// The same when a workload has ended: folders that nobody may search, and whose owner we are, may be searched from then
/// on. Git needs no right to list a folder to run what is in it.
pub(crate) fn look_everywhere(folder: &Path, left: &mut usize) -> Survey {
    look_through(folder, left, true)
}

fn look_through(folder: &Path, left: &mut usize, opens: bool) -> Survey {
    let mut survey = Survey::default();
    let mut folders = VecDeque::from([PathBuf::new()]);
    while let Some(below) = folders.pop_front() {
        let here = folder.join(&below);
        if opens && open(folder, &below) {
            let (count, first) = survey.opened.take().unwrap_or_else(|| (0, here.clone()));
            survey.opened = Some((count + 1, first));
        }
        let entries = match fs::read_dir(&here) {
            Ok(entries) => entries,
            Err(error) => {
                if hides(&error, &here) {
                    survey.unseen.get_or_insert(Unseen::Folder(here));
                }
                continue;
            }
        };
        let mut parts = Parts::default();
        for entry in entries {
            let Ok(entry) = entry else {
                survey.unseen.get_or_insert(Unseen::Folder(here.clone()));
                break;
            };
            if *left == 0 {
                survey.unseen = Some(Unseen::Bound);
                return survey;
            }
            *left -= 1;
            let name = entry.file_name();
            if name == ".git" {
                survey.repositories.push(below.clone());
            }
            parts.note(&name);
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                folders.push_back(below.join(&name));
            } else if std::os::unix::fs::FileTypeExt::is_socket(&kind) {
                survey.sockets.push(below.join(&name));
            }
        }
        if parts.are_a_repository() {
            survey.git_folders.push(below);
        }
    }
    survey
}

/// Gives us the rights to search a folder of ours, where they were taken away.
fn open(window: &Path, below: &Path) -> bool {
    let is_ours = |found: &fs::Metadata| found.is_dir() && found.uid() == geteuid().as_raw();
    let lacks = |found: &fs::Metadata| found.mode() & SEARCH != SEARCH;
    fs::symlink_metadata(window.join(below)).is_ok_and(|found| is_ours(&found) && lacks(&found))
        && open_below(window, below).is_ok_and(|folder| allow(&folder, SEARCH))
}

/// Whether something the workload can reach may lie behind an error: one that is gone hides nothing, everything else
/// may (a path can be too long for us and not for who goes there step by step).
fn hides(error: &io::Error, folder: &Path) -> bool {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => false,
        ErrorKind::PermissionDenied => could_be_opened(folder),
        _ => true,
    }
}

/// Whether the workload, which has the caller's id, may enter a folder or make itself able to.
fn could_be_opened(folder: &Path) -> bool {
    let is_ours = fs::symlink_metadata(folder).is_ok_and(|found| found.uid() == geteuid().as_raw());
    is_ours || access(folder, Access::EXEC_OK).is_ok()
}

/// What a folder needs so that git takes it for a repository (setup.c, `is_git_directory`).
#[derive(Debug, Default)]
struct Parts {
    head: bool,
    objects: bool,
    refs: bool,
    elsewhere: bool,
}

impl Parts {
    fn note(&mut self, name: &OsStr) {
        match name.as_encoded_bytes() {
            b"HEAD" => self.head = true,
            b"objects" => self.objects = true,
            b"refs" => self.refs = true,
            b"commondir" => self.elsewhere = true,
            _ => {}
        }
    }

    fn are_a_repository(&self) -> bool {
        self.head && (self.elsewhere || (self.objects && self.refs))
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST_ENTRIES, Unseen, Window, add_windows, look};
    use init_protocol::Mount;
    use rustix::fs::{Mode, OFlags, mkdirat, openat};
    use std::fs;
    use std::os::unix::net::UnixListener;
    use std::path::{Path, PathBuf};

    fn world(folders: &[&str], files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in folders {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        for name in files {
            fs::create_dir_all(folder.path().join(name).parent().unwrap()).unwrap();
            fs::write(folder.path().join(name), "").unwrap();
        }
        folder
    }

    #[test]
    fn sockets_and_repositories_are_found_wherever_they_lie() {
        let folders =
            ["a/.git/objects", "a/.git/refs", "deep/node_modules/m/bare/objects", "deep/node_modules/m/bare/refs"];
        let files = ["a/.git/HEAD", "a/.git/worktrees/w/HEAD", "a/.git/worktrees/w/commondir", "sub/.git", "no/HEAD"];
        let folder = world(&folders, &[&files[..], &["deep/node_modules/m/bare/HEAD"]].concat());
        let _listener = UnixListener::bind(folder.path().join("sub/agent.sock")).unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("loop")).unwrap();
        let mut survey = look(folder.path(), &mut { MOST_ENTRIES });
        survey.repositories.sort();
        survey.git_folders.sort();
        assert_eq!(survey.sockets, [Path::new("sub/agent.sock")]);
        assert_eq!(survey.repositories, [Path::new("a"), Path::new("sub")]);
        let expected = ["a/.git", "a/.git/worktrees/w", "deep/node_modules/m/bare"].map(PathBuf::from);
        assert_eq!(survey.git_folders, expected);
        assert_eq!(survey.unseen, None);
    }

    #[test]
    fn a_look_that_ended_early_says_so() {
        let folder = world(&[], &["a", "b", "c/d"]);
        assert_eq!(look(folder.path(), &mut 4).unseen, None);
        assert_eq!(look(folder.path(), &mut 3).unseen, Some(Unseen::Bound));
    }

    #[test]
    fn a_path_too_long_to_be_searched_is_named() {
        let folder = world(&[], &[]);
        let name = "n".repeat(250);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let mut here = rustix::fs::open(folder.path(), flags, Mode::empty()).unwrap();
        for _ in 0..20 {
            mkdirat(&here, &name, Mode::RWXU).unwrap();
            here = openat(&here, &name, flags, Mode::empty()).unwrap();
        }
        let unseen = look(folder.path(), &mut { MOST_ENTRIES }).unseen;
        assert!(matches!(unseen, Some(Unseen::Folder(_))), "{unseen:?}");
    }

    #[test]
    fn what_one_window_shows_is_not_looked_at_again() {
        let folder = world(&["in"], &[]);
        let root = folder.path().canonicalize().unwrap();
        let (mut windows, mut left) = (Vec::new(), 100);
        let bind = |source: PathBuf, target: &str, writable| Mount::Bind {
            source,
            target: target.into(),
            writable,
            optional: false,
            owned: true,
        };
        let mounts = [
            bind(root.clone(), "/w", true),
            bind(root.join("in"), "/w/in", true),
            bind(root.join("in"), "/other", false),
            Mount::system(&root),
        ];
        add_windows(&mut windows, &mounts, &mut left);
        let targets: Vec<&Path> = windows.iter().map(|window: &Window| window.target.as_path()).collect();
        assert_eq!(targets, [Path::new("/w"), Path::new("/other")]);
    }
}
