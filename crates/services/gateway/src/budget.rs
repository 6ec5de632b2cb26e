//! Memory that a sandbox makes the gateway hold: bounds for the whole run.
//!
//! A few bytes of an answer may decode to a gigabyte, a chunk has to be here whole before it can be signed, and whatever
//! a client asks for and does not take waits in buffers. Each such thing takes as much room as it may come to need before
//! it begins, waits for it for a while, and is refused where there is none.
//!
//! What is lent goes back where the client takes, or sends, nothing for a minute; and while others find no room, where
//! it is a minute behind a client that goes on (a [`Meter`] counts). Else a sandbox could hold all of it with bodies that
//! it never reads, or reads by the byte.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
    time::Instant,
};

/// How long something waits for room.
const WAIT: Duration = Duration::from_secs(10);
/// How many wait at a time. What waits holds memory, too.
const WAITING: usize = 256;
/// How long it is known that somebody found none.
const WANTED: Duration = Duration::from_secs(60);
/// How fast a client is that goes on, in bytes a second.
const PACE: f64 = 256.0 * 1024.0;
/// How often it is looked after.
pub(crate) const LOOK: Duration = Duration::from_secs(2);

/// There is none left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("gateway: the memory for {0} is used up by other requests of this sandbox")]
pub(crate) struct NoRoom(&'static str);

/// Memory that something may use.
pub(crate) type Room = OwnedSemaphorePermit;

/// The memory of a run, for one purpose.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<Place>);

#[derive(Debug)]
struct Place {
    free: Arc<Semaphore>,
    waiting: Semaphore,
    purpose: &'static str,
    /// How long it is lent to a client that does nothing, or is so far behind.
    patience: Duration,
    since: Instant,
    /// Milliseconds from `since` to when somebody last found no room, and one more; 0 is never.
    wanted: AtomicU64,
}

impl Budget {
    /// All of it, in KiB; it is lent for so long to a client that does nothing.
    pub(crate) fn new(all: usize, purpose: &'static str, patience: Duration) -> Self {
        Self(Arc::new(Place {
            free: Arc::new(Semaphore::new(all)),
            waiting: Semaphore::new(WAITING),
            purpose,
            patience,
            since: Instant::now(),
            wanted: AtomicU64::new(0),
        }))
    }

    /// So many KiB, as soon as they are free.
    pub(crate) async fn room(&self, kib: u32) -> Result<Room, NoRoom> {
        let free = &self.0.free;
        if let Ok(room) = Arc::clone(free).try_acquire_many_owned(kib) {
            return Ok(room);
        }
        self.want();
        let no_room = NoRoom(self.0.purpose);
        let _waits = self.0.waiting.try_acquire().map_err(|_| no_room)?;
        let asking = Arc::clone(free).acquire_many_owned(kib);
        let room = tokio::time::timeout(WAIT, asking).await.ok().and_then(Result::ok);
        self.want();
        room.ok_or(no_room)
    }

    fn want(&self) {
        let passed = u64::try_from(self.0.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.wanted.store(passed.saturating_add(1), Ordering::Relaxed);
    }

    /// How long it is lent to a client that does nothing.
    pub(crate) fn patience(&self) -> Duration {
        self.0.patience
    }

    /// Whether somebody found no room within the last minute.
    pub(crate) fn is_wanted(&self) -> bool {
        let wanted = self.0.wanted.load(Ordering::Relaxed);
        wanted > 0 && self.0.since.elapsed() < Duration::from_millis(wanted) + WANTED
    }
}

/// How far a client is behind one that goes on. Only the time counts in which it is its turn.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// Since when it is.
    since: Option<Instant>,
    behind: Duration,
}

impl Meter {
    /// It is the client's turn.
    pub(crate) fn client_is_due(&mut self, now: Instant) {
        self.since = Some(now);
    }

    /// It did so many bytes, and it is another's turn.
    pub(crate) fn client_did(&mut self, bytes: usize, now: Instant) {
        let took = self.since.take().map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        #[expect(clippy::cast_precision_loss, reason = "it is about seconds")]
        let made_good = Duration::from_secs_f64(bytes as f64 / PACE);
        self.behind = (self.behind + took).saturating_sub(made_good);
    }

    /// Whether it is too far behind to keep what others want.
    pub(crate) fn is_behind(&self, patience: Duration, now: Instant) -> bool {
        self.behind + self.takes(now) >= patience
    }

    /// Whether what was lent to it goes back.
    pub(crate) fn is_over(&self, budget: &Budget, now: Instant) -> bool {
        self.takes(now) >= budget.patience() || (budget.is_wanted() && self.is_behind(budget.patience(), now))
    }

    /// How long it has taken for its turn.
    fn takes(&self, now: Instant) -> Duration {
        self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

/// What is lent to a client as long as it goes on.
pub(crate) struct Lent<T> {
    held: Rc<RefCell<Option<T>>>,
    meter: Rc<RefCell<Meter>>,
    watching: JoinHandle<()>,
}

impl<T: 'static> Lent<T> {
    pub(crate) fn new(lent: T, budget: &Budget) -> Self {
        let held = Rc::new(RefCell::new(Some(lent)));
        let meter = Rc::new(RefCell::new(Meter { since: Some(Instant::now()), behind: Duration::ZERO }));
        let watching = tokio::task::spawn_local(watch(Rc::clone(&held), Rc::clone(&meter), budget.clone()));
        Self { held, meter, watching }
    }

    /// The client is handed so many bytes: it is due when it has taken them.
    pub(crate) fn client_is_due(&self, bytes: usize) {
        let (now, mut meter) = (Instant::now(), self.meter.borrow_mut());
        meter.client_did(0, now);
        meter.client_did(bytes, now);
        meter.client_is_due(now);
    }

    /// It is the server's turn.
    pub(crate) fn server_is_due(&self) {
        self.meter.borrow_mut().client_did(0, Instant::now());
    }

    /// What `with` makes of it; none where it was taken back.
    pub(crate) fn with<R>(&self, with: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.held.borrow_mut().as_mut().map(with)
    }

    /// Gives it up.
    pub(crate) fn into_inner(self) -> Option<T> {
        self.held.take()
    }
}

impl<T> Drop for Lent<T> {
    fn drop(&mut self) {
        self.watching.abort();
        self.held.take();
    }
}

/// Takes back what a client that is due leaves lying.
async fn watch<T>(held: Rc<RefCell<Option<T>>>, meter: Rc<RefCell<Meter>>, budget: Budget) {
    loop {
        tokio::time::sleep(LOOK).await;
        if meter.borrow().is_over(&budget, Instant::now()) {
            held.take();
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]

    use tokio::task::LocalSet;

    use super::*;

    const ALL: u32 = 96 * 1024;
    const IDLE: Duration = Duration::from_secs(60);

    fn budget() -> Budget {
        Budget::new(ALL as usize, "tests", IDLE)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_used_up_is_refused_after_a_while_and_comes_back() {
        let budget = budget();
        let whole = budget.room(ALL).await.unwrap();
        assert_eq!(budget.room(1).await.unwrap_err(), NoRoom("tests"));
        drop(whole);
        drop(budget.room(1).await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_client_leaves_lying_is_taken_back() {
        let run = async {
            let budget = budget();
            let lent = Lent::new(budget.room(ALL).await.unwrap(), &budget);
            for _ in 0..5 {
                tokio::time::sleep(IDLE * 2 / 3).await;
                lent.client_is_due(1);
            }
            lent.server_is_due();
            tokio::time::sleep(IDLE * 3).await;
            assert!(lent.with(|_| ()).is_some(), "it is the server that is slow");
            lent.client_is_due(0);
            tokio::time::sleep(IDLE * 3).await;
            assert!(lent.with(|_| ()).is_none());
            drop(budget.room(ALL).await.unwrap());
            drop(Lent::new(budget.room(ALL).await.unwrap(), &budget));
            drop(budget.room(ALL).await.unwrap());
        };
        LocalSet::new().run_until(run).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_a_little_each_minute_gives_way_to_one_that_waits() {
        let run = async {
            let budget = budget();
            let lent = Lent::new(budget.room(ALL).await.unwrap(), &budget);
            for _ in 0..10 {
                tokio::time::sleep(IDLE / 2).await;
                lent.client_is_due(16 * 1024);
            }
            assert!(lent.with(|_| ()).is_some(), "nobody wants it");
            drop(budget.room(1).await.unwrap());
            assert!(lent.with(|_| ()).is_none());
            let lent = Lent::new(budget.room(ALL).await.unwrap(), &budget);
            for _ in 0..100 {
                lent.client_is_due(1 << 20);
                tokio::time::sleep(Duration::from_secs(3)).await;
                assert_eq!(budget.room(1).await.unwrap_err(), NoRoom("tests"));
                lent.client_is_due(10 << 20);
            }
            assert!(lent.with(|_| ()).is_some(), "it goes on");
        };
        LocalSet::new().run_until(run).await;
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_wait() {
        let budget = budget();
        let _all = budget.room(ALL).await.unwrap();
        let asking =
            (0..WAITING).map(|_| budget.clone()).map(|budget| tokio::spawn(async move { budget.room(1).await }));
        let asking: Vec<_> = asking.collect();
        while budget.0.waiting.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let now = Instant::now();
        assert_eq!(budget.room(1).await.unwrap_err(), NoRoom("tests"));
        assert_eq!(now.elapsed(), Duration::ZERO);
        for asking in asking {
            assert_eq!(asking.await.unwrap().unwrap_err(), NoRoom("tests"));
        }
    }
}
