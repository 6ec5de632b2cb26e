//! What the workload sees of the caller's files beyond the standard: presets, `--mount`, the program itself,
//! certificates; and what it must never see: records and control sockets.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use sandbox::Mount;

use super::arguments::MountFlag;
use crate::{
    failure::{Failure, code},
    presets::Preset,
};

/// Standard parts of the system that every sandbox sees.
const SYSTEM: [&str; 8] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc/ssl"];
/// How many entries of a mounted folder are looked at for credentials and sockets.
const LOOK_LIMIT: usize = 5_000;
/// How deep.
const LOOK_DEPTH: usize = 4;

/// File names that hold credentials, whoever made them.
const CREDENTIAL_NAMES: [&str; 19] = [
    ".env",
    ".netrc",
    ".git-credentials",
    ".pgpass",
    ".my.cnf",
    ".npmrc",
    ".pypirc",
    ".credentials.json",
    "credentials",
    "credentials.json",
    "credentials.toml",
    "auth.json",
    "oauth_creds.json",
    "id_rsa",
    "id_ed25519",
    "id_ecdsa",
    "kubeconfig",
    "service-account.json",
    "terraform.tfstate",
];
/// Endings of such.
const CREDENTIAL_ENDINGS: [&str; 6] = [".pem", ".key", ".p12", ".pfx", ".kdbx", ".keystore"];

/// What is mounted, and what must be said about it.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    pub(crate) mounts: Vec<Mount>,
    /// Each mount in a few words, for the record and the notes.
    pub(crate) said: Vec<String>,
    /// Credentials that the workload can read.
    pub(crate) credentials: Vec<String>,
    /// Unix sockets that the workload can reach.
    pub(crate) sockets: Vec<String>,
}

/// Everything that decides.
pub(crate) struct Wanted<'a> {
    pub(crate) presets: &'a [Preset],
    pub(crate) flags: &'a [MountFlag],
    pub(crate) certificates: &'a [PathBuf],
    pub(crate) working_directory: &'a Path,
    pub(crate) program: Option<PathBuf>,
    pub(crate) protected: &'a [PathBuf],
    /// Files that the workload may read and not write: its own policy and record.
    pub(crate) read_only: &'a [PathBuf],
}

/// Chooses the mounts.
pub(crate) fn choose(wanted: &Wanted<'_>) -> Result<Opened> {
    let mut opened = Opened::default();
    for preset in wanted.presets {
        for mount in preset.mounts.iter().filter(|mount| mount.path.exists()) {
            opened.add(&mount.path, &mount.path, mount.writable);
        }
        let named = preset.credentials.iter().filter(|path| path.exists());
        opened.credentials.extend(named.map(|path| path.display().to_string()));
    }
    for flag in wanted.flags {
        let source = fs::canonicalize(&flag.source).map_err(|error| refuse(&flag.source, &error))?;
        opened.add(&source, &flag.target, flag.writable);
        look_into(&source, &mut opened);
    }
    let mut visible: Vec<PathBuf> = SYSTEM.iter().map(PathBuf::from).collect();
    visible.push(wanted.working_directory.to_owned());
    visible.extend(opened.mounts.iter().map(|mount| mount.target().to_owned()));
    let sees = |path: &Path| visible.iter().any(|seen| path.starts_with(seen));
    for certificate in wanted.certificates.iter().filter(|path| !sees(path)) {
        opened.mounts.push(Mount::system(certificate));
    }
    if let Some(program) = wanted.program.as_ref().filter(|path| !sees(path)) {
        let source = fs::canonicalize(program).with_context(|| format!("reading {}", program.display()))?;
        let (target, writable, optional, owned) = (program.clone(), false, false, false);
        opened.mounts.push(Mount::Bind { source, target, writable, optional, owned });
        opened.said.push(format!("{} (ro)", program.display()));
    }
    look_into(wanted.working_directory, &mut opened);
    protect(wanted, &mut opened);
    Ok(opened)
}

fn refuse(path: &Path, error: &io::Error) -> Failure {
    Failure::new(code::RUN_FAILED, format!("--mount: {} can't be mounted: {error}", path.display()))
}

impl Opened {
    fn add(&mut self, source: &Path, target: &Path, writable: bool) {
        let (source_owned, target_owned) = (source.to_owned(), target.to_owned());
        let mount = Mount::Bind { source: source_owned, target: target_owned, writable, optional: false, owned: true };
        // A preset and what it includes may name the same folder.
        if self.mounts.contains(&mount) {
            return;
        }
        self.mounts.push(mount);
        let way = if writable { "rw" } else { "ro" };
        let shown = if source == target {
            source.display().to_string()
        } else {
            format!("{}:{}", source.display(), target.display())
        };
        self.said.push(format!("{shown} ({way})"));
    }
}

