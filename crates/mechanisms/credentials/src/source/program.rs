//! Running a program of the operator's: outside every sandbox, without a shell, bounded in time and output.
//!
//! It must not be one that the sandbox could have put there: folders of `PATH` that are relative, or that the sandbox may
//! write, are passed over, and a program in such a folder is not run.

use std::{
    fs,
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};
use zeroize::Zeroizing;

use super::{Attempt, Opening, stored::SECRET_LIMIT};
use crate::{
    fault::{Fault, OpenError, Problem},
    http::Asked,
    surroundings::Surroundings,
};

const RUNNING: Asked =
    Asked { provider: "the command", step: "running it", hint: "run it by hand, in `/`, to see what it says" };

/// A program and its arguments.
pub(crate) struct Program {
    words: Vec<String>,
}

impl Program {
    pub(crate) fn open(words: &[String], opening: &Opening<'_>) -> Result<Self, OpenError> {
        let Some(program) = words.first().filter(|word| !word.is_empty()) else {
            return Err(opening.unusable("its command is empty"));
        };
        if words.iter().any(|word| word.contains('\0')) {
            return Err(opening.unusable("its command holds a NUL"));
        }
        if program.contains('/') {
            opening.path(Path::new(program))?;
        }
        Ok(Self { words: words.to_vec() })
    }

    /// As another part of the configuration names it, such as AWS's `credential_process`.
    pub(crate) fn of(words: Vec<String>) -> Self {
        Self { words }
    }

    /// What it prints on its standard output. What it prints on the other is dropped: it may hold the secret.
    pub(crate) fn output(&self, attempt: &Attempt<'_>) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let (program, arguments) = self.words.split_first().map_or(("", &[][..]), |(first, rest)| (first, rest));
        let fault = |problem| RUNNING.fault(program.to_owned(), problem);
        let path = find(program, attempt.surroundings).map_err(|what| fault(Problem::Unfit(what)))?;
        let mut command = Command::new(path);
        command
            .args(arguments)
            .env_clear()
            .envs(&attempt.surroundings.environment)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut running = attempt.children.start(&mut command).map_err(|error| fault(Problem::Io(error)))?;
        let output = read_to_end(&mut running.child, attempt.left());
        let ended = output.is_some() && has_ended(&running.child, attempt.left());
        let status = running.finish().map_err(|error| fault(Problem::Io(error)))?;
        let Some(output) = output.filter(|_| ended) else {
            return Err(fault(Problem::Slow(attempt.surroundings.patience.fetch)));
        };
        if output.len() > SECRET_LIMIT {
            return Err(fault(Problem::Huge(SECRET_LIMIT as u64)));
        }
        if !status.success() {
            return Err(fault(Problem::Exit(status.to_string())));
        }
        if output.iter().all(u8::is_ascii_whitespace) {
            return Err(fault(Problem::Unfit("it printed nothing".to_owned())));
        }
        Ok(output)
    }
}

/// All of its output, to the limit and one byte more; none where it doesn't end in time.
fn read_to_end(child: &mut Child, time: Duration) -> Option<Zeroizing<Vec<u8>>> {
    let stdout = child.stdout.take()?;
    let (done, output) = mpsc::channel();
    let read = move || {
        let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_LIMIT + 2));
        let read = stdout.take(SECRET_LIMIT as u64 + 1).read_to_end(&mut bytes);
        // Dropping the pipe here ends a program that says too much.
        let _ = done.send(read.map(|_| bytes));
    };
    thread::Builder::new().name("command".to_owned()).spawn(read).ok()?;
    output.recv_timeout(time).ok()?.ok()
}

/// Whether it ends by itself within this time.
fn has_ended(child: &Child, time: Duration) -> bool {
    let Ok(ended) = pidfd_open(Pid::from_child(child), PidfdFlags::empty()) else { return false };
    let Ok(time) = Timespec::try_from(time) else { return false };
    matches!(poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&time)), Ok(ready) if ready > 0)
}

fn find(program: &str, surroundings: &Surroundings) -> Result<PathBuf, String> {
    if program.contains('/') {
        let path = surroundings.path(Path::new(program));
        return if surroundings.may_be_written(&path) {
            Err("it lies where the sandbox may write".to_owned())
        } else {
            Ok(path)
        };
    }
    let path = surroundings.variable("PATH").unwrap_or("/usr/local/bin:/usr/bin:/bin");
    std::env::split_paths(path)
        .filter(|folder| folder.is_absolute() && !surroundings.may_be_written(folder))
        .map(|folder| folder.join(program))
        .find(|file| is_executable(file) && !surroundings.may_be_written(file))
        .ok_or_else(|| "it is not on PATH (folders that the sandbox may write are not searched)".to_owned())
}

fn is_executable(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}
