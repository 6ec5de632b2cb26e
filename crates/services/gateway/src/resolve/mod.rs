//! Names to addresses, and back.
//!
//! One [`Names`] serves one sandbox. It asks upstream, keeps what was answered, and knows which address was given
//! for which name; a flow by name is dialled only to addresses from here, so there is no moment at which a name
//! could be bound anew between check and dial (spec/egress.md, 3). Judging addresses is left to the policy.
//!
//! ```text
//! dns ──┐                        ┌─> cache ── known ──> Found
//!       ├─> limits ─> record ─> fetch ─> upstream ─> found ─┘
//! flow ─┘                                bindings: address ⇄ name
//! ```
//! A query is a way out too: its name carries what the sandbox wrote. So whatever causes one, a DNS question or
//! CONNECT, takes from the same bounds, and its record is written before the query leaves.

/// Which address was answered for which name.
mod bindings;
/// Answers that are still good, and queries that are under way.
mod cache;
/// Why a name has no addresses.
mod error;
/// The record of a DNS question.
mod event;
/// An answer, and what is remembered with it.
mod found;
/// Bounds on what a sandbox can carry out in DNS questions.
mod limits;
/// The addresses of a name, out of both families' answers.
mod resolved;
/// Addresses that stand for a name which nobody was asked about yet.
mod synthetic;
/// Which names could not be resolved.
mod unresolved;
/// Asks DNS servers: the route's own, or the host's.
mod upstream;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Instant,
};

use audit_log::AuditLog;
use hickory_proto::rr::{Name, RecordType};
use jiff::Timestamp;
use policy::{CompiledPolicy, Guard, HostName, NameAnswer, NameDecision, QueryType};
use smallvec::{SmallVec, smallvec};
use values::{RouteName, RuleName};
use wire::dns::answer::{self, Reading};

pub(crate) use bindings::BindingGuard;
pub(crate) use error::ResolveError;
pub(crate) use event::{DnsRecord, guarded, verdict};
pub(crate) use found::{Admitted, Found};
pub(crate) use limits::{Crossed, Rate};
pub(crate) use resolved::Resolved;

use crate::{in_force::InForce, settings::Settings, summary::Tally};
use cache::{Outcome, Place};
use resolved::combine;
use upstream::{Roots, Upstream};

/// The name by which a sandbox reaches the host's loopback, where a rule opens it.
const HOST: &str = "host.cofferdam.internal";
/// The most HTTPS records in alias mode that are followed for their ECH configuration.
const ALIAS_LIMIT: usize = 4;
/// How often a question whose asker went away is asked again.
const RETRY_LIMIT: usize = 3;

/// One question that may have to leave the host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// The policy and the sandbox.
    pub(crate) in_force: &'a InForce,
    /// What was decided about the name.
    pub(crate) decision: &'a NameDecision,
    /// By which route.
    pub(crate) route: Option<&'a RouteName>,
    /// The name.
    pub(crate) name: &'a HostName,
    /// The record type.
    pub(crate) record: QueryType,
    /// When the question came.
    pub(crate) started: Instant,
}

/// Resolution and bindings of one sandbox.
#[derive(Debug)]
pub(crate) struct Names {
    audit: AuditLog,
    tally: Arc<Tally>,
    upstream: Upstream,
    cache: cache::Cache,
    bindings: bindings::Bindings,
    synthetic: synthetic::Synthetic,
    limits: limits::Limits,
}

impl Names {
    /// Nothing asked and nothing known.
    pub(crate) fn new(settings: &Settings, audit: AuditLog, tally: Arc<Tally>) -> Arc<Self> {
        Self::trusting(Roots::platform(), settings, audit, tally)
    }

    /// The same, trusting these roots in TLS with DNS servers.
    fn trusting(roots: Roots, settings: &Settings, audit: AuditLog, tally: Arc<Tally>) -> Arc<Self> {
        Arc::new(Self {
            audit,
            tally,
            upstream: Upstream::new(&settings.host_resolvers, settings.resolve_timeout, roots),
            cache: cache::Cache::default(),
            bindings: bindings::Bindings::new(Instant::now()),
            synthetic: synthetic::Synthetic::default(),
            limits: limits::Limits::default(),
        })
    }

    /// The addresses of a flow's name. A query leaves only where the policy opens the name and the sandbox is
    /// within its bounds; its record is written first. Call it for a name that only an `ask` covers after the yes.
    pub(crate) async fn resolve(
        self: &Arc<Self>,
        in_force: &InForce,
        route: Option<&RouteName>,
        name: &HostName,
    ) -> Result<Arc<Resolved>, ResolveError> {
        self.resolve_by(in_force, route, name, || judge(in_force, name, QueryType::A)).await
    }

