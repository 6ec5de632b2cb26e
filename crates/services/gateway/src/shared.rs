//! What the workers of one gateway share.

use std::sync::{Arc, atomic::AtomicU64, atomic::Ordering};

use audit_log::AuditLog;
use tokio::sync::mpsc;

use crate::{
    ask::Approvals,
    credential::Keeper,
    identify::Processes,
    in_force::{CurrentPolicy, InForce},
    inspect::Inspector,
    metadata::Metadata,
    resolve::Names,
    settings::{Question, Settings},
    summary::Tally,
};

/// What the workers of one gateway share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The policy in force.
    pub(crate) policy: Arc<CurrentPolicy>,
    /// The record.
    pub(crate) audit: AuditLog,
    /// Names and bindings.
    pub(crate) names: Arc<Names>,
    /// Counts.
    pub(crate) tally: Arc<Tally>,
    /// Bounds.
    pub(crate) settings: Arc<Settings>,
    /// Who answers questions.
    pub(crate) questions: Option<mpsc::Sender<Question>>,
    /// What was answered for the whole run.
    pub(crate) approvals: Approvals,
    /// Who opened a connection.
    pub(crate) processes: Option<Arc<Processes>>,
    /// What TLS is opened with.
    pub(crate) inspector: Option<Inspector>,
    /// What secrets are attached with.
    pub(crate) keeper: Option<Keeper>,
    /// What answers in place of clouds' metadata services have in common.
    pub(crate) metadata: Metadata,
    /// The number of the next flow.
    pub(crate) next_flow: AtomicU64,
}

impl Shared {
    /// A number for a new flow.
    pub(crate) fn flow_number(&self) -> u64 {
        self.next_flow.fetch_add(1, Ordering::Relaxed)
    }

    /// The policy in force now.
    pub(crate) fn in_force(&self) -> Arc<InForce> {
        self.policy.load_full()
    }
}
