//! The file system that a run gets: an allow-list.
//!
//! ```text
//! /usr /bin /lib*          the system's, read-only          (system_files)
//! /etc                     chosen parts read-only; names, resolver and hosts generated here
//! /run /var /tmp /dev/shm  private and empty
//! the home                 private and empty, at its own path
//! the working directory    writable at its own path         (repository: its .git)
//! what must be protected   covered or read-only, wherever it is seen (protection)
//! what was asked for       presets and --mount
//! ```
//! Not on the list is not there: no other home, no `/run` with the host's sockets, no `/sys`. Unix sockets that lie in
//! a mounted folder are masked, as far as they exist at the start (host_sockets).

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use init_protocol::{GatewayPorts, Limits, Mount, Plan, Terminal};

use crate::identity::{self, Ids};
use crate::protection::{self, Protection};
use crate::repository::RepositoryWatch;
use crate::{host_sockets, survey, system_files};

/// What somebody wants to run, before it is a plan.
#[derive(Debug, Clone)]
pub struct PlanRequest {
    /// The command.
    pub command: Vec<OsString>,
    /// The workload's whole environment.
    pub environment: Vec<(String, OsString)>,
    /// Writable inside, at its own path.
    pub working_directory: PathBuf,
    /// A private, empty folder inside.
    pub home: PathBuf,
    /// The workload's name.
    pub user: String,
    /// Beyond the standard ones.
    pub mounts: Vec<Mount>,
    /// Folders of the host that no mount may show. Each must be there.
    pub hidden: Vec<PathBuf>,
    /// Files and folders of the host that no mount may make writable. Each must be there.
    pub closed: Vec<PathBuf>,
    /// Files of the host that are seen as others. One that is not there, or that no mount shows, is left out.
    pub covered: Vec<Cover>,
    /// Go on where not every socket of the host can be found or masked.
    pub allow_host_sockets: bool,
    /// More lines for `/etc/hosts`.
    pub hosts: Vec<(IpAddr, String)>,
    /// The host's name inside.
    pub hostname: String,
    /// Whether the workload gets a terminal.
    pub terminal: Terminal,
    /// Limits on each process.
    pub limits: Limits,
    /// The gateway's ports inside.
    pub ports: GatewayPorts,
    /// UDP ports that lead to the gateway; at most 64, as each has a socket for each address family.
    pub datagram_ports: Vec<u16>,
}

/// A file of the host, and what is seen in its place, read-only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cover {
    /// Which.
    pub path: PathBuf,
    /// Another file of the host, which anyone may read.
    pub with: PathBuf,
}

/// A plan, and what a person should know before it runs.
#[derive(Debug, Clone)]
pub struct Planned {
    /// For [`crate::start`].
    pub plan: Plan,
    /// For a person, at the start.
    pub notes: Vec<String>,
    /// Of what was to be closed: what a writable mount shows, and is read-only now.
    pub closed: Vec<PathBuf>,
    /// For the end of the run.
    pub repositories: RepositoryWatch,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The working directory is not there.
    #[error("the working directory {} can't be used", path.display())]
    WorkingDirectory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The working directory is a part of the system.
    #[error("{} can't be the working directory: it holds the system, or every user's files", path.display())]
    SystemDirectory {
        /// Which.
        path: PathBuf,
    },
    /// A mount's place is no absolute path.
    #[error("{} can't be a place in the sandbox: it must be absolute, without `..`", path.display())]
    Target {
        /// Which.
        path: PathBuf,
    },
    /// What must be protected can't be found, so nobody knows where it is seen.
    #[error("{} must be protected and can't be found", path.display())]
    Protected {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A mount would cover an earlier one.
    #[error("the mount at {} would cover the one at {}", by.display(), path.display())]
    Covered {
        /// Which is covered.
        path: PathBuf,
        /// By which.
        by: PathBuf,
    },
    /// A socket of the host might be reachable.
    #[error("{what}: the command could reach what listens there")]
    Sockets {
        /// Which, or why that is not known.
        what: String,
    },
    /// A name that can't stand in a file of names.
    #[error("`{name}` can't be a name in the sandbox")]
    Name {
        /// Which.
        name: String,
    },
}

impl PlanError {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            PlanError::Sockets { .. } => "mount a smaller folder (--workdir, --mount), or say --allow-host-sockets",
            PlanError::WorkingDirectory { .. } => "name a folder that is there and that you may enter: --workdir DIR",
            PlanError::SystemDirectory { .. } => "start it in a folder of the project, or name one: --workdir DIR",
            PlanError::Target { .. } => "write the place out from the root: --mount SOURCE:/PLACE",
            PlanError::Protected { .. } => {
                "see that the file or folder is there and that you may read it, or name another one"
            }
            PlanError::Covered { .. } => "mount the outer folder first, or leave one of the two out",
            PlanError::Name { .. } => {
                "a name has letters, digits, `.`, `-` and `_`, and begins with none but a letter or digit: see $USER"
            }
        };
        Some(text.to_owned())
    }
}