    /// The addresses of a host that a rule sends requests to in place of their own: the rule answers for the name.
    pub(crate) async fn resolve_for_rule(
        self: &Arc<Self>,
        in_force: &InForce,
        route: Option<&RouteName>,
        name: &HostName,
        rule: &RuleName,
    ) -> Result<Arc<Resolved>, ResolveError> {
        let decision = || {
            Ok(NameDecision {
                answer: NameAnswer::Resolve,
                rule: rule.clone(),
                reason: "the rule sends requests there".into(),
                would: SmallVec::new(),
                route: route.cloned(),
            })
        };
        self.resolve_by(in_force, route, name, decision).await
    }

    async fn resolve_by(
        self: &Arc<Self>,
        in_force: &InForce,
        route: Option<&RouteName>,
        name: &HostName,
        decide: impl FnOnce() -> Result<NameDecision, ResolveError>,
    ) -> Result<Arc<Resolved>, ResolveError> {
        let now = Instant::now();
        if is_host(name) {
            // Of two denials the first is told, and rules and servers name this one.
            let addresses = smallvec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
            return Ok(Arc::new(Resolved { addresses, canonical: None, expires: now }));
        }
        let known = |record| self.cached(&in_force.policy, route, name, record, now);
        let (six, four) = match (known(QueryType::Aaaa), known(QueryType::A)) {
            (Some(six), Some(four)) => (six, four),
            (six, four) => {
                let decision = decide()?;
                let ask = |record, known: Option<Outcome>| {
                    let asked = Asked { in_force, decision: &decision, route, name, record, started: now };
                    async move {
                        match known {
                            Some(outcome) => outcome,
                            None => self.ask(asked).await,
                        }
                    }
                };
                tokio::join!(ask(QueryType::Aaaa, six), ask(QueryType::A, four))
            }
        };
        combine(six, four).map(Arc::new)
    }

    /// Whether the name's owner publishes an ECH configuration. Where that can't be learnt, it counts as published.
    pub(crate) async fn ech_published(
        self: &Arc<Self>,
        in_force: &InForce,
        route: Option<&RouteName>,
        name: &HostName,
    ) -> bool {
        let now = Instant::now();
        let mut outcome = match self.cached(&in_force.policy, route, name, QueryType::Https, now) {
            Some(outcome) => outcome,
            None => match judge(in_force, name, QueryType::Https) {
                Ok(decision) => {
                    let record = QueryType::Https;
                    self.ask(Asked { in_force, decision: &decision, route, name, record, started: now }).await
                }
                Err(error) => Err(error),
            },
        };
        for _ in 0..ALIAS_LIMIT {
            let alias = match &outcome {
                Ok(found) if found.answer.ech => return true,
                Ok(found) => found.answer.alias.clone(),
                Err(error) => return !error.is_unknown_type(),
            };
            let Some(alias) = alias else { return false };
            let Ok(alias) = HostName::parse(&alias.to_ascii()) else { return true };
            outcome = self.fetch(&in_force.policy, route, &alias, QueryType::Https).await;
        }
        true
    }

    /// The names that were answered with this address, the last first.
    pub(crate) fn names_of(&self, address: IpAddr) -> SmallVec<[HostName; 2]> {
        match self.synthetic.name(address) {
            Some(name) => smallvec![name],
            None => self.bindings.names_of(address, Instant::now()),
        }
    }

    /// Whether this address was answered for this name.
    pub(crate) fn is_bound(&self, name: &HostName, address: IpAddr) -> bool {
        self.synthetic.name(address).is_some_and(|other| other == *name)
            || self.bindings.is_bound(name, address, Instant::now())
    }

    /// Keeps a binding alive as long as the guard is.
    pub(crate) fn hold(&self, name: &HostName, address: IpAddr) -> Option<BindingGuard> {
        self.bindings.hold(name, address, Instant::now())
    }

    /// The name that a synthetic address stands for.
    pub(crate) fn synthetic(&self, address: IpAddr) -> Option<HostName> {
        self.synthetic.name(address)
    }

    /// The addresses that stand for a name.
    pub(crate) fn synthetic_addresses(&self, name: &HostName) -> (Ipv4Addr, Ipv6Addr) {
        self.synthetic.addresses(name)
    }

    /// Counts one DNS question.
    pub(crate) fn count_question(&self, policy: &CompiledPolicy, now: Instant) -> Rate {
        self.limits.question(&policy.spec().dns, now)
    }

    /// Binds the addresses of an answer that is about to be given.
    pub(crate) fn bind(&self, name: &HostName, found: &Found, addresses: &[IpAddr], now: Instant) {
        self.bindings.bind_found(name, found, addresses, now);
    }

    /// What is known, without asking.
    pub(crate) fn cached(
        &self,
        policy: &CompiledPolicy,
        route: Option<&RouteName>,
        name: &HostName,
        record: QueryType,
        now: Instant,
    ) -> Option<Outcome> {
        self.cache.get(policy, route, name, record, now)
    }

