//! From the policy as written to a form whose decision cost does not grow with its size.
//!
//! Names go into a hash over label boundaries, ranges into prefix tries; both lead to *sets* (the
//! destinations of rules, feeds, service tags), and a set to its rules in order of priority. What goes
//! anywhere is indexed by port for each sandbox ([`Source`]). A decision merges the few lists that a
//! flow's facts lead to, lowest priority number first, and stops at the first rule that matches:
//!
//! ```text
//! name    → NameIndex  ┐
//! address → RangeIndex ├→ sets → rules, ascending → merged, tried, first match decides
//! port    → Reach      ┘
//! ```
//!
//! What grows the cost is only what bears on the flow itself: the labels of its name, how deeply
//! ranges nest around its address, and the rules that name that very destination.

use std::{
    collections::HashMap,
    net::IpAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use foldhash::fast::RandomState;
use smallvec::SmallVec;
use values::{LabelSelector, Revision, RouteName, RuleName};

use crate::{
    address::{self, SpecialRange},
    guard::Guard,
    host_name::HostPattern,
    model::{Lists, Mode, PolicySpec, Route, Rule, transform::Transform},
};

/// What a credential is bound to, ready to be tried.
pub(crate) mod binding;
/// Checks a whole policy and fills the indexes.
mod builder;
/// Why a policy can't be compiled.
mod error;
/// Names to what they open.
pub(crate) mod names;
/// Addresses to the sets whose ranges hold them.
pub(crate) mod ranges;
/// Ports to the rules that reach them.
pub(crate) mod reach;
/// One rule, ready to be tried.
pub(crate) mod rules;
/// A sandbox as one policy sees it.
mod source;

pub use error::{CompileError, PortProblem};
pub use source::Source;

pub(crate) use source::SourceView;

/// The addresses that are this installation's own, which a guard covers: every address of the host's
/// interfaces, of the gateway, and of the control plane.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnAddresses {
    /// In any order; loopback ones may be left out.
    pub addresses: Vec<IpAddr>,
}

/// The rules of one set, ascending.
pub(crate) type SetRules = SmallVec<[u32; 2]>;

/// A policy in force: immutable, shared by all workers.
#[derive(Debug)]
pub struct CompiledPolicy {
    /// Tells the sources made by this policy from those made by another.
    id: u64,
    revision: Revision,
    spec: Arc<PolicySpec>,
    direct: Route,
    /// Ascending by priority, then the pseudo-rules.
    pub(crate) rules: Vec<rules::CompiledRule>,
    /// By name, the rule's place in the policy as written.
    by_name: HashMap<RuleName, u32, RandomState>,
    /// Selectors, OR-ed, of each source class.
    classes: Vec<Vec<LabelSelector>>,
    pub(crate) sets: Vec<SetRules>,
    pub(crate) urls: Vec<rules::Url>,
    pub(crate) names: names::NameIndex,
    pub(crate) ranges: ranges::RangeIndex,
    /// The names at which TLS may be opened.
    inspected: Vec<HostPattern>,
    /// The places of rules that ask more of a gateway than to let TCP on.
    demanding: Vec<u32>,
    /// Ascending, in canonical form.
    own: Vec<IpAddr>,
    /// `mode-default`.
    pub(crate) default_name: RuleName,
}

