//! Which address was answered for which name.
//!
//! A flow to a bare address is judged by the names that this sandbox was given the address for, and by nothing
//! else. A pair is written down *before* the answer leaves, so no connection can come before its binding; it lives
//! for [`LIFE`] after the last answer (the longest time to live that is ever told is 60 s), and while a flow holds it.
//!
//! Bounds: [`NAME_LIMIT`] addresses for one name, [`TOTAL_LIMIT`] pairs; the oldest that no flow holds go first.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use policy::HostName;
use smallvec::SmallVec;

use super::found::Found;

/// How long a binding lives after the last answer. Ten seconds more than any answer: bindings that were renewed
/// less than [`RENEWAL`] ago are not renewed again.
const LIFE: Duration = Duration::from_secs(70);
/// How often the bindings of an answer that is given again and again are renewed.
const RENEWAL: Duration = Duration::from_secs(10);
/// The most addresses of one name.
const NAME_LIMIT: usize = 128;
/// The most pairs.
const TOTAL_LIMIT: usize = 65_536;

/// One name at one address. Held while somebody has a second handle on it.
#[derive(Debug)]
struct Bound {
    name: HostName,
    /// Milliseconds since the table's start.
    until: AtomicU64,
}

/// Keeps a binding alive.
#[derive(Debug, Clone)]
pub(crate) struct BindingGuard {
    _bound: Arc<Bound>,
}

#[derive(Debug, Default)]
struct Table {
    by_address: HashMap<IpAddr, SmallVec<[Arc<Bound>; 1]>>,
    by_name: HashMap<HostName, SmallVec<[IpAddr; 4]>>,
    pairs: usize,
}

/// All bindings of one sandbox.
#[derive(Debug)]
pub(super) struct Bindings {
    start: Instant,
    table: Mutex<Table>,
}

impl Bindings {
    pub(super) fn new(start: Instant) -> Self {
        Self { start, table: Mutex::default() }
    }

    /// Binds the addresses of an answer that is about to be given.
    pub(super) fn bind_found(&self, name: &HostName, found: &Found, addresses: &[IpAddr], now: Instant) {
        let clock = self.clock(now);
        let last = found.bound.load(Ordering::Acquire);
        if last != 0 && clock < last + milliseconds(RENEWAL) {
            return;
        }
        self.bind(name, addresses, now);
        // Only after it is done: another worker that sees the mark may answer at once.
        found.bound.store(clock.max(1), Ordering::Release);
    }

    /// Binds addresses to a name.
    pub(super) fn bind(&self, name: &HostName, addresses: &[IpAddr], now: Instant) {
        let until = self.clock(now) + milliseconds(LIFE);
        let mut table = self.table();
        for address in addresses {
            table.bound(name, *address).until.fetch_max(until, Ordering::Relaxed);
        }
        table.shrink(name, self.clock(now));
    }

    /// Keeps the binding of this pair alive; `None` where there is none, as for a name that only a proxy request spoke of.
    pub(super) fn hold(&self, name: &HostName, address: IpAddr, now: Instant) -> Option<BindingGuard> {
        let clock = self.clock(now);
        let table = self.table();
        let mut all = table.by_address.get(&address)?.iter();
        let bound = all.find(|bound| bound.name == *name && is_alive(bound, clock))?;
        Some(BindingGuard { _bound: Arc::clone(bound) })
    }

    /// The names that are bound to an address, the last answered first.
    pub(super) fn names_of(&self, address: IpAddr, now: Instant) -> SmallVec<[HostName; 2]> {
        let clock = self.clock(now);
        let table = self.table();
        let Some(all) = table.by_address.get(&address) else { return SmallVec::new() };
        let mut alive: SmallVec<[&Arc<Bound>; 2]> = all.iter().filter(|bound| is_alive(bound, clock)).collect();
        alive.sort_by_key(|bound| std::cmp::Reverse(bound.until.load(Ordering::Relaxed)));
        alive.iter().map(|bound| bound.name.clone()).collect()
    }

