//! Network rules: facts in, a decision and its reasons out.
//!
//! No I/O, no clock, no async. A caller gathers [`Facts`] about a flow, asks a [`CompiledPolicy`],
//! and gets a [`Decision`], or is told which fact is still needed ([`Step::Needs`]). Only this crate
//! can make a [`Permit`]; forwarding a byte consumes one (invariant *No permit, no bytes*).
//!
//! ```text
//! PolicySpec (checked source) --compile--> CompiledPolicy --judge(Facts)--> Step
//! ```

/// IP addresses: canonical form, embedded addresses, special ranges.
mod address;
/// What was decided, and why.
mod decision;
/// What is known of a flow when it is judged.
mod facts;
/// Host names: one normal form, and patterns over it.
mod host_name;
/// The policy as written and checked: modes, groups, routes, rules.
pub mod model;

/// From the policy as written to a fast form.
pub mod compile;

pub use decision::{
    Decision, Enforcement, Layer, Missing, NameAnswer, NameDecision, Permit, Reason, Step, Verdict, Would, WouldVerdict,
};
pub use facts::{EchState, Fact, Facts, HttpFacts, NameSource, NamedHost, ProcessFacts, Protocol, TlsFacts};
pub use host_name::{HostName, HostPattern};
