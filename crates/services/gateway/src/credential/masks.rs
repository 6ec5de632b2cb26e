//! All secrets that were handed out in this run, to be looked for in what comes back.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use credentials::{Issued, Material};
use policy::HostName;
use secret_swap::{Mask, Masked, Placeholder};
use values::{CredentialName, Secret};

use crate::budget::{Budget, NoRoom, Room};

/// The most secrets of one credential that are looked for: the one in use, and those that it replaced. Of more the
/// oldest is forgotten whose end has passed, or is not known, and never another credential's.
const OF_ONE: usize = 32;
/// With so many that may be valid still, a 401 is no reason for another: a server that says it each time would soon have
/// one that is looked for no more.
const RENEWED: usize = 16;
/// How long after its end one may be valid still: clocks differ.
const BEHIND_END: Duration = Duration::from_secs(10 * 60);
/// The most hosts that are known to have been sent one. Where they are so many, any host may have been.
const HOSTS: usize = 4096;
/// The most bodies that are held whole at a time.
const BODIES: usize = 32;
/// The memory for bodies that are decoded or signed anew, in KiB.
const DECODED: usize = 96 * 1024;

/// What is looked for.
pub(crate) struct Masks {
    current: ArcSwap<Mask>,
    known: Mutex<Known>,
    bodies: Budget,
    budget: Budget,
}

#[derive(Default)]
struct Known {
    /// The newest last.
    issued: Vec<Handed>,
    /// Those that were sent any, and those that were sent one that stands in requests.
    hosts: Hosts,
    told: Hosts,
}

/// A bounded set of hosts. One that is full holds them all.
#[derive(Default)]
struct Hosts(HashSet<HostName>);

impl Hosts {
    fn note(&mut self, host: &HostName) {
        if !self.holds(host) {
            self.0.insert(host.clone());
        }
    }

    fn holds(&self, host: &HostName) -> bool {
        self.0.len() >= HOSTS || self.0.contains(host)
    }
}

/// A secret that was handed out.
#[derive(Clone)]
struct Handed {
    name: CredentialName,
    issued: Arc<Issued>,
    placeholder: Option<Placeholder>,
}

impl Known {
    /// Those to look for with this one; none where they would be too many.
    fn with(&self, handed: Handed, now: SystemTime) -> Option<Vec<Handed>> {
        let mut all = self.issued.clone();
        let is_same = |known: &Handed| known.name == handed.name;
        if all.iter().filter(|known| is_same(known)).count() >= OF_ONE {
            let known: Vec<usize> = (0..all.len()).filter(|at| all.get(*at).is_some_and(is_same)).collect();
            let ends = all.iter().filter(|known| is_same(known)).map(|known| known.issued.expires);
            all.remove(*known.get(dispensable(ends, now)?)?);
        }
        all.push(handed);
        Some(all)
    }

    fn note_host(&mut self, host: &HostName, is_text: bool) {
        self.hosts.note(host);
        if is_text {
            self.told.note(host);
        }
    }
}

/// The first that opens nothing any more, or of which nobody says how long it does, of some with these ends.
fn dispensable(mut ends: impl Iterator<Item = Option<SystemTime>>, now: SystemTime) -> Option<usize> {
    ends.position(|end| end.is_none_or(|end| end + BEHIND_END < now))
}

impl Masks {
    /// Nothing yet; `None` where the search can't be built.
    pub(crate) fn new(patience: Duration) -> Option<Arc<Self>> {
        let current = ArcSwap::from_pointee(Mask::new([])?);
        Some(Arc::new(Self {
            current,
            known: Mutex::default(),
            bodies: Budget::new(BODIES, "bodies that are read whole", patience),
            budget: Budget::new(DECODED, "what is decoded or signed anew", patience),
        }))
    }

    /// What is looked for now.
    pub(super) fn now(&self) -> Arc<Mask> {
        self.current.load_full()
    }

