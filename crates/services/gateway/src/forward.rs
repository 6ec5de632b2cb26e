//! Hands a decided, recorded and connected flow to the pump.

use std::{io, os::fd::OwnedFd, sync::Arc};

use audit_event::{EndedBy, Transfer};
use audit_log::Recorded;
use policy::{Decision, Permit, Step};

use crate::{
    establish::Established,
    flow::OpenFlow,
    in_force::InForce,
    pump::{Key, Start},
    record::{self, End},
    rejudge,
    socket::Socket,
    worker::Worker,
};

/// Forwards a flow. The permit and the record's proof are used up by it.
///
/// The policy that is in force now may be another than the one that decided. The check and the entry into the pump are
/// one step of this thread, and a new policy goes over what is in the pump, so no flow can slip between the two.
pub(crate) fn forward(worker: &Worker, client: Socket, established: Established, start: Start) -> Option<Key> {
    let Established { permit, recorded, upstream, mut open, in_force } = established;
    let current = worker.shared.in_force();
    if !Arc::ptr_eq(&in_force, &current)
        && let Some(decision) = no_longer_allowed(&mut open, &current)
    {
        rejudge::cut(worker, client, upstream, &open, &current, decision);
        return None;
    }
    let sockets = client.release().and_then(|client| Ok((client, upstream.release()?)));
    let inserted = match sockets {
        Ok((client, upstream)) => enter(permit, recorded, worker, client, upstream, start, open),
        Err(error) => Err((error, open)),
    };
    match inserted {
        Ok(key) => {
            worker.wake_if_due();
            Some(key)
        }
        Err((error, open)) => {
            let end =
                End { by: EndedBy::Unreachable, cut: None, bytes: Transfer::default(), error: Some(error.to_string()) };
            worker.record_later(record::ended(&open, end));
            None
        }
    }
}

/// The one place where a flow enters the pump.
fn enter(
    permit: Permit,
    recorded: Recorded,
    worker: &Worker,
    client: OwnedFd,
    upstream: OwnedFd,
    start: Start,
    open: Box<OpenFlow>,
) -> Result<Key, (io::Error, Box<OpenFlow>)> {
    let _used_up: (Permit, Recorded) = (permit, recorded);
    worker.pump.borrow_mut().insert(client, upstream, start, open)
}

/// The decision that ends a flow under this policy, or `None` where it goes on.
pub(crate) fn no_longer_allowed(open: &mut OpenFlow, in_force: &InForce) -> Option<Decision> {
    match rejudge::judge(open, in_force) {
        Step::Decided(decision) if open.still_goes_on(&decision) => None,
        Step::Decided(decision) => Some(decision),
        Step::Needs(_) => Some(rejudge::undecided()),
    }
}
