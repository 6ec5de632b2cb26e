//! A new policy goes over the open connections and cuts those it denies (spec/egress.md, 10).

use std::{
    rc::Rc,
    sync::mpsc,
    time::{Duration, Instant},
};

use audit_event::{EndedBy, Event, Transfer};
use jiff::Timestamp;
use policy::{
    Decision, Fact, Guard, Layer, Missing, ProcessFacts, Step,
    model::{Action, PolicySpec},
};

use values::RuleName;

use crate::{
    flow::OpenFlow,
    in_force::InForce,
    inspect,
    pump::{self, Key, Left},
    record::{self, End},
    shared::Shared,
    socket::Socket,
    worker::Worker,
};

/// How many slots are gone over before the clock is looked at.
const SLICE: usize = 64;
/// How long bytes of other connections may wait for one that goes over them.
const BREATH: Duration = Duration::from_millis(1);
/// How many ends are recorded with one write.
const RECORDS: usize = 64;
/// How long at most until the clock is looked at again while a rule's end is waited for.
const CLOCK_LOOK: Duration = Duration::from_secs(10);
/// How often one flow may ask for a fact.
const STEP_LIMIT: usize = 8;

/// What one worker did.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Share {
    /// Connections judged again.
    pub(crate) rejudged: u64,
    /// Of these, cut.
    pub(crate) cut: u64,
    /// When the last was cut.
    pub(crate) done: Option<Instant>,
}

/// Goes over the connections of one worker. Cuts first and records then: nobody's bytes wait for the record of an end.
pub(crate) async fn go_over(worker: &Rc<Worker>, told: mpsc::Sender<Share>) {
    let in_force = worker.shared.in_force();
    let mut share = Share::default();
    let mut breath = Breath::new();
    let mut gone = Vec::new();
    let mut late = Vec::new();
    let mut from = Some(0);
    while let Some(start) = from {
        let (keys, next) = worker.pump.borrow_mut().slice(start, SLICE);
        share.rejudged += keys.len() as u64;
        for key in keys {
            match look(worker, key, &in_force) {
                Look::GoesOn => {}
                Look::Cut(decision) => gone.extend(take_out(worker, key, decision.rule)),
                Look::NeedsProcess => late.push(key),
            }
        }
        from = next;
        breath.take(worker).await;
    }
    for key in late {
        gone.extend(after_look_up(worker, key, &in_force).await);
    }
    share.cut = gone.len() as u64;
    let mut events = Vec::new();
    worker.datagrams.go_over(worker, &in_force, &mut share, &mut events);
    inspect::go_over(worker, &in_force, &mut share, &mut events).await;
    worker.metadata.go_over(&in_force, &mut share, &mut events);
    share.done = Some(Instant::now());
    worker.shared.tally.cut(share.cut);
    worker.record_ends_now(&events).await;
    let mut gone = gone.into_iter();
    while !gone.as_slice().is_empty() {
        events.clear();
        events.extend(gone.by_ref().take(RECORDS).map(|gone| gone.event(&in_force)));
        worker.record_ends_now(&events).await;
        breath.take(worker).await;
    }
    // Nobody waits any more only where the program is on its way out.
    let _ = told.send(share);
}

/// Lets the bytes of the others go on, now and then.
struct Breath {
    last: Instant,
}

impl Breath {
    fn new() -> Self {
        Self { last: Instant::now() }
    }

    async fn take(&mut self, worker: &Worker) {
        if self.last.elapsed() >= BREATH {
            worker.turn_once();
            tokio::task::yield_now().await;
            self.last = Instant::now();
        }
    }
}

/// A flow that was cut, before its end is recorded.
pub(crate) struct Gone {
    flow: Box<OpenFlow>,
    bytes: Transfer,
    rule: RuleName,
}

impl Gone {
    /// The event of its end.
    pub(crate) fn event(self, in_force: &InForce) -> Event {
        let end = End {
            by: EndedBy::Policy,
            cut: Some((in_force.policy.revision(), self.rule)),
            bytes: self.bytes,
            error: None,
        };
        record::ended(&self.flow, end)
    }
}

/// Waits until the time of a rule is over that was not yet at `since`. Gives a time right before it judges.
pub(crate) async fn a_rule_ends(shared: &Shared, since: Timestamp) -> Timestamp {
    let in_force = shared.in_force();
    let Some(end) = next_end(in_force.policy.spec(), since) else { return std::future::pending().await };
    loop {
        let now = Timestamp::now();
        if now > end {
            // What is on its way from a judgement to the registry sees that it was judged by something older. Somebody
            // else's new policy stays.
            shared.policy.compare_and_swap(&in_force, in_force.renewed());
            return now;
        }
        let left = Duration::try_from(end.duration_since(now)).unwrap_or_default();
        // The clock may be set while this waits.
        tokio::time::sleep(left.saturating_add(Duration::from_millis(1)).min(CLOCK_LOOK)).await;
    }
}

