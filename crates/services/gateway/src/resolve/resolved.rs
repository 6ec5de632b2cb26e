//! The addresses of a name, out of both families' answers.

use std::{net::IpAddr, time::Instant};

use policy::HostName;
use smallvec::SmallVec;

use super::{ResolveError, cache::Outcome};

/// The addresses of a name. No guard has seen them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// In the server's order, IPv6 first.
    pub(crate) addresses: SmallVec<[IpAddr; 4]>,
    /// The end of its chain of aliases.
    pub(crate) canonical: Option<HostName>,
    /// Until when they hold.
    pub(crate) expires: Instant,
}

/// One answer out of both families': one of them is enough.
pub(super) fn combine(six: Outcome, four: Outcome) -> Result<Resolved, ResolveError> {
    let mut addresses: SmallVec<[IpAddr; 4]> = SmallVec::new();
    let mut canonical = None;
    let mut expires: Option<Instant> = None;
    let mut exists = false;
    let mut failure = None;
    for outcome in [six, four] {
        match outcome {
            Ok(found) => {
                addresses.extend_from_slice(&found.answer.addresses);
                exists |= found.answer.exists;
                canonical = canonical.or_else(|| found.answer.canonical.clone());
                expires = Some(expires.map_or(found.expires, |other| other.min(found.expires)));
            }
            // A denial says more than a failure.
            Err(error) if error.rule().is_some() => failure = Some(error),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    match (expires, failure) {
        (Some(expires), _) if !addresses.is_empty() => Ok(Resolved { addresses, canonical, expires }),
        (_, Some(error)) => Err(error),
        (_, None) if exists => Err(ResolveError::NoAddress),
        (_, None) => Err(ResolveError::NoSuchName),
    }
}
