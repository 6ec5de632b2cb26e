//! Which policy a run gets: a file, a ready one, or one made of flags; managed paths filled in, watch applied.

use std::{net::IpAddr, path::PathBuf};

use anyhow::Result;
use ipnet::IpNet;
use package_managers::Manager;
use policy::address::{SpecialRange, special};
use policy::{
    HostPattern,
    model::{Action, PolicySpec, Rule, RuleEnforcement, To},
};
use values::RuleName;

use super::{
    arguments::{Arguments, Destination},
    policy_text::{Asked, Managed, write},
};
use crate::{
    config::Config,
    failure::code,
    presets::Preset,
    registries::{self, Registry},
    source::{self, Source},
};

/// The policy of a run, before it is compiled.
pub(crate) struct Choice {
    pub(crate) source: Source,
    /// Where it came from, for people.
    pub(crate) origin: String,
    /// Whether nothing but flags chose it, and no flag opened anything.
    pub(crate) is_bare: bool,
    /// What was opened by managed paths and a program's preset, for notes and the record.
    pub(crate) said: Vec<String>,
}

/// Chooses, reads, and fills in.
pub(crate) fn choose(
    arguments: &Arguments,
    config: &Config,
    preset: Option<&Preset>,
    writable: &[PathBuf],
) -> Result<Choice> {
    let by_flags = arguments.preset.is_some()
        || arguments.mode.is_some()
        || !(arguments.allow.is_empty() && arguments.deny.is_empty() && arguments.managed.is_empty());
    let file = arguments.policy.clone().or_else(|| config.policy.value.clone().filter(|_| !by_flags));
    let mut choice = match file {
        Some(path) => {
            let refused =
                |refusal: source::Refusal| refusal.into_failure(&path.display().to_string(), code::RUN_FAILED);
            let source = source::read(&path)?.map_err(refused)?;
            Choice { source, origin: path.display().to_string(), is_bare: false, said: Vec::new() }
        }
        None => of_flags(arguments, by_flags, preset, writable)?,
    };
    choice.said.extend(fill_managed_path(&mut choice.source.file.spec, writable)?);
    if arguments.watch {
        watch(&mut choice.source.file.spec);
        choice.origin.push_str(" (watch)");
    }
    Ok(choice)
}

fn of_flags(arguments: &Arguments, by_flags: bool, preset: Option<&Preset>, writable: &[PathBuf]) -> Result<Choice> {
    let mut toggles = arguments.managed.clone();
    toggles.extend(arguments.allow.iter().filter_map(|destination| match destination {
        Destination::Registry(name) => Some(name.clone()),
        Destination::Host { .. } | Destination::Range { .. } => None,
    }));
    let registries = registries::find(&registries::managers(&toggles)?, writable)?;
    let mut said = Vec::new();
    let mut managed = Vec::new();
    for registry in &registries {
        managed.extend(as_managed(registry, &arguments.managed_address));
        said.extend(describe(registry));
    }
    let program =
        preset.filter(|preset| !preset.hosts.is_empty()).map(|preset| (preset.name.clone(), preset.hosts.clone()));
    if let Some((name, hosts)) = &program {
        said.push(format!("{name}'s hosts: {}", hosts.join(", ")));
    }
    let is_bare = !by_flags && program.is_none();
    let asked = Asked {
        preset: arguments.preset,
        mode: arguments.mode,
        deny: &arguments.deny,
        allow: &arguments.allow,
        managed,
        program,
    };
    let text = write(&asked)?;
    let origin = match (arguments.preset, is_bare) {
        (Some(preset), _) => format!("preset {}", preset.name()),
        (None, true) => "none".to_owned(),
        (None, false) => "flags".to_owned(),
    };
    let parsed = source::parse("the policy of these flags", text.as_bytes(), std::env::current_dir()?);
    let source = parsed.map_err(|refusal| refusal.into_failure("what these flags ask for", code::RUN_FAILED))?;
    Ok(Choice { source, origin, is_bare, said })
}

/// A registry as rules: names, and apart from them names whose addresses are private.
fn as_managed(registry: &Registry, ranges: &[IpNet]) -> Vec<Managed> {
    let mut all = Vec::new();
    for private in [false, true] {
        let here: Vec<_> = registry
            .endpoints
            .iter()
            .filter(|endpoint| (!ranges.is_empty() || !endpoint.private.is_empty()) == private)
            .collect();
        if here.is_empty() {
            continue;
        }
        let mut opened: Vec<IpNet> =
            if ranges.is_empty() { here.iter().flat_map(|e| exact(&e.private)).collect() } else { ranges.to_vec() };
        opened.sort();
        opened.dedup();
        let mut ports: Vec<u16> = here.iter().map(|endpoint| endpoint.port).collect();
        ports.sort_unstable();
        ports.dedup();
        let mut hosts: Vec<String> = here.iter().map(|endpoint| endpoint.host.clone()).collect();
        hosts.dedup();
        let suffix = if private && ranges.is_empty() { "-private" } else { "" };
        let name = format!("{}{suffix}", registry.manager.name());
        all.push(Managed { name, hosts, ports, ranges: if private { opened } else { Vec::new() } });
    }
    all
}

