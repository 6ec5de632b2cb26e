//! Benchmarks: all sides in the same minute, printed as ratios, the goals beside them.
//!
//! `benches all` runs every part and prints one table. A part is a sub-command that ends with [`figure::print`];
//! `all` calls it with `--json`, so a new one needs its line in [`all`]'s list, and nothing else.
//!
//! `benches compare` makes a network namespace with an origin in it, starts each contender there in turn,
//! drives every one with the same load (`benches load`), and prints medians and ratios. The load for
//! Cofferdam runs inside its sandbox, so what is measured is the product: policy on, records written.
//!
//! ```text
//! cargo build --release -p cofferdam -p benches && target/release/benches compare --rounds 5
//! ```

/// Every part, one after the other, in one table.
mod all;
/// All sides under all loads, by round.
mod compare;
/// The sides that are compared, and how each is started.
mod contenders;
/// DNS beside dnsmasq and unbound.
mod dns;
/// Many connections at once: the clients, and the server that they are open to.
mod crowd;
/// A new policy with many open connections.
mod cut;
/// A measured figure beside its goal, and the table of them.
mod figure;
/// TLS that is opened, beside those who do so too.
mod inspect;
/// The client: bulk, new connections, kept-alive round trips, idle tunnels.
mod load;
/// The machine that is measured on.
mod machine;
/// What a process costs: processor time and memory.
mod meter;
/// A network namespace for the benchmark.
mod namespace;
/// The server that every side forwards to.
mod origin;
/// What the comparison found.
mod report;
/// Start-up against bubblewrap.
mod start;
/// The word that stands for a choice on the command line.
mod word;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Measures Cofferdam beside others, against its goals")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Every part, the table of goals, and JSON.
    All(all::All),
    /// Every contender under every load.
    Compare(compare::Compare),
    /// Cached DNS answers, beside dnsmasq and unbound.
    Dns(dns::Dns),
    /// Cofferdam's DNS server alone.
    DnsServer(dns::DnsServer),
    /// A new policy with many open connections.
    Cut(cut::Cut),
    /// The clients of `cut` alone.
    #[command(hide = true)]
    Crowd(crowd::Crowd),
    /// The server of `cut` alone.
    #[command(hide = true)]
    Echo(crowd::Echo),
    /// TLS that is opened, beside Squid and mitmproxy.
    Inspect(inspect::Inspect),
    /// The load alone, against one address; prints one JSON line.
    Load(load::Load),
    /// The origin alone.
    Origin(origin::Origin),
    /// The gateway of `inspect` alone.
    #[command(hide = true)]
    TlsGateway(inspect::TlsGateway),
    /// The load of `inspect` alone; prints one JSON line.
    TlsLoad(inspect::TlsLoad),
    /// The origin of `inspect` alone.
    TlsOrigin(inspect::TlsOrigin),
    /// Time and memory of `cofferdam run -- true`, beside bubblewrap.
    Start(start::Start),
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::All(all) => all::run(&all),
        Command::Compare(compare) => compare::run(&compare),
        Command::Dns(dns) => dns::run(&dns),
        Command::DnsServer(server) => dns::serve(&server),
        Command::Cut(cut) => cut::run(&cut),
        Command::Crowd(crowd) => crowd::run(&crowd),
        Command::Echo(echo) => crowd::echo(&echo),
        Command::Inspect(inspect) => inspect::run(&inspect),
        Command::TlsGateway(gateway) => inspect::serve_gateway(&gateway),
        Command::TlsLoad(load) => inspect::load(&load),
        Command::TlsOrigin(origin) => inspect::serve_origin(&origin),
        Command::Load(load) => load::run(&load),
        Command::Origin(origin) => origin::serve(&origin),
        Command::Start(start) => start::run(&start),
    }
}
