//! Starts the workload: a child in a session of its own, with nothing of init's left in it.
//!
//! Init has one thread, so the child may do between `fork` and `exec` what any program may.

use std::ffi::{CString, NulError, OsStr};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use init_protocol::{Plan, Terminal};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, chdir, ioctl_tiocsctty, setsid};

use crate::failure::{Failure, Step};

/// Found, but can't be run.
const CANNOT_RUN: u8 = 126;
/// Not found.
const NOT_FOUND: u8 = 127;
/// What a pipe always takes at once (PIPE_BUF).
const LONGEST_REPORT: usize = 4096;
/// Characters of a name that are shown.
const LONGEST_NAME: usize = 255;
/// Where programs are looked for when the environment does not say.
const USUAL_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";

const HINT_TEXT: &str = "the command and its environment are texts that end with a zero";
const HINT: &str = "the workload's process could not be made; a limit on processes may be too low";

/// A workload that was started: it runs, or will say why it can't be run.
pub(crate) struct Started {
    /// The process.
    pub(crate) pid: Pid,
    /// Closed by the exec; where that failed, it holds the code and the reason.
    report: OwnedFd,
}

/// The workload as the kernel wants it.
struct Program {
    /// Paths to try, in order.
    candidates: Vec<CString>,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

/// Starts the plan's command.
pub(crate) fn start(plan: &Plan, terminal: Option<OwnedFd>) -> Result<Started, Failure> {
    let program =
        Program::of(plan).map_err(|_| Failure::new("workload: a zero byte in it", Errno::INVAL, HINT_TEXT))?;
    let (report, writer) = pipe_with(PipeFlags::CLOEXEC).step("workload: pipe", HINT)?;
    // SAFETY: init has one thread, so the child's copy of memory is whole and consistent.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        let errno = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::AGAIN);
        return Err(Failure::new("workload: fork", errno, HINT));
    }
    match Pid::from_raw(pid) {
        Some(pid) => Ok(Started { pid, report }),
        None => become_workload(&program, plan, terminal, writer),
    }
}

impl Started {
    /// Once it has ended: the code and the reason, where it could not be run at all.
    pub(crate) fn why_not_run(self) -> Option<(u8, String)> {
        let mut report = Vec::new();
        // A pipe that can't be read tells as little as one that was closed by exec.
        let _ = std::fs::File::from(self.report).read_to_end(&mut report);
        let (code, reason) = report.split_first()?;
        Some((*code, String::from_utf8_lossy(reason).into_owned()))
    }
}

/// In the child: never comes back.
fn become_workload(program: &Program, plan: &Plan, terminal: Option<OwnedFd>, report: OwnedFd) -> ! {
    let (code, reason) = match prepare(plan, terminal) {
        Err(reason) => (CANNOT_RUN, reason),
        Ok(()) => program.execute(plan),
    };
    let mut message = vec![code];
    message.extend_from_slice(reason.as_bytes());
    // Nobody reads before this process has ended: what does not fit into the pipe would be waited for without end.
    message.truncate(LONGEST_REPORT);
    // Without a reader there is nobody left to tell.
    let _ = std::fs::File::from(report).write_all(&message);
    // SAFETY: ends this process without running what belongs to init.
    unsafe { libc::_exit(i32::from(code)) }
}

fn prepare(plan: &Plan, terminal: Option<OwnedFd>) -> Result<(), String> {
    let fail = |what: &'static str| move |errno: Errno| format!("{what}: {errno}");
    reset_signals();
    setsid().map_err(fail("new session"))?;
    if let Some(terminal) = terminal {
        ioctl_tiocsctty(&terminal).map_err(fail("controlling terminal"))?;
        let on_terminal = match plan.terminal {
            Terminal::New { streams, .. } => streams,
            Terminal::Inherit => [false; 3],
        };
        for (stream, is_terminal) in (0..).zip(on_terminal) {
            if !is_terminal {
                continue;
            }
            // SAFETY: both are descriptors of this process; the standard ones are meant to be replaced.
            if unsafe { libc::dup2(terminal.as_raw_fd(), stream) } < 0 {
                return Err(format!("standard streams: {}", std::io::Error::last_os_error()));
            }
        }
    }
    // SAFETY: marks descriptors of this process close-on-exec; it closes none, and none is used by number below.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    let directory = &plan.working_directory;
    chdir(directory).map_err(|errno| format!("working directory {}: {errno}", directory.display()))
}

