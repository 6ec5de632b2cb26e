//! TLS that is opened: Cofferdam beside those who do so too, under the same load in the same minute.
//!
//! The origin speaks TLS with a certificate of the benchmark's own authority. Each side opens the connection, looks at
//! the request and verifies the origin; the client verifies the side. Cofferdam's rule judges method and path, and each
//! request is recorded; the others write no log. `benches inspect --install` fetches mitmproxy first.

/// The client.
mod client;
/// Cofferdam's gateway without a sandbox.
mod gateway;
/// What was found, beside the goals.
mod goals;
/// Everybody's certificates.
mod identity;
/// mitmproxy and where it is.
mod mitmproxy;
/// The TLS server behind every side.
mod origin;
/// Those who open TLS.
mod sides;

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, UdpSocket},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};

pub use self::{
    client::{TlsLoad, run as load},
    gateway::{TlsGateway, serve as serve_gateway},
    origin::{TlsOrigin, serve as serve_origin},
};
use self::{
    goals::Figures,
    identity::Identity,
    sides::{Setting, Side},
};
use crate::{
    compare::beside, contenders::Server, dns, load::Measured, machine::Watch, machine::program, meter, namespace, word,
};

/// How the comparison is run.
#[derive(Args)]
pub struct Inspect {
    /// Rounds; the table shows medians over them.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only these sides.
    #[arg(long, value_delimiter = ',', default_values_t = Side::USUAL)]
    sides: Vec<Side>,
    /// Only these loads.
    #[arg(long, value_delimiter = ',', default_values_t = Kind::ALL)]
    loads: Vec<Kind>,
    /// Seconds of each load.
    #[arg(long, default_value_t = 1.5)]
    seconds: f64,
    /// Megabytes of one large body; one follows the other.
    #[arg(long, default_value_t = 200)]
    megabytes: usize,
    /// Idle connections.
    #[arg(long, default_value_t = 1_000)]
    idle: usize,
    /// The `cofferdam` program; beside this one unless given.
    #[arg(long)]
    cofferdam: Option<PathBuf>,
    /// Install mitmproxy first, where it is missing.
    #[arg(long)]
    install: bool,
    /// The Python that it is installed with.
    #[arg(long, default_value = "python3")]
    python: String,
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
    /// One large body.
    Bulk,
    /// New connections, one after the other.
    New,
    /// New connections of 8 clients.
    Rate,
    /// Requests on one kept connection.
    Kept,
    /// The same with bodies.
    Post,
    /// Requests of 32 clients on kept connections.
    Requests,
    /// Memory of idle connections.
    Idle,
}

impl Kind {
    const ALL: [Kind; 7] = [Kind::Bulk, Kind::New, Kind::Rate, Kind::Kept, Kind::Post, Kind::Requests, Kind::Idle];
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        word::write(self, f)
    }
}

/// Runs the comparison, first moving into a network namespace of its own.
pub fn run(inspect: &Inspect) -> Result<()> {
    if !inspect.inside {
        if inspect.install {
            mitmproxy::install(&inspect.python)?;
        }
        return namespace::enter();
    }
    namespace::prepare()?;
    let own = env::current_exe()?;
    let cofferdam = beside(&own, inspect.cofferdam.as_deref())?;
    let folder = tempfile::tempdir()?;
    // Squid is another user, and looks for its files in there.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711))?;
    answer_names(folder.path())?;
    let identity = Identity::make(folder.path())?;
    let setting = Setting { cofferdam, own, folder: folder.path().to_owned(), identity };
    let (mut sides, mut left_out) = (Vec::new(), Vec::new());
    for side in inspect.sides.iter().copied() {
        match setting.missing(side) {
            None => sides.push(side),
            Some(missing) => {
                eprintln!("{} is left out: {missing}", side.name());
                left_out.push(format!("{}: {missing}", side.name()));
            }
        }
    }
    let origin = setting.start_origin()?;
    let watch = Watch::start();
    let mut rounds: BTreeMap<Side, Vec<Figures>> = BTreeMap::new();
    for round in 0..inspect.rounds {
        for side in sides.iter().copied() {
            eprintln!("round {} of {}: {}", round + 1, inspect.rounds, side.name());
            rounds.entry(side).or_default().push(measure(inspect, &setting, side));
        }
    }
    drop(origin);
    goals::print(inspect.json, watch.end(), &rounds, &left_out, mitmproxy::version())
}

/// Lets every name in this namespace be the origin's.
fn answer_names(folder: &Path) -> Result<()> {
    let file = folder.join("resolv.conf");
    fs::write(&file, "nameserver 127.0.0.1\n")?;
    let mounted = Command::new(program("mount")?).arg("--bind").arg(&file).arg("/etc/resolv.conf").status()?;
    ensure!(mounted.success(), "/etc/resolv.conf could not be covered");
    dns::answer_all(UdpSocket::bind((Ipv4Addr::LOCALHOST, 53))?, Ipv4Addr::new(203, 0, 113, 1));
    Ok(())
}

