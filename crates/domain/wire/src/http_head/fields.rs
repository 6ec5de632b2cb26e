//! What the fields of a request head say together: its host, its framing, its upgrade.

use std::borrow::Cow;

use policy::{Target, model::header_fields::is_same};

use super::{Authority, Form, Framing};

/// What `Connection` may say (RFC 9110, 7.6.1): itself an end, or a field that is for one hop anyway.
const HOP_OPTIONS: [&str; 8] = [
    "close",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
];
/// What it may never name, whether it is there or not.
const NEEDED: [&str; 4] = ["host", "content-length", "transfer-encoding", "authorization"];

/// The target's form, and the one host that the request is for.
pub(super) fn match_target(
    method: &str,
    target: &str,
    fields: &[(String, Vec<u8>)],
    proxy: bool,
) -> Result<(Form, Authority), &'static str> {
    let mut hosts = values(fields, "host");
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err("two Host fields");
    }
    let host = host.map(|value| ascii(value).and_then(authority)).transpose()?;
    if method == "CONNECT" {
        if !proxy {
            return Err("CONNECT inside a connection");
        }
        let target = authority(target)?;
        if target.port.is_none() {
            return Err("CONNECT without a port");
        }
        // RFC 9110, 9.3.6: Host repeats the target; some clients leave the port out, some the field.
        if host.is_some_and(|host| host.host != target.host || host.port.is_some_and(|port| Some(port) != target.port))
        {
            return Err("Host is not the CONNECT target");
        }
        return Ok((Form::Authority, target));
    }
    if target.starts_with('/') || (target == "*" && method == "OPTIONS") {
        return host.map(|host| (Form::Origin, host)).ok_or("no Host field");
    }
    let Some(scheme) = target.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("http://")) else {
        return Err("a request target of an unknown form");
    };
    let rest = target.get(scheme.len()..).unwrap_or_default();
    let length = rest.find(['/', '?']).unwrap_or(rest.len());
    let named = authority(rest.get(..length).unwrap_or_default())?;
    let Some(host) = host else { return Err("no Host field") };
    if host.host != named.host || host.port.unwrap_or(80) != named.port.unwrap_or(80) {
        return Err("Host is not the host of the target");
    }
    Ok((Form::Absolute(scheme.len() + length), named))
}

/// Servers compare bytes, so another spelling of a name is another name to them.
fn ascii(value: &[u8]) -> Result<&str, &'static str> {
    std::str::from_utf8(value).ok().filter(|text| text.is_ascii()).ok_or("a Host that is not ASCII")
}

/// `host` or `host:port`, no user information; the port in canonical decimal.
pub fn authority(text: &str) -> Result<Authority, &'static str> {
    let after_bracket = text.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match text.get(after_bracket..).and_then(|rest| rest.rfind(':')) {
        Some(at) => {
            let (host, port) = text.split_at(after_bracket + at);
            (host, Some(port.get(1..).unwrap_or_default()))
        }
        None => (text, None),
    };
    if host.contains(':') && !host.starts_with('[') {
        return Err("an IPv6 address without brackets");
    }
    let port =
        port.map(|port| canonical_port(port).ok_or("a port that is not 1 to 65535 in plain decimal")).transpose()?;
    let host = Target::parse(host).map_err(|_| "a host that is no host name and no address")?;
    Ok(Authority { host, port })
}

fn canonical_port(text: &str) -> Option<u16> {
    if text.is_empty() || text.len() > 5 || text.starts_with('0') || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// How the body is framed; two ways at once have no one meaning.
pub(super) fn framing(fields: &[(String, Vec<u8>)], version_1_1: bool) -> Result<Framing, &'static str> {
    let is_folded = |name: &String| {
        ["content-length", "transfer-encoding"].iter().any(|own| is_same(name, own) && !name.eq_ignore_ascii_case(own))
    };
    if fields.iter().any(|(name, _)| is_folded(name)) {
        // Some servers take it for one that frames the body.
        return Err("a field of the framing with an underscore");
    }
    let mut lengths = values(fields, "content-length");
    let mut codings = values(fields, "transfer-encoding");
    match (lengths.next(), lengths.next(), codings.next(), codings.next()) {
        (None, _, None, _) => Ok(Framing::Empty),
        (_, Some(_), _, _) => Err("two Content-Length fields"),
        (_, _, _, Some(_)) => Err("two Transfer-Encoding fields"),
        (Some(_), None, Some(_), None) => Err("Content-Length beside Transfer-Encoding"),
        (None, _, Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") && version_1_1 => Ok(Framing::Chunked),
        (None, _, Some(_), None) => Err("a transfer coding other than chunked"),
        (Some(length), None, None, _) => {
            let digits = std::str::from_utf8(length).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            let length: Option<u64> = digits.filter(|text| text.len() <= 18).and_then(|text| text.parse().ok());
            length.map(Framing::Length).ok_or("a Content-Length that is no number")
        }
    }
}

/// Whether the request asks to become a WebSocket; any other upgrade is refused.
pub(super) fn upgrade(method: &str, version_1_1: bool, fields: &[(String, Vec<u8>)]) -> Result<bool, &'static str> {
    if values(fields, "http2-settings").next().is_some() {
        return Err("an upgrade to HTTP/2");
    }
    let connection = || values(fields, "connection").flat_map(|value| value.split(|byte| *byte == b','));
    for option in connection() {
        let option = option.trim_ascii();
        let names = |field: &str| is_same(option, field);
        let is_needed = || NEEDED.into_iter().any(names) || fields.iter().any(|(field, _)| names(field));
        if !is_hop_option(option) && is_needed() {
            return Err("a Connection option that would remove a needed field");
        }
    }
    let mut upgrades = values(fields, "upgrade");
    let Some(protocol) = upgrades.next() else { return Ok(false) };
    if upgrades.next().is_some() || !protocol.eq_ignore_ascii_case(b"websocket") {
        return Err("an upgrade to something other than WebSocket");
    }
    if method != "GET" || !version_1_1 {
        return Err("an upgrade that is no HTTP/1.1 GET");
    }
    Ok(connection().any(|option| option.trim_ascii().eq_ignore_ascii_case(b"upgrade")))
}

fn is_hop_option(option: &[u8]) -> bool {
    HOP_OPTIONS.iter().any(|known| option.eq_ignore_ascii_case(known.as_bytes()))
}

/// A `Connection` field's value without what names other fields: one of them may be added on the way.
pub(super) fn hop_options(value: &[u8]) -> Cow<'_, [u8]> {
    let options = || value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    if options().all(is_hop_option) {
        return Cow::Borrowed(value);
    }
    Cow::Owned(options().filter(|option| is_hop_option(option)).collect::<Vec<_>>().join(&b", "[..]))
}

/// The values of every field of this name.
pub(super) fn values<'a>(fields: &'a [(String, Vec<u8>)], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    fields.iter().filter(move |(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_slice())
}
