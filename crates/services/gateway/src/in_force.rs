//! The policy in force, shared by workers.
//!
//! A worker loads it for every decision and keeps the `Arc` with the open connection, so that a change
//! of the pointer is seen by comparing (invariant *A new policy reaches open connections*).

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use certificates::UpstreamRoots;
use policy::{CompiledPolicy, compile::Source};
use values::{Labels, RuleName};
use wire::exchange::Bounds;

/// A compiled policy and the sandbox as this policy sees it.
#[derive(Debug)]
pub(crate) struct InForce {
    /// The policy.
    pub(crate) policy: Arc<CompiledPolicy>,
    /// The sandbox, made once for each revision.
    pub(crate) source: Source,
    /// The roots that rules name, by the bundle's path as written.
    roots: Arc<BTreeMap<PathBuf, UpstreamRoots>>,
}

/// The one pointer that `Gateway::apply` swaps.
pub(crate) type CurrentPolicy = arc_swap::ArcSwap<InForce>;

impl InForce {
    /// A policy seen from a sandbox with these labels, with the roots that its rules name.
    pub(crate) fn new(
        policy: Arc<CompiledPolicy>,
        labels: &Labels,
        roots: BTreeMap<PathBuf, UpstreamRoots>,
    ) -> Arc<Self> {
        let source = policy.source(labels);
        Arc::new(Self { policy, source, roots: Arc::new(roots) })
    }

    /// The bundle that servers of what a rule lets through are verified against, where it names one.
    pub(crate) fn roots(&self, rule: &RuleName) -> Option<(&Path, Option<&UpstreamRoots>)> {
        self.policy.upstream_ca(rule).map(|path| (path, self.roots.get(path)))
    }

    /// The bounds on the bodies of what a rule lets through.
    pub(crate) fn bounds(&self, rule: &RuleName) -> Bounds {
        let rule = self.policy.rule(rule);
        Bounds {
            body: rule.and_then(|rule| rule.max_body),
            response: rule.and_then(|rule| rule.max_response),
            method: false,
        }
    }

    /// The same, to be seen as new: time has changed what it says.
    pub(crate) fn renewed(&self) -> Arc<Self> {
        Arc::new(Self { policy: Arc::clone(&self.policy), source: self.source.clone(), roots: Arc::clone(&self.roots) })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        net::{IpAddr, Ipv4Addr},
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
        thread,
    };

    use jiff::Timestamp;
    use policy::{
        CompiledPolicy, Fact, Facts, OwnAddresses, Protocol, Step, Verdict,
        model::{Action, Lists, PolicySpec, Rule, To},
    };
    use values::{Labels, Revision, RuleName};

    use super::{CurrentPolicy, InForce};

    const SWAPS: usize = 1_000_000;
    const READERS: usize = 2;

    /// Lets the readers go when the writer ends, by a failed assertion too.
    struct Done<'a>(&'a AtomicBool);

    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// A policy whose every decision tells which one it is.
    fn telling(revision: u64, rule: &str, action: Action) -> Arc<InForce> {
        let rules = vec![Rule::new(RuleName::new(rule).unwrap(), 10, action, To::Any)];
        let spec = PolicySpec { rules, ..PolicySpec::default() };
        let policy = CompiledPolicy::compile(spec, Lists::default(), OwnAddresses::default(), Revision(revision));
        InForce::new(Arc::new(policy.unwrap()), &Labels::default(), BTreeMap::new())
    }

    /// Judges as a worker does and checks the decision against the revision that it was made by.
    fn judged(current: &CurrentPolicy) -> Revision {
        let in_force = current.load();
        let facts = Facts {
            source: &in_force.source,
            protocol: Protocol::Tcp,
            port: 443,
            original_address: None,
            address: Fact::Known(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))),
            name: Fact::Absent,
            tls: Fact::Absent,
            http: Fact::Absent,
            process: Fact::Absent,
            now: Timestamp::UNIX_EPOCH,
        };
        let Step::Decided(decision) = in_force.policy.judge(&facts) else { panic!("nothing is pending") };
        let revision = in_force.policy.revision();
        let (rule, verdict) =
            if revision == Revision(1) { ("one", Verdict::Allowed) } else { ("two", Verdict::Denied) };
        assert_eq!((decision.rule.as_str(), decision.verdict), (rule, verdict), "under {revision:?}");
        assert_eq!(decision.permit.is_some(), revision == Revision(1), "under {revision:?}");
        revision
    }

    #[test]
    fn a_million_swaps_yield_no_decision_of_another_policy() {
        let policies = [telling(1, "one", Action::Allow), telling(2, "two", Action::Deny)];
        let current = CurrentPolicy::new(Arc::clone(&policies[1]));
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let readers: Vec<_> = (0..READERS)
                .map(|_| {
                    scope.spawn(|| {
                        let mut judgements = 0u64;
                        while !done.load(Ordering::Relaxed) {
                            judged(&current);
                            judgements += 1;
                        }
                        judgements
                    })
                })
                .collect();
            let writing = Done(&done);
            for swap in 0..SWAPS {
                let policy = &policies[swap % 2];
                // Each time another object, so that the one before is freed while the readers judge by it.
                current.store(policy.renewed());
                assert_eq!(judged(&current), policy.policy.revision(), "what is published holds at once");
            }
            drop(writing);
            assert!(readers.into_iter().map(|reader| reader.join().unwrap()).sum::<u64>() > 0);
        });
    }
}
