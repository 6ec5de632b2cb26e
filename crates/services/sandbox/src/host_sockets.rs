//! Unix sockets in folders that are mounted from the host: each is a wire out (a container engine's, D-Bus, an
//! agent's). Neither Landlock before Linux 7.1 nor seccomp can refuse to connect to one by its path.
//!
//! Those that exist at the start are covered by an empty file. What is left, and documented: one that a program of
//! the host makes later in such a folder, and those past the bound of the search.

use std::collections::{HashSet, VecDeque};
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use init_protocol::Mount;

/// Entries looked at, over all mounts; the nearest come first.
const MOST_ENTRIES: usize = 20_000;
/// Sockets masked: each is a mount.
const MOST_MASKS: usize = 64;

/// Masks, and what a person should know about.
#[derive(Debug, Default)]
pub(crate) struct Masked {
    pub(crate) mounts: Vec<Mount>,
    pub(crate) notes: Vec<String>,
}

/// Masks the sockets in the caller's own folders. A socket mounted by its own path is left: it was asked for.
pub(crate) fn mask(mounts: &[Mount]) -> Masked {
    let mut masked = Masked::default();
    let covered: HashSet<&Path> = mounts.iter().map(Mount::target).collect();
    let mut left = MOST_ENTRIES;
    for mount in mounts {
        match mount {
            Mount::Bind { source, target, owned: true, .. } => masked.search(source, target, &covered, &mut left),
            Mount::Bind { owned: false, .. } | Mount::Tmpfs { .. } | Mount::File { .. } | Mount::Symlink { .. } => {}
        }
    }
    if left == 0 {
        let note = format!("only the first {MOST_ENTRIES} files of what is mounted were searched for sockets");
        masked.notes.push(note);
    }
    masked
}

impl Masked {
    fn search(&mut self, source: &Path, target: &Path, covered: &HashSet<&Path>, left: &mut usize) {
        let mut folders = VecDeque::from([PathBuf::new()]);
        while let Some(folder) = folders.pop_front() {
            let Ok(entries) = fs::read_dir(source.join(&folder)) else { continue };
            for entry in entries.flatten() {
                if *left == 0 {
                    return;
                }
                *left -= 1;
                let Ok(kind) = entry.file_type() else { continue };
                if !kind.is_dir() && !kind.is_socket() {
                    continue;
                }
                let path = folder.join(entry.file_name());
                let place = target.join(&path);
                // What another mount covers is searched with that mount.
                if covered.contains(place.as_path()) {
                    continue;
                }
                if kind.is_dir() {
                    folders.push_back(path);
                } else {
                    self.cover(place);
                }
            }
        }
    }

    fn cover(&mut self, place: PathBuf) {
        if self.mounts.len() == MOST_MASKS {
            self.notes.push(format!("{} is a socket of the host that is reachable in the sandbox", place.display()));
            return;
        }
        self.notes.push(format!("{} is a socket of the host; it is masked in the sandbox", place.display()));
        self.mounts.push(Mount::Bind {
            source: PathBuf::from("/dev/null"),
            target: place,
            writable: false,
            optional: false,
            owned: false,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::mask;
    use init_protocol::Mount;
    use std::os::unix::net::UnixListener;
    use std::path::Path;

    #[test]
    fn sockets_in_own_folders_are_covered_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        let _listener = UnixListener::bind(deep.join("agent.sock")).unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();

        let masked = mask(&[Mount::own(folder.path(), true)]);
        let targets: Vec<&Path> = masked.mounts.iter().map(Mount::target).collect();
        assert_eq!(targets, [deep.join("agent.sock")]);
        assert!(masked.notes[0].contains("agent.sock"));

        let elsewhere = Mount::Bind {
            source: folder.path().to_owned(),
            target: "/data".into(),
            writable: false,
            optional: false,
            owned: true,
        };
        assert_eq!(mask(&[elsewhere]).mounts[0].target(), Path::new("/data/a/b/agent.sock"));
        assert!(mask(&[Mount::own(deep.join("agent.sock"), true)]).mounts.is_empty(), "asked for by its own path");
        assert!(mask(&[Mount::system(folder.path())]).mounts.is_empty());
    }
}
