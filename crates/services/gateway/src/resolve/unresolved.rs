//! Which names could not be resolved, for the end of a run: a name is one where no answer, of either family, has an
//! address.

use std::time::Instant;

use policy::{CompiledPolicy, HostName, QueryType};
use values::RouteName;

use super::{Names, cache::Outcome};
use crate::summary::NO_ADDRESS;

impl Names {
    /// Notes what upstream gave. It is in the cache already, so of two answers that come at once the later one sees the
    /// earlier.
    pub(super) fn note(
        &self,
        policy: &CompiledPolicy,
        route: Option<&RouteName>,
        name: &HostName,
        record: QueryType,
        outcome: &Outcome,
    ) {
        let Some(other) = other_family(record) else { return };
        let reason = match outcome {
            Ok(found) if !found.answer.addresses.is_empty() => return self.tally.resolved(name),
            Ok(found) if found.answer.exists => NO_ADDRESS.to_owned(),
            Ok(_) => "NXDOMAIN".to_owned(),
            Err(error) => error.in_short(),
        };
        let other = self.cached(policy, route, name, other, Instant::now());
        if !matches!(other, Some(Ok(found)) if !found.answer.addresses.is_empty()) {
            self.tally.unresolved(name, reason);
        }
    }
}

/// The record type of the other family's addresses, where this one has addresses.
fn other_family(record: QueryType) -> Option<QueryType> {
    match record {
        QueryType::A => Some(QueryType::Aaaa),
        QueryType::Aaaa => Some(QueryType::A),
        QueryType::Cname
        | QueryType::Https
        | QueryType::Svcb
        | QueryType::Mx
        | QueryType::Txt
        | QueryType::Srv
        | QueryType::Other(_) => None,
    }
}
