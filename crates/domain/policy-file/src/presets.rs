//! Ready policies, kept as files under `data/`.

use std::sync::OnceLock;

use policy::{
    HostPattern,
    model::{ManagedHosts, PolicySpec},
};

use crate::{PolicyFile, parse, wire};

/// A ready policy.
#[derive(Debug)]
pub struct Ready {
    /// Its name.
    pub name: &'static str,
    /// Its file, comments included, as `policy init` writes it.
    pub text: &'static str,
    parsed: OnceLock<PolicyFile>,
}

impl Ready {
    const fn new(name: &'static str, text: &'static str) -> Self {
        Self { name, text, parsed: OnceLock::new() }
    }

    /// The policy.
    pub fn spec(&self) -> &PolicySpec {
        #[expect(clippy::expect_used, reason = "the file is part of the program; a test parses each")]
        let parsed = || parse(self.name, self.text.as_bytes()).expect("a file under data/ parses");
        &self.parsed.get_or_init(parsed).spec
    }
}

static OPEN: Ready = Ready::new("open", include_str!("../data/open.yaml"));
static BALANCED: Ready = Ready::new("balanced", include_str!("../data/balanced.yaml"));
static LOCKED_DOWN: Ready = Ready::new("locked-down", include_str!("../data/locked-down.yaml"));
static AGENT_CONTAINMENT: Ready = Ready::new("agent-containment", include_str!("../data/agent-containment.yaml"));

/// Every preset and pack, in the order in which they are shown.
pub fn all() -> [&'static Ready; 4] {
    [&OPEN, &BALANCED, &LOCKED_DOWN, &AGENT_CONTAINMENT]
}

/// The preset or pack of this name.
pub fn find(name: &str) -> Option<&'static Ready> {
    all().into_iter().find(|ready| ready.name == name)
}

/// The preset that a file names.
pub fn preset(name: wire::PresetName) -> &'static Ready {
    match name {
        wire::PresetName::Open => &OPEN,
        wire::PresetName::Balanced => &BALANCED,
        wire::PresetName::LockedDown => &LOCKED_DOWN,
    }
}

/// The pack that a file names.
pub fn pack(name: wire::PackName) -> &'static Ready {
    match name {
        wire::PackName::AgentContainment => &AGENT_CONTAINMENT,
    }
}

/// The hosts that clones, fetches and downloads of a code repository use.
pub(crate) fn code_repository(repository: wire::CodeRepository) -> ManagedHosts {
    let (toggle, hosts): (&str, &[&str]) = match repository {
        wire::CodeRepository::Github => (
            "github",
            &[
                "github.com",
                "api.github.com",
                "codeload.github.com",
                "raw.githubusercontent.com",
                "objects.githubusercontent.com",
                "release-assets.githubusercontent.com",
                "media.githubusercontent.com",
                "github-cloud.githubusercontent.com",
            ],
        ),
        wire::CodeRepository::GithubEnterprise => ("github-enterprise", &["*.ghe.com"]),
        wire::CodeRepository::AzureDevops => {
            ("azure-devops", &["dev.azure.com", "*.dev.azure.com", "*.visualstudio.com", "login.microsoftonline.com"])
        }
        wire::CodeRepository::Gitlab => ("gitlab", &["gitlab.com", "registry.gitlab.com"]),
    };
    let hosts = hosts.iter().filter_map(|host| HostPattern::parse(host).ok()).collect();
    ManagedHosts { toggle: toggle.to_owned(), hosts, ports: Vec::new() }
}

#[cfg(test)]
mod tests;
