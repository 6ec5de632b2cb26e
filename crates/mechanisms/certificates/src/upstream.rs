//! Whose certificates upstream are trusted, and how we present ourselves there.
//!
//! Revocation is not looked up: no list is fetched, no responder is asked.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustls::{
    ClientConfig, RootCertStore, SignatureScheme,
    client::{ResolvesClientCert, Resumption, WebPkiServerVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};

/// Why there are no roots.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// The machine has none.
    #[error(
        "this machine trusts no certificate authority: install its `ca-certificates` package, or name a bundle (SSL_CERT_FILE){because}"
    )]
    None {
        /// What was met on the way, or nothing.
        because: String,
    },
    /// The bundle can't be read.
    #[error("the certificate bundle {path} can't be read", path = path.display())]
    Read {
        /// The bundle.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The bundle is no PEM.
    #[error("the certificate bundle {path}, line {line}: {what}", path = path.display())]
    Pem {
        /// The bundle.
        path: PathBuf,
        /// Where its faulty certificate begins, from 1.
        line: usize,
        /// What is wrong there.
        what: String,
    },
    /// The bundle holds no certificate.
    #[error("the certificate bundle {path} holds no certificate (lines of `-----BEGIN CERTIFICATE-----`)", path = path.display())]
    Empty {
        /// The bundle.
        path: PathBuf,
    },
    /// The library refused them.
    #[error("the trusted certificates can't be used")]
    Verifier(#[source] rustls::client::VerifierBuilderError),
}

/// Why a client certificate can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ClientPemError {
    /// The chain is no PEM of certificates.
    #[error("the client certificate's chain is no PEM of certificates")]
    Chain(#[source] pem::Error),
    /// The key is no PEM of a private key.
    #[error("the client certificate's key is no PEM of a private key")]
    Key(#[source] pem::Error),
    /// The key can't be used, or is not the certificate's.
    #[error("the client certificate's key can't be used with it")]
    Pair(#[source] rustls::Error),
}

/// Whose certificates upstream are trusted.
#[derive(Clone)]
pub struct UpstreamRoots {
    provider: Arc<CryptoProvider>,
    verifier: Arc<WebPkiServerVerifier>,
    certificates: Arc<[CertificateDer<'static>]>,
}

impl UpstreamRoots {
    /// This machine's (`SSL_CERT_FILE` and `SSL_CERT_DIR` count). Single certificates that can't be read are left out;
    /// none at all is an error.
    pub fn system() -> Result<Self, RootsError> {
        let found = rustls_native_certs::load_native_certs();
        let because = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        Self::build(found.certs)?.ok_or(RootsError::None { because })
    }

    /// Those of a bundle, and no others. Every certificate in it must be one.
    pub fn from_bundle(path: &Path) -> Result<Self, RootsError> {
        let text = std::fs::read(path).map_err(|source| RootsError::Read { path: path.to_owned(), source })?;
        let mut certificates = Vec::new();
        for (line, section) in sections(&text) {
            let faulty = |what: String| RootsError::Pem { path: path.to_owned(), line, what };
            let certificate = CertificateDer::from_pem_slice(section).map_err(|error| faulty(pem_words(&error)))?;
            let mut alone = RootCertStore::empty();
            alone.add(certificate.clone()).map_err(|_| faulty("this is no certificate that can be read".to_owned()))?;
            certificates.push(certificate);
        }
        Self::build(certificates)?.ok_or_else(|| RootsError::Empty { path: path.to_owned() })
    }

    fn build(certificates: Vec<CertificateDer<'static>>) -> Result<Option<Self>, RootsError> {
        let mut store = RootCertStore::empty();
        if store.add_parsable_certificates(certificates.iter().cloned()).0 == 0 {
            return Ok(None);
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider.clone())
            .build()
            .map_err(RootsError::Verifier)?;
        Ok(Some(Self { provider, verifier, certificates: certificates.into() }))
    }

    /// The certificates themselves: a sandbox's bundle holds them beside ours.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// How to talk to one upstream. Keep it for as long as its sessions are to be resumed: sessions belong to the
    /// configuration that made them. `resumption` is the caller's, one for each sandbox and host, since a session says
    /// who we are. TLS 1.2 and 1.3; early data is never sent.
    pub fn client_config(
        &self,
        protocols: crate::Protocols,
        certificate: Option<&ClientCertificate>,
        resumption: Resumption,
    ) -> Result<Upstream, rustls::Error> {
        let asked = Arc::new(AtomicBool::new(false));
        let shown = certificate.map(|certificate| certificate.0.clone());
        let presented = Arc::new(Presented { asked: asked.clone(), shown });
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_webpki_verifier(self.verifier.clone())
            .with_client_cert_resolver(presented);
        config.alpn_protocols = protocols.names();
        config.resumption = resumption;
        Ok(Upstream { config: Arc::new(config), asked, shows: certificate.is_some() })
    }
}

impl fmt::Debug for UpstreamRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamRoots").field("certificates", &self.certificates.len()).finish_non_exhaustive()
    }
}

/// How to talk to one upstream.
#[derive(Debug, Clone)]
pub struct Upstream {
    config: Arc<ClientConfig>,
    asked: Arc<AtomicBool>,
    shows: bool,
}

impl Upstream {
    /// For a connection.
    pub fn config(&self) -> Arc<ClientConfig> {
        self.config.clone()
    }

    /// Whether this upstream has ever asked for a client certificate.
    pub fn asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// What an error of a connection with this upstream means.
    pub fn fault(&self, error: &rustls::Error) -> crate::Fault {
        crate::Fault::of(error, self.asked(), self.shows)
    }

    /// The same for an error of a stream; `None` where it carries none of TLS (the connection broke).
    pub fn stream_fault(&self, error: &io::Error) -> Option<crate::Fault> {
        crate::Fault::of_stream(error, self.asked(), self.shows)
    }
}

/// A certificate to show to upstreams that ask, with its key.
#[derive(Clone)]
pub struct ClientCertificate(Arc<CertifiedKey>);

impl ClientCertificate {
    /// A chain, own certificate first, and its key, both PEM.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, ClientPemError> {
        let certificates: Vec<_> =
            CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>().map_err(ClientPemError::Chain)?;
        if certificates.is_empty() {
            return Err(ClientPemError::Chain(pem::Error::NoItemsFound));
        }
        let secret = PrivateKeyDer::from_pem_slice(key).map_err(ClientPemError::Key)?;
        CertifiedKey::from_der(certificates, secret, &aws_lc_rs::default_provider())
            .map(|certified| Self(Arc::new(certified)))
            .map_err(ClientPemError::Pair)
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCertificate(..)")
    }
}

/// Shows the certificate, where there is one, and notes that somebody asked.
#[derive(Debug)]
struct Presented {
    asked: Arc<AtomicBool>,
    shown: Option<Arc<CertifiedKey>>,
}

impl ResolvesClientCert for Presented {
    fn resolve(&self, _issuers: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        self.shown.clone().filter(|shown| shown.key.choose_scheme(schemes).is_some())
    }

    fn has_certs(&self) -> bool {
        self.shown.is_some()
    }
}

/// The certificates of a bundle, each with the line it begins on; one that has no end reaches to the next or the end.
fn sections(text: &[u8]) -> Vec<(usize, &[u8])> {
    const BEGIN: &[u8] = b"-----BEGIN ";
    let mut starts = Vec::new();
    let mut at = 0;
    for (number, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        if line.starts_with(BEGIN) {
            starts.push((number + 1, at, line.starts_with(b"-----BEGIN CERTIFICATE")));
        }
        at += line.len();
    }
    let ends = starts.iter().skip(1).map(|(_, start, _)| *start).chain([text.len()]);
    let parts: Vec<_> = starts.iter().zip(ends).collect();
    parts
        .into_iter()
        .filter(|((.., certificate), _)| *certificate)
        .filter_map(|((line, start, _), end)| text.get(*start..end).map(|part| (*line, part)))
        .collect()
}

fn pem_words(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => "the certificate that begins here has no end".to_owned(),
        pem::Error::Base64Decode(_) => "the certificate that begins here is not base64".to_owned(),
        other => format!("the certificate that begins here can't be read ({other})"),
    }
}

#[cfg(test)]
mod tests;
