//! Memory for what is decoded or signed anew: one bound for the whole run.
//!
//! A few bytes of an answer may decode to a gigabyte, and a chunk has to be here whole before it can be signed. Each such
//! body takes as much room as it may come to need before it begins, waits for it for a while, and is refused where there
//! is none. What is lent goes back where the client takes, or sends, nothing for a minute: else a sandbox could hold all
//! of it with bodies that it never reads.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
    time::Instant,
};

/// All of it, in KiB.
const ALL: usize = 96 * 1024;
/// How long a body waits for room.
const WAIT: Duration = Duration::from_secs(10);
/// How long it is lent to a client that does nothing.
pub(super) const IDLE: Duration = Duration::from_secs(60);

/// There is none left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("gateway: the memory for what is decoded or signed anew is used up by other requests of this sandbox")]
pub(crate) struct NoRoom;

/// Memory that a body may use.
pub(crate) type Room = OwnedSemaphorePermit;

/// The memory of a run.
pub(super) struct Budget(Arc<Semaphore>);

impl Budget {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(ALL)))
    }

    /// So many KiB, as soon as they are free.
    pub(super) async fn room(&self, kib: u32) -> Result<Room, NoRoom> {
        let asking = Arc::clone(&self.0).acquire_many_owned(kib);
        tokio::time::timeout(WAIT, asking).await.ok().and_then(Result::ok).ok_or(NoRoom)
    }
}

/// What is lent to a client as long as it goes on.
pub(super) struct Lent<T> {
    held: Rc<RefCell<Option<T>>>,
    /// Since when the client is due; none while it is another's turn.
    due: Rc<Cell<Option<Instant>>>,
    watching: JoinHandle<()>,
}

impl<T: 'static> Lent<T> {
    pub(super) fn new(lent: T) -> Self {
        let held = Rc::new(RefCell::new(Some(lent)));
        let due = Rc::new(Cell::new(Some(Instant::now())));
        let watching = tokio::task::spawn_local(watch(Rc::clone(&held), Rc::clone(&due)));
        Self { held, due, watching }
    }

    /// The client did something, and is due again.
    pub(super) fn client_is_due(&self) {
        self.due.set(Some(Instant::now()));
    }

    /// It is the server's turn.
    pub(super) fn server_is_due(&self) {
        self.due.set(None);
    }

    /// What `with` makes of it; none where it was taken back.
    pub(super) fn with<R>(&self, with: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.held.borrow_mut().as_mut().map(with)
    }

    /// Gives it up.
    pub(super) fn into_inner(self) -> Option<T> {
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
async fn watch<T>(held: Rc<RefCell<Option<T>>>, due: Rc<Cell<Option<Instant>>>) {
    loop {
        let until = due.get().unwrap_or_else(Instant::now) + IDLE;
        tokio::time::sleep_until(until).await;
        if due.get().is_some_and(|due| due + IDLE <= Instant::now()) {
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

    #[tokio::test(start_paused = true)]
    async fn what_is_used_up_is_refused_after_a_while_and_comes_back() {
        let budget = Budget::new();
        let whole = budget.room(u32::try_from(ALL).unwrap()).await.unwrap();
        assert_eq!(budget.room(1).await.unwrap_err(), NoRoom);
        drop(whole);
        drop(budget.room(1).await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_client_leaves_lying_is_taken_back() {
        let run = async {
            let budget = Budget::new();
            let all = u32::try_from(ALL).unwrap();
            let lent = Lent::new(budget.room(all).await.unwrap());
            for _ in 0..5 {
                tokio::time::sleep(IDLE * 2 / 3).await;
                lent.client_is_due();
            }
            lent.server_is_due();
            tokio::time::sleep(IDLE * 3).await;
            assert!(lent.with(|_| ()).is_some(), "it is the server that is slow");
            lent.client_is_due();
            tokio::time::sleep(IDLE * 3).await;
            assert!(lent.with(|_| ()).is_none());
            drop(budget.room(all).await.unwrap());
            drop(Lent::new(budget.room(all).await.unwrap()));
            drop(budget.room(all).await.unwrap());
        };
        LocalSet::new().run_until(run).await;
    }
}
