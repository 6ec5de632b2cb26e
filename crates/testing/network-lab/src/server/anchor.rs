//! The lab's first process.
//!
//! It sees the machine's own filesystem but for `/run` (private, so that no host socket is reachable), `/proc`
//! (the lab's processes only) and `resolv.conf` and `hosts` (the lab's own).

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    sync::{Mutex, PoisonError},
    thread,
};

use anyhow::{Context as _, Result};
use rustix::{
    mount::{MountFlags, mount, mount_bind},
    process::WaitOptions,
};

use super::{Line, Plan, network};
use crate::{addresses, reached::Place};

pub(super) fn run() -> Result<ExitCode> {
    // Before /proc is ours: the only moment at which our pid outside can be read.
    let outside = fs::read_link("/proc/self").context("read /proc/self")?;
    let outside = outside.to_string_lossy().parse().context("the anchor's pid outside")?;
    tell(&Line::Anchor { pid: outside })?;

    let mut first = String::new();
    std::io::stdin().lock().read_line(&mut first).context("read the plan")?;
    let plan: Plan = serde_json::from_str(&first).context("the plan")?;
    prepare_filesystem(&plan.folder)?;
    network::build()?;

    let mut inputs = Vec::new();
    let mut servers = Vec::new();
    for place in Place::ALL {
        let mut server = start_server(place)?;
        let mut input = server.stdin.take().context("a server's standard input")?;
        input.write_all(first.as_bytes())?;
        inputs.push(input);
        let output = server.stdout.take().context("a server's standard output")?;
        thread::spawn(move || pump(BufReader::new(output)));
        servers.push((server.id(), place));
    }
    thread::spawn(move || reap(&servers));
    for line in std::io::stdin().lock().lines() {
        let line = line.context("read a control")? + "\n";
        for input in &mut inputs {
            input.write_all(line.as_bytes()).context("pass a control on")?;
        }
    }
    // The test is done or dead. Where it is dead nobody else takes its folder away; our end is the end of every
    // process here.
    let _already_gone = fs::remove_dir_all(&plan.folder);
    Ok(ExitCode::SUCCESS)
}

/// One line at a time, whole.
fn tell(line: &Line) -> Result<()> {
    let mut text = serde_json::to_string(line)?;
    text.push('\n');
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

fn prepare_filesystem(folder: &Path) -> Result<()> {
    mount("proc", "/proc", "proc", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, None)
        .context("mount /proc")?;
    let resolver = fs::canonicalize("/etc/resolv.conf").unwrap_or_else(|_| "/etc/resolv.conf".into());
    // The lab's folder may stand below /run: keep it reachable.
    let kept = folder.starts_with("/run").then(|| fs::File::open(folder)).transpose()?;
    mount("tmpfs", "/run", "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, None).context("mount /run")?;
    if let Some(kept) = kept {
        use std::os::fd::AsRawFd as _;
        fs::create_dir_all(folder)?;
        mount_bind(format!("/proc/self/fd/{}", kept.as_raw_fd()), folder).context("keep the lab's folder")?;
    }
    let names = format!("nameserver {}\noptions timeout:2 attempts:2\n", addresses::DNS);
    replace(&resolver, &names, &folder.join("resolv.conf"))?;
    replace(Path::new("/etc/hosts"), "127.0.0.1 localhost\n::1 localhost\n", &folder.join("hosts"))?;
    Ok(())
}

/// Puts `content` in the place of `target`, for the lab's mount namespace only.
fn replace(target: &Path, content: &str, source: &Path) -> Result<()> {
    if target.starts_with("/run") {
        let parent = target.parent().context("a file's folder")?;
        fs::create_dir_all(parent)?;
        return fs::write(target, content).with_context(|| format!("write {}", target.display()));
    }
    fs::write(source, content).with_context(|| format!("write {}", source.display()))?;
    mount_bind(source, target).with_context(|| format!("mount over {}", target.display()))
}

fn start_server(place: Place) -> Result<Child> {
    let own = std::env::current_exe().context("the helper's own path")?;
    Command::new("nsenter")
        .arg(format!("--net=/run/netns/{}", place.name()))
        .arg("--")
        .arg(own)
        .args(["serve", place.name()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("start the servers of {}", place.name()))
}

static OUTPUT: Mutex<()> = Mutex::new(());

fn pump(input: impl std::io::BufRead) {
    for line in input.lines() {
        let Ok(line) = line else { return };
        let _whole = OUTPUT.lock().unwrap_or_else(PoisonError::into_inner);
        let mut output = std::io::stdout().lock();
        if output.write_all((line + "\n").as_bytes()).and_then(|()| output.flush()).is_err() {
            std::process::exit(1);
        }
    }
}

/// Reaps every orphan of the lab. A lab without one of its servers proves nothing: it ends.
fn reap(servers: &[(u32, Place)]) {
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::empty()) {
        let pid = u32::try_from(pid.as_raw_pid()).unwrap_or_default();
        if let Some((_, place)) = servers.iter().find(|(server, _)| *server == pid) {
            let _told = tell(&Line::Failed(format!("the servers of {} ended: {status:?}", place.name())));
            std::process::exit(1);
        }
    }
}
