//! `explain`: what a policy would do to a flow, by the evaluator of the wire.

use std::{net::IpAddr, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::{ArgGroup, Args, ValueHint};
use jiff::Timestamp;
use policy::{Conclusion, Explanation, Outcome, model::ProcessMatch};
use policy_file::{Destination, NEUTRAL_ADDRESS};
use values::Labels;

use super::records::RecordArguments;
use crate::{
    failure::{Failure, code},
    output::{Colour, Style, print, print_json},
};

const EXAMPLES: &str = "\
Examples:
  cofferdam policy explain policy.yaml --to https://api.example.com/v1
  cofferdam policy explain policy.yaml --to db.corp.example:5432 --from team=sre
  cofferdam policy explain policy.yaml --to wiki.example:443 --address 10.20.0.5
  cofferdam policy explain policy.yaml --to http://example.com/x --method POST
  cofferdam policy explain policy.yaml --event 42     of the newest run
";

/// `explain`
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, group = ArgGroup::new("flow").required(true).args(["to", "event"]))]
pub(crate) struct Arguments {
    /// The policy; `-` is standard input.
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: PathBuf,
    /// Where the flow goes: HOST:PORT, ADDRESS:PORT, or a URL (http, https, tcp, udp, icmp).
    #[arg(long, value_name = "WHERE")]
    to: Option<String>,
    /// A label of the sandbox. `source=run` where none is given.
    #[arg(long, value_name = "KEY=VALUE")]
    from: Vec<String>,
    /// The method of the request, where the policy looks at it: plain HTTP, or in opened TLS. GET where not given.
    #[arg(long, value_name = "METHOD", conflicts_with = "event")]
    method: Option<String>,
    /// The executable that opens the flow.
    #[arg(long, value_name = "EXE", conflicts_with = "event")]
    process: Option<String>,
    /// The address that the name resolves to; a public one where not given.
    #[arg(long, value_name = "IP", conflicts_with = "event")]
    address: Option<IpAddr>,
    /// A recorded flow in place of --to, by its sequence number.
    #[arg(long, value_name = "SEQ")]
    event: Option<u64>,
    #[command(flatten)]
    record: RecordArguments,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn explain(arguments: &Arguments) -> Result<ExitCode> {
    let compiled = super::as_a_run_would(&arguments.file)?;
    let labels = labels(&arguments.from)?;
    let (flow, what) = match arguments.event {
        Some(seq) => (arguments.record.flow(seq, &compiled, &labels)?, format!("event {seq}")),
        None => {
            let text = arguments.to.as_deref().context("--to is missing")?;
            let to =
                Destination::parse(text).map_err(|error| Failure::new(code::USAGE, format!("--to {text}: {error}")))?;
            let process = arguments.process.as_ref().map(|path| ProcessMatch::Executable(path.clone()));
            let method = arguments.method.as_deref();
            let now = Timestamp::now();
            (
                policy_file::facts_from(&compiled, &to, &labels, method, process.as_ref(), arguments.address, now),
                to.to_string(),
            )
        }
    };
    let explanation = flow.explain(&compiled);
    match arguments.json {
        true => print_json(&explanation)?,
        false => print(&for_people(&what, &explanation))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Labels from `key=value` texts.
pub(super) fn labels(texts: &[String]) -> Result<Labels> {
    if texts.is_empty() {
        return Ok(Labels::from_pairs([("source", "run")]));
    }
    let pairs = texts.iter().map(|text| {
        text.split_once('=').ok_or_else(|| Failure::new(code::USAGE, format!("--from {text}: expected KEY=VALUE")))
    });
    Ok(Labels::from_pairs(pairs.collect::<Result<Vec<_>, _>>()?))
}

fn for_people(what: &str, explanation: &Explanation) -> String {
    let style = Style::of_stdout();
    let mut text = String::new();
    let width = explanation.tried.iter().map(|tried| tried.rule.as_str().len()).max().unwrap_or(0);
    for tried in &explanation.tried {
        let (mark, colour) = match tried.outcome {
            Outcome::Decided => ("▶", Colour::Cyan),
            Outcome::Noted => ("◦", Colour::Yellow),
            Outcome::Matched | Outcome::Undetermined => ("?", Colour::Yellow),
            Outcome::NoMatch | Outcome::Skipped | Outcome::NotReached => ("·", Colour::Dim),
        };
        let priority = tried.priority.map(|priority| priority.to_string()).unwrap_or_default();
        let line = format!("{mark} {priority:>6}  {:<width$}  {:<5}  {}", tried.rule.as_str(), tried.action, tried.why);
        text.push_str(&style.paint(line.trim_end(), colour));
        text.push('\n');
    }
    match &explanation.conclusion {
        Conclusion::Decided { verdict, rule, layer, reason, would, route, credential, .. } => {
            let colour = match verdict {
                policy::Verdict::Allowed => Colour::Green,
                policy::Verdict::Asked => Colour::Yellow,
                policy::Verdict::Denied => Colour::Red,
            };
            text.push_str(&format!(
                "\n{what}: {} by {rule} ({} layer): {reason}\n",
                style.paint(verdict.as_str(), colour),
                layer.as_str()
            ));
            for would in would {
                text.push_str(&format!("  watched: {} by {}\n", would.verdict.as_str(), would.rule));
            }
            if let Some(route) = route {
                text.push_str(&format!("  route: {route}\n"));
            }
            if let Some(credential) = credential {
                text.push_str(&format!("  credential: {credential}\n"));
            }
        }
        Conclusion::Needs { needs } => text.push_str(&format!("\n{what}: not decided without the fact {needs:?}\n")),
    }
    if text.contains(&format!("({NEUTRAL_ADDRESS})")) {
        text.push_str(&format!(
            "  nothing was resolved: {NEUTRAL_ADDRESS} stands for a public address; --address IP says another\n"
        ));
    }
    text
}
