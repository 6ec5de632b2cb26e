//! The file that `always` answers write into, where it is another than the policy's own.
//!
//! "Always" narrows the rule that asked, so the file has to hold that rule. A new one begins as a copy of the policy of
//! the run, and is the policy to name in the next. Whatever a policy names lies beside it: a copy in another folder
//! would miss that, and is not made.

use std::path::Path;

use anyhow::{Context as _, Result};
use policy::model::PolicySpec;
use policy_file::NeededLists;

use crate::{
    failure::{Failure, code},
    files,
    source::Source,
};

/// Sees to it that the file is there from the start, or the workload could make it. What to say where it was made.
pub(super) fn begin(file: &Path, source: &Source) -> Result<Option<String>> {
    let (named, policy) = (file.display(), &source.name);
    let folder = std::path::absolute(file)?.parent().map_or_else(Default::default, Path::to_path_buf);
    let misses = names_files(&source.file.spec) && !source.lies_in(&folder);
    if misses && !file.exists() {
        let what = format!("--ask-file {named} is not there, and a copy of {policy} would miss the files it names");
        let hint = format!("name a file in {}, or a policy of your own", source.folder.display());
        return Err(Failure::new(code::RUN_FAILED, what).hint(hint).into());
    }
    let text = if misses { "" } else { &source.text };
    let made = files::begin(file, text).with_context(|| format!("--ask-file {named}"))?;
    Ok(made.then(|| format!("--ask-file {named} begins as a copy of {policy}: the next run's is --policy {named}")))
}

/// Whether it may name files that lie beside it.
fn names_files(spec: &PolicySpec) -> bool {
    let lists = NeededLists::of(spec);
    !(lists.feeds.is_empty() && lists.service_tags.is_empty() && spec.credentials.is_empty())
        || spec.rules.iter().any(|rule| rule.upstream_ca.is_some())
}
