//! What the workload sees of the caller's files beyond the standard: presets, `--mount`, the program itself,
//! certificates. What it must never see or change is `guarded`'s.

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileTypeExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use sandbox::{Cover, Mount};

use super::arguments::MountFlag;
use crate::{
    failure::{Failure, code},
    presets::Preset,
};

/// Other names of a file.
mod hard_links;

/// Standard parts of the system that every sandbox sees.
const SYSTEM: [&str; 8] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc/ssl"];
/// The most that a private folder outside the home holds.
const PRIVATE_SIZE: u64 = 8 << 30;
/// How many entries of a mounted folder are looked at for credentials.
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

/// Of these, and of what presets name, settings in which a credential may stand.
const SETTINGS_NAMES: [&str; 3] = [".npmrc", "pip.conf", ".terraformrc"];
/// The largest of such that is read.
const SETTINGS_LIMIT: u64 = 1 << 16;

/// What is mounted, and what must be said about it.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    pub(crate) mounts: Vec<Mount>,
    /// Each mount in a few words, for the record and the notes.
    pub(crate) said: Vec<String>,
    /// Credentials that the workload can read.
    pub(crate) credentials: Vec<String>,
    /// Of these, what the policy's own are read from.
    pub(crate) sources: Vec<String>,
    /// The policy, the record and the like, where the workload sees them: read-only.
    pub(crate) closed: Vec<String>,
    /// Unix sockets that the workload can reach.
    pub(crate) sockets: Vec<String>,
    /// Files of the system that are seen as others.
    pub(crate) covered: Vec<Cover>,
    /// Which TLS is opened.
    pub(crate) tls: Option<String>,
}

/// Everything that decides.
pub(crate) struct Wanted<'a> {
    pub(crate) presets: &'a [Preset],
    pub(crate) flags: &'a [MountFlag],
    pub(crate) certificates: &'a [PathBuf],
    /// Files and folders of the system, as those who are not root see them.
    pub(crate) system: &'a [PathBuf],
    pub(crate) working_directory: &'a Path,
    pub(crate) program: Option<PathBuf>,
}

/// Chooses the mounts.
pub(crate) fn choose(wanted: &Wanted<'_>) -> Result<Opened> {
    let mut opened = Opened::default();
    for preset in wanted.presets {
        for target in &preset.private {
            opened.mounts.push(Mount::Tmpfs { target: target.clone(), size: PRIVATE_SIZE, mode: 0o700 });
        }
        for mount in preset.mounts.iter().filter(|mount| mount.path.exists()) {
            if mount.is_copy {
                opened.copy(&mount.path, wanted.working_directory)?;
                continue;
            }
            let owned = !(mount.is_tools && is_anyones(&mount.path));
            let source = fs::canonicalize(&mount.path).map_err(|error| refuse(&mount.path, &error))?;
            opened.add(&source, &mount.path, mount.writable, owned);
        }
        let named = preset.credentials.iter().filter(|path| path.exists() && !is_harmless(path));
        opened.credentials.extend(named.map(|path| path.display().to_string()));
    }
    for flag in wanted.flags {
        let source = fs::canonicalize(&flag.source).map_err(|error| refuse(&flag.source, &error))?;
        opened.add(&source, &flag.target, flag.writable, true);
        if fs::metadata(&source).is_ok_and(|found| found.file_type().is_socket()) {
            // Only by its own path: sockets in a mounted folder are masked.
            opened.sockets.push(source.display().to_string());
        }
        look_into(&source, &mut opened);
    }
    let mut visible: Vec<PathBuf> = SYSTEM.iter().map(PathBuf::from).collect();
    visible.push(wanted.working_directory.to_owned());
    visible.extend(opened.mounts.iter().map(|mount| mount.target().to_owned()));
    let sees = |path: &Path| visible.iter().any(|seen| path.starts_with(seen));
    for certificate in wanted.certificates.iter().filter(|path| !sees(path)) {
        opened.mounts.push(Mount::system(certificate));
    }
    for path in wanted.system.iter().filter(|path| !sees(path)) {
        opened.mounts.push(Mount::system(path));
        opened.said.push(format!("{} (ro)", path.display()));
        opened.credentials.extend(apt_passwords(path));
    }
    if let Some(program) = &wanted.program {
        let shown = program_mounts(program, &sees)?;
        let folders = shown.iter().filter(|mount| matches!(mount, Mount::Bind { .. }));
        let said: Vec<String> = folders.map(|mount| format!("{} (ro)", mount.target().display())).collect();
        opened.said.extend(said);
        opened.mounts.extend(shown);
    }
    look_into(wanted.working_directory, &mut opened);
    Ok(opened)
}

