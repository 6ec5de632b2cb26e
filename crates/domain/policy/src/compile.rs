//! From the policy as written to a form whose decision cost does not grow with its size.

use values::Labels;

/// A sandbox as one policy sees it: made once for each sandbox and revision.
#[derive(Debug, Clone)]
pub struct Source {
    labels: Labels,
}

impl Source {
    /// The labels it was made from.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }
}
