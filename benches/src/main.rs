//! Benchmarks: all sides in the same minute, printed as ratios.
//!
//! `benches compare` makes a network namespace with an origin in it, starts each contender there in turn,
//! drives every one with the same load (`benches load`), and prints medians and ratios. The load for
//! Cofferdam runs inside its sandbox, so what is measured is the product: policy on, records written.
//!
//! ```text
//! cargo build --release -p cofferdam -p benches && target/release/benches compare --rounds 5
//! ```

/// The sides that are compared, and how each is started.
mod contenders;
/// The client: bulk, new connections, kept-alive round trips, idle tunnels.
mod load;
/// What a process costs: processor time and memory.
mod meter;
/// The server that every side forwards to.
mod origin;
/// Rounds, medians and the table.
mod report;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Compares Cofferdam's gateway with direct connections, HAProxy, Squid and tinyproxy")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run every contender under every load and print the table.
    Compare(report::Compare),
    /// The load alone, against one address; prints one JSON line.
    Load(load::Load),
    /// The origin alone.
    Origin(origin::Origin),
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Compare(compare) => report::compare(&compare),
        Command::Load(load) => load::run(&load),
        Command::Origin(origin) => origin::serve(&origin),
    }
}
