//! What a sandbox is given so that ordinary clients trust the certificates that we sign: files, variables, and which
//! of the system's own files to cover. Data and pure functions; mounting and passing them is the program's.
//!
//! Two means, since neither reaches all clients. The system's own bundles are covered with one that also holds our
//! anchors: that reaches whatever reads the system's store, with an empty environment too. Variables reach the clients
//! that bring a store of their own. A client that does neither (a browser's own store, a pinned certificate) refuses
//! us, and its hosts need a rule that passes them through.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use data_encoding::BASE64;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};

/// A trust store that Java reads.
mod java;
/// The variables, which programs read them, and where that is written.
mod variables;

pub use java::{PASSWORD as JAVA_PASSWORD, store as java_store};
pub use variables::{VARIABLES, Value, Variable};

/// Certificates as PEM, one after the other.
pub fn pem<'a>(certificates: impl IntoIterator<Item = &'a CertificateDer<'static>>) -> String {
    const LINE: usize = 64;
    let mut text = String::new();
    for certificate in certificates {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let encoded = BASE64.encode(certificate);
        let mut rest = encoded.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(LINE));
            text.push_str(line);
            text.push('\n');
            rest = after;
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

/// A whole bundle: the system's certificates and our anchors, none twice. For the variables that replace a client's
/// store, and for the files of [`SYSTEM_FILES`].
pub fn bundle(system: &[CertificateDer<'static>], anchors: &[CertificateDer<'static>]) -> String {
    pem(together(system, anchors))
}

/// The system's certificates and our anchors, none twice.
pub fn together<'a>(
    system: &'a [CertificateDer<'static>],
    anchors: &'a [CertificateDer<'static>],
) -> Vec<&'a CertificateDer<'static>> {
    let mut seen: HashSet<&'a CertificateDer<'static>> = HashSet::new();
    // Ours first: a person who looks sees it, and a client that stops at a certificate it can't read has it.
    anchors.iter().chain(system).filter(|certificate| seen.insert(*certificate)).collect()
}

/// What the system's own bundle holds, as far as it can be read; nothing where there is none.
pub fn installed() -> Vec<CertificateDer<'static>> {
    let bundles = SYSTEM_FILES.iter().filter(|file| file.form == Form::Pem);
    let found = bundles.filter_map(|file| CertificateDer::pem_file_iter(file.path).ok()).next();
    found.into_iter().flatten().flatten().collect()
}

/// Where the files stand, as the sandbox sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The content of [`bundle`].
    pub bundle: PathBuf,
    /// Our anchors alone ([`pem`]), for clients that add to a store of their own.
    pub anchors: PathBuf,
    /// The content of [`java_store`] for the same certificates as the bundle.
    pub java: PathBuf,
}

/// The variables of a sandbox. `JAVA_TOOL_OPTIONS` keeps what `java_options` says (the caller's), and adds to it.
pub fn environment(files: &Files, java_options: Option<&str>) -> Vec<(&'static str, String)> {
    let text = |path: &Path| path.display().to_string();
    VARIABLES
        .iter()
        .map(|variable| {
            let value = match variable.value {
                Value::Bundle => text(&files.bundle),
                Value::Anchors => text(&files.anchors),
                Value::JavaOptions => java::options(&files.java, java_options),
            };
            (variable.name, value)
        })
        .collect()
}

/// What a file of the system's store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A PEM bundle: [`bundle`].
    Pem,
    /// A Java trust store: [`java_store`].
    Java,
}

/// A file of the system's store. Where a sandbox has it (after links), it is covered by a read-only mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SystemFile {
    /// Where it stands.
    pub path: &'static str,
    /// What it holds.
    pub form: Form,
    /// On which systems.
    pub systems: &'static str,
}

/// The files in which distributions keep the system's store. Several are links to one: resolve, then cover each once.
/// Folders of single hashed files (`/etc/ssl/certs/*.0`) are not covered: what is found there is the system's own, and a
/// client that reads nothing else needs its variable.
pub const SYSTEM_FILES: [SystemFile; 12] = [
    file("/etc/ssl/certs/ca-certificates.crt", Form::Pem, "Debian, Ubuntu, Alpine, Arch, Gentoo, NixOS"),
    file("/etc/ssl/certs/ca-bundle.crt", Form::Pem, "Fedora, RHEL, NixOS"),
    file("/etc/ssl/cert.pem", Form::Pem, "Alpine, Arch, Fedora"),
    file("/etc/ssl/ca-bundle.pem", Form::Pem, "SUSE"),
    file("/var/lib/ca-certificates/ca-bundle.pem", Form::Pem, "SUSE"),
    file("/etc/pki/tls/certs/ca-bundle.crt", Form::Pem, "Fedora, RHEL, Amazon Linux"),
    file("/etc/pki/tls/cert.pem", Form::Pem, "Fedora, RHEL"),
    file("/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", Form::Pem, "Fedora, RHEL"),
    file("/etc/ca-certificates/extracted/tls-ca-bundle.pem", Form::Pem, "Arch"),
    file("/etc/ssl/certs/java/cacerts", Form::Java, "Debian, Ubuntu"),
    file("/etc/pki/ca-trust/extracted/java/cacerts", Form::Java, "Fedora, RHEL"),
    file("/var/lib/ca-certificates/java-cacerts", Form::Java, "SUSE"),
];

const fn file(path: &'static str, form: Form, systems: &'static str) -> SystemFile {
    SystemFile { path, form, systems }
}

#[cfg(test)]
mod tests;
