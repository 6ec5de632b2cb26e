//! Google access tokens: a service account's key, workload identity federation, the machine's metadata server.

use std::time::UNIX_EPOCH;

use policy::model::credential as model;
use serde::Deserialize;
use serde_json::json;
use url::Url;
use values::Secret;
use zeroize::Zeroizing;

use super::{Attempt, Fetched, Opening, end_of, oauth::TokenAnswer, segments, stored::Kept, with_segments};
use crate::{
    fault::{Fault, OpenError, Problem},
    http::{Asked, Call, Client, SecretText, metadata_url, provider_url},
    jwt,
};

const TOKEN: Asked = Asked {
    provider: "Google",
    step: "asking for a token",
    hint: "check that the account's key is still valid there, and the scopes",
};
const EXCHANGING: Asked = Asked {
    step: "exchanging the external token",
    hint: "check the workload identity provider's name, and that it takes the token's issuer and audience",
    ..TOKEN
};
const IMPERSONATING: Asked = Asked {
    step: "impersonating the service account",
    hint: "the identity needs the role Service Account Token Creator on it",
    ..TOKEN
};
const MACHINE: Asked = Asked {
    provider: "Google's metadata server",
    step: "asking for a token",
    hint: "it is there on Google's machines alone, and needs a service account to be attached",
};
const KEY_FILE: Asked = Asked {
    provider: "the service account's key file",
    step: "reading it",
    hint: "it must be the JSON that Google gave, of the type service_account",
};

const CLOUD: &str = "https://www.googleapis.com/auth/cloud-platform";

/// One identity and its tokens' scopes.
pub(crate) struct Gcp {
    client: Client,
    scopes: Vec<String>,
    auth: Auth,
}

enum Auth {
    ServiceAccount(Kept),
    Federated { url: Url, audience: String, token: Kept, token_type: String, impersonation: Option<Url> },
    Metadata(Url),
}

#[derive(Deserialize)]
struct KeyFile {
    #[serde(rename = "type")]
    kind: String,
    client_email: String,
    private_key: SecretText,
    #[serde(default)]
    private_key_id: Option<String>,
    token_uri: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Impersonated {
    access_token: SecretText,
    expire_time: String,
}

impl Gcp {
    pub(crate) fn open(spec: &model::Gcp, opening: &Opening<'_>) -> Result<Self, OpenError> {
        let url = |text: &str, what: &str| provider_url(text, what).map_err(|what| opening.unusable(what));
        let auth = match &spec.auth {
            model::GcpAuth::ServiceAccount(key) => Auth::ServiceAccount(Kept::open(key, opening)?),
            model::GcpAuth::WorkloadIdentity {
                audience,
                token,
                token_type,
                sts_endpoint,
                service_account,
                iam_endpoint,
            } => {
                let sts = url(sts_endpoint.as_deref().unwrap_or("https://sts.googleapis.com"), "STS's endpoint")?;
                let iam = iam_endpoint.as_deref().unwrap_or("https://iamcredentials.googleapis.com");
                let iam = url(iam, "the IAM credentials API's endpoint")?;
                let impersonation = service_account.as_deref().map(|account| match segments(account).as_deref() {
                    Some([account]) => {
                        let call = format!("{account}:generateAccessToken");
                        Ok(with_segments(&iam, &["v1", "projects", "-", "serviceAccounts", &call]))
                    }
                    Some(_) | None => {
                        Err(opening.unusable(format!("the service account `{account}` is no e-mail address")))
                    }
                });
                Auth::Federated {
                    url: with_segments(&sts, &["v1", "token"]),
                    audience: audience.clone(),
                    token: Kept::open(token, opening)?,
                    token_type: token_type.clone(),
                    impersonation: impersonation.transpose()?,
                }
            }
            model::GcpAuth::Metadata { endpoint } => {
                let base = endpoint.as_deref().unwrap_or("http://metadata.google.internal");
                let base =
                    metadata_url(base, "the metadata server's endpoint").map_err(|what| opening.unusable(what))?;
                let path = ["computeMetadata", "v1", "instance", "service-accounts", "default", "token"];
                let mut url = with_segments(&base, &path);
                if !spec.scopes.is_empty() {
                    url.query_pairs_mut().append_pair("scopes", &spec.scopes.join(","));
                }
                Auth::Metadata(url)
            }
        };
        let scopes = if spec.scopes.is_empty() { vec![CLOUD.to_owned()] } else { spec.scopes.clone() };
        Ok(Self { client: opening.client(None)?, scopes, auth })
    }

