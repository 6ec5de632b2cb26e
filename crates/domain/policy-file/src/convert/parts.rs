//! The small parts: names, hosts, ranges, ports, times.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};
use policy::{
    HostPattern,
    http_path::PathGlob,
    model::{DnsServer, HttpMatch, ProcessMatch, ProxyAddress, Scheme, UrlPattern},
};
use values::NameError;

use super::problem::Problem;
use crate::wire;

/// The most port ranges of one rule.
const PORT_RANGES: usize = 64;

pub(super) fn name<T>(text: &str, new: impl Fn(&str) -> Result<T, NameError>) -> Result<T, Problem> {
    new(text).map_err(|source| Problem::Name { text: text.to_owned(), source })
}

pub(super) fn host(text: &str) -> Result<HostPattern, Problem> {
    HostPattern::parse(text).map_err(|source| Problem::Host { text: text.to_owned(), source })
}

/// How wide a wildcard is, by the public suffix list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Breadth {
    /// Within one registrable domain.
    OneOwner,
    /// Over a suffix under which a company lets anyone have a name: `*.github.io`.
    Tenants,
    /// Over a suffix of the domain name system: `*.com`, `*.co.uk`.
    PublicSuffix,
}

pub(super) fn breadth(pattern: &HostPattern) -> Breadth {
    let (HostPattern::Subnames(apex) | HostPattern::Domain(apex)) = pattern else { return Breadth::OneOwner };
    let text = apex.as_str().as_bytes();
    match psl::suffix(text) {
        Some(suffix) if suffix.as_bytes() == text => match suffix.typ() {
            Some(psl::Type::Private) => Breadth::Tenants,
            Some(psl::Type::Icann) => Breadth::PublicSuffix,
            // No such suffix is known: an internal one, such as *.internal, has one owner.
            None => Breadth::OneOwner,
        },
        Some(_) | None => Breadth::OneOwner,
    }
}

pub(super) fn cidr(text: &str) -> Result<IpNet, Problem> {
    let wrong = |meant| Problem::Cidr { text: text.to_owned(), meant };
    let net = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse::<IpNet>().map_err(|_| wrong(None))?,
    };
    if net.trunc() != net {
        return Err(wrong(Some(net.trunc().to_string())));
    }
    if let IpNet::V6(v6) = net
        && let Some(mapped) = v6.addr().to_ipv4_mapped()
        && v6.prefix_len() >= 96
    {
        return Err(wrong(Some(format!("{mapped}/{}", v6.prefix_len() - 96))));
    }
    Ok(net)
}

pub(super) fn address(text: &str) -> Result<IpAddr, Problem> {
    text.parse().map_err(|_| Problem::Address { text: text.to_owned() })
}

pub(super) fn port(port: &wire::Port) -> Result<(u16, u16), Problem> {
    let wrong = |text: &str| Problem::Port { text: text.to_owned() };
    match port {
        wire::Port::One(number) => match u16::try_from(*number) {
            Ok(port) if port > 0 => Ok((port, port)),
            Ok(_) | Err(_) => Err(wrong(&number.to_string())),
        },
        wire::Port::Range(text) => {
            let (low, high) = text.split_once('-').unwrap_or((text, text));
            match (decimal_port(low.trim()), decimal_port(high.trim())) {
                (Some(low), Some(high)) if low <= high => Ok((low, high)),
                _ => Err(wrong(text)),
            }
        }
    }
}

/// A port as people write it: no sign, no leading zero, 1 to 65535.
pub(crate) fn decimal_port(text: &str) -> Option<u16> {
    let plain = !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}

pub(super) fn port_count(count: usize) -> Result<(), Problem> {
    if count > PORT_RANGES { Err(Problem::TooManyPorts { count }) } else { Ok(()) }
}