/// Passwords for sources, among apt's settings, that this user may read (apt_auth.conf(5)).
fn apt_passwords(folder: &Path) -> Vec<String> {
    let parts = fs::read_dir(folder.join("auth.conf.d")).into_iter().flatten().flatten().map(|entry| entry.path());
    let all = parts.chain([folder.join("auth.conf")]);
    // Root's command is somebody else in the sandbox.
    let is_root = rustix::process::geteuid().is_root();
    let readable = |file: &Path| match is_root {
        true => fs::metadata(file).is_ok_and(|found| found.mode() & 0o004 != 0),
        false => fs::File::open(file).is_ok(),
    };
    all.filter(|file| readable(file)).map(|file| file.display().to_string()).collect()
}

/// Whether anyone on this machine may read the folder.
fn is_anyones(folder: &Path) -> bool {
    fs::metadata(folder).is_ok_and(|found| found.mode() & 0o005 == 0o005)
}

pub(super) fn refuse(path: &Path, error: &io::Error) -> Failure {
    Failure::new(code::RUN_FAILED, format!("--mount: {} can't be mounted: {error}", path.display()))
}

impl Opened {
    /// Names those of these files that the workload can read, by their own names or by other ones; refuses another name
    /// that it can write.
    pub(crate) fn name_readable(&mut self, files: &[PathBuf], working_directory: &Path) -> Result<()> {
        let (mut written, mut shown) = (vec![working_directory], Vec::new());
        for mount in &self.mounts {
            match mount {
                Mount::Bind { source, writable: true, .. } => written.push(source),
                Mount::Bind { source, .. } => shown.push(source.as_path()),
                Mount::Tmpfs { .. } | Mount::File { .. } | Mount::Symlink { .. } => {}
            }
        }
        let mut readable = Vec::new();
        for file in files.iter().filter_map(|file| fs::canonicalize(file).ok()) {
            if let Some(link) = hard_links::others(&file, &written)?.first() {
                let what = format!(
                    "{} is another name (a hard link) of {}, which a credential is read from, and lies where the sandbox may \
                     write",
                    link.display(),
                    file.display()
                );
                return Err(Failure::new(code::RUN_FAILED, what).hint(hard_links::HINT).into());
            }
            readable.extend(hard_links::others(&file, &shown)?.iter().map(|link| link.display().to_string()));
            let system = SYSTEM.iter().map(Path::new);
            if shown.iter().chain(&written).copied().chain(system).any(|folder| file.starts_with(folder)) {
                readable.push(file.display().to_string());
            }
        }
        self.sources.extend(readable);
        Ok(())
    }

    fn add(&mut self, source: &Path, target: &Path, writable: bool, owned: bool) {
        let (source_owned, target_owned) = (source.to_owned(), target.to_owned());
        let mount = Mount::Bind { source: source_owned, target: target_owned, writable, optional: false, owned };
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

impl Opened {
    /// Gives a copy of a file, where the file itself is not seen anyway.
    fn copy(&mut self, path: &Path, working_directory: &Path) -> Result<()> {
        if path.starts_with(working_directory) {
            return Ok(());
        }
        let content = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        self.mounts.push(Mount::File { target: path.to_owned(), content });
        self.said.push(format!("{} (a copy: changes are gone with the run)", path.display()));
        Ok(())
    }
}

/// Names credentials in a folder, as far as the bounds go.
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
            } else if kind.is_file() && is_credential(&name) && !is_harmless(&path) {
                opened.credentials.push(path.display().to_string());
            }
        }
    }
}

/// Settings that may hold a credential, and hold none: a registry's address alone is no secret. Not where it can't be
/// read, and not for files that are nothing but credentials.
fn is_harmless(file: &Path) -> bool {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if !SETTINGS_NAMES.contains(&name) || fs::metadata(file).is_ok_and(|found| found.len() > SETTINGS_LIMIT) {
        return false;
    }
    let Ok(text) = fs::read_to_string(file) else { return false };
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
    lines.into_iter().all(|line| {
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        let key = key.trim().to_ascii_lowercase();
        let secret = ["auth", "password", "token", "secret"].iter().any(|word| key.contains(word));
        // A reference to a variable is not its value.
        let is_named = secret && !value.trim().is_empty() && !value.trim().starts_with("${");
        !is_named && !has_user(line)
    })
}

/// Whether a URL in it has a user name: `https://user:password@host/`.
fn has_user(line: &str) -> bool {
    line.split("://").skip(1).any(|rest| rest.split(['/', ' ', '"']).next().is_some_and(|host| host.contains('@')))
}

fn is_credential(name: &str) -> bool {
    CREDENTIAL_NAMES.contains(&name)
        || CREDENTIAL_ENDINGS.iter().any(|ending| name.ends_with(ending) && name.len() > ending.len())
}

