//! What to do with a DNS question.
//!
//! A question is not a flow: its port, request and process are not known and never will be. So it is
//! asked what any flow to the name *could* come to: one rule that may allow it opens the name; a denial
//! closes it only where it covers every flow. Nobody upstream hears of a name that stays closed, nor of
//! one that a person must be asked about first.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::Serialize;
use smallvec::SmallVec;
use values::RuleName;

use crate::{
    address,
    compile::{CompiledPolicy, Source, SourceView, names::Lead, ranges::Holder, rules::CompiledRule},
    decision::{NameAnswer, NameDecision, Reason, Would, WouldVerdict},
    facts::Protocol,
    guard::Guard,
    host_name::HostName,
    judge::candidates::{Candidates, Marks},
    model::{Action, Mode, RecordType},
};

/// The type of a DNS question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum QueryType {
    /// An IPv4 address.
    A,
    /// An IPv6 address.
    Aaaa,
    /// An alias.
    Cname,
    /// RFC 9460.
    Https,
    /// RFC 9460.
    Svcb,
    /// Mail exchange; only by rule.
    Mx,
    /// Text; only by rule.
    Txt,
    /// Service location; only by rule.
    Srv,
    /// Any other, by number: always refused.
    Other(u16),
}

impl From<u16> for QueryType {
    fn from(number: u16) -> Self {
        match number {
            1 => QueryType::A,
            5 => QueryType::Cname,
            15 => QueryType::Mx,
            16 => QueryType::Txt,
            28 => QueryType::Aaaa,
            33 => QueryType::Srv,
            64 => QueryType::Svcb,
            65 => QueryType::Https,
            other => QueryType::Other(other),
        }
    }
}

impl QueryType {
    /// The number (RFC 1035 and the registry of DNS parameters).
    pub fn number(self) -> u16 {
        match self {
            QueryType::A => 1,
            QueryType::Cname => 5,
            QueryType::Mx => 15,
            QueryType::Txt => 16,
            QueryType::Aaaa => 28,
            QueryType::Srv => 33,
            QueryType::Svcb => 64,
            QueryType::Https => 65,
            QueryType::Other(number) => number,
        }
    }

    fn opening(self) -> Opening {
        match self {
            QueryType::A | QueryType::Aaaa | QueryType::Cname | QueryType::Https | QueryType::Svcb => Opening::Any,
            QueryType::Mx => Opening::Listed(RecordType::Mx),
            QueryType::Txt => Opening::Listed(RecordType::Txt),
            QueryType::Srv => Opening::Listed(RecordType::Srv),
            QueryType::Other(_) => Opening::Nothing,
        }
    }
}

/// Which rules open a type of question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opening {
    /// Any that opens the name.
    Any,
    /// Those that list the type.
    Listed(RecordType),
    /// None.
    Nothing,
}

/// A set of protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Protocols(u8);

impl Protocols {
    const ALL: Protocols = Protocols(0b111);
    const NONE: Protocols = Protocols(0);

    fn one(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self(1),
            Protocol::Udp => Self(2),
            Protocol::Icmp => Self(4),
        }
    }

    fn of(rule: &CompiledRule) -> Self {
        let all = [Protocol::Tcp, Protocol::Udp, Protocol::Icmp];
        all.into_iter()
            .filter(|protocol| rule.reaches(*protocol))
            .fold(Self::NONE, |set, one| Self(set.0 | Self::one(one).0))
    }

    fn meets(self, other: Protocols) -> bool {
        self.0 & other.0 != 0
    }

    fn without(self, other: Protocols) -> Self {
        Self(self.0 & !other.0)
    }
}

/// The question while the rules are gone through.
struct Question<'a> {
    view: &'a SourceView,
    name: &'a HostName,
    opening: Opening,
    now: Timestamp,
    guarded: bool,
    /// The protocols by which some flow to the name is not yet decided.
    open: Protocols,
    /// The first rule that asks.
    asks: Option<u32>,
    /// The rule that closed the last way by TCP.
    closes: Option<u32>,
    would: SmallVec<[Would; 1]>,
}

