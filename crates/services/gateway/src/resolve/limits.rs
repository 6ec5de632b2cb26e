//! Bounds on what a sandbox can carry out in DNS questions (spec/egress.md, 3).
//!
//! Three bounds of the policy: questions a second; the length of a label that only a wildcard covers; the bits a
//! second that such labels carry. The last two are taken where a query would leave the host, whoever caused it (a
//! DNS question, or a flow by name): an answer from the cache tells nobody anything. A label of `n` bytes counts as
//! `n` times its own entropy a byte, at least [`LEAST_BITS`], plus [`LABEL_BITS`]. Each wildcard has a budget of
//! [`BURST_SECONDS`] of its rate, so that a page with many new hosts is no tunnel.
//!
//! Under `*` (mode `unrestricted`) only the rate counts: where every host may be reached, names carry nothing that a
//! connection could not.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use policy::{
    CompiledPolicy, HostName, HostPattern,
    model::{Action, DnsLimits, Group, PolicySpec, Rule, To},
};
use values::RuleName;

/// The least that a byte of a label counts.
const LEAST_BITS: f64 = 3.0;
/// What a label counts besides its bytes.
const LABEL_BITS: f64 = 2.0;
/// How many seconds of its rate a wildcard may spend at once.
const BURST_SECONDS: f64 = 10.0;
/// The most wildcards with a budget of their own that are kept.
const ZONE_LIMIT: usize = 4096;
/// Refusals over the rate are told once in so long, with their number.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// A bound that was crossed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Crossed {
    /// More questions a second than allowed.
    Rate {
        /// The bound.
        limit: u32,
        /// How many were refused since it was last told.
        refused: u64,
    },
    /// A label too long.
    Label {
        /// Its length.
        length: usize,
        /// The bound.
        limit: usize,
    },
    /// More bits a second under one wildcard than allowed.
    Entropy {
        /// The wildcard's base.
        zone: String,
        /// The bound.
        limit: f64,
    },
}

impl fmt::Display for Crossed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Crossed::Rate { limit, refused } => {
                write!(f, "more than {limit} DNS questions a second ({refused} refused since last told)")
            }
            Crossed::Label { length, limit } => {
                write!(f, "a label of {length} bytes that only a wildcard covers; the bound is {limit}")
            }
            Crossed::Entropy { zone, limit } => {
                write!(f, "names under *.{zone} carry more than {limit} bits a second")
            }
        }
    }
}

/// Whether one more question is within the rate.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Rate {
    /// It is.
    Within,
    /// It is not, and this is to be told.
    Tell(Crossed),
    /// It is not, and that was told less than a second ago.
    Told,
}

/// What may still be spent.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    fn take(&mut self, cost: f64, rate: f64, burst: f64, now: Instant) -> bool {
        let gained = now.saturating_duration_since(self.filled).as_secs_f64() * rate;
        self.tokens = (self.tokens + gained).min(burst);
        self.filled = now;
        let enough = self.tokens >= cost;
        if enough {
            self.tokens -= cost;
        }
        enough
    }
}

#[derive(Debug, Default)]
struct State {
    questions: Option<Bucket>,
    refused: u64,
    told: Option<Instant>,
    zones: HashMap<String, Bucket>,
}

/// What one sandbox has spent.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    state: Mutex<State>,
}

impl Limits {
    /// Counts a question.
    pub(crate) fn question(&self, limits: &DnsLimits, now: Instant) -> Rate {
        let rate = f64::from(limits.queries_per_second);
        let mut state = self.state();
        let bucket = state.questions.get_or_insert(Bucket { tokens: rate, filled: now });
        if bucket.take(1.0, rate, rate, now) {
            return Rate::Within;
        }
        state.refused += 1;
        if state.told.is_some_and(|told| now.saturating_duration_since(told) < REPORT_EVERY) {
            return Rate::Told;
        }
        state.told = Some(now);
        let refused = std::mem::take(&mut state.refused);
        Rate::Tell(Crossed::Rate { limit: limits.queries_per_second, refused })
    }

    /// Counts a name that is about to be asked for upstream because of this rule.
    pub(crate) fn name(
        &self,
        policy: &CompiledPolicy,
        rule: &RuleName,
        name: &HostName,
        now: Instant,
    ) -> Result<(), Crossed> {
        let spec = policy.spec();
        let Some((zone, labels)) = free_labels(policy, rule, name) else { return Ok(()) };
        let outcome = self.labels(&spec.dns, zone, labels, now);
        match outcome {
            Err(_) if is_named(spec, name) => Ok(()),
            outcome => outcome,
        }
    }

