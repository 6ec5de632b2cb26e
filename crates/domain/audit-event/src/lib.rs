//! The closed list of audit events and the hash chain that ties them together.
//!
//! An [`Event`] says what happened. A [`Chain`] gives it a sequence number, a time, the hash of the one
//! before it and its own, and makes the one JSON line that is written (spec/egress.md, 9 and 11).

/// What happened: the closed list.
mod event;

pub use event::{
    Destination, DnsDecided, EndedBy, Event, FlowDecided, FlowEnded, HttpRequest, PolicyApplied, PolicyRefused,
    Process, RunContext, SandboxChanged, TlsSeen, Transfer, WouldRecord, microseconds,
};
