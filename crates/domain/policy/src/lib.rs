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
pub mod address;
/// From the policy as written to a fast form.
pub mod compile;
/// What was decided, and why.
mod decision;
/// Every rule tried, and why.
mod explain;
/// What is known of a flow when it is judged.
mod facts;
/// The built-in guards: what no rule has to say.
mod guard;
/// Host names: one normal form, and patterns over it.
mod host_name;
/// Paths of HTTP requests: one normal form, and globs over it.
pub mod http_path;
/// Queries of HTTP requests: one parameter, never in doubt.
pub mod http_query;
/// Facts to a decision.
mod judge;
/// What to do with a DNS question.
mod judge_name;
/// The policy as written and checked: modes, groups, routes, rules.
pub mod model;
/// A destination: a name or an address, never in doubt.
mod target;

pub use compile::{CompileError, CompiledPolicy, OwnAddresses, Source};
pub use decision::{
    Decision, Enforcement, Layer, Missing, NameAnswer, NameDecision, Permit, Reason, Step, Verdict, Would, WouldVerdict,
};
pub use explain::{Conclusion, Explanation, Outcome, Tried};
pub use facts::{EchState, Fact, Facts, HttpFacts, NameSource, NamedHost, ProcessFacts, Protocol, TlsFacts};
pub use guard::Guard;
pub use host_name::{HostName, HostNameError, HostPattern};
pub use judge_name::QueryType;
pub use target::Target;