    /// Whether the address was answered for the name and is still bound.
    pub(super) fn is_bound(&self, name: &HostName, address: IpAddr, now: Instant) -> bool {
        let clock = self.clock(now);
        let table = self.table();
        let mut all = table.by_address.get(&address).into_iter().flatten();
        all.any(|bound| bound.name == *name && is_alive(bound, clock))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clock(&self, now: Instant) -> u64 {
        milliseconds(now.saturating_duration_since(self.start))
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn is_held(bound: &Arc<Bound>) -> bool {
    Arc::strong_count(bound) > 1
}

fn is_alive(bound: &Arc<Bound>, clock: u64) -> bool {
    bound.until.load(Ordering::Relaxed) > clock || is_held(bound)
}

impl Table {
    /// The pair, made where it is missing.
    fn bound(&mut self, name: &HostName, address: IpAddr) -> &Arc<Bound> {
        let all = self.by_address.entry(address).or_default();
        let place = match all.iter().position(|bound| bound.name == *name) {
            Some(place) => place,
            None => {
                all.push(Arc::new(Bound { name: name.clone(), until: AtomicU64::new(0) }));
                self.by_name.entry(name.clone()).or_default().push(address);
                self.pairs += 1;
                all.len() - 1
            }
        };
        #[expect(clippy::indexing_slicing, reason = "the place was found or made on the lines above")]
        &all[place]
    }

    /// Brings the table back within its bounds.
    fn shrink(&mut self, name: &HostName, clock: u64) {
        let excess = self.by_name.get(name).map_or(0, SmallVec::len).saturating_sub(NAME_LIMIT);
        if excess > 0 {
            let addresses = self.by_name.get(name).cloned().unwrap_or_default();
            let pairs = addresses.into_iter().map(|address| (name.clone(), address)).collect();
            self.evict(pairs, excess);
        }
        if self.pairs > TOTAL_LIMIT {
            let dead = self.pairs_where(|bound| !is_alive(bound, clock));
            let count = dead.len();
            self.evict(dead, count);
        }
        if self.pairs > TOTAL_LIMIT {
            // A tenth at once, so that the next answers find room without another walk.
            let all = self.pairs_where(|bound| !is_held(bound));
            self.evict(all, TOTAL_LIMIT / 10);
        }
    }

    fn pairs_where(&self, keep: impl Fn(&Arc<Bound>) -> bool) -> Vec<(HostName, IpAddr)> {
        let all =
            self.by_address.iter().flat_map(|(address, bounds)| bounds.iter().map(move |bound| (bound, *address)));
        all.filter(|(bound, _)| keep(bound)).map(|(bound, address)| (bound.name.clone(), address)).collect()
    }

    /// Removes the oldest of these pairs that no flow holds.
    fn evict(&mut self, pairs: Vec<(HostName, IpAddr)>, count: usize) {
        let mut aged: Vec<(u64, HostName, IpAddr)> = Vec::with_capacity(pairs.len());
        for (name, address) in pairs {
            let bound = self.by_address.get(&address).and_then(|all| all.iter().find(|bound| bound.name == name));
            if let Some(bound) = bound.filter(|bound| !is_held(bound)) {
                aged.push((bound.until.load(Ordering::Relaxed), name, address));
            }
        }
        aged.sort_by_key(|(until, _, _)| *until);
        for (_, name, address) in aged.into_iter().take(count) {
            self.remove(&name, address);
        }
    }

    fn remove(&mut self, name: &HostName, address: IpAddr) {
        if let Some(all) = self.by_address.get_mut(&address) {
            let before = all.len();
            all.retain(|bound| bound.name != *name);
            self.pairs -= before - all.len();
            if all.is_empty() {
                self.by_address.remove(&address);
            }
        }
        if let Some(addresses) = self.by_name.get_mut(name) {
            addresses.retain(|other| *other != address);
            if addresses.is_empty() {
                self.by_name.remove(name);
            }
        }
    }
}

#[cfg(test)]
mod tests;
