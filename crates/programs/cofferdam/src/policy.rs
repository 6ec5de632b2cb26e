//! `policy`: write, check, explain, learn, apply. All but `apply` work without a run or a server.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Result, bail};
use clap::{Args, Subcommand, ValueHint};
use jiff::Timestamp;
use policy::{CompiledPolicy, OwnAddresses};
use serde_json::json;
use values::Revision;

use crate::{
    completions,
    config::Config,
    control::{self, Request, Response},
    failure::{Failure, code},
    managed_path,
    output::{Colour, Style, count, note, print, print_json, print_line},
    runs::Runs,
    source,
};

/// `diff`: what changes between two policies.
mod diff;
/// `explain`: every rule tried, and why.
mod explain;
/// `learn`, `replay`: what records say about policies.
mod records;

/// `policy`
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Print a policy to start from.
    Init(InitArguments),
    /// Check a policy: form, names, groups, lists. Exit 7 where it is invalid.
    #[command(before_help = VALIDATE_EXAMPLES)]
    Validate(FileArguments),
    /// Run a policy's own tests. Exit 7 where one fails or the file is invalid.
    #[command(before_help = TEST_EXAMPLES)]
    Test(FileArguments),
    /// Say what a policy would do to a flow: every rule tried, and why it did or did not match.
    Explain(Box<explain::Arguments>),
    /// Show what changes between two policies. Exit 1 where they differ.
    Diff(diff::Arguments),
    /// Judge recorded flows by a policy and show what would change.
    Replay(records::ReplayArguments),
    /// Propose a policy from what was recorded.
    Learn(records::LearnArguments),
    /// Put a policy in force in a live run; open connections are judged again.
    Apply(ApplyArguments),
    /// Print the JSON Schema of policy files.
    Schema,
}

#[derive(Debug, Args)]
#[command(
    before_help = "Examples:\n  cofferdam policy init > policy.yaml\n  cofferdam policy init --preset agent-containment > policy.yaml\n"
)]
pub(crate) struct InitArguments {
    /// Where to start: open, balanced, locked-down, or the pack agent-containment.
    #[arg(long, value_name = "NAME", default_value = "locked-down", add = completions::ready_policies())]
    preset: String,
}

const VALIDATE_EXAMPLES: &str = "\
Examples:
  cofferdam policy validate policy.yaml
  cofferdam policy validate - --json < policy.yaml
";
const TEST_EXAMPLES: &str = "\
Examples:
  cofferdam policy test policy.yaml
  cofferdam policy test - --json < policy.yaml
";

/// `validate`, `test`
#[derive(Debug, Args)]
pub(crate) struct FileArguments {
    /// The policy; `-` is standard input.
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: PathBuf,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(
    before_help = "Examples:\n  cofferdam policy apply policy.yaml --run 7f3a92c1\n  cofferdam policy apply policy.yaml       the newest run\n"
)]
pub(crate) struct ApplyArguments {
    /// The policy.
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: PathBuf,
    /// The run; the newest live one where not given.
    #[arg(long, value_name = "RUN", add = completions::live_runs())]
    run: Option<String>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(action: Action) -> Result<ExitCode> {
    match action {
        Action::Init(arguments) => init(&arguments),
        Action::Validate(arguments) => validate(&arguments),
        Action::Test(arguments) => test(&arguments),
        Action::Explain(arguments) => explain::explain(&arguments),
        Action::Diff(arguments) => diff::diff(&arguments),
        Action::Replay(arguments) => records::replay(&arguments),
        Action::Learn(arguments) => records::learn(&arguments),
        Action::Apply(arguments) => apply(&arguments),
        Action::Schema => print_json(policy_file::schema()).map(|()| ExitCode::SUCCESS),
    }
}

fn init(arguments: &InitArguments) -> Result<ExitCode> {
    let ready = policy_file::presets::find(&arguments.preset).ok_or_else(|| {
        let known: Vec<&str> = policy_file::presets::all().iter().map(|ready| ready.name).collect();
        Failure::new(code::USAGE, format!("there is no preset {:?}", arguments.preset))
            .hint(format!("known: {}", known.join(", ")))
    })?;
    print(ready.text)?;
    Ok(ExitCode::SUCCESS)
}

fn validate(arguments: &FileArguments) -> Result<ExitCode> {
    if arguments.json {
        return validate_as_json(arguments);
    }
    let source = source::read_or_fail(&arguments.file)?;
    eprint!("{}", source::draw(&source.file.warnings, &source.text));
    let missing = source.check().map_err(|refusal| refusal.into_failure(&source.name, code::INVALID))?;
    for file in &missing {
        note(file);
    }
    for doubt in source.doubts() {
        note(&doubt);
    }
    let spec = &source.file.spec;
    let parts =
        [count(spec.rules.len(), "rule"), count(spec.groups.len(), "group"), count(source.file.tests.len(), "test")];
    if missing.is_empty() {
        print_line(&format!("{}: valid: {}", source.name, parts.join(", ")))?;
        return Ok(ExitCode::SUCCESS);
    }
    print_line(&format!("{}: well-formed: {}", source.name, parts.join(", ")))?;
    let what = format!("{} can't be used here: {} can't be read", source.name, count(missing.len(), "file"));
    Err(Failure::new(code::INVALID, what)
        .hint(
            "put the files there (paths are relative to the policy's folder); in place of a list, a group may have hosts and cidrs",
        )
        .into())
}

/// Findings with their places, for editors and pipelines.
fn validate_as_json(arguments: &FileArguments) -> Result<ExitCode> {
    let name = arguments.file.display().to_string();
    let bytes = source::read_bytes(&arguments.file)?;
    let mut doubts = Vec::new();
    let (valid, findings, compile, missing) = match policy_file::parse(&name, &bytes) {
        Err(found) => (false, found, None, Vec::new()),
        Ok(file) => {
            let folder = std::path::absolute(&arguments.file)?.parent().map(Path::to_path_buf).unwrap_or_default();
            let found = file.warnings;
            let compiled = source::parse(&name, &bytes, folder).and_then(|source| {
                doubts = source.doubts();
                source.check()
            });
            match compiled {
                Ok(missing) => (missing.is_empty(), found, None, missing),
                Err(refusal) => (false, found, Some(refusal.drawing), Vec::new()),
            }
        }
    };
    print_json(&json!({
        "file": name, "valid": valid, "findings": findings.items, "compile": compile, "missing": missing,
        "doubts": doubts,
    }))?;
    Ok(if valid { ExitCode::SUCCESS } else { ExitCode::from(code::INVALID) })
}

fn test(arguments: &FileArguments) -> Result<ExitCode> {
    let source = source::read_or_fail(&arguments.file)?;
    let compiled = source
        .compile(OwnAddresses::default(), Revision(1))
        .map_err(|refusal| refusal.into_failure(&source.name, code::INVALID))?;
    let outcomes = policy_file::run_tests(&compiled, &source.file.tests, Timestamp::now());
    let failed = outcomes.iter().filter(|outcome| !outcome.passed).count();
    if arguments.json {
        print_json(&json!({"file": source.name, "passed": failed == 0, "tests": outcomes}))?;
    } else {
        let style = Style::of_stdout();
        for outcome in &outcomes {
            match outcome.passed {
                true => print_line(&format!(
                    "{} {} {} by {}{}",
                    style.paint("ok  ", Colour::Green),
                    outcome.to,
                    outcome.verdict.as_str(),
                    outcome.rule,
                    outcome.credential.as_ref().map(|name| format!(" with credential {name}")).unwrap_or_default()
                ))?,
                false => print_line(&format!("{} {}", style.paint("FAIL", Colour::Red), source.describe(outcome)))?,
            }
        }
        print_line(&match outcomes.len() {
            0 => format!("{}: no tests; they stand under `tests:`, and `policy learn` proposes some", source.name),
            all => format!("{}: {} passed, {failed} failed", source.name, all - failed),
        })?;
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(code::INVALID) })
}

