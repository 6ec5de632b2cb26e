//! Counts of what was decided, for the line at the end of a run.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use policy::Verdict;

/// How many different denials are told apart; further ones are only counted.
const GROUP_LIMIT: usize = 1000;

/// What a gateway decided since it started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Flows that went on.
    pub allowed: u64,
    /// Flows that were refused.
    pub denied: u64,
    /// Flows that a person was asked about.
    pub asked: u64,
    /// Flows that were allowed and failed: the name or the server could not be reached, or the record not be written.
    pub errors: u64,
    /// DNS questions answered.
    pub dns_allowed: u64,
    /// DNS questions refused.
    pub dns_denied: u64,
    /// Connections cut by a new policy.
    pub cut: u64,
    /// Connections open now.
    pub open: u64,
    /// Bytes from the sandbox.
    pub sent: u64,
    /// Bytes to the sandbox.
    pub received: u64,
    /// The denials, grouped, most frequent first.
    pub denials: Vec<Group>,
}

/// Equal denials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What was denied: `POST api.example.com`, `db.internal:5432`, `dns evil.example`.
    pub what: String,
    /// The rule.
    pub rule: String,
    /// How often.
    pub count: u64,
}

/// Where workers count.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    allowed: AtomicU64,
    denied: AtomicU64,
    asked: AtomicU64,
    errors: AtomicU64,
    dns_allowed: AtomicU64,
    dns_denied: AtomicU64,
    cut: AtomicU64,
    open: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    denials: Mutex<HashMap<(String, String), u64>>,
}

impl Tally {
    /// A flow was decided.
    pub(crate) fn flow(&self, verdict: Verdict, what: &str, rule: &str) {
        match verdict {
            Verdict::Allowed => add(&self.allowed, 1),
            Verdict::Asked => add(&self.asked, 1),
            Verdict::Denied => {
                add(&self.denied, 1);
                self.denial(what, rule);
            }
        }
    }

    /// A DNS question was decided.
    pub(crate) fn dns(&self, verdict: Verdict, what: &str, rule: &str) {
        match verdict {
            Verdict::Allowed | Verdict::Asked => add(&self.dns_allowed, 1),
            Verdict::Denied => {
                add(&self.dns_denied, 1);
                self.denial(what, rule);
            }
        }
    }

    /// An allowed flow failed.
    pub(crate) fn error(&self) {
        add(&self.errors, 1);
    }

    /// A connection counts as open from here.
    pub(crate) fn opened(&self) -> u64 {
        self.open.fetch_add(1, Ordering::Relaxed)
    }

    /// A connection ended.
    pub(crate) fn closed(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Bytes were moved by a connection that ended.
    pub(crate) fn moved(&self, sent: u64, received: u64) {
        add(&self.sent, sent);
        add(&self.received, received);
    }

    /// Connections were cut by a new policy.
    pub(crate) fn cut(&self, count: u64) {
        add(&self.cut, count);
    }

    /// The counts so far.
    pub(crate) fn summary(&self) -> Summary {
        let counted = self.denials.lock().unwrap_or_else(PoisonError::into_inner);
        let mut denials: Vec<Group> = counted
            .iter()
            .map(|((what, rule), count)| Group { what: what.clone(), rule: rule.clone(), count: *count })
            .collect();
        drop(counted);
        denials
            .sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.what.cmp(&b.what)).then_with(|| a.rule.cmp(&b.rule)));
        Summary {
            allowed: read(&self.allowed),
            denied: read(&self.denied),
            asked: read(&self.asked),
            errors: read(&self.errors),
            dns_allowed: read(&self.dns_allowed),
            dns_denied: read(&self.dns_denied),
            cut: read(&self.cut),
            open: read(&self.open),
            sent: read(&self.sent),
            received: read(&self.received),
            denials,
        }
    }

    fn denial(&self, what: &str, rule: &str) {
        let mut denials = self.denials.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (what.to_owned(), rule.to_owned());
        if let Some(count) = denials.get_mut(&key) {
            *count += 1;
        } else if denials.len() < GROUP_LIMIT {
            denials.insert(key, 1);
        }
    }
}

fn add(counter: &AtomicU64, value: u64) {
    counter.fetch_add(value, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
