//! Start-up: the whole command a person types, against bubblewrap with the same namespaces and mounts.
//!
//! All sides take turns, so that a busy moment hits each. What bubblewrap builds is taken from the plan that
//! Cofferdam makes for the same folder; it has no gateway, no record, no firewall, no Landlock and no seccomp filter.

use std::{
    collections::BTreeMap,
    env,
    fs::{self, File, Permissions},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{
            fs::{MetadataExt, PermissionsExt},
            process::CommandExt,
        },
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use rustix::io::{FdFlags, fcntl_setfd};
use sandbox::{Mount, PlanRequest};
use serde::{Deserialize, Serialize};

use crate::{
    figure::{self, Figure, Part},
    machine::{self, Watch},
    meter,
};

/// The ordinary user that root measures as, too.
const ORDINARY: u32 = 1500;
/// Starts before any is counted.
const WARMING: usize = 5;
/// How long a run may take to run its command.
const PATIENCE: Duration = Duration::from_secs(10);
/// From then on until the memory is read.
const SETTLE: Duration = Duration::from_millis(300);

/// How start-up is measured.
#[derive(Args)]
pub struct Start {
    /// Starts of each side.
    #[arg(long, default_value_t = 200)]
    starts: usize,
    /// The `cofferdam` program; beside this one unless given.
    #[arg(long)]
    cofferdam: Option<PathBuf>,
    /// Print JSON instead of the table.
    #[arg(long)]
    json: bool,
    /// Where the runs keep their records: the measurement for one user.
    #[arg(long, hide = true)]
    folder: Option<PathBuf>,
}

/// What is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// The command alone.
    Bare,
    /// Namespaces and mounts.
    Bubblewrap,
    /// The whole of `cofferdam run`.
    Cofferdam,
}

impl Side {
    const ALL: [Side; 3] = [Side::Bare, Side::Bubblewrap, Side::Cofferdam];

    fn name(self) -> &'static str {
        match self {
            Side::Bare => "true",
            Side::Bubblewrap => "bwrap --unshare-all",
            Side::Cofferdam => "cofferdam run",
        }
    }
}

/// What one user measured.
#[derive(Debug, Serialize, Deserialize)]
struct Measured {
    /// Milliseconds: p50 and p90 of each side.
    sides: BTreeMap<String, (f64, f64)>,
    /// Cofferdam's median over bubblewrap's, by quarter of the starts.
    ratios: Vec<f64>,
}

/// Measures as the caller; as root, once more as an ordinary user.
pub fn run(start: &Start) -> Result<()> {
    let own = env::current_exe()?;
    let cofferdam = start.cofferdam.clone().unwrap_or_else(|| own.with_file_name("cofferdam"));
    ensure!(cofferdam.exists(), "{} is missing: build it first", cofferdam.display());
    if let Some(folder) = &start.folder {
        let measured = Setting { cofferdam, folder: folder.clone() }.measure(start.starts)?;
        println!("{}", serde_json::to_string(&measured)?);
        return Ok(());
    }
    let watch = Watch::start();
    let place = tempfile::Builder::new().prefix("start-").tempdir()?;
    let caller = fs::metadata("/proc/self")?.uid();
    fs::set_permissions(place.path(), Permissions::from_mode(0o755))?;
    let users = if caller == 0 { vec![0, ORDINARY] } else { vec![caller] };
    let (mut figures, mut details) = (Vec::new(), BTreeMap::new());
    for uid in users {
        let folder = place.path().join(uid.to_string());
        fs::create_dir_all(folder.join("work"))?;
        let (own, cofferdam) = (copied(&own, &folder)?, copied(&cofferdam, &folder)?);
        let setting = Setting { cofferdam, folder };
        let measured = setting.measured_as(uid, (caller == 0).then_some(own).as_deref(), start.starts)?;
        let note = measured.sides.iter().map(|(side, (p50, _))| format!("{side} {p50:.2} ms"));
        let note = note.collect::<Vec<_>>().join(", ");
        let what = format!("`cofferdam run -- true` over bwrap with the same namespaces and mounts, uid {uid}");
        figures.push(Figure::at_most(what, 1.5, "×", &measured.ratios).noted(note));
        if caller == 0 {
            // A gateway's memory is root's alone to read.
            let memory = setting.memory(uid)?;
            figures.push(Figure::at_most(format!("memory of a run, uid {uid}"), 30.0, "MiB", &[memory]));
        }
        details.insert(uid.to_string(), measured.sides);
    }
    figure::print(start.json, &Part { machine: watch.end(), figures, details: serde_json::to_value(details)? })
}

/// A copy that every user may run.
fn copied(program: &Path, folder: &Path) -> Result<PathBuf> {
    let copy = folder.join(program.file_name().context("no program")?);
    fs::copy(program, &copy)?;
    Ok(copy)
}

fn percentile(times: &[Duration], percent: usize) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() * percent / 100).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
}

/// Where one user measures.
struct Setting {
    cofferdam: PathBuf,
    folder: PathBuf,
}

