//! `observe`: decisions, live or from a record.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use audit_event::{Entry, Filter, Style as LineStyle, compact_line};
use clap::{Args, ValueEnum, ValueHint};
use jiff::Timestamp;

use crate::{
    completions,
    config::Config,
    failure::{Failure, code},
    files,
    observe::filters::FilterFlags,
    output::{self, count, note, print, print_json_text, print_line, table},
    runs::{Run, Runs},
};

/// Filter flags, in their order on the command line.
pub(crate) mod filters;
/// Waiting for new lines.
mod follow;

const EXAMPLES: &str = "\
Examples:
  of the newest run: which rule, which process, why:
    cofferdam observe --verdict denied
  live:
    cofferdam observe -f --run 7f3a92c1
  the same flag twice is OR, different flags are AND:
    cofferdam observe --since 15m --not --protocol dns
    cofferdam observe --last 20 --host '*.example.com' -o json
  a record that is not a run's own:
    cofferdam observe --input-file events.jsonl --verdict would-deny
";

/// `observe`
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The run; the newest where not given.
    #[arg(long, value_name = "RUN", add = completions::any_run(), conflicts_with = "input_file")]
    run: Option<String>,
    /// A record; `-` is standard input.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    input_file: Option<PathBuf>,
    /// Go on while the run lives.
    #[arg(long, short)]
    follow: bool,
    /// The first N that match.
    #[arg(long, value_name = "N", conflicts_with_all = ["last", "follow"])]
    first: Option<usize>,
    /// The last N that match.
    #[arg(long, value_name = "N")]
    last: Option<usize>,
    /// How they are shown.
    #[arg(long, short, value_name = "FORM", default_value = "compact")]
    output: Form,
    /// The same as `-o json`.
    #[arg(long, conflicts_with = "output")]
    json: bool,
    #[command(flatten)]
    filters: FilterFlags,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// One line each, for people.
    Compact,
    /// One JSON array.
    Json,
    /// One JSON object a line, as recorded.
    Jsonl,
    /// Columns.
    Table,
}

/// A line of a record that could be read.
struct Line {
    raw: String,
    entry: Entry,
}

pub(crate) fn observe(arguments: Arguments) -> Result<ExitCode> {
    let form = if arguments.json { Form::Json } else { arguments.output };
    if arguments.follow && matches!(form, Form::Json | Form::Table) {
        return Err(Failure::new(code::USAGE, "--follow has no end, and this form needs one")
            .hint("use -o compact or -o jsonl")
            .into());
    }
    let filter = arguments.filters.filter(Timestamp::now())?;
    let mut view = View {
        form,
        filter,
        style: line_style(),
        last: arguments.last,
        first: arguments.first,
        kept: VecDeque::new(),
        shown: 0,
        odd: 0,
    };
    match &arguments.input_file {
        Some(path) => view_file(&mut view, path, arguments.follow)?,
        None => {
            let runs = Runs::of(&Config::load()?);
            let run = runs.find_or_newest(arguments.run.as_deref())?;
            view_run(&mut view, &run, arguments.follow)?;
        }
    }
    view.finish()?;
    Ok(ExitCode::SUCCESS)
}

fn line_style() -> LineStyle {
    LineStyle { colour: output::Style::of_stdout().coloured, ..LineStyle::default() }
}

fn view_file(view: &mut View, path: &Path, follow: bool) -> Result<()> {
    if path == Path::new("-") {
        return view.read(BufReader::new(std::io::stdin())).map(drop);
    }
    let mut files = audit_log::files(path).with_context(|| format!("reading {}", path.display()))?;
    let newest = files.pop().unwrap_or_else(|| path.to_owned());
    for file in &files {
        view.read_file(file)?;
    }
    if follow {
        view.flush_kept()?;
        return follow::follow(&newest, None, &mut |line| view.take(line).map(drop));
    }
    view.read_file(&newest)
}

fn view_run(view: &mut View, run: &Run, follow: bool) -> Result<()> {
    let record = run.read()?;
    let mut files = audit_log::files(&record.events).with_context(|| format!("reading {}", record.events.display()))?;
    if !(follow && run.is_live()) {
        return files.iter().try_for_each(|file| view.read_file(file));
    }
    let newest = files.pop().unwrap_or_else(|| record.events.clone());
    for file in &files {
        view.read_file(file)?;
    }
    follow::follow(&newest, Some(record.pid), &mut |line| view.take(line).map(drop))
}

/// What is shown, and how far.
struct View {
    form: Form,
    filter: Filter,
    style: LineStyle,
    last: Option<usize>,
    first: Option<usize>,
    kept: VecDeque<Line>,
    shown: usize,
    odd: usize,
}

impl View {
    fn read_file(&mut self, path: &Path) -> Result<()> {
        let file = files::open_or_given(path).with_context(|| format!("opening {}", path.display()))?;
        self.read(BufReader::new(file)).map(drop)
    }

