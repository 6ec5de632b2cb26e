//! What was decided, and why.

use std::borrow::Cow;

use smallvec::SmallVec;
use values::{RouteName, RuleName};

/// What happens to a flow. Ordered: the later is the stricter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It goes on.
    Allowed,
    /// It waits for a person.
    Asked,
    /// It is refused.
    Denied,
}

/// What a watched rule would have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WouldVerdict {
    /// Would have allowed.
    Allow,
    /// Would have asked.
    Ask,
    /// Would have denied.
    Deny,
    /// Would have needed a fact that only inspection gives.
    Unknown,
}

/// A watched match, noted beside the verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Would {
    /// The watched rule, or `mode-default`.
    pub rule: RuleName,
    /// What it would have done.
    pub verdict: WouldVerdict,
}

/// Whether the deciding rule is enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Enforcement {
    /// The verdict is carried out.
    Enforce,
    /// It was noted only (`defaultEnforcement: watch`).
    Watch,
}

/// The layer whose facts decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layer {
    /// A DNS question.
    Dns,
    /// Address, port and protocol.
    Ip,
    /// The TLS server name.
    Tls,
    /// A plain HTTP request, or the target of a proxy request.
    Http,
}

/// Why, in a few words for people; never holds bytes of the workload unescaped.
pub type Reason = Cow<'static, str>;

/// Proof that the policy allowed one flow. Only this crate can make one, and using it consumes it.
///
/// ```compile_fail
/// let forged = policy::Permit { _made_by_policy: () };
/// ```
#[derive(Debug)]
#[must_use = "a permit that is not used forwards nothing"]
pub struct Permit {
    _made_by_policy: (),
}

impl Permit {
    /// For the judge of this crate alone.
    pub(crate) fn grant() -> Self {
        Self { _made_by_policy: () }
    }
}

/// One decision.
#[derive(Debug)]
pub struct Decision {
    /// What happens.
    pub verdict: Verdict,
    /// Whether the deciding rule is enforced.
    pub enforcement: Enforcement,
    /// The deciding rule, a guard (`guard:metadata`), `allowed-hosts`, a managed path (`managed-path:pypi`) or `mode-default`.
    pub rule: RuleName,
    /// The layer whose facts decided.
    pub layer: Layer,
    /// Why, for people.
    pub reason: Reason,
    /// The watched matches on the way, in order of priority.
    pub would: SmallVec<[Would; 1]>,
    /// The next hop; `None` is direct.
    pub route: Option<RouteName>,
    /// What lets the flow go on: present exactly when the verdict is allowed. Take it with [`Option::take`].
    pub permit: Option<Permit>,
}

/// The fact that a decision still needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Missing {
    /// The name: read on (ClientHello, HTTP head).
    Name,
    /// The address: resolve the name.
    Address,
    /// The HTTP request head.
    Http,
    /// The process.
    Process,
}

/// The outcome of asking the policy.
#[derive(Debug)]
pub enum Step {
    /// Decided.
    Decided(Decision),
    /// Not without this fact. The caller learns it, or sets it to [`crate::Fact::Absent`], and asks again.
    Needs(Missing),
}

/// What to do with a DNS question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NameAnswer {
    /// Some rule may allow this name: resolve it.
    Resolve,
    /// Only an `ask` covers it: answer with a reserved synthetic address, query nobody.
    Synthetic,
    /// No rule can allow it: refuse, query nobody.
    Refuse,
}

/// The decision on a DNS question.
#[derive(Debug)]
pub struct NameDecision {
    /// What to answer.
    pub answer: NameAnswer,
    /// The rule that opened or closed the name.
    pub rule: RuleName,
    /// Why, for people.
    pub reason: Reason,
    /// The watched matches.
    pub would: SmallVec<[Would; 1]>,
    /// The next hop whose DNS servers are asked.
    pub route: Option<RouteName>,
}
