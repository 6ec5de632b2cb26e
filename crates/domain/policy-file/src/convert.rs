//! From the file as written to the policy that is compiled.
//!
//! The one place where wire types become `policy::model` types. It looks at every part, whatever it finds in
//! the ones before, and says all that is wrong as [`Finding`]s; lines and carets come after.

/// Credentials.
mod credentials;
/// Groups.
mod groups;
/// The metadata service.
mod metadata_service;
/// The small parts: names, hosts, ranges, ports, times.
pub(crate) mod parts;
/// What conversion finds wrong.
pub(crate) mod problem;
/// Routes and the managed path.
mod routes;
/// Rules.
mod rules;
/// Changes to requests.
mod transform;
/// Tests.
mod trials;

use std::collections::{BTreeSet, HashMap};

use policy::{
    HostPattern,
    model::{DnsLimits, FeedFormat, Group, Mode, PolicySpec, RuleEnforcement, StrictBinding},
};
use values::{GroupName, RouteName, RuleName};

use crate::{
    diagnostics::{FINDING_LIMIT, nearest},
    place::Place,
    presets,
    trial::PolicyTest,
    wire,
};
use parts::Breadth;
use problem::{Finding, Problem};

/// What a file says, and what is to be said about it.
#[derive(Debug, Default)]
pub(crate) struct Converted {
    pub(crate) spec: PolicySpec,
    pub(crate) tests: Vec<PolicyTest>,
    pub(crate) findings: Vec<Finding>,
    /// Findings beyond the bound.
    pub(crate) omitted: usize,
}

/// The most known names that a hint lists.
const KNOWN_LISTED: usize = 12;

/// Converts a file of the right shape. The result is of use only where no finding is an error.
pub(crate) fn convert(file: &wire::File) -> Converted {
    let mut converter = Converter::new(&file.spec);
    converter.file(file);
    let Converter { spec, tests, findings, omitted, .. } = converter;
    Converted { spec, tests, findings, omitted }
}

/// The state of one conversion.
struct Converter<'f> {
    written: &'f wire::Spec,
    spec: PolicySpec,
    tests: Vec<PolicyTest>,
    findings: Vec<Finding>,
    omitted: usize,
    /// The format of each feed: a file has one.
    feeds: HashMap<String, FeedFormat>,
    /// Wildcards over public suffixes, by group, and where they stand: only an allow or ask makes them wrong.
    broad: HashMap<String, Vec<(usize, HostPattern)>>,
}

impl<'f> Converter<'f> {
    fn new(written: &'f wire::Spec) -> Self {
        Self {
            written,
            spec: PolicySpec::default(),
            tests: Vec::new(),
            findings: Vec::new(),
            omitted: 0,
            feeds: HashMap::new(),
            broad: HashMap::new(),
        }
    }

    fn file(&mut self, file: &'f wire::File) {
        let top = Place::TOP;
        let spec = top.key("spec");
        self.spec.name = file.metadata.as_ref().and_then(|metadata| metadata.name.clone()).unwrap_or_default();
        self.base();
        self.mode(&spec);
        self.routes(&spec);
        self.managed_path(&spec);
        self.all_groups(&spec);
        self.all_credentials(&spec);
        self.metadata_service(&spec);
        self.all_rules(&spec);
        self.unused_credentials(&spec);
        self.unopened_traffic(&spec);
        let allowed = self.open_hosts(&self.written.allowed_hosts, &spec.key("allowedHosts"));
        self.spec.allowed_hosts.extend(allowed);
        self.pack(&spec);
        self.limits(&spec);
        self.all_tests(&spec);
    }

    fn report(&mut self, place: &Place<'_>, problem: Problem) {
        if self.findings.len() < FINDING_LIMIT {
            self.findings.push(Finding { path: place.path(), problem });
        } else {
            self.omitted += 1;
        }
    }

