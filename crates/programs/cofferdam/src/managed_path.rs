//! The managed path of a policy: each toggle gets the hosts that its package manager names.
//!
//! A run asks the managers and remembers what they said in `registries.json`; commands that work without a run use
//! that, so that `explain` and `replay` answer as the wire did.

use std::{collections::BTreeMap, fs, net::IpAddr, path::PathBuf};

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use package_managers::Manager;
use policy::{
    HostPattern,
    model::{Action, Group, ManagedHosts, PolicySpec, Rule, To},
};
use values::RuleName;

use crate::{
    config::Config,
    registries::{self, Registry},
    runs::private_folder,
};

/// One package manager's hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Managed {
    pub(crate) name: String,
    pub(crate) hosts: Vec<String>,
    pub(crate) ports: Vec<u16>,
    /// Not empty where its addresses are private.
    pub(crate) ranges: Vec<IpNet>,
}

/// What was found for the toggles of a policy.
#[derive(Debug, Default)]
pub(crate) struct Filled {
    /// For people.
    pub(crate) said: Vec<String>,
    /// What of the system the managers can't do without.
    pub(crate) files: Vec<PathBuf>,
}

/// Asks the package managers behind the toggles of a policy. One that can't be had is off, and said to be: never wider.
pub(crate) fn fill(spec: &mut PolicySpec, config: &Config, writable: &[PathBuf]) -> Result<Filled> {
    let managers: Vec<Manager> = open_toggles(spec).filter_map(|toggle| Manager::parse(&toggle.toggle)).collect();
    let mut known = BTreeMap::new();
    let (mut said, mut files) = (Vec::new(), Vec::new());
    for (manager, found) in registries::find_each(&managers, writable) {
        match found {
            Ok(registry) => {
                said.extend(describe(&registry));
                files.extend(registry.files.iter().cloned());
                known.insert(registry.toggle.clone(), registry);
            }
            Err(reason) => said.push(format!("the managed path {} is off: {reason}", manager.toggle())),
        }
    }
    put_in(spec, &known)?;
    remember(config, known)?;
    Ok(Filled { said, files })
}

/// Fills the toggles of a policy with what the last run found. Gives those that no run has found.
pub(crate) fn fill_from_memory(spec: &mut PolicySpec, config: &Config) -> Result<Vec<String>> {
    let known = remembered(config);
    let unknown =
        open_toggles(spec).map(|toggle| toggle.toggle.clone()).filter(|toggle| !known.contains_key(toggle)).collect();
    put_in(spec, &known)?;
    Ok(unknown)
}

/// Toggles that have no hosts yet.
fn open_toggles(spec: &PolicySpec) -> impl Iterator<Item = &ManagedHosts> {
    spec.managed_path.package_registries.iter().filter(|toggle| toggle.hosts.is_empty())
}

fn put_in(spec: &mut PolicySpec, known: &BTreeMap<String, Registry>) -> Result<()> {
    for mut toggle in std::mem::take(&mut spec.managed_path.package_registries) {
        let registry = known.get(&toggle.toggle).filter(|_| toggle.hosts.is_empty());
        for managed in registry.iter().flat_map(|registry| as_managed(registry, &[])) {
            let hosts = managed.hosts.iter().filter_map(|host| HostPattern::parse(host).ok());
            if managed.ranges.is_empty() {
                toggle.hosts.extend(hosts);
                toggle.ports.extend(&managed.ports);
            } else {
                let rule = private_rule(spec, &managed, hosts.collect())?;
                spec.rules.push(rule);
            }
        }
        if !toggle.hosts.is_empty() {
            spec.managed_path.package_registries.push(toggle);
        }
    }
    Ok(())
}

fn memory(config: &Config) -> PathBuf {
    config.state.value.join("registries.json")
}