    /// Reads lines until the end, or until enough are shown.
    fn read(&mut self, mut reader: impl BufRead) -> Result<bool> {
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            if reader.read_until(b'\n', &mut bytes)? == 0 {
                return Ok(true);
            }
            if !self.take(&String::from_utf8_lossy(&bytes))? {
                return Ok(false);
            }
        }
    }

    /// Takes one line; `false` where no more are wanted.
    fn take(&mut self, raw: &str) -> Result<bool> {
        let raw = raw.trim_end();
        if raw.is_empty() {
            return Ok(true);
        }
        let Ok(entry) = audit_event::parse(raw) else {
            self.odd += 1;
            return Ok(true);
        };
        if !self.filter.matches(&entry) {
            return Ok(true);
        }
        let line = Line { raw: raw.to_owned(), entry };
        let keeps = matches!(self.form, Form::Json | Form::Table) || self.last.is_some();
        if keeps {
            self.kept.push_back(line);
            if self.last.is_some_and(|last| self.kept.len() > last) {
                self.kept.pop_front();
            }
        } else {
            self.show(&line)?;
        }
        self.shown += 1;
        Ok(self.first.is_none_or(|first| self.shown < first))
    }

    fn show(&self, line: &Line) -> Result<()> {
        match self.form {
            Form::Compact => print_line(&compact_line(&line.entry, self.style)),
            Form::Jsonl => print_json_text(&line.raw),
            Form::Json | Form::Table => Ok(()),
        }
    }

    /// Shows what `--last` kept, and from here on every line at once.
    fn flush_kept(&mut self) -> Result<()> {
        self.last = None;
        for line in std::mem::take(&mut self.kept) {
            self.show(&line)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        match self.form {
            Form::Compact | Form::Jsonl => self.flush_kept()?,
            Form::Json => {
                let lines: Vec<&str> = self.kept.iter().map(|line| line.raw.as_str()).collect();
                let body = if lines.is_empty() { "[]".to_owned() } else { format!("[\n{}\n]", lines.join(",\n")) };
                print_json_text(&body)?;
            }
            Form::Table => {
                let header =
                    ["SEQ", "TIME", "EVENT", "VERDICT", "PROTOCOL", "DESTINATION", "RULE", "PROCESS", "REASON"];
                print(&table(&header, self.kept.iter().map(|line| columns(&line.entry))))?;
            }
        }
        if self.odd > 0 {
            note(&format!(
                "left out, for they are no events: {}; `cofferdam audit verify` says where",
                count(self.odd, "line")
            ));
        }
        Ok(())
    }
}

/// The columns of `-o table`, read off the line's own fields so that events of a newer version show too.
fn columns(entry: &Entry) -> Vec<String> {
    use audit_event::{Body, Event};
    let clean = |text: &str| audit_event::bounded(text, 80);
    let time = entry.envelope.time.strftime("%H:%M:%S%.3f").to_string();
    let mut row = vec![entry.envelope.seq.to_string(), time, entry.envelope.event.clone()];
    let host = |to: &audit_event::Destination| {
        let address = to.address.or(to.original_address).map(|address| address.to_string());
        format!("{}:{}", to.name.clone().or(address).unwrap_or_default(), to.port)
    };
    let process = |process: &Option<audit_event::Process>| {
        process.as_ref().map(|p| format!("{}[{}]", p.exe, p.pid)).unwrap_or_default()
    };
    let rest: [String; 6] = match &entry.body {
        Body::Known(Event::FlowDecided(flow)) => [
            flow.verdict.clone(),
            flow.protocol.clone(),
            host(&flow.destination),
            flow.rule.clone(),
            process(&flow.process),
            flow.reason.clone(),
        ],
        Body::Known(Event::FlowEnded(flow)) => [
            "ended".to_owned(),
            flow.protocol.clone(),
            host(&flow.destination),
            flow.rule.clone(),
            process(&flow.process),
            flow.error.clone().unwrap_or_default(),
        ],
        Body::Known(Event::DnsDecided(dns)) => [
            dns.verdict.clone(),
            "dns".to_owned(),
            format!("{} {}", dns.record_type, dns.name),
            dns.rule.clone(),
            process(&dns.process),
            dns.reason.clone(),
        ],
        Body::Known(Event::PolicyApplied(policy)) => [
            "applied".to_owned(),
            String::new(),
            policy.name.clone(),
            String::new(),
            String::new(),
            format!("{} cut", policy.cut),
        ],
        Body::Known(Event::PolicyRefused(policy)) => {
            ["refused".to_owned(), String::new(), String::new(), String::new(), String::new(), policy.reason.clone()]
        }
        Body::Known(Event::SandboxStarted(run) | Event::SandboxEnded(run)) => {
            [String::new(), String::new(), String::new(), String::new(), String::new(), run.command.clone()]
        }
        Body::Known(Event::ApprovalAnswered { answer, flow, .. }) => {
            [answer.clone(), String::new(), format!("flow {flow}"), String::new(), String::new(), String::new()]
        }
        Body::Known(Event::CredentialUsed(used)) => [
            "attached".to_owned(),
            String::new(),
            used.host.clone(),
            String::new(),
            String::new(),
            format!("credential {} ({}), token {}, flow {}", used.credential, used.attach, used.token, used.flow),
        ],
        Body::Known(Event::AuditCheckpoint { .. } | Event::AuditRecovered { .. }) | Body::Unknown(_) => {
            Default::default()
        }
    };
    row.extend(rest.iter().map(|text| clean(text)));
    row
}
