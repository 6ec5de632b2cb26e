//! The helper program, found beside the test or built.
//!
//! Cargo builds a dependency's library but not its programs, so a test of another crate may find the helper
//! missing or older than this crate's source: then it is built, once.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use anyhow::{Context as _, Result, bail};

const NAME: &str = "network-lab-server";

/// Where the helper is.
pub(crate) fn find() -> Result<PathBuf> {
    let own = std::env::current_exe().context("this program's own path")?;
    // target/debug/PROGRAM, target/debug/deps/TEST
    let beside = own.ancestors().skip(1).take(2).map(|folder| folder.join(NAME));
    for candidate in beside {
        if newer_than_source(&candidate)? {
            return Ok(candidate);
        }
    }
    build(&own)
}

fn newer_than_source(helper: &Path) -> Result<bool> {
    let Ok(built) = fs::metadata(helper).and_then(|metadata| metadata.modified()) else { return Ok(false) };
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    Ok(!source.is_dir() || newest(&source)? <= built)
}

fn newest(folder: &Path) -> Result<SystemTime> {
    let mut newest = SystemTime::UNIX_EPOCH;
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let entry = entry?;
        let changed =
            if entry.file_type()?.is_dir() { self::newest(&entry.path())? } else { entry.metadata()?.modified()? };
        newest = newest.max(changed);
    }
    Ok(newest)
}

fn build(own: &Path) -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let folder = own
        .ancestors()
        .find(|folder| folder.file_name().is_some_and(|name| name == "debug" || name == "release"))
        .context("a target folder above this program")?;
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--quiet", "--bin", NAME, "--manifest-path"]).arg(&manifest);
    command.arg("--target-dir").arg(folder.parent().context("a target folder")?);
    if folder.file_name().is_some_and(|name| name == "release") {
        command.arg("--release");
    }
    let status = command.status().context("run cargo to build the lab's helper")?;
    let helper = folder.join(NAME);
    if !status.success() || !helper.is_file() {
        bail!("cargo did not build {}: {status}", helper.display());
    }
    Ok(helper)
}
