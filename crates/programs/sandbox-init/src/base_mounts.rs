//! What every sandbox's file system has besides the plan: `/proc` of its own processes, a minimal `/dev`,
//! and of `/sys` only the processors.
//!
//! In `/proc` what tells about or reaches the host's kernel is masked or read-only. The workload's user could not
//! write most of it anyway; the masks hold where a kernel or a distribution is more generous.
//!
//! These mounts go by path, relative to the new root as working directory: everything at these paths was made here,
//! so no link of somebody else's is on the way, and it takes a third of the calls.

use std::path::Path;

use rustix::ffi::CStr;
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat, symlinkat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_bind, mount_remount};

use crate::failure::{Failure, Step};

const HINT_PROC: &str = "the kernel refuses a new /proc where the one here has parts mounted over: inside a container \
                         run it with an unmasked /proc (docker: --security-opt systempaths=unconfined)";
const HINT: &str = "the kernel refused a part of the sandbox's /dev or /proc; run `cofferdam doctor`";

/// Folders that the mounts below need.
const FOLDERS: [&str; 8] =
    ["proc", "dev", "dev/pts", "dev/shm", "sys", "sys/devices", "sys/devices/system", "sys/devices/system/cpu"];
/// Device nodes that any program may use.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Links: where they stand and where they point.
const LINKS: [(&str, &str); 5] = [
    ("dev/ptmx", "pts/ptmx"),
    ("dev/fd", "/proc/self/fd"),
    ("dev/stdin", "/proc/self/fd/0"),
    ("dev/stdout", "/proc/self/fd/1"),
    ("dev/stderr", "/proc/self/fd/2"),
];
/// Files in `/proc` that read as empty: what container runtimes mask (the runtime specification's `maskedPaths` as
/// runc and containerd set it), and what tells about the host's boot, disks and drivers, which no program needs.
const MASKED_FILES: [&str; 22] = [
    "proc/kcore",
    "proc/keys",
    "proc/key-users",
    "proc/kmsg",
    "proc/kallsyms",
    "proc/sysrq-trigger",
    "proc/timer_list",
    "proc/timer_stats",
    "proc/sched_debug",
    "proc/latency_stats",
    "proc/interrupts",
    "proc/cmdline",
    "proc/bootconfig",
    "proc/config.gz",
    "proc/modules",
    "proc/partitions",
    "proc/diskstats",
    "proc/mdstat",
    "proc/swaps",
    "proc/locks",
    "proc/softirqs",
    "proc/schedstat",
];
/// Folders in `/proc` that are empty.
const MASKED_FOLDERS: [&str; 7] =
    ["proc/acpi", "proc/asound", "proc/scsi", "proc/driver", "proc/irq", "proc/bus", "proc/fs"];
/// Folders in `/proc` that can't be written.
const READ_ONLY_FOLDERS: [&str; 1] = ["proc/sys"];
/// The one part of `/sys`: runtimes count processors by it.
const PROCESSORS: &str = "/sys/devices/system/cpu";
/// What each processor's folder tells about load and power, which runtimes mask, too.
const THROTTLING: &str = "thermal_throttle";
/// Which weaknesses the host's processors have.
const WEAKNESSES: &str = "sys/devices/system/cpu/vulnerabilities";

/// Puts them into the new root, which is the working directory.
pub(crate) fn build() -> Result<(), Failure> {
    for folder in FOLDERS {
        mkdirat(CWD, folder, Mode::from_raw_mode(0o755)).step_on("make", folder, HINT)?;
    }
    build_proc()?;
    build_dev()?;
    // Before the processors' folder is covered, a machine without one is one that has nothing to count by.
    let inert = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
    match mount_bind(PROCESSORS, relative(PROCESSORS)) {
        Ok(()) => {
            mount_remount(relative(PROCESSORS), MountFlags::BIND | inert, c"").step("close /sys", HINT)?;
            mask_processors()
        }
        Err(Errno::NOENT | Errno::ACCESS) => Ok(()),
        Err(errno) => Err(Failure::new("mount the processors of /sys", errno, HINT)),
    }
}

fn mask_processors() -> Result<(), Failure> {
    mask_folder(WEAKNESSES).step_on("mask", WEAKNESSES, HINT)?;
    for entry in std::fs::read_dir(relative(PROCESSORS)).into_iter().flatten().flatten() {
        let folder = entry.path().join(THROTTLING);
        let is_one = entry.file_name().as_encoded_bytes().last().is_some_and(u8::is_ascii_digit);
        if is_one && folder.is_dir() {
            mask_folder(&folder).step_on("mask", folder.display(), HINT)?;
        }
    }
    Ok(())
}

fn mask_folder(folder: impl AsRef<Path>) -> Result<(), Errno> {
    let inert = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    if_there(mount("tmpfs", folder.as_ref(), "tmpfs", inert | MountFlags::RDONLY, c"size=4k,mode=0555"))
}

fn build_proc() -> Result<(), Failure> {
    let inert = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let hidden: &CStr = c"hidepid=invisible";
    match mount("proc", "proc", "proc", inert, hidden) {
        // Before Linux 5.8 the name of the setting is a number.
        Err(Errno::INVAL) => mount("proc", "proc", "proc", inert, c"hidepid=2").step("mount /proc", HINT_PROC)?,
        mounted => mounted.step("mount /proc", HINT_PROC)?,
    }
    for file in MASKED_FILES {
        if_there(mount_bind("/dev/null", file)).step_on("mask", file, HINT)?;
    }
    for folder in MASKED_FOLDERS {
        mask_folder(folder).step_on("mask", folder, HINT)?;
    }
    for folder in READ_ONLY_FOLDERS {
        let closed = mount_bind(folder, folder)
            .and_then(|()| mount_remount(folder, MountFlags::BIND | MountFlags::RDONLY | inert, c""));
        if_there(closed).step_on("close", folder, HINT)?;
    }
    Ok(())
}

fn build_dev() -> Result<(), Failure> {
    for name in DEVICES {
        let place = Path::new("dev").join(name);
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let bound = openat(CWD, &place, flags, Mode::from_raw_mode(0o644))
            .and_then(|_| mount_bind(Path::new("/dev").join(name), &place));
        bound.step_on("device", name, HINT)?;
    }
    let terminals = mount(
        "devpts",
        "dev/pts",
        "devpts",
        MountFlags::NOSUID | MountFlags::NOEXEC,
        c"newinstance,ptmxmode=0666,mode=0620",
    );
    terminals.step("mount /dev/pts", HINT)?;
    for (link, to) in LINKS {
        symlinkat(to, CWD, link).step_on("link", link, HINT)?;
    }
    Ok(())
}

/// Kernels differ in what `/proc` has.
fn if_there(done: Result<(), Errno>) -> Result<(), Errno> {
    match done {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

fn relative(path: &str) -> &str {
    path.trim_start_matches('/')
}
