//! Finding a tool on the caller's path and asking it, away from any checkout.
//!
//! The tool runs outside the sandbox, so it must not be one that the workload could have put there:
//! folders of the path that are relative, or inside a folder the workload may write, are passed over.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    io::{self, Read},
    os::unix::{
        fs::PermissionsExt as _,
        process::{CommandExt as _, ExitStatusExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open},
};

/// How long a tool may take to say where it fetches from.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most a tool may say.
const ANSWER_LIMIT: u64 = 1 << 20;

/// Who runs Cofferdam: the environment the tools are asked in.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The caller's environment.
    pub environment: BTreeMap<OsString, OsString>,
    /// Folders that the workload may write; no tool in them is run.
    pub writable_by_workload: Vec<PathBuf>,
}

/// Why a tool could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It is not there, or only where the workload could have put it.
    #[error("{tool} is not installed (PATH was searched, without folders that the workload may write)")]
    Missing {
        /// The tool.
        tool: String,
    },
    /// It can't be started.
    #[error("can't start {tool}")]
    Start {
        /// The tool.
        tool: String,
        /// Why.
        source: io::Error,
    },
    /// It failed.
    #[error("{command} failed: {stderr}")]
    Failed {
        /// The command line.
        command: String,
        /// The end of what it said.
        stderr: String,
    },
    /// It took too long.
    #[error("{command} took longer than {} s", PATIENCE.as_secs())]
    TooSlow {
        /// The command line.
        command: String,
    },
}

/// What a tool said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) success: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Caller {
    /// The caller of this process.
    pub fn of_this_process(writable_by_workload: Vec<PathBuf>) -> Self {
        Self { environment: std::env::vars_os().collect(), writable_by_workload }
    }

    /// A variable, where it is set and UTF-8.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(&OsString::from(name)).and_then(|value| value.to_str()).filter(|value| !value.is_empty())
    }

    /// The caller's home.
    pub(crate) fn home(&self) -> PathBuf {
        self.variable("HOME").map_or_else(|| PathBuf::from("/nonexistent"), PathBuf::from)
    }

    /// The first executable of this name on the path, in a folder the workload can't write.
    pub(crate) fn find(&self, tool: &str) -> Result<PathBuf, ToolError> {
        let path = self.variable("PATH").unwrap_or("/usr/local/bin:/usr/bin:/bin");
        std::env::split_paths(path)
            .filter(|folder| folder.is_absolute() && !self.may_be_written(folder))
            .map(|folder| folder.join(tool))
            .find(|file| is_executable(file) && !self.may_be_written(file))
            .ok_or_else(|| ToolError::Missing { tool: tool.to_owned() })
    }

    /// Whether the workload may write it.
    pub(crate) fn may_be_written(&self, path: &Path) -> bool {
        let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        self.writable_by_workload.iter().any(|folder| {
            let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.clone());
            // A workload that may write `/` makes no difference to where tools live; the caller says so.
            folder != Path::new("/") && (real.starts_with(&folder) || path.starts_with(&folder))
        })
    }

    /// Asks a tool; an exit code other than 0 is an error.
    pub(crate) fn ask(&self, tool: &str, arguments: &[&str]) -> Result<String, ToolError> {
        let said = self.ask_with(tool, arguments, &[])?;
        if said.success {
            return Ok(said.stdout);
        }
        Err(ToolError::Failed { command: command_line(tool, arguments), stderr: last_words(&said.stderr) })
    }

    /// Asks a tool with more variables; any exit code is an answer.
    pub(crate) fn ask_with(&self, tool: &str, arguments: &[&str], more: &[(&str, &str)]) -> Result<Said, ToolError> {
        let program = self.find(tool)?;
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(&self.environment)
            // Wide, so that no answer is wrapped inside a URL; plain, so that nothing has to be taken off.
            .envs([("COLUMNS", "400"), ("NO_COLOR", "1"), ("LC_ALL", "C.UTF-8")])
            .envs(more.iter().copied())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|source| ToolError::Start { tool: tool.to_owned(), source })?;
        let stdout = child.stdout.take().map(read_in_thread);
        let stderr = child.stderr.take().map(read_in_thread);
        let in_time = wait_in_time(&child);
        if !in_time {
            // The tool leads a process group of its own: what it started goes with it.
            let _ = i32::try_from(child.id()).ok().and_then(Pid::from_raw).map(|p| kill_process_group(p, Signal::KILL));
        }
        let status = child.wait().map_err(|source| ToolError::Start { tool: tool.to_owned(), source })?;
        if !in_time || status.signal().is_some() {
            return Err(ToolError::TooSlow { command: command_line(tool, arguments) });
        }
        Ok(Said { success: status.success(), stdout: collect(stdout), stderr: collect(stderr) })
    }
}

fn is_executable(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

fn wait_in_time(child: &Child) -> bool {
    let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else { return false };
    let Ok(ended) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
    let patience = Timespec { tv_sec: i64::try_from(PATIENCE.as_secs()).unwrap_or(30), tv_nsec: 0 };
    matches!(poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&patience)), Ok(ready) if ready > 0)
}

fn read_in_thread(stream: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut text = Vec::new();
        let mut bounded = stream.take(ANSWER_LIMIT);
        let _ = bounded.read_to_end(&mut text);
        // What goes over the limit is read and dropped, so that the tool doesn't wait for us.
        let _ = io::copy(&mut bounded.into_inner(), &mut io::sink());
        String::from_utf8_lossy(&text).into_owned()
    })
}

fn collect(reader: Option<JoinHandle<String>>) -> String {
    reader.and_then(|reader| reader.join().ok()).unwrap_or_default()
}

fn command_line(tool: &str, arguments: &[&str]) -> String {
    [&[tool], arguments].concat().join(" ")
}

/// The last line of an error, cut: enough to act on.
fn last_words(stderr: &str) -> String {
    let line = stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    line.trim().chars().filter(|c| !c.is_control()).take(200).collect()
}