    /// A reference to something that is not there.
    fn unknown<'k>(
        &mut self,
        place: &Place<'_>,
        kind: &'static str,
        name: &str,
        known: impl Iterator<Item = &'k str> + Clone,
    ) {
        if self.findings.len() >= FINDING_LIMIT {
            self.omitted += 1;
            return;
        }
        let near = nearest(name, known.clone());
        let listed: Vec<&str> = known.take(KNOWN_LISTED + 1).collect();
        let hint = match listed.len() {
            0 => Some(format!("this policy has no {kind}")),
            1..=KNOWN_LISTED => Some(format!("known: {}", listed.join(", "))),
            _ => None,
        };
        self.report(place, Problem::Unknown { kind, name: name.to_owned(), near, hint });
    }

    /// The value, or a finding at this place.
    fn take<T>(&mut self, place: &Place<'_>, result: Result<T, Problem>) -> Option<T> {
        result.map_err(|problem| self.report(place, problem)).ok()
    }

    /// The value of a field that may be left out: `None` where it is there and wrong, which is reported.
    fn optional<T>(
        &mut self,
        place: &Place<'_>,
        text: Option<&String>,
        read: impl Fn(&str) -> Result<T, Problem>,
    ) -> Option<Option<T>> {
        match text {
            Some(text) => self.take(place, read(text)).map(Some),
            None => Some(None),
        }
    }

    /// Each text that can be read, and a finding for each that can't.
    fn each<T>(&mut self, texts: &[String], place: &Place<'_>, read: impl Fn(&str) -> Result<T, Problem>) -> Vec<T> {
        let mut found = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            found.extend(self.take(&place.index(index), read(text)));
        }
        found
    }

    /// The preset that the file starts from.
    fn base(&mut self) {
        if let Some(preset) = self.written.preset {
            let base = presets::preset(preset).spec();
            let name = std::mem::take(&mut self.spec.name);
            self.spec = PolicySpec { name, ..base.clone() };
        }
    }

    fn mode(&mut self, spec: &Place<'_>) {
        match self.written.mode {
            Some(wire::Mode::Unrestricted) => self.spec.mode = Mode::Unrestricted,
            Some(wire::Mode::Limited) => self.spec.mode = Mode::Limited,
            Some(wire::Mode::Routed) => self.spec.mode = Mode::Routed,
            None => {}
        }
        match self.written.default_enforcement {
            Some(wire::DefaultEnforcement::Watch | wire::DefaultEnforcement::Audit) => self.spec.watch_default = true,
            Some(wire::DefaultEnforcement::Enforce | wire::DefaultEnforcement::Enabled) => {
                self.spec.watch_default = false
            }
            None => {}
        }
        match (self.spec.mode, &self.written.route) {
            (Mode::Routed, Some(name)) => self.spec.route = self.route_reference(name, &spec.key("route")),
            (Mode::Routed, None) => {
                let hint = "add `route:` and the next hop under `routes:`";
                let what = "`mode: routed` needs the `route` that flows leave by".to_owned();
                self.report(&spec.key("mode"), Problem::Contradiction { what, hint: Some(hint) });
            }
            (Mode::Unrestricted | Mode::Limited, Some(_)) => {
                let what = "a `route` for all flows belongs to `mode: routed`".to_owned();
                let hint = Some("write `mode: routed`, or set `route` in the rules");
                self.report(&spec.key("route"), Problem::Contradiction { what, hint });
            }
            (Mode::Unrestricted | Mode::Limited, None) => {}
        }
    }

    /// A reference to a route of this file.
    fn route_reference(&mut self, name: &str, place: &Place<'_>) -> Option<RouteName> {
        if !self.written.routes.contains_key(name) {
            self.unknown(place, "route", name, self.written.routes.keys().map(String::as_str));
            return None;
        }
        self.take(place, parts::name(name, RouteName::new))
    }

    /// Hosts that something lets through: `*` and public suffixes are too wide for that.
    fn open_hosts(&mut self, texts: &[String], place: &Place<'_>) -> Vec<HostPattern> {
        let mut found = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            let place = place.index(index);
            let Some(pattern) = self.take(&place, parts::host(text)) else { continue };
            self.judge_breadth(&pattern, &place);
            found.push(pattern);
        }
        found
    }

    fn judge_breadth(&mut self, pattern: &HostPattern, place: &Place<'_>) {
        if *pattern == HostPattern::Any && self.spec.mode != Mode::Unrestricted {
            return self.report(place, Problem::EveryHost);
        }
        match parts::breadth(pattern) {
            Breadth::OneOwner => {}
            Breadth::PublicSuffix => self.report(place, Problem::PublicSuffix { text: pattern.to_string() }),
            Breadth::Tenants => {
                let what = format!("\"{pattern}\" lets through every customer of that provider");
                self.report(place, Problem::Warning { what, hint: Some("name the hosts that are yours") });
            }
        }
    }

    /// The rules and groups of a pack, behind the file's own.
    fn pack(&mut self, spec: &Place<'_>) {
        let Some(pack) = self.written.pack else {
            if !self.written.promote.is_empty() {
                let what = "`promote` names rules of a `pack`, and there is none".to_owned();
                self.report(&spec.key("promote"), Problem::Contradiction { what, hint: None });
            }
            return;
        };
        let pack = presets::pack(pack).spec();
        for (name, group) in &pack.groups {
            self.spec.groups.entry(name.clone()).or_insert_with(|| group.clone());
        }
        let mut rules = pack.rules.clone();
        let promote = spec.key("promote");
        for (index, name) in self.written.promote.iter().enumerate() {
            match rules.iter_mut().find(|rule| rule.name.as_str() == name) {
                Some(rule) => rule.enforcement = RuleEnforcement::Enforce,
                None => {
                    let known = pack.rules.iter().map(|rule| rule.name.as_str());
                    self.unknown(&promote.index(index), "rule of the pack", name, known);
                }
            }
        }
        self.add_behind(rules, &spec.key("pack"));
    }

    /// Adds ready rules whose names and priorities the file must not have taken.
    fn add_behind(&mut self, rules: Vec<policy::model::Rule>, place: &Place<'_>) {
        let names: BTreeSet<&RuleName> = self.spec.rules.iter().map(|rule| &rule.name).collect();
        let priorities: BTreeSet<i64> = self.spec.rules.iter().map(|rule| rule.priority).collect();
        let mut clashes = Vec::new();
        for rule in &rules {
            if names.contains(&rule.name) {
                clashes.push(format!(
                    "a rule of this file has the name {:?}, as one that comes with this",
                    rule.name.as_str()
                ));
            }
            if priorities.contains(&rule.priority) {
                clashes.push(format!(
                    "a rule of this file has the priority {}, as {} that comes with this",
                    rule.priority, rule.name
                ));
            }
        }
        for what in clashes {
            self.report(place, Problem::Contradiction { what, hint: Some("choose another for yours") });
        }
        self.spec.rules.extend(rules);
    }

    fn limits(&mut self, spec: &Place<'_>) {
        match self.written.strict_binding {
            Some(true) => self.spec.strict_binding = StrictBinding::Deny,
            Some(false) => self.spec.strict_binding = StrictBinding::Record,
            None => {}
        }
        let Some(dns) = &self.written.dns else { return };
        let place = spec.key("dns");
        let limits: DnsLimits = self.spec.dns;
        let queries = dns.queries_per_second.map(|value| (value, (1..=1_000_000).contains(&value)));
        let label = dns.label_length.map(|value| (value, (1..=63).contains(&value)));
        let entropy = dns.entropy_bits_per_second.map(|value| (value, value > 0.0 && value <= 1e9));
        let mut range = |key: &'static str, value: String, high: &str| {
            let problem = Problem::Range { value, low: "1".to_owned(), high: high.to_owned() };
            self.report(&place.key(key), problem);
        };
        if let Some((value, false)) = queries {
            range("queriesPerSecond", value.to_string(), "1000000");
        }
        if let Some((value, false)) = label {
            range("labelLength", value.to_string(), "63");
        }
        if let Some((value, false)) = entropy {
            range("entropyBitsPerSecond", value.to_string(), "1000000000");
        }
        self.spec.dns = DnsLimits {
            queries_per_second: queries
                .and_then(|(value, _)| u32::try_from(value).ok())
                .unwrap_or(limits.queries_per_second),
            label_length: label.and_then(|(value, _)| usize::try_from(value).ok()).unwrap_or(limits.label_length),
            entropy_bits_per_second: entropy.map_or(limits.entropy_bits_per_second, |(value, _)| value),
            refused: match dns.refuse_with {
                Some(wire::RefuseWith::Refused) => true,
                Some(wire::RefuseWith::Nxdomain) => false,
                None => limits.refused,
            },
        };
    }

    /// The group of this name, the preset's and pack's included.
    fn find_group(&self, name: &str) -> Option<&Group> {
        let name = GroupName::new(name).ok()?;
        self.spec.groups.get(&name).or_else(|| presets::pack(self.written.pack?).spec().groups.get(&name))
    }

    /// Every name that [`Self::find_group`] knows.
    fn group_names(&self) -> Vec<String> {
        let pack = self.written.pack.map(|pack| presets::pack(pack).spec().groups.keys());
        self.spec.groups.keys().chain(pack.into_iter().flatten()).map(ToString::to_string).collect()
    }
}
