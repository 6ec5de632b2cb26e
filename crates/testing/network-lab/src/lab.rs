//! A running lab.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::{
    Certificates, LabSpec, helper,
    reached::{Place, Reached},
    server::{Control, Line, Plan},
    spec::DnsName,
};

/// How long the lab may take to start, and to tell what reached it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who the lab's first process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    /// Root without a user namespace where this process is root, else an ordinary user.
    Own,
    /// In a user namespace that maps this user to itself: nothing here is root outside.
    Rootless,
}

/// A running lab. Dropping it, or the end of this process in any way, ends everything in it.
#[derive(Debug)]
pub struct Lab {
    process: Child,
    anchor: u32,
    helper: PathBuf,
    rootless: bool,
    certificates: Certificates,
    folder: TempDir,
    told: Mutex<Told>,
}

#[derive(Debug)]
struct Told {
    controls: Option<ChildStdin>,
    lines: Receiver<Line>,
    reached: Vec<Reached>,
    fence: u64,
}

/// One namespace of a lab.
#[derive(Debug, Clone, Copy)]
pub struct Namespace<'lab> {
    lab: &'lab Lab,
    place: Place,
}

/// What a bounded command gave.
#[derive(Debug)]
pub struct Output {
    /// How it ended; `None` where its time was up and it was killed.
    pub status: Option<ExitStatus>,
    /// Its standard output, the first MiB.
    pub stdout: String,
    /// Its standard error, the first MiB.
    pub stderr: String,
}

impl Lab {
    /// Starts a lab and waits until every server listens.
    ///
    /// # Errors
    /// Where this machine gives no namespaces, a tool (`unshare`, `nsenter`, `ip`) is missing, or a server
    /// can't start.
    pub fn start(spec: LabSpec) -> Result<Lab> {
        Self::start_as(spec, Privilege::Own)
    }

    /// Starts a lab as this user or without any privilege.
    ///
    /// # Errors
    /// As [`Lab::start`].
    pub fn start_as(mut spec: LabSpec, privilege: Privilege) -> Result<Lab> {
        let helper = helper::find()?;
        let folder = tempfile::Builder::new().prefix("network-lab-").tempdir().context("the lab's folder")?;
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let certificates = Certificates::issue(&mut spec, folder.path())?;
        let rootless = privilege == Privilege::Rootless || !rustix::process::geteuid().is_root();
        let mut command = Command::new("unshare");
        if rootless {
            command.args(["--user", "--map-current-user", "--keep-caps"]);
        }
        let mut process = command
            .args(["--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child", "--"])
            .arg(&helper)
            .arg("anchor")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("run unshare (util-linux)")?;
        let mut controls = process.stdin.take().context("the lab's standard input")?;
        let output = process.stdout.take().context("the lab's standard output")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or_else(|error| Line::Failed(format!("{error}: {line}")));
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let plan = serde_json::to_string(&Plan { spec, folder: folder.path().to_owned() })?;
        // An anchor that could not start says why on its output, which is read next.
        let _explained_below = controls.write_all((plan + "\n").as_bytes());
        let mut told = Told { controls: Some(controls), lines, reached: Vec::new(), fence: 0 };
        let anchor = told.wait_for_servers().inspect_err(|_| {
            let _ended = process.kill();
            let _reaped = process.wait();
        })?;
        Ok(Lab { process, anchor, helper, rootless, certificates, folder, told: Mutex::new(told) })
    }

    /// Where the program under test runs.
    pub fn host(&self) -> Namespace<'_> {
        self.namespace(Place::Host)
    }

    /// Any of the lab's namespaces.
    pub fn namespace(&self, place: Place) -> Namespace<'_> {
        Namespace { lab: self, place }
    }

    /// The lab's CA.
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// The lab's folder, the same inside and outside. `git/NAME` and `files/NAME` below it are
    /// served at `https://git.test/git/NAME` and `https://git.test/files/NAME`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Whether the lab runs in a user namespace.
    pub fn is_rootless(&self) -> bool {
        self.rootless
    }

    /// The pid of the lab's first process, seen from this process.
    pub fn anchor(&self) -> u32 {
        self.anchor
    }

    /// Everything that reached the lab since the last call. Waits until what was sent before has been read.
    ///
    /// # Errors
    /// Where a server of the lab died, or does not answer.
    pub fn reached(&self) -> Result<Vec<Reached>> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.fence += 1;
        let number = told.fence;
        told.control(&Control::Fence(number))?;
        let mut missing = Place::ALL.to_vec();
        while !missing.is_empty() {
            match told.next()? {
                Line::Fence(fence, place) if fence == number => missing.retain(|waited| *waited != place),
                Line::Reached(reached) => told.reached.push(*reached),
                Line::Failed(reason) => bail!("the lab failed: {reason}"),
                Line::Fence(..) | Line::Ready(_) | Line::Anchor { .. } => {}
            }
        }
        Ok(std::mem::take(&mut told.reached))
    }

    /// Changes what the DNS servers of a place answer for one name, from its first answer on.
    ///
    /// # Errors
    /// Where the lab is gone.
    pub fn script_name(&self, place: Place, name: &str, script: DnsName) -> Result<()> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.control(&Control::Name { place, name: name.to_owned(), script })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // The anchor ends at the end of its input, and with it every process of its pid namespace.
        self.told.lock().unwrap_or_else(PoisonError::into_inner).controls = None;
        let _reaped = self.process.wait();
    }
}

