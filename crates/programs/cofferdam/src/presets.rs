//! What known programs need: folders of their own, hosts, variables. Data in `presets/*.yaml`; this reads it.
//!
//! A preset is found by the program's base name and everything it opens is said at the start. It never opens a package
//! registry (that is `--managed`), and it never passes a variable that holds a secret (that is `--env NAME`).
//!
//! To add one: write `presets/NAME.yaml`, add it to [`SOURCES`]; the test below checks its form.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::failure::{Failure, code};

/// The presets that are built in.
const SOURCES: [(&str, &str); 19] = [
    ("aider", include_str!("../presets/aider.yaml")),
    ("apt", include_str!("../presets/apt.yaml")),
    ("aws", include_str!("../presets/aws.yaml")),
    ("az", include_str!("../presets/az.yaml")),
    ("cargo", include_str!("../presets/cargo.yaml")),
    ("claude", include_str!("../presets/claude.yaml")),
    ("codex", include_str!("../presets/codex.yaml")),
    ("copilot", include_str!("../presets/copilot.yaml")),
    ("gemini", include_str!("../presets/gemini.yaml")),
    ("git", include_str!("../presets/git.yaml")),
    ("go", include_str!("../presets/go.yaml")),
    ("java", include_str!("../presets/java.yaml")),
    ("kubectl", include_str!("../presets/kubectl.yaml")),
    ("node", include_str!("../presets/node.yaml")),
    ("npm", include_str!("../presets/npm.yaml")),
    ("opencode", include_str!("../presets/opencode.yaml")),
    ("pip", include_str!("../presets/pip.yaml")),
    ("python", include_str!("../presets/python.yaml")),
    ("terraform", include_str!("../presets/terraform.yaml")),
];

/// One file under `presets/`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PresetFile {
    /// What it is for, in a few words.
    summary: String,
    /// The base names it is found by; one `*` at the end stands for anything. [`programs`] reads them by itself.
    #[cfg_attr(not(test), expect(dead_code, reason = "every key of the file has its field"))]
    programs: Vec<String>,
    /// Presets that this one builds on; their hosts are not opened.
    #[serde(default)]
    include: Vec<String>,
    /// Hosts that the program can't work without.
    #[serde(default)]
    hosts: Vec<String>,
    /// The managed path that the program would use; named in a hint, not opened.
    #[serde(default)]
    managed: Vec<String>,
    /// Folders and files of its own.
    #[serde(default)]
    mounts: Vec<MountEntry>,
    /// What in writable folders makes the program run something at its next start: read-only, made where it is missing.
    #[serde(default)]
    settings: Vec<SettingsEntry>,
    /// Folders that the program writes to, private and empty where the private home does not hold them anyway.
    #[serde(default)]
    private: Vec<String>,
    /// Variables that are passed where they are set.
    #[serde(default)]
    environment: Vec<String>,
    /// Variables that hold a secret: never passed, named in a hint where they are set.
    #[serde(default)]
    secrets: Vec<String>,
    /// Files with credentials in what is mounted; named at the start where they are there.
    #[serde(default)]
    credentials: Vec<String>,
    /// What people should know.
    note: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct MountEntry {
    path: String,
    access: Access,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Access {
    #[serde(rename = "ro")]
    ReadOnly,
    #[serde(rename = "rw")]
    Writable,
    /// A file that the program writes, and that makes it run something: what is written is gone with the run.
    #[serde(rename = "copy")]
    Copy,
    /// Programs, readable by anyone: read-only, and not searched for sockets, which no tool keeps there.
    #[serde(rename = "tools")]
    Tools,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct SettingsEntry {
    /// A folder where it ends with `/`.
    path: String,
    /// What a file holds that says nothing.
    #[serde(default)]
    empty: String,
}

/// A folder or file that makes a program run something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) path: PathBuf,
    pub(crate) kind: SettingsKind,
}

/// What it is made as where it is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SettingsKind {
    Folder,
    /// With this text.
    File(String),
}

/// A folder or file that a preset opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PresetMount {
    pub(crate) path: PathBuf,
    pub(crate) writable: bool,
    pub(crate) is_tools: bool,
    pub(crate) is_copy: bool,
}

