//! The folders of past and live runs: `$XDG_STATE_HOME/cofferdam/runs/ID/{run.json,policy.yaml,events.jsonl}`.
//!
//! A run is live while its `lock` file is locked; the kernel lets go of it when the last process of the run ends,
//! so a killed run never looks alive.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{ErrorKind, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use values::RunId;

use crate::{
    config::{Config, no_state},
    failure::{Failure, code},
    output::note,
    run::{Guard, Replaced, not_compared},
};

/// What `run.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunRecord {
    /// The id.
    pub(crate) id: String,
    /// The command line.
    pub(crate) command: Vec<String>,
    /// Where it ran.
    pub(crate) working_directory: PathBuf,
    /// When it started.
    pub(crate) started: Timestamp,
    /// When it ended.
    pub(crate) ended: Option<Timestamp>,
    /// Its exit code.
    pub(crate) exit_code: Option<i32>,
    /// Where its policy came from, for people.
    pub(crate) policy: String,
    /// The policy file's folder: what its feeds are relative to.
    pub(crate) policy_folder: PathBuf,
    /// Its record.
    pub(crate) events: PathBuf,
    /// The process that holds the gateway.
    pub(crate) pid: u32,
    /// What its workload may write.
    #[serde(default)]
    pub(crate) guard: Guard,
}

/// One run's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) id: RunId,
    folder: PathBuf,
}

/// All runs of this user.
#[derive(Debug, Clone)]
pub(crate) struct Runs {
    folder: PathBuf,
    sockets: PathBuf,
}

/// Holding it means: the run is live.
#[derive(Debug)]
pub(crate) struct LiveLock {
    _file: File,
}

impl Runs {
    pub(crate) fn of(config: &Config) -> Self {
        Self { folder: config.state.value.join("runs"), sockets: config.runtime.value.clone() }
    }

    /// Makes the folders that no sandbox may see, so that it is known where they are before anything is mounted.
    pub(crate) fn prepare(&self) -> Result<()> {
        let state = self.folder.parent().unwrap_or(&self.folder);
        private_folder(state).map_err(|error| no_state(&format!("{error:#}")))?;
        private_folder(&self.sockets)
    }

    /// A folder for a new run.
    pub(crate) fn create(&self) -> Result<Run> {
        let id = RunId::generate();
        let folder = self.folder.join(id.to_string());
        private_folder(&folder)?;
        self.remove_dead_sockets();
        let run = Run { id, folder };
        self.list(&run).inspect_err(|_| self.discard(&run))?;
        Ok(run)
    }

    /// A run is listed before it is locked: one that looks at the list between the two sees it as ended, and leaves it.
    fn list(&self, run: &Run) -> Result<()> {
        private_folder(&self.live_folder())?;
        let listed = self.live_folder().join(run.id.to_string());
        File::create(&listed).map(drop).with_context(|| format!("making {}", listed.display()))
    }

    /// Takes away a run of which nothing could be recorded, as far as that is possible: the reason is told already.
    pub(crate) fn discard(&self, run: &Run) {
        let _ = fs::remove_dir_all(&run.folder);
        let _ = self.unlist(run);
    }

    /// Live runs, by the list that is kept of them: all runs may be thousands.
    pub(crate) fn live(&self) -> Result<Vec<Run>> {
        let mut live = self.listed();
        live.retain(Run::is_live);
        Ok(live)
    }

