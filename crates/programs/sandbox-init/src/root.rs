//! The sandbox's file system: a new root with the plan's mounts and nothing else.
//!
//! Order matters, and the traps are known (research/sandbox.md 8.1):
//! - every source is opened before any is attached, as a detached copy of the host's mounts; the new root meanwhile
//!   covers nothing that could be a source;
//! - every target is resolved inside the new root (`RESOLVE_IN_ROOT`, no magic links), so a symbolic link that the
//!   workload left behind in a mounted folder leads nowhere outside;
//! - a mount point is created only in the file systems made here, never in a folder of the host;
//! - in the end the old root is detached and the new one made read-only.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use init_protocol::Mount;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, openat2, symlinkat};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::process::{fchdir, pivot_root};

use crate::failure::{Failure, Step};
use crate::mounting::{PLAIN, READ_ONLY, attach, copy_of, new_tmpfs, restrict, restrict_one};

const HINT: &str = "a mount of the sandbox could not be made; check that the folder exists and that you may read it";
const HINT_ROOT: &str = "the kernel refused to build a root of mounts; run `cofferdam doctor`";

/// Where the new root is mounted until it becomes the root: folders of `/proc` that every kernel has, and that hold
/// nothing to mount. The old root can't lie over the new one meanwhile: `..` in the new root would lead into it.
const STAGING: [&str; 3] = ["/proc/driver", "/proc/fs", "/proc/bus"];

/// The new root while it is built.
pub(crate) struct Root {
    /// The root directory.
    directory: OwnedFd,
    /// Device numbers of the file systems made here: mount points may be created in these.
    own_devices: Vec<u64>,
    /// The folder of the last file or link that was made, where the next one is likely to go.
    last: Option<(PathBuf, OwnedFd)>,
}

/// A mount of the plan whose source is open.
struct Opened<'a> {
    mount: &'a Mount,
    tree: Option<OwnedFd>,
}

