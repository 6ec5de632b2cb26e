//! Answers that are still good, and queries that are under way.
//!
//! Whoever asks for what is under way waits for it, so a name in demand costs one query. What is kept is bounded in
//! number, in bytes and in time (an answer at most 60 s, a failure [`FAILURE_LIFE`]); the first in is the first out.
//! A policy that gives a route other servers empties it.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use foldhash::fast::RandomState;
use policy::{CompiledPolicy, HostName, QueryType, model::Route};
use smallvec::SmallVec;
use tokio::sync::watch;
use values::RouteName;

use super::{ResolveError, found::Found};

/// The most names that are kept.
const NAME_LIMIT: usize = 16_384;
/// The most bytes of answers that are kept: one answer may have 64 KiB.
const BYTES_LIMIT: usize = 16 << 20;
/// How long a failure is kept: long enough to spare a server that is down, short enough not to be noticed.
const FAILURE_LIFE: Duration = Duration::from_secs(2);

/// The most queries at a time.
const UNDER_WAY_LIMIT: usize = 512;

/// The outcome of one query.
pub(super) type Outcome = Result<Arc<Found>, ResolveError>;

/// One question and what is known of its answer.
#[derive(Debug)]
struct Slot {
    route: Option<RouteName>,
    record: QueryType,
    outcome: Outcome,
    expires: Instant,
    bytes: usize,
}

/// A query under way: the receiver sees the outcome, or that whoever asked is gone.
pub(super) type UnderWay = watch::Receiver<Option<Outcome>>;

/// What to do about a question.
pub(super) enum Place {
    /// It is known.
    Known(Outcome),
    /// Somebody is asking; wait.
    Wait(UnderWay),
    /// Ask, and tell by this sender.
    Ask(watch::Sender<Option<Outcome>>),
}

#[derive(Debug, Default)]
struct Table {
    names: HashMap<HostName, SmallVec<[Slot; 2]>, RandomState>,
    /// Names in the order in which they came.
    order: VecDeque<HostName>,
    /// What the slots hold in all.
    bytes: usize,
    under_way: HashMap<(HostName, QueryType, Option<RouteName>), UnderWay>,
    routes: BTreeMap<RouteName, Route>,
}

/// The cache of one sandbox.
#[derive(Debug, Default)]
pub(super) struct Cache {
    table: Mutex<Table>,
    /// The newest revision whose routes were looked at.
    revision: AtomicU64,
}

impl Cache {
    /// The answer, where it is known and still good.
    pub(super) fn get(
        &self,
        policy: &CompiledPolicy,
        route: Option<&RouteName>,
        name: &HostName,
        record: QueryType,
        now: Instant,
    ) -> Option<Outcome> {
        self.notice(policy);
        self.table().known(route, name, record, now)
    }

    /// The answer, or who asks for it.
    pub(super) fn place(
        &self,
        policy: &CompiledPolicy,
        route: Option<&RouteName>,
        name: &HostName,
        record: QueryType,
        now: Instant,
    ) -> Place {
        self.notice(policy);
        let mut table = self.table();
        if let Some(outcome) = table.known(route, name, record, now) {
            return Place::Known(outcome);
        }
        let key = (name.clone(), record, route.cloned());
        if let Some(under_way) = table.under_way.get(&key).filter(|receiver| receiver.has_changed().is_ok()) {
            return Place::Wait(under_way.clone());
        }
        if table.under_way.len() >= UNDER_WAY_LIMIT {
            return Place::Known(Err(ResolveError::Busy));
        }
        let (sender, receiver) = watch::channel(None);
        table.under_way.insert(key, receiver);
        Place::Ask(sender)
    }

    /// Keeps an outcome and ends its query.
    pub(super) fn put(
        &self,
        route: Option<&RouteName>,
        name: &HostName,
        record: QueryType,
        outcome: Outcome,
        now: Instant,
    ) {
        let expires = match &outcome {
            Ok(found) => found.expires,
            Err(_) => now + FAILURE_LIFE,
        };
        let mut table = self.table();
        table.under_way.remove(&(name.clone(), record, route.cloned()));
        let bytes = outcome.as_ref().map_or(0, |found| found.size());
        table.make_room(name, bytes);
        let mut slots = table.names.remove(name).unwrap_or_else(|| {
            table.order.push_back(name.clone());
            SmallVec::new()
        });
        slots.retain(|slot| {
            let stays = slot.expires > now && !slot.is(route, record);
            table.bytes -= if stays { 0 } else { slot.bytes };
            stays
        });
        slots.push(Slot { route: route.cloned(), record, outcome, expires, bytes });
        table.bytes += bytes;
        table.names.insert(name.clone(), slots);
    }

    /// Whether a query for this name left a short while ago, or is about to, whatever its type.
    pub(super) fn is_fresh(&self, route: Option<&RouteName>, name: &HostName, now: Instant) -> bool {
        let table = self.table();
        let kept = table.names.get(name).is_some_and(|slots| slots.iter().any(|slot| slot.expires > now));
        let asked = |record| table.under_way.contains_key(&(name.clone(), record, route.cloned()));
        kept || [QueryType::A, QueryType::Aaaa, QueryType::Https].into_iter().any(asked)
    }

    /// Empties the cache where a newer policy gives routes another meaning.
    fn notice(&self, policy: &CompiledPolicy) {
        let revision = policy.revision().0;
        if self.revision.load(Ordering::Relaxed) >= revision {
            return;
        }
        let mut table = self.table();
        if self.revision.fetch_max(revision, Ordering::Relaxed) < revision && table.routes != policy.spec().routes {
            table.routes = policy.spec().routes.clone();
            table.names.clear();
            table.order.clear();
            table.bytes = 0;
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn is(&self, route: Option<&RouteName>, record: QueryType) -> bool {
        self.record == record && self.route.as_ref() == route
    }
}

impl Table {
    /// Lets the oldest go until an answer of so many bytes has room.
    fn make_room(&mut self, name: &HostName, bytes: usize) {
        while (self.names.len() >= NAME_LIMIT && !self.names.contains_key(name)) || self.bytes + bytes > BYTES_LIMIT {
            let Some(oldest) = self.order.pop_front() else { return };
            let slots = self.names.remove(&oldest).unwrap_or_default();
            self.bytes -= slots.iter().map(|slot| slot.bytes).sum::<usize>();
        }
    }

    fn known(&self, route: Option<&RouteName>, name: &HostName, record: QueryType, now: Instant) -> Option<Outcome> {
        let slots = self.names.get(name)?;
        let slot = slots.iter().find(|slot| slot.is(route, record) && slot.expires > now)?;
        Some(slot.outcome.clone())
    }
}

#[cfg(test)]
mod tests;
