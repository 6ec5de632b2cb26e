//! The proposal's own tests, drawn from what was seen: what ran is allowed, what was refused on purpose stays denied,
//! and so does what nobody asked for. They hold whoever edits the file to the record, or to saying that it changed.

use std::{
    collections::BTreeSet,
    fmt::{self, Write as _},
    net::IpAddr,
};

use policy::HostName;

use super::{
    seen::{Place, Seen, Transport},
    text::{Kind, Members, RuleKey},
};
use crate::flow::NEUTRAL_ADDRESS;

/// The most tests of one kind.
const MOST: usize = 100;
/// A name that nobody can have asked for.
const NOBODY: &str = "not-in-the-record.invalid";

pub(super) fn draw<'r>(
    out: &mut String,
    seen: &Seen,
    rules: impl Iterator<Item = (&'r RuleKey, &'r Members)>,
) -> fmt::Result {
    let allowed: Vec<String> = rules.flat_map(|(key, members)| allowed(seen, key, members)).collect();
    let denied: BTreeSet<String> = seen.refused.keys().filter_map(|(what, _)| denied(seen, what)).collect();
    let nobody =
        denied_name(seen, NOBODY, 443).map(|to| format!("{{ to: \"{to}\", expect: denied, rule: mode-default }}"));
    let all = allowed.iter().take(MOST).chain(denied.iter().take(MOST)).chain(&nobody);
    out.push_str(
        "  # From the record; `policy test` runs them, and `policy apply` before it changes anything.\n  tests:\n",
    );
    for test in all {
        writeln!(out, "    - {test}")?;
    }
    let more = allowed.len().saturating_sub(MOST) + denied.len().saturating_sub(MOST);
    if more > 0 {
        writeln!(out, "    # and {more} more of the kind")?;
    }
    Ok(())
}

/// A test for each destination of a rule, at the first of its ports.
fn allowed(seen: &Seen, key: &RuleKey, members: &Members) -> Vec<String> {
    let port = key.ports.first().copied().unwrap_or_default();
    let test = |place: &Place| {
        let (host, address) = match (place, key.kind) {
            (Place::Name(name), Kind::Names | Kind::Addresses | Kind::Private) => (name.clone(), None),
            (Place::Address(address) | Place::Private(address), _) => {
                let name = seen.private_names.get(address).and_then(BTreeSet::first);
                match name.filter(|_| matches!(place, Place::Private(_))) {
                    Some(name) => (name.clone(), Some(*address)),
                    None => (host(*address), None),
                }
            }
        };
        let to = match key.transport {
            Transport::Tcp => format!("{host}:{port}"),
            Transport::Udp => format!("udp://{host}:{port}"),
            Transport::Icmp => format!("icmp://{host}"),
        };
        let address = address.map(|address| format!(", address: \"{address}\"")).unwrap_or_default();
        format!("{{ to: \"{to}\"{address}, expect: allowed }}")
    };
    members.keys().map(test).collect()
}

/// A test for what was refused (`HOST:PORT`), where nothing that is proposed allows it all the same.
fn denied(seen: &Seen, what: &str) -> Option<String> {
    let (shown, port) = what.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port > 0)?;
    let to = match shown.parse::<IpAddr>() {
        Ok(address) => (!is_proposed(seen, &Place::Address(address), port)
            && !is_proposed(seen, &Place::Private(address), port))
        .then(|| format!("{}:{port}", host(address))),
        Err(_) => denied_name(seen, HostName::parse(shown).ok()?.as_str(), port),
    };
    to.map(|to| format!("{{ to: \"{to}\", expect: denied }}"))
}

/// A name that nothing allows: not by itself, and not by the address that a test takes it to have.
fn denied_name(seen: &Seen, name: &str, port: u16) -> Option<String> {
    let proposed = is_proposed(seen, &Place::Name(name.to_owned()), port)
        || is_proposed(seen, &Place::Address(NEUTRAL_ADDRESS), port);
    (!proposed).then(|| format!("{name}:{port}"))
}

fn is_proposed(seen: &Seen, place: &Place, port: u16) -> bool {
    seen.reaches.keys().any(|reach| reach.place == *place && reach.port == port)
}

fn host(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}
