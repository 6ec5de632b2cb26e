//! AWS Signature Version 4 of requests and of streamed bodies. No I/O.
//!
//! What the sandbox signed with its placeholder keys is thrown away; the request is signed anew, over the host, the content's type
//! and all `x-amz-` fields, for the service and region that the policy names, and no others. A body that comes in signed
//! chunks is signed anew chunk by chunk ([`Resigner`]), with the same length, so it needs no buffer but one chunk's.
//!
//! ```text
//!  request ──▶ canonical request ──▶ string to sign ──▶ signature ──▶ Authorization
//!                                                          └────────▶ the first chunk's signature, its is the second's, …
//! ```
//!
//! Why not the `aws-sigv4` crate, which AWS keeps: it writes requests and strings to sign to the log at its lowest level,
//! leaves signing keys in memory, and has no reader of chunked bodies. The tests hold every signature against it.

/// The canonical form of a path, a query and fields.
mod canonical;
/// Bodies in signed chunks.
mod chunks;

use std::time::SystemTime;

use aws_lc_rs::{digest, hmac};
use data_encoding::HEXLOWER;
use values::Secret;
use zeroize::Zeroizing;

use crate::issued::AwsKeys;

pub(crate) use canonical::percent_decoded;
pub use chunks::{ChunkError, MOST_CHUNK, Resigner};

/// Fields that the signature replaces: those of this name are removed from the request before [`Signed::headers`] are set.
pub const REPLACED: [&str; 5] = ["authorization", "date", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token"];

const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
const STREAMING: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
const STREAMING_TRAILER: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";
const STREAMING_UNSIGNED_TRAILER: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";

/// A request as it goes out, without its body.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a str,
    /// The path as it stands on the wire, without the query.
    pub path: &'a str,
    /// The query as it stands on the wire, without `?`.
    pub query: Option<&'a str>,
    /// All its fields, `host` among them (HTTP/2's `:authority` as `host`). Those of [`REPLACED`] don't count.
    pub headers: &'a [(&'a str, &'a [u8])],
}

/// What a signature is good for.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The service: `s3`, `sts`, `execute-api`.
    pub service: &'a str,
    /// The region.
    pub region: &'a str,
}

/// What is said of the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// Its SHA-256.
    Sha256([u8; 32]),
    /// Nothing; TLS alone protects it. S3 takes this.
    Unsigned,
    /// Its chunks are signed one by one.
    Streaming,
    /// Its chunks and the fields behind them are signed one by one.
    StreamingTrailer,
    /// Nothing, and a checksum stands behind it.
    StreamingUnsignedTrailer,
}

impl Payload {
    /// Of a whole body.
    pub fn of_body(body: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, body).as_ref());
        Self::Sha256(hash)
    }

    /// What a client said in `x-amz-content-sha256`. The server holds the body against it, as it does against ours. None where
    /// it is no such word; the asymmetric forms are none that we can sign.
    pub fn of_field(value: &[u8]) -> Option<Self> {
        match std::str::from_utf8(value).ok()?.trim() {
            UNSIGNED => Some(Self::Unsigned),
            STREAMING => Some(Self::Streaming),
            STREAMING_TRAILER => Some(Self::StreamingTrailer),
            STREAMING_UNSIGNED_TRAILER => Some(Self::StreamingUnsignedTrailer),
            hash => {
                let hash = data_encoding::HEXLOWER_PERMISSIVE.decode(hash.as_bytes()).ok()?;
                Some(Self::Sha256(hash.try_into().ok()?))
            }
        }
    }

    fn word(&self) -> String {
        match self {
            Self::Sha256(hash) => HEXLOWER.encode(hash),
            Self::Unsigned => UNSIGNED.to_owned(),
            Self::Streaming => STREAMING.to_owned(),
            Self::StreamingTrailer => STREAMING_TRAILER.to_owned(),
            Self::StreamingUnsignedTrailer => STREAMING_UNSIGNED_TRAILER.to_owned(),
        }
    }
}

