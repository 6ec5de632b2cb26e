//! apt: every site of its sources, one-line and deb822, from `apt-get indextargets`; and the folders of its settings
//! from `apt-config`, for without them it knows no source.

use std::path::{Path, PathBuf};

use url::Url;

use crate::{
    discover::{DiscoverError, Found, Manager},
    tool::{Caller, ToolError},
};

/// Where apt reads its settings, sources and keys, and what is installed.
const READ: [&str; 9] = [
    "Dir::Etc/d",
    "Dir::Etc::main/f",
    "Dir::Etc::parts/d",
    "Dir::Etc::sourcelist/f",
    "Dir::Etc::sourceparts/d",
    "Dir::Etc::trusted/f",
    "Dir::Etc::trustedparts/d",
    "Dir::Etc::preferencesparts/d",
    "Dir::State::status/f",
];

pub(crate) fn discover(caller: &Caller) -> Result<Found, DiscoverError> {
    let mut found = Found::new(Manager::Apt);
    // Without this, only what an update fetched before counts, and a fresh machine has no source.
    let asked = ["indextargets", "--no-release-info", "--format", "$(SITE)"];
    for site in caller.ask("apt-get", &asked)?.lines() {
        // Sources on a disk or over ssh have no site that HTTP reaches.
        if let Ok(url) = Url::parse(site.trim()) {
            found.add_url(&url, "apt's sources");
        }
    }
    found.files = files(caller)?;
    Ok(found)
}

/// What apt reads, each once and none inside another.
fn files(caller: &Caller) -> Result<Vec<PathBuf>, ToolError> {
    let asked: Vec<&str> = ["shell"].into_iter().chain(READ.iter().flat_map(|setting| ["FOUND", setting])).collect();
    let said = caller.ask("apt-config", &asked)?;
    let configured = caller.variable("APT_CONFIG").map(PathBuf::from);
    let mut files: Vec<PathBuf> = said.lines().filter_map(value).chain(configured).collect();
    // A folder as wide as these is nobody's for apt alone.
    files.retain(|path| path.is_absolute() && path.components().count() > 2 && path.exists());
    files.retain(|path| !caller.may_be_written(path));
    files.sort();
    files.dedup_by(|later, earlier| later.starts_with(earlier));
    Ok(files)
}

/// `FOUND='/etc/apt/'`; one with a quotation mark in it is passed over.
fn value(line: &str) -> Option<PathBuf> {
    let path = line.strip_prefix("FOUND='")?.strip_suffix('\'')?;
    (!path.contains('\'')).then(|| Path::new(path).components().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read() {
        assert_eq!(value("FOUND='/etc/apt/'"), Some(PathBuf::from("/etc/apt")));
        assert_eq!(value("FOUND='/x'\\''y'"), None);
        assert_eq!(value("OTHER='/etc'"), None);
    }
}
