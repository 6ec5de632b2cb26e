//! One credential: its cache, its fetch under way, its rests.
//!
//! ```text
//!             ┌ fresh ─────────────▶ the cached one
//!  obtain ────┤ due ───────────────▶ the cached one; a fetch starts behind it
//!             │ none, or at its end ▶ waits for the fetch under way, else starts it
//!             └ resting ───────────▶ the last failure
//! ```
//! A fetch runs on a thread of its own, so a source that hangs holds nobody else up. There is at most one per credential.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Instant, SystemTime},
};

use tokio::sync::watch;
use values::CredentialName;

use crate::{
    fault::{Fault, ObtainError, Problem},
    issued::{Issued, TokenId, TokenKey},
    schedule::{Rest, Window},
    source::{Attempt, Children, Fetched, Source, Stamp},
    surroundings::Surroundings,
};

/// How many replaced tokens that still live are kept to be revoked at the end; an older one is revoked at once.
const MOST_REPLACED: usize = 16;

type Outcome = Result<Arc<Issued>, ObtainError>;
type Flight = watch::Receiver<Option<Outcome>>;

/// What all credentials of a run share.
pub(crate) struct Shared {
    pub(crate) surroundings: Surroundings,
    pub(crate) ids: TokenKey,
    /// The commands of fetches.
    pub(crate) fetching: Children,
    /// The commands of revocations, which go on when nothing is fetched any more.
    pub(crate) revoking: Children,
}

impl Shared {
    fn attempt<'a>(&'a self, children: &'a Children) -> Attempt<'a> {
        Attempt { surroundings: &self.surroundings, children, until: Instant::now() + self.surroundings.patience.fetch }
    }
}

/// One credential.
pub(crate) struct Slot {
    pub(crate) name: CredentialName,
    pub(crate) source: Source,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: Option<Held>,
    flight: Option<Flight>,
    failure: Option<Arc<Fault>>,
    /// What its files looked like after the failure: where somebody mended them, it needn't rest.
    failed_stamp: Option<Stamp>,
    rest: Rest,
    renewal_rest: Rest,
    replaced: VecDeque<Arc<Issued>>,
    closed: bool,
}

struct Held {
    issued: Arc<Issued>,
    window: Window,
    stamp: Option<Stamp>,
    revocable: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    Needed,
    Refused,
}

enum Step {
    Done(Outcome),
    Wait(Flight),
}

impl Slot {
    pub(crate) fn new(name: CredentialName, source: Source) -> Self {
        Self { name, source, state: Mutex::new(State::default()) }
    }

    /// A secret that may be used now.
    pub(crate) async fn obtain(self: &Arc<Self>, shared: &Arc<Shared>) -> Outcome {
        let step = self.step(shared);
        self.finish(step).await
    }

    /// Another one than this, which the server refused.
    pub(crate) async fn renew(self: &Arc<Self>, shared: &Arc<Shared>, stale: &TokenId) -> Outcome {
        let step = self.renewal_step(shared, stale);
        let issued = self.finish(step).await?;
        if issued.id == *stale { Err(ObtainError::Unchanged { name: self.name.clone() }) } else { Ok(issued) }
    }