fn remembered(config: &Config) -> BTreeMap<String, Registry> {
    // Nothing known is the answer where there is nothing, or nothing that can be read.
    let text = fs::read_to_string(memory(config)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

fn remember(config: &Config, found: BTreeMap<String, Registry>) -> Result<()> {
    if found.is_empty() {
        return Ok(());
    }
    let mut known = remembered(config);
    known.extend(found);
    let path = memory(config);
    let fresh = path.with_extension(format!("new-{}", std::process::id()));
    private_folder(&config.state.value)?;
    let written = fs::write(&fresh, serde_json::to_string_pretty(&known)?).and_then(|()| fs::rename(&fresh, &path));
    written.with_context(|| format!("writing {}", path.display()))
}

/// A registry as rules: names, and apart from them names whose addresses are private.
pub(crate) fn as_managed(registry: &Registry, ranges: &[IpNet]) -> Vec<Managed> {
    let mut all = Vec::new();
    for private in [false, true] {
        let here: Vec<_> = registry
            .hosts
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
        let name = format!("{}{suffix}", registry.name);
        all.push(Managed { name, hosts, ports, ranges: if private { opened } else { Vec::new() } });
    }
    all
}

fn exact(addresses: &[IpAddr]) -> Vec<IpNet> {
    addresses.iter().map(|address| IpNet::from(*address)).collect()
}

pub(crate) fn describe(registry: &Registry) -> Vec<String> {
    let hosts: Vec<String> =
        registry.hosts.iter().map(|endpoint| format!("{}:{}", endpoint.host, endpoint.port)).collect();
    let mut said = vec![format!("{}'s registry: {}", registry.name, hosts.join(", "))];
    let mut private: Vec<String> =
        registry.hosts.iter().flat_map(|e| e.private.iter().map(ToString::to_string)).collect();
    private.sort();
    private.dedup();
    if !private.is_empty() {
        said.push(format!("{}'s registry is in a private network: {}", registry.name, private.join(", ")));
    }
    said.extend(registry.notes.iter().cloned());
    said
}

/// A rule behind all others that opens a registry in a private network at its exact addresses.
fn private_rule(spec: &PolicySpec, managed: &Managed, names: Vec<HostPattern>) -> Result<Rule> {
    let last = spec.rules.iter().map(|rule| rule.priority).max().unwrap_or(0);
    let name = RuleName::new(&format!("managed-{}", managed.name))?;
    let to = To::Inline(Group { cidrs: managed.ranges.clone(), ..Default::default() });
    Ok(Rule {
        names,
        protocol: Some(policy::Protocol::Tcp),
        ports: managed.ports.iter().map(|port| (*port, *port)).collect(),
        ..Rule::new(name, last.saturating_add(1), Action::Allow, to)
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use policy::{CompiledPolicy, OwnAddresses, Verdict, model::Lists};
    use policy_file::{Destination, facts_from};
    use values::{Labels, Revision};

    use super::*;

    fn registry(hosts: &[(&str, u16, &[&str])]) -> Registry {
        let hosts = hosts.iter().map(|(host, port, private)| registries::Host {
            host: (*host).to_owned(),
            port: *port,
            private: private.iter().map(|address| address.parse().unwrap()).collect(),
        });
        Registry {
            toggle: "crates".to_owned(),
            name: "cargo".to_owned(),
            hosts: hosts.collect(),
            notes: vec![],
            files: vec![],
        }
    }

    #[test]
    fn a_registry_in_a_private_network_is_opened_at_its_addresses_alone() {
        let found = registry(&[("index.example", 443, &["10.1.2.3"]), ("files.example", 443, &[])]);
        let mut spec = PolicySpec::default();
        spec.managed_path.package_registries =
            vec![ManagedHosts { toggle: "crates".to_owned(), hosts: vec![], ports: vec![] }];
        put_in(&mut spec, &BTreeMap::from([("crates".to_owned(), found)])).unwrap();
        let policy = CompiledPolicy::compile(spec, Lists::default(), OwnAddresses::default(), Revision(1)).unwrap();
        for (to, address, expected) in [
            ("https://index.example/", Some("10.1.2.3"), (Verdict::Allowed, "managed-cargo-private")),
            ("https://index.example/", Some("10.1.2.4"), (Verdict::Denied, "guard:private")),
            ("https://files.example/", None, (Verdict::Allowed, "managed-path:crates")),
            ("https://files.example/", Some("10.1.2.4"), (Verdict::Denied, "guard:private")),
            ("https://other.example/", None, (Verdict::Denied, "mode-default")),
            ("index.example:22", Some("10.1.2.3"), (Verdict::Denied, "mode-default")),
        ] {
            let to = Destination::parse(to).unwrap();
            let address = address.map(|address| address.parse().unwrap());
            let flow = facts_from(&policy, &to, &Labels::default(), None, None, address, Timestamp::now());
            let decision = flow.decide(&policy).unwrap();
            assert_eq!((decision.verdict, decision.rule.as_str()), expected, "{to}");
        }
    }

    #[test]
    fn a_range_that_was_named_goes_for_all_hosts() {
        let found = registry(&[("index.example", 443, &[]), ("plain.example", 80, &[])]);
        let managed = as_managed(&found, &["10.0.0.0/8".parse().unwrap()]);
        assert_eq!(managed.len(), 1);
        assert_eq!(
            (managed[0].hosts.len(), managed[0].ports.as_slice(), managed[0].ranges.len()),
            (2, &[80, 443][..], 1)
        );
    }

    #[test]
    fn a_toggle_that_nobody_knows_is_off() {
        let mut spec = PolicySpec::default();
        spec.managed_path.package_registries =
            vec![ManagedHosts { toggle: "npm".to_owned(), hosts: vec![], ports: vec![] }];
        put_in(&mut spec, &BTreeMap::new()).unwrap();
        assert_eq!(spec, PolicySpec::default());
    }
}
