//! An upstream server's answer, and what is remembered with it.

use std::{
    net::IpAddr,
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use smallvec::SmallVec;
use values::Revision;
use wire::dns::answer::{Answer, LIFE};

/// The answer to one question, ready to be given again.
#[derive(Debug)]
pub(crate) struct Found {
    /// What the server said.
    pub(crate) answer: Answer,
    /// Until when it holds.
    pub(crate) expires: Instant,
    /// When its addresses were last bound to the name, in the bindings' own clock; 0 is never.
    pub(crate) bound: AtomicU64,
    /// What the policy of a revision admits of the addresses.
    admitted: ArcSwapOption<Admitted>,
}

/// The addresses that one revision admits into answers. Kept with the answer, whose life is short: a rule that
/// expires meanwhile is seen by the judge of the flow at once, and here a minute later at most.
#[derive(Debug)]
pub(crate) struct Admitted {
    revision: Revision,
    /// Those admitted.
    pub(crate) passed: SmallVec<[IpAddr; 4]>,
    /// The first that is not.
    pub(crate) kept_back: Option<IpAddr>,
}

impl Found {
    /// An answer that came now.
    pub(crate) fn new(answer: Answer, now: Instant) -> Self {
        let expires = now + Duration::from_secs(answer.seconds.into());
        Self { answer, expires, bound: AtomicU64::new(0), admitted: ArcSwapOption::empty() }
    }

    /// Which addresses may stand in an answer under this revision.
    pub(crate) fn admitted(&self, revision: Revision, admits: impl Fn(IpAddr) -> bool) -> Arc<Admitted> {
        if let Some(known) = self.admitted.load_full().filter(|known| known.revision == revision) {
            return known;
        }
        let (passed, kept_back): (SmallVec<_>, SmallVec<[IpAddr; 4]>) =
            self.answer.addresses.iter().copied().partition(|address| admits(*address));
        let admitted = Arc::new(Admitted { revision, passed, kept_back: kept_back.first().copied() });
        self.admitted.store(Some(Arc::clone(&admitted)));
        admitted
    }

    /// About how many bytes it takes.
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>()
            + self.answer.records.iter().map(|(_, data)| size_of::<(u16, Vec<u8>)>() + data.len()).sum::<usize>()
    }

    /// The time to live that the sandbox is told.
    pub(crate) fn ttl(&self, now: Instant) -> u32 {
        let left = self.expires.saturating_duration_since(now).as_secs();
        u32::try_from(left).unwrap_or(*LIFE.end()).clamp(*LIFE.start(), *LIFE.end())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use smallvec::SmallVec;
    use wire::dns::answer::Answer;

    use super::Found;

    #[test]
    fn the_told_life_is_what_is_left_within_the_bounds() {
        let answer = Answer {
            exists: true,
            addresses: SmallVec::new(),
            records: Vec::new(),
            canonical: None,
            ech: false,
            alias: None,
            seconds: 30,
        };
        let now = Instant::now();
        let found = Found::new(answer, now);
        assert_eq!(found.expires, now + Duration::from_secs(30));
        for (later, told) in [(0, 30), (12, 18), (29, 5), (3600, 5)] {
            assert_eq!(found.ttl(now + Duration::from_secs(later)), told, "{later}");
        }
    }
}