    async fn finish(&self, step: Step) -> Outcome {
        let mut flight = match step {
            Step::Done(outcome) => return outcome,
            Step::Wait(flight) => flight,
        };
        match flight.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or_else(|| Err(self.interrupted())),
            Err(_) => Err(self.interrupted()),
        }
    }

    fn step(self: &Arc<Self>, shared: &Arc<Shared>) -> Step {
        let now = shared.surroundings.clock.now();
        // A file is looked at before the lock is taken: it may lie on a slow disk.
        let stamp = self.source.stamp();
        let mut state = self.lock();
        if state.closed {
            return Step::Done(Err(self.ended()));
        }
        if let Some(held) = &state.held
            && held.window.may_be_used(now)
            && held.stamp == stamp
        {
            let issued = held.issued.clone();
            if held.window.is_due(now) && state.flight.is_none() && state.rest.left(now).is_none() {
                self.start(&mut state, shared, Why::Needed);
            }
            return Step::Done(Ok(issued));
        }
        if state.failed_stamp != stamp {
            state.rest = Rest::default();
        }
        self.join_or_start(&mut state, shared, now, Why::Needed)
    }

    fn renewal_step(self: &Arc<Self>, shared: &Arc<Shared>, stale: &TokenId) -> Step {
        let now = shared.surroundings.clock.now();
        let mut state = self.lock();
        if state.closed {
            return Step::Done(Err(self.ended()));
        }
        if let Some(held) = &state.held
            && held.window.may_be_used(now)
            && held.issued.id != *stale
        {
            return Step::Done(Ok(held.issued.clone()));
        }
        if state.flight.is_none()
            && let Some(wait) = state.renewal_rest.left(now)
        {
            return Step::Done(Err(ObtainError::RefusedAgain { name: self.name.clone(), wait }));
        }
        self.join_or_start(&mut state, shared, now, Why::Refused)
    }

    fn join_or_start(
        self: &Arc<Self>,
        state: &mut MutexGuard<'_, State>,
        shared: &Arc<Shared>,
        now: SystemTime,
        why: Why,
    ) -> Step {
        if let Some(flight) = &state.flight {
            return Step::Wait(flight.clone());
        }
        if let (Some(wait), Some(fault)) = (state.rest.left(now), &state.failure) {
            let (name, fault) = (self.name.clone(), fault.clone());
            return Step::Done(Err(ObtainError::Resting { name, fault, wait }));
        }
        Step::Wait(self.start(state, shared, why))
    }

    fn start(self: &Arc<Self>, state: &mut State, shared: &Arc<Shared>, why: Why) -> Flight {
        let (landing, flight) = watch::channel(None);
        state.flight = Some(flight.clone());
        let (slot, shared) = (Arc::clone(self), Arc::clone(shared));
        let run = move || {
            let landed = Landed { slot: &slot, landing };
            let fetched = slot.source.fetch(&shared.attempt(&shared.fetching));
            let (outcome, surplus) = slot.keep(&shared, fetched, why);
            landed.with(outcome);
            if let Some(surplus) = surplus {
                // Nobody waits for this any more, and the token is gone at its own end at the latest.
                let _ = slot.source.revoke(&surplus, &shared.attempt(&shared.revoking));
            }
        };
        if let Err(error) = thread::Builder::new().name("credential".to_owned()).spawn(run) {
            // The closure is gone, and with it the sender: those who wait see an interruption, the next one tries again.
            state.flight = None;
            state.failure = Some(Arc::new(fault_here(Problem::Io(error))));
        }
        flight
    }

    /// Takes in what a fetch gave. Beside the outcome, a token that is used no more and that nobody else will revoke.
    fn keep(&self, shared: &Shared, fetched: Result<Fetched, Fault>, why: Why) -> (Outcome, Option<Arc<Issued>>) {
        let now = shared.surroundings.clock.now();
        let failed_stamp = fetched.is_err().then(|| self.source.stamp()).flatten();
        let mut jitter = [0];
        // Without randomness all runs fetch at the same part of a life, and that is all.
        let _ = aws_lc_rs::rand::fill(&mut jitter);
        let mut state = self.lock();
        if why == Why::Refused {
            state.renewal_rest.after_renewal(now);
        }
        let fetched = match fetched {
            Ok(fetched) => fetched,
            Err(_) if state.closed => return (Err(self.ended()), None),
            Err(fault) => {
                state.failed_stamp = failed_stamp;
                return (Err(self.failed(&mut state, fault, now)), None);
            }
        };
        let id = shared.ids.id(&fetched.material);
        let issued = Arc::new(Issued { material: fetched.material, id, expires: fetched.life.end() });
        let revocable = fetched.revocable;
        if state.closed {
            // Who closed it waits for this fetch, and then revokes all that is here.
            state.replaced.extend(revocable.then_some(issued));
            return (Err(self.ended()), None);
        }
        let window = Window::of(fetched.life, now, jitter[0]);
        if !window.may_be_used(now) {
            // Over by our clock; by the provider's it may live on.
            let error = self.failed(&mut state, self.source.fault_of_a_dead_token(), now);
            return (Err(error), revocable.then_some(issued));
        }
        state.rest = Rest::default();
        state.failure = None;
        let held = Held { issued: issued.clone(), window, stamp: fetched.stamp, revocable };
        (Ok(issued), state.replace(held, now))
    }

    fn failed(&self, state: &mut State, fault: Fault, now: SystemTime) -> ObtainError {
        let fault = Arc::new(fault);
        state.rest.after_failure(now);
        state.failure = Some(fault.clone());
        ObtainError::Failed { name: self.name.clone(), fault }
    }

    fn ended(&self) -> ObtainError {
        ObtainError::Ended { name: self.name.clone() }
    }

    /// Ends it: nothing is obtained any more. Gives the fetch under way.
    pub(crate) fn close(&self) -> Closed {
        let mut state = self.lock();
        state.closed = true;
        Closed(state.flight.clone())
    }

    /// Revokes all that it gave, once the fetch under way has landed; the faults of those that could not be.
    pub(crate) fn revoke(&self, closed: Closed, shared: &Shared, deadline: Option<Instant>) -> Vec<Fault> {
        closed.let_land();
        let live = {
            let mut state = self.lock();
            let mut live: Vec<Arc<Issued>> = mem::take(&mut state.replaced).into();
            live.extend(state.held.take().filter(|held| held.revocable).map(|held| held.issued));
            live
        };
        let now = shared.surroundings.clock.now();
        let attempt = shared.attempt(&shared.revoking);
        let until = deadline.map_or(attempt.until, |deadline| attempt.until.min(deadline));
        let attempt = Attempt { until, ..attempt };
        let mut faults: Vec<Fault> = live
            .iter()
            .filter(|issued| issued.expires.is_none_or(|end| end > now))
            .filter_map(|issued| self.source.revoke(issued, &attempt).err())
            .collect();
        faults.extend(self.source.sign_out(&attempt).err());
        faults
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What a panicking holder leaves behind is still whole: every change is one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn interrupted(&self) -> ObtainError {
        let fault = fault_here(Problem::Unfit("the fetch was interrupted".to_owned()));
        ObtainError::Failed { name: self.name.clone(), fault: Arc::new(fault) }
    }
}

