//! Clouds, as written: AWS, Azure, Google Cloud, and the ways to sign in there.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Stored;

/// AWS keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Aws {
    /// A profile of the caller's `~/.aws/credentials` and `~/.aws/config`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// A long-lived key's id; it is no secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// That key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<Stored>,
    /// A web identity token, exchanged for keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub web_identity: Option<WebIdentity>,
    /// The role to take on with these keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assume_role: Option<AssumeRole>,
    /// The region of STS. That of the signature where not written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Where STS listens, in place of the region's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sts_endpoint: Option<String>,
}

/// A web identity token and the role it is exchanged for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WebIdentity {
    /// The token.
    pub token: Stored,
    /// The role.
    pub role: AssumeRole,
}

/// A role of AWS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AssumeRole {
    /// `arn:aws:iam::123456789012:role/NAME`
    pub arn: String,
    /// The session's name. `cofferdam` where not written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_name: Option<String>,
    /// The external id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// How long the keys live: 900 to 43200 seconds. 900 where not written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<i64>,
}

/// A Microsoft Entra access token: one way to sign in, and what the token is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Azure {
    /// The machine's managed identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_identity: Option<ManagedIdentity>,
    /// A federated token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_identity: Option<WorkloadIdentity>,
    /// A client secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_credentials: Option<ClientCredentials>,
    /// What the token is for: `https://management.azure.com/.default`
    pub scope: String,
    /// Where Entra listens. The public cloud where not written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
}

/// A managed identity of Azure.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ManagedIdentity {
    /// Of several, the one with this client id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Where the endpoint listens, in place of the well-known one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}

/// A federated token for Microsoft Entra.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadIdentity {
    /// The tenant.
    pub tenant_id: String,
    /// The application.
    pub client_id: String,
    /// The federated token.
    pub token: Stored,
}

/// A client secret for Microsoft Entra.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientCredentials {
    /// The tenant.
    pub tenant_id: String,
    /// The application.
    pub client_id: String,
    /// The secret.
    pub client_secret: Stored,
}

/// A Google access token: one way to sign in, and the scopes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Gcp {
    /// A service account's key file (JSON).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<Stored>,
    /// Workload identity federation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_identity: Option<WorkloadFederation>,
    /// The machine's own service account, by its metadata server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Endpoint>,
    /// The scopes. `https://www.googleapis.com/auth/cloud-platform` where not written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
}

/// Where something listens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Endpoint {
    /// Where it listens, in place of the well-known one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}

/// Google's workload identity federation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadFederation {
    /// The provider's full resource name: `//iam.googleapis.com/projects/…`
    pub audience: String,
    /// The external token.
    pub token: Stored,
    /// Its type. `urn:ietf:params:oauth:token-type:jwt` where not written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_type: Option<String>,
    /// The service account to be impersonated, by its e-mail address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    /// Where the security token service listens, in place of Google's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sts_endpoint: Option<String>,
    /// Where the IAM credentials API listens, in place of Google's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iam_endpoint: Option<String>,
}
