//! To which addresses a secret may go: over TLS anywhere, without it only to what is near.

use std::net::IpAddr;

use url::{Host, Url};

/// A place that a secret may be sent to: `https`, or `http` to this machine. What is wrong otherwise.
pub(crate) fn provider_url(text: &str, what: &str) -> Result<Url, String> {
    let url = parsed(text, what)?;
    if url.fragment().is_some() || url.host().is_none() {
        return Err(format!("{what} `{text}` must be `https://host/…`"));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        _ => Err(format!("{what} `{text}` must be https, so that no secret is sent in the clear")),
    }
}

/// As [`provider_url`]; but a metadata service may also be at a link-local or private address, or at its well-known name.
pub(crate) fn metadata_url(text: &str, what: &str) -> Result<Url, String> {
    let url = parsed(text, what)?;
    let near = match url.host() {
        Some(Host::Ipv4(address)) => address.is_link_local() || address.is_private(),
        Some(Host::Ipv6(address)) => address.is_unicast_link_local() || address.is_unique_local(),
        Some(Host::Domain(name)) => name == "metadata.google.internal",
        None => false,
    };
    if url.scheme() == "http" && near { Ok(url) } else { provider_url(text, what) }
}

fn parsed(text: &str, what: &str) -> Result<Url, String> {
    // What stands before an `@` may be a secret, and where this is no URL nobody knows what it is.
    if text.contains('@') {
        return Err(format!("{what} holds a user or a password; name a source for it instead"));
    }
    Url::parse(text).map_err(|error| format!("{what} `{text}` is no URL ({error})"))
}

pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// `host:port`, for errors; never a whole URL.
pub(crate) fn place(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
