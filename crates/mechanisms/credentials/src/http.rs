//! Asking a provider over HTTPS, with a bound on everything: time, tries, the answer's size, no redirects, no cookies.
//!
//! Plain HTTP is for this machine and for link-local metadata services alone, and never goes through a proxy. The caller's own
//! proxy variables count for the rest, as the caller's `NO_PROXY` does.

use std::{io::Read as _, path::Path, sync::Arc, time::Duration};

use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use ureq::{
    Agent, Proxy,
    http::{HeaderValue, Request, Response},
    tls::{RootCerts, TlsConfig, TlsProvider},
};
use url::Url;
use values::Secret;
use zeroize::Zeroizing;

use crate::{
    fault::{Fault, Problem},
    source::Attempt,
    surroundings::Surroundings,
};

/// To which addresses a secret may go.
mod address;
/// Through which proxy, and under which roots.
mod reach;
/// What a provider says of its refusal.
mod words;

use address::is_loopback;
pub(crate) use address::{metadata_url, place, provider_url};

/// The largest answer that is read.
const ANSWER_LIMIT: u64 = 256 << 10;
const ANSWER_ROOM: usize = (256 << 10) + 1;
/// How often one request is tried.
const TRIES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause that a provider's `Retry-After` makes us wait.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Whom to ask, and how they are verified.
pub(crate) struct Client {
    direct: Agent,
    proxied: Option<Agent>,
}

/// What to do where a provider could not be asked at all.
const UNREACHED: &str = "check its address and this machine's network; the caller's own proxy variables count";
const UNTRUSTED: &str =
    "check its address; an authority that this machine does not trust is named with the credential's `ca`";
/// What to do where something answered that can't be told from another server.
const ESTRANGED: &str = "check that its address is the provider's own";
const OVERLOADED: &str = "the provider is in trouble, or wants to be asked less often: try again later";

/// Who is asked what, for errors.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) provider: &'static str,
    pub(crate) step: &'static str,
    /// What to do where it refuses.
    pub(crate) hint: &'static str,
}

/// Whether a request may be sent twice.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// Sending it twice does no harm.
    Harmless,
    /// Only where it can't have been taken in: a refresh token may be good for one use.
    OnlyUnsent,
}

/// One request.
pub(crate) struct Call<'a> {
    pub(crate) asked: Asked,
    pub(crate) method: &'static str,
    pub(crate) url: &'a Url,
    /// The fields; values are secrets until shown otherwise.
    pub(crate) headers: Vec<(&'static str, Zeroizing<Vec<u8>>)>,
    pub(crate) body: Option<(&'static str, Zeroizing<Vec<u8>>)>,
    /// What must not be seen in the provider's words.
    pub(crate) sent: Vec<&'a [u8]>,
    pub(crate) again: Again,
    /// Only some machines have such a provider: where it is silent, the hint is the same.
    pub(crate) is_machines_own: bool,
}

/// An answer of success.
pub(crate) struct Answer {
    pub(crate) body: Zeroizing<Vec<u8>>,
}

/// A string of an answer that is a secret.
pub(crate) struct SecretText(pub(crate) Secret);

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Secret::from(text)))
    }
}

impl Client {
    /// Verifies with this bundle, else with the surroundings' roots, else with the system's. What is wrong with the bundle.
    pub(crate) fn open(ca: Option<&Path>, surroundings: &Surroundings) -> Result<Self, (std::path::PathBuf, String)> {
        let bundle = ca.map(|path| surroundings.path(path)).or_else(|| surroundings.roots.clone());
        let roots = match bundle {
            Some(path) => reach::read_bundle(&path).map_err(|what| (path, what))?,
            None => RootCerts::PlatformVerifier,
        };
        let agent = |proxy: Option<Proxy>| {
            let tls = TlsConfig::builder()
                .provider(TlsProvider::Rustls)
                .root_certs(roots.clone())
                .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .build();
            let config = Agent::config_builder()
                .tls_config(tls)
                .proxy(proxy)
                .max_redirects(0)
                .max_redirects_will_error(false)
                .http_status_as_error(false)
                .max_response_header_size(32 << 10)
                .max_idle_connections(0)
                .max_idle_connections_per_host(0)
                .user_agent(concat!("cofferdam/", env!("CARGO_PKG_VERSION")))
                .build();
            Agent::new_with_config(config)
        };
        Ok(Self { direct: agent(None), proxied: reach::proxy_of(surroundings).map(|proxy| agent(Some(proxy))) })
    }

