//! Fields that may be erased later without breaking the chain.
//!
//! Four fields can hold what somebody may have to delete: a secret typed on a command line, a person's name in a
//! path, the name of who answered. Everything that says *what was decided and why* (rule, verdict, destination,
//! reason) is not erasable: erasing it would be editing.
//!
//! In the hashed form an erasable value stands as `{"sha256":"…"}`, the SHA-256 of a salt of its own and the
//! value's RFC 8785 form. The salt stands on the line under `salts`, so whoever has the value can check the digest:
//!
//! ```text
//! "process":{"pid":7,"exe":"/usr/bin/curl","args":"curl -u jo:secret …"}, … ,"salts":{"process.args":"9f…"}
//! ```
//!
//! Erasing sets the value to `null` and puts the digest in the salt's place, under `digests`; the hash stays what it was:
//!
//! ```text
//! "process":{"pid":7,"exe":"/usr/bin/curl","args":null}, … ,"digests":{"process.args":"41…"}
//! ```
//!
//! Each field of each line has its own salt, derived from a key that only the writer's memory holds. When the salt
//! is gone the value can't be guessed from its digest, not even a short one, and no other line helps.
//! An object in the place of a text can't be mistaken for a text, so a field that is not erasable can't be "erased".

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::{
    canonical::{parse_object, push_canonical},
    json_text::{from_hex, hex, push_hex},
};

/// The line's field with the salts of what is there.
pub(crate) const SALTS: &str = "salts";
/// The line's field with the digests of what was erased.
pub(crate) const DIGESTS: &str = "digests";

/// Every erasable field, as `object.field` or `field`.
pub const ERASABLE: [&str; 4] = ["by", "command", "http.path", "process.args"];

/// Sixteen random bytes beside a value before it is hashed.
pub(crate) type Salt = [u8; 16];

/// What one writer derives its salts from. Random; never written down.
#[derive(Clone)]
pub struct SaltKey([u8; 32]);

impl SaltKey {
    /// A key from 32 bytes of a secure random source.
    pub fn from_random(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) fn salt(&self, seq: u64, path: &str) -> Salt {
        let hash = Sha256::new().chain_update(self.0).chain_update(seq.to_be_bytes()).chain_update(path).finalize();
        let mut salt = [0; 16];
        for (to, from) in salt.iter_mut().zip(hash) {
            *to = from;
        }
        salt
    }
}

impl std::fmt::Debug for SaltKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SaltKey(…)")
    }
}

/// The path of an erasable field, or nothing.
pub(crate) fn path(parent: &str, name: &str) -> Option<&'static str> {
    match (parent, name) {
        ("", "by") => Some("by"),
        ("", "command") => Some("command"),
        ("http", "path") => Some("http.path"),
        ("process", "args") => Some("process.args"),
        _ => None,
    }
}

/// The digest of a value's canonical text.
pub(crate) fn digest(salt: &Salt, canonical: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(salt).chain_update(canonical).finalize().into()
}

/// Appends what stands for the value in the hashed form.
pub(crate) fn push_stand_in(out: &mut Vec<u8>, digest: &[u8; 32]) {
    out.extend_from_slice(b"{\"sha256\":\"");
    push_hex(out, digest);
    out.extend_from_slice(b"\"}");
}

/// Why a field can't be erased.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    /// The line can't be read.
    #[error("not an event: {0}")]
    Line(#[source] serde_json::Error),
    /// The line has no such field, or it isn't erasable, or it is erased already.
    #[error("the line has nothing to erase at {path:?}; erasable are {}", ERASABLE.join(", "))]
    Nothing {
        /// The path that was asked for.
        path: String,
    },
}

/// Erases one field of a line: the value and its salt go, the digest stays, and the chain holds.
pub fn erase(line: &str, path: &str) -> Result<String, EraseError> {
    let mut object = parse_object(line.trim_end().as_bytes()).map_err(EraseError::Line)?;
    let nothing = || EraseError::Nothing { path: path.to_owned() };
    let salts = object.get_mut(SALTS).and_then(Value::as_object_mut).ok_or_else(nothing)?;
    let salt = salts.remove(path).as_ref().and_then(Value::as_str).and_then(from_hex).ok_or_else(nothing)?;
    if salts.is_empty() {
        object.remove(SALTS);
    }
    let field = match path.split_once('.') {
        None => object.get_mut(path),
        Some((outer, inner)) => object.get_mut(outer).and_then(|object| object.get_mut(inner)),
    };
    let value = field.ok_or_else(nothing)?.take();
    let mut canonical = Vec::new();
    push_canonical(&mut canonical, path, &value, &|_, _, _| false);
    let digest = hex(&digest(&salt, &canonical));
    let digests = object.entry(DIGESTS).or_insert_with(|| Value::Object(Map::new()));
    digests.as_object_mut().ok_or_else(nothing)?.insert(path.to_owned(), Value::String(digest));
    Ok(Value::Object(object).to_string())
}
