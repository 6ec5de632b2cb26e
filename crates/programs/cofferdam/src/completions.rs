//! `completions`: scripts that ask this program while the user types, so that run ids are live values.

use std::{ffi::OsStr, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use clap_complete::{
    CompletionCandidate,
    engine::ArgValueCompleter,
    env::{CompleteEnv, Shells},
};

use crate::{arguments, config::Config, output, presets, runs::Runs};

/// The variable by which a shell's script asks for candidates.
const VARIABLE: &str = "COMPLETE";

/// `completions`
#[derive(Debug, Args)]
#[command(
    before_help = "Examples:\n  cofferdam completions bash > ~/.local/share/bash-completion/completions/cofferdam\n  \
                         cofferdam completions zsh > ~/.zfunc/_cofferdam\n  cofferdam completions fish > ~/.config/fish/completions/cofferdam.fish\n"
)]
pub(crate) struct Arguments {
    /// The shell.
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
    Elvish,
    Powershell,
}

impl Shell {
    fn name(self) -> &'static str {
        match self {
            Shell::Bash => "bash",
            Shell::Zsh => "zsh",
            Shell::Fish => "fish",
            Shell::Elvish => "elvish",
            Shell::Powershell => "powershell",
        }
    }
}

/// Answers a shell that asks for candidates, and exits; does nothing otherwise.
pub(crate) fn answer_shell() {
    if std::env::var_os(VARIABLE).is_some() {
        CompleteEnv::with_factory(arguments::definition).var(VARIABLE).complete();
    }
}

pub(crate) fn print(arguments: &Arguments) -> Result<ExitCode> {
    let shells = Shells::builtins();
    let shell = shells.completer(arguments.shell.name()).context("this shell is not built in")?;
    let mut script = Vec::new();
    shell.write_registration(VARIABLE, "cofferdam", "cofferdam", "cofferdam", &mut script)?;
    output::print(&String::from_utf8(script)?)?;
    Ok(ExitCode::SUCCESS)
}

/// The runs that are live now.
pub(crate) fn live_runs() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| candidates(typed, true))
}

/// Every run.
pub(crate) fn any_run() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| candidates(typed, false))
}

/// The names of the program presets.
pub(crate) fn program_presets() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| {
        let typed = typed.to_string_lossy().into_owned();
        let names = presets::names().into_iter().chain(["none".to_owned()]);
        names.filter(|name| name.starts_with(&typed)).map(CompletionCandidate::new).collect()
    })
}

/// The package managers that are known.
pub(crate) fn package_managers() -> ArgValueCompleter {
    among(|| package_managers::Manager::ALL.map(|manager| manager.name()).to_vec())
}

/// The policies that `policy init` prints.
pub(crate) fn ready_policies() -> ArgValueCompleter {
    among(|| policy_file::presets::all().iter().map(|ready| ready.name).collect())
}

fn among(names: fn() -> Vec<&'static str>) -> ArgValueCompleter {
    ArgValueCompleter::new(move |typed: &OsStr| {
        let typed = typed.to_string_lossy().into_owned();
        names().into_iter().filter(|name| name.starts_with(&typed)).map(CompletionCandidate::new).collect()
    })
}

/// Words of a closed list.
pub(crate) fn words(known: &'static [&'static str]) -> ArgValueCompleter {
    ArgValueCompleter::new(move |typed: &OsStr| {
        let typed = typed.to_string_lossy().into_owned();
        known.iter().filter(|word| word.starts_with(&typed)).map(CompletionCandidate::new).collect()
    })
}

fn candidates(typed: &OsStr, only_live: bool) -> Vec<CompletionCandidate> {
    let Ok(config) = Config::load() else { return Vec::new() };
    let typed = typed.to_string_lossy().into_owned();
    let runs = Runs::of(&config).all().unwrap_or_default();
    runs.iter()
        .filter(|run| run.id.short().starts_with(&typed) && (!only_live || run.is_live()))
        .take(100)
        .map(|run| {
            let command = run.read().map(|record| record.command.join(" ")).unwrap_or_default();
            CompletionCandidate::new(run.id.short()).help(Some(command.into()))
        })
        .collect()
}
