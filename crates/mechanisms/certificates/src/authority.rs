//! The installation's CA.
//!
//! Its key and its certificate stand in one file, so that they can't be out of step. The file is 0600 in a folder that is
//! 0700, and has no other name; that is checked each time. Two processes that create it at once get the same.
//!
//! It signs nothing but issuers ([`Authority::issuer`]). Whoever holds one opened goes on with its key when the file has
//! another, or is gone. Nobody is told to trust a former key: what it was replaced for may be that others have it.

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

/// The file's name in its folder.
pub use folder::FILE as AUTHORITY_FILE;
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
    /// There is something else in the folder's place.
    #[error("{path} is a symbolic link or no folder: remove it, or move the folder that it leads to here", path = path.display())]
    NoFolder {
        /// The folder.
        path: PathBuf,
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
    subject: String,
    validity: Validity,
}

impl Authority {
    /// Opens the authority in `folder`; makes it where there is none, and rotates it where it is about to end.
    pub fn open_or_create(folder: &Path, now: SystemTime) -> Result<Self, AuthorityError> {
        let private = Folder::open_or_create(folder)?;
        let mut authority = match private.read()? {
            Some(content) => Self::read(folder, &private, &content)?,
            None => Self::create(folder, &private, now)?,
        };
        if authority.is_due(now) {
            match authority.replace(&private, now, Self::is_due) {
                Ok(()) => {}
                // The other process's is opened next time; ours still holds.
                Err(AuthorityError::Busy { .. }) if authority.validity.holds(now) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(authority)
    }

    /// Opens the authority in `folder` as it is; nothing where there is none.
    pub fn open(folder: &Path) -> Result<Option<Self>, AuthorityError> {
        let Some(private) = Folder::open(folder)? else { return Ok(None) };
        private.read()?.map(|content| Self::read(folder, &private, &content)).transpose()
    }

    /// Removes the authority in `folder`, whatever state it is in, and the folder with it where nothing else is there.
    /// Whether there was one.
    pub fn remove(folder: &Path) -> Result<bool, AuthorityError> {
        Folder::remove(folder)
    }

    /// Makes a new key and certificate in place of the old.
    pub fn rotate(&mut self, now: SystemTime) -> Result<(), AuthorityError> {
        let private = Folder::open_or_create(&self.folder)?;
        self.replace(&private, now, |_, _| true)
    }

    /// An issuer for one run, signed by this authority, for `scope`.
    pub fn issuer(&self, scope: Scope, now: SystemTime) -> Result<Issuer, IssueError> {
        let signer = rcgen::Issuer::from_ca_cert_der(&self.certificate, &self.key)?;
        Issuer::signed_by(&signer, self.validity, self.certificate.clone(), scope, now)
    }

    /// What clients are to trust.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Whose certificate it is, as a certificate says it: `CN=Cofferdam HOST ID`.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The file of its key and certificate.
    pub fn file(&self) -> PathBuf {
        self.folder.join(AUTHORITY_FILE)
    }

    /// From when its certificate holds.
    pub fn begins(&self) -> SystemTime {
        self.validity.from
    }

    /// When its certificate ends.
    pub fn ends(&self) -> SystemTime {
        self.validity.until
    }

    /// Replaces it, where what stands in the file now is still to be replaced: another process may have been first.
    fn replace(
        &mut self,
        private: &Folder,
        now: SystemTime,
        due: fn(&Self, SystemTime) -> bool,
    ) -> Result<(), AuthorityError> {
        private.lock()?;
        let found = private.read()?.map(|content| Self::read(&self.folder, private, &content)).transpose()?;
        *self = match found {
            Some(found) if !due(&found, now) => found,
            _ => {
                let new = Self::generate(&self.folder, now)?;
                private.replace(new.written().as_bytes())?;
                new
            }
        };
        Ok(())
    }

    fn is_due(&self, now: SystemTime) -> bool {
        self.validity.left(now) < RENEWED_BEFORE
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
        let name = installation_name()?;
        let subject = format!("CN={name}");
        parameters.distinguished_name.push(DnType::CommonName, name);
        // One issuer below it, which signs leaves and nothing else.
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = parameters.self_signed(&key).map_err(AuthorityError::Make)?.into();
        Ok(Self { folder: folder.to_owned(), key, certificate, subject, validity })
    }

    fn written(&self) -> Zeroizing<String> {
        let mut text = self.key.pem();
        let certificates = trust::pem([&self.certificate]);
        // Made whole first: a string that grows leaves its old bytes behind.
        let mut whole = Zeroizing::new(String::with_capacity(text.len() + certificates.len()));
        whole.push_str(&text);
        whole.push_str(&certificates);
        text.zeroize();
        whole
    }

    fn read(folder: &Path, private: &Folder, content: &[u8]) -> Result<Self, AuthorityError> {
        let damaged = |what| AuthorityError::Damaged { path: private.file(), what };
        let (mut key, mut certificate) = (None, None);
        for section in <(SectionKind, Vec<u8>) as PemObject>::pem_slice_iter(content) {
            let (kind, der) = section.map_err(|_| damaged("it is not PEM"))?;
            match kind {
                SectionKind::PrivateKey if key.is_none() => key = Some(Zeroizing::new(der)),
                SectionKind::Certificate if certificate.is_none() => certificate = Some(CertificateDer::from(der)),
                _ => return Err(damaged("it holds more than one key and its certificate")),
            }
        }
        let key = key.ok_or_else(|| damaged("it holds no key"))?;
        let key = PrivatePkcs8KeyDer::from(key.as_slice());
        let key = SecretKey::from_pkcs8(key.secret_pkcs8_der()).map_err(|_| damaged("its key is not one of P-256"))?;
        let certificate = certificate.ok_or_else(|| damaged("it holds no certificate"))?;
        let (validity, subject, public) =
            read_certificate(&certificate).ok_or_else(|| damaged("its certificate can't be read"))?;
        if public != key.subject_public_key_info() {
            return Err(damaged("its certificate is for another key"));
        }
        Ok(Self { folder: folder.to_owned(), key, certificate, subject, validity })
    }
}

/// A CA certificate's time, subject and public key; `None` for what is no CA certificate.
fn read_certificate(der: &CertificateDer<'_>) -> Option<(Validity, String, Vec<u8>)> {
    let (rest, read) = X509Certificate::from_der(der).ok()?;
    if !rest.is_empty() || !read.is_ca() {
        return None;
    }
    let (from, until) = (read.validity().not_before.timestamp(), read.validity().not_after.timestamp());
    let validity = Validity { from: from_unix(from), until: from_unix(until) };
    Some((validity, read.subject().to_string(), read.public_key().raw.to_vec()))
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
