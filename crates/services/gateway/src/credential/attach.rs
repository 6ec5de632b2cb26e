//! Puts a secret into a request that goes out. What the sandbox put in its place is taken out first, in whatever
//! spelling and however often.

use std::time::SystemTime;

use credentials::{
    Material,
    sigv4::{self, Payload, Resigner, Scope, SignError},
};
use data_encoding::BASE64;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Uri,
    header::{AUTHORIZATION, COOKIE, HOST},
    uri::PathAndQuery,
};
use policy::model::{credential::Attach, header_fields::is_same};
use secret_swap::{
    Placeholder, Swap,
    attach::{as_judged, cookie_in, parameter_in},
};
use values::Secret;
use wire::http_head::RequestHead;
use zeroize::Zeroizing;

use super::carried::text;

/// Why a secret can't stand where it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AttachError {
    /// It is of another kind.
    #[error("its source gives another kind of secret than it is attached as")]
    Kind,
    /// It holds what can't stand there.
    #[error("the secret holds bytes that can't stand where it is attached")]
    Unfit,
    /// The request has no one meaning there.
    #[error("the request's query could be read in two ways, so no secret is put into it")]
    Ambiguous,
    /// It can't be signed.
    #[error("AWS signature: {0}")]
    Sign(#[from] SignError),
    /// What the client says of its body can't be signed.
    #[error("AWS signature: `x-amz-content-sha256` says what can't be signed anew")]
    Payload,
}

/// The way in a word, for the record.
pub(super) fn word(attach: &Attach) -> &'static str {
    match attach {
        Attach::Bearer => "bearer",
        Attach::Basic { .. } => "basic",
        Attach::Header { .. } => "header",
        Attach::Query { .. } => "query",
        Attach::Cookie { .. } => "cookie",
        Attach::SigV4 { .. } => "sigv4",
        Attach::ClientCertificate => "client-certificate",
        Attach::Placeholder { .. } => "placeholder",
    }
}

/// Where its placeholder is swapped, where it has one and is attached in that way.
pub(super) fn swap<'a>(attach: &'a Attach, placeholder: Option<&'a Placeholder>) -> Option<Swap<'a>> {
    match (attach, placeholder) {
        (Attach::Placeholder { headers, fields }, Some(placeholder)) => Some(Swap { placeholder, headers, fields }),
        _ => None,
    }
}

/// The header fields that are for a placeholder's secret alone, lower case.
pub(super) fn reserved(attach: &Attach) -> &[String] {
    match attach {
        Attach::Placeholder { headers, .. } => headers,
        Attach::Bearer
        | Attach::Basic { .. }
        | Attach::Header { .. }
        | Attach::Query { .. }
        | Attach::Cookie { .. }
        | Attach::SigV4 { .. }
        | Attach::ClientCertificate => &[],
    }
}

/// A request as the swap looks at it.
pub(super) fn request<'a>(head: &'a RequestHead, target: &'a str) -> secret_swap::Request<'a> {
    secret_swap::Request { method: &head.method, target, fields: &head.fields }
}

/// Puts the secret into the head of a request.
pub(super) fn attach<B>(
    attach: &Attach,
    material: &Material,
    placeholder: Option<&Placeholder>,
    head: &RequestHead,
    outgoing: &mut Request<B>,
) -> Result<(), AttachError> {
    let sent = head.origin_target();
    // The path that was judged, not one that a server could take for another.
    let target = if sent == "*" { sent.clone() } else { as_judged(&sent).ok_or(AttachError::Ambiguous)? };
    if target != sent {
        set_target(outgoing.uri_mut(), target.as_bytes())?;
    }
    let secret = || text(material).ok_or(AttachError::Kind);
    match attach {
        Attach::Bearer => {
            let value = [b"Bearer ", secret()?.expose()].concat();
            set_field(outgoing.headers_mut(), AUTHORIZATION, &Zeroizing::new(value))
        }
        Attach::Basic { username } => {
            let pair = Zeroizing::new([username.as_bytes(), b":", secret()?.expose()].concat());
            let value = Zeroizing::new(format!("Basic {}", BASE64.encode(&pair)));
            set_field(outgoing.headers_mut(), AUTHORIZATION, value.as_bytes())
        }
        Attach::Header { name, format } => {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| AttachError::Unfit)?;
            let (before, after) = format.split_once("{value}").ok_or(AttachError::Unfit)?;
            let value = [before.as_bytes(), secret()?.expose(), after.as_bytes()].concat();
            set_field(outgoing.headers_mut(), name, &Zeroizing::new(value))
        }
        Attach::Query { name } => {
            let target = parameter_in(&target, name, secret()?).ok_or(AttachError::Ambiguous)?;
            set_target(outgoing.uri_mut(), target.expose())
        }
        Attach::Cookie { name } => {
            let secret = secret()?;
            if secret.expose().iter().any(|byte| matches!(byte, b';' | b',' | b' ' | b'"' | b'\\')) {
                return Err(AttachError::Unfit);
            }
            let value = {
                let sent = outgoing.headers().iter().filter(|(name, _)| is_same(name, "cookie"));
                cookie_in(sent.map(|(_, value)| value.as_bytes()), name, secret)
            };
            set_field(outgoing.headers_mut(), COOKIE, value.expose())
        }
        // Signed over all else: `sign`.
        Attach::SigV4 { .. } => Ok(()),
        Attach::ClientCertificate => Ok(()),
        Attach::Placeholder { headers, .. } => {
            let Some(swap) = swap(attach, placeholder) else { return Ok(()) };
            put_in(swap, headers, head, &target, secret()?, outgoing)
        }
    }
}

