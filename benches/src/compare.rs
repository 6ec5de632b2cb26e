//! All sides under all loads, by round.

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};

use crate::{
    contenders::{Server, Setting, Side},
    load::Measured,
    machine::Watch,
    meter, namespace,
    report::{self, Figures},
    word,
};

/// How the comparison is run.
#[derive(Args)]
pub struct Compare {
    /// Rounds; the table shows medians over them.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only these sides.
    #[arg(long, value_delimiter = ',', default_values_t = Side::ALL)]
    sides: Vec<Side>,
    /// Only these loads.
    #[arg(long, value_delimiter = ',', default_values_t = Kind::ALL)]
    loads: Vec<Kind>,
    /// Gigabytes of one bulk stream.
    #[arg(long, default_value_t = 4)]
    gigabytes: u64,
    /// New connections of one round.
    #[arg(long, default_value_t = 20_000)]
    connections: usize,
    /// Round trips of one kept connection.
    #[arg(long, default_value_t = 20_000)]
    round_trips: usize,
    /// Idle tunnels.
    #[arg(long, default_value_t = 1_000)]
    idle: usize,
    /// The `cofferdam` program; beside this one unless given.
    #[arg(long)]
    cofferdam: Option<PathBuf>,
    /// Print JSON instead of the tables.
    #[arg(long)]
    json: bool,
    /// Already inside the benchmark's own namespace.
    #[arg(long, hide = true)]
    inside: bool,
}

/// A load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// One large stream.
    Bulk,
    /// New connections, one after the other.
    New,
    /// New connections of 16 clients.
    Rate,
    /// Round trips of one kept connection.
    Kept,
    /// Memory of idle tunnels.
    Idle,
}

impl Kind {
    const ALL: [Kind; 5] = [Kind::Bulk, Kind::New, Kind::Rate, Kind::Kept, Kind::Idle];
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        word::write(self, f)
    }
}

/// Runs the comparison, first moving into a network namespace of its own.
pub fn run(compare: &Compare) -> Result<()> {
    if !compare.inside {
        return namespace::enter();
    }
    namespace::prepare()?;
    let own = env::current_exe()?;
    let cofferdam = beside(&own, compare.cofferdam.as_deref())?;
    let folder = tempfile::tempdir()?;
    let setting = Setting { cofferdam, own, folder: folder.path().to_owned() };
    let (sides, left_out) = installed(&compare.sides);
    let origin = setting.start_origin()?;
    let watch = Watch::start();
    let mut rounds: BTreeMap<Side, Vec<Figures>> = BTreeMap::new();
    for round in 0..compare.rounds {
        for side in sides.iter().copied() {
            eprintln!("round {} of {}: {}", round + 1, compare.rounds, side.name());
            let server = setting.start_server(side)?;
            let figures = measure(compare, &setting, side, server.as_ref());
            rounds.entry(side).or_default().push(figures);
        }
    }
    drop(origin);
    report::print(compare.json, watch.end(), &rounds, &left_out)
}

/// The program that was named, or the one beside this one.
pub fn beside(own: &Path, named: Option<&Path>) -> Result<PathBuf> {
    let cofferdam = named.map_or_else(|| own.with_file_name("cofferdam"), Path::to_path_buf);
    ensure!(cofferdam.exists(), "{} is missing: build it first", cofferdam.display());
    // By its whole path: what runs it stands in a folder of its own.
    Ok(cofferdam.canonicalize()?)
}

/// The sides that this machine has, and why it lacks the others.
fn installed(wanted: &[Side]) -> (Vec<Side>, Vec<String>) {
    let (mut sides, mut left_out) = (Vec::new(), Vec::new());
    for side in wanted.iter().copied() {
        match side.missing() {
            None => sides.push(side),
            Some(missing) => {
                eprintln!("{} is left out: {missing}", side.name());
                left_out.push(format!("{}: {missing}", side.name()));
            }
        }
    }
    (sides, left_out)
}

