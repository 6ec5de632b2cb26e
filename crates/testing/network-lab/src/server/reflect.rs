//! Servers that say back what they were told, in the ways by which a secret comes back; that send elsewhere, and that give
//! out tokens.
//!
//! | in the query of `/reflect` | |
//! | --- | --- |
//! | `in=header` | a field `x-reflected`, a cookie and a redirect's `location` say it, in place of the body |
//! | `status=N` | with that status |
//! | `pieces=N` | the body in pieces of so many bytes, each sent on its own |
//! | `type=T/S` | with that content type |
//! | `coding=A,B` | coded so: `gzip`, `deflate`, `br`, `zstd`; `as=X` says another coding than that |

use std::{fmt::Write as _, io::Write as _};

use anyhow::{Result, bail};
use data_encoding::BASE64;
use flate2::{
    Compression,
    write::{GzEncoder, ZlibEncoder},
};

/// What of a request is reflected.
pub(super) struct Told<'request> {
    pub(super) target: &'request str,
    pub(super) headers: &'request [(String, String)],
    pub(super) body: &'request [u8],
}

/// An answer.
pub(super) struct Reflection {
    pub(super) status: u16,
    pub(super) fields: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// How large its pieces are.
    pub(super) pieces: usize,
}

impl Told<'_> {
    /// The answer of the paths that this module serves.
    pub(super) fn answer(&self) -> Option<Reflection> {
        let path = match self.target.split_once("://") {
            Some((_, rest)) if !self.target.starts_with('/') => rest.split_once('/').map_or("", |(_, path)| path),
            _ => self.target.trim_start_matches('/'),
        };
        match path.split(['/', '?']).next().unwrap_or_default() {
            "reflect" => Some(self.reflect()),
            "redirect" => Some(self.redirect()),
            "token" => Some(token()),
            _ => None,
        }
    }

    fn query(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
    }

    fn redirect(&self) -> Reflection {
        let fields = vec![("location".to_owned(), decode(self.query("to").unwrap_or("/")))];
        Reflection { status: 302, fields, body: Vec::new(), pieces: usize::MAX }
    }

    fn reflect(&self) -> Reflection {
        let status = self.query("status").and_then(|status| status.parse().ok()).unwrap_or(200);
        let kind = self.query("type").unwrap_or("text/plain").to_owned();
        let mut fields = vec![("content-type".to_owned(), kind)];
        let mut text = format!("{}\n", self.target);
        for (name, value) in self.headers {
            let _infallible = writeln!(text, "{name}: {value}");
            if let Some(decoded) = basic(name, value) {
                let _infallible = writeln!(text, "{name} says: {decoded}");
            }
        }
        text.push_str(&String::from_utf8_lossy(self.body));
        if self.query("in") == Some("header") {
            let said: String = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
            let coded: String = said.replace(' ', "+");
            fields.push(("set-cookie".to_owned(), format!("told=\"{said}\"")));
            fields.push(("location".to_owned(), format!("/status/200?told={coded}")));
            fields.push(("x-reflected".to_owned(), said));
            text.clear();
        }
        let mut body = text.into_bytes();
        if let Some(codings) = self.query("coding") {
            // A coding that nobody knows is said and not done.
            for coding in codings.split(',') {
                body = coded(&body, coding).unwrap_or(body);
            }
            fields.push(("content-encoding".to_owned(), self.query("as").unwrap_or(codings).to_owned()));
        }
        let pieces = self.query("pieces").and_then(|size| size.parse().ok()).unwrap_or(usize::MAX);
        Reflection { status, fields, body, pieces }
    }
}

/// A body in a content coding (RFC 9110, 8.4.1; RFC 7932; RFC 8878).
fn coded(body: &[u8], coding: &str) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    match coding {
        "gzip" => {
            let mut writer = GzEncoder::new(&mut out, Compression::default());
            writer.write_all(body)?;
            writer.finish()?;
        }
        "deflate" => {
            let mut writer = ZlibEncoder::new(&mut out, Compression::default());
            writer.write_all(body)?;
            writer.finish()?;
        }
        "br" => brotli::CompressorWriter::new(&mut out, 4096, 5, 22).write_all(body)?,
        "zstd" => {
            out.reserve(zstd_safe::compress_bound(body.len()));
            if zstd_safe::compress(&mut out, body, 3).is_err() {
                bail!("zstd");
            }
        }
        other => bail!("no coding {other}"),
    }
    Ok(out)
}

/// What a field of HTTP Basic authentication says (RFC 7617).
fn basic(name: &str, value: &str) -> Option<String> {
    let coded = value.strip_prefix("Basic ").filter(|_| name.eq_ignore_ascii_case("authorization"))?;
    Some(String::from_utf8_lossy(&BASE64.decode(coded.as_bytes()).ok()?).into_owned())
}

/// A token to whoever asks (RFC 6749, 5.1): what was asked is in what reached the server.
fn token() -> Reflection {
    let body = br#"{"access_token":"lab-access-token","token_type":"Bearer","expires_in":300}"#.to_vec();
    let fields = vec![("content-type".to_owned(), "application/json".to_owned())];
    Reflection { status: 200, fields, body, pieces: usize::MAX }
}

/// Percent-decodes a query's value.
fn decode(text: &str) -> String {
    let mut decoded = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits: String = bytes.by_ref().take(2).map(char::from).collect();
            decoded.push(u8::from_str_radix(&digits, 16).unwrap_or(b'%'));
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}
