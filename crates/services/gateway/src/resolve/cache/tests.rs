//! What the cache keeps, for how long, and its bounds.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use policy::{HostName, QueryType, model::PolicySpec};
use smallvec::SmallVec;
use wire::dns::answer::Answer;

use super::{BYTES_LIMIT, Cache, NAME_LIMIT, Place, UNDER_WAY_LIMIT};
use crate::resolve::{Found, ResolveError, world::in_force};

fn name(number: usize) -> HostName {
    HostName::parse(&format!("n{number}.example")).unwrap()
}

/// An answer with one record of so many bytes.
fn found(bytes: usize, now: Instant) -> Arc<Found> {
    let answer = Answer {
        exists: true,
        addresses: SmallVec::new(),
        records: vec![(16, vec![0; bytes])],
        canonical: None,
        ech: false,
        alias: None,
        seconds: 60,
    };
    Arc::new(Found::new(answer, now))
}

#[test]
fn names_are_kept_up_to_their_number_the_oldest_go_first() {
    let (cache, now, world) = (Cache::default(), Instant::now(), in_force(PolicySpec::default(), 1));
    for number in 0..NAME_LIMIT + 100 {
        let outcome = if number % 2 == 0 { Ok(found(4, now)) } else { Err(ResolveError::NoSuchName) };
        cache.put(None, &name(number), QueryType::A, outcome, now);
    }
    let known = |number| cache.get(&world.policy, None, &name(number), QueryType::A, now).is_some();
    assert!(!known(0) && !known(99) && known(100) && known(NAME_LIMIT + 99));
    let table = cache.table();
    assert_eq!((table.names.len(), table.order.len()), (NAME_LIMIT, NAME_LIMIT));
}

#[test]
fn large_answers_are_kept_up_to_their_bytes() {
    let (cache, start) = (Cache::default(), Instant::now());
    for number in 0..2000 {
        // Each name is asked again when its answer is over, and has two types.
        let now = start + Duration::from_secs(number);
        for record in [QueryType::Txt, QueryType::Mx] {
            cache.put(None, &name(usize::try_from(number % 700).unwrap()), record, Ok(found(60_000, now)), now);
        }
        let table = cache.table();
        let held = table.names.values().flatten().map(|slot| slot.bytes).sum::<usize>();
        assert_eq!(table.bytes, held);
        assert!(table.bytes <= BYTES_LIMIT && table.names.len() == table.order.len());
    }
    assert!(cache.table().bytes > BYTES_LIMIT - 200_000);
}

#[test]
fn queries_under_way_are_bounded() {
    let (cache, now, world) = (Cache::default(), Instant::now(), in_force(PolicySpec::default(), 1));
    let place = |number| cache.place(&world.policy, None, &name(number), QueryType::A, now);
    let asking: Vec<_> = (0..UNDER_WAY_LIMIT).map(place).collect();
    assert!(asking.iter().all(|place| matches!(place, Place::Ask(_))));
    assert!(matches!(place(0), Place::Wait(_)));
    assert!(matches!(place(UNDER_WAY_LIMIT), Place::Known(Err(ResolveError::Busy))));
    cache.put(None, &name(0), QueryType::A, Err(ResolveError::NoSuchName), now);
    assert!(matches!(place(UNDER_WAY_LIMIT), Place::Ask(_)));
}
