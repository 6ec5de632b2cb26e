//! GitHub Apps' installation tokens: minted for an hour, narrowed to repositories and permissions, revoked at the end.

use std::{collections::BTreeMap, time::UNIX_EPOCH};

use policy::model::credential as model;
use serde::Deserialize;
use serde_json::{Map, json};
use url::Url;
use zeroize::Zeroizing;

use super::{Attempt, Fetched, Opening, end_of, stored::Kept, with_segments};
use crate::{
    fault::{Fault, OpenError, Problem},
    http::{Again, Asked, Call, Client, SecretText, place, provider_url},
    issued::{Issued, Material},
    jwt,
};

const MINTING: Asked = Asked {
    provider: "GitHub",
    step: "asking for an installation token",
    hint: "check the App's id and key, the installation, and that it has these repositories and permissions",
};
const REVOKING: Asked =
    Asked { step: "revoking an installation token", hint: "it ends by itself in an hour", ..MINTING };

const PUBLIC: &str = "https://api.github.com";

/// One installation of one App.
pub(crate) struct GithubApp {
    client: Client,
    api: Url,
    url: Url,
    app_id: String,
    private_key: Kept,
    repositories: Vec<String>,
    permissions: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Answer {
    token: SecretText,
    expires_at: String,
}

impl GithubApp {
    pub(crate) fn open(spec: &model::GithubApp, opening: &Opening<'_>) -> Result<Self, OpenError> {
        let api =
            provider_url(spec.api.as_deref().unwrap_or(PUBLIC), "the API").map_err(|what| opening.unusable(what))?;
        if let Some(name) = spec.repositories.iter().find(|name| name.contains('/')) {
            let what = format!("the repository `{name}` must stand without its owner, who is the installation's");
            return Err(opening.unusable(what));
        }
        let installation = spec.installation_id.to_string();
        Ok(Self {
            client: opening.client(spec.ca.as_deref())?,
            url: with_segments(&api, &["app", "installations", &installation, "access_tokens"]),
            api,
            app_id: spec.app_id.clone(),
            private_key: Kept::open(&spec.private_key, opening)?,
            repositories: spec.repositories.clone(),
            permissions: spec.permissions.clone(),
        })
    }

    pub(crate) fn fetch(&self, attempt: &Attempt<'_>) -> Result<Fetched, Fault> {
        let key = self.private_key.read(attempt)?;
        let now = attempt.now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        // A minute back, as GitHub advises, for clocks that differ; ten minutes is its most.
        let claims = json!({"iss": self.app_id, "iat": now.saturating_sub(60), "exp": now + 540});
        let statement = jwt::rs256(&key, None, &claims)
            .map_err(|what| MINTING.fault(place(&self.url), Problem::Unfit(what.to_owned())))?;
        let mut narrowing = Map::new();
        if !self.repositories.is_empty() {
            narrowing.insert("repositories".to_owned(), json!(self.repositories));
        }
        if !self.permissions.is_empty() {
            narrowing.insert("permissions".to_owned(), json!(self.permissions));
        }
        let body = serde_json::Value::Object(narrowing).to_string();
        let mut call = github(Call::new(MINTING, "POST", &self.url))
            .secret_header("authorization", "Bearer ", &statement)
            .body("application/json", Zeroizing::new(body.into_bytes()));
        // An answer that was lost is a token that nobody revokes.
        call.again = Again::OnlyUnsent;
        let answer: Answer = self.client.json(&call, attempt)?;
        let life = end_of(&answer.expires_at).ok_or_else(|| call.fault(Problem::Garbage("no date of its end")))?;
        Ok(Fetched { revocable: true, ..Fetched::token(answer.token.0, life) })
    }

    pub(crate) fn revoke(&self, issued: &Issued, attempt: &Attempt<'_>) -> Result<(), Fault> {
        let Material::Text(token) = &issued.material else { return Ok(()) };
        let url = with_segments(&self.api, &["installation", "token"]);
        let call = github(Call::new(REVOKING, "DELETE", &url)).secret_header("authorization", "Bearer ", token);
        self.client.call(&call, attempt).map(drop)
    }
}

fn github(call: Call<'_>) -> Call<'_> {
    call.header("accept", "application/vnd.github+json").header("x-github-api-version", "2022-11-28")
}
