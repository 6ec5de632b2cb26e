//! What the end of a run found in the folders that the command could write: git's settings and hooks that were not
//! there before, and protected files that the host replaced meanwhile.

use audit_event::bounded;
use sandbox::{AtTheEnd, RepositoryWatch};

use super::Guard;
use crate::output::note;

/// How many findings are said and recorded one by one.
const NAMED: usize = 40;
/// The longest finding in a record.
const LONGEST: usize = 600;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Would have acted on the host.
    harmful: Vec<String>,
    /// Changed, and worth knowing.
    changed: Vec<String>,
}

impl Found {
    /// Looks, when nothing of the workload is left; disarms what git would run.
    pub(crate) fn new(repositories: &RepositoryWatch, guard: &Guard) -> Self {
        let AtTheEnd { mut harmful, changed } = repositories.settle();
        harmful.extend(guard.replaced().into_iter().map(|path| {
            format!(
                "{path} was replaced while the command ran, which could write it from then on: read it before you use it"
            )
        }));
        Self { harmful, changed }
    }

    /// Tells the person. What would have acted on the host is said in any case.
    pub(crate) fn say(&self, quiet: bool) {
        let changed = self.changed.iter().filter(|_| !quiet);
        // Paths are the workload's to choose, and this is a terminal.
        limited(self.harmful.iter().chain(changed)).iter().for_each(|text| note(&bounded(text, LONGEST)));
    }

    /// For the event at the end.
    pub(crate) fn for_the_record(&self) -> Vec<String> {
        limited(self.harmful.iter().chain(&self.changed)).iter().map(|text| bounded(text, LONGEST)).collect()
    }
}

fn limited<'a>(findings: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut all: Vec<String> = findings.cloned().collect();
    let more = all.len().saturating_sub(NAMED);
    all.truncate(NAMED);
    if more > 0 {
        all.push(format!("and {more} more findings: do not use git in the folders that the command could write"));
    }
    all
}
