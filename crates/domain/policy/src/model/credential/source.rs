//! Where a secret comes from: what each keeper and provider is asked with. Its fields are those of the provider's own API.

use std::{collections::BTreeMap, path::PathBuf};

/// Where a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// One that is kept somewhere.
    Stored(Stored),
    /// HashiCorp Vault, KV version 2.
    Vault(Box<Vault>),
    /// AWS keys.
    Aws(Box<Aws>),
    /// A Microsoft Entra access token.
    Azure(Box<Azure>),
    /// A Google access token.
    Gcp(Box<Gcp>),
    /// A Kubernetes service account's token.
    Kubernetes(Box<Kubernetes>),
    /// An OAuth 2.0 access token (RFC 6749).
    Oauth(Box<Oauth>),
    /// A GitHub App's installation token.
    GithubApp(Box<GithubApp>),
    /// A client certificate and its key.
    Certificate {
        /// The chain, PEM.
        chain: PathBuf,
        /// The key, PEM.
        key: Stored,
    },
}

/// A secret that is kept somewhere, read by the gateway's user and never passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// A file's content without its last line end; a relative path starts at the policy file. Read again when it changes.
    File(PathBuf),
    /// What a command prints on its standard output, without the last line end. Run outside every sandbox, without a shell.
    Command(Vec<String>),
    /// A variable of the caller's environment.
    Env(String),
    /// An entry of the operating system's keyring (Secret Service).
    Keyring {
        /// The `service` attribute.
        service: String,
        /// The `username` attribute.
        account: String,
    },
}

/// HashiCorp Vault, KV version 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vault {
    /// `https://host[:port]`; plain `http` only to a loopback address.
    pub address: String,
    /// Vault Enterprise's namespace.
    pub namespace: Option<String>,
    /// Where the engine is mounted; `secret` by default.
    pub mount: String,
    /// The secret's path.
    pub path: String,
    /// The field of it.
    pub field: String,
    /// How to sign in.
    pub auth: VaultAuth,
    /// A bundle of roots, PEM, in place of the system's.
    pub ca: Option<PathBuf>,
}

/// How to sign in at Vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultAuth {
    /// A token.
    Token(Stored),
    /// AppRole.
    AppRole {
        /// Where it is mounted; `approle` by default.
        mount: String,
        /// The role's id.
        role_id: String,
        /// The secret id.
        secret_id: Stored,
    },
}

/// AWS keys, with the role that is taken on with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aws {
    /// The keys to begin with.
    pub keys: AwsKeys,
    /// The role to take on with them, for short-lived keys.
    pub assume_role: Option<AwsRole>,
    /// Where STS listens, in place of the region's own.
    pub sts_endpoint: Option<String>,
    /// STS's region.
    pub region: String,
}

/// The AWS keys to begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AwsKeys {
    /// Long-lived ones.
    Static {
        /// `AKIA…`; no secret.
        access_key_id: String,
        /// The secret access key.
        secret_access_key: Stored,
    },
    /// A profile of the caller's `~/.aws/credentials` and `~/.aws/config`: keys or `credential_process`.
    Profile(String),
    /// A web identity token (`AssumeRoleWithWebIdentity`).
    WebIdentity {
        /// The token.
        token: Stored,
        /// The role.
        role: AwsRole,
    },
}

/// A role of AWS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsRole {
    /// Its ARN.
    pub arn: String,
    /// The session's name.
    pub session_name: String,
    /// The external id.
    pub external_id: Option<String>,
    /// How long the keys live, in seconds; 900 to 43,200.
    pub duration_seconds: u32,
}

/// A Microsoft Entra access token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Azure {
    /// How to sign in.
    pub auth: AzureAuth,
    /// What the token is for: `https://management.azure.com/.default`.
    pub scope: String,
    /// Where Entra listens; the public cloud by default.
    pub authority: Option<String>,
}

