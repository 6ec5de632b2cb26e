//! The policy file's fields, as they are written: no more than shape.
//!
//! These types are the file format: their doc comments are its reference and stand in the JSON Schema.
//! What a value means, and whether it fits the others, is for `convert` to say.

/// Credentials.
pub mod credential;
/// Groups of sources and destinations.
mod group;
/// The metadata service.
mod metadata_service;
/// Routes and the managed path.
mod route;
/// Rules.
mod rule;
/// Changes to requests.
mod transform;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use credential::Credential;
pub use group::{Feed, FeedFormat, Group, Provider, Sandboxes, ServiceTag};
pub use metadata_service::{AwsIdentity, AzureIdentity, GcpIdentity, MetadataService};
pub use route::{CodeRepository, ManagedPath, PackageRegistry, Route};
pub use rule::{
    Action, Ech, Enforcement, From, HttpMatch, Log, OneOrMany, Port, Protocol, RecordType, Rule, Scheme, Size,
    TestCase, Tls, To, Verdict,
};
pub use transform::{NewScheme, PathPrefix, Transform};

/// An egress policy: what may leave a sandbox, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct File {
    /// The version of this format.
    pub api_version: ApiVersion,
    /// What the file holds.
    pub kind: Kind,
    /// About the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
    /// The policy.
    pub spec: Spec,
}

impl File {
    /// The names of the rules, in order.
    pub fn rules(&self) -> impl Iterator<Item = &str> {
        self.spec.rules.iter().map(|rule| rule.name.as_str())
    }
}

/// The version of this format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ApiVersion {
    /// The only one.
    #[serde(rename = "cofferdam/v1")]
    V1,
}

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Kind {
    /// A policy for what leaves a sandbox.
    EgressPolicy,
}

/// About the policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// Its name, shown and recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// The policy.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spec {
    /// A ready policy to start from; what this file says goes before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<PresetName>,
    /// A pack of rules to add: they start in watch. Groups of the same name in this file replace the pack's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pack: Option<PackName>,
    /// Rules of the pack that are enforced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub promote: Vec<String>,
    /// What happens to a flow that no rule matches. `limited` where not written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// `watch` records the mode's default denies and lets them go on. `enforce` where not written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_enforcement: Option<DefaultEnforcement>,
    /// Host names that are allowed behind all rules (the rule `allowed-hosts`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_hosts: Vec<String>,
    /// Routed mode: the name of the default next hop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// What may leave by the managed path. All off where not written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_path: Option<ManagedPath>,
    /// Next hops, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub routes: BTreeMap<String, Route>,
    /// Sets of sandboxes or destinations, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, Group>,
    /// Rules. The one with the lowest priority is judged first; their order here means nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// Deny a flow whose dialled address is not among its name's addresses. `true` where not written;
    /// `false` records it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict_binding: Option<bool>,
    /// Bounds on DNS questions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<Dns>,
    /// Secrets that the gateway attaches, by name. No value stands here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub credentials: BTreeMap<String, Credential>,
    /// What is answered in place of clouds' metadata services. Nothing where not written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata_service: Option<MetadataService>,
    /// Cases that must hold before the policy is applied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<TestCase>,
}

/// A ready policy to start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PresetName {
    /// Everything may leave but what the guards hold; all of it recorded.
    Open,
    /// Package registries and code repositories may be reached, the rest is denied.
    Balanced,
    /// Nothing leaves but what this file allows.
    LockedDown,
}

/// A pack of rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PackName {
    /// Six rules that contain an agent.
    AgentContainment,
}

/// What happens to a flow that no rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Allowed, but for the guards.
    Unrestricted,
    /// Denied.
    Limited,
    /// Denied; what is allowed leaves by `route`, the user's own network.
    Routed,
}

/// Whether the mode's default deny acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DefaultEnforcement {
    /// It acts.
    Enforce,
    /// It is recorded only.
    Watch,
    /// The same as `watch`.
    Audit,
    /// The same as `enforce`.
    Enabled,
}

/// Bounds on a sandbox's DNS questions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Dns {
    /// Questions a second, with a burst of the same size. 200 where not written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queries_per_second: Option<i64>,
    /// The longest label of a name that only a wildcard covers. 40 where not written; at most 63.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_length: Option<i64>,
    /// The most bits of entropy a second that labels under one wildcard may carry. 600 where not written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entropy_bits_per_second: Option<f64>,
    /// The answer to a refused question. `nxdomain` where not written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refuse_with: Option<RefuseWith>,
}

/// The answer to a refused DNS question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RefuseWith {
    /// "There is no such name."
    Nxdomain,
    /// "I do not answer that." Some clients then ask again.
    Refused,
}