    pub(crate) fn fetch(&self, attempt: &Attempt<'_>) -> Result<Fetched, Fault> {
        match &self.auth {
            Auth::ServiceAccount(key) => self.by_key(&key.read(attempt)?, attempt),
            Auth::Federated { url, audience, token, token_type, impersonation } => {
                let token = token.read(attempt)?;
                let scope = if impersonation.is_some() { CLOUD.to_owned() } else { self.scopes.join(" ") };
                let parameters: [(&str, &[u8]); 6] = [
                    ("grant_type", b"urn:ietf:params:oauth:grant-type:token-exchange"),
                    ("audience", audience.as_bytes()),
                    ("scope", scope.as_bytes()),
                    ("requested_token_type", b"urn:ietf:params:oauth:token-type:access_token"),
                    ("subject_token", token.expose()),
                    ("subject_token_type", token_type.as_bytes()),
                ];
                let call = Call::new(EXCHANGING, "POST", url).form(&parameters).sending(&token);
                let federated = self.token(&call, attempt)?;
                match (impersonation, &federated.material) {
                    (Some(url), crate::Material::Text(token)) => self.impersonate(url, token, attempt),
                    (_, _) => Ok(federated),
                }
            }
            Auth::Metadata(url) => {
                let call = Call::new(MACHINE, "GET", url).header("metadata-flavor", "Google");
                self.token(&call.on_own_machine(), attempt)
            }
        }
    }

    fn by_key(&self, file: &Secret, attempt: &Attempt<'_>) -> Result<Fetched, Fault> {
        let unfit = |what: String| KEY_FILE.fault("its content".to_owned(), Problem::Unfit(what));
        let file: KeyFile =
            serde_json::from_slice(file.expose()).map_err(|_| unfit("it is no service account's key".to_owned()))?;
        if file.kind != "service_account" {
            return Err(unfit("its type is not service_account".to_owned()));
        }
        let url = provider_url(&file.token_uri, "its token_uri").map_err(unfit)?;
        let now = attempt.now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let claims = json!({
            "iss": file.client_email, "scope": self.scopes.join(" "), "aud": file.token_uri, "iat": now, "exp": now + 3600,
        });
        let assertion = jwt::rs256(&file.private_key.0, file.private_key_id.as_deref(), &claims)
            .map_err(|what| unfit(what.to_owned()))?;
        let parameters: [(&str, &[u8]); 2] =
            [("grant_type", b"urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", assertion.expose())];
        self.token(&Call::new(TOKEN, "POST", &url).form(&parameters).sending(&assertion), attempt)
    }

    fn token(&self, call: &Call<'_>, attempt: &Attempt<'_>) -> Result<Fetched, Fault> {
        let asked_at = attempt.now();
        let answer: TokenAnswer = self.client.json(call, attempt)?;
        answer.check().map_err(|problem| call.fault(problem))?;
        let life = answer.life(asked_at);
        Ok(Fetched::token(answer.access_token.0, life))
    }

    fn impersonate(&self, url: &Url, token: &Secret, attempt: &Attempt<'_>) -> Result<Fetched, Fault> {
        let body = json!({"scope": self.scopes, "lifetime": "3600s"}).to_string();
        let call = Call::new(IMPERSONATING, "POST", url)
            .secret_header("authorization", "Bearer ", token)
            .body("application/json", Zeroizing::new(body.into_bytes()));
        let answer: Impersonated = self.client.json(&call, attempt)?;
        let life = end_of(&answer.expire_time).ok_or_else(|| call.fault(Problem::Garbage("no date of its end")))?;
        Ok(Fetched::token(answer.access_token.0, life))
    }
}