impl Root {
    /// Makes the new root with what every sandbox has.
    pub(crate) fn begin() -> Result<Root, Failure> {
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).step("root: make mounts private", HINT_ROOT)?;
        let directory = stage()?;
        let own = fstat(&directory).step("root: look up", HINT_ROOT)?.st_dev;
        crate::base_mounts::build()?;
        Ok(Root { directory, own_devices: vec![own], last: None })
    }

    /// Puts the plan's mounts in, moves this process there, lets go of the old root, and closes this one for writing.
    pub(crate) fn furnish(mut self, mounts: &[Mount], trees: BTreeMap<usize, OwnedFd>) -> Result<(), Failure> {
        for entry in open_sources(mounts, trees)? {
            self.add(entry)?;
        }
        pivot_root(".", ".").step("root: pivot", HINT_ROOT)?;
        unmount(".", UnmountFlags::DETACH).step("root: detach the old root", HINT_ROOT)?;
        rustix::process::chdir("/").step("root: change directory", HINT_ROOT)?;
        restrict_one(&self.directory, READ_ONLY).step("root: read-only", HINT_ROOT)
    }

    /// Opens a place in the new root.
    fn place(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let relative: PathBuf = path.components().filter(|part| !matches!(part, Component::RootDir)).collect();
        let relative = if relative.as_os_str().is_empty() { PathBuf::from(".") } else { relative };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        openat2(&self.directory, relative, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
    }

    /// Opens a directory, making it and those above it where that is allowed.
    fn directory(&self, path: &Path) -> Result<OwnedFd, Errno> {
        match self.place(path, OFlags::PATH | OFlags::DIRECTORY) {
            Err(Errno::NOENT) => {}
            found => return found,
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::NOENT) };
        let parent = self.directory(parent)?;
        self.must_be_own(&parent)?;
        mkdirat(&parent, name, Mode::from_raw_mode(0o755))?;
        self.place(path, OFlags::PATH | OFlags::DIRECTORY)
    }

    /// Opens a file to mount over, making it where that is allowed.
    fn file(&mut self, path: &Path) -> Result<OwnedFd, Errno> {
        match self.place(path, OFlags::PATH) {
            Err(Errno::NOENT) => self.new_file(path),
            found => found,
        }
    }

    /// Makes a file.
    fn new_file(&mut self, path: &Path) -> Result<OwnedFd, Errno> {
        let name = path.file_name().ok_or(Errno::INVAL)?.to_owned();
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        openat(self.parent(path)?, name, flags, Mode::from_raw_mode(0o644))
    }

    /// The folder of something that is to be made.
    fn parent(&mut self, path: &Path) -> Result<&OwnedFd, Errno> {
        let folder = path.parent().ok_or(Errno::INVAL)?;
        if self.last.as_ref().is_none_or(|(last, _)| last != folder) {
            let opened = self.directory(folder)?;
            self.must_be_own(&opened)?;
            self.last = Some((folder.to_owned(), opened));
        }
        self.last.as_ref().map(|(_, folder)| folder).ok_or(Errno::NOENT)
    }

    fn must_be_own(&self, directory: &OwnedFd) -> Result<(), Errno> {
        if self.own_devices.contains(&fstat(directory)?.st_dev) { Ok(()) } else { Err(Errno::ROFS) }
    }

    fn add(&mut self, entry: Opened<'_>) -> Result<(), Failure> {
        let target = entry.mount.target();
        match entry.mount {
            Mount::Bind { writable, .. } => {
                let Some(tree) = entry.tree else { return Ok(()) };
                self.bind(&tree, target, *writable).step_on("mount at", target.display(), HINT)
            }
            Mount::Tmpfs { size, mode, .. } => {
                let (size, mode) = (size.to_string(), format!("{mode:o}"));
                self.tmpfs(target, &size, &mode).step_on("mount a tmpfs at", target.display(), HINT)
            }
            Mount::File { content, .. } => {
                let written = self.new_file(target).and_then(|file| write_all(&file, content.as_bytes()));
                written.step_on("write", target.display(), HINT)
            }
            Mount::Symlink { to, .. } => self.symlink(target, to).step_on("link", target.display(), HINT),
        }
    }

    fn tmpfs(&mut self, target: &Path, size: &str, mode: &str) -> Result<(), Errno> {
        let tree = new_tmpfs(size, mode)?;
        attach(&tree, self.directory(target)?)?;
        self.own_devices.push(fstat(&tree)?.st_dev);
        // What stood there is covered.
        self.last = None;
        Ok(())
    }

    fn bind(&mut self, tree: &OwnedFd, target: &Path, writable: bool) -> Result<(), Errno> {
        let is_directory = FileType::from_raw_mode(fstat(tree)?.st_mode) == FileType::Directory;
        let place = if is_directory { self.directory(target)? } else { self.file(target)? };
        restrict(tree, if writable { PLAIN } else { READ_ONLY })?;
        attach(tree, place)?;
        if is_directory {
            self.last = None;
        }
        Ok(())
    }

    /// A symbolic link, where nothing stands yet.
    fn symlink(&mut self, target: &Path, to: &Path) -> Result<(), Errno> {
        let name = target.file_name().ok_or(Errno::INVAL)?.to_owned();
        symlinkat(to, self.parent(target)?, name)
    }
}

fn open_sources(mounts: &[Mount], mut trees: BTreeMap<usize, OwnedFd>) -> Result<Vec<Opened<'_>>, Failure> {
    let mut opened = Vec::with_capacity(mounts.len());
    for (index, mount) in mounts.iter().enumerate() {
        let tree = match mount {
            Mount::Tmpfs { .. } | Mount::File { .. } | Mount::Symlink { .. } => None,
            Mount::Bind { source, optional, owned, .. } => match trees.remove(&index) {
                Some(tree) => Some(tree),
                None => match copy_of(source, *owned) {
                    Ok(tree) => Some(tree),
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) if *optional => continue,
                    Err(errno) => return Err(Failure::new(format!("mount {}", source.display()), errno, HINT)),
                },
            },
        };
        opened.push(Opened { mount, tree });
    }
    Ok(opened)
}

/// Mounts a tmpfs, and makes it the working directory.
fn stage() -> Result<OwnedFd, Failure> {
    let tree = new_tmpfs("16m", "0755").step("root: tmpfs", HINT_ROOT)?;
    let mut last = Errno::NOENT;
    for staging in STAGING {
        let place = rustix::fs::open(staging, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        match place.and_then(|place| attach(&tree, place)) {
            Ok(()) => {
                fchdir(&tree).step("root: change directory", HINT_ROOT)?;
                // A copy of all that the host mounts, such as of `/`, must not have this in it.
                mount_change(".", MountPropagationFlags::UNBINDABLE).step("root: keep out of copies", HINT_ROOT)?;
                return Ok(tree);
            }
            Err(errno) => last = errno,
        }
    }
    Err(Failure::new("root: mount tmpfs", last, HINT_ROOT))
}

fn write_all(file: impl AsFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let written = rustix::io::write(&file, bytes)?;
        bytes = bytes.get(written..).unwrap_or_default();
    }
    Ok(())
}
