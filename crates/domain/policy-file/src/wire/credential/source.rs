//! Where a secret comes from, as written: in the words of each provider.

/// Clouds.
mod cloud;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use cloud::{
    AssumeRole, Aws, Azure, ClientCredentials, Endpoint, Gcp, ManagedIdentity, WebIdentity, WorkloadFederation,
    WorkloadIdentity,
};

/// Where a secret comes from: one of these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// A file's content without its last line end, relative to this file. Read again when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// A command and its arguments, run outside every sandbox without a shell: what it prints, without the last line end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// A variable of the caller's environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// An entry of the operating system's keyring.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyring: Option<Keyring>,
    /// HashiCorp Vault, KV version 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault: Option<Vault>,
    /// AWS keys: `profile`, `accessKeyId` with `secretAccessKey`, or `webIdentity`; with `assumeRole` on top.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws: Option<Aws>,
    /// A Microsoft Entra access token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure: Option<Azure>,
    /// A Google access token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gcp: Option<Gcp>,
    /// A Kubernetes service account's token, by the TokenRequest API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<Kubernetes>,
    /// An OAuth 2.0 access token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth: Option<Oauth>,
    /// A GitHub App's installation token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub github_app: Option<GithubApp>,
    /// A client certificate and its key, for `attach: clientCertificate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
}

/// A secret that is kept somewhere: one of these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Stored {
    /// A file's content without its last line end, relative to this file. Read again when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// A command and its arguments, run outside every sandbox without a shell: what it prints, without the last line end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// A variable of the caller's environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// An entry of the operating system's keyring.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyring: Option<Keyring>,
}

/// An entry of the operating system's keyring (Secret Service), by its attributes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Keyring {
    /// The `service` attribute.
    pub service: String,
    /// The `username` attribute.
    pub account: String,
}

/// HashiCorp Vault, KV version 2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Vault {
    /// `https://vault.example.com:8200`
    pub address: String,
    /// Vault Enterprise's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Where the engine is mounted. `secret` where not written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount: Option<String>,
    /// The secret's path below the mount.
    pub path: String,
    /// The field of it.
    pub field: String,
    /// How to sign in: one of these.
    pub auth: VaultAuth,
    /// A bundle of roots (PEM), relative to this file, in place of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

/// How to sign in at Vault: one of these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VaultAuth {
    /// A token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Stored>,
    /// AppRole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_role: Option<AppRole>,
}

/// Vault's AppRole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AppRole {
    /// Where it is mounted. `approle` where not written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount: Option<String>,
    /// The role's id.
    pub role_id: String,
    /// The secret id.
    pub secret_id: Stored,
}

/// A Kubernetes service account's token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Kubernetes {
    /// The API server: `https://kubernetes.example.com:6443`
    pub server: String,
    /// A bundle of roots (PEM), relative to this file, in place of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// The token that asks for it.
    pub token: Stored,
    /// The namespace.
    pub namespace: String,
    /// The service account.
    pub service_account: String,
    /// The audiences. The API server where not written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audiences: Vec<String>,
    /// How long it lives: 600 to 86400 seconds. 600 where not written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration_seconds: Option<i64>,
}

/// An OAuth 2.0 access token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Oauth {
    /// The token endpoint.
    pub token_url: String,
    /// The grant. `clientCredentials` where not written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<OauthGrant>,
    /// The client's id.
    pub client_id: String,
    /// Its secret, sent by HTTP Basic. A public client where not written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Stored>,
    /// Where tokens are revoked at the end of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation_url: Option<String>,
    /// The scopes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// More parameters, such as `audience`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// A bundle of roots (PEM), relative to this file, in place of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

/// An OAuth 2.0 grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OauthGrant {
    /// A word where there is nothing to set.
    Word(GrantWord),
    /// A form with settings.
    Form(Box<GrantForm>),
}

/// Grants that have no settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum GrantWord {
    /// The client's own id and secret.
    ClientCredentials,
}

/// A grant with settings: one of these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrantForm {
    /// A refresh token. One that comes with an answer is used from then on, in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<Stored>,
    /// Another token that is exchanged (RFC 8693).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_exchange: Option<TokenExchange>,
}

/// A token that is exchanged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenExchange {
    /// The token.
    pub subject_token: Stored,
    /// Its type. `urn:ietf:params:oauth:token-type:jwt` where not written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject_token_type: Option<String>,
}

/// A GitHub App's installation token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GithubApp {
    /// The App's id or client id.
    pub app_id: String,
    /// The installation.
    pub installation_id: i64,
    /// The App's private key (PEM).
    pub private_key: Stored,
    /// Only these repositories. All of the installation's where not written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repositories: Vec<String>,
    /// Only these permissions: `{ contents: read }`. All of the installation's where not written.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub permissions: BTreeMap<String, String>,
    /// The API of a server of your own: `https://github.example.com/api/v3`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<String>,
    /// A bundle of roots (PEM), relative to this file, in place of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

/// A client certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Certificate {
    /// The chain (PEM), relative to this file.
    pub chain: String,
    /// The key (PEM).
    pub key: Stored,
}
