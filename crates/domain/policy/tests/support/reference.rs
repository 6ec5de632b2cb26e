//! The evaluator in its plainest form: every rule in order, every condition in order, no index.

use std::net::IpAddr;

use ipnet::IpNet;
use policy::{
    EchState, Fact, Facts, Guard, HostName, HostPattern, HttpFacts, Missing, Protocol,
    address::{SpecialRange, canonical, judged_addresses, special},
    http_path::PathGlob,
    http_query::{self, Parameter},
    model::{
        Action, EchMode, From, Group, HttpMatch, Lists, Mode, PolicySpec, ProcessMatch, Rule, RuleEnforcement, Scheme,
        TlsMode, To, UrlPattern, credential::Bind,
    },
};
use values::Labels;

use super::{OWN, rule};

/// What a policy, its lists and a sandbox's labels say to a flow, as `shown` writes it.
pub fn judge(spec: &PolicySpec, lists: &Lists, labels: &Labels, facts: &Facts<'_>) -> String {
    let rules = rules_in_order(spec);
    let addresses: Vec<Fact<IpAddr>> = match facts.address {
        Fact::Known(address) => judged_addresses(address).into_iter().map(Fact::Known).collect(),
        other => vec![other],
    };
    let mut all: Vec<(Answer, Vec<(usize, String)>)> = Vec::new();
    for address in addresses {
        let guard = address.known().and_then(|address| guard(spec, *address));
        let name_guard = facts.name.known().is_some_and(|named| named.name.as_str() == "metadata.google.internal");
        let flow = Flow { spec, lists, labels, facts, address, guard, name_guard };
        all.push(flow.answer(&rules));
    }
    let mut notes: Vec<(usize, String)> = all.iter().flat_map(|(_, notes)| notes.clone()).collect();
    notes.sort();
    notes.dedup();
    let mut strictest = all[0].0.clone();
    for (answer, _) in all {
        if answer.rank() > strictest.rank() || (answer.rank() == strictest.rank() && answer.tells_more_than(&strictest))
        {
            strictest = answer;
        }
    }
    match strictest {
        Answer::Needs(missing) => format!("needs {missing:?}"),
        Answer::Decided(verdict, by) => {
            let notes: String = notes.into_iter().map(|(_, note)| note).collect();
            let default = spec.mode != Mode::Unrestricted && verdict == "allowed" && by == "mode-default";
            let watched = if default { " [mode-default would-deny]" } else { "" };
            format!("{verdict} by {by}{notes}{watched}")
        }
    }
}

#[derive(Clone)]
enum Answer {
    Decided(&'static str, String),
    Needs(Missing),
}

impl Answer {
    fn rank(&self) -> usize {
        match self {
            Answer::Decided("allowed", _) => 0,
            Answer::Decided("asked", _) => 1,
            Answer::Needs(_) => 2,
            Answer::Decided(..) => 3,
        }
    }

    fn guard(&self) -> Option<Guard> {
        match self {
            Answer::Decided(_, by) => Guard::ALL.into_iter().find(|guard| guard.as_str() == by),
            Answer::Needs(_) => None,
        }
    }

