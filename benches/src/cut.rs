//! A new policy with many open connections: how long until the last one that it denies is cut.
//!
//! The whole product runs: `cofferdam run` with a program inside that keeps the connections open, and the control
//! socket that `cofferdam policy apply` uses. The clock starts when the policy is put in force, by the run's own
//! account of how long it read and compiled, and ends when the client has seen its last connection end.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Deserialize;
use serde_json::json;

use crate::{
    compare::beside,
    crowd,
    figure::{self, Figure, Part, percentile},
    machine::Watch,
    namespace,
};

/// Where the connections go that stay, and those that are cut.
const STAY: &str = "203.0.113.1:9000";
const CUT: &str = "203.0.113.1:9001";

/// How cutting is measured.
#[derive(Args)]
pub struct Cut {
    /// Open connections.
    #[arg(long, default_value_t = 10_000)]
    open: usize,
    /// Of these, how many the policy denies.
    #[arg(long, default_value_t = 100)]
    cut: usize,
    /// How often it is applied.
    #[arg(long, default_value_t = 120)]
    times: usize,
    /// How often all are cut.
    #[arg(long, default_value_t = 7)]
    all_times: usize,
    /// How often each policy of many rules is applied.
    #[arg(long, default_value_t = 5)]
    large_times: usize,
    /// The `cofferdam` program; beside this one unless given.
    #[arg(long)]
    cofferdam: Option<PathBuf>,
    /// Print JSON instead of the table.
    #[arg(long)]
    json: bool,
    /// Already inside the benchmark's own namespace.
    #[arg(long, hide = true)]
    inside: bool,
}

/// What the run answers to a new policy.
#[derive(Debug, Clone, Deserialize)]
struct Applied {
    rejudged: u64,
    cut: u64,
    parsed_us: f64,
    in_force_us: f64,
    took_us: f64,
}

/// One policy with connections to cut.
struct Once {
    /// From the request at the control socket.
    asked_ms: f64,
    /// From the policy in force to the last end that the client saw.
    seen_ms: f64,
    /// From the policy in force to the last cut, by the gateway's own clock.
    took_ms: f64,
}

/// Measures, first moving into a network namespace of its own.
pub fn run(cut: &Cut) -> Result<()> {
    if !cut.inside {
        return namespace::enter();
    }
    namespace::prepare()?;
    crowd::raise_limit()?;
    let own = env::current_exe()?;
    let cofferdam = beside(&own, cut.cofferdam.as_deref())?;
    let folder = tempfile::tempdir()?;
    // Root raises the hard limit where it may; a container often may not.
    let open = cut.open.min(crowd::room());
    if open < cut.open {
        eprintln!(
            "{open} connections instead of {}: the hard limit on open files (ulimit -Hn) leaves no room",
            cut.open
        );
    }
    let watch = Watch::start();
    let server = Server::start(&own)?;
    let mut product = Product::start(&own, &cofferdam, folder.path())?;
    let few = (0..cut.times).map(|time| {
        progress("few", time, cut.times);
        product.once(open, cut.cut, &policy("[9000]"), cut.cut as u64)
    });
    let few: Vec<Once> = few.collect::<Result<_>>()?;
    let bytes = product.check()?;
    ensure!(bytes > 0, "the streams moved nothing");
    let all = (0..cut.all_times).map(|time| {
        progress("all", time, cut.all_times);
        product.once(0, open, &policy("[9]"), open as u64)
    });
    let all: Vec<Once> = all.collect::<Result<_>>()?;
    let large = [10_000, 100_000].map(|rules| (rules, product.large(rules, cut.large_times)));
    drop((product, server));
    let mut figures = goals(open, cut.cut, &few, &all);
    let mut applied = Vec::new();
    for (rules, times) in large {
        let times = times?;
        let parsed = figure::median(times.iter().map(|applied| applied.parsed_us / 1000.0).collect());
        let in_force: Vec<f64> = times.iter().map(|applied| (applied.in_force_us + applied.took_us) / 1000.0).collect();
        let goal = f64::from(rules) / 2000.0;
        figures.push(
            Figure::at_most(format!("parsed policy to in force, {rules} rules"), goal, "ms", &in_force)
                .noted(format!("its text was read in {parsed:.1} ms")),
        );
        applied.push(json!({ "rules": rules, "parsed_ms": parsed, "in_force_ms": figure::median(in_force) }));
    }
    let asked = |all: &[Once]| figure::median(all.iter().map(|once| once.asked_ms).collect());
    let details = json!({
        "streamed_bytes_exact": bytes, "asked_to_last_cut_ms": asked(&few), "asked_to_all_cut_ms": asked(&all), "policies": applied,
    });
    figure::print(cut.json, &Part { machine: watch.end(), figures, details })
}

fn progress(what: &str, time: usize, times: usize) {
    if time.is_multiple_of(20) {
        eprintln!("{what}: {time} of {times}");
    }
}

fn goals(open: usize, cut: usize, few: &[Once], all: &[Once]) -> Vec<Figure> {
    let of = |all: &[Once], pick: fn(&Once) -> f64| all.iter().map(pick).collect::<Vec<f64>>();
    let p99 = percentile(of(few, |once| once.seen_ms), 99);
    let note = |all: &[Once]| {
        let median = |pick| figure::median(of(all, pick));
        format!(
            "p50 {:.1}; the gateway's own account {:.1}; from the request {:.1}",
            median(|once| once.seen_ms),
            median(|once| once.took_ms),
            median(|once| once.asked_ms)
        )
    };
    let what = format!("new policy, {open} open: to the last of {cut} cuts, p99 of {}", few.len());
    vec![
        Figure::at_most(what, 5.0, "ms", &[p99]).noted(note(few)),
        Figure::at_most(format!("the same, cutting all {open}"), 150.0, "ms", &of(all, |once| once.seen_ms))
            .noted(note(all)),
    ]
}

