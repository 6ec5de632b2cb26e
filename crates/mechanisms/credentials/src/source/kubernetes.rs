//! Kubernetes service accounts' tokens, by the TokenRequest API.

use policy::model::credential as model;
use serde::Deserialize;
use serde_json::json;
use url::Url;
use zeroize::Zeroizing;

use super::{Attempt, Fetched, Opening, end_of, segments, stored::Kept, with_segments};
use crate::{
    fault::{Fault, OpenError, Problem},
    http::{Asked, Call, Client, SecretText, provider_url},
};

const ASKING: Asked = Asked {
    provider: "Kubernetes",
    step: "asking for a service account's token",
    hint: "check the namespace and the account, and that the asking token may `create` its `serviceaccounts/token`",
};

/// One service account.
pub(crate) struct Kubernetes {
    client: Client,
    url: Url,
    token: Kept,
    audiences: Vec<String>,
    seconds: u32,
}

#[derive(Deserialize)]
struct Answer {
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    token: SecretText,
    expiration_timestamp: String,
}

impl Kubernetes {
    pub(crate) fn open(spec: &model::Kubernetes, opening: &Opening<'_>) -> Result<Self, OpenError> {
        let server = provider_url(&spec.server, "the API server").map_err(|what| opening.unusable(what))?;
        let name = |text: &str, what: &str| match segments(text).as_deref() {
            Some([name]) => Ok((*name).to_owned()),
            Some(_) | None => Err(opening.unusable(format!("{what} `{text}` is no name"))),
        };
        let namespace = name(&spec.namespace, "the namespace")?;
        let account = name(&spec.service_account, "the service account")?;
        let path = ["api", "v1", "namespaces", &namespace, "serviceaccounts", &account, "token"];
        Ok(Self {
            client: opening.client(spec.ca.as_deref())?,
            url: with_segments(&server, &path),
            token: Kept::open(&spec.token, opening)?,
            audiences: spec.audiences.clone(),
            seconds: spec.expiration_seconds,
        })
    }

    pub(crate) fn fetch(&self, attempt: &Attempt<'_>) -> Result<Fetched, Fault> {
        let token = self.token.read(attempt)?;
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": self.audiences, "expirationSeconds": self.seconds},
        });
        let call = Call::new(ASKING, "POST", &self.url)
            .header("accept", "application/json")
            .secret_header("authorization", "Bearer ", &token)
            .body("application/json", Zeroizing::new(body.to_string().into_bytes()));
        let Answer { status } = self.client.json(&call, attempt)?;
        let life =
            end_of(&status.expiration_timestamp).ok_or_else(|| call.fault(Problem::Garbage("no date of its end")))?;
        Ok(Fetched::token(status.token.0, life))
    }
}
