//! Tests that hold the layout: layers, sizes, licences, documents.
//!
//! The library is what the tests share: the repository's root, its files, and what `cargo metadata` says.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// The root of the repository.
pub fn repository_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3).map_or_else(PathBuf::new, Path::to_path_buf)
}

/// Every file below the root with this ending, outside `target` folders.
pub fn files_ending(ending: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![repository_root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
            let path = entry?.path();
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            if path.is_dir() && !path.is_symlink() {
                if !name.starts_with('.') && !["target", "node_modules", "corpus", "artifacts"].contains(&name.as_str())
                {
                    folders.push(path);
                }
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// One package of the dependency graph.
#[derive(Debug, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its SPDX licence expression.
    pub license: Option<String>,
    /// Where its manifest is.
    pub manifest_path: PathBuf,
    /// Where it comes from; `None` for our own.
    pub source: Option<String>,
    /// What it depends on.
    pub dependencies: Vec<Dependency>,
    /// Its id in the graph.
    pub id: String,
}

/// One edge of the dependency graph.
#[derive(Debug, Deserialize)]
pub struct Dependency {
    /// The name of the package.
    pub name: String,
    /// `dev`, `build`, or nothing for an ordinary one.
    pub kind: Option<String>,
    /// Where it is, for our own.
    pub path: Option<PathBuf>,
}

/// What `cargo metadata` says.
#[derive(Debug, Deserialize)]
pub struct Metadata {
    /// Every package in the lock file.
    pub packages: Vec<Package>,
    /// What is really used.
    pub resolve: Resolve,
}

/// The resolved graph.
#[derive(Debug, Deserialize)]
pub struct Resolve {
    /// One node for each package that is used.
    pub nodes: Vec<Node>,
}

/// One package that is used.
#[derive(Debug, Deserialize)]
pub struct Node {
    /// The package's id.
    pub id: String,
}

/// Asks cargo for the dependency graph on this platform, without the network.
pub fn metadata() -> Result<Metadata> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--offline", "--filter-platform=x86_64-unknown-linux-gnu"])
        .current_dir(repository_root())
        .output()
        .context("starting cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("reading what cargo metadata said")
}
