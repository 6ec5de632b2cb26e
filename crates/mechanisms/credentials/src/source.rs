//! Where secrets come from: a file for each kind.
//!
//! A source is opened once, when the policy is; what can be wrong with its words is found then. It is asked on a thread of its
//! own, within the time of an [`Attempt`], and never by two at once, so what it keeps between fetches (a login, a rotated
//! refresh token) is behind a lock that nobody waits for.
//!
//! To add one: a file here, a variant of [`Source`], the exhaustive matches say the rest; stand-ins are in `tests/`.

use std::{
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use policy::model::credential as model;
use url::Url;
use values::{CredentialName, Secret};

pub(crate) use children::Children;

use crate::{
    fault::{Fault, OpenError, Problem},
    http::Client,
    issued::{Issued, Material},
    schedule::Life,
    surroundings::Surroundings,
};

/// Files, commands, the environment, the keyring.
pub(crate) mod stored;
/// Running a program of the operator's.
mod program;
/// Which of them run now.
mod children;
/// The operating system's keyring.
mod keyring;
/// A client certificate and its key.
mod certificate;
/// OAuth 2.0.
mod oauth;
/// HashiCorp Vault.
mod vault;
/// AWS keys.
pub(crate) mod aws;
/// Microsoft Entra.
mod azure;
/// Google.
mod gcp;
/// Kubernetes service accounts.
mod kubernetes;
/// GitHub Apps.
mod github;

/// Where one credential's secrets come from.
pub(crate) enum Source {
    Stored(stored::Kept),
    Certificate(certificate::Files),
    Oauth(Box<oauth::Oauth>),
    Vault(Box<vault::Vault>),
    Aws(Box<aws::Aws>),
    Azure(Box<azure::Azure>),
    Gcp(Box<gcp::Gcp>),
    Kubernetes(Box<kubernetes::Kubernetes>),
    GithubApp(Box<github::GithubApp>),
}

/// What a fetch gave.
pub(crate) struct Fetched {
    pub(crate) material: Material,
    pub(crate) life: Life,
    /// What the files it came from looked like.
    pub(crate) stamp: Option<Stamp>,
    /// Whether its source can revoke it.
    pub(crate) revocable: bool,
}

impl Fetched {
    /// A token with an end.
    pub(crate) fn token(token: Secret, life: Life) -> Self {
        Self { material: Material::Text(token), life, stamp: None, revocable: false }
    }
}

/// What files looked like when they were read: a change of it means that they are read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp(pub(crate) Vec<Option<FileStamp>>);

/// Device, inode, size, and the times of change in nanoseconds.
pub(crate) type FileStamp = (u64, u64, u64, i128, i128);

/// One fetch's surroundings and time.
pub(crate) struct Attempt<'a> {
    pub(crate) surroundings: &'a Surroundings,
    pub(crate) children: &'a Children,
    pub(crate) until: Instant,
}

impl Attempt<'_> {
    /// How much time is left.
    pub(crate) fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    pub(crate) fn now(&self) -> SystemTime {
        self.surroundings.clock.now()
    }
}

/// What opening a source needs.
pub(crate) struct Opening<'a> {
    pub(crate) name: &'a CredentialName,
    pub(crate) surroundings: &'a Surroundings,
}

impl Opening<'_> {
    pub(crate) fn unusable(&self, what: impl Into<String>) -> OpenError {
        OpenError::Unusable { name: self.name.clone(), what: what.into() }
    }

    /// A path as the policy writes it, which the sandbox must not be able to write.
    pub(crate) fn path(&self, written: &Path) -> Result<std::path::PathBuf, OpenError> {
        let path = self.surroundings.path(written);
        if self.surroundings.may_be_written(&path) {
            return Err(OpenError::Writable { name: self.name.clone(), path });
        }
        Ok(path)
    }

    pub(crate) fn client(&self, ca: Option<&Path>) -> Result<Client, OpenError> {
        if let Some(ca) = ca {
            self.path(ca)?;
        }
        Client::open(ca, self.surroundings).map_err(|(path, what)| OpenError::Bundle {
            name: self.name.clone(),
            path,
            what,
        })
    }
}

