//! Facts to a decision.

use crate::{
    compile::CompiledPolicy,
    decision::{Decision, Layer, Step},
    facts::Facts,
    guard::Guard,
};

impl CompiledPolicy {
    /// Judges a flow with what is known of it.
    pub fn judge(&self, _facts: &Facts<'_>) -> Step {
        Step::Decided(Decision::by_guard(Guard::Reserved, Layer::Ip, "not compiled"))
    }
}