/// Folders that a workload may not get writable as a whole.
const NOT_TO_WORK_IN: [&str; 20] = [
    "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib32", "/lib64", "/mnt", "/opt", "/proc", "/run",
    "/sbin", "/srv", "/sys", "/tmp", "/usr", "/var", "/var/tmp",
];
/// Folders under which nothing may be the working directory.
const NOT_UNDER: [&str; 3] = ["/dev", "/proc", "/sys"];
const MEBIBYTE: u64 = 1 << 20;

impl PlanRequest {
    /// With everything else as the caller has it.
    pub fn new<W: Into<OsString>>(
        command: impl IntoIterator<Item = W>,
        working_directory: &Path,
    ) -> Result<PlanRequest, PlanError> {
        let working_directory = working_directory
            .canonicalize()
            .map_err(|source| PlanError::WorkingDirectory { path: working_directory.to_owned(), source })?;
        let home =
            std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute() && home != Path::new("/"));
        let user = std::env::var("USER").ok().filter(|user| is_name(user) && user != "root");
        Ok(PlanRequest {
            command: command.into_iter().map(Into::into).collect(),
            environment: Vec::new(),
            working_directory,
            home: home.unwrap_or_else(|| PathBuf::from("/home/user")),
            user: user.unwrap_or_else(|| "user".to_owned()),
            mounts: Vec::new(),
            hidden: Vec::new(),
            closed: Vec::new(),
            covered: Vec::new(),
            allow_host_sockets: false,
            hosts: Vec::new(),
            hostname: "sandbox".to_owned(),
            terminal: Terminal::Inherit,
            limits: Limits::default(),
            ports: GatewayPorts::default(),
            datagram_ports: Vec::new(),
        })
    }

    /// The plan.
    pub fn plan(self) -> Result<Planned, PlanError> {
        self.check()?;
        let Ids { uid, gid } = identity::inside();
        let mut mounts = system_files::mounts();
        mounts.extend(self.generated(uid, gid));
        mounts.extend(self.private_folders());
        mounts.extend(self.mounts.iter().cloned());
        // After a mount at the same place, or that would cover it.
        mounts.push(Mount::own(&self.working_directory, true));
        let mut protection = Protection::new(mounts);
        let (mut windows, mut left) = (Vec::new(), survey::MOST_ENTRIES);
        survey::add_windows(&mut windows, protection.mounts(), &mut left);
        protection.repositories(&self.working_directory, &windows);
        // What that added lies outside of the folders above: the repository of a worktree.
        survey::add_windows(&mut windows, protection.mounts(), &mut left);
        let writable = windows.iter().filter(|window| window.writable);
        let repositories = RepositoryWatch::new(writable.map(|window| (window.source.as_path(), &window.survey)));
        // The outer first: one inside another is covered with it.
        let mut hidden = self.hidden.clone();
        hidden.sort();
        hidden.iter().try_for_each(|path| protection.hide(path))?;
        self.closed.iter().try_for_each(|path| protection.close(path))?;
        self.covered.iter().for_each(|cover| protection.cover(cover));
        let mut notes = std::mem::take(&mut protection.notes);
        let closed = std::mem::take(&mut protection.closed);
        if self.home.starts_with(&self.working_directory) {
            notes.insert(0, format!("the whole home {} is writable in the sandbox", self.home.display()));
        }
        let masked = host_sockets::mask(&windows, &protection, self.allow_host_sockets)?;
        let mut mounts = protection.finish();
        mounts.extend(masked.mounts);
        notes.extend(masked.notes);
        protection::check_order(&mounts)?;
        let plan = Plan {
            hostname: self.hostname,
            mounts,
            working_directory: self.working_directory,
            command: self.command,
            environment: self.environment,
            ports: self.ports,
            datagram_ports: self.datagram_ports,
            limits: self.limits,
            terminal: self.terminal,
            uid,
            gid,
        };
        Ok(Planned { plan, notes, closed, repositories })
    }

    fn check(&self) -> Result<(), PlanError> {
        let directory = &self.working_directory;
        let system = NOT_TO_WORK_IN.iter().any(|path| directory == Path::new(path));
        if system || NOT_UNDER.iter().any(|path| directory.starts_with(path)) {
            return Err(PlanError::SystemDirectory { path: directory.clone() });
        }
        let targets = self.mounts.iter().map(Mount::target);
        for path in targets.chain([directory.as_path(), self.home.as_path()]) {
            let climbs = path.components().any(|part| part == std::path::Component::ParentDir);
            if !path.is_absolute() || climbs {
                return Err(PlanError::Target { path: path.to_owned() });
            }
        }
        let names = self.hosts.iter().map(|(_, name)| name);
        match names.chain([&self.user, &self.hostname]).find(|name| !is_name(name)) {
            Some(name) => Err(PlanError::Name { name: name.clone() }),
            None => Ok(()),
        }
    }

    /// Files that tell who and where the workload is.
    fn generated(&self, uid: u32, gid: u32) -> Vec<Mount> {
        let (user, home) = (&self.user, self.home.display());
        let shell = ["/bin/bash", "/bin/sh"].into_iter().find(|shell| Path::new(shell).exists()).unwrap_or("/bin/sh");
        let mut hosts =
            format!("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.1.1 {}\n", self.hostname);
        for (address, name) in &self.hosts {
            hosts.push_str(&format!("{address} {name}\n"));
        }
        let file = |target: &str, content: String| Mount::File { target: target.into(), content };
        vec![
            file(
                "/etc/passwd",
                format!(
                    "root:x:0:0:root:/root:/usr/sbin/nologin\n{user}:x:{uid}:{gid}:{user}:{home}:{shell}\n\
                     nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
                ),
            ),
            file("/etc/group", format!("root:x:0:\n{user}:x:{gid}:\nnogroup:x:65534:\n")),
            file("/etc/hosts", hosts),
            file("/etc/hostname", format!("{}\n", self.hostname)),
            // Every query to port 53 reaches the gateway, whatever the address.
            file("/etc/resolv.conf", "nameserver 127.0.0.1\noptions edns0\n".to_owned()),
            file("/etc/nsswitch.conf", NAME_SERVICES.to_owned()),
            Mount::Symlink { target: "/etc/mtab".into(), to: "/proc/self/mounts".into() },
        ]
    }

    fn private_folders(&self) -> Vec<Mount> {
        // tmpfs takes memory only for what is in it; the bound is for the workload's mistakes.
        let roomy = (rustix::system::sysinfo().totalram / 2).max(64 * MEBIBYTE);
        let tmpfs = |target: &Path, size, mode| Mount::Tmpfs { target: target.to_owned(), size, mode };
        let mut folders = vec![
            tmpfs(Path::new("/run"), 64 * MEBIBYTE, 0o755),
            tmpfs(Path::new("/var"), 256 * MEBIBYTE, 0o755),
            tmpfs(Path::new("/var/tmp"), roomy, 0o1777),
            tmpfs(Path::new("/tmp"), roomy, 0o1777),
            tmpfs(Path::new("/dev/shm"), roomy, 0o1777),
            Mount::Symlink { target: "/var/run".into(), to: "/run".into() },
        ];
        if !self.home.starts_with(&self.working_directory) {
            folders.push(tmpfs(&self.home, roomy, 0o700));
        }
        folders
    }
}

/// Names from files and DNS only: a name service's daemon would be a socket of the host's.
const NAME_SERVICES: &str = "\
passwd: files
group: files
shadow: files
hosts: files dns
networks: files
protocols: files
services: files
ethers: files
rpc: files
";

/// A user's or a host's name: nothing that could start another field or line.
fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    !name.is_empty() && name.len() <= 64 && !name.starts_with('-') && name.chars().all(allowed)
}

#[cfg(test)]
#[path = "plan/tests.rs"]
mod tests;
