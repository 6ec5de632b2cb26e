//! From what was seen to a policy that allows exactly that.
//!
//! What is proposed is what ran without a rule of its own against it: flows that were allowed, and flows and
//! questions that only the mode's default denied. What a guard or a rule denied on purpose is listed in
//! comments and never allowed, with one exception: a private address becomes a rule by that very address,
//! with a warning to read. Where the run's policy looked at requests, exactly these are proposed, and never more
//! of their host. The text is the same for the same events, and it parses.

/// Requests that were looked at.
mod requests;
/// What was seen, sorted.
mod seen;
/// The proposal as text.
mod text;
/// The proposal's own tests.
mod trials;

use audit_event::Event;
use jiff::Timestamp;

use seen::Seen;

/// A proposed policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learned {
    /// A policy file, with a comment for each destination.
    pub text: String,
    /// How many rules it has.
    pub rules: usize,
    /// How many destinations were seen and are not proposed; they stand in comments.
    pub not_proposed: usize,
}

/// Proposes a policy from recorded events and their times.
pub fn learn<'e>(events: impl IntoIterator<Item = (Timestamp, &'e Event)>) -> Learned {
    let mut seen = Seen::default();
    for (time, event) in events {
        seen.event(time, event);
    }
    text::write(seen)
}

#[cfg(test)]
pub(crate) mod tests;
