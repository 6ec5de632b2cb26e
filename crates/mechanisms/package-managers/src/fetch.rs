//! Reading an index's own answer: verified TLS with the system's roots (`SSL_CERT_FILE` and `SSL_CERT_DIR` count),
//! a bounded body, a bounded time. Every host on the way is kept: a redirect names hosts too.

use std::{sync::Arc, time::Duration};

use ureq::{
    Agent, ResponseExt as _,
    tls::{RootCerts, TlsConfig, TlsProvider},
};
use url::Url;

/// The largest answer that is read.
const BODY_LIMIT: u64 = 16 << 20;
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why an index could not be read. Hosts are named, never whole URLs: they may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No connection, no verified certificate, no answer in time.
    #[error("{host} could not be read: {problem}")]
    Transport {
        /// The host asked.
        host: String,
        /// What failed.
        problem: String,
    },
    /// It answered with an error.
    #[error("{host} answered {status}")]
    Status {
        /// The host asked.
        host: String,
        /// The HTTP status.
        status: u16,
    },
    /// The answer is not in the form its protocol says.
    #[error("{host} gave an answer that is not understood: {problem}")]
    Answer {
        /// The host asked.
        host: String,
        /// What is wrong.
        problem: String,
    },
}

impl FetchError {
    /// Whether the index was reached and said that this thing is not there, or not for us.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, FetchError::Status { status: 401 | 403 | 404, .. })
    }
}

/// Reads indexes.
#[derive(Debug, Clone)]
pub struct Fetcher {
    agent: Agent,
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) body: String,
    /// Where it came from in the end, and every stop on the way.
    pub(crate) stops: Vec<Url>,
}

impl Default for Fetcher {
    fn default() -> Self {
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(RootCerts::PlatformVerifier)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(PATIENCE))
            .max_redirects(5)
            .save_redirect_history(true)
            .user_agent(concat!("cofferdam/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: Agent::new_with_config(config) }
    }
}

impl Fetcher {
    /// Reads one document.
    pub(crate) fn get(&self, url: &Url, accept: &str) -> Result<Answer, FetchError> {
        let host = url.host_str().unwrap_or_default().to_owned();
        let transport = |error: ureq::Error| match error {
            ureq::Error::StatusCode(status) => FetchError::Status { host: host.clone(), status },
            other => FetchError::Transport { host: host.clone(), problem: other.to_string() },
        };
        let mut response = self.agent.get(url.as_str()).header("Accept", accept).call().map_err(transport)?;
        let last = response.get_uri().to_string();
        let stops = response
            .get_redirect_history()
            .unwrap_or_default()
            .iter()
            .map(ToString::to_string)
            .chain([last])
            .filter_map(|stop| Url::parse(&stop).ok())
            .collect();
        let body = response.body_mut().with_config().limit(BODY_LIMIT).lossy_utf8(true).read_to_string();
        Ok(Answer { body: body.map_err(transport)?, stops })
    }

    /// Reads one JSON document.
    pub(crate) fn get_json<T: serde::de::DeserializeOwned>(&self, url: &Url) -> Result<(T, Vec<Url>), FetchError> {
        let answer = self.get(url, "application/json")?;
        let value = serde_json::from_str(&answer.body).map_err(|error| FetchError::Answer {
            host: url.host_str().unwrap_or_default().to_owned(),
            problem: error.to_string(),
        })?;
        Ok((value, answer.stops))
    }
}
