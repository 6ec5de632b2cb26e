//! Every part, one after the other, in one table.

use std::{env, fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;

use crate::figure::{self, Part};

/// The parts: a name, and the words after `benches`. Each prints a [`Part`] as its last line.
const PARTS: [(&str, &[&str]); 4] = [
    ("through the gateway", &["compare", "--rounds", "3"]),
    ("TLS that is opened", &["inspect", "--rounds", "3"]),
    ("a new policy", &["cut"]),
    ("start-up", &["start", "--starts", "200"]),
];

/// How everything is measured.
#[derive(Args)]
pub struct All {
    /// Write everything that was measured here, as JSON.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Only parts with this word in their name or command.
    #[arg(long)]
    only: Option<String>,
    /// The `cofferdam` program; beside this one unless given.
    #[arg(long)]
    cofferdam: Option<PathBuf>,
}

/// One part, as it is written to the file.
#[derive(Serialize)]
struct Measured {
    part: &'static str,
    command: String,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Measured(Part),
    Failed(String),
}

/// Runs every part. One that fails is named; the others are measured all the same, and the command fails at the end.
pub fn run(all: &All) -> Result<()> {
    let mut measured = Vec::new();
    for (part, words) in PARTS {
        let wanted = all.only.as_deref().is_none_or(|only| part.contains(only) || words.contains(&only));
        if !wanted {
            continue;
        }
        eprintln!("{part}: benches {}", words.join(" "));
        let outcome = match take(all, words) {
            Ok(taken) => {
                println!("{part}: {}\n{}\n", taken.machine.line(), figure::table(&taken.figures));
                Outcome::Measured(taken)
            }
            Err(error) => {
                println!("{part}: not measured: {error:#}\n");
                Outcome::Failed(format!("{error:#}"))
            }
        };
        measured.push(Measured { part, command: words.join(" "), outcome });
    }
    if let Some(out) = &all.out {
        fs::write(out, serde_json::to_string_pretty(&measured)?)
            .with_context(|| format!("writing {}", out.display()))?;
    }
    let failed: Vec<_> = measured.iter().filter(|one| matches!(one.outcome, Outcome::Failed(_))).collect();
    let names: Vec<&str> = failed.iter().map(|one| one.part).collect();
    ensure!(failed.is_empty(), "not measured: {}", names.join(", "));
    Ok(())
}

fn take(all: &All, words: &[&str]) -> Result<Part> {
    let mut command = Command::new(env::current_exe()?);
    command.args(words).arg("--json");
    if let Some(cofferdam) = &all.cofferdam {
        command.arg("--cofferdam").arg(cofferdam);
    }
    let output = command.stderr(std::process::Stdio::inherit()).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "it ended with {}: {text}", output.status);
    let line = text.lines().last().context("it printed nothing")?;
    serde_json::from_str(line).with_context(|| format!("reading {line:?}"))
}
