//! The policy in force, shared by workers.
//!
//! A worker loads it for every decision and keeps the `Arc` with the open connection, so that a change
//! of the pointer is seen by comparing (invariant *A new policy reaches open connections*).

use std::sync::Arc;

use policy::{CompiledPolicy, compile::Source};
use values::Labels;

/// A compiled policy and the sandbox as this policy sees it.
#[derive(Debug)]
pub(crate) struct InForce {
    /// The policy.
    pub(crate) policy: Arc<CompiledPolicy>,
    /// The sandbox, made once for each revision.
    pub(crate) source: Source,
}

/// The one pointer that `Gateway::apply` swaps.
pub(crate) type CurrentPolicy = arc_swap::ArcSwap<InForce>;

impl InForce {
    /// A policy seen from a sandbox with these labels.
    pub(crate) fn new(policy: Arc<CompiledPolicy>, labels: &Labels) -> Arc<Self> {
        let source = policy.source(labels);
        Arc::new(Self { policy, source })
    }

    /// The same, to be seen as new: time has changed what it says.
    pub(crate) fn renewed(&self) -> Arc<Self> {
        Arc::new(Self { policy: Arc::clone(&self.policy), source: self.source.clone() })
    }
}