    /// Asks upstream, within the bounds and with its record written first.
    pub(crate) async fn ask(self: &Arc<Self>, asked: Asked<'_>) -> Outcome {
        let policy = &asked.in_force.policy;
        if !self.cache.is_fresh(asked.route, asked.name, asked.started)
            && let Err(crossed) = self.limits.name(policy, &asked.decision.rule, asked.name, asked.started)
        {
            return Err(self.refuse(&asked, crossed).await);
        }
        let record = DnsRecord::of(&asked, asked.decision, &asked.decision.reason, event::ASKING_UPSTREAM);
        self.audit.record(record.event()).await.map_err(|error| ResolveError::Record(Arc::new(error)))?;
        self.fetch(policy, asked.route, asked.name, asked.record).await
    }

    /// Records that a bound was crossed.
    async fn refuse(&self, asked: &Asked<'_>, crossed: Crossed) -> ResolveError {
        let rule = Guard::DnsLimit.rule_name();
        self.tally.refused(&format!("dns {}", asked.name), Some(asked.record), rule.as_str());
        let reason = crossed.to_string();
        let decision = guarded(rule, reason.clone());
        let record = DnsRecord::of(asked, &decision, &reason, "REFUSED");
        match self.audit.record(record.event()).await {
            Ok(_) => ResolveError::Bound(crossed),
            Err(error) => ResolveError::Record(Arc::new(error)),
        }
    }

    /// Waits for whoever asks already, or asks.
    async fn fetch(
        self: &Arc<Self>,
        policy: &Arc<CompiledPolicy>,
        route: Option<&RouteName>,
        name: &HostName,
        record: QueryType,
    ) -> Outcome {
        for _ in 0..RETRY_LIMIT {
            let mut under_way = match self.cache.place(policy, route, name, record, Instant::now()) {
                Place::Known(outcome) => return outcome,
                Place::Wait(under_way) => under_way,
                Place::Ask(teller) => {
                    let receiver = teller.subscribe();
                    let (names, policy) = (Arc::clone(self), Arc::clone(policy));
                    let (route, name) = (route.cloned(), name.clone());
                    // A task of its own: whoever asked may go away while others wait.
                    tokio::spawn(async move {
                        let outcome = names.query(&policy, route.as_ref(), &name, record).await;
                        names.cache.put(route.as_ref(), &name, record, outcome.clone(), Instant::now());
                        names.note(&policy, route.as_ref(), &name, record, &outcome);
                        teller.send_replace(Some(outcome));
                    });
                    receiver
                }
            };
            if let Ok(outcome) = under_way.wait_for(Option::is_some).await
                && let Some(outcome) = outcome.clone()
            {
                return outcome;
            }
        }
        Err(ResolveError::Stopped)
    }

    /// Asks servers until the chain of aliases ends.
    async fn query(
        &self,
        policy: &CompiledPolicy,
        route: Option<&RouteName>,
        name: &HostName,
        record: QueryType,
    ) -> Outcome {
        let Some(hop) = policy.route(route) else {
            return Err(route.cloned().map_or(ResolveError::Stopped, ResolveError::NoRoute));
        };
        // From labels: a host name is no zone file's text, and a label may begin with a hyphen.
        let labels = name.as_str().split('.').map(str::as_bytes);
        let Ok(mut asked) = Name::from_labels(labels) else { return Err(ResolveError::NoSuchName) };
        let kind = RecordType::from(record.number());
        let mut links = 0;
        loop {
            let message = self.upstream.ask(hop, &asked, kind).await;
            let message = message.map_err(|error| ResolveError::Upstream(Arc::new(error)))?;
            let reading = answer::read(&message, &asked, record, &mut links);
            match reading.map_err(|error| ResolveError::Answer(Arc::new(error)))? {
                Reading::Whole(mut answer) => {
                    if links > 0 && answer.canonical.is_none() {
                        answer.canonical = HostName::parse(&asked.to_ascii()).ok();
                    }
                    return Ok(Arc::new(Found::new(answer, Instant::now())));
                }
                // Each turn adds a link, and the links are bounded.
                Reading::GoOn(next) => asked = next,
            }
        }
    }
}

/// Whether this is the name of the host's loopback.
pub(crate) fn is_host(name: &HostName) -> bool {
    name.as_str() == HOST
}

/// Whether a flow's name may be asked for.
fn judge(in_force: &InForce, name: &HostName, record: QueryType) -> Result<NameDecision, ResolveError> {
    let decision = in_force.policy.judge_name(&in_force.source, name, record, Timestamp::now());
    match decision.answer {
        NameAnswer::Refuse => Err(ResolveError::Refused { rule: decision.rule, reason: decision.reason }),
        NameAnswer::Resolve | NameAnswer::Synthetic => Ok(decision),
    }
}

/// A DNS server for tests.
#[cfg(test)]
pub(crate) mod scripted;
#[cfg(test)]
mod tests;
/// A policy, a log and servers for tests.
#[cfg(test)]
pub(crate) mod world;
