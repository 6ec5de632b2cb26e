//! From the rules that match, or may, to what is decided.

use smallvec::SmallVec;

use crate::{
    compile::{
        CompiledPolicy,
        names::Lead,
        ranges::{Holder, RangeHit},
        reach::{Firsts, Reached},
        rules::{CompiledRule, Destination},
    },
    decision::{Layer, Missing, Verdict, WouldVerdict},
    facts::{Fact, HttpFacts, Protocol},
    guard::Guard,
    judge::{
        By, Case, Notes, Ruling, Trial, WhyNot,
        candidates::{Candidates, Marks},
        effect,
    },
    model::Action,
};

/// What was found for one case.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) ruling: Ruling,
    /// Watched matches, ascending.
    pub(crate) notes: Notes,
}

impl Finding {
    /// For a flow that has no address to judge where it must have one.
    pub(crate) fn malformed() -> Self {
        let ruling = Ruling::Decided { verdict: Verdict::Denied, by: By::Guard(Guard::Malformed), layer: Layer::Ip };
        Self { ruling, notes: Notes::new() }
    }
}

/// What may still come of the rules that depend on missing facts.
#[derive(Debug, Default)]
struct Possible {
    allow: bool,
    /// The first rule that may ask.
    ask: Option<u32>,
    /// The first rule that lacks a fact other than the address, and that fact; but for what is inside TLS.
    cheap: Option<(u32, Missing)>,
    /// The first rule that lacks the request inside TLS.
    inside: Option<u32>,
    /// Whether any rule lacks the address.
    address: bool,
}

impl Possible {
    fn note(&mut self, rule: u32, action: Action, missing: Missing, tls: bool) {
        match action {
            Action::Allow => self.allow = true,
            Action::Ask if self.ask.is_none_or(|first| rule < first) => self.ask = Some(rule),
            Action::Ask | Action::Deny => {}
        }
        match missing {
            Missing::Address => self.address = true,
            Missing::Http if tls => self.inside = Some(self.inside.map_or(rule, |first| first.min(rule))),
            Missing::Name | Missing::Http | Missing::Process => {
                if self.cheap.is_none_or(|(first, _)| rule < first) {
                    self.cheap = Some((rule, missing));
                }
            }
        }
    }
}

/// The state of one weighing.
#[derive(Debug, Default)]
struct Weighing {
    possible: Possible,
    /// The first fact that a watched rule lacks, other than the address of a name.
    watched: Option<(u32, Missing)>,
    notes: Notes,
    /// Rules that were reached while a fact was pending.
    reached: SmallVec<[u32; 8]>,
}

impl Weighing {
    fn note_watched(&mut self, rule: u32, missing: Missing) {
        if self.watched.is_none_or(|(first, _)| rule < first) {
            self.watched = Some((rule, missing));
        }
    }
}

/// The first rule that matches for sure, or the default.
struct Sure {
    number: u32,
    verdict: Verdict,
    by: By,
    layer: Layer,
}

impl CompiledPolicy {
    /// Finds what is decided for one case.
    pub(crate) fn weigh(&self, case: &Case<'_>) -> Finding {
        let mut candidates = Candidates::default();
        let reached = self.gather(case, &mut candidates);
        let mut weighing = Weighing::default();
        let pending = case.name_pending() || case.address_pending();
        let mut sure = None;
        while let Some((number, marks)) = candidates.next() {
            let Some(rule) = self.rules.get(number as usize) else { continue };
            let trial = self.try_rule(rule, marks, case);
            if pending && trial != Trial::No(WhyNot::Destination) {
                weighing.reached.push(number);
            }
            match trial {
                Trial::No(_) => {}
                _ if rule.watch => self.watch(&mut weighing, number, trial, marks, case),
                Trial::Maybe(missing) => weighing.possible.note(number, rule.action, missing, case.is_tls()),
                // Only watched rules are ever hidden.
                Trial::Hidden => {}
                Trial::Yes(layer) => {
                    let (verdict, by) = self.effect_of(number, marks, case);
                    sure = Some(Sure { number, verdict, by, layer });
                    break;
                }
            }
        }
        let sure = sure.unwrap_or_else(|| self.default_of(case));
        if pending {
            depend_on(case, sure.number, reached, &mut weighing);
            self.look_closer(case, sure.number, &mut weighing);
        }
        let ruling = settle(case, &sure, &weighing);
        Finding { ruling, notes: weighing.notes }
    }

