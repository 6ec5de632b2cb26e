//! AWS keys: long-lived ones, a profile's, a web identity's, and those of a role that is taken on with them.

use policy::model::credential as model;
use url::Url;
use values::Secret;

use super::{Attempt, Fetched, Opening, end_of, stored::Kept};
use crate::{
    fault::{Fault, OpenError, Problem},
    http::{Asked, Call, Client, provider_url},
    issued::{AwsKeys, Material},
    schedule::Life,
    sigv4,
};

/// What the caller's own AWS files say.
pub(crate) mod profile;

const STS: Asked = Asked {
    provider: "AWS STS",
    step: "taking on the role",
    hint: "check the role's trust policy, the external id, the longest session and the keys it is taken on with",
};

/// Keys, and the role that is taken on with them.
pub(crate) struct Aws {
    client: Client,
    start: Start,
    role: Option<model::AwsRole>,
    sts: Option<Url>,
    region: String,
}

enum Start {
    Static { access_key_id: String, secret_access_key: Kept },
    Profile(profile::Files),
    WebIdentity { token: Kept, role: model::AwsRole },
}

/// Keys and how long they live.
pub(super) struct Keys {
    pub(super) keys: AwsKeys,
    pub(super) life: Life,
}

impl Aws {
    pub(crate) fn open(spec: &model::Aws, opening: &Opening<'_>) -> Result<Self, OpenError> {
        let is_region = |text: &str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        if !is_region(&spec.region) {
            return Err(opening.unusable(format!("`{}` is no region", spec.region)));
        }
        let sts = spec.sts_endpoint.as_deref().map(|text| provider_url(text, "STS's endpoint")).transpose();
        let start = match &spec.keys {
            model::AwsKeys::Static { access_key_id, secret_access_key } => Start::Static {
                access_key_id: access_key_id.clone(),
                secret_access_key: Kept::open(secret_access_key, opening)?,
            },
            model::AwsKeys::Profile(name) => Start::Profile(profile::Files::open(name, opening)?),
            model::AwsKeys::WebIdentity { token, role } => {
                Start::WebIdentity { token: Kept::open(token, opening)?, role: role.clone() }
            }
        };
        Ok(Self {
            client: opening.client(None)?,
            start,
            role: spec.assume_role.clone(),
            sts: sts.map_err(|what| opening.unusable(what))?,
            region: spec.region.clone(),
        })
    }

    pub(crate) fn fetch(&self, attempt: &Attempt<'_>) -> Result<Fetched, Fault> {
        let start = match &self.start {
            Start::Static { access_key_id, secret_access_key } => Keys {
                keys: AwsKeys {
                    access_key_id: access_key_id.clone(),
                    secret_access_key: secret_access_key.read(attempt)?,
                    session_token: None,
                },
                life: Life::Unknown,
            },
            Start::Profile(files) => files.keys(self, attempt)?,
            Start::WebIdentity { token, role } => self.with_web_identity(&token.read(attempt)?, role, attempt)?,
        };
        let Keys { keys, life } = match &self.role {
            Some(role) => self.assume(&start.keys, role, attempt)?,
            None => start,
        };
        Ok(Fetched { material: Material::Aws(keys), life, stamp: None, revocable: false })
    }

    /// `AssumeRole`, signed with these keys.
    pub(super) fn assume(&self, keys: &AwsKeys, role: &model::AwsRole, attempt: &Attempt<'_>) -> Result<Keys, Fault> {
        let seconds = role.duration_seconds.to_string();
        let mut parameters = role_parameters(b"AssumeRole", role, &seconds);
        parameters.extend(role.external_id.as_ref().map(|id| ("ExternalId", id.as_bytes())));
        let url = self.sts_url()?;
        let mut call = Call::new(STS, "POST", &url).form(&parameters).sending(&keys.secret_access_key);
        let host = crate::http::place(&url);
        let headers: [(&str, &[u8]); 2] =
            [("host", host.as_bytes()), ("content-type", b"application/x-www-form-urlencoded")];
        let request = sigv4::Request { method: "POST", path: url.path(), query: None, headers: &headers };
        let payload = sigv4::Payload::of_body(call.body.as_ref().map_or(&[][..], |(_, body)| body));
        let scope = sigv4::Scope { service: "sts", region: &self.region };
        let signed = sigv4::sign(&request, &payload, keys, &scope, attempt.now())
            .map_err(|error| call.fault(Problem::Unfit(error.to_string())))?;
        for (name, value) in &signed.headers {
            call = call.secret_header(name, "", value);
        }
        self.keys_from(&call, attempt)
    }

    /// `AssumeRoleWithWebIdentity`, which needs no keys.
    pub(super) fn with_web_identity(
        &self,
        token: &Secret,
        role: &model::AwsRole,
        attempt: &Attempt<'_>,
    ) -> Result<Keys, Fault> {
        let seconds = role.duration_seconds.to_string();
        let mut parameters = role_parameters(b"AssumeRoleWithWebIdentity", role, &seconds);
        parameters.push(("WebIdentityToken", token.expose()));
        let url = self.sts_url()?;
        self.keys_from(&Call::new(STS, "POST", &url).form(&parameters).sending(token), attempt)
    }

    fn keys_from(&self, call: &Call<'_>, attempt: &Attempt<'_>) -> Result<Keys, Fault> {
        let answer = self.client.call(call, attempt)?;
        keys_of(&answer.body).ok_or_else(|| call.fault(Problem::Garbage("no credentials of STS")))
    }

    fn sts_url(&self) -> Result<Url, Fault> {
        let written = match &self.sts {
            Some(url) => return Ok(url.clone()),
            None if self.region.starts_with("cn-") => format!("https://sts.{}.amazonaws.com.cn/", self.region),
            None => format!("https://sts.{}.amazonaws.com/", self.region),
        };
        Url::parse(&written).map_err(|_| STS.fault(written, Problem::Unfit("this is no address".to_owned())))
    }
}

fn role_parameters<'a>(action: &'a [u8], role: &'a model::AwsRole, seconds: &'a str) -> Vec<(&'static str, &'a [u8])> {
    vec![
        ("Action", action),
        ("Version", b"2011-06-15"),
        ("RoleArn", role.arn.as_bytes()),
        ("RoleSessionName", role.session_name.as_bytes()),
        ("DurationSeconds", seconds.as_bytes()),
    ]
}

/// The `Credentials` element of STS's answer.
fn keys_of(body: &[u8]) -> Option<Keys> {
    let document = roxmltree::Document::parse(std::str::from_utf8(body).ok()?).ok()?;
    let credentials = document.descendants().find(|node| node.tag_name().name() == "Credentials")?;
    let text = |name: &str| {
        let found = credentials.children().find(|node| node.tag_name().name() == name);
        found.and_then(|node| node.text()).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    Some(Keys {
        keys: AwsKeys {
            access_key_id: text("AccessKeyId")?,
            secret_access_key: Secret::from(text("SecretAccessKey")?),
            session_token: Some(Secret::from(text("SessionToken")?)),
        },
        life: end_of(&text("Expiration")?)?,
    })
}

/// When keys end that were had from this machine: what has no end is asked for again from time to time.
pub(super) fn life_of(expiration: Option<&str>) -> Option<Life> {
    expiration.map_or(Some(Life::Unknown), end_of)
}