fn exact(addresses: &[IpAddr]) -> Vec<IpNet> {
    addresses.iter().map(|address| IpNet::from(*address)).collect()
}

fn describe(registry: &Registry) -> Vec<String> {
    let hosts: Vec<String> =
        registry.endpoints.iter().map(|endpoint| format!("{}:{}", endpoint.host, endpoint.port)).collect();
    let mut said = vec![format!("{}'s registry: {}", registry.manager.name(), hosts.join(", "))];
    let mut private: Vec<String> =
        registry.endpoints.iter().flat_map(|e| e.private.iter().map(ToString::to_string)).collect();
    private.sort();
    private.dedup();
    if !private.is_empty() {
        said.push(format!("{}'s registry is in a private network: {}", registry.manager.name(), private.join(", ")));
    }
    said.extend(registry.notes.iter().cloned());
    said
}

/// Whether an address needs its range named.
pub(crate) fn is_private(address: IpAddr) -> bool {
    special(address) == Some(SpecialRange::Private)
}

/// Gives each managed toggle of a policy its hosts. One that can't be had is off, and said to be: never wider.
pub(crate) fn fill_managed_path(spec: &mut PolicySpec, writable: &[PathBuf]) -> Result<Vec<String>> {
    let mut said = Vec::new();
    let toggles = std::mem::take(&mut spec.managed_path.package_registries);
    for mut toggle in toggles {
        if !toggle.hosts.is_empty() {
            spec.managed_path.package_registries.push(toggle);
            continue;
        }
        let Some(manager) = Manager::parse(&toggle.toggle) else { continue };
        let found = match registries::find(&[manager], writable) {
            Ok(found) => found,
            Err(error) => {
                said.push(format!("the managed path {} is off: {error}", toggle.toggle));
                continue;
            }
        };
        for registry in found {
            said.extend(describe(&registry));
            for managed in as_managed(&registry, &[]) {
                let hosts = managed.hosts.iter().filter_map(|host| HostPattern::parse(host).ok());
                if managed.ranges.is_empty() {
                    toggle.hosts.extend(hosts);
                    toggle.ports.extend(&managed.ports);
                } else {
                    let rule = private_rule(spec, &managed, hosts.collect())?;
                    spec.rules.push(rule);
                }
            }
        }
        if !toggle.hosts.is_empty() {
            spec.managed_path.package_registries.push(toggle);
        }
    }
    Ok(said)
}

/// A rule behind all others that opens a registry in a private network at its exact addresses.
fn private_rule(spec: &PolicySpec, managed: &Managed, names: Vec<HostPattern>) -> Result<Rule> {
    let last = spec.rules.iter().map(|rule| rule.priority).max().unwrap_or(0);
    Ok(Rule {
        name: RuleName::new(&format!("managed-{}", managed.name))?,
        priority: last.saturating_add(1),
        from: policy::model::From::Any,
        to: To::Inline(policy::model::Group { cidrs: managed.ranges.clone(), ..Default::default() }),
        names,
        protocol: Some(policy::Protocol::Tcp),
        ports: managed.ports.iter().map(|port| (*port, *port)).collect(),
        http: Vec::new(),
        process: Vec::new(),
        action: Action::Allow,
        enforcement: RuleEnforcement::Enforce,
        tls: Default::default(),
        ech: Default::default(),
        route: None,
        log: Default::default(),
        record_types: Vec::new(),
        note: None,
        expires: None,
    })
}

/// `--watch`: what would deny or ask is noted and goes on. Allowing stays enforced, since only that opens guards.
pub(crate) fn watch(spec: &mut PolicySpec) {
    spec.watch_default = true;
    for rule in &mut spec.rules {
        match (rule.action, rule.enforcement) {
            (Action::Deny | Action::Ask, RuleEnforcement::Enforce) => rule.enforcement = RuleEnforcement::Watch,
            (Action::Deny | Action::Ask, RuleEnforcement::Watch | RuleEnforcement::Off) | (Action::Allow, _) => {}
        }
    }
}