/// What it takes to start a program that the standard does not show: itself, the folder that its parts lie in (Node
/// packages, a Python environment), and the link by which it was found.
fn program_mounts(program: &Path, sees: &dyn Fn(&Path) -> bool) -> Result<Vec<Mount>> {
    let real = fs::canonicalize(program).with_context(|| format!("reading {}", program.display()))?;
    let packages = real.ancestors().filter(|folder| folder.ends_with("node_modules")).last();
    let environment = [&real, &program.to_owned()]
        .into_iter()
        .filter_map(|path| path.parent()?.parent())
        .find(|folder| folder.join("pyvenv.cfg").is_file())
        .map(Path::to_owned);
    let mut mounts = Vec::new();
    for path in [packages.map_or_else(|| real.clone(), Path::to_owned)].into_iter().chain(environment) {
        if !sees(&path) {
            mounts.push(Mount::system(path));
        }
    }
    let is_shown = sees(program) || mounts.iter().any(|mount| program.starts_with(mount.target()));
    if !is_shown && real != program {
        mounts.push(Mount::Symlink { target: program.to_owned(), to: real });
    }
    Ok(mounts)
}

/// Where the program lies, found on the caller's path; `None` where the command is a path of its own or is not found
/// (the sandbox then says so).
pub(crate) fn find_program(command: &OsStr, path: Option<&OsString>) -> Option<PathBuf> {
    if command.as_bytes().contains(&b'/') {
        return None;
    }
    std::env::split_paths(path?)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(command))
        // What is mounted has a name that is text.
        .find(|file| file.to_str().is_some() && file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("deep")).unwrap();
        for name in ["deep/.env", "server.key", "notes.txt", ".pem"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        let mut opened = Opened::default();
        look_into(folder.path(), &mut opened);
        opened.credentials.sort();
        let named: Vec<&str> = opened.credentials.iter().filter_map(|path| path.rsplit('/').next()).collect();
        assert_eq!(named, [".env", "server.key"]);
    }

    #[test]
    fn settings_without_a_credential_are_no_alarm() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text, harmless) in [
            (".npmrc", "registry=https://npm.corp.example/\nfund=false\n", true),
            (".npmrc", "//npm.corp.example/:_authToken=abc\n", false),
            (".npmrc", "//npm.corp.example/:_authToken=${NPM_TOKEN}\n", true),
            (".npmrc", "_password = abc\n", false),
            (".npmrc", "# _auth=abc\nalways-auth=\n", true),
            (".npmrc", "proxy=http://ada:secret@proxy.example:3128\n", false),
            ("pip.conf", "[global]\nindex-url = https://pypi.corp.example/simple\n", true),
            ("pip.conf", "[global]\nindex-url = https://ada:secret@pypi.corp.example/simple\n", false),
            (".terraformrc", "credentials \"x.example\" {\n  token = \"abc\"\n}\n", false),
            (".env", "", false),
        ] {
            let file = folder.path().join(name);
            fs::write(&file, text).unwrap();
            assert_eq!(is_harmless(&file), harmless, "{name}: {text}");
        }
        fs::write(folder.path().join(".npmrc"), [0xff]).unwrap();
        assert!(!is_harmless(&folder.path().join(".npmrc")));
        assert!(!is_harmless(&folder.path().join("gone/.npmrc")));
    }

    #[test]
    fn a_program_comes_with_its_parts() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        for name in ["lib/node_modules/agent/node_modules/part", "bin", "venv/bin"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        for name in ["lib/node_modules/agent/cli.js", "bin/alone", "venv/pyvenv.cfg", "venv/bin/tool"] {
            fs::write(root.join(name), "x").unwrap();
        }
        std::os::unix::fs::symlink("../lib/node_modules/agent/cli.js", root.join("bin/agent")).unwrap();
        let targets = |program: &str| {
            let mounts = program_mounts(&root.join(program), &|_| false).unwrap();
            mounts.iter().map(|mount| mount.target().strip_prefix(&root).unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(targets("bin/agent"), [Path::new("lib/node_modules"), Path::new("bin/agent")]);
        assert_eq!(targets("bin/alone"), [Path::new("bin/alone")]);
        assert_eq!(targets("venv/bin/tool"), [Path::new("venv/bin/tool"), Path::new("venv")]);
        assert!(program_mounts(&root.join("bin/agent"), &|_| true).unwrap().is_empty());
    }

    #[test]
    fn a_missing_mount_is_refused() {
        let flags = [MountFlag { source: "/not/there".into(), target: "/x".into(), writable: false }];
        let (presets, certificates, working_directory) = (&[][..], &[][..], Path::new("/nonexistent"));
        let wanted = Wanted { presets, flags: &flags, certificates, system: &[], working_directory, program: None };
        assert!(choose(&wanted).is_err());
    }
}
