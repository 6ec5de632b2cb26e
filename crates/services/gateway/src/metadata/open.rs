//! The connections of one worker that are answered here.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
};

use audit_event::{EndedBy, Event, Transfer};
use policy::Guard;
use tokio::sync::Notify;
use values::{Revision, RuleName};

use super::place::Place;
use crate::{
    flow::OpenFlow,
    in_force::InForce,
    record::{self, End},
    rejudge::Share,
};

/// The connections of one worker.
#[derive(Debug, Default)]
pub(crate) struct Open {
    connections: RefCell<HashMap<u64, Rc<Connection>>>,
    next: Cell<u64>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Connection {
    place: Place,
    /// The first request that was answered: the connection's end is recorded as its.
    first: RefCell<Option<Box<OpenFlow>>>,
    /// Its last answer is given.
    leaves: Cell<bool>,
    /// Told when the policy no longer answers.
    pub(super) closed: Notify,
}

impl Open {
    /// Enters one. The caller judges by the policy in force after that, so that none slips between.
    pub(super) fn add(&self, place: Place) -> (u64, Rc<Connection>) {
        let number = self.next.get();
        self.next.set(number + 1);
        let connection =
            Connection { place, first: RefCell::default(), leaves: Cell::new(false), closed: Notify::new() };
        let connection = Rc::new(connection);
        self.connections.borrow_mut().insert(number, Rc::clone(&connection));
        (number, connection)
    }

    /// It is over; the event of its end.
    pub(super) fn remove(&self, number: u64, by: EndedBy) -> Option<Event> {
        let connection = self.connections.borrow_mut().remove(&number)?;
        connection.end(by, None)
    }

    /// The ends of what is open still, when the worker stops.
    pub(crate) fn end_all(&self) -> Vec<Event> {
        let connections: Vec<_> = self.connections.borrow_mut().drain().map(|(_, connection)| connection).collect();
        connections.iter().filter_map(|connection| connection.end(EndedBy::Shutdown, None)).collect()
    }

    /// Closes those where this policy no longer answers.
    pub(crate) fn go_over(&self, in_force: &InForce, share: &mut Share, events: &mut Vec<Event>) {
        let service = &in_force.policy.spec().metadata_service;
        for connection in self.connections.borrow().values().filter(|connection| !connection.leaves.get()) {
            share.rejudged += 1;
            if !connection.place.is_answered(service) {
                share.cut += 1;
                let cut = (in_force.policy.revision(), Guard::Metadata.rule_name());
                events.extend(connection.end(EndedBy::Policy, Some(cut)));
                connection.closed.notify_one();
            }
        }
    }
}

impl Connection {
    /// Its last answer is given: there is nothing left to be closed.
    pub(super) fn leave(&self) {
        self.leaves.set(true);
    }

    /// Whether the end of this connection will be recorded.
    pub(super) fn was_answered(&self) -> bool {
        self.first.borrow().is_some()
    }

    /// A request was answered.
    pub(super) fn note_answered(&self, open: Box<OpenFlow>) {
        self.first.borrow_mut().get_or_insert(open);
    }

    /// The event of its end; none where nothing was answered. No byte went on.
    fn end(&self, by: EndedBy, cut: Option<(Revision, RuleName)>) -> Option<Event> {
        let open = self.first.borrow_mut().take()?;
        Some(record::ended(&open, End { by, cut, bytes: Transfer::default(), error: None }))
    }
}
