//! Whether a worker that has nothing to do looks again at once or sleeps.
//!
//! Waking a processor that sleeps costs more than moving the bytes of a small exchange, most of all in a virtual
//! machine. So a worker looks for more before it sleeps, as KVM does before it halts a virtual processor
//! (<https://docs.kernel.org/virt/kvm/halt-polling.html>): for a moment, only while that pays, and not while another
//! thread wants the processor.

use std::time::{Duration, Instant};

/// How long more is looked for.
const WINDOW: Duration = Duration::from_micros(30);
/// After so many windows in a row in which nothing came, a worker sleeps at once,
const MISS_LIMIT: u8 = 8;
/// until something comes this soon after it fell asleep.
const SOON: Duration = Duration::from_micros(60);
/// A look takes about a microsecond. After one that took this long another thread had the processor.
const INTERRUPTED: Duration = Duration::from_micros(15);

/// What a worker's looks have found.
#[derive(Debug)]
pub(super) struct BusyPoll {
    /// When something was last found.
    found: Instant,
    /// The last look.
    looked: Instant,
    /// The last look found nothing.
    waiting: bool,
    /// Windows in a row in which nothing came.
    misses: u8,
}

impl BusyPoll {
    /// Nothing was looked for yet.
    pub(super) fn new(now: Instant) -> Self {
        Self { found: now, looked: now, waiting: false, misses: 0 }
    }

    /// The worker woke up, after having fallen asleep at `asleep`.
    pub(super) fn woken(&mut self, asleep: Instant, now: Instant) {
        if now.duration_since(asleep) < SOON {
            self.misses = 0;
        }
        (self.found, self.looked, self.waiting) = (now, now, false);
    }

    /// Takes in a look that ended `now`; whether to look again.
    pub(super) fn looks_again(&mut self, found: bool, now: Instant) -> bool {
        let took = now.duration_since(self.looked);
        self.looked = now;
        if found {
            if self.waiting {
                self.misses = 0;
            }
            (self.found, self.waiting) = (now, false);
            return true;
        }
        if self.misses >= MISS_LIMIT {
            return false;
        }
        let over = now.duration_since(self.found) >= WINDOW || (self.waiting && took >= INTERRUPTED);
        self.waiting = true;
        if over {
            self.misses += 1;
        }
        !over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Duration = Duration::from_micros(1);

    /// Looks each microsecond, and how often it did before it slept.
    fn looks(poll: &mut BusyPoll, now: &mut Instant, finds_at: Option<u32>) -> u32 {
        for count in 1..1000 {
            *now += ONE;
            if !poll.looks_again(finds_at == Some(count), *now) {
                return count;
            }
        }
        panic!("it never sleeps");
    }

    #[test]
    fn it_looks_for_a_window_after_what_was_found() {
        let mut now = Instant::now();
        let mut poll = BusyPoll::new(now);
        assert_eq!(looks(&mut poll, &mut now, None), 30);
        poll.woken(now, now);
        assert_eq!(looks(&mut poll, &mut now, Some(20)), 50);
    }

    #[test]
    fn what_never_comes_is_not_looked_for_until_something_comes_soon() {
        let mut now = Instant::now();
        let mut poll = BusyPoll::new(now);
        let sleep = |poll: &mut BusyPoll, now: &mut Instant, time: Duration| {
            let asleep = *now;
            *now += time;
            poll.woken(asleep, *now);
        };
        for _ in 0..MISS_LIMIT {
            assert_eq!(looks(&mut poll, &mut now, None), 30);
            sleep(&mut poll, &mut now, Duration::from_millis(1));
        }
        // The first look is for what it was woken for.
        assert_eq!(looks(&mut poll, &mut now, Some(1)), 2);
        sleep(&mut poll, &mut now, SOON);
        assert_eq!(looks(&mut poll, &mut now, None), 1);
        sleep(&mut poll, &mut now, SOON - ONE);
        assert_eq!(looks(&mut poll, &mut now, None), 30);
    }

    #[test]
    fn it_makes_room_for_other_threads() {
        let mut now = Instant::now();
        let mut poll = BusyPoll::new(now);
        // Work may take as long as it likes.
        now += Duration::from_millis(1);
        assert!(poll.looks_again(true, now));
        now += ONE;
        assert!(poll.looks_again(false, now));
        now += INTERRUPTED;
        assert!(!poll.looks_again(false, now));
    }
}
