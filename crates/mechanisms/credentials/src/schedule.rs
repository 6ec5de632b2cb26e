//! What may be used when, as arithmetic on times. No clock, no I/O; randomness is passed in.

use std::time::{Duration, SystemTime};

/// A secret is not used in its last seconds: the request must arrive before its end. Of a short life, the last tenth.
const MARGIN: Duration = Duration::from_secs(30);
/// What a source gives without an end (a command, a keyring) is asked for again after this …
const RECHECK: Duration = Duration::from_secs(5 * 60);
/// … and is not used longer than this where it can't be had again.
const RECHECK_LIMIT: Duration = Duration::from_secs(15 * 60);
/// A life longer than this is cut to it: a date without meaning must not keep a secret for ever.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);
/// The first rest after a failure, and after a fetch that a 401 made.
const FIRST_REST: Duration = Duration::from_secs(1);
const FIRST_RENEWAL_REST: Duration = Duration::from_secs(5);
/// The longest rest.
const LONGEST_REST: Duration = Duration::from_secs(5 * 60);
/// After so long without a 401 the next one is taken for the first.
const RENEWALS_FORGOTTEN: Duration = Duration::from_secs(10 * 60);

/// How long a secret lives, as its source says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// Until somebody changes it, which the source notices by itself (a file) or never (the environment).
    Unbounded,
    /// Unknown: it is asked for again from time to time.
    Unknown,
    /// To this time.
    Until(SystemTime),
}

impl Life {
    /// Its end, where there is one.
    pub(crate) fn end(self) -> Option<SystemTime> {
        match self {
            Self::Until(end) => Some(end),
            Self::Unbounded | Self::Unknown => None,
        }
    }
}

/// When a secret is fetched again, and until when it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// From here on it is fetched again ahead of its end; none is never.
    pub(crate) refresh: Option<SystemTime>,
    /// From here on it is not used; none is never.
    pub(crate) end: Option<SystemTime>,
}

impl Window {
    /// Of a secret fetched now; `jitter` (any byte) moves the refresh between 75 and 85 of a hundred parts of the life.
    pub(crate) fn of(life: Life, now: SystemTime, jitter: u8) -> Self {
        let left = match life {
            Life::Unbounded => return Self { refresh: None, end: None },
            Life::Unknown => {
                return Self { refresh: now.checked_add(part(RECHECK, jitter)), end: now.checked_add(RECHECK_LIMIT) };
            }
            Life::Until(end) => end.duration_since(now).unwrap_or_default().min(LONGEST),
        };
        let usable = left.saturating_sub(MARGIN.min(left / 10));
        Self { refresh: now.checked_add(part(usable, jitter)), end: now.checked_add(usable) }
    }

    pub(crate) fn may_be_used(&self, now: SystemTime) -> bool {
        self.end.is_none_or(|end| now < end)
    }

    pub(crate) fn is_due(&self, now: SystemTime) -> bool {
        self.refresh.is_some_and(|refresh| now >= refresh)
    }
}

fn part(whole: Duration, jitter: u8) -> Duration {
    whole.mul_f64(0.75 + 0.1 * f64::from(jitter) / 255.0)
}

/// A source that is left alone until some time, longer with every time in a row.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rest {
    times: u32,
    until: Option<SystemTime>,
    last: Option<SystemTime>,
}

impl Rest {
    /// It failed now.
    pub(crate) fn after_failure(&mut self, now: SystemTime) {
        self.lengthen(now, FIRST_REST);
    }

    /// A 401 made us fetch now.
    pub(crate) fn after_renewal(&mut self, now: SystemTime) {
        let quiet = self.last.is_none_or(|last| now.duration_since(last).is_ok_and(|gone| gone > RENEWALS_FORGOTTEN));
        if quiet {
            self.times = 0;
        }
        self.lengthen(now, FIRST_RENEWAL_REST);
    }

    fn lengthen(&mut self, now: SystemTime, first: Duration) {
        let rest = first.saturating_mul(1u32.checked_shl(self.times.min(16)).unwrap_or(u32::MAX)).min(LONGEST_REST);
        *self = Self { times: self.times.saturating_add(1), until: now.checked_add(rest), last: Some(now) };
    }

    /// How much of it is left; a clock that was put back doesn't make it longer than the longest.
    pub(crate) fn left(&self, now: SystemTime) -> Option<Duration> {
        let left = self.until?.duration_since(now).ok()?;
        (!left.is_zero() && left <= LONGEST_REST).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
    }

    #[test]
    fn an_hour_is_used_but_for_half_a_minute_and_fetched_again_at_four_fifths() {
        let window = Window::of(Life::Until(at(3600)), at(0), 128);
        assert!(window.may_be_used(at(3569)) && !window.may_be_used(at(3570)));
        assert!(!window.is_due(at(2676)) && window.is_due(at(3035)));
    }

    #[test]
    fn a_life_that_is_over_is_not_used() {
        let window = Window::of(Life::Until(at(0)), at(5), 0);
        assert!(!window.may_be_used(at(5)));
    }

    #[test]
    fn rests_grow_to_five_minutes_and_end() {
        let mut rest = Rest::default();
        assert_eq!(rest.left(at(0)), None);
        let mut seen = Vec::new();
        for _ in 0..12 {
            rest.after_failure(at(0));
            seen.push(rest.left(at(0)).map_or(0, |left| left.as_secs()));
        }
        assert_eq!(seen, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!(rest.left(at(300)), None);
    }

    #[test]
    fn a_clock_put_back_a_day_does_not_lock_a_source() {
        let mut rest = Rest::default();
        rest.after_failure(at(86_400));
        assert_eq!(rest.left(at(0)), None);
    }

    #[test]
    fn renewals_far_apart_are_each_the_first() {
        let mut rest = Rest::default();
        for hour in 0..5 {
            rest.after_renewal(at(hour * 3600));
            assert_eq!(rest.left(at(hour * 3600)), Some(FIRST_RENEWAL_REST));
        }
    }

    proptest! {
        #[test]
        fn never_used_at_or_after_its_end(life in 0u64..10_000_000, passed in 0u64..20_000_000, jitter: u8) {
            let window = Window::of(Life::Until(at(life)), at(0), jitter);
            if window.may_be_used(at(passed)) {
                prop_assert!(passed < life);
            }
            prop_assert!(window.refresh <= window.end);
        }
    }
}
