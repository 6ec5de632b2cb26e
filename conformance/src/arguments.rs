//! The command line.

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

use crate::{adapter::Kind, case::Setting};

/// Tries ways out of a sandbox, each in a network lab of its own, and says which held.
///
/// Exit codes: 0 all as expected; 1 an escape, a false block, an unrecorded denial or an attack that proves
/// nothing; 2 could not run.
#[derive(Debug, Clone, Parser)]
#[command(name = "conformance")]
pub(crate) struct Arguments {
    /// What is tried: cofferdam, squid, tinyproxy, or none to prove that each attack works unhindered.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "cofferdam")]
    pub(crate) adapter: Vec<Kind>,
    /// The settings; all that the adapter has by default.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) setting: Vec<Setting>,
    /// Only cases whose id begins so; may be given often.
    #[arg(long)]
    pub(crate) case: Vec<String>,
    /// Leave out cases whose id begins so.
    #[arg(long)]
    pub(crate) skip: Vec<String>,
    /// The cofferdam to try; by default the one beside this program.
    #[arg(long)]
    pub(crate) cofferdam: Option<PathBuf>,
    /// Run as this ordinary user instead of the caller (as root only).
    #[arg(long)]
    pub(crate) user: Option<u32>,
    /// Run the lab without root, in a user namespace.
    #[arg(long)]
    pub(crate) rootless: bool,
    /// Write everything as JSON to this file.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// Print every run with what reached the lab, not only those that went wrong.
    #[arg(long, short)]
    pub(crate) verbose: bool,
    /// List the cases and end.
    #[arg(long)]
    pub(crate) list: bool,
}

/// Reads the command line; `--help` and mistakes end the program.
pub(crate) fn parse() -> Result<Arguments> {
    Ok(Arguments::parse())
}
