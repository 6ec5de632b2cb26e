//! The table and the JSON.

use std::{collections::BTreeMap, fs, path::PathBuf, process::ExitCode, time::Duration};

use comfy_table::{Table, presets::UTF8_HORIZONTAL_ONLY};
use serde::Serialize;

use crate::{
    adapter::Kind,
    arguments::Arguments,
    case::{Case, Owasp, Setting},
    instance::Instance,
    outcome::{Outcome, Verdict},
};

/// One run, told.
#[derive(Debug, Serialize)]
pub(crate) struct Run {
    #[serde(skip)]
    place: usize,
    case: String,
    owasp: Owasp,
    run: String,
    adapter: &'static str,
    setting: Setting,
    #[serde(flatten)]
    verdict: Verdict,
    /// How long it took.
    seconds: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<String>,
}

/// What stands before a row.
#[derive(Debug)]
struct Title {
    id: String,
    owasp: Owasp,
    title: String,
}

impl Title {
    fn of(case: &Case) -> Self {
        Self { id: case.id.clone(), owasp: case.owasp, title: case.title.clone() }
    }
}

/// Everything that was run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    runs: Vec<Run>,
    titles: BTreeMap<usize, Title>,
    json: Option<PathBuf>,
    verbose: bool,
    ours_failed: bool,
}

impl Run {
    /// A run and its verdict.
    pub(crate) fn new(
        place: usize,
        kind: Kind,
        instance: &Instance<'_>,
        verdict: Verdict,
        details: Vec<String>,
    ) -> Self {
        Self {
            place,
            case: instance.case.id.clone(),
            owasp: instance.case.owasp,
            run: instance.name(),
            adapter: kind.name(),
            setting: instance.setting,
            verdict,
            seconds: 0.0,
            details,
        }
    }

    /// The same, having taken this long.
    pub(crate) fn lasting(self, time: Duration) -> Self {
        Self { seconds: time.as_secs_f64(), ..self }
    }

    /// Prints what came of it, and why.
    fn print(&self) {
        println!(
            "{} in {:?}, {}: {:?} {}",
            self.run, self.setting, self.adapter, self.verdict.outcome, self.verdict.why
        );
        for detail in &self.details {
            println!("    {}", detail.chars().take(400).collect::<String>());
        }
    }
}

impl Report {
    /// Nothing was run.
    pub(crate) fn empty() -> Self {
        Self::default()
    }

    /// For what these arguments ask.
    pub(crate) fn new(arguments: &Arguments) -> Self {
        Self { json: arguments.json.clone(), verbose: arguments.verbose, ..Self::default() }
    }

    /// Takes one adapter's runs.
    pub(crate) fn add(&mut self, kind: Kind, cases: &[Case], mut runs: Vec<Run>) {
        runs.sort_by(|one, other| (one.place, one.setting, &one.run).cmp(&(other.place, other.setting, &other.run)));
        // A peer's weakness is no failure of this suite.
        let bound = kind == Kind::Cofferdam || kind == Kind::None;
        self.ours_failed |= bound && runs.iter().any(|run| !run.verdict.good);
        for run in &runs {
            if let Some(case) = cases.get(run.place) {
                self.titles.entry(run.place).or_insert_with(|| Title::of(case));
            }
        }
        self.runs.extend(runs);
    }

    /// Prints everything; the exit code says whether ours held.
    pub(crate) fn finish(self) -> ExitCode {
        if self.runs.is_empty() {
            return ExitCode::SUCCESS;
        }
        if self.verbose {
            self.runs.iter().for_each(Run::print);
        }
        println!("{}", self.table());
        println!("{}", self.summary());
        // Last, where it is seen: a table of hundreds of rows is often cut.
        self.runs.iter().filter(|run| !run.verdict.good && self.is_ours(run)).for_each(Run::print);
        if let Some(path) = &self.json {
            let written = serde_json::to_vec_pretty(&self.runs).map_err(std::io::Error::other);
            if let Err(error) = written.and_then(|json| fs::write(path, json)) {
                eprintln!("conformance: {}: {error}", path.display());
                return ExitCode::from(2);
            }
        }
        ExitCode::from(u8::from(self.ours_failed))
    }

    fn is_ours(&self, run: &Run) -> bool {
        run.adapter == Kind::Cofferdam.name() || run.adapter == Kind::None.name()
    }

    /// Adapter and setting, in the order of their runs.
    fn columns(&self) -> Vec<(&'static str, Setting)> {
        let mut columns = Vec::new();
        for run in &self.runs {
            if !columns.contains(&(run.adapter, run.setting)) {
                columns.push((run.adapter, run.setting));
            }
        }
        columns
    }

    fn table(&self) -> Table {
        let columns = self.columns();
        let mut table = Table::new();
        table.load_style(UTF8_HORIZONTAL_ONLY);
        let names = columns.iter().map(|(adapter, setting)| format!("{adapter}\n{setting:?}").to_lowercase());
        table.set_header(["case".to_owned(), "owasp".to_owned(), "what".to_owned()].into_iter().chain(names));
        for (place, Title { id, owasp, title }) in &self.titles {
            let cells = columns.iter().map(|column| {
                let of = self.runs.iter().filter(|run| run.place == *place && (run.adapter, run.setting) == *column);
                counted(of)
            });
            let title: String = title.chars().take(60).collect();
            table.add_row([id.clone(), owasp.number().to_owned(), title].into_iter().chain(cells));
        }
        table
    }

    fn summary(&self) -> String {
        let mut lines = Vec::new();
        for column in self.columns() {
            let of = self.runs.iter().filter(|run| (run.adapter, run.setting) == column);
            lines.push(format!("{} {:?}: {}", column.0, column.1, counted(of).replace('\n', ", ")));
        }
        lines.join("\n")
    }
}

/// `held 6`, and whatever else there is.
fn counted<'run>(runs: impl Iterator<Item = &'run Run>) -> String {
    let mut counts: Vec<(Outcome, usize)> = Vec::new();
    for run in runs {
        match counts.iter_mut().find(|(outcome, _)| *outcome == run.verdict.outcome) {
            Some((_, count)) => *count += 1,
            None => counts.push((run.verdict.outcome, 1)),
        }
    }
    let word = |outcome| match outcome {
        Outcome::Held => "held",
        Outcome::Escaped => "ESCAPED",
        Outcome::Proven => "proven",
        Outcome::Passed => "passed",
        Outcome::FalseBlock => "FALSE BLOCK",
        Outcome::Unrecorded => "UNRECORDED",
        Outcome::Unproven => "UNPROVEN",
        Outcome::NotApplicable => "n/a",
        Outcome::Broken => "BROKEN",
    };
    counts.into_iter().map(|(outcome, count)| format!("{} {count}", word(outcome))).collect::<Vec<_>>().join("\n")
}
