//! Facts to a decision.
//!
//! Guards first, then the rules that the facts lead to, then the mode's default. A rule that depends
//! on a fact not known yet *may* match: what it would do is kept as possible, and the search goes on
//! to the first rule that matches for sure. Where everything possible is a denial it is one now;
//! otherwise the caller is told which fact to get. Facts that cost no traffic (name, request, process)
//! are asked for before the address, whose resolution others can see. The request inside TLS comes last of all: to see
//! it the flow has to be opened, and one that is decided without it never is.
//!
//! On a guarded destination only rules that name it can allow or ask; the default is the guard's denial.

use std::net::IpAddr;

use smallvec::SmallVec;

use crate::{
    address,
    compile::{CompiledPolicy, SourceView, rules::CompiledRule},
    decision::{Decision, Enforcement, Layer, Missing, Permit, Reason, Step, Verdict, Would, WouldVerdict},
    facts::{EchState, Fact, Facts, Protocol},
    guard::Guard,
    model::{Action, Mode, To},
};

/// The rules that a flow's facts lead to.
pub(crate) mod candidates;
/// One rule tried on one case.
pub(crate) mod trial;
/// From the rules that match, or may, to what is decided.
mod weigh;
/// The credential that keeps a rule from matching.
mod unbound;

pub(crate) use trial::{Case, Trial, Unbound, WhyNot};
use weigh::Finding;
pub(crate) use weigh::pending_marks;

/// What decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// A rule, by number.
    Rule(u32),
    /// A guard.
    Guard(Guard),
    /// The mode's default.
    Default,
    /// The mode's default denial, which is watched.
    WatchedDefault,
}

/// What is decided for one case, or what is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ruling {
    /// Decided.
    Decided { verdict: Verdict, by: By, layer: Layer },
    /// Not without this fact.
    Needs(Missing),
}

impl Ruling {
    /// The strictest has the highest rank; not knowing is stricter than anything but a denial.
    fn rank(&self) -> u8 {
        match self {
            Ruling::Decided { verdict: Verdict::Allowed, .. } => 0,
            Ruling::Decided { verdict: Verdict::Asked, .. } => 1,
            Ruling::Needs(_) => 2,
            Ruling::Decided { verdict: Verdict::Denied, .. } => 3,
        }
    }

    fn guard(&self) -> Option<Guard> {
        match self {
            Ruling::Decided { by: By::Guard(guard), .. } => Some(*guard),
            Ruling::Decided { .. } | Ruling::Needs(_) => None,
        }
    }
}

/// Watched matches by rule number.
pub(crate) type Notes = SmallVec<[(u32, WouldVerdict); 2]>;

impl CompiledPolicy {
    /// Judges a flow with what is known of it.
    pub fn judge(&self, facts: &Facts<'_>) -> Step {
        let view = facts.source.view();
        if view.is_of(self.id()) {
            return self.judge_from(facts, view);
        }
        // Made by another policy, its numbers mean nothing here.
        let source = self.source(facts.source.labels());
        self.judge_from(facts, source.view())
    }

    fn judge_from(&self, facts: &Facts<'_>, view: &SourceView) -> Step {
        let finding = self.strictest(facts, view);
        match finding.ruling {
            Ruling::Needs(missing) => Step::Needs(missing),
            Ruling::Decided { verdict, by, layer } => {
                let mut decision = self.decision(facts, verdict, by, layer, &finding.notes);
                if matches!((verdict, by), (Verdict::Denied, By::Default | By::Guard(_)))
                    && let Some(unbound) = self.kept_from(facts, view)
                {
                    decision.reason = format!("{}; {unbound}", decision.reason).into();
                }
                Step::Decided(decision)
            }
        }
    }

    /// The strictest finding over every address that the flow may reach.
    pub(crate) fn strictest(&self, facts: &Facts<'_>, view: &SourceView) -> Finding {
        let address = match facts.address {
            Fact::Known(address) => address,
            Fact::Pending => return self.weigh(&self.case(facts, view, Fact::Pending)),
            Fact::Absent => return self.weigh(&self.case(facts, view, Fact::Absent)),
        };
        if address.is_ipv4() {
            return self.weigh(&self.case(facts, view, Fact::Known(address)));
        }
        let findings = address::judged_addresses(address)
            .into_iter()
            .map(|judged| self.weigh(&self.case(facts, view, Fact::Known(judged))));
        let stricter = |mut kept: Finding, next: Finding| {
            let (rank, next_rank) = (kept.ruling.rank(), next.ruling.rank());
            let telling = next.ruling.guard().is_some_and(|guard| kept.ruling.guard().is_none_or(|kept| guard < kept));
            kept.notes.extend(next.notes);
            if next_rank > rank || (next_rank == rank && telling) {
                kept.ruling = next.ruling;
            }
            kept
        };
        let mut finding = findings.reduce(stricter).unwrap_or_else(Finding::malformed);
        finding.notes.sort_unstable();
        finding.notes.dedup();
        finding
    }

