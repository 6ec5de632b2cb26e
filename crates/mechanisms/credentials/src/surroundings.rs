//! Where we run: the caller's environment, home, trust and clock. What a test wants different is passed in here.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fmt, fs,
    path::{Component, Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

/// Who runs Cofferdam, and where.
#[derive(Clone)]
pub struct Surroundings {
    /// The policy file's folder: relative paths start there.
    pub policy_dir: PathBuf,
    /// The caller's environment, as it was at the start.
    pub environment: BTreeMap<OsString, OsString>,
    /// The caller's home.
    pub home: PathBuf,
    /// A bundle of roots, PEM, that providers are verified with in place of the system's, where a credential names none itself.
    pub roots: Option<PathBuf>,
    /// Folders that the sandbox may write. What a credential reads or runs must not lie there.
    pub writable_by_workload: Vec<PathBuf>,
    /// The time.
    pub clock: Clock,
    /// How long a source may take.
    pub patience: Patience,
}

/// How long a source may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// One request, from the name's resolution to the last byte of the answer.
    pub call: Duration,
    /// All that one fetch needs, tries and pauses included.
    pub fetch: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { call: Duration::from_secs(10), fetch: Duration::from_secs(30) }
    }
}

type Now = dyn Fn() -> SystemTime + Send + Sync;
type Pause = dyn Fn(Duration) + Send + Sync;

/// The time, and how to let some of it pass.
#[derive(Clone)]
pub struct Clock {
    now: Arc<Now>,
    pause: Arc<Pause>,
}

impl Clock {
    /// The machine's.
    #[expect(clippy::disallowed_methods, reason = "between two tries at a provider there is no event to wait for")]
    pub fn system() -> Self {
        Self::new(SystemTime::now, thread::sleep)
    }

    /// Another.
    pub fn new(
        now: impl Fn() -> SystemTime + Send + Sync + 'static,
        pause: impl Fn(Duration) + Send + Sync + 'static,
    ) -> Self {
        Self { now: Arc::new(now), pause: Arc::new(pause) }
    }

    pub(crate) fn now(&self) -> SystemTime {
        (self.now)()
    }

    pub(crate) fn pause(&self, time: Duration) {
        (self.pause)(time);
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

impl fmt::Debug for Surroundings {
    /// Without the environment, in which secrets are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings")
            .field("policy_dir", &self.policy_dir)
            .field("home", &self.home)
            .field("roots", &self.roots)
            .field("writable_by_workload", &self.writable_by_workload)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

impl Surroundings {
    /// Those of this process.
    pub fn of_this_process(policy_dir: PathBuf, writable_by_workload: Vec<PathBuf>) -> Self {
        let environment: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
        let home = environment.get(OsStr::new("HOME")).map_or_else(|| PathBuf::from("/nonexistent"), PathBuf::from);
        Self {
            policy_dir,
            environment,
            home,
            roots: None,
            writable_by_workload,
            clock: Clock::system(),
            patience: Patience::default(),
        }
    }

    /// A variable, where it is set, not empty, and UTF-8.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(OsStr::new(name)).and_then(|value| value.to_str()).filter(|value| !value.is_empty())
    }

    /// A path as the policy writes it: a relative one starts at the policy file.
    pub(crate) fn path(&self, written: &Path) -> PathBuf {
        self.policy_dir.join(written)
    }

    /// A path as the caller's own tools write it: `~/` is the home, and a relative one starts there too.
    pub(crate) fn callers_path(&self, written: &str) -> PathBuf {
        self.home.join(written.strip_prefix("~/").unwrap_or(written))
    }

    /// Whether the sandbox may write it, or change where its name leads: each step of the way is looked at, through symbolic links, for
    /// whoever may write a folder may turn any name in it. `..` out of such a folder passes, because the folder itself stays.
    pub(crate) fn may_be_written(&self, path: &Path) -> bool {
        let real = |folder: &PathBuf| fs::canonicalize(folder).unwrap_or_else(|_| folder.clone());
        let folders: Vec<PathBuf> = self.writable_by_workload.iter().map(real).collect();
        let writable = |at: &Path| folders.iter().any(|folder| at.starts_with(folder));
        let Ok(path) = std::path::absolute(path) else { return true };
        let (mut at, mut links) = (PathBuf::from("/"), 0);
        let mut ahead = vec![path];
        while let Some(rest) = ahead.pop() {
            let mut steps = rest.components();
            let Some(step) = steps.next() else { continue };
            ahead.push(steps.as_path().to_owned());
            match step {
                Component::RootDir | Component::Prefix(_) => at = PathBuf::from("/"),
                Component::CurDir => {}
                Component::ParentDir => {
                    at.pop();
                }
                Component::Normal(_) if writable(&at) => return true,
                Component::Normal(name) => match fs::read_link(at.join(name)) {
                    Ok(_) if links == MOST_LINKS => return true,
                    Ok(target) => {
                        links += 1;
                        ahead.push(target);
                    }
                    Err(_) => at.push(name),
                },
            }
        }
        writable(&at)
    }
}

/// As many symbolic links on one way as the kernel follows.
const MOST_LINKS: u32 = 40;

#[cfg(test)]
mod tests;
