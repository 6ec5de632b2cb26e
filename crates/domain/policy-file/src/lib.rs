//! The YAML policy file: text to checked policy, with errors a person can act on.
//!
//! No I/O, no clock: functions take bytes and times. Around the file itself stand the tools that work on
//! policies as people keep them: tests, replay of records, learning from records, differences, appending a rule.
//!
//! ```text
//! bytes --document--> tree with places --shape--> wire types --convert--> policy::model::PolicySpec
//!                          \___________ every finding gets its line, column and caret ___________/
//! ```

/// One more rule in a person's file.
pub mod append;
/// From the file as written to the policy that is compiled.
mod convert;
/// What is wrong with a file, and how it is shown.
mod diagnostics;
/// What differs between two policies.
pub mod difference;
/// Text to a tree that knows where everything stands.
mod document;
/// A flow that nobody opened: facts made from a few words.
pub mod flow;
/// From what was seen to a policy that allows exactly that.
pub mod learn;
/// One call from bytes to policy.
mod parse;
/// Where in a policy something stands.
mod place;
/// Ready policies: presets and packs.
pub mod presets;
/// Wire types to YAML.
mod print;
/// What a policy would have done to recorded traffic.
pub mod replay;
/// The JSON Schema of the file format.
mod schema;
/// The shape of the file, read off its JSON Schema.
mod shape;
/// A policy's own tests.
pub mod trial;
/// The file's fields, as they are written.
pub mod wire;

pub use append::{AppendError, Asked, NewRule, NotFaithful, append_rule};
pub use diagnostics::{Diagnostic, Diagnostics, Related, Severity};
pub use difference::{Difference, diff};
pub use flow::{Destination, NEUTRAL_ADDRESS, SupposedFlow, facts_from};
pub use learn::{Learned, learn};
pub use parse::{NeededList, NeededLists, PolicyFile, Position, parse};
pub use print::{PrintError, print};
pub use replay::{Change, Replay, replay};
pub use schema::schema;
pub use trial::{PolicyTest, TestOutcome, run_tests};
