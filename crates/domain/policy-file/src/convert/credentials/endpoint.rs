//! Where providers listen.

use std::net::IpAddr;

use policy::{
    Target,
    address::{SpecialRange, special},
};

use crate::convert::{parts::decimal_port, problem::Problem};

/// Who may be spoken to without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plain {
    /// The machine itself.
    Loopback,
    /// The machine itself, and a cloud's metadata service.
    Metadata,
}

/// `https://HOST[:PORT][/PATH]`; without TLS only to whom this allows, by address.
pub(super) fn endpoint(text: &str, plain: Plain) -> Result<String, Problem> {
    // What stands before an `@` may be a secret.
    let shown = text.rsplit_once('@').map_or_else(|| text.to_owned(), |(_, rest)| format!("…@{rest}"));
    let wrong = |why: &str| Problem::Endpoint { text: shown.clone(), why: why.to_owned() };
    let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("it begins with https://"))?;
    let tls = match scheme {
        "https" => true,
        "http" => false,
        _ => return Err(wrong("it begins with https://")),
    };
    let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    if authority.contains('@') {
        return Err(wrong("a user name or secret has no place in it"));
    }
    if rest.contains(['?', '#']) {
        return Err(wrong("a query or fragment has no place in it"));
    }
    if !path.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(wrong("its path is no path of a URL"));
    }
    let (host, port) = match authority.rsplit_once(':') {
        // A bracket after the last colon: an IPv6 address without a port.
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        Some(_) | None => (authority, None),
    };
    if port.is_some_and(|port| decimal_port(port).is_none()) {
        return Err(wrong("its port is no port"));
    }
    let target = Target::parse(host).map_err(|source| wrong(&source.to_string()))?;
    let near = match &target {
        Target::Address(address) => is_near(*address, plain),
        Target::Name(_) => false,
    };
    if tls || near {
        return Ok(text.to_owned());
    }
    Err(wrong("a secret is fetched over TLS: http:// goes to a loopback address alone, such as 127.0.0.1"))
}

fn is_near(address: IpAddr, plain: Plain) -> bool {
    match special(address) {
        Some(SpecialRange::Loopback) => true,
        Some(SpecialRange::Metadata) => plain == Plain::Metadata,
        Some(_) | None => false,
    }
}