    /// A flow with one of its addresses, and the guards over them.
    pub(crate) fn case<'f>(&self, facts: &'f Facts<'f>, view: &'f SourceView, address: Fact<IpAddr>) -> Case<'f> {
        Case {
            facts,
            view,
            address,
            address_guard: address.known().and_then(|address| self.guard_over(*address)),
            name_guard: facts.name.known().is_some_and(|named| address::is_metadata_name(named.name.as_str())),
        }
    }

    /// What the mode does where no rule matches.
    fn default_ruling(&self, case: &Case<'_>) -> (Verdict, By) {
        if let Some(guard) = case.guard() {
            return (Verdict::Denied, By::Guard(guard));
        }
        match (case.facts.protocol, self.spec().mode) {
            (Protocol::Tcp, Mode::Unrestricted) => (Verdict::Allowed, By::Default),
            (Protocol::Tcp, Mode::Limited | Mode::Routed) if self.spec().watch_default => {
                (Verdict::Allowed, By::WatchedDefault)
            }
            (Protocol::Tcp, Mode::Limited | Mode::Routed) | (Protocol::Udp | Protocol::Icmp, _) => {
                (Verdict::Denied, By::Default)
            }
        }
    }

    fn decision(&self, facts: &Facts<'_>, verdict: Verdict, by: By, layer: Layer, notes: &Notes) -> Decision {
        let mut would: SmallVec<[Would; 1]> = notes
            .iter()
            .filter_map(|(number, verdict)| {
                let rule = self.rules.get(*number as usize)?;
                Some(Would { rule: rule.name.clone(), verdict: *verdict })
            })
            .collect();
        let mut enforcement = Enforcement::Enforce;
        let mut route = None;
        let mut credential = None;
        let rule = match by {
            By::Guard(guard) => guard.rule_name(),
            By::Default => self.default_name.clone(),
            By::WatchedDefault => {
                enforcement = Enforcement::Watch;
                would.push(Would { rule: self.default_name.clone(), verdict: WouldVerdict::Deny });
                if self.spec().mode == Mode::Routed {
                    route = self.spec().route.clone();
                }
                self.default_name.clone()
            }
            By::Rule(number) => match self.rules.get(number as usize) {
                Some(rule) => {
                    route.clone_from(&rule.route);
                    credential = rule.binding().map(|binding| binding.credential.clone());
                    rule.name.clone()
                }
                None => self.default_name.clone(),
            },
        };
        let judged = facts.address.known().is_some();
        let credential = credential.filter(|_| verdict != Verdict::Denied);
        Decision {
            verdict,
            enforcement,
            rule,
            layer,
            reason: self.reason(facts, verdict, by, layer),
            would,
            route: if verdict == Verdict::Denied { None } else { route },
            permit: (verdict == Verdict::Allowed && judged).then(|| Permit::grant(credential.clone())),
            credential,
            approvable: verdict == Verdict::Asked && judged,
        }
    }

    /// Why, in a few words. What allows costs no allocation.
    fn reason(&self, facts: &Facts<'_>, verdict: Verdict, by: By, layer: Layer) -> Reason {
        match by {
            By::Guard(guard) => guard.reason().into(),
            By::WatchedDefault => "no rule matches; the mode's denial is watched".into(),
            By::Default => match (verdict, facts.protocol) {
                (Verdict::Allowed, _) => "no rule matches; the mode allows".into(),
                (Verdict::Asked | Verdict::Denied, Protocol::Tcp) => "no rule matches".into(),
                (Verdict::Asked | Verdict::Denied, Protocol::Udp) => {
                    "UDP passes only by a rule for it that lists its ports".into()
                }
                (Verdict::Asked | Verdict::Denied, Protocol::Icmp) => "ICMP passes only by a rule for it".into(),
            },
            By::Rule(number) => self.rule_reason(number, verdict, layer, facts),
        }
    }

    fn rule_reason(&self, number: u32, verdict: Verdict, layer: Layer, facts: &Facts<'_>) -> Reason {
        let what = match layer {
            Layer::Dns => "the name bound to the address matches",
            Layer::Tls => "the TLS server name matches",
            Layer::Http => "the request matches",
            Layer::Ip => "the destination matches",
        };
        if verdict == Verdict::Allowed {
            return what.into();
        }
        let written = self.rules.get(number as usize).and_then(CompiledRule::written);
        let written = written.and_then(|place| self.spec().rules.get(place));
        let unread = facts.tls.known().is_some() && facts.http.known().is_none();
        if unread && verdict == Verdict::Denied && written.is_some_and(|rule| self.spec().looks_inside(rule)) {
            return "the rule denies some requests, and what is inside TLS can't be read".into();
        }
        match written.map(|rule| &rule.to) {
            Some(To::Group(group)) => format!("destination in group {group}").into(),
            Some(To::Any) => "the rule covers every destination".into(),
            Some(To::Inline(_)) | None => what.into(),
        }
    }
}

/// What a rule's action comes to on this flow: an encrypted ClientHello that may hide another name is
/// denied unless the rule says `ech: allow`.
pub(crate) fn effect(action: Action, allows_ech: bool, facts: &Facts<'_>) -> (Verdict, Option<Guard>) {
    // A request seen inside was sent to the server name that was judged, not to one that is hidden.
    let seen_inside = facts.http.known().is_some();
    let suspect = !seen_inside && facts.tls.known().is_some_and(|tls| tls.ech == EchState::Suspect);
    match action {
        Action::Deny => (Verdict::Denied, None),
        Action::Allow | Action::Ask if suspect && !allows_ech => (Verdict::Denied, Some(Guard::Ech)),
        Action::Allow => (Verdict::Allowed, None),
        Action::Ask => (Verdict::Asked, None),
    }
}