impl Setting {
    /// What a process of this user measures; this process itself where it is nobody else's.
    fn measured_as(&self, uid: u32, program: Option<&Path>, starts: usize) -> Result<Measured> {
        let Some(program) = program else { return self.measure(starts) };
        for path in [&self.folder, &self.work()] {
            std::os::unix::fs::chown(path, Some(uid), Some(uid))?;
        }
        let mut command = Command::new(program);
        command.args(["start", "--starts", &starts.to_string()]).arg("--cofferdam").arg(&self.cofferdam);
        command.arg("--folder").arg(&self.folder).uid(uid).gid(uid).stderr(Stdio::inherit());
        let output = command.output()?;
        ensure!(output.status.success(), "the measurement as uid {uid} failed");
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    fn measure(&self, starts: usize) -> Result<Measured> {
        let mut taken: [Vec<Duration>; 3] = Default::default();
        // The first few fill the caches of files and of the kernel.
        for round in 0..starts + WARMING {
            for (side, times) in Side::ALL.into_iter().zip(&mut taken) {
                let time = self.time(side)?;
                if round >= WARMING {
                    times.push(time);
                }
            }
        }
        let [_, bubblewrap, cofferdam] = &taken;
        let quarter = starts.div_ceil(4).max(1);
        let quarters = bubblewrap.chunks(quarter).zip(cofferdam.chunks(quarter));
        let ratios = quarters.map(|(theirs, ours)| percentile(ours, 50) / percentile(theirs, 50)).collect();
        let sides = Side::ALL.into_iter().zip(&taken);
        let sides = sides.map(|(side, times)| (side.name().to_owned(), (percentile(times, 50), percentile(times, 90))));
        Ok(Measured { sides: sides.collect(), ratios })
    }

    /// One start to its end.
    fn time(&self, side: Side) -> Result<Duration> {
        let (mut command, held) = match side {
            Side::Bare => (Command::new("/usr/bin/true"), Vec::new()),
            Side::Bubblewrap => self.bubblewrap("true")?,
            Side::Cofferdam => (self.cofferdam(&["true"]), Vec::new()),
        };
        command.current_dir(self.work());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let started = Instant::now();
        let output = command.output()?;
        let took = started.elapsed();
        drop(held);
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{} ended with {}: {told}", side.name(), output.status);
        Ok(took)
    }

    fn work(&self) -> PathBuf {
        self.folder.join("work")
    }

    fn cofferdam(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.cofferdam);
        command.arg("run").arg("--").args(words).current_dir(self.work());
        self.environment(&mut command);
        command.env("COFFERDAM_STATE", self.folder.join("state"));
        command
    }

    fn environment(&self, command: &mut Command) {
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.folder.join("home"));
    }

    /// What bubblewrap needs to show the same files, and the descriptors that it reads.
    fn bubblewrap(&self, word: &str) -> Result<(Command, Vec<OwnedFd>)> {
        let mut request = PlanRequest::new(vec![word.to_owned()], &self.work())?;
        request.home = self.folder.join("home");
        let plan = request.plan()?.plan;
        let mut command = Command::new(machine::program("bwrap")?);
        self.environment(&mut command);
        command.args(["--unshare-all", "--new-session", "--die-with-parent", "--hostname", "sandbox"]);
        command.args(["--uid", &plan.uid.to_string(), "--gid", &plan.gid.to_string(), "--cap-drop", "ALL"]);
        command.args(["--proc", "/proc", "--dev", "/dev"]);
        command.args(["--ro-bind-try", "/sys/devices/system/cpu", "/sys/devices/system/cpu"]);
        let mut held = Vec::new();
        for mount in &plan.mounts {
            match mount {
                Mount::Bind { source, target, writable, optional, .. } => {
                    let kind = if *writable { "--bind" } else { "--ro-bind" };
                    let kind = if *optional { format!("{kind}-try") } else { kind.to_owned() };
                    command.arg(kind).arg(source).arg(target);
                }
                Mount::Tmpfs { target, size, mode } => {
                    command.args(["--perms", &format!("{mode:o}"), "--size", &size.to_string(), "--tmpfs"]).arg(target);
                }
                Mount::File { target, content } => {
                    let descriptor = self.content(held.len(), content)?;
                    command.args(["--file", &descriptor.as_raw_fd().to_string()]).arg(target);
                    held.push(descriptor);
                }
                Mount::Symlink { target, to } => {
                    command.arg("--symlink").arg(to).arg(target);
                }
            }
        }
        command.args(["--remount-ro", "/", "--chdir"]).arg(self.work()).arg(word);
        Ok((command, held))
    }

    /// A descriptor for a child to read this from.
    fn content(&self, number: usize, content: &str) -> Result<OwnedFd> {
        let path = self.folder.join(format!("content-{number}"));
        fs::write(&path, content)?;
        let file = OwnedFd::from(File::open(&path)?);
        fcntl_setfd(&file, FdFlags::empty())?;
        Ok(file)
    }

    /// Proportional memory of every process of a run.
    fn memory(&self, uid: u32) -> Result<f64> {
        let mut child = self.cofferdam(&["sleep", "60"]).uid(uid).gid(uid).stderr(Stdio::null()).spawn()?;
        let memory = self.memory_of(child.id());
        child.kill()?;
        child.wait()?;
        memory
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "what a run holds shows when it has come to rest: nothing tells when"
    )]
    fn memory_of(&self, front: u32) -> Result<f64> {
        let deadline = Instant::now() + PATIENCE;
        while meter::running(&meter::tree(front), Path::new("/usr/bin/sleep")).is_empty() {
            ensure!(Instant::now() < deadline, "the run did not start");
            thread::sleep(Duration::from_millis(5));
        }
        thread::sleep(SETTLE);
        meter::memory_mib(&meter::tree(front))
    }
}