    /// Collects the lists of rules that the facts lead to, and the first rules that depend on names
    /// and on addresses.
    pub(crate) fn gather<'p>(&'p self, case: &Case<'p>, candidates: &mut Candidates<'p>) -> &'p Reached {
        let reached = case
            .view
            .reach(case.facts.protocol)
            .look_up(case.facts.port, &mut |rules| candidates.add(rules, Marks::ANY));
        if let Some(named) = case.name() {
            self.names.look_up(named.name.as_str(), &mut |lead| match lead {
                Lead::Rule(rule) => candidates.add_one(rule, Marks::NAME),
                Lead::Set(set) => candidates.add(self.rules_of(set), Marks::NAME),
                Lead::Url(url) => self.add_url(url, case, candidates),
                Lead::Opens(rule) => candidates.add_one(rule, Marks::OPENS_NAME),
            });
        }
        if let Fact::Known(address) = case.address {
            self.ranges.look_up(address, &mut |hit| match hit.holder {
                Holder::Rule(rule) => candidates.add_one(rule, range_marks(&hit, case)),
                Holder::Set(set) => candidates.add(self.rules_of(set), range_marks(&hit, case)),
            });
        }
        reached
    }

    pub(crate) fn rules_of(&self, set: u32) -> &[u32] {
        self.sets.get(set as usize).map(SmallVec::as_slice).unwrap_or_default()
    }

    fn add_url<'p>(&'p self, url: u32, case: &Case<'p>, candidates: &mut Candidates<'p>) {
        let Some(url) = self.urls.get(url as usize) else { return };
        if url.port != case.facts.port || case.facts.protocol != Protocol::Tcp {
            return;
        }
        let (tls, http) = (&case.facts.tls, &case.facts.http);
        let marks = match (url.tls, tls, http) {
            (true, Fact::Absent, _) | (false, Fact::Known(_), _) => return,
            (_, _, Fact::Pending) => Marks::URL_PENDING,
            (true, _, Fact::Absent) => Marks::URL_HIDDEN,
            (false, _, Fact::Absent) => return,
            // A request that was read where TLS is not known to be was not read inside it.
            (true, Fact::Pending, Fact::Known(_)) => Marks::URL_HIDDEN,
            (_, _, Fact::Known(HttpFacts { path: None, .. })) => Marks::URL_AMBIGUOUS,
            (_, _, Fact::Known(HttpFacts { path: Some(path), .. })) if url.path.matches(path) => Marks::URL,
            (_, _, Fact::Known(_)) => return,
        };
        candidates.add(self.rules_of(url.set), marks);
    }

    /// What a matching rule comes to. On a guarded destination a denial by a rule that does not name
    /// it is the guard's: the guard stood before it.
    fn effect_of(&self, number: u32, marks: Marks, case: &Case<'_>) -> (Verdict, By) {
        let Some(rule) = self.rules.get(number as usize) else { return (Verdict::Denied, By::Default) };
        let (verdict, guard) = effect(rule.action, rule.allows_ech, case.facts);
        let standing = case.guard().filter(|_| !self.names_guarded(rule, marks, case));
        (verdict, standing.or(guard).map_or(By::Rule(number), By::Guard))
    }

    fn default_of(&self, case: &Case<'_>) -> Sure {
        let (verdict, by) = self.default_ruling(case);
        let sure = |verdict, by, layer| Sure { number: u32::MAX, verdict, by, layer };
        if let By::Guard(_) = by {
            let layer = if case.address_guard.is_some() { Layer::Ip } else { case.name_layer() };
            return sure(verdict, by, layer);
        }
        if verdict == Verdict::Allowed {
            let (verdict, guard) = effect(Action::Allow, false, case.facts);
            return sure(verdict, guard.map_or(by, By::Guard), case.name_layer());
        }
        sure(verdict, by, case.name_layer())
    }

    /// Notes what a watched rule would do.
    fn watch(&self, weighing: &mut Weighing, number: u32, trial: Trial, marks: Marks, case: &Case<'_>) {
        match trial {
            Trial::No(_) => {}
            Trial::Yes(_) => {
                let (verdict, _) = self.effect_of(number, marks, case);
                let would = match verdict {
                    Verdict::Allowed => WouldVerdict::Allow,
                    Verdict::Asked => WouldVerdict::Ask,
                    Verdict::Denied => WouldVerdict::Deny,
                };
                weighing.notes.push((number, would));
            }
            Trial::Hidden => weighing.notes.push((number, WouldVerdict::Unknown)),
            // What a guard denies waits for no name, as in `look_closer`.
            Trial::Maybe(Missing::Name) if case.guard().is_some() => {}
            // Nobody is asked about a name for the sake of a watched rule.
            Trial::Maybe(Missing::Address) if case.name().is_some() => {
                weighing.notes.push((number, WouldVerdict::Unknown));
            }
            Trial::Maybe(missing) => weighing.note_watched(number, missing),
        }
    }

    /// Tries the rules that [`depend_on`] can't speak for.
    fn look_closer(&self, case: &Case<'_>, before: u32, weighing: &mut Weighing) {
        for number in case.view.reach(case.facts.protocol).irregular() {
            if *number >= before {
                break;
            }
            let Some(rule) = self.rules.get(*number as usize) else { continue };
            if weighing.reached.contains(number) {
                continue;
            }
            let marks = pending_marks(rule, case);
            match self.try_rule(rule, marks, case) {
                // As in `depend_on`: nobody is asked about a name for the sake of a watched rule, and
                // what a guard denies waits for none.
                Trial::Maybe(Missing::Address) if rule.watch && case.name().is_some() => {}
                Trial::Maybe(_) if rule.watch && case.guard().is_some() => {}
                Trial::Maybe(missing) if rule.watch => weighing.note_watched(*number, missing),
                Trial::Maybe(missing) => weighing.possible.note(*number, rule.action, missing, case.is_tls()),
                Trial::No(_) | Trial::Yes(_) | Trial::Hidden => {}
            }
        }
    }
}