fn apply(arguments: &ApplyArguments) -> Result<ExitCode> {
    let runs = Runs::of(&Config::load()?);
    let run =
        match &arguments.run {
            Some(text) => runs.find(text)?,
            None => runs.all()?.into_iter().find(crate::runs::Run::is_live).ok_or_else(|| {
                Failure::new(code::NOT_FOUND, "there is no live run").hint("`cofferdam ps` lists runs")
            })?,
        };
    if !run.is_live() {
        return Err(run.ended().into());
    }
    // Checked here first: an error is then drawn with this terminal's colours, and costs the run nothing.
    let source = source::read_or_fail(&arguments.file)?;
    let path = std::path::absolute(&arguments.file)?;
    // What any live workload may have written is no policy of this person's.
    for live in runs.all()?.iter().filter(|run| run.is_live()) {
        if let Err(reason) = live.read()?.guard.check(&path) {
            let what = format!("{} can't be applied: {reason} of run {}", path.display(), live.id.short());
            let hint = "read it, copy it to a folder that no sandbox can write, and apply the copy";
            return Err(Failure::new(code::INVALID, what).hint(hint).into());
        }
    }
    if let Some(found) = runs.replaced()?.iter().find(|replaced| replaced.is(&path)) {
        let what = format!(
            "{} can't be applied: it was replaced while run {} ran, whose command could write it from then on",
            path.display(),
            found.run
        );
        let hint = "read it; when it says what you want, save it again (or touch it)";
        return Err(Failure::new(code::INVALID, what).hint(hint).into());
    }
    match control::ask(&runs.socket(&run), &Request::Apply { text: source.text, path })? {
        Response::Applied { revision, rejudged, cut, parsed_us, in_force_us, took_us } => {
            if arguments.json {
                print_json(&json!({
                    "run": run.id.short(), "revision": revision, "rejudged": rejudged, "cut": cut,
                    "parsed_us": parsed_us, "in_force_us": in_force_us, "took_us": took_us,
                }))?;
            } else {
                let took = format!("{}.{:03} ms", took_us / 1000, took_us % 1000);
                print_line(&format!(
                    "run {}: revision {revision} in force; {} judged again, {cut} cut, in {took}",
                    run.id.short(),
                    count(rejudged, "open connection")
                ))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Response::Refused { reason } => {
            eprint!("{reason}");
            Err(Failure::new(code::INVALID, format!("run {} keeps its policy", run.id.short())).into())
        }
        Response::Stopping => bail!("the run is ending"),
    }
}

/// A policy compiled as a run on this machine would: this host's own addresses, and the registries that the last run found.
fn as_a_run_would(path: &Path) -> Result<CompiledPolicy> {
    let mut source = source::read_or_fail(path)?;
    for toggle in managed_path::fill_from_memory(Arc::make_mut(&mut source.file.spec), &Config::load()?)? {
        note(&format!("the hosts of the managed path {toggle} are found when a run starts; none has yet"));
    }
    let compiled = source.compile(source::own_addresses(), Revision(1));
    compiled.map_err(|refusal| refusal.into_failure(&source.name, code::INVALID).into())
}
