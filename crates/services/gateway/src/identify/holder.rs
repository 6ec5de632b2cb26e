//! Which process of the sandbox holds a socket (proc(5)).

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    io::Read,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
};

use audit_event::{Process, bounded_bytes};
use sha2::{Digest, Sha256};

/// The longest command line that is recorded.
const ARGS_LIMIT: usize = 512;
/// The longest path that is recorded.
const PATH_LIMIT: usize = 4096;
/// The most processes that are looked at for one connection.
const PROCESS_LIMIT: usize = 20_000;
/// The largest executable that is digested.
const DIGEST_LIMIT: u64 = 2 << 30;
/// How many digests are remembered.
const DIGEST_CACHE: usize = 256;

/// Looks into the process tree below one process.
#[derive(Debug)]
pub(super) struct Holders {
    init: u32,
    /// Where the last ones were found: most connections come from few processes.
    recent: Vec<u32>,
    digests: HashMap<FileId, String>,
}

/// A file that did not change in between.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct FileId {
    device: u64,
    inode: u64,
    size: u64,
    /// The time of the last change, of the kind that nobody can set.
    changed: (i64, i64),
}

impl Holders {
    /// The tree below `init`.
    pub(super) fn new(init: u32) -> Self {
        Self { init, recent: Vec::new(), digests: HashMap::new() }
    }

    /// The processes that hold these sockets.
    pub(super) fn find(&mut self, mut wanted: HashSet<u64>) -> HashMap<u64, u32> {
        const RECENT: usize = 8;
        let mut found = HashMap::new();
        let mut walked: Vec<u32> = Vec::new();
        for pid in self.recent.clone().into_iter().filter(|pid| self.is_below(*pid)) {
            take_held(pid, &mut wanted, &mut found);
            walked.push(pid);
        }
        if !wanted.is_empty() {
            for pid in self.tree().into_iter().filter(|pid| !walked.contains(pid)) {
                take_held(pid, &mut wanted, &mut found);
                if wanted.is_empty() {
                    break;
                }
            }
        }
        for pid in found.values() {
            self.recent.retain(|other| other != pid);
            self.recent.insert(0, *pid);
        }
        self.recent.truncate(RECENT);
        found
    }

    /// What is recorded of a process.
    pub(super) fn describe(&mut self, pid: u32, digest: bool) -> Option<Process> {
        let root = format!("/proc/{pid}");
        let exe = fs::read_link(format!("{root}/exe")).ok()?;
        // Its length is the process's own choice (PR_SET_MM): no more is read than is kept.
        let mut args = Vec::new();
        if let Ok(file) = fs::File::open(format!("{root}/cmdline")) {
            // What could not be read is left out.
            let _ = file.take(ARGS_LIMIT as u64 * 4).read_to_end(&mut args);
        }
        while args.last() == Some(&0) {
            args.pop();
        }
        for byte in &mut args {
            if *byte == 0 {
                *byte = b' ';
            }
        }
        let digest = if digest { self.digest(Path::new(&format!("{root}/exe"))) } else { None };
        Some(Process {
            pid,
            exe: bounded_bytes(exe.as_os_str().as_bytes(), PATH_LIMIT),
            digest,
            args: bounded_bytes(&args, ARGS_LIMIT),
        })
    }

    /// The digest of an executable, read through the process's own link, so that no path can be exchanged.
    fn digest(&mut self, link: &Path) -> Option<String> {
        let mut file = fs::File::open(link).ok()?;
        let metadata = file.metadata().ok()?;
        let id = FileId {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        };
        if let Some(known) = self.digests.get(&id) {
            return Some(known.clone());
        }
        if metadata.size() > DIGEST_LIMIT {
            return None;
        }
        let digest = hash(&mut file).ok()?;
        if self.digests.len() >= DIGEST_CACHE {
            self.digests.clear();
        }
        self.digests.insert(id, digest.clone());
        Some(digest)
    }

    /// Every process below the first one: all of a pid namespace are, as orphans become children of its init.
    fn tree(&self) -> Vec<u32> {
        let mut found = vec![self.init];
        let mut at = 0;
        while let Some(pid) = found.get(at).copied() {
            at += 1;
            found.extend(children(pid));
            if found.len() >= PROCESS_LIMIT {
                break;
            }
        }
        found
    }

    /// Whether a process that was found before is still below the first one; its number may be another's by now.
    fn is_below(&self, pid: u32) -> bool {
        const DEPTH: usize = 64;
        let mut pid = pid;
        for _ in 0..DEPTH {
            if pid == self.init {
                return true;
            }
            match parent(pid) {
                Some(parent) if parent > 1 => pid = parent,
                Some(_) | None => return false,
            }
        }
        false
    }
}

fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|text| text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>())
        .collect()
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold spaces and brackets of its own.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Moves the sockets that this process holds from `wanted` to `found`.
fn take_held(pid: u32, wanted: &mut HashSet<u64>, found: &mut HashMap<u64, u32>) {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return };
    for entry in descriptors.flatten() {
        if wanted.is_empty() {
            return;
        }
        let Ok(link) = fs::read_link(entry.path()) else { continue };
        let number = link.to_str().and_then(|link| link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
        if let Some(inode) = number.filter(|inode| wanted.remove(inode)) {
            found.insert(inode, pid);
        }
    }
}

fn hash(file: &mut fs::File) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        net::{TcpListener, TcpStream},
        os::{fd::AsFd, linux::fs::MetadataExt},
    };

    use super::Holders;

    #[test]
    fn finds_this_process_by_its_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let inode = std::fs::File::from(client.as_fd().try_clone_to_owned().unwrap()).metadata().unwrap().st_ino();
        let mut holders = Holders::new(std::process::id());
        for _ in 0..2 {
            assert_eq!(holders.find([inode, u64::MAX].into()), [(inode, std::process::id())].into());
        }
        assert!(holders.find([u64::MAX].into()).is_empty());
        let process = holders.describe(std::process::id(), true).unwrap();
        assert_eq!(process.digest.as_ref().map(String::len), Some(64));
        assert_eq!(holders.describe(std::process::id(), true), Some(process));
    }

    #[test]
    fn a_file_whose_time_was_set_back_is_digested_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tool");
        fs::write(&path, b"one").unwrap();
        let before = fs::metadata(&path).unwrap();
        let mut holders = Holders::new(std::process::id());
        let first = holders.digest(&path).unwrap();
        assert_eq!(holders.digest(&path).as_ref(), Some(&first));
        // The kernel's clock of files is coarse: what it says has to move on.
        while fs::metadata(&path).unwrap().st_ctime_nsec() == before.st_ctime_nsec() {
            fs::write(&path, b"two").unwrap();
        }
        let time = before.modified().unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), time);
        assert_ne!(holders.digest(&path).unwrap(), first);
    }
}