/// What of the rule's destination is pending. The address comes with the name; and a rule by address
/// opens no names but its own, so where the name is known only a denial may come of it.
pub(crate) fn pending_marks(rule: &CompiledRule, case: &Case<'_>) -> Marks {
    let Destination::Set { names, ranges } = rule.destination else { return Marks::default() };
    let address = ranges && case.address_pending();
    if case.name_pending() && (names || address) {
        Marks::NAME_PENDING
    } else if address && (rule.action == Action::Deny || case.name().is_none()) {
        Marks::ADDRESS_PENDING
    } else {
        Marks::default()
    }
}

fn range_marks(hit: &RangeHit, case: &Case<'_>) -> Marks {
    let mut marks = Marks::RANGE;
    if hit.written {
        let exact = hit.range.prefix_len() == hit.range.max_prefix_len();
        if exact {
            marks = marks.with(Marks::EXACT_ADDRESS);
        }
        if case.address_guard.is_some_and(|guard| guard.is_opened_by(&hit.range)) {
            marks = marks.with(Marks::OPENS_GUARD);
        }
    }
    marks
}

/// Adds what may come of the rules whose name or address is pending, from the first of each kind.
/// On a guarded destination only those that name it could do more than deny, and these were reached.
fn depend_on(case: &Case<'_>, before: u32, reached: &Reached, weighing: &mut Weighing) {
    let guarded = case.guard().is_some();
    let mut add = |firsts: &Firsts, missing: Missing, only_denials: bool| {
        let mut possible = |rule: u32, action: Action| {
            if rule < before {
                weighing.possible.note(rule, action, missing, case.is_tls());
            }
        };
        possible(firsts.deny, Action::Deny);
        if only_denials || guarded {
            return;
        }
        possible(firsts.allow, Action::Allow);
        possible(firsts.ask, Action::Ask);
        if firsts.watch < before {
            weighing.note_watched(firsts.watch, missing);
        }
    };
    if case.name_pending() {
        add(&reached.by_name, Missing::Name, false);
    }
    if case.address_pending() {
        // The address comes with the name. A rule by address opens no names but its own, so where the
        // name is known only a denial may come of the others.
        let missing = if case.name_pending() { Missing::Name } else { Missing::Address };
        add(&reached.by_address, missing, case.name().is_some());
    }
}

/// Decides, or says what is missing.
fn settle(case: &Case<'_>, sure: &Sure, weighing: &Weighing) -> Ruling {
    let decided = Ruling::Decided { verdict: sure.verdict, by: sure.by, layer: sure.layer };
    let watched = weighing.watched.map(|(_, missing)| Ruling::Needs(missing));
    let possible = &weighing.possible;
    if sure.verdict == Verdict::Denied && !possible.allow && possible.ask.is_none() {
        return watched.unwrap_or(decided);
    }
    if let Some((_, missing)) = possible.cheap {
        return Ruling::Needs(missing);
    }
    if let Some(needs) = watched {
        return needs;
    }
    // What is inside TLS is looked at last: all else may decide without opening the flow.
    let inside = possible.inside.map(|_| Ruling::Needs(Missing::Http));
    if !case.address_pending() {
        return inside.unwrap_or(decided);
    }
    if case.name_pending() {
        return Ruling::Needs(Missing::Name);
    }
    let asks = match (sure.verdict, possible.ask) {
        _ if possible.allow || case.name().is_none() => None,
        (Verdict::Allowed, _) => None,
        (Verdict::Asked, first) => Some((first.unwrap_or(sure.number), decided)),
        (Verdict::Denied, first) => first.map(|number| {
            (number, Ruling::Decided { verdict: Verdict::Asked, by: By::Rule(number), layer: case.name_layer() })
        }),
    };
    // Only an ask covers the name: nobody is asked about it before the person is. And the person is asked about the
    // request, where it is inside TLS and an earlier rule or the ask itself looks at it.
    match (asks, inside) {
        (None, _) => Ruling::Needs(Missing::Address),
        (Some((number, _)), Some(needs)) if possible.inside.is_some_and(|first| first <= number) => needs,
        (Some((_, asked)), _) => asked,
    }
}