    fn tells_more_than(&self, other: &Answer) -> bool {
        self.guard().is_some_and(|own| other.guard().is_none_or(|other| own < other))
    }
}

/// Rules that are not off by priority, then the pseudo-rules.
fn rules_in_order(spec: &PolicySpec) -> Vec<Rule> {
    let mut rules: Vec<Rule> =
        spec.rules.iter().filter(|rule| rule.enforcement != RuleEnforcement::Off).cloned().collect();
    rules.sort_by_key(|rule| rule.priority);
    let mut pseudo = |name: &str, hosts: &[HostPattern], ports: &[(u16, u16)]| {
        if !hosts.is_empty() {
            let to = To::Inline(Group { hosts: hosts.to_vec(), ..Group::default() });
            let base = rule(name, 0, Action::Allow, to);
            rules.push(Rule { protocol: Some(Protocol::Tcp), ports: ports.to_vec(), ..base });
        }
    };
    for managed in &spec.managed_path.package_registries {
        let ports: Vec<(u16, u16)> = managed.ports.iter().map(|port| (*port, *port)).collect();
        let web = [(80, 80), (443, 443)];
        let ports = if ports.is_empty() { &web[..] } else { &ports };
        pseudo(&format!("managed-path:{}", managed.toggle), &managed.hosts, ports);
    }
    pseudo("managed-path:additional-hosts", &spec.managed_path.additional_hosts, &[(80, 80), (443, 443)]);
    pseudo("allowed-hosts", &spec.allowed_hosts, &[]);
    rules
}

fn guard(spec: &PolicySpec, address: IpAddr) -> Option<Guard> {
    match special(address) {
        Some(SpecialRange::Metadata) => Some(Guard::Metadata),
        Some(SpecialRange::Loopback) => Some(Guard::Loopback),
        _ if address.to_string() == OWN => Some(Guard::OwnAddress),
        Some(SpecialRange::LinkLocal) => Some(Guard::LinkLocal),
        Some(SpecialRange::Private) if spec.mode == Mode::Routed => None,
        Some(SpecialRange::Private) => Some(Guard::Private),
        Some(SpecialRange::Multicast) => Some(Guard::Multicast),
        Some(SpecialRange::Broadcast) => Some(Guard::Broadcast),
        Some(SpecialRange::Unspecified) => Some(Guard::Unspecified),
        Some(SpecialRange::Reserved) => Some(Guard::Reserved),
        Some(SpecialRange::Documentation) | None => None,
    }
}

struct Flow<'a> {
    spec: &'a PolicySpec,
    lists: &'a Lists,
    labels: &'a Labels,
    facts: &'a Facts<'a>,
    address: Fact<IpAddr>,
    guard: Option<Guard>,
    name_guard: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Match {
    No,
    Yes,
    Maybe(Missing),
    Hidden,
}

impl Flow<'_> {
    fn answer(&self, rules: &[Rule]) -> (Answer, Vec<(usize, String)>) {
        let mut notes = Vec::new();
        let mut maybe: Vec<(usize, Action, Missing)> = Vec::new();
        let mut watched: Vec<Missing> = Vec::new();
        let mut sure = None;
        for (index, rule) in rules.iter().enumerate() {
            let outcomes = self.outcomes(rule);
            let watches = rule.enforcement == RuleEnforcement::Watch;
            let mut note = |word: &str| notes.push((index, format!(" [{} would-{word}]", rule.name)));
            let definite = outcomes.contains(&Match::Yes);
            for outcome in outcomes {
                match outcome {
                    Match::No => {}
                    Match::Yes if watches => note(match self.effect(rule).0 {
                        "allowed" => "allow",
                        "asked" => "ask",
                        _ => "deny",
                    }),
                    Match::Yes => sure = Some(self.effect(rule)),
                    Match::Hidden => note("unknown"),
                    Match::Maybe(_) if definite => {}
                    Match::Maybe(Missing::Address) if watches && self.facts.name.known().is_some() => {
                        if rule.action != Action::Deny {
                            note("unknown");
                        }
                    }
                    // What could only be denied anyway is not waited for on a guarded destination.
                    Match::Maybe(Missing::Name | Missing::Address) if watches && self.guarded() => {}
                    Match::Maybe(missing) if watches => watched.push(missing),
                    Match::Maybe(missing) => maybe.push((index, rule.action, missing)),
                }
            }
            if sure.is_some() {
                break;
            }
        }
        let (verdict, by) = sure.unwrap_or_else(|| self.default());
        (self.settle(rules, verdict, by, &maybe, &watched), notes)
    }

    fn guarded(&self) -> bool {
        self.guard.is_some() || self.name_guard
    }

