//! What is handed out: the secret, when it ends, and what a record may say of it.

use std::{fmt, time::SystemTime};

use aws_lc_rs::{digest, hmac, rand};
use values::Secret;

/// A secret that may be used now.
#[derive(Debug)]
pub struct Issued {
    /// The secret.
    pub material: Material,
    /// What records may say of it.
    pub id: TokenId,
    /// When it ends; none where it lives until somebody changes it.
    pub expires: Option<SystemTime>,
}

/// The forms of a secret.
#[derive(Debug)]
pub enum Material {
    /// A token, a password, a key.
    Text(Secret),
    /// AWS keys, to sign with.
    Aws(AwsKeys),
    /// A client certificate and its key.
    Certificate {
        /// The chain, PEM, its end first.
        chain_pem: Vec<u8>,
        /// The key, PEM.
        key_pem: Secret,
    },
}

/// AWS keys.
#[derive(Debug)]
pub struct AwsKeys {
    /// `AKIA…` or `ASIA…`; no secret.
    pub access_key_id: String,
    /// The secret access key.
    pub secret_access_key: Secret,
    /// The session token of short-lived keys.
    pub session_token: Option<Secret>,
}

/// Stands for a secret in records: equal in one run exactly where the secret is, and of no use for guessing it, because the
/// key of the hash is random and never leaves the process.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenId(String);

impl TokenId {
    /// Sixteen hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The run's key for [`TokenId`]s.
pub(crate) struct TokenKey(hmac::Key);

impl TokenKey {
    /// A new random key; an error only where the machine has no randomness.
    pub(crate) fn random() -> Result<Self, aws_lc_rs::error::Unspecified> {
        let mut bytes = zeroize::Zeroizing::new([0; 32]);
        rand::fill(&mut bytes[..])?;
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes[..])))
    }

    /// What records may say of this secret.
    pub(crate) fn id(&self, material: &Material) -> TokenId {
        let mut context = hmac::Context::with_key(&self.0);
        let mut part = |bytes: &[u8]| {
            context.update(&(bytes.len() as u64).to_be_bytes());
            context.update(bytes);
        };
        match material {
            Material::Text(secret) => part(secret.expose()),
            Material::Aws(keys) => {
                part(keys.access_key_id.as_bytes());
                part(keys.secret_access_key.expose());
                part(keys.session_token.as_ref().map_or(&[][..], Secret::expose));
            }
            Material::Certificate { chain_pem, key_pem } => {
                part(digest::digest(&digest::SHA256, chain_pem).as_ref());
                part(key_pem.expose());
            }
        }
        let tag = context.sign();
        TokenId(data_encoding::HEXLOWER.encode(tag.as_ref().get(..8).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Material {
        Material::Text(Secret::from(value.to_owned()))
    }

    #[test]
    fn an_id_is_the_secrets_own_in_one_run_and_another_in_the_next() -> Result<(), aws_lc_rs::error::Unspecified> {
        let run = TokenKey::random()?;
        assert_eq!(run.id(&text("a")), run.id(&text("a")));
        assert_ne!(run.id(&text("a")), run.id(&text("b")));
        assert_ne!(run.id(&text("a")), TokenKey::random()?.id(&text("a")));
        assert_eq!(run.id(&text("a")).as_str().len(), 16);
        Ok(())
    }

    #[test]
    fn the_parts_of_keys_do_not_run_together() -> Result<(), aws_lc_rs::error::Unspecified> {
        let run = TokenKey::random()?;
        let keys = |id: &str, secret: &str| {
            Material::Aws(AwsKeys {
                access_key_id: id.to_owned(),
                secret_access_key: Secret::from(secret.to_owned()),
                session_token: None,
            })
        };
        assert_ne!(run.id(&keys("ab", "c")), run.id(&keys("a", "bc")));
        Ok(())
    }

    #[test]
    fn nothing_printed_holds_a_value() -> Result<(), aws_lc_rs::error::Unspecified> {
        let material = text("canary-1c9e");
        let issued = Issued { id: TokenKey::random()?.id(&material), material, expires: None };
        assert!(!format!("{issued:?} {}", issued.id).contains("canary"));
        Ok(())
    }
}
