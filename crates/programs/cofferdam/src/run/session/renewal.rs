//! New policies and new lists for a live run.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Instant,
};

use audit_event::Event;
use gateway::Gateway;
use policy::CompiledPolicy;
use values::Revision;

use super::Session;
use crate::{
    control::Response,
    managed_path,
    run::{bundles, choose_policy, failed, inspection, told},
    source::{self, ListReader, Source},
};

impl Session {
    /// A new policy from `policy apply`.
    pub(super) fn apply(&mut self, gateway: &Gateway, text: &str, path: &Path) -> Response {
        match self.try_apply(gateway, text, path) {
            Ok(response) => response,
            Err(refusal) => {
                self.record_refusal(&refusal.drawing);
                Response::Refused { reason: refusal.drawing }
            }
        }
    }

    fn try_apply(&mut self, gateway: &Gateway, text: &str, path: &Path) -> Result<Response, source::Refusal> {
        let folder = path.parent().map_or_else(|| PathBuf::from("/"), Path::to_path_buf);
        let started = Instant::now();
        let mut fresh = parse_beside(&path.display().to_string(), text, folder)?;
        let parsed = Instant::now();
        managed_path::fill(Arc::make_mut(&mut fresh.file.spec), &self.config, self.guard.windows())
            .map_err(|error| source::Refusal::new(|_| format!("{error:#}\n")))?;
        if self.watch {
            choose_policy::watch(Arc::make_mut(&mut fresh.file.spec));
        }
        let mut lists = ListReader::new(fresh.folder.clone());
        lists.guard(self.guard.clone());
        let content = lists.read(&fresh.file.spec).map_err(|errors| fresh.refusal(&errors))?;
        let compiled = fresh.compile_with(content, source::own_addresses(), self.next_revision())?;
        let looks_inside = compiled.needs_inspection().then(|| compiled.spec().inspecting_rules().next()).flatten();
        if let (None, Some(rule)) = (&self.opening, looks_inside) {
            return Err(fresh.refusal(&[inspection::comes_too_late(rule)]));
        }
        if !self.watch {
            fresh.pass_tests(&compiled)?;
        }
        self.kept.iter().try_for_each(|kept| kept.apply(&fresh))?;
        let (before, lists_before) =
            (std::mem::replace(&mut self.source, fresh), std::mem::replace(&mut self.lists, lists));
        let done = self.put_in_force(gateway, compiled, started, parsed);
        if done.is_err() {
            (self.source, self.lists) = (before, lists_before);
            // It was taken before; where it can't be now, no secret is to be had, and nothing leaves bare.
            self.kept.iter().for_each(|kept| drop(kept.apply(&self.source)));
        } else if let Err(error) = self.run.write_policy(text) {
            told::note(&format!("{error:#}"));
        }
        done
    }

    fn next_revision(&self) -> Revision {
        Revision(self.policy.revision().0 + 1)
    }

    /// `started` and `parsed` are when the reading of the policy's text began and ended.
    fn put_in_force(
        &mut self,
        gateway: &Gateway,
        compiled: CompiledPolicy,
        started: Instant,
        parsed: Instant,
    ) -> Result<Response, source::Refusal> {
        let bundles = bundles::read(&self.source, &compiled, &self.folder, &self.guard)?;
        let compiled = Arc::new(compiled);
        // Flows are judged by the old policy until the new one is in force.
        let can_sign = self.sign_for(&[&self.policy, &compiled]);
        let applied = gateway.apply(Arc::clone(&compiled));
        if can_sign {
            self.sign_for(&[if applied.is_ok() { &compiled } else { &self.policy }]);
        }
        let applied = applied.map_err(|error| self.source.refusal(&[error.to_string()]))?;
        self.policy = compiled;
        self.bundles = bundles;
        self.record(Event::PolicyApplied(self.applied(applied.rejudged, applied.cut)));
        Ok(Response::Applied {
            revision: applied.revision.0,
            rejudged: applied.rejudged,
            cut: applied.cut,
            parsed_us: audit_event::microseconds(parsed.saturating_duration_since(started)),
            in_force_us: audit_event::microseconds(applied.since.saturating_duration_since(parsed)),
            took_us: audit_event::microseconds(applied.took),
        })
    }

    /// Sees to it that what these policies open can be signed for. Where it can't, that is told and no more: a name that
    /// nobody signs for reaches nothing, and a policy that closes something must not wait for it.
    fn sign_for(&self, policies: &[&CompiledPolicy]) -> bool {
        let names = policies.iter().flat_map(|policy| policy.inspects());
        let signed = self.opening.as_ref().map_or(Ok(()), |opening| opening.sign_for(names));
        if let Err(error) = &signed {
            told::note(&format!("nothing new can be signed for TLS that is opened: {}", failed(error, None)));
        }
        signed.is_ok()
    }

    /// Renews what signs, where it is about to end.
    pub(super) fn renew_issuer(&self) {
        self.sign_for(&[&self.policy]);
    }

    /// Reads lists again. What can't be read stays as it was; what changed makes a new revision.
    pub(super) fn refresh_lists(&mut self, gateway: &Gateway) {
        let before = self.lists.last_good().clone();
        let (lists, errors) = self.lists.read_again(&self.source.file.spec);
        if !errors.is_empty() {
            self.record_refusal(&errors.join("; "));
        }
        if lists == before {
            return;
        }
        let parsed = Instant::now();
        let compiled = self.source.compile_with(lists, source::own_addresses(), self.next_revision());
        if let Err(refusal) = compiled.and_then(|compiled| self.put_in_force(gateway, compiled, parsed, parsed)) {
            self.record_refusal(&refusal.drawing);
        }
    }
}

/// Parsed by a thread of its own: it leaves many small holes in the memory that it takes, and what comes after it would
/// have to clear them up.
fn parse_beside(name: &str, text: &str, folder: PathBuf) -> Result<Source, source::Refusal> {
    thread::scope(|scope| {
        let parsing = scope.spawn(|| source::parse(name, text.as_bytes(), folder));
        let panicked = |_| Err(source::Refusal::new(|_| format!("{name}: the parser failed\n")));
        parsing.join().unwrap_or_else(panicked)
    })
}
