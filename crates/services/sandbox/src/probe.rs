//! What this machine can enforce, tried out where that is possible: for `doctor`, and for errors.
//!
//! Settings are only read to explain what was seen. Whether namespaces, mounts and rules work is answered by starting
//! a real sandbox: its walls are built and taken down again, with nothing run inside.

use std::fs;
use std::io;
use std::path::Path;

use init_protocol::{GatewayPorts, Limits, Mount, Plan, Terminal};
use rustix::process::{getegid, geteuid};

use crate::error::StartError;
use crate::groups::{Controller, GroupLimits, Hierarchies, Version};
use crate::start::{Spec, Started, start};
use crate::streams::{self, Streams};

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// In the order that a person reads them.
    pub found: Vec<Capability>,
}

/// One thing that a sandbox is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability {
    /// What.
    pub name: &'static str,
    /// Whether it works here.
    pub state: State,
    /// How that is known, or why not.
    pub reason: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

/// Whether a thing works here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It does.
    Works,
    /// A part of it does.
    Partly,
    /// It does not; a run goes without, and says so.
    Missing,
    /// It does not; a run refuses to start.
    Fails,
    /// It is there or not; this version does not use it.
    NotUsed,
}

impl Capabilities {
    /// Whether a run would start.
    pub fn can_run(&self) -> bool {
        self.found.iter().all(|capability| capability.state != State::Fails)
    }
}

/// Tries it all out. Takes some milliseconds.
pub fn probe() -> Capabilities {
    let tried = try_walls();
    let mut found = vec![
        user_namespaces(tried.as_ref().err()),
        walls(tried.as_ref().err()),
        outer_filter(),
        landlock(tried.as_ref().ok().map(|enforced| enforced.as_slice())),
        id_maps(),
    ];
    found.extend(limits());
    found.extend([overlay(), virtual_machines()]);
    Capabilities { found }
}

/// The likely reason why new namespaces were refused here, and what to do about it.
pub(crate) fn why_no_namespaces(error: &io::Error) -> String {
    for (setting, refuses, remedy) in SETTINGS {
        if read(setting).as_deref() == Some(refuses) {
            return remedy.to_owned();
        }
    }
    match (error.raw_os_error(), filtered()) {
        (Some(libc::EPERM | libc::ENOSYS), true) => OUTER_FILTER.to_owned(),
        (Some(libc::ENOSPC), _) => {
            "too many user namespaces, or too deeply nested: raise user.max_user_namespaces, or \
                                    leave an outer sandbox"
                .to_owned()
        }
        (Some(libc::EINVAL), _) => "the kernel is built without user namespaces (CONFIG_USER_NS)".to_owned(),
        _ => {
            "user namespaces are refused to this user: an outer container or security module may forbid them".to_owned()
        }
    }
}

/// Settings that refuse user namespaces to ordinary users: the file, its refusing value, what to do.
const SETTINGS: [(&str, &str, &str); 3] = [
    (
        "/proc/sys/user/max_user_namespaces",
        "0",
        "user namespaces are turned off: as root run `sysctl -w user.max_user_namespaces=15000`",
    ),
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        "user namespaces are for root only here: as root run `sysctl -w kernel.unprivileged_userns_clone=1`, or start \
         cofferdam as root",
    ),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "AppArmor gives user namespaces no rights here (as Ubuntu does since 23.10): as root copy \
         deploy/apparmor/cofferdam to /etc/apparmor.d/ and run `apparmor_parser -r /etc/apparmor.d/cofferdam`",
    ),
];
const OUTER_FILTER: &str = "an outer container's filter refuses namespaces: start it with a seccomp profile that allows \
                            clone3, mount and unshare (docker: --security-opt seccomp=unconfined, --security-opt \
                            systempaths=unconfined)";

/// Builds a sandbox's walls and takes them down; what they enforced.
fn try_walls() -> Result<Vec<String>, StartError> {
    let root = geteuid().is_root();
    let (uid, gid) = if root { (1000, 1000) } else { (geteuid().as_raw(), getegid().as_raw()) };
    let plan = Plan {
        hostname: "probe".to_owned(),
        mounts: vec![Mount::system("/usr")],
        working_directory: "/".into(),
        command: vec!["true".into()],
        environment: Vec::new(),
        ports: GatewayPorts::default(),
        datagram_ports: Vec::new(),
        limits: Limits::default(),
        terminal: Terminal::Inherit,
        uid,
        gid,
    };
    let streams = Streams::Given(streams::nothing()?);
    let Started { sandbox, enforced, .. } = start(&Spec { plan, limits: GroupLimits::default(), streams })?;
    sandbox.discard();
    Ok(enforced)
}

fn user_namespaces(failure: Option<&StartError>) -> Capability {
    let name = "user namespaces";
    match failure {
        Some(StartError::Namespaces { source, hint } | StartError::IdMap { source, hint, .. }) => {
            capability(name, State::Fails, source.to_string(), Some(hint.clone()))
        }
        Some(_) | None => capability(name, State::Works, "one was made".to_owned(), None),
    }
}

