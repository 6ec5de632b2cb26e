//! Counts of what was decided, for the line at the end of a run.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use policy::{HostName, QueryType, Verdict};

/// How many different denials, and names that could not be resolved, are told apart; further ones are only counted.
const GROUP_LIMIT: usize = 1000;

/// Why a name that exists is unresolved.
pub(crate) const NO_ADDRESS: &str = "no address";

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
    /// The look-ups that these were part of: one asks for IPv4 and IPv6 addresses of its name.
    pub lookups_denied: u64,
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
    /// Names that the policy opens and that have no address all the same, by name.
    pub unresolved: Vec<Unresolved>,
    /// What failed inside opened TLS, grouped, most frequent first.
    pub failures: Vec<Failure>,
}

/// Equal failures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What failed, as in [`Group::what`].
    pub what: String,
    /// Why, and what to do where something can be done.
    pub reason: String,
    /// How often.
    pub count: u64,
}

/// A name that could not be resolved upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unresolved {
    /// The name.
    pub name: String,
    /// Why: `NXDOMAIN`, `SERVFAIL`, `timeout` …
    pub reason: String,
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
    lookups_denied: AtomicU64,
    cut: AtomicU64,
    open: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    denials: Mutex<HashMap<(String, String), Count>>,
    unresolved: Mutex<BTreeMap<String, String>>,
    failures: Mutex<HashMap<(String, String), u64>>,
}

/// How often something was denied. The questions of one look-up differ by record type, so each type counts for itself.
#[derive(Debug, Default)]
struct Count {
    /// Flows; or questions for anything but an address.
    other: u64,
    four: u64,
    six: u64,
    service: u64,
}

impl Count {
    fn of(&mut self, record: Option<QueryType>) -> &mut u64 {
        match record {
            Some(QueryType::A) => &mut self.four,
            Some(QueryType::Aaaa) => &mut self.six,
            Some(QueryType::Https | QueryType::Svcb) => &mut self.service,
            Some(QueryType::Cname | QueryType::Mx | QueryType::Txt | QueryType::Srv | QueryType::Other(_)) | None => {
                &mut self.other
            }
        }
    }

    fn times(&self) -> u64 {
        self.other.max(self.four).max(self.six).max(self.service)
    }
}

impl Tally {
    /// A flow was decided.
    pub(crate) fn flow(&self, verdict: Verdict, what: &str, rule: &str) {
        match verdict {
            Verdict::Allowed => add(&self.allowed, 1),
            Verdict::Asked => add(&self.asked, 1),
            Verdict::Denied => {
                add(&self.denied, 1);
                self.denial(what, rule, None);
            }
        }
    }

    /// So many were denied, of which no more is known than this.
    pub(crate) fn denied_untold(&self, count: u64, what: &str, rule: &str) {
        add(&self.denied, count);
        let mut denials = self.denials.lock().unwrap_or_else(PoisonError::into_inner);
        denials.entry((what.to_owned(), rule.to_owned())).or_default().other += count;
    }

    /// A DNS question was answered.
    pub(crate) fn answered(&self) {
        add(&self.dns_allowed, 1);
    }

    /// A DNS question was refused.
    pub(crate) fn refused(&self, what: &str, record: Option<QueryType>, rule: &str) {
        add(&self.dns_denied, 1);
        if self.denial(what, rule, record) {
            add(&self.lookups_denied, 1);
        }
    }

    /// A name that may be asked for has no address, as far as is known.
    pub(crate) fn unresolved(&self, name: &HostName, reason: String) {
        let mut unresolved = self.unresolved.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = unresolved.len() >= GROUP_LIMIT;
        match unresolved.get_mut(name.as_str()) {
            // That one family has no address says less than what went wrong with the other.
            Some(known) if known == NO_ADDRESS => *known = reason,
            Some(_) => {}
            None if is_full => {}
            None => {
                unresolved.insert(name.as_str().to_owned(), reason);
            }
        }
    }

    /// A name has an address.
    pub(crate) fn resolved(&self, name: &HostName) {
        self.unresolved.lock().unwrap_or_else(PoisonError::into_inner).remove(name.as_str());
    }

    /// An allowed flow failed.
    pub(crate) fn error(&self) {
        add(&self.errors, 1);
    }

