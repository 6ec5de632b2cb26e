//! What every sandbox's file system has besides the plan: `/proc` of its own processes, a minimal `/dev`,
//! and of `/sys` only the processors.
//!
//! In `/proc` what tells about or reaches the host's kernel is masked or read-only. The workload's user could not
//! write most of it anyway; the masks hold where a kernel or a distribution is more generous.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use crate::failure::{Failure, Step};
use crate::mounting::{READ_ONLY, attach, copy_of, copy_of_open, new_file_system, new_tmpfs, restrict, restrict_one};
use crate::root::Root;

const HINT_PROC: &str = "the kernel refuses a new /proc where the one here has parts mounted over: inside a container \
                         run it with an unmasked /proc (docker: --security-opt systempaths=unconfined)";
const HINT: &str = "the kernel refused a part of the sandbox's /dev or /proc; run `cofferdam doctor`";

/// Device nodes that any program may use.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Links in `/dev`: name and where it points.
const DEVICE_LINKS: [(&str, &str); 6] = [
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
];
/// Files in `/proc` that read as empty.
const MASKED_FILES: [&str; 10] = [
    "kcore",
    "keys",
    "key-users",
    "kmsg",
    "kallsyms",
    "sysrq-trigger",
    "timer_list",
    "sched_debug",
    "latency_stats",
    "interrupts",
];
/// Folders in `/proc` that are empty.
const MASKED_FOLDERS: [&str; 4] = ["acpi", "asound", "scsi", "driver"];
/// Folders in `/proc` that can't be written.
const READ_ONLY_FOLDERS: [&str; 4] = ["sys", "irq", "bus", "fs"];
/// The one part of `/sys`: runtimes count processors by it.
const PROCESSORS: &str = "/sys/devices/system/cpu";

/// The parts, opened before the new root covers anything of the old one.
pub(crate) struct BaseMounts {
    proc: OwnedFd,
    terminals: OwnedFd,
    devices: Vec<(&'static str, OwnedFd)>,
    null_copies: Vec<OwnedFd>,
    processors: Option<OwnedFd>,
}

/// Opens the parts.
pub(crate) fn open() -> Result<BaseMounts, Failure> {
    let no_programs =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let proc = match new_file_system("proc", &[("hidepid", "invisible")], no_programs) {
        Err(Errno::INVAL) => new_file_system("proc", &[], no_programs),
        other => other,
    };
    let terminals = new_file_system(
        "devpts",
        &[("ptmxmode", "0666"), ("mode", "0620")],
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC,
    );
    let mut devices = Vec::with_capacity(DEVICES.len());
    for name in DEVICES {
        let path = Path::new("/dev").join(name);
        devices.push((name, copy_of(&path).step_on("device", path.display(), HINT)?));
    }
    Ok(BaseMounts {
        proc: proc.step("mount /proc", HINT_PROC)?,
        terminals: terminals.step("mount /dev/pts", HINT)?,
        devices,
        null_copies: MASKED_FILES.iter().map_while(|_| copy_of(Path::new("/dev/null")).ok()).collect(),
        processors: copy_of(Path::new(PROCESSORS)).ok(),
    })
}

impl BaseMounts {
    /// Puts them into the new root.
    pub(crate) fn mount_into(self, root: &mut Root) -> Result<(), Failure> {
        let attached = root.directory(Path::new("/proc")).and_then(|place| attach(&self.proc, place));
        attached.step("mount /proc", HINT_PROC)?;
        mask_proc(root, self.null_copies)?;

        for (name, tree) in &self.devices {
            let path = Path::new("/dev").join(name);
            let attached = root.file(&path, OFlags::PATH).and_then(|place| attach(tree, place));
            attached.step_on("device", path.display(), HINT)?;
        }
        let attached = root.directory(Path::new("/dev/pts")).and_then(|place| attach(&self.terminals, place));
        attached.step("mount /dev/pts", HINT)?;
        for (name, to) in DEVICE_LINKS {
            let path = Path::new("/dev").join(name);
            root.symlink(&path, Path::new(to)).step_on("link", path.display(), HINT)?;
        }
        if let Some(tree) = self.processors {
            let attached = restrict(&tree, READ_ONLY | libc::MOUNT_ATTR_NOEXEC)
                .and_then(|()| attach(&tree, root.directory(Path::new(PROCESSORS))?));
            attached.step("mount the processors of /sys", HINT)?;
        }
        Ok(())
    }
}

/// Covers what must not be read and closes what must not be written.
fn mask_proc(root: &Root, null_copies: Vec<OwnedFd>) -> Result<(), Failure> {
    let proc = Path::new("/proc");
    let mut copies = null_copies.into_iter();
    for name in MASKED_FILES {
        let Ok(place) = root.place(&proc.join(name), OFlags::PATH) else { continue };
        let masked = copies.next().ok_or(Errno::NOENT).and_then(|copy| attach(copy, place));
        masked.step_on("mask /proc", name, HINT)?;
    }
    for name in MASKED_FOLDERS {
        let Ok(place) = root.place(&proc.join(name), OFlags::PATH | OFlags::DIRECTORY) else { continue };
        let masked = new_tmpfs("4k", "0555").and_then(|empty| {
            restrict_one(&empty, READ_ONLY)?;
            attach(empty, place)
        });
        masked.step_on("mask /proc", name, HINT)?;
    }
    for name in READ_ONLY_FOLDERS {
        let Ok(place) = root.place(&proc.join(name), OFlags::PATH | OFlags::DIRECTORY) else { continue };
        let closed = copy_of_open(place.as_fd()).and_then(|copy| {
            restrict(&copy, READ_ONLY)?;
            attach(copy, &place)
        });
        closed.step_on("close /proc", name, HINT)?;
    }
    Ok(())
}
