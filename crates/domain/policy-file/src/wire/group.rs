//! Groups of sources and destinations, as written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::OneOrMany;

/// A set of sandboxes, or of destinations. What it lists is OR-ed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Group {
    /// Sandboxes by their labels: fields of one entry are AND-ed, entries OR-ed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandboxes: Option<Sandboxes>,
    /// Host names: `api.example.com`, or `*.example.com` for every name below, not for `example.com` itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// URLs with a path glob: `https://example.com/docs/**`. TLS to the host of an `https` one is inspected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Addresses and ranges: `10.0.0.0/8`, `fc00::/7`, `192.0.2.7`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cidrs: Vec<String>,
    /// Ranges that a cloud provider publishes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_tag: Option<ServiceTag>,
    /// A list kept in a file of its own, such as a threat feed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feed: Option<Feed>,
}

/// Sandboxes by their labels.
pub type Sandboxes = OneOrMany<BTreeMap<String, String>>;

/// Ranges that a cloud provider publishes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceTag {
    /// Who publishes them.
    pub provider: Provider,
    /// As in the provider's file: a tag (Azure), a service or `service.region` (AWS), a service, scope or `all` (Google).
    pub name: String,
    /// The provider's file, relative to this one. `service-tags/azure.json`, `…/aws.json` or `…/google.json`
    /// where not written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// A publisher of address ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// `ServiceTags_Public.json`.
    Azure,
    /// `ip-ranges.json`.
    Aws,
    /// `cloud.json` or `goog.json`.
    Google,
}

/// A list kept in a file of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Feed {
    /// The file, relative to this one.
    pub path: String,
    /// Its format.
    pub format: FeedFormat,
    /// How often it is read again: `10m`, `1h`. Only at the start where not written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh: Option<String>,
}

/// The format of a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FeedFormat {
    /// Lines of `/etc/hosts`: an address, then names. Each name matches only itself.
    Hosts,
    /// One domain a line: it and every name below it.
    Domains,
    /// One address or range a line.
    Cidrs,
    /// Spamhaus DROP, as text (`range ; SBL`) or JSON lines.
    SpamhausDrop,
}