impl Source {
    /// Checks what the policy says of it. Nothing is fetched.
    pub(crate) fn open(
        name: &CredentialName,
        source: &model::Source,
        surroundings: &Surroundings,
    ) -> Result<Self, OpenError> {
        let opening = Opening { name, surroundings };
        match source {
            model::Source::Stored(stored) => stored::Kept::open(stored, &opening).map(Self::Stored),
            model::Source::Certificate { chain, key } => {
                certificate::Files::open(chain, key, &opening).map(Self::Certificate)
            }
            model::Source::Oauth(oauth) => oauth::Oauth::open(oauth, &opening).map(Box::new).map(Self::Oauth),
            model::Source::Vault(vault) => vault::Vault::open(vault, &opening).map(Box::new).map(Self::Vault),
            model::Source::Aws(aws) => aws::Aws::open(aws, &opening).map(Box::new).map(Self::Aws),
            model::Source::Azure(azure) => azure::Azure::open(azure, &opening).map(Box::new).map(Self::Azure),
            model::Source::Gcp(gcp) => gcp::Gcp::open(gcp, &opening).map(Box::new).map(Self::Gcp),
            model::Source::Kubernetes(kubernetes) => {
                kubernetes::Kubernetes::open(kubernetes, &opening).map(Box::new).map(Self::Kubernetes)
            }
            model::Source::GithubApp(app) => github::GithubApp::open(app, &opening).map(Box::new).map(Self::GithubApp),
        }
    }

    /// Fetches one.
    pub(crate) fn fetch(&self, attempt: &Attempt<'_>) -> Result<Fetched, Fault> {
        match self {
            Self::Stored(kept) => kept.fetch(attempt),
            Self::Certificate(files) => files.fetch(attempt),
            Self::Oauth(oauth) => oauth.fetch(attempt),
            Self::Vault(vault) => vault.fetch(attempt),
            Self::Aws(aws) => aws.fetch(attempt),
            Self::Azure(azure) => azure.fetch(attempt),
            Self::Gcp(gcp) => gcp.fetch(attempt),
            Self::Kubernetes(kubernetes) => kubernetes.fetch(attempt),
            Self::GithubApp(app) => app.fetch(attempt),
        }
    }

    /// What its files look like now; none where it has none of which a change counts at once.
    pub(crate) fn stamp(&self) -> Option<Stamp> {
        match self {
            Self::Stored(kept) => kept.stamp(),
            Self::Certificate(files) => files.stamp(),
            Self::Oauth(_)
            | Self::Vault(_)
            | Self::Aws(_)
            | Self::Azure(_)
            | Self::Gcp(_)
            | Self::Kubernetes(_)
            | Self::GithubApp(_) => None,
        }
    }

    /// Revokes one that it gave.
    pub(crate) fn revoke(&self, issued: &Issued, attempt: &Attempt<'_>) -> Result<(), Fault> {
        match self {
            Self::Oauth(oauth) => oauth.revoke(issued, attempt),
            Self::GithubApp(app) => app.revoke(issued, attempt),
            Self::Stored(_)
            | Self::Certificate(_)
            | Self::Vault(_)
            | Self::Aws(_)
            | Self::Azure(_)
            | Self::Gcp(_)
            | Self::Kubernetes(_) => Ok(()),
        }
    }

    /// Ends what the source holds for itself, such as a login.
    pub(crate) fn sign_out(&self, attempt: &Attempt<'_>) -> Result<(), Fault> {
        match self {
            Self::Oauth(oauth) => oauth.sign_out(attempt),
            Self::Vault(vault) => vault.sign_out(attempt),
            Self::Stored(_)
            | Self::Certificate(_)
            | Self::Aws(_)
            | Self::Azure(_)
            | Self::Gcp(_)
            | Self::Kubernetes(_)
            | Self::GithubApp(_) => Ok(()),
        }
    }

    /// It gave a token that is already at its end.
    pub(crate) fn fault_of_a_dead_token(&self) -> Fault {
        let provider = match self {
            Self::Stored(kept) => kept.provider(),
            Self::Certificate(_) => "the certificate",
            Self::Oauth(_) => "the OAuth provider",
            Self::Vault(_) => "HashiCorp Vault",
            Self::Aws(_) => "AWS",
            Self::Azure(_) => "Microsoft Entra",
            Self::Gcp(_) => "Google",
            Self::Kubernetes(_) => "Kubernetes",
            Self::GithubApp(_) => "GitHub",
        };
        Fault {
            provider,
            step: "reading its end",
            place: "this machine's clock".to_owned(),
            problem: Problem::Unfit("what it gave has ended already".to_owned()),
            hint: "compare the clocks, or ask for a longer life",
        }
    }
}

/// The segments of a path, none of them empty or a dot's; none where it isn't one.
fn segments(path: &str) -> Option<Vec<&str>> {
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let fits = |segment: &&str| !matches!(*segment, "" | "." | "..") && !segment.chars().any(char::is_control);
    segments.iter().all(fits).then_some(segments)
}

/// The URL with these segments behind its path, escaped.
fn with_segments(base: &Url, segments: &[&str]) -> Url {
    let mut url = base.clone();
    url.set_query(None);
    // What has a host has a path; `provider_url` and `metadata_url` give nothing else.
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(segments);
    }
    url
}

/// A life to a date as in `2026-11-21T12:00:00Z`.
fn end_of(date: &str) -> Option<Life> {
    date.parse::<jiff::Timestamp>().ok().map(|end| Life::Until(end.into()))
}