/// What an AWS signature says of the body, where that needs no look at it.
pub(super) fn payload(head: &RequestHead, service: &str, empty: bool) -> Result<Option<Payload>, AttachError> {
    let mut said = head.fields.iter().filter(|(name, _)| is_same(name, "x-amz-content-sha256"));
    match (said.next(), said.next()) {
        (Some((_, value)), None) => Payload::of_field(value).map(Some).ok_or(AttachError::Payload),
        (Some(_), Some(_)) => Err(AttachError::Payload),
        (None, _) if empty => Ok(Some(Payload::of_body(b""))),
        (None, _) if service.starts_with("s3") => Ok(Some(Payload::Unsigned)),
        (None, _) => Ok(None),
    }
}

/// Signs a request as it goes out, where it is to be signed; what signs its chunks, where it comes in signed ones.
pub(super) fn sign<B>(
    attach: &Attach,
    material: &Material,
    payload: Option<&Payload>,
    host: &str,
    outgoing: &mut Request<B>,
) -> Result<Option<Resigner>, AttachError> {
    let Attach::SigV4 { service, region } = attach else { return Ok(None) };
    let (Material::Aws(keys), Some(payload)) = (material, payload) else { return Err(AttachError::Kind) };
    for name in sigv4::REPLACED {
        remove_field(outgoing.headers_mut(), name);
    }
    let signed = {
        let mut headers: Vec<(&str, &[u8])> = Vec::with_capacity(outgoing.headers().len() + 1);
        headers.extend(outgoing.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())));
        if !outgoing.headers().contains_key(HOST) {
            headers.push(("host", host.as_bytes()));
        }
        let (method, uri) = (outgoing.method().as_str(), outgoing.uri());
        let request = sigv4::Request { method, path: uri.path(), query: uri.query(), headers: &headers };
        let scope = Scope { service, region };
        sigv4::sign(&request, payload, keys, &scope, SystemTime::now())?
    };
    for (name, value) in &signed.headers {
        set_field(outgoing.headers_mut(), HeaderName::from_static(name), value.expose())?;
    }
    Ok(signed.resigner)
}

/// The secret in place of the placeholder in the head. Fields that are for it alone are taken out.
fn put_in<B>(
    swap: Swap<'_>,
    headers: &[String],
    head: &RequestHead,
    target: &str,
    secret: &Secret,
    outgoing: &mut Request<B>,
) -> Result<(), AttachError> {
    let swapped = swap.head(request(head, target), secret.expose());
    if let Some(target) = &swapped.target {
        set_target(outgoing.uri_mut(), target.expose())?;
    }
    for name in headers {
        remove_field(outgoing.headers_mut(), name);
    }
    for (number, value) in &swapped.fields {
        let (Some(value), Some((name, _))) = (value, head.fields.get(*number)) else { continue };
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| AttachError::Unfit)?;
        outgoing.headers_mut().append(name, sensitive(value.expose())?);
    }
    Ok(())
}

/// This field once, with this value.
fn set_field(headers: &mut HeaderMap, name: HeaderName, value: &[u8]) -> Result<(), AttachError> {
    let value = sensitive(value)?;
    remove_field(headers, name.as_str());
    headers.insert(name, value);
    Ok(())
}

/// No field that a server takes for this one (lower case).
pub(super) fn remove_field(headers: &mut HeaderMap, name: &str) {
    let same: Vec<HeaderName> = headers.keys().filter(|sent| is_same(sent, name)).cloned().collect();
    for sent in same {
        headers.remove(sent);
    }
}

/// A value that is not kept in any table of HTTP/2, and not printed.
fn sensitive(value: &[u8]) -> Result<HeaderValue, AttachError> {
    // A blank at the end would be another value to a server; some take it for none.
    if value.is_empty() || value.trim_ascii().len() != value.len() {
        return Err(AttachError::Unfit);
    }
    let mut value = HeaderValue::from_bytes(value).map_err(|_| AttachError::Unfit)?;
    value.set_sensitive(true);
    Ok(value)
}

fn set_target(uri: &mut Uri, target: &[u8]) -> Result<(), AttachError> {
    let mut parts = std::mem::take(uri).into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(target).map_err(|_| AttachError::Unfit)?);
    *uri = Uri::from_parts(parts).map_err(|_| AttachError::Unfit)?;
    Ok(())
}
