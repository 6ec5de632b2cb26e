//! What is decided before anything starts: presets, the policy, the environment and what the workload sees.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use anyhow::Result;
use jiff::Timestamp;
use sandbox::Mount;

use super::{Arguments, ask_file, choose_policy, doubts, environment, guarded, mounts, secrets};
use crate::{
    config::{self, Config},
    presets::{self, Preset},
};

/// Everything that is decided before anything starts.
pub(super) struct Prepared {
    pub(super) choice: choose_policy::Choice,
    pub(super) environment: environment::Chosen,
    pub(super) opened: mounts::Opened,
    pub(super) presets: Vec<Preset>,
    pub(super) guarded: guarded::Guarded,
}

impl Prepared {
    pub(super) fn new(arguments: &Arguments, config: &Config, working_directory: &Path) -> Result<Self> {
        let caller = presets::Caller::of_this_process();
        let presets = chosen_presets(arguments, &caller, working_directory)?;
        let writable = writable_folders(arguments, &presets, working_directory)?;
        let mut guarded = guarded::Guarded::new(arguments, config, writable.clone())?;
        let choice = choose_policy::choose(arguments, config, presets.first(), &writable)?;
        guarded.add_lists(&choice.source.folder, &choice.source.file.spec)?;
        if choice.source.file.spec.inspecting_rules().next().is_some() {
            guarded.add_trust(&caller.environment, &choice.source.folder, &choice.source.file.spec)?;
        }
        presets.iter().try_for_each(|preset| guarded.add_settings(preset))?;
        let by_preset: Vec<String> = presets.iter().flat_map(|preset| preset.environment.clone()).collect();
        let proxy = arguments.proxy_env.then(|| sandbox::GatewayPorts::default().proxy);
        let mut environment = environment::choose(&caller.environment, &by_preset, &arguments.env, proxy)?;
        let spec = &choice.source.file.spec;
        secrets::withhold(spec, &mut environment, &arguments.env)?;
        let secret_files = secrets::files(spec, &choice.source.folder, &config::home());
        guarded.add_credentials(&secret_files)?;
        guarded.notes.extend(doubts(spec, &choice.source.folder, Timestamp::now()));
        let program = arguments
            .command
            .first()
            .and_then(|command| mounts::find_program(command, environment.variables.get("PATH")));
        if let Some(file) = &arguments.ask_file {
            guarded.notes.extend(ask_file::begin(file, &choice.source)?);
        }
        let mut opened = mounts::choose(&mounts::Wanted {
            presets: &presets,
            flags: &arguments.mount,
            certificates: &environment.certificates,
            system: &choice.files,
            working_directory,
            program,
        })?;
        let sources = opened.mounts.iter().filter_map(|mount| match mount {
            Mount::Bind { source, .. } => Some(source.as_path()),
            Mount::Tmpfs { .. } | Mount::File { .. } | Mount::Symlink { .. } => None,
        });
        guarded::refuse_authority(config, sources.chain([working_directory]))?;
        opened.name_readable(&secret_files, working_directory)?;
        if let Some(named) = &arguments.workdir {
            guarded.add_named(named, working_directory)?;
            // An earlier command may have left a link there.
            if std::path::absolute(named)? != working_directory {
                guarded.notes.push(format!("--workdir {} is {}", named.display(), working_directory.display()));
            }
        }
        for flag in &arguments.mount {
            for mount in &opened.mounts {
                if let Mount::Bind { source, target, .. } = mount
                    && *target == flag.target
                {
                    guarded.add_named(&flag.source, source)?;
                }
            }
        }
        Ok(Self { choice, environment, opened, presets, guarded })
    }
}

/// What of the host the workload may write.
fn writable_folders(arguments: &Arguments, presets: &[Preset], working_directory: &Path) -> Result<Vec<PathBuf>> {
    let mut folders = vec![working_directory.to_owned()];
    let flags = arguments.mount.iter().filter(|mount| mount.writable).map(|mount| &mount.source);
    let mounts = presets.iter().flat_map(|preset| &preset.mounts);
    let presets = mounts.filter(|mount| mount.writable && mount.path.exists()).map(|mount| &mount.path);
    let common = sandbox::common_folder(working_directory);
    for path in flags.chain(presets).chain(&common) {
        let real = std::fs::canonicalize(path).map_err(|error| mounts::refuse(path, &error))?;
        folders.push(real);
    }
    Ok(folders)
}

/// The presets that apply: those named, else the program's own; those of managed package managers too.
fn chosen_presets(arguments: &Arguments, caller: &presets::Caller, working_directory: &Path) -> Result<Vec<Preset>> {
    let mut chosen: Vec<Preset> = Vec::new();
    match arguments.program_preset.as_slice() {
        [none] if none == "none" => return Ok(chosen),
        [] => {
            let program = arguments.command.first().map_or(OsStr::new(""), OsString::as_os_str);
            // For a program that is not there nothing is opened, and nothing is made in its folders.
            let preset = presets::of_program(program, caller)?;
            chosen.extend(preset.filter(|_| is_installed(program, arguments, caller, working_directory)));
        }
        names => {
            for name in names {
                chosen.push(presets::named(name, caller)?);
            }
        }
    }
    for manager in &arguments.managed {
        let known = presets::names().contains(manager);
        if known && !chosen.iter().any(|preset| preset.name == *manager) {
            let hosts = Vec::new();
            chosen.push(Preset { hosts, ..presets::named(manager, caller)? });
        }
    }
    Ok(chosen)
}

/// Whether the command is there to be run, as far as can be seen from outside.
fn is_installed(program: &OsStr, arguments: &Arguments, caller: &presets::Caller, working_directory: &Path) -> bool {
    if program.as_bytes().contains(&b'/') {
        return working_directory.join(program).is_file();
    }
    let given = arguments.env.iter().rev().find(|variable| variable.name == "PATH");
    let path = given.and_then(|variable| variable.value.as_ref()).or_else(|| caller.environment.get("PATH"));
    mounts::find_program(program, path).is_some()
}
