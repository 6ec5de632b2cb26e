//! `man`: manual pages, one for each command, made from the command line's own definition.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::{Args, Command, ValueHint};
use clap_mangen::{
    Man,
    roff::{Roff, roman},
};

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
    let mut definition = arguments::definition().disable_help_subcommand(true);
    definition.build();
    write_pages(&definition, folder).with_context(|| format!("writing to {}", folder.display()))?;
    note(&format!("manual pages are in {}", folder.display()));
    Ok(ExitCode::SUCCESS)
}

/// The page of a command, and those of its subcommands.
fn write_pages(command: &Command, folder: &Path) -> io::Result<()> {
    let mut text = Vec::new();
    let man = Man::new(command.clone());
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    let (codes, settings) = arguments::EXIT_CODES.split_once("\n\n").unwrap_or((arguments::EXIT_CODES, ""));
    section("EXIT STATUS", codes, &mut text)?;
    section("ENVIRONMENT", settings, &mut text)?;
    if let Some(examples) = command.get_before_help() {
        section("EXAMPLES", &examples.to_string(), &mut text)?;
    }
    fs::write(folder.join(man.get_filename()), text)?;
    command.get_subcommands().try_for_each(|sub| write_pages(sub, folder))
}

/// A section with a part of the help, line by line. A first line that only names it is left out.
fn section(name: &str, help: &str, page: &mut Vec<u8>) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", [name]).control("nf", []);
    let is_heading = |line: &str| !line.starts_with(' ') && line.ends_with(':');
    for line in help.trim_end().lines().skip_while(|line| is_heading(line)) {
        roff.text([roman(line)]);
    }
    roff.control("fi", []).to_writer(page)
}
