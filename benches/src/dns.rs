//! DNS: Cofferdam's server beside dnsmasq and unbound, under dnsperf, in the same minute.
//!
//! All three ask the same server upstream once for each of ten thousand names, and then answer from what they keep.
//! Cofferdam judges each question by a policy of ten thousand names and records it in a file; the others do neither.
//!
//! ```text
//! cargo build --release -p benches && target/release/benches dns --rounds 3
//! ```

use std::{
    fmt::Write as _,
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    os::fd::OwnedFd,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use audit_event::RunContext;
use audit_log::{AuditLog, Options};
use clap::Args;
use comfy_table::Table;
use gateway::{Gateway, SandboxSockets, Settings};
use policy::{
    CompiledPolicy, HostPattern, OwnAddresses,
    model::{DnsLimits, Lists, PolicySpec},
};
use serde::Serialize;
use values::{Labels, Revision};

use crate::meter;

/// How many names are asked for.
const NAMES: usize = 10_000;
/// How long a server may take to begin to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Arguments of `benches dns`.
#[derive(Args)]
pub struct Dns {
    /// How often each side is measured.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds for each measurement.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
}

/// Arguments of `benches dns-server`.
#[derive(Args)]
pub struct DnsServer {
    /// Where to listen.
    listen: SocketAddr,
    /// Whom to ask.
    upstream: SocketAddr,
    /// The folder of the record.
    #[arg(long)]
    folder: std::path::PathBuf,
}

/// One side's medians.
#[derive(Debug, Clone, Serialize)]
pub struct Side {
    /// Its name.
    pub name: &'static str,
    /// Answers a second.
    pub per_second: f64,
    /// Microseconds of processor time for each.
    pub microseconds: f64,
}

/// Measures every side and prints the table.
pub fn run(dns: &Dns) -> Result<()> {
    let sides = measure(dns.rounds, dns.seconds)?;
    let [ours, others @ ..] = sides.as_slice() else { bail!("nothing was measured") };
    let mut table = Table::new();
    table.set_header(["side", "answers/s", "processor µs", "ours : it, answers/s", "ours : it, processor"]);
    for side in &sides {
        table.add_row([
            side.name.to_owned(),
            format!("{:.0}", side.per_second),
            format!("{:.2}", side.microseconds),
            format!("{:.2}", ours.per_second / side.per_second),
            format!("{:.2}", ours.microseconds / side.microseconds),
        ]);
    }
    println!("{table}");
    let reached = others.iter().all(|side| ours.per_second >= 1.15 * side.per_second);
    println!("at least 1.15 times the answers of each: {}", if reached { "yes" } else { "no" });
    Ok(())
}

/// The medians of all sides, Cofferdam first. The sides take turns in each round.
pub fn measure(rounds: usize, seconds: u64) -> Result<Vec<Side>> {
    let folder = tempfile::tempdir()?;
    let questions = folder.path().join("questions");
    fs::write(
        &questions,
        (0..NAMES).fold(String::new(), |mut text, number| {
            // Writing to a text can't fail.
            let _ = writeln!(text, "h{number}.allowed.test A");
            text
        }),
    )?;
    let upstream = upstream()?;
    let names = ["cofferdam", "dnsmasq", "unbound"];
    let mut samples = names.map(|name| (name, Vec::new()));
    for _ in 0..rounds {
        for (name, taken) in &mut samples {
            let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
            let own = tempfile::tempdir_in(folder.path())?;
            let server = Server(start(name, port, upstream, own.path())?);
            wait(port)?;
            load(&questions, port, &["-n", "1"])?;
            let before = meter::processor_seconds(&[server.0.id()])?;
            let (answers, per_second) = load(&questions, port, &["-l", &seconds.to_string()])?;
            let used = meter::processor_seconds(&[server.0.id()])? - before;
            taken.push((per_second, used * 1e6 / answers));
        }
    }
    let sides = samples.into_iter().map(|(name, taken)| Side {
        name,
        per_second: median(taken.iter().map(|(rate, _)| *rate)),
        microseconds: median(taken.iter().map(|(_, time)| *time)),
    });
    Ok(sides.collect())
}

/// A server that ends with this.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // A server that ended by itself is no loss here: its figures are taken.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn start(name: &str, port: u16, upstream: SocketAddr, folder: &Path) -> Result<Child> {
    let mut command = match name {
        "dnsmasq" => {
            let mut command = Command::new("dnsmasq");
            command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root"]);
            command.args(["--bind-interfaces", "--listen-address=127.0.0.1", "--cache-size=20000"]);
            command.args(["--dns-forward-max=5000".to_owned(), format!("--port={port}")]);
            command.arg(format!("--server={}#{}", upstream.ip(), upstream.port()));
            command
        }
        "unbound" => {
            let text = format!(
                "server:\n interface: 127.0.0.1\n port: {port}\n num-threads: {threads}\n do-daemonize: no\n username: \"\"\n \
                 chroot: \"\"\n pidfile: \"\"\n use-syslog: no\n do-not-query-localhost: no\n module-config: \"iterator\"\n \
                 msg-cache-size: 50m\n rrset-cache-size: 100m\nforward-zone:\n name: \".\"\n forward-addr: {ip}@{to}\n",
                threads = thread::available_parallelism()?,
                ip = upstream.ip(),
                to = upstream.port(),
            );
            let file = folder.join("unbound.conf");
            fs::write(&file, text)?;
            let mut command = Command::new("unbound");
            command.arg("-d").arg("-c").arg(file);
            command
        }
        _ => {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["dns-server", &format!("127.0.0.1:{port}"), &upstream.to_string(), "--folder"]).arg(folder);
            command
        }
    };
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().with_context(|| format!("can't start {name}"))
}

