//! The YAML policy file: text to checked policy, with errors a person can act on.
//!
//! No I/O, no clock: functions take bytes and times. Around the file itself stand the tools that work on
//! policies as people keep them: tests, replay of records, learning from records, differences, appending a rule.
//!
//! ```text
//! bytes --document--> tree with places --shape--> wire types --convert--> policy::model::PolicySpec
//!                          \___________ every finding gets its line, column and caret ___________/
//! ```

/// From the file as written to the policy that is compiled.
mod convert;
/// What is wrong with a file, and how it is shown.
mod diagnostics;
/// Text to a tree that knows where everything stands.
mod document;
/// A flow that nobody opened: facts made from a few words.
pub mod flow;
/// One call from bytes to policy.
mod parse;
/// Where in a policy something stands.
mod place;
/// Ready policies: presets and packs.
pub mod presets;
/// The JSON Schema of the file format.
mod schema;
/// The shape of the file, read off its JSON Schema.
mod shape;
/// A policy's own tests.
pub mod trial;
/// The file's fields, as they are written.
pub mod wire;

pub use diagnostics::{Diagnostic, Diagnostics, Related, Severity};
pub use flow::{Destination, SupposedFlow, facts_from};
pub use parse::{NeededList, NeededLists, PolicyFile, Position, parse};
pub use schema::schema;
pub use trial::{PolicyTest, TestOutcome, run_tests};
