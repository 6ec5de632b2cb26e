//! Rounds, medians and the table.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader},
    os::unix::fs::MetadataExt,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use comfy_table::Table;
use serde::Serialize;

use crate::{
    contenders::{ORIGIN, Server, Setting, Side},
    load::Measured,
    meter,
};

/// How the comparison is run.
#[derive(Args)]
pub struct Compare {
    /// Rounds; the table shows medians over them.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
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
    /// Print JSON instead of the table.
    #[arg(long)]
    json: bool,
    /// Already inside the benchmark's own namespace.
    #[arg(long, hide = true)]
    inside: bool,
}

/// The medians of one side.
#[derive(Debug, Default, Clone, Serialize)]
struct Figures {
    bulk_mb_s: f64,
    bulk_cpu_s_per_gb: f64,
    new_p50_us: f64,
    new_p99_us: f64,
    new_per_s_16: f64,
    kept_p50_us: f64,
    idle_mib_per_1000: f64,
}

/// Runs the comparison, first moving into a network namespace of its own.
pub fn compare(compare: &Compare) -> Result<()> {
    if !compare.inside {
        return enter_namespace();
    }
    for arguments in [["link", "set", "lo", "up"].as_slice(), &["address", "add", "203.0.113.1/32", "dev", "lo"]] {
        ensure!(Command::new("ip").args(arguments).status()?.success(), "ip {arguments:?} failed");
    }
    // Short connections leave ports in TIME_WAIT; without these settings every side soon waits for a free one.
    fs::write("/proc/sys/net/ipv4/ip_local_port_range", "10000 65000")?;
    fs::write("/proc/sys/net/ipv4/tcp_max_tw_buckets", "1000")?;
    let own = env::current_exe()?;
    let cofferdam = compare.cofferdam.clone().unwrap_or_else(|| own.with_file_name("cofferdam"));
    ensure!(cofferdam.exists(), "{} is missing: build it first", cofferdam.display());
    let folder = tempfile::tempdir()?;
    let setting = Setting { cofferdam, own, folder: folder.path().to_owned() };
    let origin = setting.start_origin()?;
    let mut rounds: BTreeMap<&str, Vec<Figures>> = BTreeMap::new();
    for round in 0..compare.rounds {
        for side in Side::ALL {
            eprintln!("round {} of {}: {}", round + 1, compare.rounds, side.name());
            let server = setting.start_server(side)?;
            let figures = measure(compare, &setting, side, server.as_ref());
            rounds.entry(side.name()).or_default().push(figures);
        }
    }
    drop(origin);
    print(compare, &rounds)
}

fn enter_namespace() -> Result<()> {
    // As root no user namespace is needed, and Squid wants to change to its own user.
    let root = fs::metadata("/proc/self")?.uid() == 0;
    let user: &[&str] = if root { &[] } else { &["--user", "--map-root-user"] };
    let status = Command::new("unshare")
        .args(user)
        .args(["--net", "--mount", "--"])
        .arg(env::current_exe()?)
        .args(env::args_os().skip(1))
        .arg("--inside")
        .status()
        .context("starting unshare (util-linux)")?;
    ensure!(status.success(), "the comparison failed");
    Ok(())
}

/// A side that fails under one load has no figure there, which the table shows; the others are still measured.
fn measure(compare: &Compare, setting: &Setting, side: Side, server: Option<&Server>) -> Figures {
    let bytes = compare.gigabytes * 1_000_000_000;
    let tried = |arguments: &[&str]| {
        once(setting, side, server, arguments).unwrap_or_else(|error| {
            eprintln!("{}: {arguments:?}: {error:#}", side.name());
            (Measured::MISSING, f64::NAN)
        })
    };
    let (bulk, bulk_cpu) = tried(&["--shape", "bulk", "--bytes", &bytes.to_string()]);
    let (new, _) = tried(&["--shape", "new", "--count", &(compare.connections / 10).to_string()]);
    let (rate, _) = tried(&["--shape", "new", "--clients", "16", "--count", &compare.connections.to_string()]);
    let (kept, _) = tried(&["--shape", "kept", "--count", &compare.round_trips.to_string()]);
    Figures {
        bulk_mb_s: bulk.bytes as f64 / 1e6 / bulk.seconds,
        bulk_cpu_s_per_gb: bulk_cpu / compare.gigabytes as f64,
        new_p50_us: new.p50_us,
        new_p99_us: new.p99_us,
        new_per_s_16: rate.done as f64 / rate.seconds,
        kept_p50_us: kept.p50_us,
        idle_mib_per_1000: idle(compare, setting, side, server).unwrap_or_else(|error| {
            eprintln!("{}: idle: {error:#}", side.name());
            f64::NAN
        }),
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

fn median(mut values: Vec<f64>) -> f64 {
    values.retain(|value| value.is_finite());
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn print(compare: &Compare, rounds: &BTreeMap<&str, Vec<Figures>>) -> Result<()> {
    let of = |name: &str, pick: fn(&Figures) -> f64| {
        median(rounds.get(name).map(|all| all.iter().map(pick).collect()).unwrap_or_default())
    };
    let mut medians = Vec::new();
    for side in Side::ALL {
        let name = side.name();
        medians.push((
            name,
            Figures {
                bulk_mb_s: of(name, |f| f.bulk_mb_s),
                bulk_cpu_s_per_gb: of(name, |f| f.bulk_cpu_s_per_gb),
                new_p50_us: of(name, |f| f.new_p50_us),
                new_p99_us: of(name, |f| f.new_p99_us),
                new_per_s_16: of(name, |f| f.new_per_s_16),
                kept_p50_us: of(name, |f| f.kept_p50_us),
                idle_mib_per_1000: of(name, |f| f.idle_mib_per_1000),
            },
        ));
    }
    if compare.json {
        println!("{}", serde_json::to_string_pretty(&medians)?);
        return Ok(());
    }
    let mut table = Table::new();
    table.set_header([
        "side",
        "MB/s, 1 stream",
        "× direct",
        "CPU s/GB",
        "new p50 µs",
        "new p99 µs",
        "new/s, 16",
        "kept p50 µs",
        "MiB / 1,000 idle",
    ]);
    let direct = medians.first().map(|(_, f)| f.clone()).unwrap_or_default();
    for (name, f) in &medians {
        table.add_row([
            (*name).to_owned(),
            format!("{:.0}", f.bulk_mb_s),
            format!("{:.2}", f.bulk_mb_s / direct.bulk_mb_s),
            format!("{:.2}", f.bulk_cpu_s_per_gb),
            format!("{:.1} (+{:.1})", f.new_p50_us, f.new_p50_us - direct.new_p50_us),
            format!("{:.0}", f.new_p99_us),
            format!("{:.0}", f.new_per_s_16),
            format!("{:.1} (+{:.1})", f.kept_p50_us, f.kept_p50_us - direct.kept_p50_us),
            format!("{:.2}", f.idle_mib_per_1000),
        ]);
    }
    println!("medians of {} rounds, origin {ORIGIN}\n{table}", compare.rounds);
    Ok(())
}
