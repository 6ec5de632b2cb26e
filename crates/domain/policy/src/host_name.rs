//! Host names: one normal form, and patterns over it.

use std::{fmt, sync::Arc};

/// A host name in normal form: lower-case ASCII (A-labels, UTS 46), no trailing dot, at most 253 bytes,
/// no control characters, no mixed scripts, and never an IP address in any spelling.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(Arc<str>);

/// A pattern over host names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    /// This name.
    Exact(HostName),
    /// `*.name`: every sub-name, not the apex.
    Subnames(HostName),
    /// A feed's domain: the name and every sub-name.
    Domain(HostName),
    /// `*`: every name; only in `unrestricted`.
    Any,
}

impl HostName {
    /// The normal form as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
