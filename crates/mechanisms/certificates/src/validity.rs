//! When a certificate holds: backdated a little for clocks that differ, and never longer than its signer's.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;

/// A sandbox's clock may be this much behind ours.
const BACKDATED: Duration = Duration::from_secs(60 * 60);

/// From when to when, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) from: SystemTime,
    pub(crate) until: SystemTime,
}

impl Validity {
    /// From an hour before `now`, for `life` from `now`; within `signer` where there is one.
    pub(crate) fn new(now: SystemTime, life: Duration, signer: Option<Validity>) -> Self {
        let now = whole_seconds(now);
        let own = Validity { from: now.checked_sub(BACKDATED).unwrap_or(now), until: now + life };
        match signer {
            Some(signer) => Validity { from: own.from.max(signer.from), until: own.until.min(signer.until) },
            None => own,
        }
    }

    pub(crate) fn holds(self, now: SystemTime) -> bool {
        self.from <= now && now < self.until
    }

    /// How long it still holds.
    pub(crate) fn left(self, now: SystemTime) -> Duration {
        self.until.duration_since(now).unwrap_or_default()
    }

    /// As a certificate writes it; `None` for times no certificate can hold.
    pub(crate) fn written(self) -> Option<(OffsetDateTime, OffsetDateTime)> {
        Some((written(self.from)?, written(self.until)?))
    }
}

/// A time of a certificate; before 1970 is 1970.
pub(crate) fn from_unix(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

fn whole_seconds(at: SystemTime) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
}

fn written(at: SystemTime) -> Option<OffsetDateTime> {
    let seconds = i64::try_from(at.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()?;
    OffsetDateTime::from_unix_timestamp(seconds).ok()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::{prop_assert, proptest};

    use super::Validity;

    proptest! {
        #[test]
        fn a_signed_one_never_reaches_beyond_its_signer(
            signed in 1_700_000_000_u64..2_000_000_000,
            later in 0_u64..400 * 86_400,
            signer_life in 1_u64..400 * 86_400,
            life in 1_u64..400 * 86_400,
        ) {
            let at = UNIX_EPOCH + Duration::from_secs(signed);
            let signer = Validity::new(at, Duration::from_secs(signer_life), None);
            let own = Validity::new(at + Duration::from_secs(later), Duration::from_secs(life), Some(signer));
            prop_assert!(own.from >= signer.from && own.until <= signer.until);
            prop_assert!(own.left(at + Duration::from_secs(later)) <= Duration::from_secs(life));
            prop_assert!(signer.written().is_some());
        }
    }
}
