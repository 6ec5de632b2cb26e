//! Who signs leaves during one run. Its key exists in memory only, and dies with it.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

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

/// For which names and addresses an issuer signs. It stands in its certificate, so clients hold it too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// For any.
    Any,
    /// For these alone. A name stands for its sub-names too, since that is what a certificate can say.
    Only {
        /// Names and what is below them.
        names: Vec<HostName>,
        /// Single addresses.
        addresses: Vec<IpAddr>,
    },
}

impl Scope {
    /// The narrowest scope for what a policy inspects; `Any` where a pattern is for any name, or where it would hold
    /// more than [`MOST_NAMES`].
    pub fn of<'a>(
        patterns: impl IntoIterator<Item = &'a HostPattern>,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) -> Self {
        let Some(mut names) = patterns.into_iter().map(|pattern| pattern.name().cloned()).collect::<Option<Vec<_>>>()
        else {
            return Scope::Any;
        };
        names.sort_by_key(|name| name.as_str().len());
        let mut kept: Vec<HostName> = Vec::new();
        for name in names {
            if !kept.iter().any(|apex| is_within(&name, apex)) {
                kept.push(name);
            }
        }
        let mut addresses: Vec<IpAddr> = addresses.into_iter().collect();
        addresses.sort_unstable();
        addresses.dedup();
        if kept.len() + addresses.len() > MOST_NAMES {
            return Scope::Any;
        }
        Scope::Only { names: kept, addresses }
    }

    /// Whether it signs for this.
    pub fn holds(&self, target: &Target) -> bool {
        match (self, target) {
            (Scope::Any, _) => true,
            (Scope::Only { names, .. }, Target::Name(name)) => names.iter().any(|apex| is_within(name, apex)),
            (Scope::Only { addresses, .. }, Target::Address(address)) => addresses.contains(address),
        }
    }

    /// As a certificate says it. Where only one kind of name is permitted the other is excluded: clients take a kind
    /// that is not mentioned as free.
    fn constraints(&self) -> Option<NameConstraints> {
        let Scope::Only { names, addresses } = self else { return None };
        let mut permitted: Vec<GeneralSubtree> =
            names.iter().map(|name| GeneralSubtree::DnsName(name.as_str().to_owned())).collect();
        permitted.extend(addresses.iter().map(|address| {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(*address, bits))
        }));
        let mut excluded = Vec::new();
        if names.is_empty() {
            excluded.push(GeneralSubtree::DnsName(String::new()));
        }
        if addresses.is_empty() {
            excluded.push(GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4])));
            excluded.push(GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16])));
        }
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
        anchors: Vec<CertificateDer<'static>>,
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
        Ok(Self { signer, chain: vec![certificate], anchors, scope, validity })
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
