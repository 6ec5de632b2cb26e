//! What to do about what was denied, or not found, at the end of a run.
//!
//! A rule's denial is answered with how to allow it. A guard's is not: what it guards is said first, and then the
//! narrowest rule that opens it, where one does (spec/egress.md, 2).

use std::net::{IpAddr, SocketAddr};

use gateway::{Group, Summary};
use policy::Guard;

/// How many guards are explained.
const EXPLAINED: usize = 3;

/// How to see and allow what was denied, a line each. `managed` are the package managers that the program would fetch
/// with.
pub(crate) fn hints(run: &str, summary: &Summary, is_bare: bool, managed: &[String]) -> Vec<String> {
    let mut hints = Vec::new();
    if !summary.denials.is_empty() {
        let see = format!("see `cofferdam observe --run {run} --verdict denied`");
        hints.push(match summary.denials.iter().any(|denial| guard(denial).is_none()) {
            true => {
                format!("{see}; {}, or learn a policy: `cofferdam policy learn --run {run}`", allow(is_bare, managed))
            }
            false => see,
        });
    }
    let mut explained: Vec<Guard> = Vec::new();
    for denial in &summary.denials {
        if let Some(guard) = guard(denial).filter(|guard| !explained.contains(guard))
            && explained.len() < EXPLAINED
        {
            explained.push(guard);
            hints.push(about(guard, &denial.what));
        }
    }
    if !summary.unresolved.is_empty() {
        hints.push(format!(
            "the policy opens these names; what their DNS server said: `cofferdam observe --run {run} --type dns`"
        ));
    }
    hints
}

fn allow(is_bare: bool, managed: &[String]) -> String {
    match (is_bare, managed) {
        (true, []) => "no policy was given: allow with --allow HOST:PORT or --managed NAME".to_owned(),
        (true, names) => format!("no policy was given: allow with --managed {}", names.join(",")),
        (false, _) => "allow with a rule".to_owned(),
    }
}

/// The guard that denied.
fn guard(denial: &Group) -> Option<Guard> {
    Guard::ALL.into_iter().find(|guard| guard.as_str() == denial.rule)
}

/// What a guard guards, and what opens it.
fn about(guard: Guard, what: &str) -> String {
    let one = narrow(what);
    let (guards, then) = match guard {
        Guard::Metadata => (
            "a cloud's metadata service, which hands this machine's credentials to whoever asks",
            format!("leave it closed; no name and no range opens it, only a rule of that one address: {one}"),
        ),
        Guard::Loopback => (
            "this machine's own services, many of which trust whoever reaches them from here",
            "run what the command needs inside the sandbox, where 127.0.0.1 is the command's own; only a rule of the one \
             address and port opens it: --allow host.cofferdam.internal:PORT@127.0.0.1/32"
                .to_owned(),
        ),
        Guard::OwnAddress => (
            "this machine's own addresses, and what listens there",
            format!("only a rule of the one address opens it, best with its port: {one}"),
        ),
        Guard::LinkLocal => (
            "the link this machine is on: its router, its cloud's services",
            format!("leave it closed; only a rule of the address opens it: {one}"),
        ),
        Guard::Private => (
            "private networks, where routers, printers and company servers trust who is inside",
            format!("open the one address and port that is meant: {one}"),
        ),
        Guard::Multicast | Guard::Broadcast => {
            ("what reaches many machines at once", "leave it closed: TCP has no use for it".to_owned())
        }
        Guard::Unspecified | Guard::Reserved => {
            ("addresses that are nobody's", "leave it closed: the program asks for a wrong address".to_owned())
        }
        Guard::Malformed => ("against what can be read in two ways", "no rule opens it; observe says what it was".to_owned()),
        Guard::Ech => (
            "against names that are hidden in an encrypted ClientHello",
            "`ech: allow` on a rule accepts that another name may be behind the one seen".to_owned(),
        ),
        Guard::Binding => (
            "against addresses that are not the name's",
            "no rule by name opens it: the program resolved elsewhere, or lied about the name".to_owned(),
        ),
        Guard::DnsLimit => (
            "against data carried out in DNS questions",
            "where the program is right, raise `dns:` limits in a policy file".to_owned(),
        ),
    };
    format!("{} guards {guards}: {then}", guard.as_str())
}

