//! The closed list of audit events and the hash chain that ties them together.
//!
//! An [`Event`] says what happened. A [`Chain`] gives it a sequence number, a time, the hash of the one
//! before it and its own, and makes the one JSON line that is written (spec/egress.md, 9 and 11).

/// The hashed form of a line that was read.
mod canonical;
/// Gives each event its number, time and hash.
mod chain;
/// A line for people.
mod compact;
/// An event's line and its hashed form, in one pass.
mod encode;
/// The fields that may be erased later.
pub mod erasable;
/// What happened: the closed list.
mod event;
/// Which lines are wanted: the flags of `observe`.
mod filter;
/// JSON scalars as RFC 8785 wants them.
mod json_text;
/// Events as OCSF 1.8 JSON.
mod ocsf;
/// A line back into what it says.
mod parse;
/// The JSON Schema of a line.
mod schema;
/// Text from the workload, made fit for a record.
mod text;
/// Checks that lines form one chain.
mod verify;

pub use chain::{Chain, Position};
pub use compact::{Style, compact_line};
pub use encode::EncodeError;
pub use erasable::SaltKey;
pub use event::{
    CredentialUsed, Destination, DnsDecided, EndedBy, Event, FlowDecided, FlowEnded, HttpRequest, PolicyApplied,
    PolicyRefused, Process, RunContext, SandboxChanged, TlsSeen, Traffic, Transfer, WouldRecord, microseconds,
};
pub use filter::{Condition, Filter, FilterError, Flag};
pub use ocsf::{OCSF_VERSION, to_ocsf};
pub use parse::{Body, ERASED, EVENT_KINDS, Entry, Envelope, ParseError, parse};
pub use schema::json_schema;
pub use text::{bounded, bounded_bytes};
pub use verify::{Broken, BrokenReason, Ending, LastEvent, MAX_LINE, Verified, Verifier, VerifyError, verify};
