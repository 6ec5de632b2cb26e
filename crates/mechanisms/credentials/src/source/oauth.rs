//! OAuth 2.0 access tokens (RFC 6749): client credentials, refresh, token exchange (RFC 8693); revoked at the end (RFC 7009).

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use policy::model::credential as model;
use serde::Deserialize;
use url::Url;
use values::Secret;
use zeroize::Zeroizing;

use super::{Attempt, Fetched, Opening, stored::Kept};
use crate::{
    fault::{Fault, OpenError, Problem},
    http::{Again, Asked, Call, Client, SecretText, form, place, provider_url},
    issued::{Issued, Material},
    schedule::Life,
};

const TOKEN: Asked = Asked {
    provider: "the OAuth provider",
    step: "asking for a token",
    hint: "check the client's id, its secret and the grant there",
};
const REVOKING: Asked = Asked { step: "revoking a token", ..TOKEN };

/// What these parameters say is said by the credential's own words.
const OWN_PARAMETERS: [&str; 12] = [
    "grant_type",
    "client_id",
    "client_secret",
    "scope",
    "refresh_token",
    "subject_token",
    "subject_token_type",
    "client_assertion",
    "client_assertion_type",
    "assertion",
    "username",
    "password",
];

/// A token endpoint and a grant.
pub(crate) struct Oauth {
    client: Client,
    token_url: Url,
    revocation_url: Option<Url>,
    client_id: String,
    client_secret: Option<Kept>,
    scope: Option<String>,
    parameters: BTreeMap<String, String>,
    grant: Grant,
}

enum Grant {
    ClientCredentials,
    /// The refresh token of the policy, and the one that was given in its place since.
    Refresh {
        first: Kept,
        newest: Mutex<Option<Secret>>,
    },
    Exchange {
        subject: Kept,
        subject_type: String,
    },
}

/// A token endpoint's answer of success; Entra and Google answer the same.
#[derive(Deserialize)]
pub(super) struct TokenAnswer {
    pub(super) access_token: SecretText,
    #[serde(default)]
    token_type: Option<String>,
    #[serde(default, deserialize_with = "whole_seconds")]
    expires_in: Option<u64>,
    #[serde(default)]
    refresh_token: Option<SecretText>,
}

impl TokenAnswer {
    /// When it ends, counted from before it was asked for.
    pub(super) fn life(&self, asked_at: SystemTime) -> Life {
        let end = self.expires_in.and_then(|seconds| asked_at.checked_add(Duration::from_secs(seconds)));
        end.map_or(Life::Unknown, Life::Until)
    }

    /// Refuses what can't be a token that is attached as it is.
    pub(super) fn check(&self) -> Result<(), Problem> {
        let bearer = self.token_type.as_deref().is_none_or(|kind| kind.eq_ignore_ascii_case("bearer"));
        if self.access_token.0.is_empty() {
            Err(Problem::Garbage("an empty token"))
        } else if bearer {
            Ok(())
        } else {
            Err(Problem::Garbage("a token of a type other than bearer"))
        }
    }
}

/// Some providers write numbers as strings.
pub(super) fn whole_seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(u64),
        Fraction(f64),
        Text(String),
    }
    Ok(match Option::<Written>::deserialize(deserializer)? {
        None => None,
        Some(Written::Number(number)) => Some(number),
        // Fractions and what is out of range come down to what can be counted.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded by the line")]
        Some(Written::Fraction(number)) => Some(number.clamp(0.0, 1e10) as u64),
        Some(Written::Text(text)) => text.trim().parse().ok(),
    })
}

impl Oauth {
    pub(crate) fn open(spec: &model::Oauth, opening: &Opening<'_>) -> Result<Self, OpenError> {
        let url = |text: &str, what: &str| provider_url(text, what).map_err(|what| opening.unusable(what));
        if let Some(name) = spec.parameters.keys().find(|name| OWN_PARAMETERS.contains(&name.as_str())) {
            return Err(opening.unusable(format!("the parameter `{name}` has its own place in the credential")));
        }
        let grant = match &spec.grant {
            model::OauthGrant::ClientCredentials if spec.client_secret.is_none() => {
                return Err(opening.unusable("client credentials need a client secret"));
            }
            model::OauthGrant::ClientCredentials => Grant::ClientCredentials,
            model::OauthGrant::RefreshToken(first) => {
                Grant::Refresh { first: Kept::open(first, opening)?, newest: Mutex::new(None) }
            }
            model::OauthGrant::TokenExchange { subject, subject_type } => {
                Grant::Exchange { subject: Kept::open(subject, opening)?, subject_type: subject_type.clone() }
            }
        };
        Ok(Self {
            client: opening.client(spec.ca.as_deref())?,
            token_url: url(&spec.token_url, "the token endpoint")?,
            revocation_url: spec
                .revocation_url
                .as_deref()
                .map(|text| url(text, "the revocation endpoint"))
                .transpose()?,
            client_id: spec.client_id.clone(),
            client_secret: spec.client_secret.as_ref().map(|secret| Kept::open(secret, opening)).transpose()?,
            scope: (!spec.scopes.is_empty()).then(|| spec.scopes.join(" ")),
            parameters: spec.parameters.clone(),
            grant,
        })
    }

