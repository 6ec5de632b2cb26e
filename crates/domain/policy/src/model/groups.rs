//! Sets of sources or destinations, and the lists that they refer to.

use std::{collections::BTreeMap, time::Duration};

use ipnet::IpNet;
use values::LabelSelector;

use crate::host_name::HostPattern;

/// A set of sources or destinations. Matchers of one group are OR-ed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Group {
    /// Sandboxes, by label.
    pub sandboxes: Vec<LabelSelector>,
    /// Host names.
    pub hosts: Vec<HostPattern>,
    /// URLs: host and path glob. Over TLS they need inspection.
    pub urls: Vec<UrlPattern>,
    /// Address ranges.
    pub cidrs: Vec<IpNet>,
    /// A provider's published ranges, such as azure / AzureActiveDirectory.
    pub service_tag: Option<ServiceTag>,
    /// A feed, named by its path; its content is handed to compile.
    pub feed: Option<Feed>,
}

/// `scheme://host/path-glob`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlPattern {
    /// `true` for `https`.
    pub tls: bool,
    /// The host.
    pub host: HostPattern,
    /// The port: 80 or 443 unless written.
    pub port: u16,
    /// The path glob, as in [`HttpMatch::paths`](super::HttpMatch::paths).
    pub path: String,
}

/// A provider's service tag.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceTag {
    /// Who publishes the ranges.
    pub provider: Provider,
    /// The tag, service or scope's name in the provider's file.
    pub name: String,
    /// The provider's file, as published.
    pub path: String,
}

/// A publisher of address ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Provider {
    /// Azure's `ServiceTags_*.json`.
    Azure,
    /// AWS's `ip-ranges.json`.
    Aws,
    /// Google's `cloud.json` and `goog.json`.
    Google,
}

/// The format of a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FeedFormat {
    /// `/etc/hosts` lines: address, then names.
    Hosts,
    /// One domain a line; the domain and its sub-names.
    Domains,
    /// One range a line.
    Cidrs,
    /// Spamhaus DROP: `range ; SBL id`, or its JSON lines.
    SpamhausDrop,
}

/// A threat feed or other list kept outside the policy.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Feed {
    /// The file, relative to the policy's.
    pub path: String,
    /// Its format.
    pub format: FeedFormat,
    /// How often it is read again; at least 1 s.
    pub refresh: Option<Duration>,
}

/// What a feed or service tag held when it was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListContent {
    /// Names. Each matches itself and its sub-names (`subnames`) or only itself.
    pub hosts: Vec<HostPattern>,
    /// Ranges.
    pub cidrs: Vec<IpNet>,
}

/// The contents of every list that a policy names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lists {
    /// By feed path.
    pub feeds: BTreeMap<String, ListContent>,
    /// By tag.
    pub service_tags: BTreeMap<ServiceTag, ListContent>,
}
