//! Who signs leaves during one run. Its key exists in memory only, and dies with it.

use std::time::{Duration, SystemTime};

use policy::{HostName, HostPattern, Target};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    KeyUsagePurpose, NameConstraints,
};
use rustls::pki_types::CertificateDer;

use crate::{
    key::{SecretKey, random, serial_number},
    validity::Validity,
};

/// More names than this in a certificate cost every handshake more than they are worth, and reach the limits that
/// clients set; then the scope is [`Scope::Any`].
pub const MOST_NAMES: usize = 64;
/// How long an issuer under an installation's authority can sign.
const SIGNED_LIFE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How long the issuer of one run can sign: a run has no end that is known at its start.
const RUN_LIFE: Duration = Duration::from_secs(397 * 24 * 60 * 60);

/// For what an issuer signs. It stands in its certificate, so clients hold it too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// For any name and address.
    Any,
    /// For these names alone, and for no address. A name stands for its sub-names too, since that is what a certificate
    /// can say. (Addresses beside names it could say, but then some clients, GnuTLS among them, take no leaf of an
    /// address at all.)
    Only(Vec<HostName>),
}

impl Scope {
    /// The narrowest scope for the names that a policy inspects; `Any` where a pattern is for any name, or where it would
    /// hold more than [`MOST_NAMES`]. A policy that inspects an address needs `Any`.
    pub fn of<'a>(patterns: impl IntoIterator<Item = &'a HostPattern>) -> Self {
        let Some(mut names) = patterns.into_iter().map(|pattern| pattern.name().cloned()).collect::<Option<Vec<_>>>()
        else {
            return Scope::Any;
        };
        names.sort_by_key(|name| name.as_str().len());
        let mut kept: Vec<HostName> = Vec::new();
        for name in names {
            if kept.iter().any(|apex| is_within(&name, apex)) {
                continue;
            }
            kept.push(name);
            // Also a bound on this loop, for policies of many thousand names.
            if kept.len() > MOST_NAMES {
                return Scope::Any;
            }
        }
        Scope::Only(kept)
    }

    /// Whether it signs for this.
    pub fn holds(&self, target: &Target) -> bool {
        match (self, target) {
            (Scope::Any, _) => true,
            (Scope::Only(names), Target::Name(name)) => names.iter().any(|apex| is_within(name, apex)),
            (Scope::Only(_), Target::Address(_)) => false,
        }
    }

    /// As a certificate says it. A kind of name that is not mentioned is free, so addresses are excluded, and so are
    /// names where none is permitted.
    fn constraints(&self) -> Option<NameConstraints> {
        let Scope::Only(names) = self else { return None };
        let subtree = |name: &str| GeneralSubtree::DnsName(name.to_owned());
        let mut excluded = vec![
            GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4])),
            GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16])),
        ];
        if names.is_empty() {
            excluded.push(subtree(""));
        }
        let permitted = names.iter().map(|name| subtree(name.as_str())).collect();
        Some(NameConstraints { permitted_subtrees: permitted, excluded_subtrees: excluded })
    }
}

fn is_within(name: &HostName, apex: &HostName) -> bool {
    name.as_str().strip_suffix(apex.as_str()).is_some_and(|front| front.is_empty() || front.ends_with('.'))
}

/// Why nothing could be issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The signer's time is over.
    #[error("the certificate authority has ended: rotate it")]
    Ended,
    /// The clock shows a time that no certificate can hold.
    #[error("the clock shows a time that no certificate can hold")]
    Clock,
    /// Making the key or signing failed.
    #[error("the certificate can't be made")]
    Make(#[from] rcgen::Error),
}

/// Signs leaves, for one run.
#[derive(Debug)]
pub struct Issuer {
    signer: rcgen::Issuer<'static, SecretKey>,
    /// What a server sends after its leaf.
    chain: Vec<CertificateDer<'static>>,
    /// What clients must trust.
    anchors: Vec<CertificateDer<'static>>,
    scope: Scope,
    validity: Validity,
}

impl Issuer {
    /// One that signs itself, for one run: the sandbox of that run, and nobody else, is told to trust it.
    pub fn for_run(scope: Scope, now: SystemTime) -> Result<Self, IssueError> {
        let key = SecretKey::generate()?;
        let validity = Validity::new(now, RUN_LIFE, None);
        let parameters = parameters(&scope, validity)?;
        let certificate = CertificateDer::from(parameters.self_signed(&key)?);
        let signer = rcgen::Issuer::new(parameters, key);
        Ok(Self { signer, chain: Vec::new(), anchors: vec![certificate], scope, validity })
    }

    /// One that `authority` vouches for.
    pub(crate) fn signed_by(
        authority: &rcgen::Issuer<'_, &SecretKey>,
        authority_validity: Validity,
        anchor: CertificateDer<'static>,
        scope: Scope,
        now: SystemTime,
    ) -> Result<Self, IssueError> {
        if !authority_validity.holds(now) {
            return Err(IssueError::Ended);
        }
        let key = SecretKey::generate()?;
        let validity = Validity::new(now, SIGNED_LIFE, Some(authority_validity));
        let mut parameters = parameters(&scope, validity)?;
        parameters.use_authority_key_identifier_extension = true;
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = CertificateDer::from(parameters.signed_by(&key, authority)?);
        let signer = rcgen::Issuer::new(parameters, key);
        Ok(Self { signer, chain: vec![certificate], anchors: vec![anchor], scope, validity })
    }

    /// What clients must trust: given to [`crate::trust`].
    pub fn anchors(&self) -> &[CertificateDer<'static>] {
        &self.anchors
    }

    /// For what it signs.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// When it ends. Nothing that it signed holds longer.
    pub fn ends(&self) -> SystemTime {
        self.validity.until
    }

    pub(crate) fn validity(&self) -> Validity {
        self.validity
    }

    pub(crate) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    pub(crate) fn signer(&self) -> &rcgen::Issuer<'static, SecretKey> {
        &self.signer
    }
}

fn parameters(scope: &Scope, validity: Validity) -> Result<CertificateParams, IssueError> {
    let [a, b, c, d] = random::<4>()?;
    let mut parameters = CertificateParams::default();
    (parameters.not_before, parameters.not_after) = validity.written().ok_or(IssueError::Clock)?;
    parameters.serial_number = Some(serial_number()?);
    // Nothing of the host: the workload reads it.
    parameters.distinguished_name.push(DnType::CommonName, format!("Cofferdam run {a:02x}{b:02x}{c:02x}{d:02x}"));
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters.name_constraints = scope.constraints();
    Ok(parameters)
}

#[cfg(test)]
mod clients;
#[cfg(test)]
mod tests;
