//! A private key on P-256: it signs, it can't be printed, and its serialised form is wiped when it is dropped.
//! (The copy that the cryptography library works with is wiped by that library when it frees it.)

use std::fmt;

use data_encoding::BASE64;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SerialNumber, SignatureAlgorithm, SigningKey};
use rustls::pki_types::PrivatePkcs8KeyDer;
use zeroize::{Zeroize as _, Zeroizing};

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----\n";
const END: &str = "-----END PRIVATE KEY-----\n";
/// What fits on a line of PEM.
const LINE: usize = 64;

pub(crate) struct SecretKey(KeyPair);

impl SecretKey {
    pub(crate) fn generate() -> Result<Self, rcgen::Error> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map(Self)
    }

    /// Reads PKCS #8; refuses any other kind of key than P-256.
    pub(crate) fn from_pkcs8(der: &[u8]) -> Result<Self, rcgen::Error> {
        KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(der), &PKCS_ECDSA_P256_SHA256).map(Self)
    }

    pub(crate) fn pkcs8(&self) -> &[u8] {
        self.0.serialized_der()
    }

    /// Written without a copy that outlives this.
    pub(crate) fn pem(&self) -> Zeroizing<String> {
        let encoded = Zeroizing::new(BASE64.encode(self.pkcs8()));
        let mut pem = Zeroizing::new(String::with_capacity(BEGIN.len() + END.len() + 2 * encoded.len()));
        pem.push_str(BEGIN);
        let mut rest = encoded.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(LINE));
            pem.push_str(line);
            pem.push('\n');
            rest = after;
        }
        pem.push_str(END);
        pem
    }
}

impl Drop for SecretKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

impl PublicKeyData for SecretKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl SigningKey for SecretKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message)
    }
}

/// A number that no other certificate of the same signer has: all leaves share one key, and clients (NSS) refuse a
/// second certificate of one issuer with the same number.
pub(crate) fn serial_number() -> Result<SerialNumber, rcgen::Error> {
    let mut bytes = random::<16>()?;
    // Positive, and not shortened by a leading zero.
    if let Some(first) = bytes.first_mut() {
        *first = (*first & 0x7f) | 0x40;
    }
    Ok(SerialNumber::from_slice(&bytes))
}

pub(crate) fn random<const N: usize>() -> Result<[u8; N], rcgen::Error> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| rcgen::Error::RingUnspecified)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use rcgen::PublicKeyData as _;
    use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};

    use super::SecretKey;

    #[test]
    fn a_key_reads_back_from_its_pem_and_is_never_printed() {
        let key = SecretKey::generate().unwrap();
        let read = PrivatePkcs8KeyDer::from_pem_slice(key.pem().as_bytes()).unwrap();
        let again = SecretKey::from_pkcs8(read.secret_pkcs8_der()).unwrap();
        assert_eq!(again.der_bytes(), key.der_bytes());
        assert!(key.pem().lines().all(|line| line.len() <= 64));
        assert_eq!(format!("{key:?}"), "SecretKey(..)");
    }
}
