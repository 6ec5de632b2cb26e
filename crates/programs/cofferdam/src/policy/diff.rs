//! `diff`: what changes between two policies.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Args, ValueHint};

use crate::{
    failure::{Failure, code},
    output::{Colour, Style, print_json, print_line},
    source,
};

/// `diff`
#[derive(Debug, Args)]
#[command(
    before_help = "Examples:\n  cofferdam policy diff old.yaml new.yaml\n  git show HEAD:policy.yaml | cofferdam policy diff - policy.yaml\n"
)]
pub(crate) struct Arguments {
    /// The policy before; `-` is standard input.
    #[arg(value_name = "BEFORE", value_hint = ValueHint::FilePath)]
    before: PathBuf,
    /// The policy after; `-` is standard input, for one of the two.
    #[arg(value_name = "AFTER", value_hint = ValueHint::FilePath)]
    after: PathBuf,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn diff(arguments: &Arguments) -> Result<ExitCode> {
    if [&arguments.before, &arguments.after].iter().all(|path| path.as_os_str() == "-") {
        let what = "both policies can't be standard input";
        return Err(Failure::new(code::USAGE, what).hint("name a file for one of them").into());
    }
    let before = source::read_or_fail(&arguments.before)?;
    let after = source::read_or_fail(&arguments.after)?;
    let differences = policy_file::diff(&before.file.spec, &after.file.spec);
    if arguments.json {
        print_json(&differences)?;
    } else {
        let style = Style::of_stdout();
        for difference in &differences {
            for line in difference.to_string().lines() {
                let colour = match line.trim_start().chars().next() {
                    Some('+') => Colour::Green,
                    Some('-') => Colour::Red,
                    _ => Colour::Yellow,
                };
                print_line(&style.paint(line, colour))?;
            }
        }
    }
    Ok(if differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(code::FAILED) })
}
