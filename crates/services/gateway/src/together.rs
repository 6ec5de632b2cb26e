//! Records of requests that are decided in one turn of a worker, written with one call.
//!
//! Each request waits for its own record as it does without: nothing goes on before it. What a busy worker saves is a
//! write, and a wait for the other workers' writes, for each.

use std::{cell::RefCell, rc::Rc};

use audit_event::Event;
use audit_log::{AuditLog, RecordError, Recorded};
use tokio::sync::oneshot;

/// Who waits for a record.
type Answer = oneshot::Sender<Result<Recorded, RecordError>>;

/// The records of one turn.
#[derive(Debug, Default)]
pub(crate) struct Together(RefCell<Vec<(Event, Answer)>>);

impl Together {
    /// Records an event with those of the other tasks that are about to run.
    pub(crate) async fn record(self: &Rc<Self>, audit: &AuditLog, event: Event) -> Result<Recorded, RecordError> {
        let (answer, told) = oneshot::channel();
        let is_first = {
            let mut waiting = self.0.borrow_mut();
            waiting.push((event, answer));
            waiting.len() == 1
        };
        if is_first {
            // A task of its own: who was first may be gone before the others have their answer.
            let (together, audit) = (Rc::clone(self), audit.clone());
            tokio::task::spawn_local(async move { together.write(&audit).await });
        }
        told.await.unwrap_or(Err(RecordError::Unanswered))
    }

    async fn write(&self, audit: &AuditLog) {
        let (events, waiting): (Vec<_>, Vec<_>) = self.0.take().into_iter().unzip();
        for (waits, answer) in waiting.into_iter().zip(audit.record_all(&events).await) {
            // Who is gone needs none; its record stands.
            let _ = waits.send(answer);
        }
    }
}
