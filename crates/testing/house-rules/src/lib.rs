//! Tests that hold the layout: layers, sizes, licences, documents.
//!
//! The library is what the tests share: the repository's root, its files, and what `cargo metadata` says.

use std::{
    collections::BTreeSet,
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

/// One package of ours, as `cargo metadata` tells it.
#[derive(Debug, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Where its manifest is.
    pub manifest_path: PathBuf,
    /// What it depends on.
    pub dependencies: Vec<Dependency>,
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

/// One package of others that is built into the workspace.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Foreign {
    /// Its name.
    pub name: String,
    /// Its SPDX licence expression; empty where it has none.
    pub license: String,
}

/// The workspace's own packages.
pub fn own_packages() -> Result<Vec<Package>> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    let text = cargo(&["metadata", "--format-version=1", "--locked", "--offline", "--no-deps"])?;
    Ok(serde_json::from_str::<Metadata>(&text).context("reading what cargo metadata said")?.packages)
}

/// The packages of others that are really built: unlike `cargo metadata`, `cargo tree` knows weak features.
pub fn foreign_packages() -> Result<BTreeSet<Foreign>> {
    let edges = ["tree", "--workspace", "--locked", "--offline", "-e", "normal,build", "--prefix", "none"];
    let text = cargo(&[&edges[..], &["--format", "{p}|{l}"]].concat())?;
    let lines = text.lines().filter(|line| !line.is_empty() && !line.contains("(/"));
    Ok(lines
        .filter_map(|line| line.split_once('|'))
        .map(|(package, license)| Foreign {
            name: package.split(' ').next().unwrap_or_default().to_owned(),
            license: license.trim_end_matches(" (*)").to_owned(),
        })
        .collect())
}

/// Runs cargo in the repository, without the network.
fn cargo(arguments: &[&str]) -> Result<String> {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(repository_root())
        .output()
        .with_context(|| format!("starting cargo {arguments:?}"))?;
    ensure!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).context("reading what cargo said")
}