    pub(crate) fn fetch(&self, attempt: &Attempt<'_>) -> Result<Fetched, Fault> {
        let asked_at = attempt.now();
        let answer = match &self.grant {
            Grant::ClientCredentials => self.ask(attempt, &[("grant_type", b"client_credentials")], None)?,
            Grant::Refresh { first, newest } => self.refresh(attempt, first, newest)?,
            Grant::Exchange { subject, subject_type } => {
                let subject = subject.read(attempt)?;
                let parameters: [(&str, &[u8]); 3] = [
                    ("grant_type", b"urn:ietf:params:oauth:grant-type:token-exchange"),
                    ("subject_token", subject.expose()),
                    ("subject_token_type", subject_type.as_bytes()),
                ];
                self.ask(attempt, &parameters, Some(&subject))?
            }
        };
        answer.check().map_err(|problem| TOKEN.fault(place(&self.token_url), problem))?;
        let life = answer.life(asked_at);
        let revocable = self.revocation_url.is_some();
        Ok(Fetched { revocable, ..Fetched::token(answer.access_token.0, life) })
    }

    fn refresh(
        &self,
        attempt: &Attempt<'_>,
        first: &Kept,
        newest: &Mutex<Option<Secret>>,
    ) -> Result<TokenAnswer, Fault> {
        // Nobody else waits for it: there is one fetch at a time.
        let mut newest = newest.lock().unwrap_or_else(PoisonError::into_inner);
        let before = newest.take();
        let was_rotated = before.is_some();
        let token = match before {
            Some(token) => token,
            None => first.read(attempt)?,
        };
        let parameters: [(&str, &[u8]); 2] = [("grant_type", b"refresh_token"), ("refresh_token", token.expose())];
        let mut answer = self.ask(attempt, &parameters, Some(&token));
        let newer = answer.as_mut().ok().and_then(|answer| answer.refresh_token.take()).map(|newer| newer.0);
        *newest = match newer {
            // The policy's own comes back from providers that don't rotate: it stays the operator's.
            Some(newer) if newer.expose() != token.expose() => Some(newer),
            Some(_) | None => Some(token).filter(|_| was_rotated && !is_refused(&answer)),
        };
        answer
    }

    fn ask(&self, attempt: &Attempt<'_>, grant: &[(&str, &[u8])], sent: Option<&Secret>) -> Result<TokenAnswer, Fault> {
        let secret = self.client_secret.as_ref().map(|secret| secret.read(attempt)).transpose()?;
        let mut parameters = grant.to_vec();
        parameters.extend(self.scope.as_ref().map(|scope| ("scope", scope.as_bytes())));
        parameters.extend(self.parameters.iter().map(|(name, value)| (name.as_str(), value.as_bytes())));
        let mut call = self.signed_in(Call::new(TOKEN, "POST", &self.token_url), &mut parameters, secret.as_ref());
        if let Some(sent) = sent {
            call = call.sending(sent);
        }
        if matches!(self.grant, Grant::Refresh { .. }) {
            call.again = Again::OnlyUnsent;
        }
        self.client.json(&call, attempt)
    }

    /// As the client: HTTP Basic where it has a secret (RFC 6749, 2.3.1), its id alone where it has none.
    fn signed_in<'a>(
        &'a self,
        call: Call<'a>,
        parameters: &mut Vec<(&'a str, &'a [u8])>,
        secret: Option<&'a Secret>,
    ) -> Call<'a> {
        let mut call = call.header("accept", "application/json");
        match secret {
            Some(secret) => {
                let mut pair = form(&[(&self.client_id, secret.expose())]);
                // Both parts are escaped as in a form; the first `=` stands between them.
                if let Some(between) = pair.iter_mut().find(|byte| **byte == b'=') {
                    *between = b':';
                }
                let encoded = Zeroizing::new(data_encoding::BASE64.encode(&pair));
                call = call.header("authorization", &Zeroizing::new(format!("Basic {}", &*encoded))).sending(secret);
            }
            None => parameters.push(("client_id", self.client_id.as_bytes())),
        }
        call.form(parameters)
    }

    pub(crate) fn revoke(&self, issued: &Issued, attempt: &Attempt<'_>) -> Result<(), Fault> {
        let (Some(url), Material::Text(token)) = (&self.revocation_url, &issued.material) else { return Ok(()) };
        self.revoke_token(url, token, b"access_token", attempt)
    }

    /// A rotated refresh token is known to nobody else: it goes with the run.
    pub(crate) fn sign_out(&self, attempt: &Attempt<'_>) -> Result<(), Fault> {
        let (Some(url), Grant::Refresh { newest, .. }) = (&self.revocation_url, &self.grant) else { return Ok(()) };
        let rotated = newest.lock().unwrap_or_else(PoisonError::into_inner).take();
        rotated.map_or(Ok(()), |token| self.revoke_token(url, &token, b"refresh_token", attempt))
    }

    fn revoke_token(&self, url: &Url, token: &Secret, kind: &[u8], attempt: &Attempt<'_>) -> Result<(), Fault> {
        let secret = self.client_secret.as_ref().map(|secret| secret.read(attempt)).transpose()?;
        let mut parameters: Vec<(&str, &[u8])> = vec![("token", token.expose()), ("token_type_hint", kind)];
        let call = self.signed_in(Call::new(REVOKING, "POST", url), &mut parameters, secret.as_ref()).sending(token);
        self.client.call(&call, attempt).map(drop)
    }
}

/// A token that is refused is of no use any more: the policy's is read again, because somebody may mend it.
fn is_refused(answer: &Result<TokenAnswer, Fault>) -> bool {
    matches!(answer, Err(Fault { problem: Problem::Refused { status: 400 | 401, .. }, .. }))
}