/// A side that fails under one load has no figure there, which the table shows; the others are still measured.
fn measure(inspect: &Inspect, setting: &Setting, side: Side) -> Figures {
    let server = match setting.start_server(side) {
        Ok(server) => server,
        Err(error) => {
            eprintln!("{}: {error:#}", side.name());
            return Figures::MISSING;
        }
    };
    let seconds = inspect.seconds.to_string();
    let tried = |kind: Kind, arguments: &[&str]| {
        if !inspect.loads.contains(&kind) {
            return Once::MISSING;
        }
        once(setting, side, server.as_ref(), arguments).unwrap_or_else(|error| {
            eprintln!("{}: {arguments:?}: {error:#}", side.name());
            Once::MISSING
        })
    };
    let timed = |kind: Kind, shape: &str, clients: &str| {
        tried(kind, &["--shape", shape, "--clients", clients, "--seconds", &seconds])
    };
    let new = timed(Kind::New, "new", "1");
    let rate = timed(Kind::Rate, "new", "8");
    let kept = timed(Kind::Kept, "kept", "1");
    let post = timed(Kind::Post, "post", "1");
    let requests = timed(Kind::Requests, "kept", "32");
    let large = |megabytes: usize, seconds: &str| {
        let bytes = (megabytes * 1_000_000).to_string();
        tried(Kind::Bulk, &["--shape", "bulk", "--bytes", &bytes, "--seconds", seconds])
    };
    let (small, bulk) = (large(8, "0"), large(inspect.megabytes, &seconds));
    drop(server);
    let idle = if inspect.loads.contains(&Kind::Idle) && side != Side::Direct {
        idle(inspect, setting, side).unwrap_or_else(|error| {
            eprintln!("{}: idle: {error:#}", side.name());
            f64::NAN
        })
    } else {
        f64::NAN
    };
    Figures {
        bulk_mb_s: bulk.measured.bytes as f64 / 1e6 / bulk.measured.seconds,
        bulk_cpu_s_per_gb: bulk.processor * 1e9 / bulk.measured.bytes as f64,
        bulk_grows_mib: bulk.peak_mib - small.peak_mib,
        new_p50_us: new.measured.p50_us,
        new_p99_us: new.measured.p99_us,
        new_per_s_8: rate.measured.done as f64 / rate.measured.seconds,
        new_cpu_us: rate.processor * 1e6 / rate.measured.done as f64,
        kept_p50_us: kept.measured.p50_us,
        kept_p99_us: kept.measured.p99_us,
        post_p50_us: post.measured.p50_us,
        post_p99_us: post.measured.p99_us,
        requests_per_s_32: requests.measured.done as f64 / requests.measured.seconds,
        requests_cpu_us: requests.processor * 1e6 / requests.measured.done as f64,
        idle_mib_per_1000: idle,
    }
}

/// What came of one load.
struct Once {
    measured: Measured,
    /// Processor seconds of what forwarded it.
    processor: f64,
    /// The most memory that this had.
    peak_mib: f64,
}

impl Once {
    const MISSING: Once = Once { measured: Measured::MISSING, processor: f64::NAN, peak_mib: f64::NAN };
}

fn forwarders(setting: &Setting, side: Side, server: Option<&Server>, client: u32) -> Vec<u32> {
    match server {
        Some(server) => server.pids(),
        None if side.is_contained() => meter::running(&meter::tree(client), &setting.cofferdam),
        None => Vec::new(),
    }
}

/// Runs one load.
fn once(setting: &Setting, side: Side, server: Option<&Server>, arguments: &[&str]) -> Result<Once> {
    let mut arguments: Vec<String> = arguments.iter().map(|&a| a.to_owned()).collect();
    arguments.push("--hold".to_owned());
    let mut command = setting.load(side, &arguments)?;
    let before = server.map_or(Ok(0.0), |server| meter::processor_seconds(&server.pids()))?;
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
    let pids = forwarders(setting, side, server, child.id());
    let processor = meter::processor_seconds(&pids)? - before;
    let peak_mib = meter::peak_mib(&pids)?;
    drop(child.stdin.take());
    ensure!(child.wait()?.success(), "the load failed");
    let measured = serde_json::from_str(&line).with_context(|| format!("reading {line:?}"))?;
    Ok(Once { measured, processor, peak_mib })
}

/// User memory for 1,000 idle connections: the difference between one and all.
fn idle(inspect: &Inspect, setting: &Setting, side: Side) -> Result<f64> {
    let held = |count: usize| -> Result<f64> {
        // A new one each time: what an earlier load has left free would be no growth.
        let server = setting.start_server(side)?;
        let arguments = ["--shape", "idle", "--count", &count.to_string()].map(str::to_owned);
        let mut child = setting.load(side, &arguments)?.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
        ensure!(line.trim() == "held", "idle connections could not be opened on {}", side.name());
        let memory = meter::memory_mib(&forwarders(setting, side, server.as_ref(), child.id()))?;
        drop(child.stdin.take());
        child.wait()?;
        Ok(memory)
    };
    let base = held(1)?;
    Ok((held(inspect.idle)? - base) * 1000.0 / inspect.idle as f64)
}