    /// Asks, a few times where that may help.
    pub(crate) fn call(&self, call: &Call<'_>, attempt: &Attempt<'_>) -> Result<Answer, Fault> {
        let mut pause = FIRST_PAUSE;
        let mut tries = 1;
        loop {
            let failed = match self.once(call, attempt) {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            let wait = failed.retry_after.unwrap_or(pause).min(LONGEST_PAUSE);
            if tries == TRIES || !failed.may_repeat(call.again) || attempt.left() <= wait {
                return Err(call.fault(failed.problem));
            }
            attempt.surroundings.clock.pause(wait);
            tries += 1;
            pause = pause.saturating_mul(4);
        }
    }

    /// Asks for a JSON document.
    pub(crate) fn json<T: DeserializeOwned>(&self, call: &Call<'_>, attempt: &Attempt<'_>) -> Result<T, Fault> {
        let answer = self.call(call, attempt)?;
        // serde_json's own words may hold a piece of the answer.
        serde_json::from_slice(&answer.body).map_err(|_| call.fault(Problem::Garbage("no JSON of the expected form")))
    }

    fn once(&self, call: &Call<'_>, attempt: &Attempt<'_>) -> Result<Answer, Failed> {
        let time = attempt.left().min(attempt.surroundings.patience.call);
        if time.is_zero() {
            return Err(Failed::of(Problem::Slow(attempt.surroundings.patience.fetch)));
        }
        let agent = match &self.proxied {
            Some(proxied) if call.url.scheme() == "https" && !is_loopback(call.url) => proxied,
            Some(_) | None => &self.direct,
        };
        let failed = |error| Failed::transport(&error, time);
        let mut response = match &call.body {
            Some((_, body)) => send(agent, call.request(body.as_slice())?, time),
            None => send(agent, call.request(())?, time),
        }
        .map_err(failed)?;
        let status = response.status().as_u16();
        if (300..400).contains(&status) {
            return Err(Failed::of(Problem::Redirect(status)));
        }
        let body = read(&mut response);
        if (200..300).contains(&status) {
            return Ok(Answer { body: body.map_err(failed)? });
        }
        let (code, description) = body.map_or((None, None), |body| words::of_refusal(&body, &call.sent));
        let retry_after = response.headers().get("retry-after").and_then(seconds);
        Err(Failed { problem: Problem::Refused { status, code, description }, retry_after, unsent: status == 429 })
    }
}

impl<'a> Call<'a> {
    pub(crate) fn new(asked: Asked, method: &'static str, url: &'a Url) -> Self {
        let (headers, sent) = (Vec::new(), Vec::new());
        Self { asked, method, url, headers, body: None, sent, again: Again::Harmless, is_machines_own: false }
    }

    /// It goes to a service of this machine's own.
    pub(crate) fn on_own_machine(mut self) -> Self {
        self.is_machines_own = true;
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, Zeroizing::new(value.as_bytes().to_vec())));
        self
    }

    /// A field that ends in a secret.
    pub(crate) fn secret_header(mut self, name: &'static str, before: &str, secret: &'a Secret) -> Self {
        self.headers.push((name, Zeroizing::new([before.as_bytes(), secret.expose()].concat())));
        self.sending(secret)
    }

    /// The secret is in this request: it must not be in what is told of the answer.
    pub(crate) fn sending(mut self, secret: &'a Secret) -> Self {
        self.sent.push(secret.expose());
        self
    }

    pub(crate) fn body(mut self, content_type: &'static str, body: Zeroizing<Vec<u8>>) -> Self {
        self.body = Some((content_type, body));
        self
    }

    pub(crate) fn form(self, parameters: &[(&str, &[u8])]) -> Self {
        self.body("application/x-www-form-urlencoded", form(parameters))
    }

    /// What failed, and what to do: what was sent is to be looked at only where the provider answered that it is wrong.
    pub(crate) fn fault(&self, problem: Problem) -> Fault {
        let hint = match &problem {
            Problem::Unreachable(_) | Problem::Slow(_) if !self.is_machines_own => UNREACHED,
            Problem::Tls(_) => UNTRUSTED,
            Problem::Redirect(_) | Problem::Huge(_) | Problem::Garbage(_) => ESTRANGED,
            Problem::Refused { status, .. } if *status == 429 || *status >= 500 => OVERLOADED,
            Problem::Unreachable(_)
            | Problem::Slow(_)
            | Problem::Refused { .. }
            | Problem::Io(_)
            | Problem::Unfit(_)
            | Problem::Exit(_) => self.asked.hint,
        };
        Asked { hint, ..self.asked }.fault(place(self.url), problem)
    }

    fn request<B>(&self, body: B) -> Result<Request<B>, Failed> {
        let unfit = |what: &'static str| Failed::of(Problem::Unfit(what.to_owned()));
        let mut request = Request::builder().method(self.method).uri(self.url.as_str());
        for (name, value) in &self.headers {
            let value = HeaderValue::from_bytes(value);
            let mut value =
                value.map_err(|_| unfit("the secret has bytes that no header field may have (a line end?)"))?;
            value.set_sensitive(true);
            request = request.header(*name, value);
        }
        if let Some((content_type, _)) = &self.body {
            request = request.header("content-type", *content_type);
        }
        request.body(body).map_err(|_| unfit("the provider's URL can't be asked"))
    }
}

