//! What no workload may see or change: its own policy, lists, record, settings and control socket.
//!
//! Collected before anything is mounted; the sandbox covers it wherever a mount shows it. A path that goes by a
//! symbolic link which the workload could replace is refused, and so is the home as working directory. What the host
//! replaces during a run (an editor's rename) takes the read-only mount with it: such a file is not read again.

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Component, Path, PathBuf},
};

use anyhow::Result;
use policy::model::PolicySpec;
use policy_file::NeededLists;
use serde::{Deserialize, Serialize};

use crate::{
    config::{self, Config},
    failure::{Failure, code},
    runs::{Runs, private_folder},
};

use super::arguments::Arguments;

/// As many links as the kernel follows (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// Refuses the home, and what it lies in, as working directory: its files run programs on the host.
pub(crate) fn refuse_home(working_directory: &Path, allowed: bool) -> Result<()> {
    let home = config::home();
    let home = fs::canonicalize(&home).unwrap_or(home);
    if allowed || home == Path::new("/") || !home.starts_with(working_directory) {
        return Ok(());
    }
    let what = format!("{} is your home, or holds it: the command could change what you run", home.display());
    Err(Failure::new(code::RUN_FAILED, what)
        .hint("work in a folder of the project (--workdir DIR), or say --allow-home")
        .into())
}

/// The folders that the workload may write, and the paths that it must not.
#[derive(Debug)]
pub(crate) struct Guarded {
    windows: Vec<PathBuf>,
    /// Folders that no mount may show.
    pub(crate) hidden: Vec<PathBuf>,
    closed: Vec<PathBuf>,
}

impl Guarded {
    /// Collects and checks the paths that are known before the policy is read. Settings that the workload could make
    /// are made here.
    pub(crate) fn new(arguments: &Arguments, config: &Config, windows: Vec<PathBuf>) -> Result<Self> {
        let mut guarded = Self { windows, hidden: Runs::of(config).protected_folders(), closed: Vec::new() };
        for folder in &guarded.hidden {
            guarded.refuse_links(folder)?;
        }
        for folder in config::folders() {
            guarded.refuse_links(&folder.join("config.toml"))?;
            if !folder.exists() && guarded.is_writable(&folder) {
                private_folder(&folder)?;
            }
            guarded.closed.push(folder);
        }
        let named = [&arguments.policy, &config.policy.value, &arguments.events, &arguments.ask_file];
        for path in named.into_iter().flatten().filter(|path| *path != Path::new("-")) {
            guarded.refuse_links(path)?;
            guarded.closed.push(path.clone());
        }
        Ok(guarded)
    }

    /// Adds the lists of a policy.
    pub(crate) fn add_lists(&mut self, folder: &Path, spec: &PolicySpec) -> Result<()> {
        let needed = NeededLists::of(spec);
        let feeds = needed.feeds.into_iter().map(|needed| needed.list.path);
        let tags = needed.service_tags.into_iter().map(|needed| needed.list.path);
        for path in feeds.chain(tags).map(|path| folder.join(path)) {
            self.refuse_links(&path)?;
            self.closed.push(path);
        }
        Ok(())
    }

    /// What must be read-only. One that is not there can't be changed, unless the workload could make it: then it is
    /// among these, and the sandbox refuses to start.
    pub(crate) fn closed(&self) -> Vec<PathBuf> {
        let mut closed = self.closed.clone();
        closed.retain(|path| match fs::metadata(path) {
            Ok(found) => found.is_file() || found.is_dir(),
            Err(_) => self.is_writable(path),
        });
        closed.sort();
        closed.dedup();
        closed
    }

    /// The guard for the time of the run, over what the sandbox made read-only.
    pub(crate) fn live(&self, closed: &[PathBuf]) -> Guard {
        Guard { windows: self.windows.clone(), held: closed.iter().filter_map(|path| Held::of(path)).collect() }
    }

    fn is_writable(&self, path: &Path) -> bool {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let real = absolute.ancestors().find_map(|above| fs::canonicalize(above).ok());
        real.is_some_and(|real| self.windows.iter().any(|window| real.starts_with(window)))
    }

    fn refuse_links(&self, path: &Path) -> Result<()> {
        match link_within(path, &self.windows)? {
            None => Ok(()),
            Some(link) => {
                let what = format!(
                    "{} goes by the symbolic link {}, which the command could replace",
                    path.display(),
                    link.display()
                );
                Err(Failure::new(code::RUN_FAILED, what).hint("name the file that the link leads to").into())
            }
        }
    }
}

