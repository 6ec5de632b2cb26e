//! Microsoft Entra access tokens: the machine's managed identity, a federated token, a client secret.

use std::time::{Duration, UNIX_EPOCH};

use policy::model::credential as model;
use serde::Deserialize;
use url::Url;
use values::Secret;

use super::{
    Attempt, Fetched, Opening,
    oauth::{TokenAnswer, whole_seconds},
    segments,
    stored::Kept,
    with_segments,
};
use crate::{
    fault::{Fault, OpenError, Problem},
    http::{Asked, Call, Client, SecretText, metadata_url, provider_url},
    schedule::Life,
};

const ENTRA: Asked = Asked {
    provider: "Microsoft Entra",
    step: "asking for a token",
    hint: "check the tenant, the application and what it signs in with",
};
const MACHINE: Asked = Asked {
    provider: "Azure's managed identity",
    step: "asking for a token",
    hint: "it is there on Azure's machines alone, and needs an identity to be assigned",
};

const PUBLIC_CLOUD: &str = "https://login.microsoftonline.com";
const INSTANCE_METADATA: &str = "http://169.254.169.254";

/// One identity and what its tokens are for.
pub(crate) struct Azure {
    client: Client,
    scope: String,
    auth: Auth,
}

enum Auth {
    Instance { url: Url },
    AppService { url: Url, header: Secret },
    Federated { url: Url, client_id: String, token: Kept },
    ClientSecret { url: Url, client_id: String, secret: Kept },
}

#[derive(Deserialize)]
struct MachineAnswer {
    access_token: SecretText,
    #[serde(default, deserialize_with = "whole_seconds")]
    expires_in: Option<u64>,
    /// Seconds since 1970.
    #[serde(default, deserialize_with = "whole_seconds")]
    expires_on: Option<u64>,
}

impl Azure {
    pub(crate) fn open(spec: &model::Azure, opening: &Opening<'_>) -> Result<Self, OpenError> {
        let tenant_url = |tenant: &str| {
            let authority = spec.authority.as_deref().unwrap_or(PUBLIC_CLOUD);
            let authority = provider_url(authority, "Entra's address").map_err(|what| opening.unusable(what))?;
            match segments(tenant).as_deref() {
                Some([tenant]) => Ok(with_segments(&authority, &[tenant, "oauth2", "v2.0", "token"])),
                Some(_) | None => Err(opening.unusable(format!("the tenant `{tenant}` is neither an id nor a domain"))),
            }
        };
        let auth = match &spec.auth {
            model::AzureAuth::ManagedIdentity { client_id, endpoint } => {
                managed_identity(client_id.as_deref(), endpoint.as_deref(), &spec.scope, opening)?
            }
            model::AzureAuth::WorkloadIdentity { tenant, client_id, token } => Auth::Federated {
                url: tenant_url(tenant)?,
                client_id: client_id.clone(),
                token: Kept::open(token, opening)?,
            },
            model::AzureAuth::ClientCredentials { tenant, client_id, client_secret } => Auth::ClientSecret {
                url: tenant_url(tenant)?,
                client_id: client_id.clone(),
                secret: Kept::open(client_secret, opening)?,
            },
        };
        Ok(Self { client: opening.client(None)?, scope: spec.scope.clone(), auth })
    }

    pub(crate) fn fetch(&self, attempt: &Attempt<'_>) -> Result<Fetched, Fault> {
        match &self.auth {
            Auth::Instance { url } => {
                self.ask_machine(Call::new(MACHINE, "GET", url).header("metadata", "true"), attempt)
            }
            Auth::AppService { url, header } => {
                self.ask_machine(Call::new(MACHINE, "GET", url).secret_header("x-identity-header", "", header), attempt)
            }
            Auth::Federated { url, client_id, token } => {
                let token = token.read(attempt)?;
                let assertion: [(&str, &[u8]); 2] = [
                    ("client_assertion_type", b"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
                    ("client_assertion", token.expose()),
                ];
                self.ask_entra(url, client_id, &assertion, &token, attempt)
            }
            Auth::ClientSecret { url, client_id, secret } => {
                let secret = secret.read(attempt)?;
                self.ask_entra(url, client_id, &[("client_secret", secret.expose())], &secret, attempt)
            }
        }
    }

    fn ask_entra(
        &self,
        url: &Url,
        client_id: &str,
        proof: &[(&str, &[u8])],
        sent: &Secret,
        attempt: &Attempt<'_>,
    ) -> Result<Fetched, Fault> {
        let mut parameters: Vec<(&str, &[u8])> = vec![
            ("grant_type", b"client_credentials"),
            ("client_id", client_id.as_bytes()),
            ("scope", self.scope.as_bytes()),
        ];
        parameters.extend(proof);
        let asked_at = attempt.now();
        let call = Call::new(ENTRA, "POST", url).form(&parameters).sending(sent);
        let answer: TokenAnswer = self.client.json(&call, attempt)?;
        answer.check().map_err(|problem| call.fault(problem))?;
        let life = answer.life(asked_at);
        Ok(Fetched::token(answer.access_token.0, life))
    }

    fn ask_machine(&self, call: Call<'_>, attempt: &Attempt<'_>) -> Result<Fetched, Fault> {
        let call = call.on_own_machine();
        let asked_at = attempt.now();
        let answer: MachineAnswer = self.client.json(&call, attempt)?;
        if answer.access_token.0.is_empty() {
            return Err(call.fault(Problem::Garbage("an empty token")));
        }
        // The time that is left, where it is told: it needs no clock that agrees with theirs.
        let relative = answer.expires_in.and_then(|seconds| asked_at.checked_add(Duration::from_secs(seconds)));
        let absolute = || answer.expires_on.and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
        let life = relative.or_else(absolute).map_or(Life::Unknown, Life::Until);
        Ok(Fetched::token(answer.access_token.0, life))
    }
}

/// App Service's endpoint where the caller's environment names it, else the instance metadata service.
fn managed_identity(
    client_id: Option<&str>,
    endpoint: Option<&str>,
    scope: &str,
    opening: &Opening<'_>,
) -> Result<Auth, OpenError> {
    let near = |text: &str, what: &str| metadata_url(text, what).map_err(|what| opening.unusable(what));
    let resource = scope.strip_suffix("/.default").unwrap_or(scope);
    let ask_for = |mut url: Url, version: &str| {
        url.query_pairs_mut().append_pair("api-version", version).append_pair("resource", resource);
        if let Some(client_id) = client_id {
            url.query_pairs_mut().append_pair("client_id", client_id);
        }
        url
    };
    let surroundings = opening.surroundings;
    if let (None, Some(address)) = (endpoint, surroundings.variable("IDENTITY_ENDPOINT")) {
        let Some(header) = surroundings.variable("IDENTITY_HEADER") else {
            return Err(opening.unusable("the managed identity of Azure Arc and Service Fabric is not supported"));
        };
        let url = ask_for(near(address, "IDENTITY_ENDPOINT")?, "2019-08-01");
        return Ok(Auth::AppService { url, header: Secret::from(header.to_owned()) });
    }
    let base = near(endpoint.unwrap_or(INSTANCE_METADATA), "the managed identity's endpoint")?;
    let url = with_segments(&base, &["metadata", "identity", "oauth2", "token"]);
    Ok(Auth::Instance { url: ask_for(url, "2018-02-01") })
}