/// Why a request can't be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// It has no host.
    #[error("the request has no host")]
    Host,
    /// It carries another's signature in its query.
    #[error("the request carries a signature in its query (a presigned URL)")]
    Presigned,
    /// The keys can't be sent.
    #[error("the AWS keys are not of the form that keys have")]
    Keys,
    /// The clock is far off.
    #[error("this machine's clock has no date that AWS takes")]
    Time,
}

/// A signature, as fields to set and as what the first chunk's is made from.
#[derive(Debug)]
pub struct Signed {
    /// The fields to set, after those of [`REPLACED`] were removed.
    pub headers: Vec<(&'static str, Secret)>,
    /// Signs the body anew, where it comes in signed chunks.
    pub resigner: Option<Resigner>,
}

/// Signs a request for now.
pub fn sign(
    request: &Request<'_>,
    payload: &Payload,
    keys: &AwsKeys,
    scope: &Scope<'_>,
    now: SystemTime,
) -> Result<Signed, SignError> {
    if canonical::is_presigned(request.query.unwrap_or_default()) {
        return Err(SignError::Presigned);
    }
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
    let token = keys.session_token.as_ref().map(|token| token.expose_str().filter(|token| plain(token)));
    let Some(token) = token.map_or(Some(None), |token| token.map(Some)).filter(|_| plain(&keys.access_key_id)) else {
        return Err(SignError::Keys);
    };
    let time = jiff::Timestamp::try_from(now).map_err(|_| SignError::Time)?.strftime("%Y%m%dT%H%M%SZ").to_string();
    let day = time.get(..8).filter(|_| time.len() == 16).ok_or(SignError::Time)?;
    let word = payload.word();
    let is_s3 = scope.service.starts_with("s3");
    let mut own: Vec<(&'static str, &str)> = vec![("x-amz-date", &time)];
    // S3 wants to be told what was signed; elsewhere it is told where something other than the hash was.
    if is_s3 || !matches!(payload, Payload::Sha256(_)) {
        own.push(("x-amz-content-sha256", &word));
    }
    own.extend(token.map(|token| ("x-amz-security-token", token)));

    let (names, fields) = canonical::fields(request.headers, &own).ok_or(SignError::Host)?;
    let path = canonical::path(request.path, is_s3);
    let query = canonical::query(request.query.unwrap_or_default());
    // The session token stands in it, so it is wiped.
    let canonical = Zeroizing::new(format!("{}\n{path}\n{query}\n{}\n{names}\n{word}", request.method, &*fields));
    let credential = format!("{day}/{}/{}/aws4_request", scope.region, scope.service);
    let hash = sha256_hex(canonical.as_bytes());
    let key = signing_key(keys, day, scope);
    let signature = hmac_hex(&key, format!("AWS4-HMAC-SHA256\n{time}\n{credential}\n{hash}").as_bytes());
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{credential}, SignedHeaders={names}, Signature={signature}",
        keys.access_key_id
    );
    let mut headers: Vec<(&'static str, Secret)> = vec![("authorization", Secret::from(authorization))];
    headers.extend(own.into_iter().map(|(name, value)| (name, Secret::from(value.to_owned()))));
    let resigner = match payload {
        Payload::Streaming => Some(Resigner::new(key, time, credential, signature, false)),
        Payload::StreamingTrailer => Some(Resigner::new(key, time, credential, signature, true)),
        Payload::Sha256(_) | Payload::Unsigned | Payload::StreamingUnsignedTrailer => None,
    };
    Ok(Signed { headers, resigner })
}

fn signing_key(keys: &AwsKeys, day: &str, scope: &Scope<'_>) -> hmac::Key {
    let mut key = Zeroizing::new([b"AWS4", keys.secret_access_key.expose()].concat());
    for part in [day, scope.region, scope.service, "aws4_request"] {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), part.as_bytes());
        key = Zeroizing::new(tag.as_ref().to_vec());
    }
    hmac::Key::new(hmac::HMAC_SHA256, &key)
}

fn hmac_hex(key: &hmac::Key, text: &[u8]) -> String {
    HEXLOWER.encode(hmac::sign(key, text).as_ref())
}

fn sha256_hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(digest::digest(&digest::SHA256, bytes).as_ref())
}

#[cfg(test)]
mod tests;