/// The first symbolic link on the way to a path that lies in one of these folders.
fn link_within(path: &Path, windows: &[PathBuf]) -> Result<Option<PathBuf>> {
    let from = if path.is_absolute() { PathBuf::from("/") } else { fs::canonicalize(".")? };
    let mut here = from;
    let mut left: VecDeque<OsString> = parts(path);
    let mut links = 0;
    while let Some(part) = left.pop_front() {
        if part == ".." {
            here.pop();
            continue;
        }
        let next = here.join(&part);
        let Ok(to) = fs::read_link(&next) else {
            here = next;
            continue;
        };
        if windows.iter().any(|window| next.starts_with(window)) {
            return Ok(Some(next));
        }
        links += 1;
        if links > MOST_LINKS {
            return Err(
                Failure::new(code::RUN_FAILED, format!("{} goes by too many symbolic links", path.display())).into()
            );
        }
        if to.is_absolute() {
            here = PathBuf::from("/");
        }
        for part in parts(&to).into_iter().rev() {
            left.push_front(part);
        }
    }
    Ok(None)
}

fn parts(path: &Path) -> VecDeque<OsString> {
    let named = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    named.map(|part| part.as_os_str().to_owned()).collect()
}

/// What the workload of a live run may write, and which files in there are held read-only since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Guard {
    windows: Vec<PathBuf>,
    held: Vec<Held>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Held {
    fn of(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok()?;
        let path = std::path::absolute(path).ok()?;
        Some(Self { path, device: found.dev(), inode: found.ino() })
    }
}

impl Guard {
    /// What the workload may write.
    pub(crate) fn windows(&self) -> &[PathBuf] {
        &self.windows
    }

    /// Refuses a file that the workload may have written. Gives why.
    pub(crate) fn check(&self, path: &Path) -> Result<(), String> {
        let real = fs::canonicalize(path).map_err(|error| error.to_string())?;
        if !self.windows.iter().any(|window| real.starts_with(window)) {
            return Ok(());
        }
        let now = Held::of(&real);
        let is_held = |now: &Held| self.held.iter().any(|held| (held.device, held.inode) == (now.device, now.inode));
        if now.as_ref().is_some_and(is_held) {
            return Ok(());
        }
        Err("the sandboxed command can write it: it lies where the command may write, and is not the file that was \
             made read-only at the start"
            .to_owned())
    }

    /// Files that were replaced since the start: the workload could write them from then on.
    pub(crate) fn replaced(&self) -> Vec<String> {
        let same = |held: &Held| Held::of(&held.path).as_ref() == Some(held);
        self.held.iter().filter(|held| !same(held)).map(|held| held.path.display().to_string()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_count_where_the_workload_could_replace_them() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        for name in ["work/conf", "safe"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        let link = |to: &str, at: &str| std::os::unix::fs::symlink(to, root.join(at)).unwrap();
        link("conf", "work/way");
        link("real.yaml", "work/conf/policy.yaml");
        link("../work/way", "safe/in");
        link("../work/conf", "safe/past");
        link("loop", "safe/loop");
        let windows = [root.join("work")];
        for (path, expected) in [
            ("work/conf/real.yaml", None),
            ("work/conf/policy.yaml", Some("work/conf/policy.yaml")),
            ("work/way/real.yaml", Some("work/way")),
            ("safe/in/real.yaml", Some("work/way")),
            ("safe/past/real.yaml", None),
            ("work/../safe/past/policy.yaml", Some("work/conf/policy.yaml")),
            ("gone/policy.yaml", None),
        ] {
            let found = link_within(&root.join(path), &windows).unwrap();
            assert_eq!(found, expected.map(|link| root.join(link)), "{path}");
        }
        assert!(link_within(&root.join("safe/loop/x"), &windows).is_err());
    }

    #[test]
    fn a_file_that_was_replaced_is_no_longer_held() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        let (held, fresh) = (root.join("policy.yaml"), root.join("fresh"));
        for path in [&held, &fresh] {
            fs::write(path, "x").unwrap();
        }
        let guard = Guard { windows: vec![root.clone()], held: Held::of(&held).into_iter().collect() };
        assert_eq!(guard.check(&held), Ok(()));
        assert!(guard.check(&fresh).is_err());
        assert_eq!(Guard::default().check(&fresh), Ok(()));
        assert!(guard.replaced().is_empty());
        fs::rename(&fresh, &held).unwrap();
        assert!(guard.check(&held).is_err());
        assert_eq!(guard.replaced(), [held.display().to_string()]);
    }
}
