//! Unix sockets in folders that are mounted from the host: each is a wire out (a container engine's, D-Bus, an
//! agent's). Neither Landlock before Linux 7.1 nor seccomp can refuse to connect to one by its path.
//!
//! Those that somebody holds at the start are covered by an empty file. One that nobody holds leads nowhere and can't
//! come alive again (bind(2) makes a new one), so leftovers don't count. Where a socket can't be looked for or covered
//! the start is refused, unless the person says to go on. What is left, and documented: one that a program of the host
//! makes later in such a folder.

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use init_protocol::Mount;
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::plan::PlanError;
use crate::protection::Protection;
use crate::survey::{MOST_ENTRIES, Unseen, Window};

/// Sockets masked: each is a mount.
const MOST_MASKS: usize = 64;

/// Masks, and what a person should know about.
#[derive(Debug, Default)]
pub(crate) struct Masked {
    pub(crate) mounts: Vec<Mount>,
    pub(crate) notes: Vec<String>,
}

/// Masks the sockets in the caller's own folders. A socket mounted by its own path is left: it was asked for.
pub(crate) fn mask(windows: &[Window], protection: &Protection, go_on: bool) -> Result<Masked, PlanError> {
    let mut masked = Masked::default();
    let mut covered: HashSet<PathBuf> = HashSet::new();
    let mut more = None;
    for window in windows {
        for below in &window.survey.sockets {
            let (source, place) = (window.source.join(below), window.target.join(below));
            let Some(place) = protection.shown(&source, place) else { continue };
            if covered.contains(&place) || !is_held(&source) {
                continue;
            }
            if covered.len() == MOST_MASKS {
                more.get_or_insert(place);
                continue;
            }
            masked.notes.push(format!("{} is a socket of the host; it is masked in the sandbox", place.display()));
            masked.mounts.push(Mount::Bind {
                source: PathBuf::from("/dev/null"),
                target: place.clone(),
                writable: false,
                optional: false,
                owned: false,
            });
            covered.insert(place);
        }
    }
    let unseen = windows.iter().find_map(|window| Some((window, window.survey.unseen.as_ref()?)));
    let open = match (more, unseen) {
        (Some(place), _) => Some(format!("{} is one more socket of the host than can be masked", place.display())),
        (None, Some((window, Unseen::Bound))) => Some(format!(
            "{} holds more files than the {MOST_ENTRIES} that are searched for sockets of the host",
            window.source.display()
        )),
        (None, Some((_, Unseen::Folder(folder)))) => {
            Some(format!("{} can't be searched for sockets of the host", folder.display()))
        }
        (None, None) => None,
    };
    match open {
        Some(what) if !go_on => Err(PlanError::Sockets { what }),
        open => {
            masked.notes.extend(open.map(|what| format!("{what}: the command may reach what listens there")));
            Ok(masked)
        }
    }
}

/// Whether some process, in whichever namespace, holds this socket. Asked with a datagram socket, so that no
/// connection is made: a listener of another kind answers EPROTOTYPE, and only where there is none, ECONNREFUSED.
/// What can't be asked counts as held.
fn is_held(path: &Path) -> bool {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let asked = open(path, flags, Mode::empty()).and_then(|file| {
        if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::Socket {
            return Err(Errno::NOENT);
        }
        let asking = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        // By its descriptor: a path may be longer than an address of a socket.
        let file = File::from(file);
        connect(&asking, &SocketAddrUnix::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?)
    });
    !matches!(asked, Err(Errno::CONNREFUSED | Errno::NOENT))
}

#[cfg(test)]
mod tests {
    use super::{MOST_MASKS, is_held, mask};
    use crate::plan::PlanError;
    use crate::protection::Protection;
    use crate::survey::add_windows;
    use init_protocol::Mount;
    use std::os::unix::net::{UnixDatagram, UnixListener};
    use std::path::Path;

    fn masks(mounts: &[Mount], entries: usize, go_on: bool) -> Result<super::Masked, PlanError> {
        let (mut windows, mut left) = (Vec::new(), entries);
        add_windows(&mut windows, mounts, &mut left);
        mask(&windows, &Protection::new(mounts.to_vec()), go_on)
    }

    #[test]
    fn sockets_in_own_folders_are_covered_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let deep = root.join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        let _listener = UnixListener::bind(deep.join("agent.sock")).unwrap();
        std::fs::write(root.join("file"), "").unwrap();

        let masked = masks(&[Mount::own(&root, true)], 100, false).unwrap();
        let targets: Vec<&Path> = masked.mounts.iter().map(Mount::target).collect();
        assert_eq!(targets, [deep.join("agent.sock")]);
        assert!(masked.notes[0].contains("agent.sock"));

        let elsewhere =
            Mount::Bind { source: root.clone(), target: "/data".into(), writable: false, optional: false, owned: true };
        assert_eq!(masks(&[elsewhere], 100, false).unwrap().mounts[0].target(), Path::new("/data/a/b/agent.sock"));
        let asked_for = [Mount::own(&root, true), Mount::own(deep.join("agent.sock"), true)];
        assert!(masks(&asked_for, 100, false).unwrap().mounts.is_empty(), "asked for by its own path");
        assert!(masks(&[Mount::system(&root)], 100, false).unwrap().mounts.is_empty());
        let covered = [Mount::own(&root, true), Mount::Tmpfs { target: root.join("a"), size: 1, mode: 0 }];
        assert!(masks(&covered, 100, false).unwrap().mounts.is_empty(), "nobody sees it");
    }

    #[test]
    fn leftovers_do_not_count_and_a_socket_too_many_refuses() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let bind = |name: String| UnixListener::bind(root.join(name)).unwrap();
        for number in 0..=MOST_MASKS {
            drop(bind(format!("old{number}")));
        }
        let held: Vec<UnixListener> = (0..MOST_MASKS).map(|number| bind(format!("new{number}"))).collect();
        let mounts = [Mount::own(&root, true)];
        assert_eq!(masks(&mounts, 1000, false).unwrap().mounts.len(), MOST_MASKS);
        let _one_more = bind("more".to_owned());
        assert!(matches!(masks(&mounts, 1000, false), Err(PlanError::Sockets { .. })));
        let gone_on = masks(&mounts, 1000, true).unwrap();
        assert_eq!(gone_on.mounts.len(), MOST_MASKS);
        assert!(gone_on.notes.iter().any(|note| note.contains("may reach")), "{:?}", gone_on.notes);
        drop(held);
        assert_eq!(masks(&mounts, 1000, false).unwrap().mounts.len(), 1);
        assert!(matches!(masks(&mounts, 10, false), Err(PlanError::Sockets { .. })), "not everything was searched");
    }

    #[test]
    fn a_socket_of_any_kind_is_held_until_its_owner_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let long = folder.path().join("l".repeat(200));
        std::fs::create_dir(&long).unwrap();
        let path = folder.path().join("s");
        let moved = long.join("s");
        let listener = UnixListener::bind(&path).unwrap();
        assert!(is_held(&path));
        std::fs::rename(&path, &moved).unwrap();
        assert!(is_held(&moved), "by another name, longer than an address");
        drop(listener);
        assert!(!is_held(&moved));
        let datagrams = UnixDatagram::bind(&path).unwrap();
        assert!(is_held(&path));
        drop(datagrams);
        assert!(!is_held(&path));
    }
}
