//! Leaves: what the gateway shows to a sandbox's client in place of the server's certificate.
//!
//! One exact name or address each, never a wildcard and never upstream's list of names: a client may send requests
//! for every name of a certificate over one connection. Minted when first asked for, once however many ask at the
//! same time, and kept in a cache that has a bound. One key serves all leaves of a process; it is in memory only.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use policy::Target;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType, string::Ia5String};
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
    server::NoServerSessionStorage,
    sign::{CertifiedKey, SigningKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};

use crate::{
    issuer::Issuer,
    key::{SecretKey, serial_number},
    protocols::Protocols,
    validity::Validity,
};

/// How long a leaf holds at most.
const LIFE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// A leaf with less than this left is minted anew.
const RENEWED_BEFORE: Duration = Duration::from_secs(12 * 60 * 60);
/// A longer name does not fit a common name; the alternative name holds it.
const COMMON_NAME: usize = 64;

/// Why there is no leaf.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// The issuer does not sign for this: no client would take it.
    #[error("{0} is outside what this run's certificate authority signs for")]
    Scope(Target),
    /// The issuer's time is over.
    #[error("this run's certificate authority has ended")]
    Ended,
    /// The clock shows a time that no certificate can hold.
    #[error("the clock shows a time that no certificate can hold")]
    Clock,
    /// Signing failed.
    #[error("the certificate for {target} can't be made")]
    Make {
        /// For whom.
        target: Target,
        /// Why.
        source: rcgen::Error,
    },
}

/// How the cache is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Names held now.
    pub held: usize,
    /// Names held at most.
    pub capacity: usize,
    /// Leaves minted since the start.
    pub minted: u64,
    /// Answers that needed no minting.
    pub reused: u64,
    /// Names let go for others.
    pub evicted: u64,
}

/// Mints leaves and keeps them.
#[derive(Debug)]
pub struct Leaves {
    key: SecretKey,
    signing: Arc<dyn SigningKey>,
    /// All but the certificate and the protocols: cloned for each leaf.
    base: ServerConfig,
    capacity: usize,
    state: Mutex<State>,
    minted: AtomicU64,
    reused: AtomicU64,
    evicted: AtomicU64,
}

#[derive(Debug)]
struct State {
    issuer: Arc<Issuer>,
    slots: HashMap<Target, Used>,
    /// By last use, oldest first.
    order: BTreeMap<u64, Target>,
    uses: u64,
}

#[derive(Debug)]
struct Used {
    slot: Arc<Slot>,
    last: u64,
}

/// One name's place. Whoever has its lock mints; the others wait, and find the leaf.
#[derive(Debug, Default)]
struct Slot(Mutex<Option<Leaf>>);

#[derive(Debug)]
struct Leaf {
    issuer: Arc<Issuer>,
    validity: Validity,
    certified: Arc<CertifiedKey>,
    configurations: [Option<Arc<ServerConfig>>; 4],
}

impl Leaves {
    /// An empty cache for at most `capacity` names (at least one), signed by `issuer`.
    pub fn new(issuer: Issuer, capacity: usize) -> Result<Self, rustls::Error> {
        let failed = |error: rcgen::Error| rustls::Error::General(error.to_string());
        let provider = Arc::new(aws_lc_rs::default_provider());
        let key = SecretKey::generate().map_err(failed)?;
        let signing = provider.key_provider.load_private_key(PrivatePkcs8KeyDer::from(key.pkcs8().to_vec()).into())?;
        let base = base(provider)?;
        let state = State { issuer: Arc::new(issuer), slots: HashMap::new(), order: BTreeMap::new(), uses: 0 };
        Ok(Self {
            key,
            signing,
            base,
            capacity: capacity.max(1),
            state: Mutex::new(state),
            minted: AtomicU64::new(0),
            reused: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
        })
    }

    /// How to answer a client that wants `target` and speaks `protocols`.
    pub fn server_config(
        &self,
        target: &Target,
        protocols: Protocols,
        now: SystemTime,
    ) -> Result<Arc<ServerConfig>, MintError> {
        let (issuer, slot) = self.slot(target)?;
        let mut place = held(&slot.0);
        let leaf = match place.take() {
            Some(leaf) if leaf.serves(&issuer, now) => {
                self.reused.fetch_add(1, Ordering::Relaxed);
                place.insert(leaf)
            }
            _ => {
                let leaf = self.mint(&issuer, target, now)?;
                self.minted.fetch_add(1, Ordering::Relaxed);
                place.insert(leaf)
            }
        };
        Ok(leaf.configuration(&self.base, protocols))
    }

    /// Signs with another issuer from now on: after a new policy, or when the old one is about to end. What is in use
    /// stays in use.
    pub fn set_issuer(&self, issuer: Issuer) {
        let mut state = held(&self.state);
        state.issuer = Arc::new(issuer);
        state.slots.clear();
        state.order.clear();
    }

    /// The issuer that signs now.
    pub fn issuer(&self) -> Arc<Issuer> {
        held(&self.state).issuer.clone()
    }