/// Covers what no workload may see, wherever a mount would show it, and closes what it may not write.
fn protect(wanted: &Wanted<'_>, opened: &mut Opened) {
    let mut shown: Vec<(PathBuf, PathBuf)> =
        vec![(wanted.working_directory.to_owned(), wanted.working_directory.to_owned())];
    for mount in &opened.mounts {
        if let Mount::Bind { source, target, .. } = mount {
            shown.push((source.clone(), target.clone()));
        }
    }
    let places = |path: &Path| -> BTreeSet<PathBuf> {
        let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let place = |(source, target): &(PathBuf, PathBuf)| {
            let below = real.strip_prefix(source).ok()?;
            Some(if below.as_os_str().is_empty() { target.clone() } else { target.join(below) })
        };
        shown.iter().filter_map(place).collect()
    };
    let mut last = Vec::new();
    for folder in wanted.protected {
        last.extend(places(folder).into_iter().map(|target| Mount::Tmpfs { target, size: 4096, mode: 0o000 }));
    }
    for file in wanted.read_only.iter().filter(|file| file.is_file()) {
        let real = fs::canonicalize(file).unwrap_or_else(|_| file.clone());
        let closed =
            |target| Mount::Bind { source: real.clone(), target, writable: false, optional: true, owned: true };
        last.extend(places(file).into_iter().map(closed));
    }
    opened.mounts.extend(last);
}

/// Names credentials and sockets in a folder, as far as the bounds go.
fn look_into(folder: &Path, opened: &mut Opened) {
    let mut left = LOOK_LIMIT;
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if left == 0 {
                return;
            }
            left -= 1;
            let Ok(kind) = entry.file_type() else { continue };
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if kind.is_dir()
                && depth < LOOK_DEPTH
                && !["node_modules", "target", ".git", ".venv"].contains(&name.as_str())
            {
                folders.push((path, depth + 1));
            } else if kind.is_socket() {
                opened.sockets.push(path.display().to_string());
            } else if kind.is_file() && is_credential(&name) {
                opened.credentials.push(path.display().to_string());
            }
        }
    }
}

fn is_credential(name: &str) -> bool {
    CREDENTIAL_NAMES.contains(&name)
        || CREDENTIAL_ENDINGS.iter().any(|ending| name.ends_with(ending) && name.len() > ending.len())
}

/// Where the program lies, found on the caller's path; `None` where the command is a path of its own or is not found
/// (the sandbox then says so).
pub(crate) fn find_program(command: &str, path: Option<&str>) -> Option<PathBuf> {
    if command.contains('/') {
        return None;
    }
    std::env::split_paths(path?)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(command))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted<'a>(
        workdir: &'a Path,
        protected: &'a [PathBuf],
        read_only: &'a [PathBuf],
        flags: &'a [MountFlag],
    ) -> Wanted<'a> {
        Wanted {
            presets: &[],
            flags,
            certificates: &[],
            working_directory: workdir,
            program: None,
            protected,
            read_only,
        }
    }

    #[test]
    fn records_in_a_mounted_folder_are_covered_and_the_policy_is_read_only() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        let (state, policy) = (root.join("state/cofferdam"), root.join("policy.yaml"));
        fs::create_dir_all(&state).unwrap();
        fs::write(&policy, "x").unwrap();
        let flags = [MountFlag { source: root.clone(), target: "/data".into(), writable: true }];
        let (protected, read_only) = ([state], [policy]);
        let opened = choose(&wanted(&root, &protected, &read_only, &flags)).unwrap();
        let covered: Vec<&Path> =
            opened.mounts.iter().filter(|m| matches!(m, Mount::Tmpfs { .. })).map(Mount::target).collect();
        assert_eq!(covered, [Path::new("/data/state/cofferdam"), &root.join("state/cofferdam")]);
        let closed: Vec<&Path> = opened
            .mounts
            .iter()
            .filter(|m| matches!(m, Mount::Bind { writable: false, .. }))
            .map(Mount::target)
            .collect();
        assert_eq!(closed, [Path::new("/data/policy.yaml"), &root.join("policy.yaml")]);
    }

    #[test]
    fn credentials_and_sockets_are_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("deep")).unwrap();
        for name in ["deep/.env", "server.key", "notes.txt", ".pem"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("engine.sock")).unwrap();
        let mut opened = Opened::default();
        look_into(folder.path(), &mut opened);
        opened.credentials.sort();
        let named: Vec<&str> = opened.credentials.iter().filter_map(|path| path.rsplit('/').next()).collect();
        assert_eq!(named, [".env", "server.key"]);
        assert_eq!(opened.sockets.len(), 1);
    }

    #[test]
    fn a_missing_mount_is_refused() {
        let flags = [MountFlag { source: "/not/there".into(), target: "/x".into(), writable: false }];
        assert!(choose(&wanted(Path::new("/nonexistent"), &[], &[], &flags)).is_err());
    }
}
