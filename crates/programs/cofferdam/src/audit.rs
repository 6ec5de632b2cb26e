//! `audit`: verify and export a record.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use audit_event::{Ending, Position, Verified, Verifier, VerifyError};
use clap::{Args, Subcommand, ValueEnum, ValueHint};

use crate::{
    completions,
    config::Config,
    failure::code,
    files,
    output::{count, note, print_json_text, print_line},
    runs::Runs,
};

/// `audit`
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Check that a record's events form one chain, and say how it ends. Exit 1 with the first bad sequence number where
    /// they don't, or where there is no event.
    Verify(VerifyArguments),
    /// Write a record's events in another form.
    Export(ExportArguments),
}

/// Which record.
#[derive(Debug, Args)]
pub(crate) struct Record {
    /// Records; `-` is standard input. Of each, the files that rotation closed are read first. The newest run's where
    /// none is given.
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "run")]
    files: Vec<PathBuf>,
    /// A run's record.
    #[arg(long, value_name = "RUN", add = completions::any_run())]
    run: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    before_help = "Examples:\n  cofferdam audit verify                  the newest run\n  cofferdam audit verify events.jsonl\n  cofferdam audit verify --expect-ended events.jsonl\n                                          a record whose run is over: its end must be there\n"
)]
pub(crate) struct VerifyArguments {
    /// Exit 1 where the last event is not the end of a run: cut off, or the run still going.
    #[arg(long)]
    expect_ended: bool,
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
            let given = |path: &PathBuf| if path.as_os_str() == "-" { "/dev/stdin".into() } else { path.clone() };
            return Ok(self.files.iter().map(given).collect());
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
        all_hold &= verify_record(&path, arguments.expect_ended)?;
    }
    Ok(if all_hold { ExitCode::SUCCESS } else { ExitCode::from(code::FAILED) })
}

/// Verifies one record; its files are one chain.
fn verify_record(path: &Path, expect_ended: bool) -> Result<bool> {
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
    let verified = verifier.finish();
    print_line(&format!("{name}: {}", described(&verified)))?;
    Ok(match verified.ending {
        Ending::Empty => false,
        Ending::SandboxEnded => !expect_ended || verified.torn_tail.is_none(),
        Ending::Checkpoint | Ending::Open => !expect_ended,
    })
}

/// What a chain shows, and what it can't: that its newest events are missing.
fn described(verified: &Verified) -> String {
    let Some(last) = &verified.last_event else {
        return match verified.torn_tail {
            Some(bytes) => format!("no event, only {} of an unfinished line", count(bytes, "byte")),
            None => "no event: a record begins with the start of a run, so what was here is gone".to_owned(),
        };
    };
    let Position { seq, .. } = verified.last;
    let mut text = format!("{}, one chain to sequence number {seq}", count(verified.events, "event"));
    if verified.follows.seq > 0 {
        text.push_str(&format!(", which goes on from event {} in a file that was not given", verified.follows.seq));
    }
    if verified.erased > 0 {
        text.push_str(&format!(", {}", count(verified.erased, "erased field")));
    }
    if let Some(bytes) = verified.torn_tail {
        text.push_str(&format!(", {} of an unfinished line at the end", count(bytes, "byte")));
    }
    text.push_str(&format!("\n  last event: {seq}, {}, {}", last.time, last.event));
    text.push_str(match verified.ending {
        Ending::SandboxEnded => "\n  the record ends with sandbox.ended: the run is over",
        Ending::Checkpoint => "\n  the file was closed, and the chain goes on in another one that was not given",
        Ending::Open | Ending::Empty => {
            "\n  the record ends without sandbox.ended: the run may still be going, or was killed, or its end was cut off"
        }
    });
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
        note(&format!("left out, for they are no events: {}", count(odd, "line")));
        return Ok(ExitCode::from(code::FAILED));
    }
    Ok(ExitCode::SUCCESS)
}
