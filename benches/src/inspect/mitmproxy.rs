//! mitmproxy, in a folder of its own: Debian's is years old, and its current one comes from Python's package index.

use std::{env, path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};

/// It was not installed.
#[derive(Debug, thiserror::Error)]
#[error("mitmproxy is not installed in {}: `benches inspect --install` does so, with pip", .0.display())]
pub struct NotInstalled(PathBuf);

/// Where it is.
pub fn program() -> Result<PathBuf, NotInstalled> {
    let folder = folder();
    let program = folder.join("bin/mitmdump");
    if program.exists() { Ok(program) } else { Err(NotInstalled(folder)) }
}

/// Installs it, where it is not, with this Python (the current mitmproxy wants 3.12).
pub fn install(python: &str) -> Result<()> {
    if program().is_ok() {
        return Ok(());
    }
    let folder = folder();
    let made = Command::new(python).args(["-m", "venv"]).arg(&folder).status();
    ensure!(made.with_context(|| format!("starting {python}"))?.success(), "{python} made no environment");
    let installed = Command::new(folder.join("bin/pip")).args(["install", "--quiet", "mitmproxy"]).status()?;
    ensure!(installed.success(), "pip could not install mitmproxy");
    Ok(())
}

/// What it calls itself.
pub fn version() -> Option<String> {
    let output = Command::new(program().ok()?).arg("--version").output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).lines().next()?.to_owned())
}

fn folder() -> PathBuf {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    cache.unwrap_or_else(env::temp_dir).join("cofferdam-benches/mitmproxy")
}