    fn settle(
        &self,
        rules: &[Rule],
        verdict: &'static str,
        by: String,
        maybe: &[(usize, Action, Missing)],
        watched: &[Missing],
    ) -> Answer {
        let decided = Answer::Decided(verdict, by);
        let watched = watched.first().map(|missing| Answer::Needs(*missing));
        let allow = maybe.iter().any(|(_, action, _)| *action == Action::Allow);
        let ask = maybe.iter().find(|(_, action, _)| *action == Action::Ask).map(|(index, ..)| *index);
        if verdict == "denied" && !allow && ask.is_none() {
            return watched.unwrap_or(decided);
        }
        let inside = |missing: Missing| missing == Missing::Http && self.is_tls();
        let cheap = |missing: Missing| missing != Missing::Address && !inside(missing);
        if let Some((.., missing)) = maybe.iter().find(|(.., missing)| cheap(*missing)) {
            return Answer::Needs(*missing);
        }
        if let Some(needs) = watched {
            return needs;
        }
        // The flow is opened last of all, and not where a rule before decides that a person is asked.
        let opens = maybe.iter().find(|(.., missing)| inside(*missing)).map(|(index, ..)| *index);
        let opened = |asked: Option<usize>, decided: Answer| match opens {
            Some(opens) if asked.is_none_or(|asked| opens <= asked) => Answer::Needs(Missing::Http),
            Some(_) | None => decided,
        };
        match (self.address, &self.facts.name) {
            (Fact::Known(_) | Fact::Absent, _) => opened(None, decided),
            (Fact::Pending, Fact::Pending) => Answer::Needs(Missing::Name),
            (Fact::Pending, Fact::Known(_)) if !allow && verdict == "asked" => opened(ask, decided),
            (Fact::Pending, Fact::Known(_)) if !allow && verdict == "denied" => {
                opened(ask, Answer::Decided("asked", rules[ask.unwrap()].name.to_string()))
            }
            (Fact::Pending, _) => Answer::Needs(Missing::Address),
        }
    }

    fn is_tls(&self) -> bool {
        self.facts.tls.known().is_some()
    }

    fn ech_suspect(&self) -> bool {
        self.facts.http.known().is_none() && self.facts.tls.known().is_some_and(|tls| tls.ech == EchState::Suspect)
    }

    fn effect(&self, rule: &Rule) -> (&'static str, String) {
        let unnamed = self.guarded() && !self.names_guarded(rule);
        if unnamed {
            let guard = if self.name_guard { Guard::Metadata } else { self.guard.unwrap() };
            return ("denied", guard.as_str().to_owned());
        }
        match rule.action {
            Action::Deny => ("denied", rule.name.to_string()),
            _ if self.ech_suspect() && rule.ech == EchMode::DenySuspect => ("denied", "guard:ech".to_owned()),
            Action::Allow => ("allowed", rule.name.to_string()),
            Action::Ask => ("asked", rule.name.to_string()),
        }
    }

    fn default(&self) -> (&'static str, String) {
        if self.guarded() {
            let guard = if self.name_guard { Guard::Metadata } else { self.guard.unwrap() };
            return ("denied", guard.as_str().to_owned());
        }
        let allows = self.spec.mode == Mode::Unrestricted || self.spec.watch_default;
        if !allows || self.facts.protocol != Protocol::Tcp {
            return ("denied", "mode-default".to_owned());
        }
        if self.ech_suspect() { ("denied", "guard:ech".to_owned()) } else { ("allowed", "mode-default".to_owned()) }
    }

    /// What may come of a rule. More than one where two parts of its destination lack different facts.
    fn outcomes(&self, rule: &Rule) -> Vec<Match> {
        if !self.from(rule) || (rule.action != Action::Deny && rule.expires.is_some_and(|end| self.facts.now > end)) {
            return vec![Match::No];
        }
        let port =
            rule.ports.is_empty() || rule.ports.iter().any(|(a, b)| *a <= self.facts.port && self.facts.port <= *b);
        if !protocol_opened(rule, self.facts.protocol) || !port {
            return vec![Match::No];
        }
        let mut outcomes = self.destination(rule);
        if rule.action != Action::Deny && self.guarded() && !self.names_guarded(rule) {
            return vec![Match::No];
        }
        if !self.may_attach(rule) {
            // Where the destination itself is pending, that is found out first.
            let nameless = self.facts.name.known().is_none();
            outcomes.retain(|outcome| match outcome {
                Match::Maybe(Missing::Name) => true,
                Match::Maybe(Missing::Address) => nameless,
                _ => false,
            });
        }
        if outcomes.contains(&Match::Yes) {
            return vec![self.closer(rule)];
        }
        if outcomes.contains(&Match::Hidden) && outcomes.iter().any(|outcome| matches!(outcome, Match::Maybe(_))) {
            outcomes.retain(|outcome| *outcome != Match::Hidden);
        }
        outcomes.dedup();
        outcomes
    }

