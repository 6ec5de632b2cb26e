//! Machines' identities that a sandbox finds where cloud libraries look for them. No value of a secret is in here.
//!
//! The gateway answers there by itself, with placeholders: the credential that is named is attached outside, by a rule.

use values::CredentialName;

/// What is answered in place of a cloud's metadata service; nothing is the default, and then the guard denies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MetadataService {
    /// In place of AWS's: instances (IMDSv2), ECS tasks and EKS pods.
    pub aws: Option<AwsIdentity>,
    /// In place of Azure's: virtual machines, and App Service's endpoint.
    pub azure: Option<AzureIdentity>,
    /// In place of Google Cloud's.
    pub gcp: Option<GcpIdentity>,
}

/// The role of an instance of AWS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsIdentity {
    /// The credential that stands behind the placeholder keys.
    pub credential: CredentialName,
    /// The role's name: letters, digits and `+=,.@_-`.
    pub role: String,
    /// The account, twelve digits.
    pub account_id: Option<String>,
    /// The region that libraries are told; without one they are told none.
    pub region: Option<String>,
}

/// The managed identity of a machine of Azure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AzureIdentity {
    /// The credential that stands behind the placeholder tokens.
    pub credential: CredentialName,
    /// The resources that a token may be asked for: `https://management.azure.com`. A slash at the end makes no difference.
    pub resources: Vec<String>,
    /// The identity's client id.
    pub client_id: Option<String>,
    /// The tenant's id.
    pub tenant: Option<String>,
}

/// The service account of a machine of Google Cloud.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GcpIdentity {
    /// The credential that stands behind the placeholder tokens.
    pub credential: CredentialName,
    /// The project's id.
    pub project: String,
    /// The project's number.
    pub project_number: Option<u64>,
    /// The service account's e-mail address.
    pub email: String,
    /// The scopes that the service account is said to have.
    pub scopes: Vec<String>,
}

impl MetadataService {
    /// Whether nothing is answered.
    pub fn is_empty(&self) -> bool {
        let Self { aws, azure, gcp } = self;
        aws.is_none() && azure.is_none() && gcp.is_none()
    }

    /// The credentials that are named, each with its cloud.
    pub fn named(&self) -> impl Iterator<Item = (Cloud, &CredentialName)> {
        let Self { aws, azure, gcp } = self;
        let aws = aws.as_ref().map(|identity| (Cloud::Aws, &identity.credential));
        let azure = azure.as_ref().map(|identity| (Cloud::Azure, &identity.credential));
        let gcp = gcp.as_ref().map(|identity| (Cloud::Gcp, &identity.credential));
        [aws, azure, gcp].into_iter().flatten()
    }
}

/// A cloud whose metadata service may be answered for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cloud {
    /// Amazon Web Services.
    Aws,
    /// Microsoft Azure.
    Azure,
    /// Google Cloud.
    Gcp,
}

impl Cloud {
    /// Its field in a policy file.
    pub fn as_str(self) -> &'static str {
        match self {
            Cloud::Aws => "aws",
            Cloud::Azure => "azure",
            Cloud::Gcp => "gcp",
        }
    }
}
