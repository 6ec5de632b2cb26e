//! HashiCorp Vault, KV version 2; signed in with a token or by AppRole.
//!
//! A login is kept between fetches, and renewed ahead of its end where Vault lets it be. What AppRole gave is revoked when it is used
//! no more; a token that the operator gave is renewed, and never revoked.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use policy::model::credential as model;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use url::Url;
use values::Secret;
use zeroize::Zeroizing;

use super::{Attempt, Fetched, Opening, segments, stored::Kept, with_segments};
use crate::{
    fault::{Fault, OpenError, Problem},
    http::{Asked, Call, Client, SecretText, place, provider_url},
    schedule::{Life, Window},
};

const READING: Asked = Asked {
    provider: "HashiCorp Vault",
    step: "reading the secret",
    hint: "check the mount, the path and the field, and that the login's policy may read them",
};
const SIGNING_IN: Asked = Asked { step: "signing in", hint: "check the role's id and the secret id", ..READING };
const RENEWING: Asked = Asked { step: "renewing the login", hint: "check that the token still lives", ..READING };
const REVOKING: Asked = Asked { step: "revoking the login", hint: "it ends by itself", ..READING };

/// One field of one secret.
pub(crate) struct Vault {
    client: Client,
    address: Url,
    namespace: Option<String>,
    secret: Url,
    field: String,
    auth: Auth,
    login: Mutex<Option<Login>>,
}

enum Auth {
    Token(Kept),
    AppRole { login: Url, role_id: String, secret_id: Kept },
}

struct Login {
    token: Secret,
    window: Window,
    renewable: bool,
}

#[derive(Serialize)]
struct AppRoleLogin<'a> {
    role_id: &'a str,
    secret_id: &'a str,
}

#[derive(Deserialize)]
struct LoginAnswer {
    auth: LoginAuth,
}

#[derive(Deserialize)]
struct LoginAuth {
    client_token: SecretText,
    lease_duration: u64,
    #[serde(default)]
    renewable: bool,
}

#[derive(Deserialize)]
struct LookupAnswer {
    data: Lookup,
}

#[derive(Deserialize)]
struct Lookup {
    #[serde(default)]
    ttl: u64,
    #[serde(default)]
    renewable: bool,
}

#[derive(Deserialize)]
struct SecretAnswer<'a> {
    #[serde(borrow)]
    data: Versioned<'a>,
}

/// Only the field that is wanted is taken out of the answer.
#[derive(Deserialize)]
struct Versioned<'a> {
    #[serde(borrow)]
    data: Option<BTreeMap<Cow<'a, str>, &'a RawValue>>,
}

impl Vault {
    pub(crate) fn open(spec: &model::Vault, opening: &Opening<'_>) -> Result<Self, OpenError> {
        let address = provider_url(&spec.address, "Vault's address").map_err(|what| opening.unusable(what))?;
        let secret = [
            &["v1"][..],
            &path(&spec.mount, "the mount", opening)?,
            &["data"],
            &path(&spec.path, "the path", opening)?,
        ]
        .concat();
        let auth = match &spec.auth {
            model::VaultAuth::Token(token) => Auth::Token(Kept::open(token, opening)?),
            model::VaultAuth::AppRole { mount, role_id, secret_id } => {
                let login = [&["v1", "auth"][..], &path(mount, "the mount of AppRole", opening)?, &["login"]].concat();
                Auth::AppRole {
                    login: with_segments(&address, &login),
                    role_id: role_id.clone(),
                    secret_id: Kept::open(secret_id, opening)?,
                }
            }
        };
        Ok(Self {
            client: opening.client(spec.ca.as_deref())?,
            secret: with_segments(&address, &secret),
            address,
            namespace: spec.namespace.clone(),
            field: spec.field.clone(),
            auth,
            login: Mutex::new(None),
        })
    }

    pub(crate) fn fetch(&self, attempt: &Attempt<'_>) -> Result<Fetched, Fault> {
        // Nobody waits for it: there is one fetch at a time.
        let mut kept = self.login.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = kept.take().filter(|login| login.window.may_be_used(attempt.now())) {
            let login = self.renewed(before, attempt);
            let read = self.read(&login.token, attempt);
            if !matches!(&read, Err(Fault { problem: Problem::Refused { status: 403, .. }, .. })) {
                *kept = Some(login);
                return read;
            }
            // It may have been revoked there: once more with a new one. Where it was not, it is left to nobody.
            let _ = self.revoke(&login, attempt);
        }
        let login = self.sign_in(attempt)?;
        let read = self.read(&login.token, attempt);
        *kept = Some(login);
        read
    }

    /// The login before, renewed where that is due and Vault lets it be; otherwise it is used to its end.
    fn renewed(&self, before: Login, attempt: &Attempt<'_>) -> Login {
        if before.renewable && before.window.is_due(attempt.now()) {
            self.renew(&before.token, attempt).unwrap_or(before)
        } else {
            before
        }
    }

