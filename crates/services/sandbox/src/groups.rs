//! Limits on a whole sandbox, by control groups: version 2 or 1, wherever this process may write one.
//!
//! A limit is enforced or it is an error: only what was asked for is set, and what can't be set refuses the start.
//! An ordinary user has a writable group where the session manager delegated one (systemd does), root nearly always.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::error::StartError;

/// Limits that the caller asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct GroupLimits {
    /// Processors, such as 1.5.
    pub cpus: Option<f64>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

/// A controller of control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Controller {
    Cpu,
    Memory,
    Pids,
}

/// The folders made for one sandbox.
#[derive(Debug, Default)]
pub(crate) struct ControlGroup {
    folders: Vec<PathBuf>,
    enforced: Vec<String>,
    /// A limit on processes that no control group gives here: each process has it instead (RLIMIT_NPROC), which
    /// counts the same in a user namespace of its own.
    processes: Option<u64>,
}

/// Every folder of ours begins so.
const PREFIX: &str = "cofferdam-";
/// Folders left by a run that was killed are removed after this.
const LEFT_BEHIND: Duration = Duration::from_secs(60);
/// The period that processor quotas are counted in, in microseconds.
const PERIOD: u32 = 100_000;

static COUNTER: AtomicU32 = AtomicU32::new(0);

impl Controller {
    pub(crate) const ALL: [Controller; 3] = [Controller::Cpu, Controller::Memory, Controller::Pids];

    /// As the kernel has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Controller::Cpu => "cpu",
            Controller::Memory => "memory",
            Controller::Pids => "pids",
        }
    }

    fn what(self) -> &'static str {
        match self {
            Controller::Cpu => "processors",
            Controller::Memory => "memory",
            Controller::Pids => "processes",
        }
    }
}

impl ControlGroup {
    /// Makes the folders and sets the limits.
    pub(crate) fn create(limits: &GroupLimits) -> Result<ControlGroup, StartError> {
        let mut wanted: Vec<Controller> =
            Controller::ALL.into_iter().filter(|controller| limits.asks(*controller)).collect();
        let mut group = ControlGroup::default();
        if wanted.is_empty() {
            return Ok(group);
        }
        let hierarchies = Hierarchies::read()?;
        if limits.pids.is_some() && !hierarchies.writable(Controller::Pids) {
            wanted.retain(|controller| *controller != Controller::Pids);
            group.processes = limits.pids;
            group.enforced.push("limit on processes (RLIMIT_NPROC)".to_owned());
        }
        let name = format!("{PREFIX}{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        for (version, parent, controllers) in hierarchies.places(&wanted)? {
            let folder = parent.join(&name);
            let made = version.make(&folder, &controllers, limits);
            group.folders.push(folder);
            if let Err((controller, error)) = made {
                group.remove();
                return Err(refused(controller, format!("{}: {error}", parent.display())));
            }
            group.enforced.extend(controllers.iter().map(|c| format!("limit on {} ({})", c.what(), version.name())));
        }
        Ok(group)
    }

    /// Puts a process into all of them.
    pub(crate) fn join(&self, pid: i32) -> Result<(), StartError> {
        for folder in &self.folders {
            fs::write(folder.join("cgroup.procs"), pid.to_string()).map_err(|error| StartError::Limit {
                what: "the whole sandbox",
                reason: format!("{}: {error}", folder.display()),
            })?;
        }
        Ok(())
    }

    /// The limit on processes that each process must have instead.
    pub(crate) fn processes(&self) -> Option<u64> {
        self.processes
    }

    /// What they enforce.
    pub(crate) fn enforced(&self) -> Vec<String> {
        self.enforced.clone()
    }

    /// Removes them. One that is still busy is removed by a later run.
    pub(crate) fn remove(&self) {
        for folder in &self.folders {
            let _ = fs::remove_dir(folder);
        }
    }
}

impl GroupLimits {
    fn asks(&self, controller: Controller) -> bool {
        match controller {
            Controller::Cpu => self.cpus.is_some(),
            Controller::Memory => self.memory.is_some(),
            Controller::Pids => self.pids.is_some(),
        }
    }

