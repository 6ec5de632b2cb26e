//! The package managers and what finding their hosts gives.

use std::{fmt, path::PathBuf};

use url::Url;

use crate::{
    apt, cargo,
    fetch::{FetchError, Fetcher},
    golang, npm, nuget, pip,
    tool::{Caller, ToolError},
};

/// A package manager whose hosts can be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Manager {
    /// Python's pip.
    Pip,
    /// Node's npm.
    Npm,
    /// Rust's cargo.
    Cargo,
    /// Debian's apt.
    Apt,
    /// .NET's NuGet.
    Nuget,
    /// Go's module proxy.
    Go,
}

impl Manager {
    /// Every one, in the order they are shown.
    pub const ALL: [Manager; 6] =
        [Manager::Pip, Manager::Npm, Manager::Cargo, Manager::Apt, Manager::Nuget, Manager::Go];

    /// The manager that a toggle names: the tool's name, or the name its registry goes by in a policy.
    pub fn parse(toggle: &str) -> Option<Manager> {
        match toggle {
            "pip" | "pypi" => Some(Manager::Pip),
            "npm" => Some(Manager::Npm),
            "cargo" | "crates" => Some(Manager::Cargo),
            "apt" => Some(Manager::Apt),
            "nuget" => Some(Manager::Nuget),
            "go" => Some(Manager::Go),
            _ => None,
        }
    }

    /// The toggle's name in a policy.
    pub fn toggle(self) -> &'static str {
        match self {
            Manager::Pip => "pypi",
            Manager::Npm => "npm",
            Manager::Cargo => "crates",
            Manager::Apt => "apt",
            Manager::Nuget => "nuget",
            Manager::Go => "go",
        }
    }

    /// The name that people use for it.
    pub fn name(self) -> &'static str {
        match self {
            Manager::Pip => "pip",
            Manager::Npm => "npm",
            Manager::Cargo => "cargo",
            Manager::Apt => "apt",
            Manager::Nuget => "nuget",
            Manager::Go => "go",
        }
    }

    /// The tool's name.
    pub fn tool(self) -> &'static str {
        match self {
            Manager::Pip => "pip",
            Manager::Npm => "npm",
            Manager::Cargo => "cargo",
            Manager::Apt => "apt-get",
            Manager::Nuget => "dotnet",
            Manager::Go => "go",
        }
    }
}

impl fmt::Display for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A host that a manager fetches from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The name or address, as a URL's host, lower case.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Who named it, for people.
    pub named_by: String,
}

impl Endpoint {
    /// The endpoint of a URL that is fetched; `None` for files and the like.
    pub(crate) fn of(url: &Url, named_by: &str) -> Option<Endpoint> {
        if !matches!(url.scheme(), "http" | "https") {
            return None;
        }
        let host = url.host_str()?.to_ascii_lowercase();
        Some(Endpoint { host, port: url.port_or_known_default()?, named_by: named_by.to_owned() })
    }
}

/// What was found of one manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The manager.
    pub manager: Manager,
    /// Its hosts, each once.
    pub endpoints: Vec<Endpoint>,
    /// What people should know: an index that wouldn't tell, a part that is not covered.
    pub notes: Vec<String>,
    /// Files and folders of the system that it can't do without.
    pub files: Vec<PathBuf>,
}

impl Found {
    pub(crate) fn new(manager: Manager) -> Self {
        Self { manager, endpoints: Vec::new(), notes: Vec::new(), files: Vec::new() }
    }

    /// Adds an endpoint unless its host and port are there.
    pub(crate) fn add(&mut self, endpoint: Endpoint) {
        if !self.endpoints.iter().any(|known| known.host == endpoint.host && known.port == endpoint.port) {
            self.endpoints.push(endpoint);
        }
    }

    /// Adds the endpoint of a URL, where it has one.
    pub(crate) fn add_url(&mut self, url: &Url, named_by: &str) {
        if let Some(endpoint) = Endpoint::of(url, named_by) {
            self.add(endpoint);
        }
    }
}

/// Why a manager's hosts can't be had.
#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    /// The tool could not be asked.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// Its index could not be read.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The tool's answer is not in a form that is understood.
    #[error("{tool} did not say where it fetches from: {what}")]
    Unclear {
        /// The tool.
        tool: &'static str,
        /// What was looked for.
        what: String,
    },
    /// Its configuration file can't be read.
    #[error("{path}: {problem}")]
    Configuration {
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// It is set up to use no registry.
    #[error("{tool} is set up to use no registry: {what}")]
    NoRegistry {
        /// The tool.
        tool: &'static str,
        /// The setting.
        what: String,
    },
}

/// Asks a manager, and the indexes it names, for the hosts it fetches from.
pub fn discover(manager: Manager, caller: &Caller, fetcher: &Fetcher) -> Result<Found, DiscoverError> {
    let found = match manager {
        Manager::Pip => pip::discover(caller, fetcher),
        Manager::Npm => npm::discover(caller, fetcher),
        Manager::Cargo => cargo::discover(caller, fetcher),
        Manager::Apt => apt::discover(caller),
        Manager::Nuget => nuget::discover(caller, fetcher),
        Manager::Go => golang::discover(caller),
    }?;
    if found.endpoints.is_empty() {
        return Err(DiscoverError::NoRegistry { tool: manager.tool(), what: "no http or https source".to_owned() });
    }
    Ok(found)
}

/// Reads a URL that a tool or index named. The text is never shown whole: it may hold a password.
pub(crate) fn parse_url(text: &str, tool: &'static str) -> Result<Url, DiscoverError> {
    Url::parse(text.trim()).map_err(|error| DiscoverError::Unclear { tool, what: format!("a URL ({error})") })
}
