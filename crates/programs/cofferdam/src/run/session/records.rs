//! What a run's record says about the run itself.

use anyhow::Result;
use audit_event::{Event, PolicyApplied, PolicyRefused, SandboxChanged, bounded};

use super::Session;
use crate::run::{Found, failed, told};

/// The longest command line in a record.
const COMMAND_LIMIT: usize = 512;

impl Session {
    pub(super) fn record_start(&self, enforced: &[String], missing: &[String]) -> Result<()> {
        let refused = |error: audit_log::RecordError| failed(&error, None);
        let started = self.changed(None, enforced, missing, Vec::new());
        self.audit.record_blocking(Event::SandboxStarted(started)).map_err(refused)?;
        self.audit.record_blocking(Event::PolicyApplied(self.applied(0, 0))).map_err(refused)?;
        Ok(())
    }

    pub(super) fn record_end(&self, code: u8, enforced: &[String], missing: &[String], found: &Found) -> Result<()> {
        let ended = Event::SandboxEnded(self.changed(Some(i32::from(code)), enforced, missing, found.for_the_record()));
        self.audit.record_blocking(ended).map(drop).map_err(|error| failed(&error, None).into())
    }

    fn changed(
        &self,
        exit_code: Option<i32>,
        enforced: &[String],
        missing: &[String],
        findings: Vec<String>,
    ) -> SandboxChanged {
        SandboxChanged {
            command: bounded(&self.command, COMMAND_LIMIT),
            exit_code,
            enforced: enforced.to_vec(),
            missing: missing.to_vec(),
            opened: self.opened.clone(),
            findings,
        }
    }

    pub(super) fn applied(&self, rejudged: u64, cut: u64) -> PolicyApplied {
        PolicyApplied {
            revision: self.policy.revision().to_string(),
            name: self.policy.spec().name.clone(),
            digest: self.source.digest(self.lists.last_good(), &self.bundles),
            rejudged,
            cut,
        }
    }

    pub(super) fn record_refusal(&self, reason: &str) {
        let revision = self.policy.revision().to_string();
        self.record(Event::PolicyRefused(PolicyRefused { revision, reason: bounded(reason.trim_end(), 2000) }));
    }

    /// What is recorded about the run itself lets nothing leave: where it can't be written, that is said.
    pub(super) fn record(&self, event: Event) {
        if let Err(error) = self.audit.record_blocking(event) {
            told::note(&format!("the record can't be written: {error}"));
        }
    }
}
