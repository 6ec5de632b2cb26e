//! cargo: its registries from the user's `config.toml` and environment, its default from where a bare cargo tries to go,
//! its download hosts from the index's `config.json`.
//!
//! cargo has no command that prints its default index. Started with an empty home and a proxy that can't be
//! reached, it says which `config.json` it wanted; nothing leaves the machine.

use std::{collections::BTreeMap, fs, io, path::PathBuf};

use serde::Deserialize;

use crate::{
    discover::{DiscoverError, Found, Manager, parse_url},
    fetch::Fetcher,
    tool::{Caller, ToolError},
};

/// The name of cargo's default source in its configuration.
const DEFAULT_SOURCE: &str = "crates-io";

/// The part of `config.toml` that says where crates come from.
#[derive(Debug, Default, Deserialize)]
struct Configuration {
    #[serde(default)]
    source: BTreeMap<String, Source>,
    #[serde(default)]
    registries: BTreeMap<String, Registry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Source {
    replace_with: Option<String>,
    registry: Option<String>,
    directory: Option<String>,
    local_registry: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Registry {
    index: Option<String>,
}

/// `config.json` of an index.
#[derive(Deserialize)]
struct IndexConfig {
    dl: String,
}

/// Where the default source leads.
#[derive(Debug, PartialEq, Eq)]
enum DefaultSource {
    BuiltIn,
    Replaced(String),
    OnDisk(String),
}

pub(crate) fn discover(caller: &Caller, fetcher: &Fetcher) -> Result<Found, DiscoverError> {
    caller.find("cargo")?;
    let configuration = read_configuration(caller)?;
    let mut found = Found::new(Manager::Cargo);
    match default_source(&configuration)? {
        DefaultSource::BuiltIn => add_index(&mut found, &built_in_index(caller)?, "cargo's default index", fetcher)?,
        DefaultSource::Replaced(index) => add_index(&mut found, &index, "cargo's replaced source", fetcher)?,
        DefaultSource::OnDisk(place) => found.notes.push(format!("cargo takes crates from {place}")),
    }
    for (name, registry) in &configuration.registries {
        if let Some(index) = &registry.index {
            add_index(&mut found, index, &format!("cargo's registry {name}"), fetcher)?;
        }
    }
    Ok(found)
}

fn read_configuration(caller: &Caller) -> Result<Configuration, DiscoverError> {
    let home = caller.variable("CARGO_HOME").map_or_else(|| caller.home().join(".cargo"), PathBuf::from);
    let mut configuration = Configuration::default();
    for name in ["config.toml", "config"] {
        let path = home.join(name);
        let problem = |problem: String| DiscoverError::Configuration { path: path.display().to_string(), problem };
        match fs::read_to_string(&path) {
            Ok(text) => {
                configuration = toml::from_str(&text).map_err(|error| problem(error.message().to_owned()))?;
                break;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(problem(error.to_string())),
        }
    }
    for (name, value) in &caller.environment {
        let Some(name) = name.to_str().and_then(|n| n.strip_prefix("CARGO_REGISTRIES_")?.strip_suffix("_INDEX")) else {
            continue;
        };
        let index = value.to_str().map(str::to_owned);
        configuration.registries.insert(name.to_ascii_lowercase().replace('_', "-"), Registry { index });
    }
    Ok(configuration)
}

/// Follows `replace-with` from the default source.
fn default_source(configuration: &Configuration) -> Result<DefaultSource, DiscoverError> {
    let mut name = DEFAULT_SOURCE;
    // One step more than there are sources means a circle.
    for _ in 0..=configuration.source.len() {
        let Some(source) = configuration.source.get(name) else {
            let index = configuration.registries.get(name).and_then(|registry| registry.index.clone());
            return match index {
                Some(index) => Ok(DefaultSource::Replaced(index)),
                None if name == DEFAULT_SOURCE => Ok(DefaultSource::BuiltIn),
                None => Err(DiscoverError::Unclear { tool: "cargo", what: format!("[source.{name}]") }),
            };
        };
        if let Some(next) = &source.replace_with {
            name = next;
        } else if let Some(place) = source.directory.as_ref().or(source.local_registry.as_ref()) {
            return Ok(DefaultSource::OnDisk(place.clone()));
        } else {
            return Ok(source.registry.clone().map_or(DefaultSource::BuiltIn, DefaultSource::Replaced));
        }
    }
    Err(DiscoverError::Unclear { tool: "cargo", what: "its sources replace each other in a circle".to_owned() })
}

/// Asks a bare cargo for a crate through a proxy that can't be reached, and reads which file it wanted.
fn built_in_index(caller: &Caller) -> Result<String, DiscoverError> {
    let home = std::env::temp_dir().join(format!("cofferdam-cargo-{}", std::process::id()));
    let home_text = home.to_string_lossy().into_owned();
    let start = |source| ToolError::Start { tool: "cargo".to_owned(), source };
    // `create_dir` fails where the name is taken: nobody else's folder is used.
    fs::create_dir(&home).map_err(start)?;
    // Port 1 of loopback: reserved, and nothing of the caller's listens there.
    let nowhere = "http://127.0.0.1:1";
    let said = caller.ask_with(
        "cargo",
        &["info", "--registry", DEFAULT_SOURCE, "semver"],
        &[
            ("CARGO_HOME", &home_text),
            ("CARGO_HTTP_PROXY", nowhere),
            ("CARGO_NET_RETRY", "0"),
            ("CARGO_NET_OFFLINE", "false"),
            ("CARGO_TERM_COLOR", "never"),
        ],
    );
    fs::remove_dir_all(&home).map_err(start)?;
    wanted_index(&said?.stderr)
}

/// The URL of the `config.json` in cargo's complaint, as an index.
pub fn wanted_index(complaint: &str) -> Result<String, DiscoverError> {
    complaint
        .split(['`', ' ', '\n', '\'', '"'])
        .find_map(|word| word.strip_suffix("config.json").filter(|base| base.starts_with("https://")))
        .map(|base| format!("sparse+{base}"))
        .ok_or_else(|| DiscoverError::Unclear { tool: "cargo", what: "its default index".to_owned() })
}

fn add_index(found: &mut Found, index: &str, named_by: &str, fetcher: &Fetcher) -> Result<(), DiscoverError> {
    let Some(sparse) = index.strip_prefix("sparse+") else {
        let url = parse_url(index.strip_prefix("registry+").unwrap_or(index), "cargo")?;
        if url.scheme() == "file" {
            return Ok(());
        }
        return Err(DiscoverError::Unclear {
            tool: "cargo",
            what: format!("{named_by} is a git repository, whose download host is only known after a clone"),
        });
    };
    let url = parse_url(sparse, "cargo")?;
    found.add_url(&url, named_by);
    let host = url.host_str().unwrap_or_default().to_owned();
    let page = url.join("config.json").map_err(|error| DiscoverError::Unclear {
        tool: "cargo",
        what: format!("the index's config.json ({error})"),
    })?;
    let (config, stops) = fetcher.get_json::<IndexConfig>(&page)?;
    for stop in &stops {
        found.add_url(stop, &format!("a redirect of {host}"));
    }
    found.add_url(&parse_url(&before_markers(&config.dl), "cargo")?, &format!("the downloads of {host}"));
    Ok(())
}

/// `dl` may hold markers such as `{crate}`; what counts is the host before them.
fn before_markers(dl: &str) -> String {
    dl.split('{').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source_of(text: &str) -> Result<DefaultSource, DiscoverError> {
        default_source(&toml::from_str(text).unwrap())
    }

    #[test]
    fn replacements_are_followed() {
        for (text, expected) in [
            ("", DefaultSource::BuiltIn),
            (
                "[source.crates-io]\nreplace-with='m'\n[source.m]\nregistry='sparse+https://m.example/'",
                DefaultSource::Replaced("sparse+https://m.example/".to_owned()),
            ),
            (
                "[source.crates-io]\nreplace-with='m'\n[registries.m]\nindex='sparse+https://m.example/'",
                DefaultSource::Replaced("sparse+https://m.example/".to_owned()),
            ),
            (
                "[source.crates-io]\nreplace-with='v'\n[source.v]\ndirectory='vendor'",
                DefaultSource::OnDisk("vendor".to_owned()),
            ),
        ] {
            assert_eq!(source_of(text).unwrap(), expected, "{text}");
        }
        let circle = "[source.crates-io]\nreplace-with='a'\n[source.a]\nreplace-with='crates-io'";
        assert!(source_of(circle).is_err());
        assert!(source_of("[source.crates-io]\nreplace-with='gone'").is_err());
    }

    #[test]
    fn the_complaint_names_the_index() {
        let complaint = "error: download of config.json failed\n\nCaused by:\n  failed to download from `https://index.example/x/config.json`\n";
        assert_eq!(wanted_index(complaint).unwrap(), "sparse+https://index.example/x/");
        assert!(wanted_index("error: no such command").is_err());
    }

    #[test]
    fn markers_are_left_out() {
        assert_eq!(before_markers("https://dl.example/{crate}/{version}"), "https://dl.example/");
        assert_eq!(before_markers("https://dl.example/crates"), "https://dl.example/crates");
    }
}