/// Waits until a question is answered.
fn wait(port: u16) -> Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect((Ipv4Addr::LOCALHOST, port))?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let question = [&[0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], b"\x02h0\x07allowed\x04test\0\0\x01\0\x01"].concat();
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if socket.send(&question).is_ok() && socket.recv(&mut [0; 512]).is_ok() {
            return Ok(());
        }
        thread::yield_now();
    }
    bail!("no server answers at port {port}")
}

/// Runs dnsperf: how many questions were answered, and how many a second.
fn load(questions: &Path, port: u16, how: &[&str]) -> Result<(f64, f64)> {
    let port = port.to_string();
    let mut command = Command::new("dnsperf");
    command.args(["-s", "127.0.0.1", "-p", &port, "-d"]).arg(questions).args(how);
    let output = command.output().context("can't run dnsperf")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let figure = |name: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(name));
        let word = line.and_then(|line| line.split_whitespace().next());
        word.and_then(|word| word.parse::<f64>().ok()).with_context(|| format!("dnsperf does not say {name:?}: {text}"))
    };
    Ok((figure("Queries completed:")?, figure("Queries per second:")?))
}

/// A server that answers every question with one address for an hour; where it listens.
fn upstream() -> Result<SocketAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let listens = socket.local_addr()?;
    answer_all(socket, Ipv4Addr::new(192, 0, 2, 1));
    Ok(listens)
}

/// Answers every question for an address with this one, and every other with nothing.
pub fn answer_all(socket: UdpSocket, address: Ipv4Addr) {
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let Some((head, rest)) = buffer.get(..length).and_then(|message| message.split_at_checked(12)) else {
                continue;
            };
            let Some(end) = rest.iter().position(|byte| *byte == 0) else { continue };
            let Some(question) = rest.get(..end + 5) else { continue };
            let is_for_address = question.get(end + 1..end + 3) == Some(&[0, 1]);
            let mut answer = head.get(..2).unwrap_or_default().to_vec();
            answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_for_address), 0, 0, 0, 0]);
            answer.extend(question);
            if is_for_address {
                answer.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0x0E, 0x10, 0, 4]);
                answer.extend(address.octets());
            }
            // Who is gone is not answered.
            drop(socket.send_to(&answer, peer));
        }
    });
}

fn median(samples: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = samples.collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A gateway that serves DNS alone: the names above are allowed, the rest is refused, every question is recorded.
pub fn serve(server: &DnsServer) -> Result<()> {
    let context = RunContext { sandbox: "run-measured".into(), thread: None, tool_call: None };
    let audit =
        AuditLog::open(&server.folder.join("events.jsonl"), context, Options { keep_files: 1, ..Options::default() })?;
    let socket = UdpSocket::bind(server.listen)?;
    let sockets = SandboxSockets { dns_udp: vec![OwnedFd::from(socket)], ..SandboxSockets::default() };
    let settings = Settings { host_resolvers: vec![server.upstream], ..Settings::default() };
    let hosts = (0..NAMES).map(|number| HostPattern::parse(&format!("h{number}.allowed.test")));
    let unbounded = DnsLimits { queries_per_second: u32::MAX, ..DnsLimits::default() };
    let spec = PolicySpec { allowed_hosts: hosts.collect::<Result<_, _>>()?, dns: unbounded, ..PolicySpec::default() };
    let policy = CompiledPolicy::compile(spec, Lists::default(), OwnAddresses::default(), Revision(1))
        .map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
    let gateway = Gateway::start(sockets, Arc::new(policy), Labels::default(), audit, None, settings)?;
    thread::park();
    drop(gateway);
    Ok(())
}
