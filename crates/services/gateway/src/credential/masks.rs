//! All secrets that were handed out in this run, to be looked for in what comes back.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use credentials::{Issued, Material};
use policy::HostName;
use secret_swap::{Mask, Masked, Placeholder};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use values::Secret;

use super::budget::Budget;

/// The most secrets that are looked for. Of more the oldest are forgotten.
const SECRETS: usize = 64;
/// The most hosts that are known to have been sent one. Of more no more are learned; those that a credential is bound to
/// are looked at anyway.
const HOSTS: usize = 4096;
/// The most bodies that are held whole at a time.
const BODIES: usize = 32;

/// What is looked for.
pub(crate) struct Masks {
    current: ArcSwap<Mask>,
    known: Mutex<Known>,
    bodies: Arc<Semaphore>,
    budget: Budget,
}

#[derive(Default)]
struct Known {
    issued: VecDeque<(Arc<Issued>, Option<Placeholder>)>,
    hosts: HashSet<HostName>,
}

impl Masks {
    /// Nothing yet; `None` where the search can't be built.
    pub(crate) fn new() -> Option<Arc<Self>> {
        let current = ArcSwap::from_pointee(Mask::new([])?);
        Some(Arc::new(Self {
            current,
            known: Mutex::default(),
            bodies: Arc::new(Semaphore::new(BODIES)),
            budget: Budget::new(),
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
    pub(super) async fn room(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed.
        Arc::clone(&self.bodies).acquire_owned().await.ok()
    }

    /// Looks for these as well, from before they are sent to this host on. `false` where they can't be looked for.
    pub(super) fn learn(&self, issued: &Arc<Issued>, placeholder: Option<&Placeholder>, host: &HostName) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.hosts.len() < HOSTS {
            known.hosts.insert(host.clone());
        }
        if known.issued.iter().any(|(known, _)| known.id == issued.id) {
            return true;
        }
        known.issued.push_back((Arc::clone(issued), placeholder.cloned()));
        if known.issued.len() > SECRETS {
            known.issued.pop_front();
        }
        let secrets = known.issued.iter().flat_map(|(issued, placeholder)| {
            secrets(&issued.material).map(|secret| Masked { secret, placeholder: placeholder.as_ref() })
        });
        match Mask::new(secrets) {
            Some(mask) => self.current.store(Arc::new(mask)),
            None => {
                known.issued.pop_back();
                return false;
            }
        }
        true
    }

    /// Whether a host was sent a secret before, under a policy that is gone.
    pub(super) fn was_sent_to(&self, host: &HostName) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).hosts.contains(host)
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
