//! A second wall around files: Landlock (landlock(7)) says again what the mounts say.
//!
//! Everything in the new root may be read and executed; only the plan's writable places, the terminals and device
//! nodes, and a process's own entries of `/proc` may be written. It holds too where the workload got hold of a file
//! of the host by another way. Abstract Unix sockets and signals stay within the sandbox, and, from Linux 7.1 on,
//! so do Unix sockets in folders that are mounted from the host. TCP is not Landlock's matter here: the namespace has
//! one way out.

use std::os::fd::AsFd;
use std::path::Path;

use init_protocol::{Mount, Plan};
use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, LandlockStatus, PathBeneath, PathFd, RestrictionStatus,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use rustix::io::Errno;

use crate::failure::Failure;

const HINT: &str = "Landlock is in this kernel but refused the sandbox's rules";
/// The newest interface that is asked for; an older kernel gives what it has.
const NEWEST: ABI = ABI::V9;
/// Device nodes and the folders of terminals, which are written to.
const WRITABLE_DEVICES: [&str; 7] =
    ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/pts"];

/// How much of it this kernel gave.
pub(crate) enum Given {
    /// The interface's version.
    Version(i32),
    /// The kernel has no Landlock, or it is not turned on.
    Nothing,
}

/// Restricts this process and all that it starts.
pub(crate) fn restrict(plan: &Plan) -> Result<Given, Failure> {
    let status = apply(plan).map_err(|error| Failure::new(format!("landlock: {error}"), Errno::INVAL, HINT))?;
    match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, _) => Ok(Given::Nothing),
        (
            RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced,
            LandlockStatus::Available { effective_abi, .. },
        ) => Ok(Given::Version(effective_abi as i32)),
        (RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced, _) => Ok(Given::Version(0)),
    }
}

fn apply(plan: &Plan) -> Result<RestrictionStatus, RulesetError> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    rules = allow(rules, "/", AccessFs::Execute | AccessFs::ReadFile | AccessFs::ReadDir)?;
    let everything = AccessFs::from_all(NEWEST) & !(AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::ResolveUnix);
    for mount in &plan.mounts {
        match mount {
            Mount::Bind { target, writable: true, .. } => {
                rules = allow(rules, target, everything | own_socket(target))?
            }
            Mount::Tmpfs { target, .. } => rules = allow(rules, target, everything)?,
            Mount::Bind { writable: false, .. } | Mount::File { .. } | Mount::Symlink { .. } => {}
        }
    }
    let write = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate;
    for device in WRITABLE_DEVICES {
        rules = allow(rules, device, write | AccessFs::IoctlDev)?;
    }
    rules = allow(rules, "/proc", write)?;
    allow_standard_streams(rules)?.restrict_self()
}

/// A socket that the plan mounts by itself was named by the caller: it may be connected to.
fn own_socket(target: &Path) -> BitFlags<AccessFs> {
    let is_socket = rustix::fs::stat(target).is_ok_and(|found| is(&found, FileType::Socket));
    if is_socket { AccessFs::ResolveUnix.into() } else { BitFlags::EMPTY }
}

/// Allows access at and below a path. Where the path is a file, what only folders have is left out.
fn allow(
    rules: RulesetCreated,
    path: impl AsRef<Path>,
    access: impl Into<BitFlags<AccessFs>>,
) -> Result<RulesetCreated, RulesetError> {
    // A place that an optional mount left empty has nothing to allow.
    let Ok(place) = PathFd::new(path.as_ref()) else { return Ok(rules) };
    let is_directory = fstat(&place).is_ok_and(|found| is(&found, FileType::Directory));
    let access = if is_directory { access.into() } else { access.into() & AccessFs::from_file(NEWEST) };
    rules.add_rule(PathBeneath::new(place, access))
}

/// `/dev/stdout` opens what standard output is once more: it may be what it was given as, no more.
fn allow_standard_streams(mut rules: RulesetCreated) -> Result<RulesetCreated, RulesetError> {
    for stream in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        let file =
            fstat(stream).is_ok_and(|found| is(&found, FileType::RegularFile) || is(&found, FileType::CharacterDevice));
        let Ok(flags) = fcntl_getfl(stream) else { continue };
        if !file {
            continue;
        }
        let mut access: BitFlags<AccessFs> = AccessFs::IoctlDev.into();
        if !flags.contains(OFlags::WRONLY) {
            access |= AccessFs::ReadFile;
        }
        if flags.intersects(OFlags::WRONLY | OFlags::RDWR) {
            access |= AccessFs::WriteFile | AccessFs::Truncate;
        }
        rules = rules.add_rule(PathBeneath::new(stream.as_fd(), access))?;
    }
    Ok(rules)
}

fn is(found: &rustix::fs::Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(found.st_mode) == kind
}
