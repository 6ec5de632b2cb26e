//! `run`'s flags as a policy file: one way from text to policy, and the file that is kept beside the record.

use anyhow::Result;
use ipnet::IpNet;
use policy_file::wire::{
    Action, ApiVersion, File, Group, Kind, Metadata, Mode as WireMode, OneOrMany, Port, PresetName, Rule, Spec, To,
};

use super::arguments::{Destination, Mode, PolicyPreset};
use crate::managed_path::Managed;

/// Where rules of one kind begin; the lowest is judged first.
const DENY: i64 = 100;
const ALLOW: i64 = 10_000;
const MANAGED: i64 = 20_000;
const PROGRAM: i64 = 30_000;

/// What flags, registries and a program preset ask for.
#[derive(Debug, Default)]
pub(crate) struct Asked<'a> {
    pub(crate) preset: Option<PolicyPreset>,
    pub(crate) mode: Option<Mode>,
    pub(crate) deny: &'a [Destination],
    pub(crate) allow: &'a [Destination],
    pub(crate) managed: Vec<Managed>,
    /// The preset's name and its hosts.
    pub(crate) program: Option<(String, Vec<String>)>,
}

/// The text of the policy.
pub(crate) fn write(asked: &Asked<'_>) -> Result<String> {
    let mut rules = Vec::new();
    for (number, destination) in asked.deny.iter().enumerate() {
        rules.extend(rule("deny", DENY, number, destination, Action::Deny));
    }
    for (number, destination) in asked.allow.iter().enumerate() {
        rules.extend(rule("allow", ALLOW, number, destination, Action::Allow));
    }
    for managed in &asked.managed {
        let (number, name) = (rules.len(), format!("managed-{}", managed.name));
        rules.push(place(
            name,
            MANAGED + offset(number),
            &managed.hosts,
            &managed.ranges,
            &managed.ports,
            Action::Allow,
        ));
    }
    if let Some((name, hosts)) = &asked.program
        && !hosts.is_empty()
    {
        rules.push(place(format!("program-{name}"), PROGRAM, hosts, &[], &[80, 443], Action::Allow));
    }
    let mut spec = Spec { rules, ..Spec::default() };
    spec.preset = asked.preset.map(|preset| match preset {
        PolicyPreset::Open => PresetName::Open,
        PolicyPreset::Balanced => PresetName::Balanced,
        PolicyPreset::LockedDown => PresetName::LockedDown,
    });
    spec.mode = match (asked.mode, asked.preset) {
        (Some(Mode::Unrestricted), _) => Some(WireMode::Unrestricted),
        (Some(Mode::Limited), _) | (None, None) => Some(WireMode::Limited),
        (None, Some(_)) => None,
    };
    let name = asked.preset.map_or("run", PolicyPreset::name).to_owned();
    let metadata = Some(Metadata { name: Some(name), description: None });
    let file = File { api_version: ApiVersion::V1, kind: Kind::EgressPolicy, metadata, spec };
    Ok(serde_saphyr::to_string(&file)?)
}

fn offset(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX / 2)
}

fn rule(kind: &str, first: i64, number: usize, destination: &Destination, action: Action) -> Option<Rule> {
    let priority = first + offset(number);
    let (label, hosts, ranges, port) = match destination {
        Destination::Registry(_) => return None,
        Destination::Host { host, port, addresses } => {
            (host.replace('*', "_"), vec![host.clone()], addresses.iter().copied().collect(), *port)
        }
        Destination::Range { range, port } => (range.to_string(), Vec::new(), vec![*range], *port),
    };
    let label: String = label.chars().take(80).collect();
    let name = format!("{kind}-{}:{label}", number + 1);
    Some(place(name, priority, &hosts, &ranges, &Vec::from_iter(port), action))
}

/// A rule to names, or to ranges that names are opened in.
fn place(name: String, priority: i64, hosts: &[String], ranges: &[IpNet], ports: &[u16], action: Action) -> Rule {
    let by_address = !ranges.is_empty();
    let group = Group {
        hosts: if by_address { Vec::new() } else { hosts.to_vec() },
        cidrs: ranges.iter().map(ToString::to_string).collect(),
        ..Group::default()
    };
    Rule {
        names: if by_address { hosts.to_vec() } else { Vec::new() },
        ports: (!ports.is_empty())
            .then(|| OneOrMany::Many(ports.iter().map(|port| Port::One(i64::from(*port))).collect())),
        ..Rule::new(name, priority, action, To::Group(group))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use policy::OwnAddresses;
    use values::Revision;

    use super::*;
    use crate::source;

    fn compiles(asked: &Asked<'_>) -> policy_file::PolicyFile {
        let text = write(asked).unwrap();
        let read = source::parse("flags", text.as_bytes(), PathBuf::from("/"))
            .unwrap_or_else(|e| panic!("{text}\n{}", e.drawing));
        if let Err(refusal) = read.compile(OwnAddresses::default(), Revision(1)) {
            panic!("{text}\n{}", refusal.drawing);
        }
        read.file
    }

    #[test]
    fn flags_become_a_policy_that_compiles() {
        let parse = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect::<Vec<Destination>>();
        let allow = parse(&[
            "api.example.com",
            "*.example.net:443",
            "wiki.corp.example:8080@10.20.0.0/16",
            "10.0.0.0/8:5432",
            "[::1]:53",
            "registry:pip",
        ]);
        let deny = parse(&["bad.example.com", "192.0.2.0/24"]);
        let managed = vec![
            Managed { name: "npm".to_owned(), hosts: vec!["r.example".to_owned()], ports: vec![443], ranges: vec![] },
            Managed {
                name: "pip".to_owned(),
                hosts: vec!["p.example".to_owned()],
                ports: vec![443],
                ranges: vec!["10.9.0.0/16".parse().unwrap()],
            },
        ];
        let program = Some(("claude".to_owned(), vec!["api.model.example".to_owned()]));
        let asked = Asked { deny: &deny, allow: &allow, managed, program, ..Asked::default() };
        let file = compiles(&asked);
        let names: Vec<&str> = file.written.spec.rules.iter().map(|rule| rule.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "deny-1:bad.example.com",
                "deny-2:192.0.2.0/24",
                "allow-1:api.example.com",
                "allow-2:_.example.net",
                "allow-3:wiki.corp.example",
                "allow-4:10.0.0.0/8",
                "allow-5:::1/128",
                "managed-npm",
                "managed-pip",
                "program-claude"
            ]
        );
    }

    #[test]
    fn presets_and_modes_are_written() {
        for preset in [PolicyPreset::Open, PolicyPreset::Balanced, PolicyPreset::LockedDown] {
            compiles(&Asked { preset: Some(preset), ..Asked::default() });
        }
        let file = compiles(&Asked { mode: Some(Mode::Unrestricted), ..Asked::default() });
        assert_eq!(file.spec.mode, policy::model::Mode::Unrestricted);
        assert_eq!(compiles(&Asked::default()).spec.mode, policy::model::Mode::Limited);
    }
}
