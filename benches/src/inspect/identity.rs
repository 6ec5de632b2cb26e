//! Certificates of a benchmark: the origin's authority, and one for those who open TLS and can't make their own.
//!
//! All of them are made anew for each run, in its own folder.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256, RsaKeySize,
};

/// The origin's name.
pub const NAME: &str = "origin.test";

/// Where they are.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Who signed the origin's certificate: what clients and proxies trust.
    pub roots: PathBuf,
    /// The origin's certificate and key.
    pub origin: PathBuf,
    /// An authority's certificate, for clients.
    pub bump_roots: PathBuf,
    /// The same with its key. RSA, as proxies' manuals have it.
    pub bump: PathBuf,
}

impl Identity {
    /// Makes them.
    pub fn make(folder: &Path) -> Result<Identity> {
        let file = |name: &str| folder.join(name);
        let identity = Identity {
            roots: file("roots.pem"),
            origin: file("origin.pem"),
            bump_roots: file("bump-roots.pem"),
            bump: file("bump.pem"),
        };
        let key = KeyPair::generate()?;
        let (signer, certificate) = authority("Benchmark origin authority", key)?;
        fs::write(&identity.roots, certificate)?;
        let key = KeyPair::generate()?;
        let leaf = CertificateParams::new(vec![NAME.to_owned()])?.signed_by(&key, &signer)?;
        fs::write(&identity.origin, leaf.pem() + &key.serialize_pem())?;

        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
        let private = key.serialize_pem();
        let (_, certificate) = authority("Benchmark bump authority", key)?;
        fs::write(&identity.bump_roots, &certificate)?;
        fs::write(&identity.bump, certificate + &private)?;
        Ok(identity)
    }
}

fn authority(name: &str, key: KeyPair) -> Result<(Issuer<'static, KeyPair>, String)> {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = parameters.self_signed(&key)?.pem();
    Ok((Issuer::new(parameters, key), certificate))
}