/// A preset as it applies to this caller.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Preset {
    pub(crate) name: String,
    pub(crate) summary: String,
    pub(crate) hosts: Vec<String>,
    pub(crate) managed: Vec<String>,
    pub(crate) mounts: Vec<PresetMount>,
    pub(crate) settings: Vec<Settings>,
    pub(crate) private: Vec<PathBuf>,
    pub(crate) environment: Vec<String>,
    pub(crate) secrets: Vec<String>,
    pub(crate) credentials: Vec<PathBuf>,
    pub(crate) note: Option<String>,
}

/// The names of all presets.
pub(crate) fn names() -> Vec<String> {
    SOURCES.iter().map(|(name, _)| (*name).to_owned()).collect()
}

/// The preset of a program, by its base name.
pub(crate) fn of_program(program: impl AsRef<Path>, caller: &Caller) -> Result<Option<Preset>> {
    let base = program.as_ref().file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match SOURCES.iter().find(|(_, source)| programs(source).any(|pattern| fits(pattern, base))) {
        Some((name, _)) => named(name, caller).map(Some),
        None => Ok(None),
    }
}

/// The list of programs in a preset's text. Every start asks every preset for it; reading them in full takes longer
/// than all else that is decided at a start.
fn programs(source: &str) -> impl Iterator<Item = &str> {
    let list = source.lines().find_map(|line| line.strip_prefix("programs:")).unwrap_or_default();
    list.split(['[', ',', ']']).map(|word| word.trim().trim_matches('"')).filter(|word| !word.is_empty())
}

/// The preset of this name.
pub(crate) fn named(name: &str, caller: &Caller) -> Result<Preset> {
    let Some((_, source)) = SOURCES.iter().find(|(known, _)| *known == name) else {
        return Err(Failure::new(code::RUN_FAILED, format!("there is no program preset {name:?}"))
            .hint(format!("known: {}, none", names().join(", ")))
            .into());
    };
    let file = parse(name, source)?;
    let mut preset = Preset { name: name.to_owned(), summary: file.summary.clone(), ..Preset::default() };
    preset.hosts = file.hosts.clone();
    preset.managed = file.managed.clone();
    preset.note = file.note.clone();
    let mut parts = vec![file.clone()];
    for included in &file.include {
        let (_, source) =
            SOURCES.iter().find(|(known, _)| known == included).context("an included preset is missing")?;
        parts.push(parse(included, source)?);
    }
    for part in parts {
        for mount in part.mounts {
            let path = caller.expand(&mount.path)?;
            let (writable, is_tools) = (mount.access == Access::Writable, mount.access == Access::Tools);
            preset.mounts.push(PresetMount { path, writable, is_tools, is_copy: mount.access == Access::Copy });
        }
        for entry in part.settings {
            // With the slash a link would be followed where it is looked for.
            let path = caller.expand(entry.path.trim_end_matches('/'))?;
            let kind = if entry.path.ends_with('/') { SettingsKind::Folder } else { SettingsKind::File(entry.empty) };
            preset.settings.push(Settings { path, kind });
        }
        for path in &part.private {
            let folder = caller.expand(path)?;
            if !folder.starts_with(&caller.home) {
                preset.private.push(folder);
            }
        }
        preset.environment.extend(part.environment);
        preset.secrets.extend(part.secrets);
        for path in part.credentials {
            preset.credentials.push(caller.expand(&path)?);
        }
    }
    Ok(preset)
}

fn parse(name: &str, source: &str) -> Result<PresetFile> {
    serde_saphyr::from_str(source).with_context(|| format!("the built-in preset {name}"))
}

fn fits(pattern: &str, base: &str) -> bool {
    pattern
        .strip_suffix('*')
        .map_or(pattern == base, |beginning| base.starts_with(beginning) && base.len() > beginning.len())
}

/// Whose folders a preset speaks of.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) home: PathBuf,
    pub(crate) environment: BTreeMap<String, OsString>,
}

