//! Signed statements of who we are (JSON Web Tokens, RS256): Google's service accounts and GitHub's Apps want them.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use data_encoding::BASE64URL_NOPAD;
use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
use serde::Serialize;
use serde_json::json;
use values::Secret;

/// A statement signed with an RSA key in PEM (PKCS #1 or #8); what is wrong with the key otherwise.
pub(crate) fn rs256(key_pem: &Secret, key_id: Option<&str>, claims: &impl Serialize) -> Result<Secret, &'static str> {
    let key = PrivateKeyDer::from_pem_slice(key_pem.expose()).map_err(|_| "the private key is no unencrypted PEM")?;
    let pair = match &key {
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
        // The library may come to know more forms; RSA keys have these two.
        _ => return Err("the private key is no RSA key"),
    };
    let pair = pair.map_err(|_| "the private key is no RSA key of 2048 bits or more")?;
    let header = match key_id {
        Some(key_id) => json!({"alg": "RS256", "typ": "JWT", "kid": key_id}),
        None => json!({"alg": "RS256", "typ": "JWT"}),
    };
    let part = |value: serde_json::Result<Vec<u8>>| value.map(|json| BASE64URL_NOPAD.encode(&json));
    let unwritten = |_| "the statement can't be written";
    let header = part(serde_json::to_vec(&header)).map_err(unwritten)?;
    let claims = part(serde_json::to_vec(claims)).map_err(unwritten)?;
    let mut token = format!("{header}.{claims}");
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), token.as_bytes(), &mut signature)
        .map_err(|_| "the private key can't sign")?;
    token.push('.');
    token.push_str(&BASE64URL_NOPAD.encode(&signature));
    Ok(Secret::from(token))
}