impl Asked {
    pub(crate) fn fault(&self, place: String, problem: Problem) -> Fault {
        Fault { provider: self.provider, step: self.step, place, problem, hint: self.hint }
    }
}

/// Why one try failed.
struct Failed {
    problem: Problem,
    retry_after: Option<Duration>,
    /// Whether the provider can't have taken the request in.
    unsent: bool,
}

impl Failed {
    fn of(problem: Problem) -> Self {
        Self { problem, retry_after: None, unsent: false }
    }

    fn transport(error: &ureq::Error, time: Duration) -> Self {
        use ureq::Timeout;
        let unsent = match error {
            ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => true,
            ureq::Error::Timeout(at) => matches!(at, Timeout::Resolve | Timeout::Connect),
            ureq::Error::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
            _ => false,
        };
        let problem = match error {
            ureq::Error::Timeout(_) => Problem::Slow(time),
            ureq::Error::BodyExceedsLimit(limit) => Problem::Huge(*limit),
            ureq::Error::LargeResponseHeader(_, limit) => Problem::Huge(*limit as u64),
            ureq::Error::Tls(what) => Problem::Tls((*what).to_owned()),
            ureq::Error::Rustls(error) => Problem::Tls(error.to_string()),
            ureq::Error::Io(error) => of_io(error),
            ureq::Error::HostNotFound => Problem::Unreachable("its name is not found".to_owned()),
            ureq::Error::ConnectionFailed => Problem::Unreachable("no connection".to_owned()),
            ureq::Error::ConnectProxyFailed(_) => Problem::Unreachable("the caller's proxy refuses it".to_owned()),
            _ => Problem::Garbage("no HTTP"),
        };
        Self { problem, retry_after: None, unsent }
    }

    fn may_repeat(&self, again: Again) -> bool {
        let worth = match &self.problem {
            Problem::Unreachable(_) | Problem::Slow(_) => true,
            Problem::Refused { status, .. } => *status == 429 || *status >= 500,
            Problem::Tls(_)
            | Problem::Redirect(_)
            | Problem::Huge(_)
            | Problem::Garbage(_)
            | Problem::Io(_)
            | Problem::Unfit(_)
            | Problem::Exit(_) => false,
        };
        worth && (again == Again::Harmless || self.unsent)
    }
}

fn of_io(error: &std::io::Error) -> Problem {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(error) => Problem::Tls(error.to_string()),
        // Of a name that is not found, the kind alone says nothing.
        None => Problem::Unreachable(error.to_string()),
    }
}

fn send<B: ureq::AsSendBody>(
    agent: &Agent,
    request: Request<B>,
    time: Duration,
) -> Result<Response<ureq::Body>, ureq::Error> {
    agent.run(agent.configure_request(request).timeout_global(Some(time)).build())
}

fn read(response: &mut Response<ureq::Body>) -> Result<Zeroizing<Vec<u8>>, ureq::Error> {
    // Room for all of it at once, so that no half of it is left behind by a growing buffer.
    let mut bytes = Zeroizing::new(Vec::with_capacity(ANSWER_ROOM));
    response.body_mut().with_config().limit(ANSWER_LIMIT).reader().read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn seconds(value: &HeaderValue) -> Option<Duration> {
    value.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// Parameters in the form that browsers send (the WHATWG's `application/x-www-form-urlencoded`).
pub(crate) fn form(parameters: &[(&str, &[u8])]) -> Zeroizing<Vec<u8>> {
    let longest = parameters.iter().map(|(name, value)| 3 * (name.len() + value.len()) + 2).sum();
    let mut body = Zeroizing::new(Vec::with_capacity(longest));
    for (name, value) in parameters {
        if !body.is_empty() {
            body.push(b'&');
        }
        for part in [name.as_bytes(), b"=", value] {
            if part == b"=" { body.push(b'=') } else { form_escape(part, &mut body) }
        }
    }
    body
}

fn form_escape(part: &[u8], into: &mut Vec<u8>) {
    for piece in url::form_urlencoded::byte_serialize(part) {
        into.extend_from_slice(piece.as_bytes());
    }
}

#[cfg(test)]
#[path = "http/tests.rs"]
mod tests;