pub(super) fn url(text: &str) -> Result<UrlPattern, Problem> {
    let wrong = |why: &str| Problem::Url { text: text.to_owned(), why: why.to_owned() };
    let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("it begins with http:// or https://"))?;
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "http" => false,
        "https" => true,
        _ => return Err(wrong("the scheme is http or https")),
    };
    let (authority, path) = rest.find('/').map_or((rest, "/**"), |slash| rest.split_at(slash));
    if authority.contains('@') {
        return Err(wrong("a user name has no place in it"));
    }
    if path.contains(['?', '#']) {
        return Err(wrong("a query or fragment is not matched"));
    }
    let (name, port) = match authority.rsplit_once(':') {
        Some((name, port)) => (name, decimal_port(port).ok_or_else(|| wrong("its port is no port"))?),
        None => (authority, if tls { 443 } else { 80 }),
    };
    let host = HostPattern::parse(name).map_err(|source| wrong(&source.to_string()))?;
    glob(path)?;
    Ok(UrlPattern { tls, host, port, path: path.to_owned() })
}

pub(super) fn path_glob(text: &str) -> Result<String, Problem> {
    glob(text).map(|()| text.to_owned())
}

fn glob(text: &str) -> Result<(), Problem> {
    PathGlob::parse(text).map(drop).map_err(|source| Problem::PathGlob { text: text.to_owned(), source })
}

/// Whether every byte may stand in an HTTP token (RFC 9110, 5.6.2).
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

pub(super) fn method(text: &str) -> Result<String, Problem> {
    const KNOWN: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"];
    let misspelt = KNOWN.iter().any(|known| known.eq_ignore_ascii_case(text) && *known != text);
    if misspelt || !is_token(text) { Err(Problem::Method { text: text.to_owned() }) } else { Ok(text.to_owned()) }
}

pub(super) fn header(name: &str, value: &str) -> Result<(String, String), Problem> {
    if !is_token(name) {
        return Err(Problem::Header { text: name.to_owned() });
    }
    if value.chars().any(char::is_control) || value.trim() != value {
        return Err(Problem::Header { text: value.to_owned() });
    }
    Ok((name.to_ascii_lowercase(), value.to_owned()))
}

/// One entry of `http`, each part with the field it stands in.
pub(super) fn http(http: &wire::HttpMatch, mut report: impl FnMut(&'static str, usize, Problem)) -> HttpMatch {
    let scheme = http.scheme.map(|scheme| match scheme {
        wire::Scheme::Http => Scheme::Http,
        wire::Scheme::Https => Scheme::Https,
    });
    let mut found = HttpMatch { scheme, ..HttpMatch::default() };
    for (index, text) in http.methods.iter().enumerate() {
        match method(text) {
            Ok(method) => found.methods.push(method),
            Err(problem) => report("methods", index, problem),
        }
    }
    for (index, text) in http.paths.iter().enumerate() {
        match glob(text) {
            Ok(()) => found.paths.push(text.clone()),
            Err(problem) => report("paths", index, problem),
        }
    }
    for (name, value) in &http.headers {
        match header(name, value) {
            Ok((name, value)) => {
                if found.headers.insert(name.clone(), value).is_some() {
                    report("headers", 0, Problem::Repeated { what: "header", value: name, first: None });
                }
            }
            Err(problem) => report("headers", 0, problem),
        }
    }
    for (name, value) in &http.query {
        if name.is_empty() || [name, value].iter().any(|text| text.chars().any(char::is_control)) {
            report("query", 0, Problem::Parameter { text: name.clone() });
        } else {
            found.query.insert(name.clone(), value.clone());
        }
    }
    found
}

/// A number of bytes.
pub(super) fn size(written: &wire::Size) -> Result<u64, Problem> {
    let text = match written {
        wire::Size::Bytes(bytes) => {
            return u64::try_from(*bytes).map_err(|_| Problem::Size { text: bytes.to_string() });
        }
        wire::Size::Unit(text) => text,
    };
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor: Option<u64> = match unit.trim() {
        "" | "B" => Some(1),
        "KB" => Some(1_000),
        "MB" => Some(1_000_000),
        "GB" => Some(1_000_000_000),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    };
    let bytes = number.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
    bytes.ok_or_else(|| Problem::Size { text: text.clone() })
}

pub(crate) fn process(text: &str) -> Result<ProcessMatch, Problem> {
    if let Some(digest) = text.strip_prefix("sha256:") {
        let digest = digest.to_ascii_lowercase();
        if digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(ProcessMatch::Digest(digest));
        }
    } else if text.starts_with('/') && !text.contains('\0') && !text.split('/').any(|part| part == ".." || part == ".")
    {
        return Ok(ProcessMatch::Executable(text.to_owned()));
    }
    Err(Problem::Process { text: text.to_owned() })
}