impl Told {
    fn wait_for_servers(&mut self) -> Result<u32> {
        let mut anchor = None;
        let mut missing = Place::ALL.to_vec();
        while !missing.is_empty() {
            match self.next()? {
                Line::Anchor { pid } => anchor = Some(pid),
                Line::Ready(place) => missing.retain(|waited| *waited != place),
                Line::Failed(reason) => bail!("the lab did not start: {reason}"),
                Line::Reached(_) | Line::Fence(..) => {}
            }
        }
        anchor.context("the lab's first process did not tell its pid")
    }

    fn next(&self) -> Result<Line> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => bail!("the lab said nothing for {PATIENCE:?}"),
            Err(RecvTimeoutError::Disconnected) => bail!("the lab ended; this machine may give no namespaces"),
        }
    }

    fn control(&mut self, control: &Control) -> Result<()> {
        let line = serde_json::to_string(control)? + "\n";
        self.controls.as_mut().context("the lab is gone")?.write_all(line.as_bytes()).context("tell the lab")
    }
}

impl Namespace<'_> {
    /// A command that will run in this namespace, as this user.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.prepare(None, None, program.as_ref())
    }

    /// The same in a folder.
    pub fn command_in(&self, folder: &Path, program: impl AsRef<OsStr>) -> Command {
        self.prepare(None, Some(folder), program.as_ref())
    }

    /// A command that will run as the ordinary user `uid`. In a rootless lab there is only this user.
    ///
    /// # Errors
    /// In a rootless lab.
    pub fn command_as(&self, uid: u32, folder: &Path, program: impl AsRef<OsStr>) -> Result<Command> {
        if self.lab.rootless {
            bail!("a rootless lab has no other user than its own");
        }
        Ok(self.prepare(Some(uid), Some(folder), program.as_ref()))
    }

    fn prepare(&self, user: Option<u32>, folder: Option<&Path>, program: &OsStr) -> Command {
        let anchor = self.lab.anchor;
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={anchor}"));
        if self.lab.rootless {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.args(["--mount", "--pid", "--ipc", "--uts"]);
        command.arg(format!("--net=/proc/{anchor}/root/run/netns/{}", self.place.name()));
        command.arg("--").arg(&self.lab.helper).arg("enter");
        if let Some(user) = user {
            command.arg("--user").arg(user.to_string());
        }
        if let Some(folder) = folder {
            command.arg("--folder").arg(folder);
        }
        command.arg("--").arg(program);
        command.env("XDG_RUNTIME_DIR", self.lab.folder.path().join("runtime"));
        for proxy in
            ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "no_proxy", "NO_PROXY"]
        {
            command.env_remove(proxy);
        }
        command
    }

    /// Runs a command of this namespace to its end or to the end of its time, whichever comes first; then all that
    /// it started in its process group is killed.
    ///
    /// # Errors
    /// Where it can't be run.
    pub fn run(&self, mut command: Command, time: Duration) -> Result<Output> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().context("run nsenter (util-linux)")?;
        let stdout = collect(child.stdout.take().context("standard output")?);
        let stderr = collect(child.stderr.take().context("standard error")?);
        let status = wait(&mut child, time)?;
        let group = rustix::process::Pid::from_child(&child);
        let _none_left = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        if status.is_none() {
            child.wait().context("reap the command")?;
        }
        Ok(Output { status, stdout: stdout.text(), stderr: stderr.text() })
    }
}

/// What a pipe gives, as far as it was read.
struct Collected {
    kept: Arc<Mutex<Vec<u8>>>,
    ended: Receiver<()>,
}

impl Collected {
    /// The text, at the pipe's end; or after a moment where a process outside the group still holds the pipe.
    fn text(&self) -> String {
        let _ended_or_held = self.ended.recv_timeout(Duration::from_secs(2));
        String::from_utf8_lossy(&self.kept.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

/// Keeps the first MiB of a pipe and reads it to its end.
fn collect(mut pipe: impl std::io::Read + Send + 'static) -> Collected {
    let (sender, ended) = mpsc::channel();
    let kept: Arc<Mutex<Vec<u8>>> = Arc::default();
    let shared = kept.clone();
    thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        while let Ok(count @ 1..) = pipe.read(&mut buffer) {
            let mut kept = shared.lock().unwrap_or_else(PoisonError::into_inner);
            let room = (1_usize << 20).saturating_sub(kept.len());
            let read = buffer.get(..count).unwrap_or_default();
            kept.extend_from_slice(read.get(..room).unwrap_or(read));
        }
        let _nobody_waits = sender.send(());
    });
    Collected { kept, ended }
}

fn wait(child: &mut Child, time: Duration) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + time;
    // A process descriptor becomes readable when its process ends (pidfd_open(2)).
    let process =
        rustix::process::pidfd_open(rustix::process::Pid::from_child(child), rustix::process::PidfdFlags::empty())
            .context("open the command's process descriptor")?;
    loop {
        if let Some(status) = child.try_wait().context("wait for the command")? {
            return Ok(Some(status));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        let mut watched = [rustix::event::PollFd::new(&process, rustix::event::PollFlags::IN)];
        let left = rustix::event::Timespec::try_from(left).ok();
        match rustix::event::poll(&mut watched, left.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("wait for the command"),
        }
    }
}