    /// The files to write for a controller: name, value, and whether it must be there.
    fn settings(&self, controller: Controller, version: Version) -> Vec<(&'static str, String, bool)> {
        match (controller, version) {
            (Controller::Cpu, _) => {
                let quota = (self.cpus.unwrap_or_default() * f64::from(PERIOD)).max(1_000.0).round();
                match version {
                    Version::Two => vec![("cpu.max", format!("{quota} {PERIOD}"), true)],
                    Version::One => vec![
                        ("cpu.cfs_period_us", PERIOD.to_string(), true),
                        ("cpu.cfs_quota_us", quota.to_string(), true),
                    ],
                }
            }
            (Controller::Memory, version) => {
                let bytes = self.memory.unwrap_or_default().to_string();
                match version {
                    // Without swap; where swap is not accounted there is nothing to forbid.
                    Version::Two => vec![("memory.max", bytes, true), ("memory.swap.max", "0".to_owned(), false)],
                    Version::One => vec![
                        ("memory.limit_in_bytes", bytes.clone(), true),
                        ("memory.memsw.limit_in_bytes", bytes, false),
                    ],
                }
            }
            (Controller::Pids, _) => vec![("pids.max", self.pids.unwrap_or_default().to_string(), true)],
        }
    }
}

/// Of control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    One,
    Two,
}

impl Version {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Version::One => "cgroup v1",
            Version::Two => "cgroup v2",
        }
    }

    fn make(
        self,
        folder: &Path,
        controllers: &[Controller],
        limits: &GroupLimits,
    ) -> Result<(), (Controller, io::Error)> {
        for controller in controllers.iter().copied() {
            match fs::create_dir(folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err((controller, error)),
                Err(_) | Ok(()) => {}
            }
            for (file, value, needed) in limits.settings(controller, self) {
                match fs::write(folder.join(file), value) {
                    Err(error) if needed => return Err((controller, error)),
                    Err(_) | Ok(()) => {}
                }
            }
        }
        Ok(())
    }
}

/// Where this process is in each hierarchy.
#[derive(Debug, Default)]
pub(crate) struct Hierarchies {
    /// Version 2: the mount and the own folder in it.
    two: Option<(PathBuf, PathBuf)>,
    /// Version 1: controllers and the own folder.
    one: Vec<(Vec<String>, PathBuf)>,
}

impl Hierarchies {
    pub(crate) fn read() -> Result<Hierarchies, StartError> {
        let read =
            |path: &str| fs::read_to_string(path).map_err(|source| StartError::Read { path: path.into(), source });
        Ok(Hierarchies::parse(&read("/proc/self/cgroup")?, &read("/proc/self/mountinfo")?))
    }

