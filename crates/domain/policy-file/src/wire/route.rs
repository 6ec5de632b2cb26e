//! Routes and the managed path, as written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A next hop: at most one of the ways out, and the DNS servers asked on it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Route {
    /// Bound to this network interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// With this firewall mark; needs the capability CAP_NET_ADMIN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<i64>,
    /// From this network namespace: a path, or a name of `ip netns`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<String>,
    /// From this source address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_address: Option<String>,
    /// Through this HTTP CONNECT proxy: `HOST:PORT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_proxy: Option<String>,
    /// Through this SOCKS5 proxy: `HOST:PORT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socks5: Option<String>,
    /// DNS servers: `10.0.0.53`, `10.0.0.53:5353`, `tls://10.0.0.53#dns.example`,
    /// `https://dns.example/dns-query#10.0.0.53`. The host's own where not written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<String>,
}

/// What may leave by the managed path instead of the user's own network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ManagedPath {
    /// Package registries; their hosts come from the package managers' own configuration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub package_registries: Vec<PackageRegistry>,
    /// Code repositories.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub code_repositories: Vec<CodeRepository>,
    /// Remote MCP servers; needs connectors, which this build does not have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_mcp: Option<bool>,
    /// More hosts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub additional_hosts: Vec<String>,
}

/// A package registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PackageRegistry {
    /// Python, as pip is configured.
    Pypi,
    /// Node, as npm is configured.
    Npm,
    /// Rust, as cargo is configured.
    Crates,
    /// .NET, as nuget is configured.
    Nuget,
    /// Debian and Ubuntu, as apt is configured.
    Apt,
    /// Go, as GOPROXY says.
    Go,
}

/// A host of code repositories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CodeRepository {
    /// github.com and the hosts it serves code from.
    Github,
    /// GitHub Enterprise Cloud with its own domain (`*.ghe.com`). A server of your own goes to `additionalHosts`.
    GithubEnterprise,
    /// Azure DevOps.
    AzureDevops,
    /// gitlab.com.
    Gitlab,
}
