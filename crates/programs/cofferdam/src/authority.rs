//! `authority`: the installation's certificate authority, which signs for opened TLS where runs say
//! `--authority installation`.

use std::{path::Path, process::ExitCode, time::SystemTime};

use anyhow::Result;
use certificates::{Authority, trust};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    config::Config,
    failure::{Failure, code},
    output::{note, print, print_json},
    runs::Runs,
};

/// `authority`
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Show its certificate: whose it is, its fingerprint, how long it holds, where its key lies. Exit 3 where there is none.
    Show(ShowArguments),
    /// Make a new key and certificate in place of the old, or the first ones.
    Rotate(RotateArguments),
    /// Remove it. The next run that wants one makes it anew.
    Remove(RemoveArguments),
}

#[derive(Debug, Args)]
#[command(
    before_help = "Examples:\n  cofferdam authority show\n  cofferdam authority show --pem > cofferdam.crt      to put into an image or a client\n"
)]
pub(crate) struct ShowArguments {
    /// The certificate alone, as PEM.
    #[arg(long, conflicts_with = "json")]
    pem: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(before_help = "Examples:\n  cofferdam authority rotate\n")]
pub(crate) struct RotateArguments {
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(before_help = "Examples:\n  cofferdam authority remove\n")]
pub(crate) struct RemoveArguments {
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// What a live run has.
const LIVE: &str = "live runs keep the old one to their end";

pub(crate) fn run(action: &Action) -> Result<ExitCode> {
    let config = Config::load()?;
    let runs = Runs::of(&config);
    let folder = runs.authority();
    match action {
        Action::Show(arguments) => show(arguments, &folder),
        Action::Rotate(arguments) => {
            config.need_state()?;
            rotate(arguments, &folder)
        }
        Action::Remove(arguments) => remove(arguments, &folder),
    }
}

fn show(arguments: &ShowArguments, folder: &Path) -> Result<ExitCode> {
    let Some(authority) = Authority::open(folder)? else {
        return Err(none(folder).into());
    };
    if arguments.pem {
        print(&trust::pem([authority.certificate()]))?;
    } else if arguments.json {
        print_json(&as_json(&authority)?)?;
    } else {
        print(&for_people(&authority)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn rotate(arguments: &RotateArguments, folder: &Path) -> Result<ExitCode> {
    let now = SystemTime::now();
    let before = Authority::open(folder)?;
    let mut authority = Authority::open_or_create(folder, now)?;
    if before.is_some() {
        authority.rotate(now)?;
        note(&format!(
            "{LIVE}; clients and images that trust the old one need the new: cofferdam authority show --pem"
        ));
    }
    if arguments.json {
        print_json(&as_json(&authority)?)?;
    } else {
        print(&for_people(&authority)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn remove(arguments: &RemoveArguments, folder: &Path) -> Result<ExitCode> {
    if !Authority::remove(folder)? {
        return Err(none(folder).into());
    }
    if arguments.json {
        print_json(&json!({"removed": folder}))?;
    }
    note(&format!("{LIVE}; take its certificate out of the clients and images that trust it"));
    Ok(ExitCode::SUCCESS)
}

fn none(folder: &Path) -> Failure {
    let what = format!("there is no certificate authority of this installation in {}", folder.display());
    let hint = "`cofferdam authority rotate` makes one, as the first run with --authority installation does";
    Failure::new(code::NOT_FOUND, what).hint(hint)
}

/// As `openssl x509 -fingerprint -sha256` writes it.
fn fingerprint(authority: &Authority) -> String {
    let digest = Sha256::digest(authority.certificate());
    digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

fn times(authority: &Authority) -> Result<[Timestamp; 2]> {
    Ok([Timestamp::try_from(authority.begins())?, Timestamp::try_from(authority.ends())?])
}

fn for_people(authority: &Authority) -> Result<String> {
    let [begins, ends] = times(authority)?;
    let days = ends.duration_since(Timestamp::now()).as_hours() / 24;
    Ok(format!(
        "subject      {}\nSHA-256      {}\nvalid        {begins} to {ends} ({days} days left)\nkey          {}\n",
        authority.subject(),
        fingerprint(authority),
        authority.file().display(),
    ))
}

fn as_json(authority: &Authority) -> Result<Value> {
    let [begins, ends] = times(authority)?;
    Ok(json!({
        "subject": authority.subject(),
        "sha256": fingerprint(authority),
        "not_before": begins,
        "not_after": ends,
        "path": authority.file(),
        "pem": trust::pem([authority.certificate()]),
    }))
}