    /// Something inside opened TLS failed.
    pub(crate) fn failed(&self, what: String, reason: &str) {
        self.error();
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = failures.len() >= GROUP_LIMIT;
        let key = (what, reason.to_owned());
        if !is_full || failures.contains_key(&key) {
            *failures.entry(key).or_default() += 1;
        }
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
            .map(|((what, rule), count)| Group { what: what.clone(), rule: rule.clone(), count: count.times() })
            .collect();
        drop(counted);
        denials
            .sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.what.cmp(&b.what)).then_with(|| a.rule.cmp(&b.rule)));
        let unresolved = self.unresolved.lock().unwrap_or_else(PoisonError::into_inner);
        let unresolved =
            unresolved.iter().map(|(name, reason)| Unresolved { name: name.clone(), reason: reason.clone() }).collect();
        let failed = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let mut failures: Vec<Failure> = failed
            .iter()
            .map(|((what, reason), count)| Failure { what: what.clone(), reason: reason.clone(), count: *count })
            .collect();
        failures.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.what.cmp(&b.what)));
        Summary {
            allowed: read(&self.allowed),
            denied: read(&self.denied),
            asked: read(&self.asked),
            errors: read(&self.errors),
            dns_allowed: read(&self.dns_allowed),
            dns_denied: read(&self.dns_denied),
            lookups_denied: read(&self.lookups_denied),
            cut: read(&self.cut),
            open: read(&self.open),
            sent: read(&self.sent),
            received: read(&self.received),
            denials,
            unresolved,
            failures,
        }
    }

    /// Counts a denial; whether it is another one, and not only the next question of the same look-up.
    fn denial(&self, what: &str, rule: &str, record: Option<QueryType>) -> bool {
        let mut denials = self.denials.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (what.to_owned(), rule.to_owned());
        if !denials.contains_key(&key) && denials.len() >= GROUP_LIMIT {
            return !matches!(record, Some(QueryType::Aaaa | QueryType::Https | QueryType::Svcb));
        }
        let count = denials.entry(key).or_default();
        let before = count.times();
        *count.of(record) += 1;
        count.times() > before
    }
}

fn add(counter: &AtomicU64, value: u64) {
    counter.fetch_add(value, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_questions_of_one_look_up_count_once() {
        let tally = Tally::default();
        let ask = |name: &str, records: &[QueryType]| {
            records.iter().for_each(|record| tally.refused(&format!("dns {name}"), Some(*record), "mode-default"));
        };
        ask("a.example", &[QueryType::A, QueryType::Aaaa, QueryType::Https]);
        ask("b.example", &[QueryType::Aaaa, QueryType::A, QueryType::Aaaa, QueryType::A]);
        ask("c.example", &[QueryType::Txt, QueryType::Mx]);
        let summary = tally.summary();
        let groups: Vec<(&str, u64)> = summary.denials.iter().map(|one| (one.what.as_str(), one.count)).collect();
        assert_eq!(groups, [("dns b.example", 2), ("dns c.example", 2), ("dns a.example", 1)]);
        assert_eq!((summary.lookups_denied, summary.dns_denied), (5, 9));
    }

    #[test]
    fn what_was_denied_beyond_the_bound_is_counted() {
        let tally = Tally::default();
        for number in 0..GROUP_LIMIT + 5 {
            for record in [QueryType::A, QueryType::Aaaa] {
                tally.refused(&format!("dns {number}.example"), Some(record), "mode-default");
            }
        }
        let summary = tally.summary();
        assert_eq!((summary.denials.len(), summary.lookups_denied), (GROUP_LIMIT, GROUP_LIMIT as u64 + 5));
    }

    #[test]
    fn a_name_is_unresolved_until_it_has_an_address() {
        let tally = Tally::default();
        let name = |text: &str| HostName::parse(text).unwrap();
        tally.unresolved(&name("a.example"), NO_ADDRESS.to_owned());
        tally.unresolved(&name("a.example"), "timeout".to_owned());
        tally.unresolved(&name("a.example"), NO_ADDRESS.to_owned());
        tally.unresolved(&name("b.example"), "NXDOMAIN".to_owned());
        tally.resolved(&name("b.example"));
        let expected = Unresolved { name: "a.example".to_owned(), reason: "timeout".to_owned() };
        assert_eq!(tally.summary().unresolved, [expected]);
    }
}
