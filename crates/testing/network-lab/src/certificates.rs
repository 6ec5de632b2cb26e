//! The certificates of the lab's servers: one CA that the lab's clients are told to trust, and one nobody trusts.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};

use crate::{
    Identity,
    spec::{LabSpec, Service},
};

/// Where the lab's CA stands.
#[derive(Debug, Clone)]
pub struct Certificates {
    bundle: PathBuf,
}

impl Certificates {
    /// The CA's certificate in PEM, for `SSL_CERT_FILE` and the like.
    pub fn bundle(&self) -> &Path {
        &self.bundle
    }

    /// The variables by which ordinary clients trust the CA at `bundle`, wherever it is mounted.
    pub fn environment(bundle: &Path) -> Vec<(String, String)> {
        let names = [
            "SSL_CERT_FILE",
            "CURL_CA_BUNDLE",
            "REQUESTS_CA_BUNDLE",
            "NODE_EXTRA_CA_CERTS",
            "GIT_SSL_CAINFO",
            "PIP_CERT",
            "CARGO_HTTP_CAINFO",
            "LAB_CA_FILE",
        ];
        names.map(|name| (name.to_owned(), bundle.display().to_string())).to_vec()
    }

    /// Makes both CAs, issues what `spec` asks for, writes the trusted one and a client's certificate to `folder`.
    pub(crate) fn issue(spec: &mut LabSpec, folder: &Path) -> Result<Self> {
        let trusted = authority("Cofferdam network lab")?;
        let untrusted = authority("Nobody trusts this")?;
        let servers = spec.host.iter_mut().chain(&mut spec.internet).chain(&mut spec.corporate);
        for server in servers {
            if let Service::Web(identity) | Service::WebHttp1(identity) | Service::WebMutual(identity) =
                &mut server.service
            {
                *identity = match identity {
                    Identity::Trusted(names) => leaf(names, &trusted)?,
                    Identity::Untrusted(names) => leaf(names, &untrusted)?,
                    Identity::Issued { .. } => continue,
                };
            }
        }
        let bundle = folder.join("ca.pem");
        std::fs::write(&bundle, trusted.pem()).with_context(|| format!("write {}", bundle.display()))?;
        if let Identity::Issued { certificate, key } = leaf(&["client.test".to_owned()], &trusted)? {
            std::fs::write(folder.join("client.pem"), certificate).context("write a client's certificate")?;
            std::fs::write(folder.join("client.key"), key).context("write a client's key")?;
        }
        Ok(Self { bundle })
    }
}

fn authority(name: &str) -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut parameters = CertificateParams::new(Vec::new())?;
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(CertifiedIssuer::self_signed(parameters, KeyPair::generate()?)?)
}

fn leaf(names: &[String], issuer: &CertifiedIssuer<'static, KeyPair>) -> Result<Identity> {
    let mut parameters = CertificateParams::new(names.to_vec())?;
    parameters.distinguished_name.push(DnType::CommonName, names.first().map_or("nobody", String::as_str));
    parameters.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = parameters.signed_by(&key, issuer)?.pem();
    Ok(Identity::Issued { certificate, key: key.serialize_pem() })
}
