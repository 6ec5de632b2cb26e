//! Through which proxy a provider is asked, and under which roots it is verified.

use std::path::Path;

use ureq::{
    Proxy, ProxyProtocol,
    tls::{Certificate, PemItem, RootCerts, parse_pem},
};
use url::Url;

use crate::{sigv4::percent_decoded, surroundings::Surroundings};

/// The caller's own proxy for `https`.
pub(super) fn proxy_of(surroundings: &Surroundings) -> Option<Proxy> {
    const NAMES: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
    let written = NAMES.iter().find_map(|name| surroundings.variable(name))?;
    let url = Url::parse(written).or_else(|_| Url::parse(&format!("http://{written}"))).ok()?;
    let protocol = match url.scheme() {
        "http" => ProxyProtocol::Http,
        "https" => ProxyProtocol::Https,
        _ => return None,
    };
    let mut proxy = Proxy::builder(protocol).host(url.host_str()?);
    if let Some(port) = url.port_or_known_default() {
        proxy = proxy.port(port);
    }
    if !url.username().is_empty() {
        let plain = |text: &str| String::from_utf8_lossy(&percent_decoded(text.as_bytes())).into_owned();
        proxy = proxy.username(&plain(url.username())).password(&plain(url.password().unwrap_or_default()));
    }
    let exceptions = ["no_proxy", "NO_PROXY"].iter().find_map(|name| surroundings.variable(name)).unwrap_or_default();
    for exception in exceptions.split(',').map(str::trim).filter(|exception| !exception.is_empty()) {
        proxy = proxy.no_proxy(exception);
    }
    proxy.build().ok()
}

pub(super) fn read_bundle(path: &Path) -> Result<RootCerts, String> {
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    let mut certificates: Vec<Certificate<'static>> = Vec::new();
    for item in parse_pem(&text) {
        match item {
            Ok(PemItem::Certificate(certificate)) => certificates.push(certificate),
            Ok(_) => {}
            Err(_) => return Err("it is no PEM".to_owned()),
        }
    }
    if certificates.is_empty() {
        return Err("it holds no certificate (lines of `-----BEGIN CERTIFICATE-----`)".to_owned());
    }
    Ok(RootCerts::new_with_certs(&certificates))
}