/// The next policy's id. Zero is nobody's.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl CompiledPolicy {
    /// Checks what only the whole policy shows, and builds the indexes.
    pub fn compile(
        spec: impl Into<Arc<PolicySpec>>,
        lists: Lists,
        own: OwnAddresses,
        revision: Revision,
    ) -> Result<Self, Vec<CompileError>> {
        let spec = spec.into();
        let parts = builder::build(&spec, &lists)?;
        let mut own: Vec<IpAddr> = own.addresses.into_iter().map(address::canonical).collect();
        own.sort_unstable();
        own.dedup();
        Ok(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            revision,
            spec,
            direct: Route::default(),
            rules: parts.rules,
            by_name: parts.by_name,
            classes: parts.classes,
            sets: parts.sets,
            urls: parts.urls,
            names: parts.names,
            ranges: parts.ranges,
            inspected: parts.inspected,
            demanding: parts.demanding,
            own,
            default_name: parts.default_name,
        })
    }

    /// The revision it was compiled as.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The policy as written.
    pub fn spec(&self) -> &PolicySpec {
        &self.spec
    }

    /// The names at which a rule looks into TLS: what leaves for inspection may be made for. Nothing else is ever opened.
    /// `*` alone where such a rule covers destinations whatever their name.
    pub fn inspects(&self) -> impl Iterator<Item = &HostPattern> {
        self.inspected.iter()
    }

    /// The rules that ask more of a gateway than to let TCP on: UDP, ICMP, a credential, a change, roots of their own. There
    /// are few where there are many rules.
    pub fn demanding_rules(&self) -> impl Iterator<Item = &Rule> {
        self.demanding.iter().filter_map(|place| self.spec.rules.get(*place as usize))
    }

    /// Whether any enforced rule looks into TLS.
    pub fn needs_inspection(&self) -> bool {
        !self.inspected.is_empty()
    }

    /// The next hop of this name; `None` asks for the direct one. No answer where this revision knows
    /// no such route: the caller refuses the flow.
    pub fn route(&self, name: Option<&RouteName>) -> Option<&Route> {
        match name {
            None => Some(&self.direct),
            Some(name) => self.spec.routes.get(name),
        }
    }

    /// The rule of this name, as written; none for guards, pseudo-rules and `mode-default`.
    pub fn rule(&self, name: &RuleName) -> Option<&Rule> {
        self.by_name.get(name).and_then(|place| self.spec.rules.get(*place as usize))
    }

    /// What the rule of this name changes in a request that it let through.
    pub fn request_changes(&self, rule: &RuleName) -> Option<&Transform> {
        self.rule(rule).and_then(|rule| rule.transform.as_ref())
    }

    /// The bundle of roots that the server of what this rule let through is verified against; none is the system's.
    pub fn upstream_ca(&self, rule: &RuleName) -> Option<&Path> {
        self.rule(rule).and_then(|rule| rule.upstream_ca.as_deref())
    }

    /// The guard over an address or one embedded in it, whatever the rules open.
    pub fn guard(&self, address: IpAddr) -> Option<Guard> {
        address::judged_addresses(address).into_iter().filter_map(|judged| self.guard_over(judged)).min()
    }

    /// The guard over this very address, which is in canonical form.
    pub(crate) fn guard_over(&self, address: IpAddr) -> Option<Guard> {
        let special = address::special(address);
        let guard = match special {
            Some(SpecialRange::Metadata) => Some(Guard::Metadata),
            Some(SpecialRange::Loopback) => Some(Guard::Loopback),
            Some(SpecialRange::LinkLocal) => Some(Guard::LinkLocal),
            Some(SpecialRange::Private) => (self.spec.mode != Mode::Routed).then_some(Guard::Private),
            Some(SpecialRange::Multicast) => Some(Guard::Multicast),
            Some(SpecialRange::Broadcast) => Some(Guard::Broadcast),
            Some(SpecialRange::Unspecified) => Some(Guard::Unspecified),
            Some(SpecialRange::Reserved) => Some(Guard::Reserved),
            Some(SpecialRange::Documentation) | None => None,
        };
        let own = self.own.binary_search(&address).is_ok().then_some(Guard::OwnAddress);
        guard.into_iter().chain(own).min()
    }

    /// The id by which a source knows its policy.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The bytes that the indexes hold, without the policy as written.
    pub fn index_memory(&self) -> usize {
        self.names.memory()
            + self.ranges.memory()
            + self.rules.capacity() * size_of::<rules::CompiledRule>()
            + self.sets.capacity() * size_of::<SetRules>()
            + self.by_name.capacity() * size_of::<(RuleName, u32)>()
    }
}
