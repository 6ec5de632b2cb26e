//! The containment suite: runs against Cofferdam and its peers, prints a table.
//!
//! A case is data (`cases/*.yaml`): a probe that runs in a sandbox, what at the lab's servers proves that it got
//! out, and what is expected in each setting. What decides is what reached the lab and what was recorded, never
//! what the probe says. The adapter `none` runs every attack with nothing in its way: one that gets nowhere even
//! then proves nothing, and fails the suite.

use std::process::ExitCode;

/// What stands between a probe and the lab.
mod adapter;
/// The command line.
mod arguments;
/// Cases, read from their files.
mod case;
/// What the runner does to a gateway in the middle of a run.
mod change;
/// What arrived against what is recorded, both ways.
mod crosscheck;
/// One run of one case, with everything filled in.
mod instance;
/// What proves that something arrived.
mod mark;
/// A secret that must be nowhere.
mod secret;
/// What came of a run, and whether that is good.
mod outcome;
/// What our own record says of a run.
mod record;
/// The table and the JSON.
mod report;
/// All runs, in order.
mod suite;

fn main() -> ExitCode {
    match arguments::parse().and_then(|arguments| suite::run(&arguments)) {
        Ok(report) => report.finish(),
        Err(error) => {
            eprintln!("conformance: {error:#}");
            ExitCode::from(2)
        }
    }
}
