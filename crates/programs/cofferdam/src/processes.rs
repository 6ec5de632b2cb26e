//! `ps` and `stop`: the runs of this user.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use jiff::{SpanRound, Timestamp, Unit};
use serde::Serialize;

use crate::{
    completions,
    config::Config,
    control::{self, Request, Response},
    output::{cut_to_terminal, print, print_json, table},
    runs::{RunRecord, Runs},
};

/// `ps`
#[derive(Debug, Args)]
#[command(
    before_help = "Examples:\n  cofferdam ps            live runs and the last ten\n  cofferdam ps --all --json\n"
)]
pub(crate) struct ListArguments {
    /// Every run, however long ago.
    #[arg(long, short)]
    all: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// `stop`
#[derive(Debug, Args)]
#[command(before_help = "Examples:\n  cofferdam stop 7f3a92c1\n  cofferdam stop 7f       any unambiguous beginning\n")]
pub(crate) struct StopArguments {
    /// The run.
    #[arg(value_name = "RUN", add = completions::live_runs())]
    run: String,
}

#[derive(Serialize)]
struct Row {
    short: String,
    live: bool,
    #[serde(flatten)]
    record: RunRecord,
}

/// How many ended runs are shown without `--all`.
const SHOWN: usize = 10;

pub(crate) fn list(arguments: &ListArguments) -> Result<ExitCode> {
    let runs = Runs::of(&Config::load()?);
    let mut rows = Vec::new();
    let mut ended = 0;
    for run in runs.all()? {
        // A run that is just being made has no run.json yet.
        let Ok(record) = run.read() else { continue };
        let live = run.is_live();
        ended += usize::from(!live);
        if live || arguments.all || ended <= SHOWN {
            rows.push(Row { short: run.id.short(), live, record });
        }
    }
    if arguments.json {
        print_json(&rows)?;
    } else {
        let rows = table(&["RUN", "STATE", "STARTED", "FOR", "POLICY", "COMMAND"], rows.iter().map(columns));
        print(&cut_to_terminal(&rows))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn columns(row: &Row) -> Vec<String> {
    let record = &row.record;
    let state = match (row.live, record.exit_code) {
        (true, _) => "live".to_owned(),
        (false, Some(code)) => format!("ended {code}"),
        (false, None) => "died".to_owned(),
    };
    let until = if row.live { Some(Timestamp::now()) } else { record.ended };
    let lasted = until.map(|until| lasted(record.started, until)).unwrap_or_default();
    let started = record.started.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
    let command: String = record.command.join(" ").chars().filter(|c| !c.is_control()).take(60).collect();
    vec![row.short.clone(), state, started, lasted, record.policy.clone(), command]
}

fn lasted(from: Timestamp, until: Timestamp) -> String {
    let round = SpanRound::new().largest(Unit::Hour).smallest(Unit::Second);
    (until - from).round(round).map(|span| format!("{span:#}")).unwrap_or_default()
}

pub(crate) fn stop(arguments: &StopArguments) -> Result<ExitCode> {
    let runs = Runs::of(&Config::load()?);
    let run = runs.find(&arguments.run)?;
    if !run.is_live() {
        return Err(run.ended().into());
    }
    match control::ask(&runs.socket(&run), &Request::Stop)? {
        Response::Stopping => Ok(ExitCode::SUCCESS),
        other @ (Response::Applied { .. } | Response::Refused { .. }) => bail!("the run answered {other:?}"),
    }
}