    fn listed(&self) -> Vec<Run> {
        let entries = fs::read_dir(self.live_folder()).into_iter().flatten().flatten();
        let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<RunId>().ok());
        ids.map(|id| Run { id, folder: self.folder.join(id.to_string()) }).collect()
    }

    /// Ends a run: keeps in mind which protected files its workload could write.
    pub(crate) fn end(&self, run: &Run, record: &RunRecord) -> Result<()> {
        let replaced = record.guard.replaced_now(&run.id.short());
        if !replaced.is_empty() {
            self.remember(replaced)?;
        }
        self.unlist(run)
    }

    fn unlist(&self, run: &Run) -> Result<()> {
        let listed = self.live_folder().join(run.id.to_string());
        match fs::remove_file(&listed) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", listed.display()))
            }
            _ => Ok(()),
        }
    }

    /// The files that workloads of ended runs could write, also of those that were killed.
    pub(crate) fn replaced(&self) -> Result<Vec<Replaced>> {
        for run in self.listed() {
            // One that is just starting has no lock yet.
            let was_locked = run.folder.join("lock").exists();
            if was_locked && !run.is_live() {
                match run.read() {
                    Ok(record) => {
                        if record.ended.is_none() {
                            let what = not_compared(record.guard.windows());
                            note(&format!("run {} was killed: {what}", run.id.short()));
                        }
                        self.end(&run, &record)?;
                    }
                    // Written before anything is started: where it was not yet, there was no command.
                    Err(_) if !run.folder.join("run.json").exists() => self.unlist(&run)?,
                    Err(error) => {
                        note(&format!(
                            "run {} was killed, and what its command could write is not known: {error:#}",
                            run.id.short()
                        ));
                        self.unlist(&run)?;
                    }
                }
            }
        }
        self.read_replaced()
    }

    fn read_replaced(&self) -> Result<Vec<Replaced>> {
        let path = self.replaced_file();
        match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).with_context(|| format!("reading {}", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    fn remember(&self, replaced: Vec<Replaced>) -> Result<()> {
        let path = self.replaced_file();
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(self.live_folder().join("lock"));
        let lock = lock.with_context(|| format!("locking {}", path.display()))?;
        flock(&lock, FlockOperation::LockExclusive).with_context(|| format!("locking {}", path.display()))?;
        let mut all = self.read_replaced()?;
        // Those that somebody has saved since say nothing any more.
        all.retain(|old| old.is(&old.path) && !replaced.iter().any(|new| new.path == old.path));
        all.extend(replaced);
        replace(&path, &serde_json::to_string(&all)?)
    }

    fn live_folder(&self) -> PathBuf {
        self.folder.with_file_name("live")
    }

    fn replaced_file(&self) -> PathBuf {
        self.folder.with_file_name("replaced.json")
    }

    /// A run that was killed leaves its socket behind.
    fn remove_dead_sockets(&self) {
        for entry in fs::read_dir(&self.sockets).into_iter().flatten().flatten() {
            let path = entry.path();
            let id = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<RunId>().ok());
            let run = id.map(|id| Run { id, folder: self.folder.join(id.to_string()) });
            if run.is_some_and(|run| run.folder.join("lock").exists() && !run.is_live()) {
                let _ = fs::remove_file(path);
            }
        }
    }

    /// Every run, the newest first.
    pub(crate) fn all(&self) -> Result<Vec<Run>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("reading {}", self.folder.display())),
        };
        let mut runs: Vec<Run> = entries
            .filter_map(|entry| {
                let folder = entry.ok()?.path();
                Some(Run { id: folder.file_name()?.to_str()?.parse().ok()?, folder })
            })
            .collect();
        // UUID v7: the order of ids is the order in time.
        runs.sort_by_key(|run| std::cmp::Reverse(run.id));
        Ok(runs)
    }

    /// The run that a text names: a whole id, or an unambiguous beginning of the eight characters that are shown.
    pub(crate) fn find(&self, text: &str) -> Result<Run> {
        let all = self.all()?;
        let wanted = text.strip_prefix("run-").unwrap_or(text).to_ascii_lowercase();
        let fits =
            |run: &&Run| run.id.to_string() == wanted || (!wanted.is_empty() && run.id.short().starts_with(&wanted));
        let found: Vec<&Run> = all.iter().filter(fits).collect();
        match found.as_slice() {
            [run] => Ok((*run).clone()),
            [] => Err(Failure::new(code::NOT_FOUND, format!("there is no run {text:?}"))
                .hint("`cofferdam ps --all` lists runs")
                .into()),
            several => {
                let ids: Vec<String> = several.iter().map(|run| run.id.short()).collect();
                Err(Failure::new(code::NOT_FOUND, format!("{text:?} may be {}", ids.join(", "))).into())
            }
        }
    }

    /// The run that was asked for, else the newest.
    pub(crate) fn find_or_newest(&self, text: Option<&str>) -> Result<Run> {
        match text {
            Some(text) => self.find(text),
            None => self.all()?.into_iter().next().ok_or_else(|| {
                Failure::new(code::NOT_FOUND, "there is no run yet")
                    .hint("start one with `cofferdam run -- CMD`, or read a record with `--input-file FILE`")
                    .into()
            }),
        }
    }

    /// The control socket of a run.
    pub(crate) fn socket(&self, run: &Run) -> PathBuf {
        self.sockets.join(format!("{}.sock", run.id))
    }

    /// The folders that no sandbox may see: records and control sockets.
    /// Where the installation's certificate authority is kept: no sandbox sees it.
    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.with_file_name("authority")
    }

    pub(crate) fn protected_folders(&self) -> Vec<PathBuf> {
        let state = self.folder.parent().unwrap_or(&self.folder);
        vec![state.to_owned(), self.sockets.clone()]
    }
}

impl Run {
    /// Its folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The record's own place, where `--events` names no other.
    pub(crate) fn events(&self) -> PathBuf {
        self.folder.join("events.jsonl")
    }

    /// What a command for live runs says of one that is over.
    pub(crate) fn ended(&self) -> Failure {
        Failure::new(code::NOT_FOUND, format!("run {} has ended", self.id.short()))
    }

    pub(crate) fn read(&self) -> Result<RunRecord> {
        let path = self.folder.join("run.json");
        let text = fs::read_to_string(&path).map_err(|error| match error.kind() {
            // Where it could not be written (a full disk), or is not written yet.
            ErrorKind::NotFound => {
                let what = if self.is_live() { "is only starting" } else { "never started" };
                Failure::new(code::NOT_FOUND, format!("run {} {what}: there is no {}", self.id.short(), path.display()))
                    .hint("`cofferdam ps --all` lists the others: name one with --run")
                    .into()
            }
            _ => anyhow::Error::new(error).context(format!("reading {}", path.display())),
        })?;
        serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))
    }

    /// Replaces `run.json` in one step.
    pub(crate) fn write(&self, record: &RunRecord) -> Result<()> {
        self.replace("run.json", &format!("{}\n", serde_json::to_string_pretty(record)?))
    }

    /// Keeps the policy in force beside the record.
    pub(crate) fn write_policy(&self, text: &str) -> Result<()> {
        self.replace("policy.yaml", text)
    }

    fn replace(&self, name: &str, text: &str) -> Result<()> {
        replace(&self.folder.join(name), text)
    }

    /// Marks the run as live for as long as the lock is held.
    pub(crate) fn lock(&self) -> Result<LiveLock> {
        let path = self.folder.join("lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = file.with_context(|| format!("opening {}", path.display()))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)
            .with_context(|| format!("locking {}", path.display()))?;
        Ok(LiveLock { _file: file })
    }

    pub(crate) fn is_live(&self) -> bool {
        let Ok(file) = File::open(self.folder.join("lock")) else { return false };
        flock(&file, FlockOperation::NonBlockingLockShared).is_err()
    }
}

/// Writes a file in one step.
fn replace(path: &Path, text: &str) -> Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&fresh)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&fresh, path)
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// Makes a folder that only its owner may enter, and every one above it.
pub(crate) fn private_folder(path: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("making {}", path.display()))
}
