//! Which files a live run's workload can't write, and which of them the host replaced: the read-only mount went with the
//! old one, so from then on the workload could.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// What the workload of a live run may write, and which files in there are held read-only since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Guard {
    windows: Vec<PathBuf>,
    /// What a mount holds read-only.
    held: Vec<Held>,
    /// All that no workload of another run may write either.
    #[serde(default)]
    closed: Vec<PathBuf>,
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
        let path = fs::canonicalize(path).ok()?;
        Some(Self { path, device: found.dev(), inode: found.ino() })
    }
}

impl Guard {
    /// Over what the sandbox made read-only, and all that must stay so.
    pub(crate) fn new(windows: Vec<PathBuf>, held: &[PathBuf], closed: &[PathBuf]) -> Self {
        let real = |path: &PathBuf| fs::canonicalize(path).ok();
        let held = held.iter().filter_map(|path| Held::of(path)).collect();
        Self { windows, held, closed: closed.iter().filter_map(real).collect() }
    }

    /// What no workload of another run may write either.
    pub(crate) fn closed(&self) -> &[PathBuf] {
        &self.closed
    }

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
        if now.as_ref().is_some_and(is_held) || self.is_in_held_folder(&real) {
            return Ok(());
        }
        Err("the sandboxed command can write it: it lies where the command may write, and is not the file that was \
             made read-only at the start"
            .to_owned())
    }

    /// Refuses a file that is open, as [`Guard::check`] does by its path: by now another one may have its name.
    pub(crate) fn check_open(&self, file: &fs::File, path: &Path) -> Result<(), String> {
        let (open, named) = (file.metadata(), fs::metadata(path));
        match (open, named) {
            (Ok(open), Ok(named)) if (open.dev(), open.ino()) == (named.dev(), named.ino()) => self.check(path),
            _ => Err("it was replaced a moment ago".to_owned()),
        }
    }

    fn is_in_held_folder(&self, real: &Path) -> bool {
        let holds = |held: &&Held| held.path != real && real.starts_with(&held.path);
        let mut folders = self.held.iter().filter(holds);
        folders.any(|held| held.path.is_dir() && Held::of(&held.path).as_ref() == Some(held))
    }

    /// The files that were replaced, as they are now.
    pub(crate) fn replaced_now(&self, run: &str) -> Vec<Replaced> {
        self.replaced().iter().filter_map(|path| Replaced::of(Path::new(path), run)).collect()
    }

    /// Files that were replaced since the start: the workload could write them from then on.
    pub(crate) fn replaced(&self) -> Vec<String> {
        let same = |held: &Held| Held::of(&held.path).as_ref() == Some(held);
        // In a folder that is read-only as a whole a file may come and go.
        let gone = self.held.iter().filter(|held| !same(held) && !self.is_in_held_folder(&held.path));
        gone.map(|held| held.path.display().to_string()).collect()
    }
}

/// A file as a workload could leave it. Whoever saves or touches it afterwards has it be another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Replaced {
    pub(crate) path: PathBuf,
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    changed: (i64, i64),
    /// The run, as it is shown.
    pub(crate) run: String,
}

impl Replaced {
    fn of(path: &Path, run: &str) -> Option<Self> {
        let found = fs::metadata(path).ok()?;
        Some(Self {
            path: path.to_owned(),
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
            run: run.to_owned(),
        })
    }

    /// Whether this path leads to the very file, unchanged.
    pub(crate) fn is(&self, path: &Path) -> bool {
        Replaced::of(path, &self.run).is_some_and(|now| Replaced { path: self.path.clone(), ..now } == *self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_replaced_is_no_longer_held() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        let (held, fresh) = (root.join("policy.yaml"), root.join("fresh"));
        for path in [&held, &fresh] {
            fs::write(path, "x").unwrap();
        }
        let guard = Guard::new(vec![root.clone()], std::slice::from_ref(&held), &[]);
        assert_eq!(guard.check(&held), Ok(()));
        assert!(guard.check(&fresh).is_err());
        assert_eq!(Guard::default().check(&fresh), Ok(()));
        assert!(guard.replaced().is_empty());
        fs::rename(&fresh, &held).unwrap();
        assert!(guard.check(&held).is_err());
        assert_eq!(guard.replaced(), [held.display().to_string()]);
        let [replaced] = &guard.replaced_now("1a2b3c4d")[..] else { panic!("one file") };
        assert!(replaced.is(&held));
        fs::write(&held, "read").unwrap();
        assert!(!replaced.is(&held), "whoever saves it has read it");
    }

    #[test]
    fn what_lies_in_a_held_folder_is_held() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        fs::create_dir(root.join("conf")).unwrap();
        let inside = root.join("conf/policy.yaml");
        fs::write(&inside, "x").unwrap();
        let guard = Guard::new(vec![root.clone()], &[root.join("conf")], &[]);
        assert_eq!(guard.check(&inside), Ok(()));
        let opened = fs::File::open(&inside).unwrap();
        assert_eq!(guard.check_open(&opened, &inside), Ok(()));
        fs::rename(root.join("conf"), root.join("old")).unwrap();
        fs::create_dir(root.join("conf")).unwrap();
        fs::write(&inside, "x").unwrap();
        assert!(guard.check(&inside).is_err());
        assert!(guard.check_open(&opened, &inside).is_err());
    }
}