    fn bind<'r>(&'r self, rule: &Rule) -> Option<&'r Bind> {
        rule.credential.as_ref().map(|name| &self.spec.credentials[name].bind)
    }

    /// Whether a URL of the rule's, whose port it then is, may be what leads to it.
    fn may_be_url(&self, rule: &Rule) -> bool {
        let Some(group) = self.group(rule) else { return false };
        match &self.facts.name {
            Fact::Known(host) => group.urls.iter().any(|url| self.url(rule, url, &host.name) != Match::No),
            Fact::Pending => !group.urls.is_empty() || !self.names_and_ranges(group).0.is_empty(),
            Fact::Absent => false,
        }
    }

    /// Whether nothing that is known says that the rule's credential is not bound to the flow.
    fn may_attach(&self, rule: &Rule) -> bool {
        let Some(bind) = self.bind(rule) else { return true };
        let host = match &self.facts.name {
            Fact::Known(named) => bind.hosts.iter().any(|host| host.matches(&named.name)),
            Fact::Pending => true,
            Fact::Absent => false,
        };
        let inside = match self.facts.tls {
            Fact::Known(_) => true,
            Fact::Pending => self.facts.http == Fact::Pending,
            Fact::Absent => false,
        };
        let port = self.facts.port;
        let port = if bind.ports.is_empty() {
            port == 443 || !rule.ports.is_empty() || self.may_be_url(rule)
        } else {
            bind.ports.iter().any(|(first, last)| *first <= port && port <= *last)
        };
        host && inside && port && bind.sandboxes.as_ref().is_none_or(|selector| selector.matches(self.labels))
    }

    fn from(&self, rule: &Rule) -> bool {
        match &rule.from {
            From::Any => true,
            From::Labels(selector) => selector.matches(self.labels),
            From::Group(group) => {
                self.spec.groups[group].sandboxes.iter().any(|selector| selector.matches(self.labels))
            }
        }
    }

    fn group<'r>(&'r self, rule: &'r Rule) -> Option<&'r Group> {
        match &rule.to {
            To::Any => None,
            To::Group(name) => Some(&self.spec.groups[name]),
            To::Inline(group) => Some(group),
        }
    }

    fn names_and_ranges(&self, group: &Group) -> (Vec<HostPattern>, Vec<IpNet>) {
        let (mut names, mut ranges) = (group.hosts.clone(), group.cidrs.clone());
        let feed = group.feed.as_ref().map(|feed| &self.lists.feeds[&feed.path]);
        let tag = group.service_tag.as_ref().map(|tag| &self.lists.service_tags[tag]);
        for list in feed.into_iter().chain(tag) {
            names.extend(list.hosts.iter().cloned());
            ranges.extend(list.cidrs.iter().copied());
        }
        (names, ranges)
    }

    fn destination(&self, rule: &Rule) -> Vec<Match> {
        let Some(group) = self.group(rule) else { return vec![Match::Yes] };
        let (names, ranges) = self.names_and_ranges(group);
        let named = !names.is_empty() || !group.urls.is_empty();
        let denies = rule.action == Action::Deny;
        let mut outcomes = Vec::new();
        let address_pending = self.address == Fact::Pending;
        if self.address.known().is_some_and(|address| ranges.iter().any(|range| contains(range, *address))) {
            return vec![Match::Yes];
        }
        match &self.facts.name {
            Fact::Known(host) => {
                if names.iter().any(|pattern| pattern.matches(&host.name)) {
                    return vec![Match::Yes];
                }
                let urls: Vec<Match> = group.urls.iter().map(|url| self.url(rule, url, &host.name)).collect();
                if urls.contains(&Match::Yes) {
                    return vec![Match::Yes];
                }
                outcomes.extend(urls);
                let opened = rule.names.iter().any(|pattern| pattern.matches(&host.name));
                if address_pending && !ranges.is_empty() && (denies || opened) {
                    // A rule that allows waits for one fact at a time.
                    if denies || !outcomes.iter().any(|outcome| matches!(outcome, Match::Maybe(_))) {
                        outcomes.push(Match::Maybe(Missing::Address));
                    }
                }
            }
            Fact::Pending => {
                if named || (address_pending && !ranges.is_empty()) {
                    outcomes.push(Match::Maybe(Missing::Name));
                }
            }
            Fact::Absent => {
                if address_pending && !ranges.is_empty() {
                    outcomes.push(Match::Maybe(Missing::Address));
                }
            }
        }
        outcomes.sort_by_key(|outcome| *outcome != Match::Maybe(Missing::Http));
        outcomes
    }

    fn url(&self, rule: &Rule, url: &UrlPattern, host: &HostName) -> Match {
        if url.port != self.facts.port || self.facts.protocol != Protocol::Tcp || !url.host.matches(host) {
            return Match::No;
        }
        let watches = rule.enforcement == RuleEnforcement::Watch;
        // What is not known to be the scheme's is not what the URL means.
        let read = match (&self.facts.tls, &self.facts.http) {
            (Fact::Absent, _) if url.tls => return Match::No,
            (Fact::Known(_), _) if !url.tls => return Match::No,
            (Fact::Pending, Fact::Known(_)) if url.tls => &Fact::Absent,
            (_, http) => http,
        };
        match read {
            Fact::Pending if watches && self.is_tls() => Match::Hidden,
            Fact::Pending => Match::Maybe(Missing::Http),
            Fact::Absent if !url.tls => Match::No,
            Fact::Absent if watches => Match::Hidden,
            Fact::Absent => yes(rule.action == Action::Deny),
            Fact::Known(HttpFacts { path: None, .. }) if rule.action == Action::Deny => Match::Yes,
            Fact::Known(HttpFacts { path: None, .. }) => Match::No,
            Fact::Known(HttpFacts { path: Some(path), .. }) if PathGlob::parse(&url.path).unwrap().matches(path) => {
                Match::Yes
            }
            Fact::Known(_) => Match::No,
        }
    }

    fn closer(&self, rule: &Rule) -> Match {
        let process = match &self.facts.process {
            _ if rule.process.is_empty() => Match::Yes,
            Fact::Pending => Match::Maybe(Missing::Process),
            Fact::Absent => Match::No,
            Fact::Known(process) => yes(rule.process.iter().any(|one| match one {
                ProcessMatch::Executable(path) => *path == process.executable,
                ProcessMatch::Digest(digest) => Some(digest) == process.digest.as_ref(),
            })),
        };
        let denies = rule.action == Action::Deny;
        let needs = !rule.http.is_empty()
            || rule.credential.is_some()
            || rule.max_body.is_some()
            || rule.max_response.is_some()
            || (rule.tls == TlsMode::Inspect && !denies);
        let plain_ports = !rule.ports.is_empty() && rule.ports.iter().all(|range| *range == (80, 80));
        let plain_alone =
            plain_ports || (!rule.http.is_empty() && rule.http.iter().all(|one| one.scheme == Some(Scheme::Http)));
        let fits = |one: &&HttpMatch| match (one.scheme, &self.facts.tls, &self.facts.http) {
            (None, _, _) | (Some(_), Fact::Pending, Fact::Pending | Fact::Absent) => true,
            (Some(scheme), Fact::Pending | Fact::Absent, _) => scheme == Scheme::Http,
            (Some(scheme), Fact::Known(_), _) => scheme == Scheme::Https,
        };
        let fitting: Vec<&HttpMatch> = rule.http.iter().filter(fits).collect();
        let looks_inside = match rule.tls {
            TlsMode::Inspect => true,
            TlsMode::AsNeeded => !plain_alone,
            TlsMode::Passthrough => false,
        };
        let request = match (&self.facts.http, self.is_tls()) {
            _ if !needs => Match::Yes,
            _ if !rule.http.is_empty() && fitting.is_empty() => Match::No,
            (_, true) if !looks_inside => yes(denies),
            (Fact::Known(http), _) => {
                let bound = self.bind(rule).is_none_or(|bind| {
                    let entry =
                        HttpMatch { methods: bind.methods.clone(), paths: bind.paths.clone(), ..HttpMatch::default() };
                    request_matches(&entry, http, Action::Allow)
                });
                let own = rule.http.is_empty() || fitting.iter().any(|one| request_matches(one, http, rule.action));
                yes(bound && own)
            }
            (Fact::Pending | Fact::Absent, true) if rule.enforcement == RuleEnforcement::Watch => Match::Hidden,
            (Fact::Pending, _) => Match::Maybe(Missing::Http),
            (Fact::Absent, tls) => yes(tls && denies),
        };
        let both = [process, request];
        if both.contains(&Match::No) {
            return Match::No;
        }
        if rule.credential.is_some() && self.facts.name == Fact::Pending {
            return Match::Maybe(Missing::Name);
        }
        *both
            .iter()
            .find(|one| matches!(one, Match::Maybe(_)))
            .or(both.iter().find(|one| **one == Match::Hidden))
            .unwrap_or(&Match::Yes)
    }

    fn names_guarded(&self, rule: &Rule) -> bool {
        // Pseudo-rules open no guard.
        if !self.spec.rules.iter().any(|written| written.name == rule.name) {
            return false;
        }
        let written: Vec<IpNet> = self.group(rule).map(|group| group.cidrs.clone()).unwrap_or_default();
        let host_long = |range: &IpNet| range.prefix_len() == range.max_prefix_len();
        let covers = |range: &&IpNet| self.address.known().is_some_and(|address| contains(range, *address));
        let by_address = self.guard.is_none_or(|guard| {
            written.iter().filter(covers).any(|range| match guard {
                Guard::Metadata | Guard::OwnAddress => host_long(range),
                _ => {
                    special(range.network()) == special(*self.address.known().unwrap())
                        && special(range.broadcast()) == special(range.network())
                }
            })
        });
        let exact = |pattern: &HostPattern| matches!((pattern, self.facts.name.known()), (HostPattern::Exact(exact), Some(named)) if *exact == named.name);
        let hosts = self.group(rule).map(|group| group.hosts.clone()).unwrap_or_default();
        let by_name = !self.name_guard
            || hosts.iter().chain(&rule.names).any(exact)
            || written.iter().filter(covers).any(host_long);
        by_address && by_name
    }
}