/// All signals as a fresh program has them: init itself ignores and blocks some.
fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: sets a disposition by number; the two that can't be set are refused, which is fine.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let mut none = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the set is written by sigemptyset before sigprocmask reads it.
    unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
    }
}

impl Program {
    fn of(plan: &Plan) -> Result<Program, NulError> {
        let name = plan.command.first().map(|name| name.as_bytes()).unwrap_or_default();
        let path = plan.environment.iter().rev().find(|(key, _)| key == "PATH").map(|(_, value)| value.as_bytes());
        let candidates = if name.contains(&b'/') || name.is_empty() {
            vec![CString::new(name)?]
        } else {
            let folders = path.unwrap_or(USUAL_PATH.as_bytes()).split(|byte| *byte == b':');
            let found = folders.map(|folder| [if folder.is_empty() { b"." } else { folder }, name].join(&b'/'));
            found.map(CString::new).collect::<Result<_, _>>()?
        };
        let arguments =
            plan.command.iter().map(|argument| CString::new(argument.as_bytes())).collect::<Result<_, _>>()?;
        let variables =
            plan.environment.iter().map(|(key, value)| CString::new([key.as_bytes(), value.as_bytes()].join(&b'=')));
        Ok(Program { candidates, arguments, environment: variables.collect::<Result<_, _>>()? })
    }

    /// Tries each candidate, as execvp(3) does. Comes back only with the reason why none could be run.
    fn execute(&self, plan: &Plan) -> (u8, String) {
        let name = plan.command.first().map(|name| name.to_string_lossy()).unwrap_or_default();
        let environment = pointers(&self.environment);
        let mut denied = None;
        for candidate in &self.candidates {
            let arguments = pointers(&self.arguments);
            // SAFETY: both lists end with a null pointer and point to strings that live as long as `self`.
            unsafe { libc::execve(candidate.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
            let error = std::io::Error::last_os_error();
            let shown = bounded(&candidate.to_string_lossy());
            let path = Path::new(OsStr::from_bytes(candidate.to_bytes()));
            match error.raw_os_error() {
                Some(libc::ENOEXEC) => return self.execute_by_shell(candidate, &environment),
                Some(libc::ENOENT) if path.exists() => {
                    return (CANNOT_RUN, format!("{shown}: its interpreter is not in the sandbox"));
                }
                Some(libc::ENOENT | libc::ENOTDIR) => {}
                Some(libc::EACCES) => denied = Some(format!("{shown}: {error}")),
                _ => return (CANNOT_RUN, format!("{shown}: {error}")),
            }
        }
        denied.map_or_else(
            || (NOT_FOUND, format!("{}: not found in the sandbox", bounded(&name))),
            |reason| (CANNOT_RUN, reason),
        )
    }

    /// A text file without `#!` is a shell's.
    fn execute_by_shell(&self, script: &CString, environment: &[*const libc::c_char]) -> (u8, String) {
        let shell = c"/bin/sh";
        let mut arguments = vec![shell.as_ptr(), script.as_ptr()];
        arguments.extend(self.arguments.iter().skip(1).map(|argument| argument.as_ptr()));
        arguments.push(std::ptr::null());
        // SAFETY: both lists end with a null pointer and point to strings that live as long as this call.
        unsafe { libc::execve(shell.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
        (CANNOT_RUN, format!("{}: {}", bounded(&script.to_string_lossy()), std::io::Error::last_os_error()))
    }
}

/// A name that leaves room for the reason behind it.
fn bounded(name: &str) -> String {
    match name.char_indices().nth(LONGEST_NAME) {
        Some((end, _)) => format!("{}…", name.get(..end).unwrap_or_default()),
        None => name.to_owned(),
    }
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

/// The process group in front of a terminal, or the workload's own.
pub(crate) fn foreground(terminal: Option<BorrowedFd<'_>>, workload: Pid) -> Pid {
    terminal.and_then(|master| rustix::termios::tcgetpgrp(master).ok()).unwrap_or(workload)
}
