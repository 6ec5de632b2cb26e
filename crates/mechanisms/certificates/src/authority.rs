//! The installation's CA.
//!
//! Its key and its certificates stand in one file, so that they can't be out of step: the key, the certificate that
//! it signs with, and those of former keys that have not ended. The file is 0600 in a folder that is 0700; both are
//! checked each time. Two processes that create it at once get the same.
//!
//! It signs nothing but issuers ([`Authority::issuer`]): drop it when the run has one, and its key is out of memory.

use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use data_encoding::HEXLOWER;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyUsagePurpose, PublicKeyData as _};
use rustls::pki_types::{
    CertificateDer, PrivatePkcs8KeyDer,
    pem::{PemObject, SectionKind},
};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use zeroize::{Zeroize as _, Zeroizing};

use crate::{
    issuer::{IssueError, Issuer, Scope},
    key::{SecretKey, random, serial_number},
    trust,
    validity::{Validity, from_unix},
};

/// The folder and the file.
mod folder;

use folder::Folder;

/// How long the installation's certificate holds.
const LIFE: Duration = Duration::from_secs(397 * 24 * 60 * 60);
/// An authority with less than this left is rotated when it is opened.
const RENEWED_BEFORE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How much of the host's name stands in the certificate's (a name has at most 64 characters).
const HOST_NAME: usize = 32;

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The folder or file belongs to somebody else, who could have put a key of theirs there.
    #[error("{path} belongs to user {owner}, not to you (user {us}): remove it or run `chown {us} {path}`", path = path.display())]
    Owner {
        /// The folder or file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        us: u32,
    },
    /// Others may enter the folder or read the file.
    #[error("{path} can be used by others (mode {mode:o}): if nobody else had the key, run `chmod {wanted} {path}`; if in doubt, remove it and a new one is made", path = path.display())]
    Open {
        /// The folder or file.
        path: PathBuf,
        /// Its rights.
        mode: u32,
        /// The rights it should have.
        wanted: &'static str,
    },
    /// The file is not as it was written.
    #[error("{path} can't be used: {what}; remove it and a new one is made", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// Another process rotates it.
    #[error("another process is rotating the certificate authority in {path}: try again when it is done", path = path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// Reading or writing failed.
    #[error("{path} can't be read or written", path = path.display())]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The clock shows a time that no certificate can hold.
    #[error("the clock shows a time that no certificate can hold")]
    Clock,
    /// Making the key or signing failed.
    #[error("the certificate authority can't be made")]
    Make(#[source] rcgen::Error),
}

/// The installation's CA, opened.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
    key: SecretKey,
    certificate: CertificateDer<'static>,
    validity: Validity,
    /// Of former keys, newest first.
    former: Vec<CertificateDer<'static>>,
}

impl Authority {
    /// Opens the authority in `folder`; makes it where there is none, and rotates it where it is about to end.
    pub fn open_or_create(folder: &Path, now: SystemTime) -> Result<Self, AuthorityError> {
        let private = Folder::open_or_create(folder)?;
        let mut authority = match private.read()? {
            Some(content) => Self::read(folder, &private, &content)?,
            None => Self::create(folder, &private, now)?,
        };
        if authority.validity.left(now) < RENEWED_BEFORE {
            match authority.rotate(now) {
                Ok(()) => {}
                // The other process's is opened next time; ours still holds.
                Err(AuthorityError::Busy { .. }) if authority.validity.holds(now) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(authority)
    }

    /// Makes a new key and certificate. The old certificate stays among the trusted until it ends, so what was signed
    /// under it goes on being trusted.
    pub fn rotate(&mut self, now: SystemTime) -> Result<(), AuthorityError> {
        let private = Folder::open_or_create(&self.folder)?;
        private.lock()?;
        // What stands there now counts: another process may have rotated since we opened it.
        if let Some(content) = private.read()? {
            *self = Self::read(&self.folder, &private, &content)?;
        }
        let mut new = Self::generate(&self.folder, now)?;
        new.former = self.trusted(now);
        private.replace(new.written().as_bytes())?;
        *self = new;
        Ok(())
    }

    /// An issuer for one run, signed by this authority, for `scope`.
    pub fn issuer(&self, scope: Scope, now: SystemTime) -> Result<Issuer, IssueError> {
        let signer = rcgen::Issuer::from_ca_cert_der(&self.certificate, &self.key)?;
        Issuer::signed_by(&signer, self.validity, self.trusted(now), scope, now)
    }

    /// What clients are to trust: the certificate, and former ones that have not ended.
    pub fn trusted(&self, now: SystemTime) -> Vec<CertificateDer<'static>> {
        let holds = |der: &&CertificateDer<'static>| {
            read_certificate(der).is_some_and(|read| read.0.left(now) > Duration::ZERO)
        };
        [&self.certificate].into_iter().chain(&self.former).filter(holds).cloned().collect()
    }

