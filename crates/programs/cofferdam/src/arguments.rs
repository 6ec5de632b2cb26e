//! The command line: every flag and its help.

use std::{ffi::OsString, io::Write as _, process::ExitCode};

use clap::{CommandFactory, Parser, Subcommand, error::ErrorKind};

use crate::{
    audit, authority, completions, doctor,
    failure::{code, report},
    man, observe,
    output::{self, ColourChoice, choose_colour},
    policy, processes, run,
};

const EXAMPLES: &str = "\
Examples:
  cofferdam run -- ./agent.py            nothing leaves; the end says what tried
  cofferdam observe --verdict denied     which rule, which process, why
  cofferdam policy learn > policy.yaml   a policy from what was seen, to review
  cofferdam run --policy policy.yaml -- ./agent.py
  cofferdam run --watch -- ./agent.py    all recorded, only the guards block
  cofferdam policy explain policy.yaml --to https://example.com/
  cofferdam doctor                       what this machine can enforce
";

pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0 done   1 failed, differs, or denied   2 wrong use
  3 no such run or event   7 invalid policy or failed policy test
  9 the run can't be reached
  run: the command's own, else 125 (cofferdam failed, or ended the command:
       --timeout, `stop`), 126 (can't be run), 127 (not found), 128+N (ended
       by signal N)

Settings: flag, then COFFERDAM_POLICY, COFFERDAM_DURABILITY,
COFFERDAM_AUTHORITY, COFFERDAM_QUIET, COFFERDAM_STATE, then ~/.config/cofferdam/config.toml, then
/etc/cofferdam/config.toml. `cofferdam doctor` shows each and its origin.";

/// Runs any program inside a boundary that holds whether or not the program behaves.
#[derive(Debug, Parser)]
#[command(name = "cofferdam", version, before_help = EXAMPLES, after_help = EXIT_CODES, max_term_width = 110)]
struct CommandLine {
    /// Colours: `always`, `never`, or `auto`, the default: on a terminal, unless NO_COLOR is set or TERM is `dumb`; with
    /// FORCE_COLOR everywhere.
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_default_value = true,
        hide_possible_values = true,
        display_order = 900
    )]
    color: ColourChoice,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a command, contained: no network but the gateway, files by allow-list, every decision recorded.
    Run(Box<run::Arguments>),
    /// Show decisions of a live or past run, or of a record.
    Observe(Box<observe::Arguments>),
    /// Write, check, explain, learn and apply policies.
    #[command(subcommand)]
    Policy(policy::Action),
    /// Verify or export a record.
    #[command(subcommand)]
    Audit(audit::Action),
    /// Show, rotate or remove the certificate authority that runs with `--authority installation` share.
    #[command(subcommand)]
    Authority(authority::Action),
    /// List runs.
    Ps(processes::ListArguments),
    /// End a live run.
    Stop(processes::StopArguments),
    /// Say what this machine can enforce, what is missing, and what to do about it.
    Doctor(doctor::Arguments),
    /// Print the completion script of a shell; it completes run ids too.
    Completions(completions::Arguments),
    /// Write the manual pages into a folder.
    Man(man::Arguments),
}

/// The whole command line, for completions and manual pages.
pub(crate) fn definition() -> clap::Command {
    CommandLine::command()
}

/// The command's name, also where the rest can't be parsed.
fn command_name(arguments: &[OsString]) -> Option<&OsString> {
    let mut rest = arguments.iter().skip(1);
    while let Some(one) = rest.next() {
        if one == "--color" {
            rest.next();
        } else if !one.as_encoded_bytes().starts_with(b"-") {
            return Some(one);
        }
    }
    None
}

/// Parses, runs, reports.
pub(crate) fn dispatch(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.collect();
    // What `run` itself gets wrong must not look like an exit code of the command.
    let is_run = command_name(&arguments).is_some_and(|name| name == "run");
    let parsed = match CommandLine::try_parse_from(&arguments) {
        Ok(parsed) => parsed,
        Err(error) => {
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            let _ = error.print();
            if is_run && error.kind() == ErrorKind::UnknownArgument && !arguments.iter().any(|one| one == "--") {
                output::note("the command comes behind `--`: cofferdam run [OPTIONS] -- CMD");
            }
            let _ = std::io::stdout().flush();
            let wrong = if is_run { code::RUN_FAILED } else { code::USAGE };
            return if asked { ExitCode::SUCCESS } else { ExitCode::from(wrong) };
        }
    };
    choose_colour(parsed.color);
    let otherwise = if is_run { code::RUN_FAILED } else { code::FAILED };
    let done = match parsed.command {
        Command::Run(arguments) => run::run(*arguments),
        Command::Observe(arguments) => observe::observe(*arguments),
        Command::Policy(action) => policy::run(action),
        Command::Audit(action) => audit::run(action),
        Command::Authority(action) => authority::run(&action),
        Command::Ps(arguments) => processes::list(&arguments),
        Command::Stop(arguments) => processes::stop(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Completions(arguments) => completions::print(&arguments),
        Command::Man(arguments) => man::write(&arguments),
    };
    match done {
        Ok(code) => code,
        // Whatever code the error has elsewhere: here it would look like one of the command's.
        Err(error) if is_run => {
            report(&error, otherwise);
            ExitCode::from(code::RUN_FAILED)
        }
        Err(error) => report(&error, otherwise),
    }
}
