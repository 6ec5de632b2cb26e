//! The bundles of roots that rules name (`upstreamCa`): whose they are, and what they hold when a policy comes into force.
//!
//! The gateway reads them from the folder of the policy that the run began with. What it reads must not be the
//! workload's own work, and is a part of what the policy says, so its digest covers it.

use std::{
    collections::BTreeMap,
    io::Read as _,
    path::{Path, PathBuf},
};

use policy::{CompiledPolicy, model::Rule};
use sha2::{Digest as _, Sha256};

use super::Guard;
use crate::{
    files,
    source::{Refusal, Source},
};

/// The largest bundle that is read.
const LIMIT: u64 = 16 << 20;

/// What each bundle held, by its path as written.
pub(crate) type Bundles = BTreeMap<PathBuf, [u8; 32]>;

/// Reads the bundles of a policy of this source. `folder` is where relative ones are looked for.
pub(super) fn read(
    source: &Source,
    compiled: &CompiledPolicy,
    folder: &Path,
    guard: &Guard,
) -> Result<Bundles, Refusal> {
    let mut bundles = Bundles::new();
    for rule in compiled.demanding_rules() {
        let Some(path) = rule.upstream_ca.as_deref().filter(|path| !bundles.contains_key(*path)) else { continue };
        if path.is_relative() && !source.lies_in(folder) {
            let what = format!(
                "bundles are looked for from {}: keep the policy there, or name it by its whole path",
                folder.display()
            );
            return Err(refusal(source, rule, &what));
        }
        let digest = digest(&folder.join(path), guard).map_err(|error| refusal(source, rule, &error))?;
        bundles.insert(path.to_owned(), digest);
    }
    Ok(bundles)
}

fn refusal(source: &Source, rule: &Rule, why: &str) -> Refusal {
    let path = rule.upstream_ca.as_deref().unwrap_or(Path::new(""));
    source.refusal(&[format!("rule {}: the bundle {} can't be used: {why}", rule.name, path.display())])
}

fn digest(path: &Path, guard: &Guard) -> Result<[u8; 32], String> {
    let file = files::open(path).map_err(|error| error.to_string())?;
    guard.check_open(&file, path)?;
    let mut bytes = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > LIMIT {
        return Err(format!("it has more than {LIMIT} bytes"));
    }
    Ok(Sha256::digest(&bytes).into())
}
