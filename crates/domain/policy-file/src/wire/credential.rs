//! Credentials as written: where a secret comes from, how a request carries it, and which requests may.

/// Where a secret comes from.
mod source;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{OneOrMany, Port};

pub use source::{
    AppRole, AssumeRole, Aws, Azure, Certificate, ClientCredentials, Endpoint, Gcp, GithubApp, GrantForm, GrantWord,
    Keyring, Kubernetes, ManagedIdentity, Oauth, OauthGrant, Source, Stored, TokenExchange, Vault, VaultAuth,
    WebIdentity, WorkloadFederation, WorkloadIdentity,
};

/// A secret that the gateway attaches to requests and the sandbox never holds. No value stands here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Credential {
    /// Where it comes from: exactly one.
    pub from: Source,
    /// How a request carries it.
    pub attach: Attach,
    /// Which requests may carry it: all that is written must hold.
    pub bind: Bind,
    /// What the sandbox holds in its place. Nothing where not written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expose: Option<Expose>,
}

/// The requests that may carry a credential.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Bind {
    /// Host names: `api.example.com`, or `*.example.com`. At least one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Methods, as they are sent. Any where not written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Path globs: `*` within a segment, `**` over segments. Any where not written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// Ports and ranges: `443`, `8000-8100`; at most 64. Where not written, those of the rule; where it has none either, 443
    /// and the port of the URL by which the rule matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<OneOrMany<Port>>,
    /// The labels that a sandbox must have. Any sandbox where not written.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sandboxes: BTreeMap<String, String>,
}

/// How a request carries a credential. A field of that name which the sandbox sent is removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Attach {
    /// A word where there is nothing to set.
    Word(AttachWord),
    /// A form with settings.
    Form(Box<AttachForm>),
}

/// Ways to carry a credential that have no settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum AttachWord {
    /// `Authorization: Bearer …`
    Bearer,
    /// The gateway's own certificate in the TLS handshake with the server; `from: certificate` alone.
    ClientCertificate,
}

/// One of these; `format` goes with `header`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AttachForm {
    /// `Authorization: Basic …`, with the secret as the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic: Option<Basic>,
    /// A header field of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// The header field's value, with `{value}` once. `{value}` where not written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// A parameter of the query of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// A cookie of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    /// AWS Signature Version 4; `from: aws` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sigv4: Option<Sigv4>,
    /// The placeholder that the sandbox holds (`expose`) is swapped for the secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placeholder: Option<Placeholder>,
}

/// HTTP Basic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Basic {
    /// The user's name.
    pub username: String,
}

/// The scope of a signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sigv4 {
    /// The service: `s3`, `sts`, `execute-api` …
    pub service: String,
    /// The region: `eu-central-1`.
    pub region: String,
}

/// Where the placeholder is swapped. It must be the whole value there; in `Authorization`, the whole token or password.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Placeholder {
    /// Header fields.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<String>,
    /// Exact fields of exact requests. Nowhere else in a path, query or body.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<PlaceholderField>,
}

/// One field of one request: of its path, where `{placeholder}` stands for a segment, else one of `query`, `form`, `json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlaceholderField {
    /// The method.
    pub method: String,
    /// The exact path, without wildcards: `/login`, or `/bot/{placeholder}/send`.
    pub path: String,
    /// A parameter of the query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// A parameter of an `application/x-www-form-urlencoded` body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub form: Option<String>,
    /// A string of an `application/json` body, by JSON Pointer: `/auth/token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<String>,
}

/// What the sandbox holds in place of a secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Expose {
    /// The environment variable that holds the placeholder. Not for AWS keys, whose two variables have their names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// The placeholder's shape, for clients that look at it. `plain` where not written; `aws` for AWS keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<PlaceholderFormat>,
}

/// The shape of a placeholder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PlaceholderFormat {
    /// `cofferdam-placeholder-…`
    Plain,
    /// `ghp_…`
    Github,
    /// `glpat-…`
    Gitlab,
    /// `sk-…`
    Openai,
    /// `sk-ant-api03-…`
    Anthropic,
    /// `xoxb-…`
    Slack,
    /// `AKIA…` and a secret of 40 characters.
    Aws,
    /// A JSON Web Token, unsigned.
    Jwt,
    /// `ya29.…`
    Google,
}
