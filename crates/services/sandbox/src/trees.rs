//! Mount trees that the host opens for a sandbox of root.
//!
//! Init then runs as a uid that owns nothing, so it could not even look into root's folders. The trees are detached
//! copies; init makes them private before it attaches them. The caller's own folders are id-mapped here: what the
//! folder's owner owns on disk is the workload's inside, and the other way round.

use std::collections::HashMap;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use init_protocol::Mount;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::{Pid, WaitOptions, waitpid};

use crate::error::StartError;
use crate::identity::Ids;
use crate::launch::clone_into;

/// Opens the binds of a plan: their places in the list and their trees.
pub(crate) fn open(mounts: &[Mount], sandbox: Ids) -> Result<Vec<(usize, OwnedFd)>, StartError> {
    let mut maps = HashMap::new();
    let mut opened = Vec::new();
    for (index, mount) in mounts.iter().enumerate() {
        let Mount::Bind { source, optional, owned, .. } = mount else { continue };
        let tree = match copy_of(source, *owned) {
            Err(Errno::NOENT | Errno::NOTDIR) if *optional => continue,
            copied => copied.map_err(|errno| StartError::Mount { path: source.clone(), source: errno.into() })?,
        };
        if *owned {
            map_owner(&tree, sandbox, &mut maps)
                .map_err(|error| StartError::MountMap { path: source.clone(), source: error })?;
        }
        opened.push((index, tree));
    }
    Ok(opened)
}

/// Of the caller's own folders the path was found free of symbolic links: one that is there now was put there since, by
/// a workload of another run.
fn copy_of(path: &Path, owned: bool) -> Result<OwnedFd, Errno> {
    let resolve = if owned { ResolveFlags::NO_SYMLINKS } else { ResolveFlags::empty() };
    let place = openat2(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_RECURSIVE;
    open_tree(place, c"", flags | OpenTreeFlags::AT_EMPTY_PATH)
}

/// Maps the owner of the tree's root to the sandbox's ids.
fn map_owner(tree: &OwnedFd, sandbox: Ids, maps: &mut HashMap<(u32, u32), OwnedFd>) -> Result<(), io::Error> {
    let found = fstat(tree).map_err(io::Error::from)?;
    let owner = (found.st_uid, found.st_gid);
    let namespace = match maps.entry(owner) {
        std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
        std::collections::hash_map::Entry::Vacant(entry) => {
            entry.insert(id_map(Ids { uid: owner.0, gid: owner.1 }, sandbox)?)
        }
    };
    let descriptor = u64::try_from(namespace.as_raw_fd()).unwrap_or(u64::MAX);
    change(
        tree,
        &libc::mount_attr { attr_set: libc::MOUNT_ATTR_IDMAP, attr_clr: 0, propagation: 0, userns_fd: descriptor },
    )
}

fn change(tree: &OwnedFd, wanted: &libc::mount_attr) -> Result<(), io::Error> {
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: the path is an empty C string, the attributes are a live struct whose size is passed beside it,
    // and the kernel only reads both.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(wanted),
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A user namespace that stands for "on disk → in the sandbox". The kernel wants it as a descriptor, and the only way
/// to one is a process that lived in it.
fn id_map(on_disk: Ids, sandbox: Ids) -> Result<OwnedFd, io::Error> {
    let (childs_gate, gate) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(io::Error::from)?;
    let mut pidfd: RawFd = -1;
    // SAFETY: the child only reads from a pipe and exits.
    let pid = unsafe { clone_into(libc::CLONE_NEWUSER, &mut pidfd) }?;
    if pid == 0 {
        let mut byte = 0_u8;
        // SAFETY: plain system calls; its own copy of the writing end is closed first, or it would wait for itself.
        unsafe {
            libc::close(gate.as_raw_fd());
            libc::read(childs_gate.as_raw_fd(), (&raw mut byte).cast(), 1);
            libc::_exit(0)
        }
    }
    let made = write_map(pid, "uid_map", on_disk.uid, sandbox.uid)
        .and_then(|()| write_map(pid, "gid_map", on_disk.gid, sandbox.gid))
        .and_then(|()| Ok(OwnedFd::from(std::fs::File::open(format!("/proc/{pid}/ns/user"))?)));
    drop(gate);
    if let Some(pid) = Pid::from_raw(pid) {
        while matches!(waitpid(Some(pid), WaitOptions::empty()), Err(Errno::INTR)) {}
    }
    made
}

fn write_map(pid: i32, file: &str, on_disk: u32, sandbox: u32) -> Result<(), io::Error> {
    std::fs::write(format!("/proc/{pid}/{file}"), format!("{on_disk} {sandbox} 1"))
}

/// As descriptors to send.
pub(crate) fn borrowed(trees: &[(usize, OwnedFd)]) -> impl Iterator<Item = BorrowedFd<'_>> {
    use std::os::fd::AsFd;
    trees.iter().map(|(_, tree)| tree.as_fd())
}