    /// `/proc/self/cgroup` has `number:controllers:path`; mountinfo tells where each hierarchy is mounted, and from
    /// which folder of it on.
    fn parse(groups: &str, mounts: &str) -> Hierarchies {
        let mut found = Hierarchies::default();
        for line in groups.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
            let wanted: Vec<String> =
                controllers.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
            let Some((mount, root)) = mounts.lines().find_map(|line| mounted(line, &wanted)) else { continue };
            let inside = Path::new(path).strip_prefix(&root).unwrap_or(Path::new(""));
            let own = mount.join(inside);
            if wanted.is_empty() {
                found.two = Some((mount, own));
            } else {
                found.one.push((wanted, own));
            }
        }
        found
    }

    /// For each controller a folder to make groups in: one for all of version 2, one each for version 1.
    fn places(&self, wanted: &[Controller]) -> Result<Vec<(Version, PathBuf, Vec<Controller>)>, StartError> {
        let mut places = Vec::new();
        let mut of_two = Vec::new();
        for controller in wanted.iter().copied() {
            match self.version_of(controller) {
                Some(Version::Two) => of_two.push(controller),
                Some(Version::One) => {
                    let own = self.one_of(controller).map(Path::to_owned).unwrap_or_default();
                    places.push((Version::One, own, vec![controller]));
                }
                None => return Err(refused(controller, "the kernel has no such controller here".to_owned())),
            }
        }
        if let Some(first) = of_two.first().copied() {
            let parent = self.delegated(&of_two).ok_or_else(|| {
                let missing = of_two.iter().copied().find(|controller| self.delegated(&[*controller]).is_none());
                refused(missing.unwrap_or(first), self.why_none())
            })?;
            places.push((Version::Two, parent, of_two));
        }
        for (_, parent, _) in &places {
            remove_left_behind(parent);
        }
        Ok(places)
    }

    /// In which version a controller is to be had.
    pub(crate) fn version_of(&self, controller: Controller) -> Option<Version> {
        let listed = self.two.as_ref().and_then(|(mount, _)| fs::read_to_string(mount.join("cgroup.controllers")).ok());
        if listed.is_some_and(|listed| listed.split_ascii_whitespace().any(|name| name == controller.name())) {
            return Some(Version::Two);
        }
        self.one_of(controller).map(|_| Version::One)
    }

    fn one_of(&self, controller: Controller) -> Option<&Path> {
        let has = |(names, _): &&(Vec<String>, PathBuf)| names.iter().any(|name| name == controller.name());
        self.one.iter().find(has).map(|(_, own)| own.as_path())
    }

    /// The nearest folder at or above ours where groups with these controllers can be made.
    pub(crate) fn delegated(&self, controllers: &[Controller]) -> Option<PathBuf> {
        let (mount, own) = self.two.as_ref()?;
        own.ancestors()
            .take_while(|folder| folder.starts_with(mount))
            .find(|folder| gives(folder, controllers))
            .map(Path::to_owned)
    }

    /// Why no folder of version 2 is to be had, and what to do.
    fn why_none(&self) -> String {
        let ours = self.two.as_ref().and_then(|(mount, own)| {
            own.ancestors().take_while(|folder| folder.starts_with(mount)).find(|folder| open_to_us(folder))
        });
        match ours {
            Some(folder) => format!(
                "{} is writable, but passes this controller on to no group below it: it was not given the controller, \
                 or has processes of its own (move them to a group below it)",
                folder.display()
            ),
            None => "no control group (v2) is delegated to this user: start it as `systemd-run --user --scope -p \
                     Delegate=yes cofferdam …`"
                .to_owned(),
        }
    }

    /// Whether a group with this controller can be made by this process.
    pub(crate) fn writable(&self, controller: Controller) -> bool {
        match self.version_of(controller) {
            Some(Version::Two) => self.delegated(&[controller]).is_some(),
            Some(Version::One) => self.one_of(controller).is_some_and(may_write),
            None => false,
        }
    }
}

/// Whether children of a folder have these controllers, and it is ours to make some.
fn gives(folder: &Path, controllers: &[Controller]) -> bool {
    if !open_to_us(folder) {
        return false;
    }
    let passed_on = || fs::read_to_string(folder.join("cgroup.subtree_control")).unwrap_or_default();
    let has =
        |listed: &str, controller: &Controller| listed.split_ascii_whitespace().any(|name| name == controller.name());
    for controller in controllers {
        if !has(&passed_on(), controller) {
            // Refused where the folder itself has processes; then one further up may do.
            let opened = fs::OpenOptions::new().append(true).open(folder.join("cgroup.subtree_control"));
            let _ = opened.and_then(|mut file| file.write_all(format!("+{}", controller.name()).as_bytes()));
        }
    }
    let listed = passed_on();
    controllers.iter().all(|controller| has(&listed, controller))
}

/// Whether this process may make groups in a folder, and put processes into them.
fn open_to_us(folder: &Path) -> bool {
    may_write(folder) && may_write(&folder.join("cgroup.procs"))
}

fn may_write(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok()
}

/// A line of mountinfo that mounts this hierarchy: where, and from which folder of it on.
fn mounted(line: &str, controllers: &[String]) -> Option<(PathBuf, PathBuf)> {
    let (before, after) = line.split_once(" - ")?;
    let mut fields = before.split(' ').skip(3);
    let (root, mount) = (fields.next()?, fields.next()?);
    let mut about = after.split(' ');
    let kind = about.next()?;
    let options = about.nth(1)?;
    let fits = if controllers.is_empty() {
        kind == "cgroup2"
    } else {
        kind == "cgroup" && controllers.iter().all(|name| options.split(',').any(|option| option == name))
    };
    fits.then(|| (PathBuf::from(mount), PathBuf::from(root)))
}

/// Removes the empty folders of runs that were killed.
fn remove_left_behind(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        let old = || {
            let changed = entry.metadata().ok()?.modified().ok()?;
            Some(changed.elapsed().ok()? > LEFT_BEHIND)
        };
        if ours && old().unwrap_or(false) {
            // One that still has processes refuses.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

fn refused(controller: Controller, reason: String) -> StartError {
    StartError::Limit { what: controller.what(), reason }
}

#[cfg(test)]
mod tests;
