//! Changes to requests, as written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is changed in a request that the rule lets through, after it was judged as it was sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Transform {
    /// Header fields that the request has with this value alone, whatever was sent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, String>,
    /// Header fields that the request gets where it has none of that name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub insert: BTreeMap<String, String>,
    /// Header fields that are taken out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
    /// `https`: a plain request goes on inside TLS, to port 443. On a rule with `ports: [80]` alone; never the other way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<NewScheme>,
    /// The host that it goes to in place of its own. The rule answers for it: no other rule is asked, the guards hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Another beginning of the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathPrefix>,
}

/// A scheme that a request may be changed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NewScheme {
    /// Inside TLS.
    Https,
}

/// The beginning of a path and what takes its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PathPrefix {
    /// Whole segments: `/v1` is the beginning of `/v1` and `/v1/x`, not of `/v10`.
    pub prefix: String,
    /// What stands there instead; `/` for nothing.
    pub with: String,
}
