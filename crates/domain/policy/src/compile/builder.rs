//! Checks a whole policy and fills the indexes.
//!
//! All errors are gathered, so that an author sees them at once. A policy with any error yields no
//! indexes at all: the caller keeps the last good one.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use foldhash::fast::RandomState;
use values::{CredentialName, GroupName, LabelSelector, RouteName, RuleName};

use crate::{
    compile::{
        CompileError, SetRules,
        binding::Binding,
        error::PortProblem,
        names::{LEAD_LIMIT, NameIndex},
        ranges::RangeIndex,
        rules::{ANY_SOURCE, CompiledRule, RequestMatch, Url},
    },
    facts::Protocol,
    host_name::HostPattern,
    http_path::PathGlob,
    model::{Action, From, HttpMatch, Lists, ManagedHosts, Mode, PolicySpec, Rule, RuleEnforcement},
};

/// Credentials and the rules that attach them.
mod credentials;
/// What a destination is made of.
mod destinations;
/// Which names are inspected, and rules that could not be.
mod inspection;

use destinations::{Destinations, Use};

/// The most port ranges of one rule.
const PORT_RANGES: usize = 64;
/// The ports at which the managed path is reached where none are given.
const WEB_PORTS: [u16; 2] = [80, 443];

/// What compile puts together.
pub(super) struct Parts {
    pub(super) rules: Vec<CompiledRule>,
    pub(super) by_name: HashMap<RuleName, u32, RandomState>,
    pub(super) classes: Vec<Vec<LabelSelector>>,
    pub(super) sets: Vec<SetRules>,
    pub(super) urls: Vec<Url>,
    pub(super) names: NameIndex,
    pub(super) ranges: RangeIndex,
    pub(super) inspected: Vec<HostPattern>,
    pub(super) demanding: Vec<u32>,
    pub(super) default_name: RuleName,
}

/// The policy being compiled.
struct Builder<'a> {
    spec: &'a PolicySpec,
    errors: Vec<CompileError>,
    rules: Vec<CompiledRule>,
    by_name: HashMap<RuleName, u32, RandomState>,
    /// Those that look into TLS.
    inspecting: Vec<&'a Rule>,
    /// Those that ask more of a gateway than to let TCP on, by their places.
    demanding: Vec<u32>,
    destinations: Destinations<'a>,
    bindings: BTreeMap<&'a CredentialName, Arc<Binding>>,
    classes: Vec<Vec<LabelSelector>>,
    group_classes: HashMap<&'a GroupName, u32, RandomState>,
    label_classes: HashMap<&'a LabelSelector, u32, RandomState>,
}

/// Compiles, or tells of everything that is wrong.
pub(super) fn build(spec: &PolicySpec, lists: &Lists) -> Result<Parts, Vec<CompileError>> {
    let mut builder = Builder {
        spec,
        errors: Vec::new(),
        rules: Vec::with_capacity(spec.rules.len() + 8),
        by_name: HashMap::with_capacity_and_hasher(spec.rules.len(), RandomState::default()),
        inspecting: Vec::new(),
        demanding: Vec::new(),
        destinations: Destinations::new(spec, lists),
        bindings: BTreeMap::new(),
        classes: vec![vec![LabelSelector::default()]],
        group_classes: HashMap::default(),
        label_classes: HashMap::default(),
    };
    builder.check_mode();
    builder.add_credentials();
    builder.check_metadata_service();
    // One look at each rule: many do not fit the cache.
    for place in builder.order() {
        if let Some(rule) = spec.rules.get(place) {
            builder.add_rule(rule, place as u32);
        }
    }
    builder.add_managed_path();
    builder.add_allowed_hosts();
    builder.check_size();
    if !builder.errors.is_empty() {
        return Err(builder.errors);
    }
    let (sets, urls, names, ranges) = builder.destinations.finish();
    Ok(Parts {
        rules: builder.rules,
        by_name: builder.by_name,
        classes: builder.classes,
        sets,
        urls,
        names,
        ranges,
        inspected: inspection::names(spec, &builder.inspecting, lists),
        demanding: builder.demanding,
        default_name: own_name("mode-default"),
    })
}

/// A name of ours as a rule's.
fn own_name(text: &'static str) -> RuleName {
    #[expect(clippy::expect_used, reason = "the callers pass constants within the alphabet of names")]
    RuleName::new(text).expect("a built-in name is a name")
}

