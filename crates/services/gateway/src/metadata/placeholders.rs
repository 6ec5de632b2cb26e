//! What stands in the sandbox for keys and tokens: of their shape, and worth nothing.

use aws_lc_rs::{error::Unspecified, rand};
use data_encoding::{BASE32_NOPAD, BASE64, BASE64URL_NOPAD};
use serde_json::json;

/// By this a person knows one when they see it.
const MARK: &str = "cofferdam-placeholder";
/// What an identity without an id of its own is told as.
const NO_ID: &str = "00000000-0000-0000-0000-000000000000";

/// The placeholders of one run. No two runs' are the same.
#[derive(Debug, Clone)]
pub(crate) struct Placeholders {
    /// `ASIA…`, as of keys that come with a session token.
    pub(super) access_key_id: String,
    /// Forty characters.
    pub(super) secret_access_key: String,
    /// The session token.
    pub(super) session_token: String,
    /// `ya29.…`.
    pub(super) google_token: String,
    /// The last part of an unsigned JSON Web Token.
    signature: String,
}

impl Placeholders {
    /// New ones.
    pub(crate) fn new() -> Result<Self, Unspecified> {
        Ok(Self {
            access_key_id: format!("ASIA{}", BASE32_NOPAD.encode(&random::<10>()?)),
            secret_access_key: BASE64.encode(&random::<30>()?),
            session_token: format!("{MARK}-{}", BASE64URL_NOPAD.encode(&random::<48>()?)),
            google_token: format!("ya29.{MARK}-{}", BASE64URL_NOPAD.encode(&random::<48>()?)),
            signature: BASE64URL_NOPAD.encode(&random::<32>()?),
        })
    }

    /// A JSON Web Token as Microsoft Entra's are, which libraries may look into; nobody signed it.
    pub(super) fn azure_token(&self, token: &AzureToken<'_>) -> String {
        let AzureToken { resource, client_id, tenant, issued, expires } = *token;
        let (client_id, tenant) = (client_id.unwrap_or(NO_ID), tenant.unwrap_or(NO_ID));
        let header = json!({ "typ": "JWT", "alg": "RS256", "kid": MARK });
        let claims = json!({
            "aud": resource,
            "iss": format!("https://sts.windows.net/{tenant}/"),
            "iat": issued,
            "nbf": issued,
            "exp": expires,
            "appid": client_id,
            "oid": NO_ID,
            "sub": NO_ID,
            "tid": tenant,
            "ver": "1.0",
        });
        let part = |value: serde_json::Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        format!("{}.{}.{}", part(header), part(claims), self.signature)
    }
}

/// What a token of Microsoft Entra says.
#[derive(Debug, Clone, Copy)]
pub(super) struct AzureToken<'a> {
    /// What it is for.
    pub(super) resource: &'a str,
    /// Whose it is.
    pub(super) client_id: Option<&'a str>,
    /// Of which tenant.
    pub(super) tenant: Option<&'a str>,
    /// Seconds since the epoch.
    pub(super) issued: i64,
    /// The same.
    pub(super) expires: i64,
}

/// So many random bytes.
fn random<const COUNT: usize>() -> Result<[u8; COUNT], Unspecified> {
    let mut bytes = [0; COUNT];
    rand::fill(&mut bytes)?;
    Ok(bytes)
}
