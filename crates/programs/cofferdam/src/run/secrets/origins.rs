//! Which variables and files a credential is read from.

use std::path::PathBuf;

use policy::model::credential::{AwsKeys, AzureAuth, Credential, GcpAuth, OauthGrant, Source, Stored, VaultAuth};

/// What the caller's own AWS tools read.
const AWS_VARIABLES: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
const AWS_FILES: [&str; 2] = ["~/.aws/credentials", "~/.aws/config"];

/// Where a credential comes from, on this machine.
#[derive(Debug, Default)]
pub(super) struct Origins {
    pub(super) variables: Vec<String>,
    /// As written in the policy.
    pub(super) files: Vec<PathBuf>,
}

impl Origins {
    fn add(&mut self, stored: &Stored) {
        match stored {
            Stored::File(path) => self.files.push(path.clone()),
            Stored::Env(name) => self.variables.push(name.clone()),
            Stored::Command(_) | Stored::Keyring { .. } => {}
        }
    }
}

/// Where a credential comes from.
pub(super) fn origins(credential: &Credential) -> Origins {
    let mut all = Origins::default();
    match &credential.source {
        Source::Stored(stored) => all.add(stored),
        Source::Vault(vault) => match &vault.auth {
            VaultAuth::Token(token) => all.add(token),
            VaultAuth::AppRole { secret_id, .. } => all.add(secret_id),
        },
        Source::Aws(aws) => match &aws.keys {
            AwsKeys::Static { secret_access_key, .. } => all.add(secret_access_key),
            AwsKeys::Profile(_) => {
                all.variables.extend(AWS_VARIABLES.map(str::to_owned));
                all.files.extend(AWS_FILES.map(PathBuf::from));
            }
            AwsKeys::WebIdentity { token, .. } => all.add(token),
        },
        Source::Azure(azure) => match &azure.auth {
            AzureAuth::ManagedIdentity { .. } => {}
            AzureAuth::WorkloadIdentity { token, .. } => all.add(token),
            AzureAuth::ClientCredentials { client_secret, .. } => all.add(client_secret),
        },
        Source::Gcp(gcp) => match &gcp.auth {
            GcpAuth::ServiceAccount(key) => all.add(key),
            GcpAuth::WorkloadIdentity { token, .. } => all.add(token),
            GcpAuth::Metadata { .. } => {}
        },
        Source::Kubernetes(kubernetes) => all.add(&kubernetes.token),
        Source::Oauth(oauth) => {
            oauth.client_secret.iter().for_each(|secret| all.add(secret));
            match &oauth.grant {
                OauthGrant::ClientCredentials => {}
                OauthGrant::RefreshToken(token) | OauthGrant::TokenExchange { subject: token, .. } => all.add(token),
            }
        }
        Source::GithubApp(app) => all.add(&app.private_key),
        Source::Certificate { key, .. } => all.add(key),
    }
    all
}
