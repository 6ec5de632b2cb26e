//! `man`: manual pages, one for each command, made from the command line's own definition.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::{Args, ValueHint};

use crate::{arguments, output::note};

/// `man`
#[derive(Debug, Args)]
#[command(before_help = "Examples:\n  cofferdam man ~/.local/share/man/man1\n")]
pub(crate) struct Arguments {
    /// The folder; it is made where it is missing.
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    folder: PathBuf,
}

pub(crate) fn write(arguments: &Arguments) -> Result<ExitCode> {
    let folder = &arguments.folder;
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    clap_mangen::generate_to(arguments::definition(), folder)
        .with_context(|| format!("writing to {}", folder.display()))?;
    note(&format!("manual pages are in {}", folder.display()));
    Ok(ExitCode::SUCCESS)
}
