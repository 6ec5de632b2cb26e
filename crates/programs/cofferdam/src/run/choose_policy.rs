//! Which policy a run gets: a file, a ready one, or one made of flags; managed paths filled in, watch applied.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result};
use policy::model::{Action, PolicySpec, RuleEnforcement};

use super::{
    arguments::{Arguments, Destination},
    policy_text::{Asked, write},
};
use crate::{
    config::Config,
    failure::code,
    managed_path,
    presets::Preset,
    registries,
    source::{self, Source},
};

/// What chose a policy, which says how more can be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChosenBy {
    /// Nothing: neither a policy nor a flag that opens something.
    Nothing,
    /// Flags, to which others can be added.
    Flags,
    /// A file or a ready policy, beside which no such flag stands.
    Policy,
}

/// The policy of a run, before it is compiled.
pub(crate) struct Choice {
    pub(crate) source: Source,
    /// Where it came from, for people.
    pub(crate) origin: String,
    /// What chose it.
    pub(crate) by: ChosenBy,
    /// What was opened by managed paths and a program's preset, for notes and the record.
    pub(crate) said: Vec<String>,
    /// What of the system the package managers that are opened can't do without.
    pub(crate) files: Vec<PathBuf>,
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
            let read = source::read(&path);
            let read = match arguments.policy {
                Some(_) => read,
                None => read.with_context(|| format!("the policy of runs that name none ({})", config.policy.origin)),
            };
            let source = read?.map_err(refused)?;
            let (origin, by) = (path.display().to_string(), ChosenBy::Policy);
            Choice { source, origin, by, said: Vec::new(), files: Vec::new() }
        }
        None => of_flags(arguments, by_flags, preset, writable)?,
    };
    let filled = managed_path::fill(Arc::make_mut(&mut choice.source.file.spec), config, writable)?;
    choice.said.extend(filled.said);
    choice.files.extend(filled.files);
    if arguments.watch {
        watch(Arc::make_mut(&mut choice.source.file.spec));
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
    let (mut managed, mut files) = (Vec::new(), Vec::new());
    for registry in &registries {
        managed.extend(managed_path::as_managed(registry, &arguments.managed_address));
        said.extend(managed_path::describe(registry));
        files.extend(registry.files.iter().cloned());
    }
    let program =
        preset.filter(|preset| !preset.hosts.is_empty()).map(|preset| (preset.name.clone(), preset.hosts.clone()));
    if let Some((name, hosts)) = &program {
        said.push(format!("{name}'s hosts: {}", hosts.join(", ")));
    }
    let by = match (arguments.preset, by_flags || program.is_some()) {
        (Some(_), _) => ChosenBy::Policy,
        (None, true) => ChosenBy::Flags,
        (None, false) => ChosenBy::Nothing,
    };
    let asked = Asked {
        preset: arguments.preset,
        mode: arguments.mode,
        deny: &arguments.deny,
        allow: &arguments.allow,
        managed,
        program,
    };
    let text = write(&asked)?;
    let origin = match (arguments.preset, by) {
        (Some(preset), _) => format!("preset {}", preset.name()),
        (None, ChosenBy::Nothing) => "none".to_owned(),
        (None, ChosenBy::Flags | ChosenBy::Policy) => "flags".to_owned(),
    };
    let parsed = source::parse("the policy of these flags", text.as_bytes(), std::env::current_dir()?);
    let source = parsed.map_err(|refusal| refusal.into_failure("what these flags ask for", code::RUN_FAILED))?;
    Ok(Choice { source, origin, by, said, files })
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
