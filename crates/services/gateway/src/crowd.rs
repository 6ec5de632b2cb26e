//! How connections spread over the workers.
//!
//! All workers wait at the same listeners, and each takes what it finds there. One that is awake would take a burst of
//! connections whole, and serve them alone for as long as they last, beside workers that sleep. So one that has many
//! more than another gives that one, which was woken too, a head start.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// How many more connections than another a worker has before it lets that one take the next.
const AHEAD: usize = 8;
/// For how long: about what it takes to wake up. What is still there then is taken by anybody.
pub(crate) const HEAD_START: Duration = Duration::from_millis(1);

/// The connections that each worker took and that are still open, as one worker sees them.
#[derive(Debug, Clone)]
pub(crate) struct Crowd {
    all: Arc<[AtomicUsize]>,
    own: usize,
}

impl Crowd {
    /// Of so many workers, one for each.
    pub(crate) fn of(workers: usize) -> Vec<Self> {
        let all: Arc<[AtomicUsize]> = (0..workers).map(|_| AtomicUsize::new(0)).collect();
        (0..workers).map(|own| Self { all: Arc::clone(&all), own }).collect()
    }

    /// Whether another worker should take the next connection.
    pub(crate) fn is_ahead(&self) -> bool {
        let own = self.own().load(Ordering::Relaxed);
        self.all.iter().any(|other| other.load(Ordering::Relaxed) + AHEAD < own)
    }

    /// This worker took one.
    pub(crate) fn join(&self) {
        self.own().fetch_add(1, Ordering::Relaxed);
    }

    /// It ended.
    pub(crate) fn leave(&self) {
        self.own().fetch_sub(1, Ordering::Relaxed);
    }

    #[expect(clippy::indexing_slicing, reason = "`of` gives each the number of one of them")]
    fn own(&self) -> &AtomicUsize {
        &self.all[self.own]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_has_many_more_than_another_is_ahead_until_they_end() {
        let workers = Crowd::of(3);
        let [first, second, third] = workers.as_slice() else { panic!("three workers") };
        (0..AHEAD).for_each(|_| first.join());
        assert!(!first.is_ahead());
        first.join();
        assert!(first.is_ahead() && !second.is_ahead() && !third.is_ahead());
        second.join();
        assert!(first.is_ahead(), "the third has none yet");
        third.join();
        assert!(!first.is_ahead());
        third.leave();
        assert!(first.is_ahead());
        first.leave();
        assert!(!first.is_ahead());
    }

    #[test]
    fn one_worker_alone_takes_all() {
        let workers = Crowd::of(1);
        (0..100).for_each(|_| workers[0].join());
        assert!(!workers[0].is_ahead());
    }
}