    /// How the cache is used.
    pub fn counts(&self) -> Counts {
        Counts {
            held: held(&self.state).slots.len(),
            capacity: self.capacity,
            minted: self.minted.load(Ordering::Relaxed),
            reused: self.reused.load(Ordering::Relaxed),
            evicted: self.evicted.load(Ordering::Relaxed),
        }
    }

    /// The place for a name, now the last used; the least used goes where there is no room. A name that is not signed
    /// for has none: it must not drive out those that are.
    fn slot(&self, target: &Target) -> Result<(Arc<Issuer>, Arc<Slot>), MintError> {
        let mut state = held(&self.state);
        let State { issuer, slots, order, uses } = &mut *state;
        if !issuer.scope().holds(target) {
            return Err(MintError::Scope(target.clone()));
        }
        *uses += 1;
        if let Some(used) = slots.get_mut(target) {
            order.remove(&used.last);
            order.insert(*uses, target.clone());
            used.last = *uses;
            return Ok((issuer.clone(), used.slot.clone()));
        }
        if slots.len() >= self.capacity
            && let Some((_, oldest)) = order.pop_first()
        {
            slots.remove(&oldest);
            self.evicted.fetch_add(1, Ordering::Relaxed);
        }
        let slot = Arc::new(Slot::default());
        slots.insert(target.clone(), Used { slot: slot.clone(), last: *uses });
        order.insert(*uses, target.clone());
        Ok((issuer.clone(), slot))
    }

    fn mint(&self, issuer: &Arc<Issuer>, target: &Target, now: SystemTime) -> Result<Leaf, MintError> {
        let (certificate, validity) = mint(issuer, &self.key, target, now)?;
        let chain = [certificate].into_iter().chain(issuer.chain().iter().cloned()).collect();
        Ok(Leaf {
            issuer: issuer.clone(),
            validity,
            certified: Arc::new(CertifiedKey::new(chain, self.signing.clone())),
            configurations: [const { None }; 4],
        })
    }
}

impl Leaf {
    fn serves(&self, issuer: &Arc<Issuer>, now: SystemTime) -> bool {
        // Near the issuer's own end a new leaf would hold no longer than this one.
        let renewable = self.validity.until < self.issuer.ends();
        Arc::ptr_eq(&self.issuer, issuer)
            && self.validity.holds(now)
            && (!renewable || self.validity.left(now) > RENEWED_BEFORE)
    }

    fn configuration(&mut self, base: &ServerConfig, protocols: Protocols) -> Arc<ServerConfig> {
        let make = || {
            let mut made = base.clone();
            made.cert_resolver = Arc::new(SingleCertAndKey::from(self.certified.clone()));
            made.alpn_protocols = protocols.names();
            Arc::new(made)
        };
        match self.configurations.get_mut(protocols.index()) {
            Some(place) => place.get_or_insert_with(make).clone(),
            None => make(),
        }
    }
}

/// TLS 1.2 and 1.3, no early data (the default), sessions in tickets alone and of one ticketer.
fn base(provider: Arc<CryptoProvider>) -> Result<ServerConfig, rustls::Error> {
    let nobody = Arc::new(rustls::server::ResolvesServerCertUsingSni::new());
    let mut base = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(nobody);
    base.ticketer = aws_lc_rs::Ticketer::new()?;
    base.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(base)
}

/// One leaf: exactly this name or address, for servers, within the issuer's time.
fn mint(
    issuer: &Issuer,
    key: &SecretKey,
    target: &Target,
    now: SystemTime,
) -> Result<(CertificateDer<'static>, Validity), MintError> {
    if !issuer.validity().holds(now) {
        return Err(MintError::Ended);
    }
    let failed = |source| MintError::Make { target: target.clone(), source };
    let validity = Validity::new(now, LIFE, Some(issuer.validity()));
    let mut parameters = CertificateParams::default();
    (parameters.not_before, parameters.not_after) = validity.written().ok_or(MintError::Clock)?;
    parameters.serial_number = Some(serial_number().map_err(failed)?);
    let (alternative, kind, text) = subject(target).map_err(failed)?;
    parameters.subject_alt_names = vec![alternative];
    parameters.distinguished_name.push(kind, text);
    parameters.is_ca = IsCa::ExplicitNoCa;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    parameters.use_authority_key_identifier_extension = true;
    let certificate = parameters.signed_by(key, issuer.signer()).map_err(failed)?;
    Ok((certificate.into(), validity))
}

/// The name as an alternative name, which counts, and something for people. A common name is no place for anything but
/// a host name: clients (GnuTLS) take it for one, and hold it against the issuer's names.
fn subject(target: &Target) -> Result<(SanType, DnType, String), rcgen::Error> {
    let ours = || (DnType::OrganizationName, "Cofferdam".to_owned());
    let (alternative, (kind, text)) = match target {
        Target::Name(name) => {
            let shown = name.as_str();
            let fits = shown.len() <= COMMON_NAME;
            let subject = if fits { (DnType::CommonName, shown.to_owned()) } else { ours() };
            (SanType::DnsName(Ia5String::try_from(shown)?), subject)
        }
        Target::Address(address) => (SanType::IpAddress(*address), ours()),
    };
    Ok((alternative, kind, text))
}

/// A thread that panicked while it held the lock left the value whole: each change is one assignment.
fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
