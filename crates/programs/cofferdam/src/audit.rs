//! `audit`: verify and export a record.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use audit_event::{Verified, Verifier, VerifyError};
use clap::{Args, Subcommand, ValueEnum, ValueHint};

use crate::{
    completions,
    config::Config,
    failure::code,
    files,
    output::{note, print_json_text, print_line},
    runs::Runs,
};

/// `audit`
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Check that a record's events form one chain. Exit 1 with the first bad sequence number where they don't.
    Verify(VerifyArguments),
    /// Write a record's events in another form.
    Export(ExportArguments),
}

/// Which record.
#[derive(Debug, Args)]
pub(crate) struct Record {
    /// Records. Of each, the files that rotation closed are read first. The newest run's where none is given.
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "run")]
    files: Vec<PathBuf>,
    /// A run's record.
    #[arg(long, value_name = "RUN", add = completions::any_run())]
    run: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    before_help = "Examples:\n  cofferdam audit verify                  the newest run\n  cofferdam audit verify events.jsonl\n"
)]
pub(crate) struct VerifyArguments {
    #[command(flatten)]
    record: Record,
}

#[derive(Debug, Args)]
#[command(
    before_help = "Examples:\n  cofferdam audit export --format ocsf > events.ocsf.jsonl\n  cofferdam audit export --format jsonl --run 7f3a92c1\n"
)]
pub(crate) struct ExportArguments {
    /// The form.
    #[arg(long, value_name = "FORM")]
    format: Format,
    #[command(flatten)]
    record: Record,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// As recorded, closed files and the open one in one stream.
    Jsonl,
    /// OCSF 1.8 events, one JSON object a line.
    Ocsf,
}

impl Record {
    fn paths(&self) -> Result<Vec<PathBuf>> {
        if !self.files.is_empty() {
            return Ok(self.files.clone());
        }
        let runs = Runs::of(&Config::load()?);
        Ok(vec![runs.find_or_newest(self.run.as_deref())?.read()?.events])
    }
}

pub(crate) fn run(action: Action) -> Result<ExitCode> {
    match action {
        Action::Verify(arguments) => verify(&arguments),
        Action::Export(arguments) => export(&arguments),
    }
}

fn verify(arguments: &VerifyArguments) -> Result<ExitCode> {
    let mut all_hold = true;
    for path in arguments.record.paths()? {
        all_hold &= verify_record(&path)?;
    }
    Ok(if all_hold { ExitCode::SUCCESS } else { ExitCode::from(code::FAILED) })
}

/// Verifies one record; its files are one chain.
fn verify_record(path: &Path) -> Result<bool> {
    let name = path.display();
    let mut verifier = Verifier::default();
    for file in audit_log::files(path).with_context(|| format!("reading {name}"))? {
        let reader =
            BufReader::new(files::open_or_given(&file).with_context(|| format!("opening {}", file.display()))?);
        match verifier.read(reader) {
            Ok(()) => {}
            Err(VerifyError::Read(error)) => return Err(error).with_context(|| format!("reading {}", file.display())),
            Err(VerifyError::Broken(broken)) => {
                print_line(&format!(
                    "{}: line {}: first bad sequence number {}: {}",
                    file.display(),
                    broken.line,
                    broken.seq,
                    broken.reason
                ))?;
                return Ok(false);
            }
        }
    }
    print_line(&format!("{name}: {}", described(&verifier.finish())))?;
    Ok(true)
}

fn described(verified: &Verified) -> String {
    let mut text = format!("{} events, one chain to sequence number {}", verified.events, verified.last.seq);
    if verified.erased > 0 {
        text.push_str(&format!(", {} erased fields", verified.erased));
    }
    if let Some(bytes) = verified.torn_tail {
        text.push_str(&format!(", {bytes} bytes of an unfinished line at the end"));
    }
    text
}

fn export(arguments: &ExportArguments) -> Result<ExitCode> {
    let mut odd = 0;
    for path in arguments.record.paths()? {
        for file in audit_log::files(&path).with_context(|| format!("reading {}", path.display()))? {
            let reader =
                BufReader::new(files::open_or_given(&file).with_context(|| format!("opening {}", file.display()))?);
            for line in reader.lines() {
                let line = line.with_context(|| format!("reading {}", file.display()))?;
                match (arguments.format, audit_event::parse(&line)) {
                    (_, Err(_)) => odd += 1,
                    (Format::Jsonl, Ok(_)) => print_json_text(&line)?,
                    (Format::Ocsf, Ok(entry)) => {
                        print_json_text(&audit_event::to_ocsf(&entry, env!("CARGO_PKG_VERSION")).to_string())?
                    }
                }
            }
        }
    }
    if odd > 0 {
        note(&format!("{odd} lines are no events and were left out"));
        return Ok(ExitCode::from(code::FAILED));
    }
    Ok(ExitCode::SUCCESS)
}