fn policy(ports: &str) -> String {
    format!(
        "apiVersion: cofferdam/v1\nkind: EgressPolicy\nmetadata: {{ name: benchmark }}\nspec:\n  mode: limited\n  rules:\n    - {{ name: origin, priority: 10, from: any, to: {{ cidrs: [203.0.113.1/32] }}, ports: {ports}, action: allow }}\n"
    )
}

/// The server that all is open to.
struct Server(Child);

impl Server {
    fn start(own: &Path) -> Result<Self> {
        let mut command = Command::new(own);
        command.args(["echo", "--listen", STAY, "--listen", CUT]).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
        ensure!(line.trim() == "ready", "the server did not start");
        Ok(Self(child))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to stop.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A run of the product with the clients in it.
struct Product {
    child: Child,
    say: Option<ChildStdin>,
    hear: BufReader<ChildStdout>,
    folder: PathBuf,
}

impl Product {
    fn start(own: &Path, cofferdam: &Path, folder: &Path) -> Result<Self> {
        let both = folder.join("both.yaml");
        fs::write(&both, policy("[9000, 9001]"))?;
        fs::create_dir_all(folder.join("work"))?;
        let mut command = Command::new(cofferdam);
        command.env("XDG_STATE_HOME", folder.join("state")).env("XDG_RUNTIME_DIR", folder);
        command.args(["run", "--quiet", "--policy"]).arg(&both).arg("--workdir").arg(folder.join("work"));
        command.args(["--mount", &format!("{}:{}:ro", own.display(), own.display()), "--"]).arg(own);
        command.args(["crowd", "--stay", STAY, "--cut", CUT]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let say = Some(child.stdin.take().context("no input")?);
        let hear = BufReader::new(child.stdout.take().context("no output")?);
        let mut product = Self { child, say, hear, folder: folder.to_owned() };
        ensure!(product.line()? == "ready", "the clients did not start");
        Ok(product)
    }

    /// Opens what is missing, applies a policy that denies some, waits until all of these have ended.
    fn once(&mut self, stay: usize, cut: usize, denying: &str, denied: u64) -> Result<Once> {
        self.apply(&policy("[9000, 9001]"))?;
        let opened = self.ask(&format!("open {} {cut}", stay.saturating_sub(cut)))?;
        ensure!(opened == format!("opened {}", stay.max(cut)), "{opened}");
        ensure!(self.ask(&format!("watch {cut}"))? == "watching", "the clients don't watch");
        let start = crowd::nanoseconds();
        let applied = self.apply(denying)?;
        let line = self.line()?;
        let mut words = line.split_whitespace().skip(1).map(str::parse::<u64>);
        let ended = words.next().context("no count")??;
        let last = words.next().context("no time")??;
        ensure!(
            ended == denied && applied.cut == denied && applied.rejudged >= denied,
            "{ended} ended, {} cut of {}",
            applied.cut,
            applied.rejudged
        );
        let asked_ms = last.saturating_sub(start) as f64 / 1e6;
        let before_ms = (applied.parsed_us + applied.in_force_us) / 1000.0;
        Ok(Once { asked_ms, seen_ms: asked_ms - before_ms, took_ms: applied.took_us / 1000.0 })
    }

    /// Every byte that the allowed streams sent came back, and the idle ones that were allowed are open.
    fn check(&mut self) -> Result<u64> {
        let line = self.ask("check")?;
        line.strip_prefix("bytes ").with_context(|| format!("the streams: {line:?}"))?.parse().context("no count")
    }

    /// Applies a policy of many rules.
    fn large(&mut self, rules: u32, times: usize) -> Result<Vec<Applied>> {
        let mut text = policy("[9000, 9001]");
        for number in 0..rules {
            let priority = 11 + number;
            text.push_str(&format!(
                "    - {{ name: r{number}, priority: {priority}, from: any, to: {{ hosts: [h{number}.example.com] }}, ports: [443], action: allow }}\n"
            ));
        }
        (0..times).map(|_| self.apply(&text)).collect()
    }

    fn ask(&mut self, what: &str) -> Result<String> {
        let say = self.say.as_mut().context("the run is over")?;
        writeln!(say, "{what}")?;
        self.line()
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.hear.read_line(&mut line)?;
        ensure!(!line.is_empty(), "the clients ended");
        Ok(line.trim_end().to_owned())
    }

    /// What `cofferdam policy apply` does, without starting a program for it.
    fn apply(&self, text: &str) -> Result<Applied> {
        let path = self.folder.join("applied.yaml");
        let request = json!({ "apply": { "text": text, "path": path } });
        let mut stream = UnixStream::connect(self.socket()?)?;
        stream.write_all(format!("{request}\n").as_bytes())?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        let answer: serde_json::Value = serde_json::from_str(&line)?;
        let applied = answer.get("applied").cloned().with_context(|| format!("the policy is refused: {line}"))?;
        Ok(serde_json::from_value(applied)?)
    }

    fn socket(&self) -> Result<PathBuf> {
        let folder = self.folder.join("cofferdam");
        let mut found = fs::read_dir(&folder)?.filter_map(|entry| Some(entry.ok()?.path()));
        found.find(|path| path.extension().is_some_and(|end| end == "sock")).context("the run has no socket")
    }
}

impl Drop for Product {
    fn drop(&mut self) {
        // Its end of the workload's input; the run ends with it.
        drop(self.say.take());
        let _ = self.child.wait();
    }
}
