//! `learn` and `replay`: what records say about policies.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use audit_event::{Body, Entry, Event, Filter};
use clap::{Args, ValueHint};
use jiff::Timestamp;
use policy::CompiledPolicy;
use policy_file::SupposedFlow;
use values::Labels;

use crate::{
    completions,
    config::Config,
    failure::{Failure, code},
    files,
    observe::filters::FilterFlags,
    output::{Colour, Style, count, note, print, print_json, print_line},
    runs::Runs,
};

const REPLAY_EXAMPLES: &str = "\
Examples:
  cofferdam policy replay candidate.yaml                  the newest run's record
  cofferdam policy replay candidate.yaml --input-file events.jsonl --since 1d
";
const LEARN_EXAMPLES: &str = "\
Examples:
  cofferdam policy learn > policy.yaml                    from the newest run
  cofferdam policy learn --run 7f3a92c1 --since 1h
  cofferdam policy learn --input-file events.jsonl --not --host '*.example.net' > policy.yaml
";

/// Which record, and which of its events.
#[derive(Debug, Args)]
pub(super) struct RecordArguments {
    /// The run; the newest where not given.
    #[arg(long, value_name = "RUN", add = completions::any_run(), conflicts_with = "input_file")]
    run: Option<String>,
    /// A record; `-` is standard input.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    input_file: Option<PathBuf>,
}

impl RecordArguments {
    /// Every event that the filter wants, in order.
    fn entries(&self, filter: &Filter) -> Result<Vec<Entry>> {
        let mut found = Vec::new();
        self.each(&mut |entry| {
            if filter.matches(&entry) {
                found.push(entry);
            }
        })?;
        Ok(found)
    }

    /// What is no event (a line cut off by a crash) says nothing about a flow. Where nothing is one, it is no record.
    fn each(&self, take: &mut dyn FnMut(Entry)) -> Result<()> {
        let (mut events, mut others) = (0_u64, 0_u64);
        self.each_line(&mut |line| match audit_event::parse(line) {
            Ok(entry) => {
                events += 1;
                take(entry);
            }
            Err(_) => others += 1,
        })?;
        if events == 0 {
            let record = self.input_file.as_ref().map_or("the record".to_owned(), |path| path.display().to_string());
            return Err(Failure::new(code::FAILED, format!("{record} holds no events")).into());
        }
        if others > 0 {
            note(&format!(
                "left out, for they are no events: {}; `cofferdam audit verify` says where",
                count(others, "line")
            ));
        }
        Ok(())
    }

    fn each_line(&self, take: &mut dyn FnMut(&str)) -> Result<()> {
        let mut read = |reader: &mut dyn std::io::BufRead| -> Result<()> {
            for line in reader.lines() {
                take(&line?);
            }
            Ok(())
        };
        if self.input_file.as_deref() == Some(Path::new("-")) {
            return read(&mut std::io::stdin().lock());
        }
        let path = match &self.input_file {
            Some(path) => path.clone(),
            None => Runs::of(&Config::load()?).find_or_newest(self.run.as_deref())?.read()?.events,
        };
        for file in audit_log::files(&path).with_context(|| format!("reading {}", path.display()))? {
            let opened = files::open_or_given(&file).with_context(|| format!("opening {}", file.display()))?;
            read(&mut BufReader::new(opened)).with_context(|| format!("reading {}", file.display()))?;
        }
        Ok(())
    }
}

impl RecordArguments {
    /// The recorded flow with this sequence number, as a policy sees it.
    pub(super) fn flow(&self, seq: u64, policy: &CompiledPolicy, labels: &Labels) -> Result<SupposedFlow> {
        let mut found = None;
        self.each(&mut |entry| {
            if entry.envelope.seq == seq {
                found = Some(entry);
            }
        })?;
        let missing = |what: &str| Failure::new(code::NOT_FOUND, format!("event {seq} {what}"));
        let entry = found.ok_or_else(|| missing("is not in this record"))?;
        match &entry.body {
            Body::Known(Event::FlowDecided(flow)) => {
                policy_file::replay::flow_of(policy, labels, entry.envelope.time, flow)
                    .ok_or_else(|| missing("holds what can't be read any more").into())
            }
            Body::Known(_) | Body::Unknown(_) => {
                Err(missing(&format!("is {:?}, not a decided flow", entry.envelope.event))
                    .hint("`cofferdam observe --type flow.decided -o table` lists those")
                    .into())
            }
        }
    }
}

/// `replay`
#[derive(Debug, Args)]
#[command(before_help = REPLAY_EXAMPLES)]
pub(crate) struct ReplayArguments {
    /// The policy; `-` is standard input.
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: PathBuf,
    #[command(flatten)]
    record: RecordArguments,
    /// A label of the sandbox. `source=run` where none is given.
    #[arg(long, value_name = "KEY=VALUE")]
    from: Vec<String>,
    /// As JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    filters: FilterFlags,
}

/// `learn`
#[derive(Debug, Args)]
#[command(before_help = LEARN_EXAMPLES)]
pub(crate) struct LearnArguments {
    #[command(flatten)]
    record: RecordArguments,
    #[command(flatten)]
    filters: FilterFlags,
}

pub(super) fn replay(arguments: &ReplayArguments) -> Result<ExitCode> {
    let compiled = super::as_a_run_would(&arguments.file)?;
    let now = Timestamp::now();
    let entries = arguments.record.entries(&arguments.filters.filter(now)?)?;
    let labels = super::explain::labels(&arguments.from)?;
    let replayed = policy_file::replay(&compiled, &labels, now, entries.iter().filter_map(known));
    if arguments.json {
        print_json(&replayed)?;
        return Ok(ExitCode::SUCCESS);
    }
    for change in &replayed.changes {
        let kind = if change.dns { "dns " } else { "" };
        let verdicts = if change.from.outcome == change.to.outcome {
            format!("{} still", change.to.outcome)
        } else {
            Style::of_stdout().paint(&format!("{} → {}", change.from.outcome, change.to.outcome), Colour::Yellow)
        };
        print_line(&format!(
            "{kind}{verdicts}, by {} instead of {}: ×{}, first {}",
            change.to, change.from, change.count, change.example
        ))?;
        for (destination, count) in &change.destinations {
            print_line(&format!("    {destination} ×{count}"))?;
        }
    }
    print_line(&format!(
        "{} decisions judged again: {} the same, {} passed over (no policy makes them)",
        replayed.judged, replayed.unchanged, replayed.passed_over
    ))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn learn(arguments: &LearnArguments) -> Result<ExitCode> {
    let entries = arguments.record.entries(&arguments.filters.filter(Timestamp::now())?)?;
    let learned = policy_file::learn(entries.iter().filter_map(|entry| Some((entry.envelope.time, known(entry)?))));
    print(&learned.text)?;
    let listed = match learned.not_proposed {
        0 => String::new(),
        some => format!("; {} not opened, only listed in a comment", count(some, "destination")),
    };
    note(&format!("{} to review{listed}", count(learned.rules, "rule")));
    Ok(ExitCode::SUCCESS)
}

fn known(entry: &Entry) -> Option<&Event> {
    match &entry.body {
        Body::Known(event) => Some(event),
        Body::Unknown(_) => None,
    }
}