    fn sign_in(&self, attempt: &Attempt<'_>) -> Result<Login, Fault> {
        match &self.auth {
            Auth::Token(token) => {
                let token = token.read(attempt)?;
                let url = with_segments(&self.address, &["v1", "auth", "token", "lookup-self"]);
                let call = self.call(RENEWING, "GET", &url, Some(&token));
                let asked_at = attempt.now();
                // A token whose policy forbids even this is used as it is.
                let found: Option<LookupAnswer> = match self.client.json(&call, attempt) {
                    Ok(found) => Some(found),
                    Err(Fault { problem: Problem::Refused { status: 403, .. }, .. }) => None,
                    Err(fault) => return Err(fault),
                };
                let lookup = found.map_or(Lookup { ttl: 0, renewable: false }, |found| found.data);
                Ok(Login { window: window(lookup.ttl, asked_at), token, renewable: lookup.renewable })
            }
            Auth::AppRole { login, role_id, secret_id } => {
                let secret_id = secret_id.read(attempt)?;
                let Some(text) = secret_id.expose_str() else {
                    return Err(SIGNING_IN.fault(place(login), Problem::Unfit("the secret id is no text".to_owned())));
                };
                // Room for all of it at once, escaped, so that no half of it is left behind by a growing buffer.
                let mut body = Zeroizing::new(Vec::with_capacity(64 + 6 * (role_id.len() + text.len())));
                serde_json::to_writer(&mut *body, &AppRoleLogin { role_id, secret_id: text }).map_err(|_| {
                    SIGNING_IN.fault(place(login), Problem::Unfit("the login can't be written".to_owned()))
                })?;
                let call =
                    self.call(SIGNING_IN, "POST", login, None).body("application/json", body).sending(&secret_id);
                self.login_from(&call, attempt)
            }
        }
    }

    fn renew(&self, token: &Secret, attempt: &Attempt<'_>) -> Result<Login, Fault> {
        let url = with_segments(&self.address, &["v1", "auth", "token", "renew-self"]);
        let call = self.call(RENEWING, "POST", &url, Some(token));
        self.login_from(&call.body("application/json", Zeroizing::new(b"{}".to_vec())), attempt)
    }

    fn login_from(&self, call: &Call<'_>, attempt: &Attempt<'_>) -> Result<Login, Fault> {
        let asked_at = attempt.now();
        let LoginAnswer { auth } = self.client.json(call, attempt)?;
        let window = window(auth.lease_duration, asked_at);
        Ok(Login { token: auth.client_token.0, window, renewable: auth.renewable })
    }

    fn read(&self, token: &Secret, attempt: &Attempt<'_>) -> Result<Fetched, Fault> {
        let call = self.call(READING, "GET", &self.secret, Some(token));
        let answer = self.client.call(&call, attempt)?;
        let garbage = |what| call.fault(Problem::Garbage(what));
        let parsed: SecretAnswer<'_> =
            serde_json::from_slice(&answer.body).map_err(|_| garbage("no secret of a KV engine of version 2"))?;
        let fields = parsed.data.data.unwrap_or_default();
        let missing = || call.fault(Problem::Unfit(format!("the secret has no field `{}`", self.field)));
        let raw = fields.get(self.field.as_str()).ok_or_else(missing)?;
        let value: SecretText = serde_json::from_str(raw.get()).map_err(|_| garbage("a field that is no string"))?;
        if value.0.is_empty() {
            return Err(call.fault(Problem::Unfit("the field is empty".to_owned())));
        }
        Ok(Fetched::token(value.0, Life::Unknown))
    }

    fn call<'a>(&'a self, asked: Asked, method: &'static str, url: &'a Url, token: Option<&'a Secret>) -> Call<'a> {
        let mut call = Call::new(asked, method, url).header("x-vault-request", "true");
        if let Some(namespace) = &self.namespace {
            call = call.header("x-vault-namespace", namespace);
        }
        match token {
            Some(token) => call.secret_header("x-vault-token", "", token),
            None => call,
        }
    }

    pub(crate) fn sign_out(&self, attempt: &Attempt<'_>) -> Result<(), Fault> {
        let login = self.login.lock().unwrap_or_else(PoisonError::into_inner).take();
        login
            .filter(|login| login.window.may_be_used(attempt.now()))
            .map_or(Ok(()), |login| self.revoke(&login, attempt))
    }

    /// What AppRole gave is nobody else's; the operator's token stays.
    fn revoke(&self, login: &Login, attempt: &Attempt<'_>) -> Result<(), Fault> {
        match self.auth {
            Auth::Token(_) => Ok(()),
            Auth::AppRole { .. } => {
                let url = with_segments(&self.address, &["v1", "auth", "token", "revoke-self"]);
                self.client.call(&self.call(REVOKING, "POST", &url, Some(&login.token)), attempt).map(drop)
            }
        }
    }
}

fn path<'a>(text: &'a str, what: &str, opening: &Opening<'_>) -> Result<Vec<&'a str>, OpenError> {
    segments(text).ok_or_else(|| opening.unusable(format!("{what} `{text}` is no path")))
}

/// A life of no seconds is one without an end.
fn window(seconds: u64, now: std::time::SystemTime) -> Window {
    let end = (seconds > 0).then(|| now.checked_add(Duration::from_secs(seconds))).flatten();
    Window::of(end.map_or(Life::Unbounded, Life::Until), now, 0)
}
