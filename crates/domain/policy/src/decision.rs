//! What was decided, and why.

use std::borrow::Cow;

use serde::Serialize;
use smallvec::SmallVec;
use values::{CredentialName, RouteName, RuleName};

use crate::guard::Guard;

/// What happens to a flow. Ordered: the later is the stricter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It goes on.
    Allowed,
    /// It waits for a person.
    Asked,
    /// It is refused.
    Denied,
}

/// What a watched rule would have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum WouldVerdict {
    /// Would have allowed.
    #[serde(rename = "would-allow")]
    Allow,
    /// Would have asked.
    #[serde(rename = "would-ask")]
    Ask,
    /// Would have denied.
    #[serde(rename = "would-deny")]
    Deny,
    /// Would have needed a fact that was not to be had: one that only inspection gives, or the
    /// address of a name that nobody may be asked about.
    #[serde(rename = "would-unknown")]
    Unknown,
}

impl Verdict {
    /// The word for records: `allowed`, `asked` or `denied`.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Allowed => "allowed",
            Verdict::Asked => "asked",
            Verdict::Denied => "denied",
        }
    }
}

impl WouldVerdict {
    /// The word for records: `would-allow` …
    pub fn as_str(self) -> &'static str {
        match self {
            WouldVerdict::Allow => "would-allow",
            WouldVerdict::Ask => "would-ask",
            WouldVerdict::Deny => "would-deny",
            WouldVerdict::Unknown => "would-unknown",
        }
    }
}

/// A watched match, noted beside the verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Would {
    /// The watched rule, or `mode-default`.
    pub rule: RuleName,
    /// What it would have done.
    pub verdict: WouldVerdict,
}

/// Whether the deciding rule is enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Enforcement {
    /// The verdict is carried out.
    Enforce,
    /// It was noted only (`defaultEnforcement: watch`).
    Watch,
}

/// The layer whose facts decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
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

impl Enforcement {
    /// The word for records: `enforce` or `watch`.
    pub fn as_str(self) -> &'static str {
        match self {
            Enforcement::Enforce => "enforce",
            Enforcement::Watch => "watch",
        }
    }
}

impl Layer {
    /// The word for records: `dns`, `ip`, `tls` or `http`.
    pub fn as_str(self) -> &'static str {
        match self {
            Layer::Dns => "dns",
            Layer::Ip => "ip",
            Layer::Tls => "tls",
            Layer::Http => "http",
        }
    }
}

/// Why, in a few words for people; never holds bytes of the workload unescaped.
pub type Reason = Cow<'static, str>;

/// Proof that the policy allowed one flow. Only this crate can make one, and using it consumes it.
///
/// ```compile_fail
/// let forged = policy::Permit { credential: None, _made_by_policy: () };
/// ```
#[derive(Debug)]
#[must_use = "a permit that is not used forwards nothing"]
pub struct Permit {
    credential: Option<CredentialName>,
    _made_by_policy: (),
}

impl Permit {
    /// For the judge of this crate alone.
    pub(crate) fn grant(credential: Option<CredentialName>) -> Self {
        Self { credential, _made_by_policy: () }
    }

    /// The credential that this one request may carry: nothing else lets a secret be attached.
    pub fn credential(&self) -> Option<&CredentialName> {
        self.credential.as_ref()
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
    /// The credential that the request carries once it is let through; none where it is denied.
    pub credential: Option<CredentialName>,
    /// What lets the flow go on: present exactly when the verdict is allowed and an address was judged.
    /// Without an address (offline tests of a policy) there is a verdict but nothing to forward.
    /// Take it with [`Option::take`].
    pub permit: Option<Permit>,
    /// Whether a person's yes is enough: the guards have seen the address.
    pub(crate) approvable: bool,
}

impl Decision {
    /// A person said yes to an asked flow. The only source of a permit beside an allow.
    ///
    /// `None` unless the verdict is asked and the guards have judged an address. A name that only an
    /// `ask` covers is asked about before it is resolved; after the yes the caller resolves it, judges
    /// again, and approves that decision.
    pub fn approve(&mut self) -> Option<Permit> {
        if self.verdict != Verdict::Asked || !self.approvable {
            return None;
        }
        self.approvable = false;
        Some(Permit::grant(self.credential.clone()))
    }

    /// The denial by a guard: for what the caller finds before the policy can judge
    /// (malformed input, a binding that does not hold, a DNS bound that was crossed).
    pub fn by_guard(guard: Guard, layer: Layer, reason: impl Into<Reason>) -> Self {
        Self {
            verdict: Verdict::Denied,
            enforcement: Enforcement::Enforce,
            rule: guard.rule_name(),
            layer,
            reason: reason.into(),
            would: SmallVec::new(),
            route: None,
            credential: None,
            permit: None,
            approvable: false,
        }
    }
}

/// The fact that a decision still needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Missing {
    /// The name: read on (ClientHello, HTTP head).
    Name,
    /// The address: resolve the name.
    Address,
    /// The HTTP request head. On TLS: open the flow; asked for only when no other fact could decide.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
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
