//! Credentials as written: where a secret comes from, how it is attached, and what it is bound to. No value is in here.

/// Where a secret comes from.
mod source;
/// What makes a credential, or a rule that names one, impossible.
mod check;

use values::LabelSelector;

use crate::{host_name::HostPattern, http_path};

pub use check::{CredentialMisuse, CredentialProblem};
pub use source::{
    Aws, AwsKeys, AwsRole, Azure, AzureAuth, Gcp, GcpAuth, GithubApp, Kubernetes, Oauth, OauthGrant, Source, Stored,
    Vault, VaultAuth,
};

/// Where requests carry a credential whose rule and binding name no port.
pub(crate) const HTTPS_PORT: u16 = 443;

/// One credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Where it comes from.
    pub source: Source,
    /// How a request carries it.
    pub attach: Attach,
    /// Which requests may.
    pub bind: Bind,
    /// What the sandbox holds in its place.
    pub expose: Option<Expose>,
}

/// The requests that may carry a credential. All conditions hold at once; a list that is empty is no condition, but
/// hosts are always named.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bind {
    /// The hosts; never empty.
    pub hosts: Vec<HostPattern>,
    /// Methods, case-sensitive.
    pub methods: Vec<String>,
    /// Globs on the normalised path.
    pub paths: Vec<String>,
    /// Port ranges, both ends included. Empty is what the rule says: its own ports, else those of its URLs and 443.
    pub ports: Vec<(u16, u16)>,
    /// The sandboxes' labels.
    pub sandboxes: Option<LabelSelector>,
}

/// What stands in the sandbox in place of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expose {
    /// The environment variable that holds it. AWS keys take the two that its tools need, and no
    /// name here: a placeholder has no session token.
    pub env: Option<String>,
    /// Its shape, so that clients that look at it take it.
    pub format: Format,
}

/// The shape of a placeholder. Each has enough random characters that no two runs' are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Format {
    /// `cofferdam-placeholder-…`
    #[default]
    Plain,
    /// `ghp_…`: a GitHub personal access token.
    Github,
    /// `glpat-…`: a GitLab personal access token.
    Gitlab,
    /// `sk-…`: an OpenAI key.
    Openai,
    /// `sk-ant-api03-…`: an Anthropic key.
    Anthropic,
    /// `xoxb-…`: a Slack bot token.
    Slack,
    /// `AKIA…` and a secret of 40 characters: AWS keys.
    Aws,
    /// Three base64url parts: a JSON Web Token (RFC 7519), far from its expiry, unsigned.
    Jwt,
    /// `ya29.…`: a Google access token.
    Google,
}

/// How a request carries a credential. A field of that name which the sandbox sent is removed, but for a placeholder's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attach {
    /// `Authorization: Bearer …` (RFC 6750).
    Bearer,
    /// `Authorization: Basic …` (RFC 7617).
    Basic {
        /// The user's name; the secret is the password.
        username: String,
    },
    /// A header field.
    Header {
        /// Its name, lower case.
        name: String,
        /// Its value, with `{value}` once.
        format: String,
    },
    /// A parameter of the query.
    Query {
        /// Its name.
        name: String,
    },
    /// A cookie.
    Cookie {
        /// Its name.
        name: String,
    },
    /// AWS Signature Version 4. Needs a source of AWS keys.
    SigV4 {
        /// The service's name in the credential scope.
        service: String,
        /// The region in the credential scope.
        region: String,
    },
    /// The gateway's own certificate in the TLS handshake with the server. Needs [`Source::Certificate`].
    ClientCertificate,
    /// The placeholder that the sandbox holds is swapped for the secret where it stands as the whole value, or as the
    /// whole token or password of `Authorization`. Needs [`Credential::expose`].
    Placeholder {
        /// In these header fields, lower case.
        headers: Vec<String>,
        /// In these places of exact requests.
        fields: Vec<Field>,
    },
}

/// One place of one request where a placeholder is swapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The exact method.
    pub method: String,
    /// The exact normalised path; for [`Place::Path`] with `{placeholder}` as one whole segment.
    pub path: String,
    /// Where.
    pub place: Place,
}

/// The segment of a [`Field`]'s path that stands for the placeholder.
const PLACEHOLDER: &str = "{placeholder}";

impl Field {
    /// Whether there is a request with this path: one in normal form, with the placeholder where it is to be.
    pub(crate) fn is_possible(&self) -> bool {
        let segments = self.path.split('/').filter(|segment| *segment == PLACEHOLDER).count();
        let wanted = usize::from(self.place == Place::Path);
        segments == wanted
            && !self.path.contains('*')
            && http_path::normalise(&self.path).as_deref() == Some(&*self.path)
    }
}

/// Where in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The path's segment.
    Path,
    /// A parameter of the query.
    Query(String),
    /// A parameter of an `application/x-www-form-urlencoded` body.
    Form(String),
    /// A string of an `application/json` body, by JSON Pointer (RFC 6901).
    Json(String),
}