/// When the first rule ends that opens something.
fn next_end(spec: &PolicySpec, since: Timestamp) -> Option<Timestamp> {
    let opening = spec.rules.iter().filter(|rule| match rule.action {
        Action::Allow | Action::Ask => true,
        Action::Deny => false,
    });
    opening.filter_map(|rule| rule.expires).filter(|end| *end >= since).min()
}

/// What a new policy makes of an open flow.
pub(crate) enum Look {
    /// It stays.
    GoesOn,
    /// It is denied.
    Cut(Decision),
    /// A rule looks at the process.
    NeedsProcess,
}

fn look(worker: &Worker, key: Key, in_force: &InForce) -> Look {
    let mut pump = worker.pump.borrow_mut();
    pump.flow(key).map_or(Look::GoesOn, |open| look_at(open, in_force))
}

/// Judges an open flow again, by what is known of it.
pub(crate) fn look_at(open: &mut OpenFlow, in_force: &InForce) -> Look {
    match judge(open, in_force) {
        Step::Decided(decision) if open.still_goes_on(&decision) => Look::GoesOn,
        Step::Decided(decision) => Look::Cut(decision),
        Step::Needs(_) => Look::NeedsProcess,
    }
}

/// Judges a flow again by what is known of it. Asks back only for the process.
pub(crate) fn judge(open: &mut OpenFlow, in_force: &InForce) -> Step {
    // Held back, so that it is seen when the new policy looks at requests and the old one did not.
    let mut held = if open.judged_by_request { None } else { Some(std::mem::take(&mut open.facts.http)) };
    let may_come = held.as_ref().unwrap_or(&open.facts.http) == &Fact::Pending;
    let mut step = open.facts.judge(in_force);
    for _ in 0..STEP_LIMIT {
        match step {
            Step::Decided(_) => break,
            Step::Needs(Missing::Name) => open.facts.name = Fact::Absent,
            Step::Needs(Missing::Address) => open.facts.address = Fact::Absent,
            Step::Needs(Missing::Http) => {
                open.judged_by_request = true;
                open.facts.http = match held.take() {
                    Some(Fact::Known(request)) => Fact::Known(request),
                    Some(Fact::Pending | Fact::Absent) | None => Fact::Absent,
                };
            }
            Step::Needs(Missing::Process) => match open.process.get() {
                Some(process) => {
                    open.facts.process = Fact::Known(ProcessFacts {
                        pid: process.pid,
                        executable: process.exe.clone(),
                        digest: process.digest.clone(),
                    });
                }
                None => break,
            },
        }
        step = open.facts.judge(in_force);
    }
    if let Some(request) = held {
        open.facts.http = request;
    } else if may_come {
        open.facts.http = Fact::Pending;
    }
    step
}

/// The denial of a flow that the policy comes to no decision about.
pub(crate) fn undecided() -> Decision {
    Decision::by_guard(Guard::Malformed, Layer::Ip, "the new policy came to no decision")
}

/// Looks the process up, then judges; without a process the conditions on it don't match.
async fn after_look_up(worker: &Worker, key: Key, in_force: &InForce) -> Option<Gone> {
    let ends = worker.pump.borrow_mut().flow(key).map(|open| (open.client, open.server))?;
    let found = match &worker.shared.processes {
        Some(processes) => processes.find(ends.0, ends.1, true).await,
        None => None,
    };
    let decision = {
        let mut pump = worker.pump.borrow_mut();
        let open = pump.flow(key)?;
        match found {
            Some(process) => {
                open.facts.process = Fact::Known(ProcessFacts {
                    pid: process.pid,
                    executable: process.exe.clone(),
                    digest: process.digest.clone(),
                });
                // Filled already where the look-up on the side was faster.
                let _ = open.process.set(process);
            }
            None => open.facts.process = Fact::Absent,
        }
        match judge(open, in_force) {
            Step::Decided(decision) if open.still_goes_on(&decision) => return None,
            Step::Decided(decision) => decision,
            Step::Needs(_) => undecided(),
        }
    };
    take_out(worker, key, decision.rule)
}

/// Cuts an open flow, where it is open still. Both sides get a reset, so that neither takes a torn stream for a whole one.
pub(crate) fn take_out(worker: &Worker, key: Key, rule: RuleName) -> Option<Gone> {
    let Left { client, upstream, flow, sent, received } = worker.pump.borrow_mut().take(key)?;
    worker.stop_waiting(key);
    pump::reset(&client);
    pump::reset(&upstream);
    drop((client, upstream));
    Some(Gone { flow, bytes: Transfer { sent, received }, rule })
}

/// Cuts a flow that was about to be forwarded.
pub(crate) fn cut(
    worker: &Worker,
    client: Socket,
    upstream: Socket,
    open: &OpenFlow,
    in_force: &InForce,
    decision: Decision,
) {
    client.reset();
    upstream.reset();
    worker.shared.tally.cut(1);
    let end = End {
        by: EndedBy::Policy,
        cut: Some((in_force.policy.revision(), decision.rule)),
        bytes: Transfer::default(),
        error: None,
    };
    worker.record_later(record::ended(open, end));
}