    fn labels(&self, limits: &DnsLimits, zone: &str, labels: &str, now: Instant) -> Result<(), Crossed> {
        let length = labels.split('.').map(str::len).max().unwrap_or(0);
        if length > limits.label_length {
            return Err(Crossed::Label { length, limit: limits.label_length });
        }
        let rate = limits.entropy_bits_per_second;
        let burst = rate * BURST_SECONDS;
        let mut state = self.state();
        if state.zones.len() >= ZONE_LIMIT && !state.zones.contains_key(zone) {
            // Those that have filled up again since are as good as new.
            state.zones.retain(|_, bucket| now.saturating_duration_since(bucket.filled).as_secs_f64() < BURST_SECONDS);
            if state.zones.len() >= ZONE_LIMIT {
                return Err(Crossed::Entropy { zone: zone.to_owned(), limit: rate });
            }
        }
        let bucket = state.zones.entry(zone.to_owned()).or_insert(Bucket { tokens: burst, filled: now });
        let cost = labels.split('.').map(label_bits).sum();
        if bucket.take(cost, rate, burst, now) {
            Ok(())
        } else {
            Err(Crossed::Entropy { zone: zone.to_owned(), limit: rate })
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How much a label may carry.
fn label_bits(label: &str) -> f64 {
    let mut counts = [0_u16; 256];
    for byte in label.bytes() {
        if let Some(count) = counts.get_mut(usize::from(byte)) {
            *count += 1;
        }
    }
    let length = f64::from(u16::try_from(label.len()).unwrap_or(u16::MAX));
    let shares = counts.into_iter().filter(|count| *count > 0).map(|count| f64::from(count) / length);
    let entropy: f64 = shares.map(|share| -share * share.log2()).sum();
    length.mul_add(entropy.max(LEAST_BITS), LABEL_BITS)
}

/// The wildcard's base and the labels in front of it, where the rule covers the name by a wildcard only.
fn free_labels<'n>(policy: &CompiledPolicy, rule: &RuleName, name: &'n HostName) -> Option<(&'n str, &'n str)> {
    let mut longest: Option<usize> = None;
    let mut named = false;
    let spec = policy.spec();
    let mut look = |pattern: &HostPattern| match pattern {
        HostPattern::Exact(exact) => named |= exact == name,
        HostPattern::Subnames(apex) | HostPattern::Domain(apex) => {
            if pattern.matches(name) {
                named |= apex == name;
                longest = longest.max(Some(apex.as_str().len()));
            }
        }
        HostPattern::Any => {}
    };
    match policy.rule(rule) {
        Some(rule) => rule_patterns(spec, rule).for_each(&mut look),
        // A pseudo-rule: the shorthand list and the managed path.
        None => pseudo_patterns(spec).for_each(&mut look),
    }
    let apex = longest.filter(|_| !named)?;
    let front = name.as_str().len().checked_sub(apex + 1)?;
    Some((name.as_str().get(front + 1..)?, name.as_str().get(..front)?))
}

/// Whether some rule that lets things through names the host exactly.
fn is_named(spec: &PolicySpec, name: &HostName) -> bool {
    let opening = spec.rules.iter().filter(|rule| rule.action != Action::Deny);
    let mut all = opening.flat_map(|rule| rule_patterns(spec, rule)).chain(pseudo_patterns(spec));
    all.any(|pattern| matches!(pattern, HostPattern::Exact(exact) if exact == name))
}

fn rule_patterns<'s>(spec: &'s PolicySpec, rule: &'s Rule) -> impl Iterator<Item = &'s HostPattern> {
    let group: Option<&Group> = match &rule.to {
        To::Any => None,
        To::Group(name) => spec.groups.get(name),
        To::Inline(group) => Some(group),
    };
    let in_group = group.into_iter().flat_map(|group| group.hosts.iter().chain(group.urls.iter().map(|url| &url.host)));
    in_group.chain(&rule.names)
}

fn pseudo_patterns(spec: &PolicySpec) -> impl Iterator<Item = &HostPattern> {
    let managed = &spec.managed_path;
    let toggles = managed.package_registries.iter().chain(&managed.code_repositories);
    spec.allowed_hosts.iter().chain(&managed.additional_hosts).chain(toggles.flat_map(|toggle| &toggle.hosts))
}

#[cfg(test)]
mod tests;