    /// Memory for bodies that are decoded or signed anew.
    pub(super) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Room for a body that is held whole.
    pub(super) async fn room(&self) -> Result<Room, NoRoom> {
        self.bodies.room(1).await
    }

    /// Rooms for such bodies.
    pub(super) fn bodies(&self) -> &Budget {
        &self.bodies
    }

    /// Looks for these as well, from before they are sent to this host on. `false` where they can't be looked for.
    pub(super) fn learn(
        &self,
        name: &CredentialName,
        issued: &Arc<Issued>,
        placeholder: Option<&Placeholder>,
        host: &HostName,
    ) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.note_host(host, matches!(issued.material, Material::Text(_)));
        let at = known.issued.iter().position(|known| known.name == *name && known.issued.id == issued.id);
        if let Some(at) = at {
            // In use again.
            let handed = known.issued.remove(at);
            known.issued.push(handed);
            return true;
        }
        let handed = Handed { name: name.clone(), issued: Arc::clone(issued), placeholder: placeholder.cloned() };
        let Some(all) = known.with(handed, SystemTime::now()) else { return false };
        let looked_for = all.iter().flat_map(|handed| {
            secrets(&handed.issued.material).map(|secret| Masked { secret, placeholder: handed.placeholder.as_ref() })
        });
        let Some(mask) = Mask::new(looked_for) else { return false };
        self.current.store(Arc::new(mask));
        known.issued = all;
        true
    }

    /// Whether a 401 may make another of this credential's.
    pub(super) fn may_be_renewed(&self, name: &CredentialName) -> bool {
        let (known, now) = (self.known.lock().unwrap_or_else(PoisonError::into_inner), SystemTime::now());
        let is_valid =
            |known: &&Handed| known.name == *name && dispensable(std::iter::once(known.issued.expires), now).is_none();
        known.issued.iter().filter(is_valid).count() < RENEWED
    }

    /// Whether a host was sent a secret before that stands in requests, so that it can tell it.
    pub(super) fn was_told(&self, host: &HostName) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).told.holds(host)
    }

    /// Whether a host was sent a secret before, under a policy that is gone.
    pub(super) fn was_sent_to(&self, host: &HostName) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).hosts.holds(host)
    }
}

/// What of it must not come back. A certificate's key never leaves, and its chain is no secret.
fn secrets(material: &Material) -> impl Iterator<Item = &Secret> {
    let (first, second) = match material {
        Material::Text(secret) => (Some(secret), None),
        Material::Aws(keys) => (Some(&keys.secret_access_key), keys.session_token.as_ref()),
        Material::Certificate { .. } => (None, None),
    };
    first.into_iter().chain(second)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{BEHIND_END, HOSTS, HostName, Hosts, OF_ONE, dispensable};

    #[test]
    fn one_that_may_be_valid_is_never_forgotten() {
        let now = SystemTime::now();
        let (valid, over) = (Some(now + Duration::from_secs(1)), Some(now - BEHIND_END - Duration::from_secs(1)));
        let just_over = Some(now - Duration::from_secs(1));
        let full = |of: Option<SystemTime>| vec![of; OF_ONE];
        assert_eq!(dispensable(full(valid).into_iter(), now), None);
        assert_eq!(dispensable(full(just_over).into_iter(), now), None);
        assert_eq!(dispensable([full(valid), vec![over, over]].concat().into_iter(), now), Some(OF_ONE));
        assert_eq!(dispensable([vec![valid], full(None)].concat().into_iter(), now), Some(1), "nobody knows");
    }

    #[test]
    fn a_set_of_hosts_that_is_full_holds_every_host() {
        let mut hosts = Hosts::default();
        let host = |number: usize| HostName::parse(&format!("h{number}.test")).unwrap();
        for number in 0..HOSTS {
            assert!(!hosts.holds(&host(number)));
            hosts.note(&host(number));
        }
        hosts.note(&host(HOSTS));
        assert!(hosts.holds(&host(0)) && hosts.holds(&host(HOSTS + 1)) && hosts.0.len() == HOSTS);
    }
}
