//! What no workload may see or change: its own policy, lists, record, settings and control socket.
//!
//! Collected before anything is mounted; the sandbox covers it wherever a mount shows it. A path that goes by a
//! symbolic link which the workload could replace is refused, and so is the home as working directory or writable mount.
//! A record gets a folder that is read-only as a whole: it goes on in new files. Other live runs count, too: what one
//! protects no other's workload may write, and what another's workload may write protects nothing.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use policy::model::PolicySpec;
use policy_file::NeededLists;

use crate::{
    config::{self, Config},
    failure::{Failure, code},
    presets::{Preset, Settings, SettingsKind},
    runs::{Run, Runs, private_folder},
};

use super::{Guard, arguments::Arguments, environment::Environment, held::Replaced};

/// Symbolic links on the way to a path.
mod links;

use links::link_within;

/// Programs of one folder of a preset that are held.
const MOST_PROGRAMS: usize = 32;
/// Endings of programs that an interpreter runs.
const SCRIPTS: [&str; 8] = ["sh", "bash", "py", "js", "mjs", "cjs", "ts", "rb"];

/// Refuses the home, and what it lies in, as working directory: its files run programs on the host.
pub(crate) fn refuse_home(working_directory: &Path, allowed: bool) -> Result<()> {
    let home = config::home();
    let home = fs::canonicalize(&home).unwrap_or(home);
    if allowed || home == Path::new("/") || !home.starts_with(working_directory) {
        return Ok(());
    }
    let what = format!("{} is your home, or holds it: the command could change what you run", home.display());
    Err(Failure::new(code::RUN_FAILED, what)
        .hint("work in a folder of the project (--workdir DIR), or say --allow-home")
        .into())
}

/// Refuses such folders as writable mounts, and those that hold our settings or records: other programs' settings lie
/// beside them.
pub(crate) fn refuse_home_mounts(arguments: &Arguments, config: &Config) -> Result<()> {
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let [settings, _] = config::folders();
    let kept = [config::home(), settings, config.state.value.clone()].map(|path| real(&path));
    for mount in arguments.mount.iter().filter(|mount| mount.writable && !arguments.allow_home) {
        let source = real(&mount.source);
        if let Some(held) = kept.iter().find(|held| **held != Path::new("/") && held.starts_with(&source)) {
            let what = format!(
                "--mount {}: {} lies in it: the command could change what you run",
                mount.source.display(),
                held.display()
            );
            let hint = "mount a folder of the project, mount it read-only (:ro), or say --allow-home";
            return Err(Failure::new(code::RUN_FAILED, what).hint(hint).into());
        }
    }
    Ok(())
}

/// Refuses to show the folder of the installation's certificate authority, or what lies in it, even where it is named:
/// sandboxes trust whoever has its key. What only holds that folder is shown without it.
pub(crate) fn refuse_authority<'a>(config: &Config, mut shown: impl Iterator<Item = &'a Path>) -> Result<()> {
    let folder = Runs::of(config).authority();
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let (real_folder, file) = (real(&folder), fs::metadata(folder.join(certificates::AUTHORITY_FILE)).ok());
    let is_key = |path: &Path| {
        let found = file.as_ref().zip(fs::metadata(path).ok());
        found.is_some_and(|(key, found)| (key.dev(), key.ino()) == (found.dev(), found.ino()))
    };
    match shown.find(|path| real(path).starts_with(&real_folder) || is_key(path)) {
        None => Ok(()),
        Some(path) => {
            let what = format!("{} holds the key of the installation's certificate authority", path.display());
            let hint = "its certificate is what programs need: cofferdam authority show --pem > FILE";
            Err(Failure::new(code::RUN_FAILED, what).hint(hint).into())
        }
    }
}

/// The folders that the workload may write, and the paths that it must not.
#[derive(Debug)]
pub(crate) struct Guarded {
    windows: Vec<PathBuf>,
    /// Folders that no mount may show.
    pub(crate) hidden: Vec<PathBuf>,
    closed: Vec<PathBuf>,
    /// The record must not go on in another file: the command may write where that would be.
    pub(crate) record_stays: bool,
    /// Of other programs: what makes them run something at their next start.
    settings: Vec<PathBuf>,
    /// Folders as they were named, and where they were found.
    named: Vec<(PathBuf, PathBuf)>,
    /// For people, at the start.
    pub(crate) notes: Vec<String>,
}

