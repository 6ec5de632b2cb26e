//! The one command: read config, build, run, report.

use std::process::ExitCode;

/// The command line: every flag and its help.
mod arguments;
/// Questions to the person at the terminal.
mod ask;
/// `audit`: verify and export a record.
mod audit;
/// `authority`: the installation's certificate authority.
mod authority;
/// `completions`: for shells, with live values.
mod completions;
/// Settings and where each came from: flag, environment, user file, system file, default.
mod config;
/// Talking to a live run over its socket.
mod control;
/// `doctor`: what this machine can enforce.
mod doctor;
/// What went wrong, its exit code and a hint.
mod failure;
/// Opening files without ever waiting for one.
mod files;
/// `man`: manual pages.
mod man;
/// The managed path of a policy, filled with what its package managers name.
mod managed_path;
/// `observe`: decisions, live or from a record.
mod observe;
/// What people and programs read: colour, tables, JSON.
mod output;
/// `policy`: write, check, explain, learn, apply.
mod policy;
/// What known programs need: folders, hosts, variables.
mod presets;
/// `ps` and `stop`.
mod processes;
/// The hosts behind a managed path, from the package managers themselves.
mod registries;
/// `run`: a command, contained.
mod run;
/// The folders of past and live runs.
mod runs;
/// From a policy file on disk to a compiled policy, feeds and service tags included.
mod source;

fn main() -> ExitCode {
    completions::answer_shell();
    arguments::dispatch(std::env::args_os())
}