/// The flag for one destination, from how it stands in the summary: `10.0.0.8:5432`, `POST wiki.corp.example`.
fn narrow(what: &str) -> String {
    let destination = what.rsplit(' ').next().unwrap_or_default();
    let plain = destination.replace(['[', ']'], "");
    match (destination.parse::<SocketAddr>(), plain.parse::<IpAddr>(), destination.rsplit_once(':')) {
        (Ok(exact), _, _) => format!("--allow {exact}"),
        (_, Ok(IpAddr::V4(address)), _) => format!("--allow {address}:PORT"),
        (_, Ok(IpAddr::V6(address)), _) => format!("--allow [{address}]:PORT"),
        (_, _, Some((name, port))) => format!("--allow {name}:{port}@ADDRESS/32"),
        (_, _, None) => format!("--allow {destination}:PORT@ADDRESS/32"),
    }
}

#[cfg(test)]
mod tests {
    use gateway::Unresolved;

    use super::*;
    use crate::run::arguments::Destination;

    fn summary(denials: &[(&str, &str)]) -> Summary {
        let group =
            |(what, rule): &(&str, &str)| Group { what: (*what).to_owned(), rule: (*rule).to_owned(), count: 1 };
        Summary { denials: denials.iter().map(group).collect(), ..Summary::default() }
    }

    #[test]
    fn a_rules_denial_is_answered_with_how_to_allow_it() {
        let denied = summary(&[("dns a.example", "mode-default")]);
        let told = hints("7f3a", &denied, true, &[]);
        assert_eq!(
            told,
            [
                "see `cofferdam observe --run 7f3a --verdict denied`; no policy was given: allow with --allow HOST:PORT or \
              --managed NAME, or learn a policy: `cofferdam policy learn --run 7f3a`"
            ]
        );
        assert!(hints("7f3a", &denied, true, &["pip".to_owned()])[0].contains("--managed pip,"));
        assert!(hints("7f3a", &denied, false, &[])[0].contains("allow with a rule,"));
        assert!(hints("7f3a", &Summary::default(), true, &[]).is_empty());
    }

    #[test]
    fn a_guards_denial_is_answered_with_what_it_guards() {
        let told =
            hints("7f3a", &summary(&[("169.254.169.254", "guard:metadata"), ("x", "guard:metadata")]), true, &[]);
        assert_eq!(
            told,
            [
                "see `cofferdam observe --run 7f3a --verdict denied`",
                "guard:metadata guards a cloud's metadata service, which hands this machine's credentials to whoever \
                 asks: leave it closed; no name and no range opens it, only a rule of that one address: \
                 --allow 169.254.169.254:PORT"
            ]
        );
        for guard in Guard::ALL {
            let told = hints("7f3a", &summary(&[("POST db.example", guard.as_str())]), true, &[]);
            assert!(told.len() == 2 && told[1].starts_with(&format!("{} guards ", guard.as_str())), "{told:?}");
            assert!(!told.concat().contains("no policy was given"), "{told:?}");
        }
    }

    #[test]
    fn the_narrow_flag_is_one_that_is_understood() {
        for (what, expected) in [
            ("10.0.0.8:5432", "--allow 10.0.0.8:5432"),
            ("GET 10.0.0.8", "--allow 10.0.0.8:PORT"),
            ("udp [fd00::1]:123", "--allow [fd00::1]:123"),
            ("[fd00::1]", "--allow [fd00::1]:PORT"),
            ("wiki.corp.example:8080", "--allow wiki.corp.example:8080@ADDRESS/32"),
            ("dns wiki.corp.example", "--allow wiki.corp.example:PORT@ADDRESS/32"),
        ] {
            let flag = narrow(what);
            assert_eq!(flag, expected);
            let given = flag.replace("--allow ", "").replace("PORT", "443").replace("ADDRESS", "10.0.0.8");
            assert!(given.parse::<Destination>().is_ok(), "{given}");
        }
    }

    #[test]
    fn names_without_an_address_are_the_servers_matter() {
        let unresolved = vec![Unresolved { name: "gone.example".to_owned(), reason: "NXDOMAIN".to_owned() }];
        let summary = Summary { unresolved, ..Summary::default() };
        assert!(hints("7f3a", &summary, true, &[])[0].ends_with("`cofferdam observe --run 7f3a --type dns`"));
    }
}
