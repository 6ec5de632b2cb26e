//! The metadata service, as written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is answered in place of clouds' metadata services. Nothing where not written: then the guard denies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MetadataService {
    /// In place of AWS's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws: Option<AwsIdentity>,
    /// In place of Azure's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure: Option<AzureIdentity>,
    /// In place of Google Cloud's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gcp: Option<GcpIdentity>,
}

/// The role of an instance of AWS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AwsIdentity {
    /// The credential behind the placeholder keys: `from: aws`.
    pub credential: String,
    /// The role's name.
    pub role: String,
    /// The account, twelve digits in quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_id: Option<String>,
    /// The region that libraries are told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
}

/// The managed identity of a machine of Azure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AzureIdentity {
    /// The credential behind the placeholder tokens.
    pub credential: String,
    /// The resources that a token may be asked for: `https://management.azure.com`. At least one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// The identity's client id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The tenant's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
}

/// The service account of a machine of Google Cloud.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GcpIdentity {
    /// The credential behind the placeholder tokens.
    pub credential: String,
    /// The project's id.
    pub project: String,
    /// The project's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_number: Option<i64>,
    /// The service account's e-mail address.
    pub email: String,
    /// Its scopes. `https://www.googleapis.com/auth/cloud-platform` where not written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
}