/// How to sign in at Microsoft Entra.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AzureAuth {
    /// The machine's managed identity, by the instance metadata service or App Service's endpoint.
    ManagedIdentity {
        /// Of several, the one with this client id.
        client_id: Option<String>,
        /// Where the endpoint listens, in place of the well-known one.
        endpoint: Option<String>,
    },
    /// A federated token (RFC 7523).
    WorkloadIdentity {
        /// The tenant.
        tenant: String,
        /// The application.
        client_id: String,
        /// The federated token.
        token: Stored,
    },
    /// A client secret.
    ClientCredentials {
        /// The tenant.
        tenant: String,
        /// The application.
        client_id: String,
        /// The secret.
        client_secret: Stored,
    },
}

/// A Google access token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gcp {
    /// How to sign in.
    pub auth: GcpAuth,
    /// The scopes.
    pub scopes: Vec<String>,
}

/// How to sign in at Google.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GcpAuth {
    /// A service account's key file (JSON): RFC 7523.
    ServiceAccount(Stored),
    /// Workload identity federation (RFC 8693), optionally with impersonation of a service account.
    WorkloadIdentity {
        /// The provider's full resource name.
        audience: String,
        /// The external token.
        token: Stored,
        /// `urn:ietf:params:oauth:token-type:jwt` by default.
        token_type: String,
        /// Where STS listens, in place of Google's.
        sts_endpoint: Option<String>,
        /// The service account to be impersonated, by its e-mail address.
        service_account: Option<String>,
        /// Where the IAM credentials API listens, in place of Google's.
        iam_endpoint: Option<String>,
    },
    /// The machine's own service account, by its metadata server.
    Metadata {
        /// Where it listens, in place of the well-known one.
        endpoint: Option<String>,
    },
}

/// A Kubernetes service account's token, by the TokenRequest API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubernetes {
    /// The API server.
    pub server: String,
    /// A bundle of roots, PEM, in place of the system's.
    pub ca: Option<PathBuf>,
    /// The token that asks for it.
    pub token: Stored,
    /// The namespace.
    pub namespace: String,
    /// The service account.
    pub service_account: String,
    /// The audiences; empty is the API server.
    pub audiences: Vec<String>,
    /// How long it lives, in seconds; 600 at least.
    pub expiration_seconds: u32,
}

/// An OAuth 2.0 access token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Oauth {
    /// The token endpoint.
    pub token_url: String,
    /// The grant.
    pub grant: OauthGrant,
    /// The client's id.
    pub client_id: String,
    /// Its secret, sent by HTTP Basic; none for a public client.
    pub client_secret: Option<Stored>,
    /// Where tokens are revoked at the end (RFC 7009).
    pub revocation_url: Option<String>,
    /// The scopes.
    pub scopes: Vec<String>,
    /// More parameters, such as `audience`.
    pub parameters: BTreeMap<String, String>,
    /// A bundle of roots, PEM, in place of the system's.
    pub ca: Option<PathBuf>,
}

/// An OAuth 2.0 grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OauthGrant {
    /// RFC 6749, 4.4.
    ClientCredentials,
    /// RFC 6749, 6. A new refresh token that comes with the answer is used from then on, in memory.
    RefreshToken(Stored),
    /// RFC 8693.
    TokenExchange {
        /// The token that is exchanged.
        subject: Stored,
        /// Its type.
        subject_type: String,
    },
}

/// A GitHub App's installation token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GithubApp {
    /// The API, in place of the public one: `https://github.example.com/api/v3`.
    pub api: Option<String>,
    /// The App's id or client id.
    pub app_id: String,
    /// The installation.
    pub installation_id: u64,
    /// The App's private key, PEM.
    pub private_key: Stored,
    /// Only these repositories; empty is all of the installation's.
    pub repositories: Vec<String>,
    /// Only these permissions; empty is all of the installation's.
    pub permissions: BTreeMap<String, String>,
    /// A bundle of roots, PEM, in place of the system's.
    pub ca: Option<PathBuf>,
}
