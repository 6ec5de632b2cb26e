//! The proposal's own tests, drawn from what was seen: what ran is allowed, what was refused on purpose stays denied,
//! and so does what nobody asked for. They hold whoever edits the file to the record, or to saying that it changed.

use std::{
    collections::BTreeSet,
    fmt::{self, Write as _},
    net::IpAddr,
};

use policy::HostName;

use super::{
    requests::{self, Request},
    seen::{Place, Reach, Refused, Seen, Transport},
    text::{self, Kind, Members, RuleKey},
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
    let mut allowed: Vec<(usize, String)> = rules.flat_map(|(key, members)| allowed(seen, key, members)).collect();
    // Many requests of one destination don't crowd out the others.
    allowed.sort_by_key(|(number, _)| *number);
    let denied: BTreeSet<String> = seen.refused.keys().filter_map(|refused| denied(seen, refused)).collect();
    let nobody = (!is_proposed_by_name(seen, NOBODY, 443, None))
        .then(|| format!("{{ to: \"{NOBODY}:443\", expect: denied, rule: mode-default }}"));
    let all = allowed.iter().map(|(_, test)| test).take(MOST).chain(denied.iter().take(MOST)).chain(&nobody);
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

/// A test for each destination of a rule, and for each of its requests by number, at the first of its ports.
fn allowed(seen: &Seen, key: &RuleKey, members: &Members) -> Vec<(usize, String)> {
    let port = key.ports.first().copied().unwrap_or_default();
    let tests = |place: &Place| {
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
        let address = address.map(|address| format!(", address: \"{address}\"")).unwrap_or_default();
        let all: Vec<String> = match &key.requests {
            Some(requests) => requests
                .asked
                .iter()
                .map(|(method, path)| request(&requests::url(&requests.way, &host, port, path), method))
                .collect(),
            None => vec![match key.transport {
                Transport::Tcp => format!("to: \"{host}:{port}\""),
                Transport::Udp => format!("to: \"udp://{host}:{port}\""),
                Transport::Icmp => format!("to: \"icmp://{host}\""),
            }],
        };
        all.into_iter().map(move |to| format!("{{ {to}{address}, expect: allowed }}")).enumerate()
    };
    members.keys().flat_map(tests).collect()
}

fn request(url: &str, method: &str) -> String {
    format!("to: \"{url}\", method: {}", text::text_in_quotes(method))
}

/// A test for what was refused (`HOST:PORT`), where nothing that is proposed allows it all the same.
fn denied(seen: &Seen, refused: &Refused) -> Option<String> {
    let (shown, port) = refused.what.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port > 0)?;
    let asked = refused.request.as_ref();
    let (host, proposed) = match shown.parse::<IpAddr>() {
        Ok(address) => {
            let proposed = is_proposed(seen, &Place::Address(address), port, asked)
                || is_proposed(seen, &Place::Private(address), port, asked);
            (host(address), proposed)
        }
        Err(_) => {
            let name = HostName::parse(shown).ok()?;
            let proposed = is_proposed_by_name(seen, name.as_str(), port, asked);
            (name.to_string(), proposed)
        }
    };
    let to = match asked {
        Some(asked) => request(&requests::url(&asked.way, &host, port, &asked.path), &asked.method),
        None => format!("to: \"{host}:{port}\""),
    };
    (!proposed).then(|| format!("{{ {to}, expect: denied }}"))
}

/// Whether a name is allowed: by itself, or by the address that a test takes it to have.
fn is_proposed_by_name(seen: &Seen, name: &str, port: u16, asked: Option<&Request>) -> bool {
    is_proposed(seen, &Place::Name(name.to_owned()), port, asked)
        || is_proposed(seen, &Place::Address(NEUTRAL_ADDRESS), port, asked)
}

/// Whether something there is proposed that may be what was asked for.
fn is_proposed(seen: &Seen, place: &Place, port: u16, asked: Option<&Request>) -> bool {
    let first = Reach { place: place.clone(), transport: Transport::Tcp, port: 0, request: None };
    let there = seen.reaches.range(first..).map(|(reach, _)| reach).take_while(|reach| reach.place == *place);
    there.filter(|reach| reach.port == port).any(|reach| match (&reach.request, asked) {
        (Some(own), Some(asked)) => own.is_same(asked),
        (None, _) | (_, None) => true,
    })
}

fn host(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}