pub(super) fn duration(text: &str) -> Result<Duration, Problem> {
    let wrong = || Problem::Duration { text: text.to_owned() };
    let parsed: SignedDuration = text.parse().map_err(|_| wrong())?;
    let duration = Duration::try_from(parsed).map_err(|_| wrong())?;
    if duration < Duration::from_secs(1) { Err(wrong()) } else { Ok(duration) }
}

pub(super) fn moment(text: &str) -> Result<Timestamp, Problem> {
    let wrong = || Problem::Moment { text: text.to_owned() };
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment);
    }
    if text.contains(['T', 't', ' ']) {
        return Err(wrong());
    }
    let date: Date = text.parse().map_err(|_| wrong())?;
    let next = date.tomorrow().map_err(|_| wrong())?;
    next.to_zoned(TimeZone::UTC).map(|zoned| zoned.timestamp()).map_err(|_| wrong())
}

pub(super) fn proxy(text: &str) -> Result<ProxyAddress, Problem> {
    let wrong = || Problem::Proxy { text: text.to_owned() };
    let rest =
        ["http://", "socks5://", "socks5h://"].iter().find_map(|scheme| text.strip_prefix(scheme)).unwrap_or(text);
    let (host, port) = rest.trim_end_matches('/').rsplit_once(':').ok_or_else(wrong)?;
    let port = decimal_port(port).ok_or_else(wrong)?;
    // The operator's own proxy: a name of any kind that resolves, or an address.
    policy::Target::parse(host).map_err(|_| wrong())?;
    Ok(ProxyAddress { host: host.trim_start_matches('[').trim_end_matches(']').to_owned(), port })
}

pub(super) fn dns_server(text: &str) -> Result<DnsServer, Problem> {
    let wrong = || Problem::DnsServer { text: text.to_owned() };
    if let Some(rest) = text.strip_prefix("tls://") {
        let (address, name) = rest.split_once('#').ok_or_else(wrong)?;
        let name = policy::HostName::parse(name).map_err(|_| wrong())?;
        return Ok(DnsServer::Tls(socket(address, 853).ok_or_else(wrong)?, name.as_str().to_owned()));
    }
    if let Some(rest) = text.strip_prefix("https://") {
        let (url, address) = rest.split_once('#').ok_or_else(wrong)?;
        let (name, path) = url.find('/').map_or((url, "/dns-query"), |slash| url.split_at(slash));
        let name = policy::HostName::parse(name).map_err(|_| wrong())?;
        let address = socket(address, 443).ok_or_else(wrong)?;
        return Ok(DnsServer::Https(address, name.as_str().to_owned(), path.to_owned()));
    }
    socket(text, 53).map(DnsServer::Plain).ok_or_else(wrong)
}

/// An address with a port, or an address alone and this port.
fn socket(text: &str, port: u16) -> Option<SocketAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(address) => Some(SocketAddr::new(address, port)),
        Err(_) => text.parse().ok().filter(|socket: &SocketAddr| socket.port() != 0),
    }
}

/// A file that the policy names.
pub(super) fn file_path(text: &str) -> Result<String, Problem> {
    let fine = !text.is_empty() && !text.contains('\0');
    if fine { Ok(text.to_owned()) } else { Err(Problem::FilePath { text: text.to_owned() }) }
}

/// A file that the policy names and whose path starts there: no `~` is expanded.
pub(super) fn own_file(text: &str) -> Result<String, Problem> {
    if text.starts_with('~') { Err(Problem::FilePath { text: text.to_owned() }) } else { file_path(text) }
}

/// Whether a text is the name of an environment variable (POSIX, XBD 8.1).
pub(super) fn is_variable(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.bytes().all(word) && text.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}