impl Guarded {
    /// Collects and checks the paths that are known before the policy is read. Settings that the workload could make
    /// are made here.
    pub(crate) fn new(arguments: &Arguments, config: &Config, windows: Vec<PathBuf>) -> Result<Self> {
        let hidden = Runs::of(config).protected_folders();
        let (closed, settings, named, notes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut guarded = Self { windows, hidden, closed, record_stays: false, settings, named, notes };
        for folder in &guarded.hidden {
            guarded.refuse_links(folder)?;
        }
        for folder in config::folders() {
            guarded.refuse_links(&folder.join("config.toml"))?;
            if !folder.exists() && guarded.is_writable(&folder) {
                if folder == Path::new(config::SYSTEM_FOLDER) {
                    let what = format!("{} is not there, and the command could make it", folder.display());
                    return Err(Failure::new(code::RUN_FAILED, what)
                        .hint("work in, or mount, a folder of the project")
                        .into());
                }
                private_folder(&folder)?;
            }
            guarded.closed.push(folder);
        }
        let named = [&arguments.policy, &config.policy.value, &arguments.events, &arguments.ask_file];
        for path in named.into_iter().flatten().filter(|path| *path != Path::new("-")) {
            guarded.refuse_links(path)?;
            guarded.closed.push(path.clone());
        }
        if let Some(events) = &arguments.events {
            guarded.add_record(events)?;
        }
        Ok(guarded)
    }

    /// A record goes on in new files beside the first, so its folder is read-only. A folder that the command works in
    /// can't be: there the file alone is, and the record stays in it.
    fn add_record(&mut self, events: &Path) -> Result<()> {
        let events = std::path::absolute(events)?;
        let Some(folder) = events.parent() else { return Ok(()) };
        if !folder.exists() && self.is_writable(folder) {
            private_folder(folder)?;
        }
        let real = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
        if self.windows.contains(&real) {
            self.record_stays = true;
        } else {
            self.closed.push(real);
        }
        Ok(())
    }

    /// Adds what makes a preset's program run something at its next start, which may be on the host.
    pub(crate) fn add_settings(&mut self, preset: &Preset) -> Result<()> {
        let writable: Vec<&PathBuf> = preset
            .mounts
            .iter()
            .filter(|mount| mount.writable && mount.path.is_dir())
            .map(|mount| &mount.path)
            .collect();
        for Settings { path, kind } in &preset.settings {
            if !writable.iter().any(|folder| path.starts_with(folder)) {
                continue;
            }
            match fs::symlink_metadata(path) {
                Ok(found) if found.is_symlink() => {
                    let what = "is a symbolic link, which the command could replace: look at it before you start";
                    self.notes.push(format!("{} {what} {} outside", path.display(), preset.name));
                    continue;
                }
                Ok(_) => {}
                Err(_) => make(path, kind).with_context(|| format!("making {}", path.display()))?,
            }
            self.settings.push(path.clone());
        }
        for folder in writable {
            self.settings.extend(programs_in(folder));
        }
        Ok(())
    }

    /// Adds a folder that was named, and the path without links where it was found.
    pub(crate) fn add_named(&mut self, named: &Path, real: &Path) -> Result<()> {
        self.named.push((std::path::absolute(named)?, real.to_owned()));
        Ok(())
    }

    /// Adds the bundles by which servers' certificates are trusted where TLS is opened: the caller's, and those of rules.
    pub(crate) fn add_trust(&mut self, caller: &Environment, folder: &Path, spec: &PolicySpec) -> Result<()> {
        let file = caller.get("SSL_CERT_FILE").map(PathBuf::from);
        let folders = caller.get("SSL_CERT_DIR").map(std::env::split_paths);
        let of_rules = spec.rules.iter().filter_map(|rule| Some(folder.join(rule.upstream_ca.as_ref()?)));
        for path in file.into_iter().chain(folders.into_iter().flatten()).chain(of_rules) {
            self.refuse_links(&path)?;
            self.closed.push(path);
        }
        Ok(())
    }

    /// Adds the files that credentials are read from.
    pub(crate) fn add_credentials(&mut self, files: &[PathBuf]) -> Result<()> {
        for path in files {
            self.refuse_links(path)?;
            self.closed.push(path.clone());
        }
        Ok(())
    }

    /// The folders that the workload may write.
    pub(crate) fn windows(&self) -> &[PathBuf] {
        &self.windows
    }

    /// Refuses what another live run's workload leads out of its folders by a link: by what was found, as the link may
    /// come and go.
    fn refuse_led_out(&self, run: &Run, windows: &[PathBuf]) -> Result<()> {
        for (named, real) in &self.named {
            let way: Vec<PathBuf> = named.ancestors().filter_map(|above| fs::canonicalize(above).ok()).collect();
            let led = |window: &&PathBuf| !real.starts_with(window) && way.iter().any(|on| on.starts_with(window));
            if windows.iter().any(|window| led(&window)) {
                let what = format!(
                    "{} leads to {} by a symbolic link that the command of run {} can write",
                    named.display(),
                    real.display(),
                    run.id.short()
                );
                let hint = "name the folder that you mean by its own path, or wait until that run has ended";
                return Err(Failure::new(code::RUN_FAILED, what).hint(hint).into());
            }
        }
        Ok(())
    }

    /// Adds what other live runs protect, and refuses what their workloads may have written.
    pub(crate) fn add_live_runs(&mut self, runs: &Runs, own: &Run) -> Result<()> {
        let protected = self.closed.clone();
        for run in runs.live()?.iter().filter(|run| run.id != own.id) {
            let Ok(record) = run.read() else { continue };
            self.refuse_led_out(run, record.guard.windows())?;
            for path in protected.iter().filter(|path| path.exists()) {
                if let Err(reason) = record.guard.check(path) {
                    let what = format!("{}: {reason} of run {}", path.display(), run.id.short());
                    let hint = "keep it where no sandbox can write, or wait until that run has ended";
                    return Err(Failure::new(code::RUN_FAILED, what).hint(hint).into());
                }
            }
            for path in record.guard.closed() {
                if path.is_dir() && self.windows.contains(path) {
                    let what = format!("run {} keeps its record in {}", run.id.short(), path.display());
                    let hint = "work in another folder, or wait until that run has ended";
                    return Err(Failure::new(code::RUN_FAILED, what).hint(hint).into());
                }
                self.closed.push(path.clone());
            }
        }
        Ok(())
    }

    /// Refuses files that an earlier workload could write, and that nobody has saved since.
    pub(crate) fn refuse_replaced(&self, replaced: &[Replaced]) -> Result<()> {
        for path in &self.closed {
            if let Some(found) = replaced.iter().find(|replaced| replaced.is(path)) {
                let what = format!(
                    "{} was replaced while run {} ran, whose command could write it from then on",
                    path.display(),
                    found.run
                );
                let hint = "read it; when it says what you want, save it again (or touch it)";
                return Err(Failure::new(code::RUN_FAILED, what).hint(hint).into());
            }
        }
        Ok(())
    }

    /// Adds the lists of a policy.
    pub(crate) fn add_lists(&mut self, folder: &Path, spec: &PolicySpec) -> Result<()> {
        let needed = NeededLists::of(spec);
        let feeds = needed.feeds.into_iter().map(|needed| needed.list.path);
        let tags = needed.service_tags.into_iter().map(|needed| needed.list.path);
        for path in feeds.chain(tags).map(|path| folder.join(path)) {
            self.refuse_links(&path)?;
            self.closed.push(path);
        }
        Ok(())
    }

    /// What must be read-only. One that is not there can't be changed, unless the workload could make it: then it is
    /// among these, and the sandbox refuses to start.
    pub(crate) fn closed(&self) -> Vec<PathBuf> {
        let mut closed = [&self.closed[..], &self.settings[..]].concat();
        closed.retain(|path| match fs::metadata(path) {
            Ok(found) => found.is_file() || found.is_dir(),
            Err(_) => self.is_writable(path),
        });
        closed.sort();
        closed.dedup();
        closed
    }

    /// The guard for the time of the run, over what the sandbox made read-only.
    pub(crate) fn live(&self, closed: &[PathBuf]) -> Guard {
        Guard::new(self.windows.clone(), closed, &self.closed())
    }

    fn is_writable(&self, path: &Path) -> bool {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let real = absolute.ancestors().find_map(|above| fs::canonicalize(above).ok());
        real.is_some_and(|real| self.windows.iter().any(|window| real.starts_with(window)))
    }

    fn refuse_links(&self, path: &Path) -> Result<()> {
        match link_within(path, &self.windows)? {
            None => Ok(()),
            Some(link) => {
                let what = format!(
                    "{} goes by the symbolic link {}, which the command could replace",
                    path.display(),
                    link.display()
                );
                Err(Failure::new(code::RUN_FAILED, what).hint("name the file that the link leads to").into())
            }
        }
    }
}

fn make(path: &Path, kind: &SettingsKind) -> std::io::Result<()> {
    match kind {
        SettingsKind::Folder => fs::DirBuilder::new().recursive(true).mode(0o700).create(path),
        SettingsKind::File(text) => {
            if let Some(folder) = path.parent() {
                fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            }
            let mut options = fs::OpenOptions::new();
            options.write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())
        }
    }
}

/// Programs that lie in a folder itself: settings may name them.
fn programs_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().take(MOST_PROGRAMS * 16);
    let programs = entries.filter(|entry| {
        let Ok(found) = entry.metadata() else { return false };
        let ending = entry.path().extension().is_some_and(|ending| SCRIPTS.iter().any(|script| ending == *script));
        found.is_file() && (ending || found.permissions().mode() & 0o111 != 0)
    });
    programs.map(|entry| entry.path()).take(MOST_PROGRAMS).collect()
}
