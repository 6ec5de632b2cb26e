//! Labels on a sandbox and the selectors that match them.

use std::collections::BTreeMap;

/// The labels of one sandbox, such as `team: sre`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Labels(pub BTreeMap<String, String>);

impl Labels {
    /// Labels from pairs.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self(pairs.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
    }
}

/// Every field must be on the sandbox with the same value (fields are AND-ed).
/// An empty selector matches every sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct LabelSelector(pub BTreeMap<String, String>);

impl LabelSelector {
    /// Whether the selector matches these labels.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|(key, value)| labels.0.get(key) == Some(value))
    }
}
