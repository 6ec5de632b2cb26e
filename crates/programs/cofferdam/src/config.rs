//! Settings and where each came from: flag, then environment (`COFFERDAM_…`), then `~/.config/cofferdam/config.toml`,
//! then `/etc/cofferdam/config.toml`, then the default.
//!
//! A file in the working directory is never read: the contained program may write there.

use std::{
    fmt, fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, code};

/// `durability`: when a record counts as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Durability {
    /// In the file: survives the death of our processes.
    #[default]
    Written,
    /// On the disk: survives the loss of power.
    Fsync,
}

/// `authority`: who signs the certificates of opened TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Signing {
    /// The run's own authority, whose key is gone with it.
    #[default]
    Run,
    /// The installation's, which all its runs share: see `cofferdam authority`.
    Installation,
}

/// Where a setting came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    Flag,
    Environment(&'static str),
    File(PathBuf),
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag => f.write_str("flag"),
            Origin::Environment(name) => write!(f, "environment {name}"),
            Origin::File(path) => write!(f, "{}", path.display()),
            Origin::Default => f.write_str("default"),
        }
    }
}

/// A value and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting<T> {
    pub(crate) value: T,
    pub(crate) origin: Origin,
}

/// One file's settings.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// The policy of runs that name none.
    policy: Option<PathBuf>,
    durability: Option<Durability>,
    /// Who signs the certificates of opened TLS.
    authority: Option<Signing>,
    /// No summary at the end of a run.
    quiet: Option<bool>,
    /// Where runs are kept.
    state: Option<PathBuf>,
}

/// Every setting.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) policy: Setting<Option<PathBuf>>,
    pub(crate) durability: Setting<Durability>,
    pub(crate) authority: Setting<Signing>,
    pub(crate) quiet: Setting<bool>,
    pub(crate) state: Setting<PathBuf>,
    pub(crate) runtime: Setting<PathBuf>,
}

impl Config {
    /// Reads environment and files.
    pub(crate) fn load() -> Result<Self> {
        let [user, system] = folders().map(|folder| folder.join("config.toml"));
        let files = [(read(&user)?, user), (read(&system)?, system)];
        let by_xdg = variable::<PathBuf>("XDG_STATE_HOME")?.filter(|found| found.value.is_absolute());
        let by_xdg = by_xdg.map(|found| Setting { value: found.value.join("cofferdam"), origin: found.origin });
        let state = home().join(".local/state/cofferdam");
        let state = pick(variable("COFFERDAM_STATE")?.or(by_xdg), &files, |file| file.state.clone(), state);
        let runtime = match variable::<PathBuf>("XDG_RUNTIME_DIR")?.filter(|dir| dir.value.is_dir()) {
            Some(dir) => Setting { value: dir.value.join("cofferdam"), origin: dir.origin },
            None => Setting { value: state.value.join("sockets"), origin: Origin::Default },
        };
        let policy =
            variable("COFFERDAM_POLICY")?.map(|found| Setting { value: Some(found.value), origin: found.origin });
        Ok(Self {
            policy: pick(policy, &files, |file| file.policy.clone().map(Some), None),
            durability: pick(variable("COFFERDAM_DURABILITY")?, &files, |file| file.durability, Durability::default()),
            authority: pick(variable("COFFERDAM_AUTHORITY")?, &files, |file| file.authority, Signing::default()),
            quiet: pick(variable("COFFERDAM_QUIET")?, &files, |file| file.quiet, false),
            state,
            runtime,
        })
    }

    /// Refuses to start what nothing says a place for.
    pub(crate) fn need_state(&self) -> Result<(), Failure> {
        if self.state.origin != Origin::Default || known_home().is_some() {
            return Ok(());
        }
        let uid = rustix::process::getuid().as_raw();
        Err(no_state(&format!("HOME is not set, and /etc/passwd has no user {uid}")))
    }

    /// Name, value and origin of each, for `doctor`.
    pub(crate) fn rows(&self) -> Vec<[String; 3]> {
        let policy = self.policy.value.as_ref().map_or_else(|| "none".to_owned(), |path| path.display().to_string());
        let durability = match self.durability.value {
            Durability::Written => "written",
            Durability::Fsync => "fsync",
        };
        let authority = match self.authority.value {
            Signing::Run => "run",
            Signing::Installation => "installation",
        };
        [
            ("policy", policy, &self.policy.origin),
            ("durability", durability.to_owned(), &self.durability.origin),
            ("authority", authority.to_owned(), &self.authority.origin),
            ("quiet", self.quiet.value.to_string(), &self.quiet.origin),
            ("state", self.state.value.display().to_string(), &self.state.origin),
            ("sockets", self.runtime.value.display().to_string(), &self.runtime.origin),
        ]
        .map(|(name, value, origin)| [name.to_owned(), value, origin.to_string()])
        .to_vec()
    }
}