fn is_reserved(name: &RuleName) -> bool {
    let name = name.as_str();
    let ours = ["guard:", "managed-path:", "metadata-service:"];
    name == "mode-default" || name == "allowed-hosts" || ours.iter().any(|ours| name.starts_with(ours))
}

impl<'a> Builder<'a> {
    fn check_mode(&mut self) {
        let spec = self.spec;
        match (spec.mode, &spec.route) {
            (Mode::Routed, None) => self.errors.push(CompileError::RouteMissing),
            (Mode::Routed, Some(route)) => self.check_route(route, None),
            (Mode::Limited | Mode::Unrestricted, Some(route)) => {
                self.errors.push(CompileError::RouteOutsideRouted { route: route.clone() });
            }
            (Mode::Limited | Mode::Unrestricted, None) => {}
        }
    }

    fn check_route(&mut self, route: &RouteName, rule: Option<&RuleName>) {
        if !self.spec.routes.contains_key(route) {
            self.errors.push(CompileError::UnknownRoute { rule: rule.cloned(), route: route.clone() });
        }
    }

    fn index_name(&mut self, rule: &Rule, place: u32) {
        if is_reserved(&rule.name) {
            self.errors.push(CompileError::ReservedName { rule: rule.name.clone() });
        }
        if self.by_name.insert(rule.name.clone(), place).is_some() {
            self.errors.push(CompileError::DuplicateRule { rule: rule.name.clone() });
        }
    }

    /// The places of the rules, ascending by priority.
    fn order(&mut self) -> Vec<usize> {
        let spec = self.spec;
        let mut order: Vec<(i64, usize)> = spec.rules.iter().map(|rule| rule.priority).zip(0..).collect();
        order.sort_unstable();
        for ((priority, place), (next, later)) in order.iter().zip(order.iter().skip(1)) {
            if priority != next {
                continue;
            }
            if let (Some(other), Some(rule)) = (spec.rules.get(*place), spec.rules.get(*later)) {
                self.errors.push(CompileError::DuplicatePriority {
                    rule: rule.name.clone(),
                    other: other.name.clone(),
                    priority: *priority,
                });
            }
        }
        order.into_iter().map(|(_, place)| place).collect()
    }

    fn add_rule(&mut self, rule: &'a Rule, place: u32) {
        self.index_name(rule, place);
        self.check_ports(rule);
        inspection::check(self.spec, rule, &mut self.errors);
        if self.spec.inspects(rule) {
            self.inspecting.push(rule);
        }
        if rule.is_demanding() {
            self.demanding.push(place);
        }
        if let Some(route) = &rule.route {
            self.check_route(route, Some(&rule.name));
        }
        let class = self.class(rule);
        let requests = self.requests(rule);
        let binding = self.binding(rule);
        let number = self.rules.len() as u32;
        let used = Use {
            rule: Some(&rule.name),
            number: (rule.enforcement != RuleEnforcement::Off).then_some(number),
            denies: rule.action == Action::Deny,
        };
        let destination = self.destinations.destination(&rule.to, &rule.names, used, &mut self.errors);
        if rule.enforcement == RuleEnforcement::Off {
            return;
        }
        let mode_route = self.mode_route();
        self.rules.push(CompiledRule::from_written(rule, place, (class, destination), (requests, binding), mode_route));
    }

    fn mode_route(&self) -> Option<RouteName> {
        if self.spec.mode == Mode::Routed { self.spec.route.clone() } else { None }
    }

    fn check_ports(&mut self, rule: &Rule) {
        let mut problem = |problem| self.errors.push(CompileError::Ports { rule: rule.name.clone(), problem });
        if rule.ports.len() > PORT_RANGES {
            problem(PortProblem::TooMany(rule.ports.len()));
        }
        if let Some((first, last)) = rule.ports.iter().find(|(first, last)| first > last) {
            problem(PortProblem::Reversed(*first, *last));
        }
        if rule.protocol == Some(Protocol::Icmp) && !rule.ports.is_empty() {
            self.errors.push(CompileError::IcmpPorts { rule: rule.name.clone() });
        }
    }