impl CompiledPolicy {
    /// Whether any rule could allow this name, so that it may be asked about.
    pub fn judge_name(&self, source: &Source, name: &HostName, record: QueryType, now: Timestamp) -> NameDecision {
        if !source.view().is_of(self.id()) {
            return self.judge_name(&self.source(source.labels()), name, record, now);
        }
        let mut question = Question {
            view: source.view(),
            name,
            opening: record.opening(),
            now,
            guarded: address::is_metadata_name(name.as_str()),
            open: Protocols::ALL,
            asks: None,
            closes: None,
            would: SmallVec::new(),
        };
        if question.opening == Opening::Nothing {
            return self.refuse(question, self.default_name.clone(), "this record type is never answered".into());
        }
        let mut candidates = self.name_candidates(&question);
        while let Some((number, marks)) = candidates.next() {
            let Some(rule) = self.rules.get(number as usize) else { continue };
            if self.opens(&mut question, rule, number, marks) {
                let reason = "a rule can allow this name".into();
                return self.answer(question, NameAnswer::Resolve, Some(number), reason);
            }
            if question.open == Protocols::NONE {
                break;
            }
        }
        self.answer_by_default(question)
    }

    fn name_candidates<'p>(&'p self, question: &Question<'p>) -> Candidates<'p> {
        let mut candidates = Candidates::default();
        candidates.add(question.view.any_name(), Marks::ANY);
        self.names.look_up(question.name.as_str(), &mut |lead| match lead {
            Lead::Rule(rule) => candidates.add_one(rule, Marks::NAME),
            Lead::Set(set) => candidates.add(self.rules_of(set), Marks::NAME),
            Lead::Url(url) => {
                let set = self.urls.get(url as usize).map(|url| url.set);
                candidates.add(set.map(|set| self.rules_of(set)).unwrap_or_default(), Marks::URL);
            }
            Lead::Opens(rule) => candidates.add_one(rule, Marks::OPENS_NAME),
        });
        candidates
    }

    /// Goes through one rule; true where it opens the name.
    fn opens(&self, question: &mut Question<'_>, rule: &CompiledRule, number: u32, marks: Marks) -> bool {
        let ways = Protocols::of(rule);
        if !question.view.has_class(rule.class) || rule.is_expired(question.now) || !question.open.meets(ways) {
            return false;
        }
        if !rule.may_attach(question.view.labels(), question.name) {
            return false;
        }
        // Every flow by these protocols, whatever else is true of it.
        let covers = marks.has(Marks::ANY.with(Marks::NAME)) && !rule.is_conditional();
        let written = !question.guarded || self.writes_name(rule, question.name);
        match rule.action {
            Action::Deny if !covers => false,
            Action::Deny if rule.watch => question.note(rule, WouldVerdict::Deny),
            Action::Deny => question.close(ways, number),
            Action::Allow | Action::Ask if !written => false,
            Action::Allow if !self.answers(question.opening, rule) => false,
            Action::Allow if rule.watch => question.note(rule, WouldVerdict::Allow),
            Action::Allow => true,
            Action::Ask if rule.watch => question.note(rule, WouldVerdict::Ask),
            Action::Ask => {
                // There is no synthetic TXT, but the person comes before later rules all the same.
                if question.opening == Opening::Any {
                    question.asks.get_or_insert(number);
                }
                if covers {
                    question.open = question.open.without(ways);
                }
                false
            }
        }
    }

    /// Whether the rule opens this type of question.
    fn answers(&self, opening: Opening, rule: &CompiledRule) -> bool {
        match opening {
            Opening::Any => true,
            Opening::Listed(record) => {
                let written = rule.written().and_then(|place| self.spec().rules.get(place));
                written.is_some_and(|rule| rule.record_types.contains(&record))
            }
            Opening::Nothing => false,
        }
    }

    /// No rule opens the name.
    fn answer_by_default(&self, mut question: Question<'_>) -> NameDecision {
        if let Some(number) = question.asks {
            // An allowing default may still come after an ask that does not cover every flow.
            if !self.allows_by_default(&question) {
                let reason = "a person must be asked first".into();
                return self.answer(question, NameAnswer::Synthetic, Some(number), reason);
            }
        }
        if question.guarded {
            let guard = Guard::Metadata;
            return self.refuse(question, guard.rule_name(), guard.reason().into());
        }
        if let Some(number) = question.closes {
            return self.answer(question, NameAnswer::Refuse, Some(number), "a rule denies this name".into());
        }
        if self.allows_by_default(&question) {
            let watched = self.spec().mode != Mode::Unrestricted;
            if watched {
                question.would.push(Would { rule: self.default_name.clone(), verdict: WouldVerdict::Deny });
            }
            let reason = if watched { "no rule matches; the mode's denial is watched" } else { "the mode allows" };
            return self.answer(question, NameAnswer::Resolve, None, reason.into());
        }
        let reason = match question.opening {
            Opening::Listed(_) => "this record type is answered only by a rule that lists it",
            Opening::Any | Opening::Nothing => "no rule can allow this name",
        };
        self.refuse(question, self.default_name.clone(), reason.into())
    }