/// There is no place for runs.
pub(crate) fn no_state(reason: &str) -> Failure {
    let what = format!("there is no folder for runs and their records: {reason}");
    Failure::new(code::RUN_FAILED, what).hint("name one that you may write: COFFERDAM_STATE=DIR cofferdam run …")
}

/// The caller's home.
pub(crate) fn home() -> PathBuf {
    known_home().unwrap_or_else(|| PathBuf::from("/"))
}

fn known_home() -> Option<PathBuf> {
    std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from).or_else(home_of_record)
}

/// The home that passwd(5) gives this user: a service often has no HOME.
fn home_of_record() -> Option<PathBuf> {
    let uid = rustix::process::getuid().as_raw().to_string();
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let user =
        users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|user| user.get(2) == Some(&&*uid))?;
    user.get(5).filter(|home| home.starts_with('/')).map(PathBuf::from)
}

/// The system's settings.
pub(crate) const SYSTEM_FOLDER: &str = "/etc/cofferdam";

/// The folders that settings are read from.
pub(crate) fn folders() -> [PathBuf; 2] {
    [folder("XDG_CONFIG_HOME", ".config").join("cofferdam"), PathBuf::from(SYSTEM_FOLDER)]
}

/// An XDG base folder (XDG Base Directory Specification: a relative one is ignored).
fn folder(name: &str, below_home: &str) -> PathBuf {
    std::env::var_os(name)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .unwrap_or_else(|| home().join(below_home))
}

fn read(path: &Path) -> Result<File> {
    match fs::read_to_string(path) {
        Ok(text) => {
            let mut file: File = toml::from_str(&text).with_context(|| format!("reading {}", path.display()))?;
            // From the file's own folder: the working directory is a program's to write.
            let folder = path.parent().unwrap_or(Path::new("/"));
            for named in [&mut file.policy, &mut file.state].into_iter().flatten() {
                *named = folder.join(&named);
            }
            Ok(file)
        }
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(File::default()),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// A value that can be written in a variable.
trait FromVariable: Sized {
    fn from_variable(text: &str) -> Option<Self>;
}

impl FromVariable for PathBuf {
    fn from_variable(text: &str) -> Option<Self> {
        Some(PathBuf::from(text))
    }
}

impl FromVariable for bool {
    fn from_variable(text: &str) -> Option<Self> {
        match text {
            "1" | "true" => Some(true),
            "0" | "false" => Some(false),
            _ => None,
        }
    }
}

impl FromVariable for Durability {
    fn from_variable(text: &str) -> Option<Self> {
        Durability::from_str(text, true).ok()
    }
}

impl FromVariable for Signing {
    fn from_variable(text: &str) -> Option<Self> {
        Signing::from_str(text, true).ok()
    }
}

fn variable<T: FromVariable>(name: &'static str) -> Result<Option<Setting<T>>> {
    let Some(text) = std::env::var_os(name).filter(|text| !text.is_empty()) else { return Ok(None) };
    let value = text.to_str().and_then(T::from_variable);
    let wrong = || Failure::new(code::USAGE, format!("{name} has a value that is not understood: {}", text.display()));
    Ok(Some(Setting { value: value.ok_or_else(wrong)?, origin: Origin::Environment(name) }))
}

fn pick<T>(
    variable: Option<Setting<T>>,
    files: &[(File, PathBuf)],
    field: impl Fn(&File) -> Option<T>,
    default: T,
) -> Setting<T> {
    if let Some(found) = variable {
        return found;
    }
    let found =
        files.iter().find_map(|(file, path)| Some(Setting { value: field(file)?, origin: Origin::File(path.clone()) }));
    found.unwrap_or(Setting { value: default, origin: Origin::Default })
}

/// A flag goes over everything else.
pub(crate) fn flag_over<T: Clone>(flag: Option<T>, setting: &Setting<T>) -> Setting<T> {
    flag.map_or_else(|| setting.clone(), |value| Setting { value, origin: Origin::Flag })
}
