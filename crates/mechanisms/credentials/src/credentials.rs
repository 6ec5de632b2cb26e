//! All credentials of one run.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, PoisonError, RwLock, mpsc},
    thread,
    time::{Duration, Instant},
};

use policy::model::credential::Credential;
use values::CredentialName;

use crate::{
    fault::{Fault, ObtainError, OpenError},
    issued::{Issued, TokenId, TokenKey},
    slot::{Closed, Shared, Slot},
    source::{Children, Source},
    surroundings::Surroundings,
};

/// The most credentials of one policy.
pub const MOST_CREDENTIALS: usize = 256;

/// All credentials of one run: their sources, what was obtained, and what is to be revoked.
pub struct Credentials {
    shared: Arc<Shared>,
    slots: RwLock<Slots>,
}

#[derive(Default)]
struct Slots {
    open: BTreeMap<CredentialName, (Credential, Arc<Slot>)>,
    ended: bool,
}

/// A token that could not be revoked at the end.
#[derive(Debug)]
pub struct Unrevoked {
    /// Whose.
    pub name: CredentialName,
    /// Why; none where the time was over.
    pub fault: Option<Fault>,
}

impl fmt::Display for Unrevoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fault {
            Some(fault) => write!(f, "credential `{}` is not revoked: {fault}", self.name),
            None => write!(f, "credential `{}` is not revoked: the time was over", self.name),
        }
    }
}

impl Credentials {
    /// Checks what the policy says of each credential. Nothing is fetched.
    pub fn open(specs: &BTreeMap<CredentialName, Credential>, surroundings: Surroundings) -> Result<Self, OpenError> {
        let ids = TokenKey::random().map_err(|_| OpenError::Randomness)?;
        let shared = Shared { surroundings, ids, fetching: Children::default(), revoking: Children::default() };
        let credentials = Self { shared: Arc::new(shared), slots: RwLock::new(Slots::default()) };
        credentials.apply(specs)?;
        Ok(credentials)
    }

    /// Takes over a new policy's, all or none. Those that did not change keep what they have; those that are gone are
    /// revoked, behind the caller's back.
    pub fn apply(&self, specs: &BTreeMap<CredentialName, Credential>) -> Result<(), OpenError> {
        if specs.len() > MOST_CREDENTIALS {
            return Err(OpenError::TooMany { count: specs.len() });
        }
        let before = self.read(|slots| slots.open.clone());
        let mut after = BTreeMap::new();
        for (name, spec) in specs {
            let slot = match before.get(name) {
                Some((same, slot)) if same == spec => slot.clone(),
                Some(_) | None => {
                    let source = Source::open(name, &spec.source, &self.shared.surroundings)?;
                    Arc::new(Slot::new(name.clone(), source))
                }
            };
            after.insert(name.clone(), (spec.clone(), slot));
        }
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        if slots.ended {
            return Ok(());
        }
        let gone: Vec<Arc<Slot>> = slots
            .open
            .iter()
            .filter(|(name, (_, slot))| !after.get(*name).is_some_and(|(_, kept)| Arc::ptr_eq(kept, slot)))
            .map(|(_, (_, slot))| slot.clone())
            .collect();
        slots.open = after;
        drop(slots);
        for slot in gone {
            let closed = slot.close();
            self.end_in_thread(slot, closed, None, |_, _| {});
        }
        Ok(())
    }

    /// A secret that may be used now. Where many ask at once, one fetch answers all. Any runtime may await it; it ends with
    /// [`crate::Patience::fetch`] at the latest.
    pub async fn obtain(&self, name: &CredentialName) -> Result<Arc<Issued>, ObtainError> {
        let outcome = self.slot(name)?.obtain(&self.shared).await;
        outcome.map_err(|error| self.ended_by(error))
    }

    /// After a 401: another secret than the one that was refused, or an error where there is none. Where many ask with the
    /// same one, one fetch answers all; where newly fetched ones are refused as well, fetches come ever more rarely.
    pub async fn renew(&self, name: &CredentialName, stale: &TokenId) -> Result<Arc<Issued>, ObtainError> {
        let outcome = self.slot(name)?.renew(&self.shared, stale).await;
        outcome.map_err(|error| self.ended_by(error))
    }

    /// Ends it all: nothing is obtained any more, what can be revoked is, and no command is left running. Blocks to the deadline
    /// at most, so it is not for a runtime's thread. What is given back could not be revoked and lives to its own end.
    pub fn revoke_all(&self, deadline: Duration) -> Vec<Unrevoked> {
        let until = Instant::now() + deadline;
        let open = {
            let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
            slots.ended = true;
            std::mem::take(&mut slots.open)
        };
        let (ended, all_ended) = mpsc::channel();
        let mut waiting: BTreeSet<CredentialName> = open.keys().cloned().collect();
        let closed: Vec<(Arc<Slot>, Closed)> =
            open.into_values().map(|(_, slot)| (slot.clone(), slot.close())).collect();
        // What a command would say now is of no use.
        self.shared.fetching.end();
        for (slot, closed) in closed {
            let ended = ended.clone();
            self.end_in_thread(slot, closed, Some(until), move |name, faults| {
                // Nobody listens after the deadline, and that is no matter.
                let _ = ended.send((name, faults));
            });
        }
        drop(ended);
        let mut unrevoked = Vec::new();
        while let Ok((name, faults)) = all_ended.recv_timeout(until.saturating_duration_since(Instant::now())) {
            waiting.remove(&name);
            unrevoked.extend(faults.into_iter().map(|fault| Unrevoked { name: name.clone(), fault: Some(fault) }));
        }
        self.shared.revoking.end();
        unrevoked.extend(waiting.into_iter().map(|name| Unrevoked { name, fault: None }));
        unrevoked
    }

    /// Ends one credential on a thread of its own; where none can be started its tokens live to their own end.
    fn end_in_thread(
        &self,
        slot: Arc<Slot>,
        closed: Closed,
        deadline: Option<Instant>,
        then: impl FnOnce(CredentialName, Vec<Fault>) + Send + 'static,
    ) {
        let shared = self.shared.clone();
        let run = move || {
            let faults = slot.revoke(closed, &shared, deadline);
            then(slot.name.clone(), faults);
        };
        let _ = thread::Builder::new().name("revocation".to_owned()).spawn(run);
    }

    fn slot(&self, name: &CredentialName) -> Result<Arc<Slot>, ObtainError> {
        self.read(|slots| match slots.open.get(name) {
            Some((_, slot)) => Ok(slot.clone()),
            None if slots.ended => Err(ObtainError::Ended { name: name.clone() }),
            None => Err(ObtainError::Unknown { name: name.clone() }),
        })
    }

    /// Its end may be the run's, or that of the policy that had it.
    fn ended_by(&self, error: ObtainError) -> ObtainError {
        match error {
            ObtainError::Ended { name } if !self.read(|slots| slots.ended) => ObtainError::Changed { name },
            ObtainError::Ended { .. }
            | ObtainError::Unknown { .. }
            | ObtainError::Failed { .. }
            | ObtainError::Resting { .. }
            | ObtainError::Unchanged { .. }
            | ObtainError::RefusedAgain { .. }
            | ObtainError::Changed { .. } => error,
        }
    }

    fn read<T>(&self, with: impl FnOnce(&Slots) -> T) -> T {
        with(&self.slots.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.read(|slots| slots.open.keys().map(ToString::to_string).collect());
        f.debug_tuple("Credentials").field(&names).finish()
    }
}