    fn allows_by_default(&self, question: &Question<'_>) -> bool {
        let mode = self.spec().mode == Mode::Unrestricted || self.spec().watch_default;
        mode && !question.guarded
            && question.opening == Opening::Any
            && question.open.meets(Protocols::one(Protocol::Tcp))
    }

    /// The answer by a rule, or by the default where there is none.
    fn answer(&self, question: Question<'_>, answer: NameAnswer, by: Option<u32>, reason: Reason) -> NameDecision {
        let rule = by.and_then(|number| self.rules.get(number as usize));
        let default_route = || if self.spec().mode == Mode::Routed { self.spec().route.clone() } else { None };
        NameDecision {
            answer,
            rule: rule.map_or_else(|| self.default_name.clone(), |rule| rule.name.clone()),
            reason,
            would: question.would,
            route: match answer {
                NameAnswer::Resolve => rule.map_or_else(default_route, |rule| rule.route.clone()),
                NameAnswer::Synthetic | NameAnswer::Refuse => None,
            },
        }
    }

    fn refuse(&self, question: Question<'_>, rule: RuleName, reason: Reason) -> NameDecision {
        NameDecision { answer: NameAnswer::Refuse, rule, reason, would: question.would, route: None }
    }

    /// Whether an address may stand in the answer for a name that was resolved: no guard is over it that
    /// the rules leave shut, and where only a rule by address opens the name, it lies in that rule's ranges.
    /// The flow itself is judged all the same.
    pub fn admits_answer(&self, source: &Source, name: &HostName, address: IpAddr, now: Timestamp) -> bool {
        if !source.view().is_of(self.id()) {
            return self.admits_answer(&self.source(source.labels()), name, address, now);
        }
        address::judged_addresses(address).into_iter().all(|judged| self.admits(source.view(), name, judged, now))
    }

    fn admits(&self, view: &SourceView, name: &HostName, address: IpAddr, now: Timestamp) -> bool {
        let guard = self.guard_over(address);
        let live = |number: u32| {
            self.rules.get(number as usize).filter(|rule| {
                let acts = rule.action != Action::Deny && !rule.watch && !rule.is_expired(now);
                acts && view.has_class(rule.class) && rule.may_attach(view.labels(), name)
            })
        };
        let mut by_range = false;
        self.ranges.look_up(address, &mut |hit| {
            let opens = guard.is_none_or(|guard| hit.written && guard.is_opened_by(&hit.range));
            let any_live = match hit.holder {
                Holder::Rule(rule) => live(rule).is_some(),
                Holder::Set(set) => self.rules_of(set).iter().any(|number| live(*number).is_some()),
            };
            by_range |= opens && any_live;
        });
        if by_range || guard.is_some() {
            return by_range;
        }
        let question = Question {
            view,
            name,
            opening: Opening::Any,
            now,
            guarded: false,
            open: Protocols::ALL,
            asks: None,
            closes: None,
            would: SmallVec::new(),
        };
        let mut candidates = self.name_candidates(&question);
        let by_name = std::iter::from_fn(|| candidates.next())
            .any(|(number, marks)| marks != Marks::OPENS_NAME && live(number).is_some());
        by_name || self.allows_by_default(&question)
    }
}

impl Question<'_> {
    fn note(&mut self, rule: &CompiledRule, verdict: WouldVerdict) -> bool {
        self.would.push(Would { rule: rule.name.clone(), verdict });
        false
    }

    fn close(&mut self, ways: Protocols, number: u32) -> bool {
        let tcp = Protocols::one(Protocol::Tcp);
        if ways.meets(tcp) && self.open.meets(tcp) {
            self.closes = Some(number);
        }
        self.open = self.open.without(ways);
        false
    }
}

#[cfg(test)]
mod tests;