impl Caller {
    /// The caller of this process; variables whose name is not UTF-8 are left out.
    pub(crate) fn of_this_process() -> Self {
        let environment = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v)));
        Self { home: crate::config::home(), environment: environment.collect() }
    }

    /// Expands a leading `${NAME:-fallback}` and `~`.
    fn expand(&self, path: &str) -> Result<PathBuf> {
        let (first, rest) = match path.strip_prefix("${").and_then(|inner| inner.split_once('}')) {
            Some((variable, rest)) => {
                let (name, fallback) = variable.split_once(":-").context("a variable without a fallback")?;
                let set = self.environment.get(name).and_then(|value| value.to_str());
                (set.filter(|value| Path::new(value).is_absolute()).unwrap_or(fallback), rest)
            }
            None => (path, ""),
        };
        let whole = format!("{first}{rest}");
        let expanded = match whole.strip_prefix("~/") {
            Some(below) => self.home.join(below),
            None => PathBuf::from(whole),
        };
        if !expanded.is_absolute() {
            bail!("{path:?} is no absolute path");
        }
        Ok(expanded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(pairs: &[(&str, &str)]) -> Caller {
        let environment = pairs.iter().map(|(k, v)| ((*k).to_owned(), v.into())).collect();
        Caller { home: PathBuf::from("/home/ada"), environment }
    }

    #[test]
    fn every_preset_can_be_read_and_names_real_patterns() {
        for (name, source) in SOURCES {
            let file = parse(name, source).unwrap();
            assert!(!file.programs.is_empty() && !file.summary.is_empty(), "{name}");
            assert_eq!(programs(source).collect::<Vec<_>>(), file.programs, "{name}");
            for host in &file.hosts {
                policy::HostPattern::parse(host).unwrap_or_else(|error| panic!("{name}: {host}: {error}"));
            }
            for manager in &file.managed {
                assert!(package_managers::Manager::parse(manager).is_some(), "{name}: {manager}");
            }
            let preset = named(name, &caller(&[])).unwrap();
            assert!(
                preset.mounts.iter().all(|mount| mount.path.starts_with("/home/ada")),
                "{name}: {:?}",
                preset.mounts
            );
            for settings in &preset.settings {
                let inside = |mount: &PresetMount| mount.writable && settings.path.starts_with(&mount.path);
                assert!(preset.mounts.iter().any(inside), "{name}: {settings:?}");
            }
            let passes_secret = preset.environment.iter().find(|passed| preset.secrets.contains(passed));
            assert_eq!(passes_secret, None, "{name}");
        }
        let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/presets")).unwrap().count();
        assert_eq!(files, SOURCES.len());
    }

    #[test]
    fn programs_find_their_preset() {
        for (program, expected) in [
            ("claude", Some("claude")),
            ("/usr/bin/git", Some("git")),
            ("pip3.11", Some("pip")),
            ("python3.12", Some("python")),
            ("cargo-nextest", Some("cargo")),
            ("pip3.", None),
            ("gitx", None),
            ("", None),
        ] {
            let found = of_program(program, &caller(&[])).unwrap().map(|preset| preset.name);
            assert_eq!(found.as_deref(), expected, "{program}");
        }
    }

    #[test]
    fn paths_are_expanded() {
        let caller = caller(&[("CARGO_HOME", "/opt/cargo"), ("RELATIVE", "x")]);
        for (text, expected) in [
            ("~/.cargo", "/home/ada/.cargo"),
            ("${CARGO_HOME:-~/.cargo}/bin", "/opt/cargo/bin"),
            ("${NOT_SET:-~/.x}/y", "/home/ada/.x/y"),
            ("${RELATIVE:-~/.x}", "/home/ada/.x"),
        ] {
            assert_eq!(caller.expand(text).unwrap(), Path::new(expected), "{text}");
        }
        assert!(caller.expand("relative").is_err());
    }

    #[test]
    fn what_is_included_opens_no_hosts() {
        let preset = named("claude", &caller(&[])).unwrap();
        assert!(preset.mounts.iter().any(|mount| mount.path.ends_with(".nvm")));
        assert!(preset.hosts.iter().all(|host| host.ends_with("anthropic.com") || host.contains("claude")));
    }
}