/// A side that fails under one load has no figure there, which the table shows; the others are still measured.
fn measure(compare: &Compare, setting: &Setting, side: Side, server: Option<&Server>) -> Figures {
    let bytes = compare.gigabytes * 1_000_000_000;
    let tried = |kind: Kind, arguments: &[&str]| {
        if !compare.loads.contains(&kind) {
            return (Measured::MISSING, f64::NAN);
        }
        once(setting, side, server, arguments).unwrap_or_else(|error| {
            eprintln!("{}: {arguments:?}: {error:#}", side.name());
            (Measured::MISSING, f64::NAN)
        })
    };
    let connections = compare.connections.to_string();
    let (bulk, bulk_cpu) = tried(Kind::Bulk, &["--shape", "bulk", "--bytes", &bytes.to_string()]);
    let (new, _) = tried(Kind::New, &["--shape", "new", "--count", &(compare.connections / 10).to_string()]);
    let (rate, rate_cpu) = tried(Kind::Rate, &["--shape", "new", "--clients", "16", "--count", &connections]);
    let (kept, _) = tried(Kind::Kept, &["--shape", "kept", "--count", &compare.round_trips.to_string()]);
    let idle = if compare.loads.contains(&Kind::Idle) {
        idle(compare, setting, side, server).unwrap_or_else(|error| {
            eprintln!("{}: idle: {error:#}", side.name());
            f64::NAN
        })
    } else {
        f64::NAN
    };
    Figures {
        bulk_mb_s: bulk.bytes as f64 / 1e6 / bulk.seconds,
        bulk_cpu_s_per_gb: bulk_cpu / compare.gigabytes as f64,
        new_p50_us: new.p50_us,
        new_p99_us: new.p99_us,
        new_per_s_16: rate.done as f64 / rate.seconds,
        new_cpu_us: rate_cpu * 1e6 / rate.done as f64,
        kept_p50_us: kept.p50_us,
        idle_mib_per_1000: idle,
    }
}

/// Runs one load; returns what it measured and the processor seconds of what forwarded it.
fn once(setting: &Setting, side: Side, server: Option<&Server>, arguments: &[&str]) -> Result<(Measured, f64)> {
    let mut arguments: Vec<String> = arguments.iter().map(|&a| a.to_owned()).collect();
    arguments.push("--hold".to_owned());
    let mut command = setting.load(side, &arguments)?;
    let before = server.map_or(Ok(0.0), |s| meter::processor_seconds(&s.pids()))?;
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
    let forwarders = match server {
        Some(server) => server.pids(),
        None => meter::running(&meter::tree(child.id()), &setting.cofferdam),
    };
    let spent = meter::processor_seconds(&forwarders)? - before;
    drop(child.stdin.take());
    ensure!(child.wait()?.success(), "the load failed");
    Ok((serde_json::from_str(&line).with_context(|| format!("reading {line:?}"))?, spent))
}

/// User memory for 1,000 idle tunnels: the difference between none and all.
fn idle(compare: &Compare, setting: &Setting, side: Side, server: Option<&Server>) -> Result<f64> {
    if side == Side::Direct {
        return Ok(0.0);
    }
    let held = |count: usize| -> Result<f64> {
        let arguments = ["--shape", "idle", "--count", &count.to_string()].map(str::to_owned);
        let mut child = setting.load(side, &arguments)?.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
        ensure!(line.trim() == "held", "idle tunnels could not be opened on {}", side.name());
        let pids = match server {
            Some(server) => server.pids(),
            None => meter::running(&meter::tree(child.id()), &setting.cofferdam),
        };
        let memory = meter::memory_mib(&pids)?;
        drop(child.stdin.take());
        child.wait()?;
        Ok(memory)
    };
    let base = held(1)?;
    Ok((held(compare.idle)? - base) * 1000.0 / compare.idle as f64)
}