    /// The source class of a rule; a wrong one is an error, and then the number does not matter.
    fn class(&mut self, rule: &'a Rule) -> u32 {
        let next = self.classes.len() as u32;
        match &rule.from {
            From::Any => ANY_SOURCE,
            From::Labels(selector) => {
                let class = *self.label_classes.entry(selector).or_insert(next);
                if class == next {
                    self.classes.push(vec![selector.clone()]);
                }
                class
            }
            From::Group(name) => {
                if let Some(class) = self.group_classes.get(name) {
                    return *class;
                }
                let (rule, group) = (rule.name.clone(), name.clone());
                match self.spec.groups.get(name) {
                    None => self.errors.push(CompileError::UnknownGroup { rule, group }),
                    Some(found) if found.sandboxes.is_empty() => {
                        self.errors.push(CompileError::GroupSelectsNoSandboxes { rule, group });
                    }
                    Some(found) => {
                        self.group_classes.insert(name, next);
                        self.classes.push(found.sandboxes.clone());
                    }
                }
                next
            }
        }
    }

    fn requests(&mut self, rule: &Rule) -> Vec<RequestMatch> {
        if rule.http.is_empty() && rule.needs_request() {
            return vec![RequestMatch::any()];
        }
        rule.http.iter().map(|request| self.request(rule, request)).collect()
    }

    fn request(&mut self, rule: &Rule, request: &HttpMatch) -> RequestMatch {
        let mut paths = Vec::with_capacity(request.paths.len());
        for glob in &request.paths {
            match PathGlob::parse(glob) {
                Ok(path) => paths.push(path),
                Err(source) => self.errors.push(CompileError::PathGlob {
                    rule: rule.name.clone(),
                    group: None,
                    glob: glob.clone(),
                    source,
                }),
            }
        }
        let headers = request.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect();
        let query = request.query.clone().into_iter().collect();
        RequestMatch { scheme: request.scheme, methods: request.methods.clone(), paths, headers, query }
    }

    /// One pseudo-rule for each toggle, after the written rules; they leave the direct way.
    fn add_managed_path(&mut self) {
        let managed = &self.spec.managed_path;
        for entry in managed.package_registries.iter().chain(&managed.code_repositories) {
            self.add_managed_hosts(entry);
        }
        if !managed.additional_hosts.is_empty() {
            self.add_hosts(own_name("managed-path:additional-hosts"), &managed.additional_hosts, web_ports(&[]), None);
        }
    }

    fn add_managed_hosts(&mut self, entry: &'a ManagedHosts) {
        if entry.hosts.is_empty() {
            return;
        }
        match RuleName::new(&format!("managed-path:{}", entry.toggle)) {
            Ok(name) => self.add_hosts(name, &entry.hosts, web_ports(&entry.ports), None),
            Err(_) => self.errors.push(CompileError::Toggle { toggle: entry.toggle.clone() }),
        }
    }

    /// `allowedHosts`: one rule behind all others.
    fn add_allowed_hosts(&mut self) {
        if !self.spec.allowed_hosts.is_empty() {
            let route = self.mode_route();
            self.add_hosts(own_name("allowed-hosts"), &self.spec.allowed_hosts, Vec::new(), route);
        }
    }

    /// A pseudo-rule that lets every sandbox reach hosts by TCP.
    fn add_hosts(&mut self, name: RuleName, hosts: &[HostPattern], ports: Vec<(u16, u16)>, route: Option<RouteName>) {
        let number = self.rules.len() as u32;
        let destination = self.destinations.hosts(hosts, number, &mut self.errors);
        self.rules.push(CompiledRule::pseudo(name, destination, ports, route));
    }

    fn check_size(&mut self) {
        let destinations = &self.destinations;
        let parts = [("rules", self.rules.len()), ("destinations", destinations.len()), ("URLs", destinations.urls())];
        for (what, count) in parts {
            if count > LEAD_LIMIT {
                self.errors.push(CompileError::TooLarge { what, limit: LEAD_LIMIT });
            }
        }
        if !destinations.fits() {
            self.errors.push(CompileError::TooLarge { what: "bytes of host names", limit: u32::MAX as usize });
        }
    }
}

fn web_ports(ports: &[u16]) -> Vec<(u16, u16)> {
    let ports = if ports.is_empty() { &WEB_PORTS } else { ports };
    ports.iter().map(|port| (*port, *port)).collect()
}
