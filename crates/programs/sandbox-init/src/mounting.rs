//! The kernel's mount calls, by descriptor: no path of a mount source is looked up twice.

use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_string,
    fsmount, fsopen, move_mount, open_tree,
};

/// No setuid, no device nodes.
pub(crate) const PLAIN: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
/// As `PLAIN`, and nothing can be written.
pub(crate) const READ_ONLY: u64 = PLAIN | libc::MOUNT_ATTR_RDONLY;

/// A new tmpfs that is mounted nowhere yet.
pub(crate) fn new_tmpfs(size: &str, mode: &str) -> Result<OwnedFd, Errno> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in [("size", size), ("mode", mode)] {
        fsconfig_set_string(&context, key, value)?;
    }
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// A copy of the mounts at and below a path, mounted nowhere yet. Of the caller's own folders (`owned`) the path was
/// found free of symbolic links: one that is there now was put there since, by a workload of another run.
pub(crate) fn copy_of(path: &Path, owned: bool) -> Result<OwnedFd, Errno> {
    let resolve = if owned { ResolveFlags::NO_SYMLINKS } else { ResolveFlags::empty() };
    let place = openat2(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_RECURSIVE;
    open_tree(place, c"", flags | OpenTreeFlags::AT_EMPTY_PATH)
}

/// Puts a tree in its place.
pub(crate) fn attach(tree: impl AsFd, place: impl AsFd) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, c"", place, c"", flags)
}

/// Adds attributes to a tree, to all mounts in it, and cuts it off from the mounts it is a copy of.
pub(crate) fn restrict(tree: impl AsFd, attributes: u64) -> Result<(), Errno> {
    set_attributes(tree.as_fd(), attributes, libc::AT_RECURSIVE)
}

/// Adds attributes to one mount.
pub(crate) fn restrict_one(mount: impl AsFd, attributes: u64) -> Result<(), Errno> {
    set_attributes(mount.as_fd(), attributes, 0)
}

fn set_attributes(tree: BorrowedFd<'_>, attributes: u64, reach: i32) -> Result<(), Errno> {
    let change = libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation: libc::MS_PRIVATE, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | reach;
    // SAFETY: the path is an empty C string, the attributes are a live struct whose size is passed beside it,
    // and the kernel only reads both.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const change,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(last_error()) }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}