fn yes(is: bool) -> Match {
    if is { Match::Yes } else { Match::No }
}

fn contains(range: &IpNet, address: IpAddr) -> bool {
    let range = match (range.network(), range.prefix_len()) {
        (IpAddr::V6(v6), length) if length >= 96 && v6.to_ipv4_mapped().is_some() => {
            IpNet::new(canonical(IpAddr::V6(v6)), length - 96).unwrap()
        }
        _ => *range,
    };
    range.contains(&address)
}

fn protocol_opened(rule: &Rule, protocol: Protocol) -> bool {
    let denies = rule.action == Action::Deny;
    rule.protocol.is_none_or(|own| own == protocol)
        && match protocol {
            Protocol::Tcp => true,
            Protocol::Udp => denies || (rule.protocol.is_some() && !rule.ports.is_empty()),
            Protocol::Icmp if denies => rule.ports.is_empty(),
            Protocol::Icmp => rule.protocol.is_some(),
        }
}

fn request_matches(one: &HttpMatch, http: &HttpFacts, action: Action) -> bool {
    let method = one.methods.is_empty() || one.methods.contains(&http.method);
    let path = match &http.path {
        _ if one.paths.is_empty() => true,
        None => action == Action::Deny,
        Some(path) => one.paths.iter().any(|glob| PathGlob::parse(glob).unwrap().matches(path)),
    };
    let headers = one.headers.iter().all(|(name, value)| {
        let sent: Vec<_> = http.headers.iter().filter(|(field, _)| field.replace('_', "-") == *name).collect();
        if action == Action::Deny {
            sent.iter().any(|(_, is)| is == value)
        } else {
            !sent.is_empty() && sent.iter().all(|(field, is)| field == name && is == value)
        }
    });
    let query = one.query.iter().all(|(name, value)| {
        match http_query::parameter(http.query.as_deref().unwrap_or_default(), name) {
            Parameter::Missing => false,
            Parameter::Once(sent) => sent == *value,
            Parameter::Ambiguous => action == Action::Deny,
        }
    });
    method && path && headers && query
}
