//! How often a sandbox may ask: libraries ask once in an hour, a flood would fill the record.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Requests at once.
const BURST: u32 = 200;
/// The time that makes room for one more.
const EACH: Duration = Duration::from_millis(20);

/// What becomes of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is answered.
    Within,
    /// It is the first too many, and that is recorded.
    Tell,
    /// It is one more, and only counted.
    Told,
}

/// The requests of one sandbox.
#[derive(Debug, Default)]
pub(super) struct Rate(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// When all that came is worked off.
    due: Option<Instant>,
    told: bool,
}

impl Rate {
    /// Counts a request.
    pub(super) fn turn(&self, now: Instant) -> Turn {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = state.due.map_or(now, |due| due.max(now));
        let next = due + EACH;
        if next.saturating_duration_since(now) <= EACH * BURST {
            state.due = Some(next);
            // Told again only after a rest, so that a flood at just the rate is not a record for every second request.
            state.told &= due > now;
            return Turn::Within;
        }
        if std::mem::replace(&mut state.told, true) { Turn::Told } else { Turn::Tell }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{BURST, EACH, Rate, Turn};

    #[test]
    fn a_flood_is_told_once_until_it_rests() {
        let (rate, start) = (Rate::default(), Instant::now());
        for _ in 0..BURST {
            assert_eq!(rate.turn(start), Turn::Within);
        }
        assert_eq!((rate.turn(start), rate.turn(start)), (Turn::Tell, Turn::Told));
        assert_eq!((rate.turn(start + EACH), rate.turn(start + EACH)), (Turn::Within, Turn::Told));
        let rested = start + EACH * (2 * BURST);
        for _ in 0..BURST {
            assert_eq!(rate.turn(rested), Turn::Within);
        }
        assert_eq!(rate.turn(rested), Turn::Tell);
    }
}