fn walls(failure: Option<&StartError>) -> Capability {
    let name = "walls: network rules, mounts, privileges, seccomp";
    match failure {
        None => capability(name, State::Works, "a sandbox was built and taken down".to_owned(), None),
        Some(StartError::Namespaces { .. } | StartError::IdMap { .. }) => {
            capability(name, State::Fails, "not tried: they need a user namespace".to_owned(), None)
        }
        Some(error) => {
            let cause = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
            let restricted = read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").as_deref() == Some("1");
            let apparmor = SETTINGS.last().filter(|_| restricted).map(|(_, _, remedy)| (*remedy).to_owned());
            capability(name, State::Fails, format!("{error}{cause}"), apparmor.or_else(|| error.hint()))
        }
    }
}

fn outer_filter() -> Capability {
    let name = "outer seccomp filter";
    if filtered() {
        capability(
            name,
            State::Partly,
            "this process is filtered already; the walls above were tried under it".to_owned(),
            None,
        )
    } else {
        capability(name, State::Works, "none: nothing outside stands in the way".to_owned(), None)
    }
}

fn landlock(enforced: Option<&[String]>) -> Capability {
    let name = "Landlock";
    let turn_on =
        "a second wall around files is missing; the mounts still hold. Add landlock to the kernel's lsm= list";
    match enforced.map(|enforced| enforced.iter().find(|wall| wall.starts_with("Landlock"))) {
        Some(Some(version)) => capability(name, State::Works, version.clone(), None),
        Some(None) => {
            capability(name, State::Missing, "not in this kernel, or off".to_owned(), Some(turn_on.to_owned()))
        }
        None => capability(name, State::Missing, "not tried: no sandbox could be built".to_owned(), None),
    }
}

fn id_maps() -> Capability {
    let name = "id-mapped mounts";
    if !geteuid().is_root() {
        return capability(name, State::NotUsed, "only a caller who is root needs them".to_owned(), None);
    }
    let tried = tempdir().and_then(|folder| {
        let ids = crate::identity::Ids { uid: ORDINARY_ID, gid: ORDINARY_ID };
        let opened = crate::trees::open(&[Mount::own(&folder, true)], ids).map_err(|error| error.to_string());
        let _ = fs::remove_dir(&folder);
        opened.map(drop)
    });
    match tried {
        Ok(()) => capability(name, State::Works, "a folder was mapped".to_owned(), None),
        Err(reason) => {
            let remedy = "start cofferdam as an ordinary user, or work on ext4, xfs or btrfs (Linux 5.12 or newer)";
            capability(name, State::Partly, reason, Some(remedy.to_owned()))
        }
    }
}

/// Any id that is not root's, to try a map with.
const ORDINARY_ID: u32 = 1000;

fn tempdir() -> Result<std::path::PathBuf, String> {
    let folder = std::env::temp_dir().join(format!("cofferdam-probe-{}", std::process::id()));
    fs::create_dir(&folder).map(|()| folder).map_err(|error| error.to_string())
}

fn limits() -> Vec<Capability> {
    let hierarchies = Hierarchies::read().unwrap_or_default();
    let one = |controller: Controller| {
        let name = match controller {
            Controller::Cpu => "limit on processors",
            Controller::Memory => "limit on memory",
            Controller::Pids => "limit on processes",
        };
        let writable = hierarchies.writable(controller);
        let version = hierarchies.version_of(controller).map(Version::name);
        match (version, writable) {
            (Some(version), true) => capability(name, State::Works, format!("{version}, writable"), None),
            (_, false) if controller == Controller::Pids => {
                capability(name, State::Works, "no control group is writable: RLIMIT_NPROC instead".to_owned(), None)
            }
            (Some(version), false) => capability(
                name,
                State::Missing,
                format!("{version}, but not writable by this user; asking for it refuses the run"),
                Some(
                    "run it in a delegated group: `systemd-run --user --scope -p Delegate=yes cofferdam …`".to_owned(),
                ),
            ),
            (None, _) => capability(name, State::Missing, "the kernel has no such controller here".to_owned(), None),
        }
    };
    Controller::ALL.into_iter().map(one).collect()
}

fn overlay() -> Capability {
    let there = read("/proc/filesystems").is_some_and(|list| list.lines().any(|line| line.ends_with("\toverlay")));
    let reason = if there { "in this kernel" } else { "not in this kernel, or its module is not loaded" };
    capability("overlay file systems", State::NotUsed, reason.to_owned(), None)
}

fn virtual_machines() -> Capability {
    let reason = if Path::new("/dev/kvm").exists() { "/dev/kvm is there" } else { "no /dev/kvm" };
    capability("virtual machines (KVM)", State::NotUsed, reason.to_owned(), None)
}

fn capability(name: &'static str, state: State, reason: String, remedy: Option<String>) -> Capability {
    Capability { name, state, reason, remedy }
}

/// Whether a filter stands over this process.
fn filtered() -> bool {
    read("/proc/self/status").is_some_and(|status| status.lines().any(|line| line == "Seccomp:\t2"))
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim_end().to_owned())
}