    /// When its certificate ends.
    pub fn ends(&self) -> SystemTime {
        self.validity.until
    }

    fn create(folder: &Path, private: &Folder, now: SystemTime) -> Result<Self, AuthorityError> {
        let made = Self::generate(folder, now)?;
        if private.create(made.written().as_bytes())? {
            return Ok(made);
        }
        let gone = || AuthorityError::Damaged { path: private.file(), what: "it appears and vanishes" };
        let content = private.read()?.ok_or_else(gone)?;
        Self::read(folder, private, &content)
    }

    fn generate(folder: &Path, now: SystemTime) -> Result<Self, AuthorityError> {
        let key = SecretKey::generate().map_err(AuthorityError::Make)?;
        let validity = Validity::new(now, LIFE, None);
        let mut parameters = CertificateParams::default();
        (parameters.not_before, parameters.not_after) = validity.written().ok_or(AuthorityError::Clock)?;
        parameters.serial_number = Some(serial_number().map_err(AuthorityError::Make)?);
        parameters.distinguished_name.push(DnType::CommonName, installation_name()?);
        // One issuer below it, which signs leaves and nothing else.
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = parameters.self_signed(&key).map_err(AuthorityError::Make)?.into();
        Ok(Self { folder: folder.to_owned(), key, certificate, validity, former: Vec::new() })
    }

    fn written(&self) -> Zeroizing<String> {
        let mut text = self.key.pem();
        let certificates = trust::pem([&self.certificate].into_iter().chain(&self.former));
        // Made whole first: a string that grows leaves its old bytes behind.
        let mut whole = Zeroizing::new(String::with_capacity(text.len() + certificates.len()));
        whole.push_str(&text);
        whole.push_str(&certificates);
        text.zeroize();
        whole
    }

    fn read(folder: &Path, private: &Folder, content: &[u8]) -> Result<Self, AuthorityError> {
        let damaged = |what| AuthorityError::Damaged { path: private.file(), what };
        let mut key = None;
        let mut certificates = Vec::new();
        for section in <(SectionKind, Vec<u8>) as PemObject>::pem_slice_iter(content) {
            let (kind, der) = section.map_err(|_| damaged("it is not PEM"))?;
            match kind {
                SectionKind::PrivateKey if key.is_none() => key = Some(Zeroizing::new(der)),
                SectionKind::Certificate => certificates.push(CertificateDer::from(der)),
                _ => return Err(damaged("it holds more than one key and certificates")),
            }
        }
        let key = key.ok_or_else(|| damaged("it holds no key"))?;
        let key = PrivatePkcs8KeyDer::from(key.as_slice());
        let key = SecretKey::from_pkcs8(key.secret_pkcs8_der()).map_err(|_| damaged("its key is not one of P-256"))?;
        if certificates.is_empty() {
            return Err(damaged("it holds no certificate"));
        }
        let former = certificates.split_off(1);
        let certificate = certificates.pop().ok_or_else(|| damaged("it holds no certificate"))?;
        let (validity, public) =
            read_certificate(&certificate).ok_or_else(|| damaged("its certificate can't be read"))?;
        if public != key.subject_public_key_info() {
            return Err(damaged("its certificate is for another key"));
        }
        Ok(Self { folder: folder.to_owned(), key, certificate, validity, former })
    }
}

/// A CA certificate's time and public key; `None` for what is no CA certificate.
fn read_certificate(der: &CertificateDer<'_>) -> Option<(Validity, Vec<u8>)> {
    let (rest, read) = X509Certificate::from_der(der).ok()?;
    if !rest.is_empty() || !read.is_ca() {
        return None;
    }
    let (from, until) = (read.validity().not_before.timestamp(), read.validity().not_after.timestamp());
    Some((Validity { from: from_unix(from), until: from_unix(until) }, read.public_key().raw.to_vec()))
}

/// `Cofferdam HOST ID`: whose certificate it is, for a person who meets it in a trust store.
fn installation_name() -> Result<String, AuthorityError> {
    let system = rustix::system::uname();
    let host: String = system
        .nodename()
        .to_string_lossy()
        .chars()
        .filter(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.'))
        .take(HOST_NAME)
        .collect();
    let id = HEXLOWER.encode(&random::<4>().map_err(AuthorityError::Make)?);
    Ok(format!("Cofferdam {host} {id}"))
}