impl State {
    /// The newest takes its place; what it replaces and still lives is kept for the end. Gives back one too many.
    fn replace(&mut self, held: Held, now: SystemTime) -> Option<Arc<Issued>> {
        let before = self.held.replace(held)?;
        self.replaced.retain(|issued| issued.expires.is_none_or(|end| end > now));
        let same = self.held.as_ref().is_some_and(|held| held.issued.id == before.issued.id);
        if same || !before.revocable {
            return None;
        }
        self.replaced.push_back(before.issued);
        if self.replaced.len() > MOST_REPLACED { self.replaced.pop_front() } else { None }
    }
}

/// A credential that gives nothing any more, and the fetch that was under way then.
pub(crate) struct Closed(Option<Flight>);

impl Closed {
    fn let_land(self) {
        if let Some(mut flight) = self.0 {
            // A runtime of one thread and no drivers: all this waits for is the channel.
            if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() {
                let _ = runtime.block_on(flight.wait_for(Option::is_some));
            }
        }
    }
}

/// A fetch's end, which also comes where the fetch panics.
struct Landed<'a> {
    slot: &'a Slot,
    landing: watch::Sender<Option<Outcome>>,
}

impl Landed<'_> {
    fn with(self, outcome: Outcome) {
        // The order matters: who comes after this finds no flight and sees the cache; who waits gets the outcome.
        self.slot.lock().flight = None;
        self.landing.send_replace(Some(outcome));
    }
}

impl Drop for Landed<'_> {
    fn drop(&mut self) {
        if self.landing.borrow().is_none() {
            let mut state = self.slot.lock();
            state.flight = None;
            drop(state);
        }
    }
}

fn fault_here(problem: Problem) -> Fault {
    Fault {
        provider: "this machine",
        step: "fetching",
        place: "a thread of the gateway".to_owned(),
        problem,
        hint: "look for limits on threads and memory",
    }
}
