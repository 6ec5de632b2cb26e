//! Typed identifiers, labels and secrets that every other crate speaks in.
//!
//! What belongs here is a value that more than one part of the product names and that must not be
//! confused with another of the same shape. What a value *means* stays with the crate that owns it.

/// Identifiers: runs, rules, groups, routes, credentials, revisions.
mod ids;
/// Labels on a sandbox and the selectors that match them.
mod labels;
/// Values that nobody may see by accident.
mod secret;

pub use ids::{CredentialName, GroupName, IdError, NameError, Revision, RouteName, RuleName, RunId};
pub use labels::{LabelSelector, Labels};
pub use secret::Secret;
