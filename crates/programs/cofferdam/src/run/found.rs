//! What the end of a run found in the folders that the command could write: git's settings and hooks that were not
//! there before, and protected files that the host replaced meanwhile.

use std::path::PathBuf;

use audit_event::bounded;
use sandbox::{AtTheEnd, RepositoryWatch};

use super::{Guard, LONGEST_NOTE};
use crate::output::note;

/// How many findings are said and recorded one by one.
const NAMED: usize = 40;
/// The longest finding in a record.
const LONGEST: usize = 600;

/// What a person must know where nobody looked at the end.
pub(crate) fn not_compared(folders: &[PathBuf]) -> String {
    let mut named: Vec<String> = folders.iter().take(NAMED).map(|folder| folder.display().to_string()).collect();
    if folders.len() > NAMED {
        named.push(format!("{} more", folders.len() - NAMED));
    }
    // Paths are shown on a terminal.
    bounded(
        &format!(
            "before you use git, read config and hooks in every .git there: nobody looked at what git would run in {}",
            named.join(", ")
        ),
        LONGEST_NOTE,
    )
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Would act on the host, or may: could not be disarmed or not be looked at.
    failed: Vec<String>,
    /// Would have acted on the host.
    harmful: Vec<String>,
    /// Changed, and worth knowing.
    changed: Vec<String>,
}

impl Found {
    /// Looks, when nothing of the workload is left; disarms what git would run.
    pub(crate) fn new(repositories: &RepositoryWatch, guard: &Guard) -> Self {
        let AtTheEnd { failed, mut harmful, changed } = repositories.settle();
        harmful.extend(guard.replaced().into_iter().map(|path| {
            format!(
                "{path} was replaced while the command ran, which could write it from then on: read it before you use it"
            )
        }));
        Self { failed, harmful, changed }
    }

    /// Tells the person. What would have acted on the host is said in any case.
    pub(crate) fn say(&self, quiet: bool) {
        let changed = self.changed.iter().filter(|_| !quiet);
        // Paths are the workload's to choose, and this is a terminal.
        limited(&self.failed, self.failed.len(), self.harmful.iter().chain(changed))
            .iter()
            .for_each(|text| note(&bounded(text, LONGEST)));
    }

    /// For the event at the end.
    pub(crate) fn for_the_record(&self) -> Vec<String> {
        limited(&self.failed, NAMED, self.harmful.iter().chain(&self.changed))
            .iter()
            .map(|text| bounded(text, LONGEST))
            .collect()
    }
}

/// Failures come first, as many as are to be named; then the others, bounded.
fn limited<'a>(failed: &[String], named: usize, others: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut all: Vec<String> = failed.iter().take(named).cloned().collect();
    let unnamed = failed.len().saturating_sub(named);
    if unnamed > 0 {
        all.push(format!("and {unnamed} more that could not be disarmed: do not use git there"));
    }
    let others: Vec<&String> = others.collect();
    let more = others.len().saturating_sub(NAMED);
    all.extend(others.into_iter().take(NAMED).cloned());
    if more > 0 {
        all.push(format!("and {more} more findings: do not use git in the folders that the command could write"));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::{NAMED, limited, not_compared};

    #[test]
    fn what_could_not_be_disarmed_comes_first_and_is_all_said() {
        let (failed, harmful) = (vec!["failed".to_owned(); 100], vec!["moved".to_owned(); 100]);
        let said = limited(&failed, failed.len(), harmful.iter());
        assert_eq!(said.len(), 100 + NAMED + 1);
        assert!(said.iter().take(100).all(|text| text == "failed"));
        let recorded = limited(&failed, NAMED, harmful.iter());
        assert!(recorded.iter().any(|text| text.starts_with("and 60 more that could not")), "{recorded:?}");
    }

    #[test]
    fn many_folders_are_named_within_a_bound() {
        let folders = vec![std::path::PathBuf::from(format!("/{}", "x".repeat(400))); 100];
        let said = not_compared(&folders);
        assert!(said.len() <= super::LONGEST_NOTE + 8 && said.starts_with("before you use git"), "{}", said.len());
    }
}
