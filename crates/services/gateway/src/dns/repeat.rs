//! Answers that are given again.
//!
//! A name in demand is asked for again and again while its answer holds. Under one policy, in which no rule ends by
//! the clock, the same question then gets the same answer and the same words in the record. So both are kept, by the
//! question's bytes: what is left to do for each is the rate, the binding, the time to live, and the record itself,
//! which is written every time. Nothing here outlives the policy, nor an answer its own life.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Instant,
};

use audit_event::{Event, microseconds};
use foldhash::fast::RandomState;
use policy::HostName;
use wire::dns::question::Question;

use crate::{
    in_force::InForce,
    resolve::{Admitted, Found},
};

/// The most answers that are kept; then all are let go and gathered anew.
const LIMIT: usize = 16_384;
/// The largest answer that is kept: what nearly all have, and sixteen thousand of them are not too much.
const SIZE_LIMIT: usize = 1024;
/// The longest question: a name, its type and its class.
const QUESTION_LIMIT: usize = 255 + 4;

/// What an answer was made of.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) name: HostName,
    pub(super) found: Arc<Found>,
    pub(super) admitted: Arc<Admitted>,
}

/// An answer, and the event that tells of it.
#[derive(Debug)]
struct Repeat {
    known: Known,
    event: Event,
}

/// Where a kept answer stands. Good until the next [`Repeats::begin`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(usize);

/// The answers of one server task.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    /// The policy under which all of it was decided. Weak: a policy that was replaced is not kept from going.
    in_force: Weak<InForce>,
    /// Whether no rule of it ends by the clock.
    lasting: bool,
    places: HashMap<Box<[u8]>, usize, RandomState>,
    all: Vec<Repeat>,
}

impl Repeats {
    /// Before a batch: lets go what another policy decided, or what has become too much.
    pub(super) fn begin(&mut self, in_force: &Arc<InForce>) {
        let same = self.is_of(in_force);
        if same && self.all.len() < LIMIT {
            return;
        }
        self.places.clear();
        self.all.clear();
        if !same {
            self.in_force = Arc::downgrade(in_force);
            self.lasting = in_force.policy.spec().rules.iter().all(|rule| rule.expires.is_none());
        }
    }

    /// What the kept answer to a question is made of, where it still holds.
    pub(super) fn find(
        &self,
        in_force: &Arc<InForce>,
        question: &Question<'_>,
        now: Instant,
    ) -> Option<(Place, &Known)> {
        if !self.is_of(in_force) {
            return None;
        }
        let place = *self.places.get(key(question, &mut [0; QUESTION_LIMIT])?)?;
        let known = &self.all.get(place)?.known;
        (known.found.expires > now).then_some((Place(place), known))
    }

    /// The event that tells of the answer.
    pub(super) fn event(&self, place: Place) -> Option<&Event> {
        self.all.get(place.0).map(|repeat| &repeat.event)
    }

    /// Notes how long the answer took this time.
    pub(super) fn took(&mut self, place: Place, started: Instant) {
        if let Some(Repeat { event: Event::DnsDecided(record), .. }) = self.all.get_mut(place.0) {
            record.duration_us = microseconds(started.elapsed());
        }
    }

    /// Whether an answer can be kept.
    pub(super) fn takes(&self, in_force: &Arc<InForce>, known: &Known) -> bool {
        self.lasting && self.is_of(in_force) && known.found.size() <= SIZE_LIMIT
    }

    /// Keeps an answer that it [`takes`](Self::takes).
    pub(super) fn keep(&mut self, question: &Question<'_>, known: Known, event: Event) -> Place {
        let mut buffer = [0; QUESTION_LIMIT];
        // A question that was read is no longer than the limit.
        let key = key(question, &mut buffer).unwrap_or_default();
        let repeat = Repeat { known, event };
        match self.places.get(key) {
            Some(place) => {
                let place = *place;
                if let Some(former) = self.all.get_mut(place) {
                    *former = repeat;
                }
                Place(place)
            }
            None => {
                let place = self.all.len();
                self.places.insert(Box::from(key), place);
                self.all.push(repeat);
                Place(place)
            }
        }
    }

    fn is_of(&self, in_force: &Arc<InForce>) -> bool {
        std::ptr::eq(self.in_force.as_ptr(), Arc::as_ptr(in_force))
    }
}

/// The question's bytes, the name in lower case; type and class as they are, for they are no letters.
fn key<'b>(question: &Question<'_>, buffer: &'b mut [u8; QUESTION_LIMIT]) -> Option<&'b [u8]> {
    let key = buffer.get_mut(..question.wire.len())?;
    key.copy_from_slice(question.wire);
    let name = key.len().checked_sub(4)?;
    key.get_mut(..name)?.make_ascii_lowercase();
    Some(key)
}
