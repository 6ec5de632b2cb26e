//! What to do about what was denied, or not found, at the end of a run.
//!
//! A rule's denial is answered with how to allow it. A guard's is not: what it guards is said first, and then the
//! narrowest rule that opens it, where one does (spec/egress.md, 2).

use std::net::{IpAddr, SocketAddr};

use gateway::{Group, Summary};
use policy::Guard;

use super::choose_policy::ChosenBy;

/// How many guards are explained.
const EXPLAINED: usize = 3;

/// What an advice depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Situation<'a> {
    /// What chose the policy.
    pub(crate) chosen_by: ChosenBy,
    /// Whether a person could be asked.
    pub(crate) asks: bool,
    /// The package managers that the program would fetch with.
    pub(crate) managed: &'a [String],
}

/// How to see and allow what was denied, a line each.
pub(crate) fn hints(run: &str, summary: &Summary, situation: &Situation<'_>) -> Vec<String> {
    let mut hints = Vec::new();
    if summary.asked > 0 && !situation.asks {
        hints.push("a rule asks, and nobody could be asked: run it at a terminal, in its foreground".to_owned());
    }
    if !summary.denials.is_empty() {
        let see = format!("see `cofferdam observe --run {run} --verdict denied`");
        hints.push(match summary.denials.iter().any(|denial| guard(denial).is_none()) {
            true => format!("{see}; {}, or learn a policy: `cofferdam policy learn --run {run}`", allow(situation)),
            false => see,
        });
    }
    let mut explained: Vec<Guard> = Vec::new();
    for denial in &summary.denials {
        if let Some(guard) = guard(denial).filter(|guard| !explained.contains(guard))
            && explained.len() < EXPLAINED
        {
            explained.push(guard);
            hints.push(about(guard, &denial.what, situation.chosen_by));
        }
    }
    if !summary.unresolved.is_empty() {
        hints.push(format!(
            "the policy opens these names; what their DNS server said: `cofferdam observe --run {run} --type dns`"
        ));
    }
    hints
}

fn allow(situation: &Situation<'_>) -> String {
    match (situation.chosen_by, situation.managed) {
        (ChosenBy::Nothing, []) => "no policy was given: allow with --allow HOST:PORT or --managed NAME".to_owned(),
        (ChosenBy::Nothing, names) => format!("no policy was given: allow with --managed {}", names.join(",")),
        (ChosenBy::Flags, _) => "allow with --allow HOST:PORT".to_owned(),
        (ChosenBy::Policy, _) => "allow with a rule".to_owned(),
    }
}

/// The guard that denied.
fn guard(denial: &Group) -> Option<Guard> {
    Guard::ALL.into_iter().find(|guard| guard.as_str() == denial.rule)
}

/// What a guard guards, and what opens it.
fn about(guard: Guard, what: &str, chosen_by: ChosenBy) -> String {
    let one = Narrow::of(what).written(chosen_by);
    let (guards, then) = match guard {
        Guard::Metadata => (
            "a cloud's metadata service, which hands this machine's credentials to whoever asks",
            format!("leave it closed; no name and no range opens it, only a rule of that one address: {one}"),
        ),
        Guard::Loopback => (
            "this machine's own services, many of which trust whoever reaches them from here",
            format!(
                "run what the command needs inside the sandbox, where 127.0.0.1 is the command's own; a rule of the one \
                 address and port opens it, to what that rule allows: {}",
                Narrow::host_itself().written(chosen_by)
            ),
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
        Guard::Malformed => {
            ("against what can be read in two ways", "no rule opens it; observe says what it was".to_owned())
        }
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

/// The least that opens one destination; what is not known of it stands there as a word in capitals.
struct Narrow {
    name: Option<String>,
    address: String,
    port: String,
}

impl Narrow {
    /// From how it stands in the summary: `10.0.0.8:5432`, `POST wiki.corp.example`.
    fn of(what: &str) -> Self {
        let destination = what.rsplit(' ').next().unwrap_or_default();
        let plain = destination.replace(['[', ']'], "");
        let port = || "PORT".to_owned();
        let (name, address, port) = match (destination.parse::<SocketAddr>(), plain.parse::<IpAddr>()) {
            (Ok(exact), _) => (None, exact.ip().to_string(), exact.port().to_string()),
            (_, Ok(address)) => (None, address.to_string(), port()),
            (_, _) => {
                let (name, port) =
                    destination.rsplit_once(':').map_or((destination, port()), |(name, port)| (name, port.to_owned()));
                (Some(name.to_owned()), "ADDRESS".to_owned(), port)
            }
        };
        Self { name, address, port }
    }

    /// This machine's own loopback.
    fn host_itself() -> Self {
        let name = Some("host.cofferdam.internal".to_owned());
        Self { name, address: "127.0.0.1".to_owned(), port: "PORT".to_owned() }
    }

    /// As a flag, or as what a rule of a policy says.
    fn written(&self, chosen_by: ChosenBy) -> String {
        let Self { name, address, port } = self;
        let bits = if address.contains(':') { 128 } else { 32 };
        match (chosen_by, name) {
            (ChosenBy::Policy, Some(name)) => {
                format!("`to: {{ cidrs: [\"{address}/{bits}\"] }}, names: [{name}], ports: [{port}]`")
            }
            (ChosenBy::Policy, None) => format!("`to: {{ cidrs: [\"{address}/{bits}\"] }}, ports: [{port}]`"),
            (ChosenBy::Nothing | ChosenBy::Flags, Some(name)) => format!("--allow {name}:{port}@{address}/{bits}"),
            (ChosenBy::Nothing | ChosenBy::Flags, None) if bits == 128 => format!("--allow [{address}]:{port}"),
            (ChosenBy::Nothing | ChosenBy::Flags, None) => format!("--allow {address}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use gateway::Unresolved;

    use super::*;
    use crate::run::arguments::Destination;

    const BARE: Situation<'_> = Situation { chosen_by: ChosenBy::Nothing, asks: true, managed: &[] };
    const BY_POLICY: Situation<'_> = Situation { chosen_by: ChosenBy::Policy, ..BARE };

    fn summary(denials: &[(&str, &str)]) -> Summary {
        let group =
            |(what, rule): &(&str, &str)| Group { what: (*what).to_owned(), rule: (*rule).to_owned(), count: 1 };
        Summary { denials: denials.iter().map(group).collect(), ..Summary::default() }
    }

    #[test]
    fn a_rules_denial_is_answered_with_how_to_allow_it() {
        let denied = summary(&[("dns a.example", "mode-default")]);
        let told = hints("7f3a", &denied, &BARE);
        assert_eq!(
            told,
            [
                "see `cofferdam observe --run 7f3a --verdict denied`; no policy was given: allow with --allow HOST:PORT or \
              --managed NAME, or learn a policy: `cofferdam policy learn --run 7f3a`"
            ]
        );
        let with_pip = Situation { managed: &["pip".to_owned()], ..BARE };
        assert!(hints("7f3a", &denied, &with_pip)[0].contains("--managed pip,"));
        let by_flags = Situation { chosen_by: ChosenBy::Flags, ..BARE };
        assert!(hints("7f3a", &denied, &by_flags)[0].contains("; allow with --allow HOST:PORT,"));
        assert!(hints("7f3a", &denied, &BY_POLICY)[0].contains("; allow with a rule,"));
        assert!(hints("7f3a", &Summary::default(), &BARE).is_empty());
    }

    #[test]
    fn where_nobody_could_be_asked_that_is_said() {
        let asked = Summary { asked: 1, ..summary(&[("GET a.example", "ask-web")]) };
        let words = "a rule asks, and nobody could be asked: run it at a terminal, in its foreground";
        let without = Situation { asks: false, ..BY_POLICY };
        assert_eq!(hints("7f3a", &asked, &without)[0], words);
        assert!(!hints("7f3a", &asked, &BY_POLICY).concat().contains("nobody"));
        assert!(!hints("7f3a", &summary(&[("a", "no-a")]), &without).concat().contains("nobody"));
    }

    #[test]
    fn a_guards_denial_is_answered_with_what_it_guards() {
        let told = hints("7f3a", &summary(&[("169.254.169.254", "guard:metadata"), ("x", "guard:metadata")]), &BARE);
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
            let denied = summary(&[("POST db.example", guard.as_str())]);
            let told = hints("7f3a", &denied, &BARE);
            assert!(told.len() == 2 && told[1].starts_with(&format!("{} guards ", guard.as_str())), "{told:?}");
            assert!(!hints("7f3a", &denied, &BY_POLICY).concat().contains("--allow"), "no such flag beside a policy");
            assert!(!told.concat().contains("no policy was given"), "{told:?}");
        }
    }

    #[test]
    fn the_narrow_flag_and_rule_are_understood() {
        for (what, flag, rule) in [
            ("10.0.0.8:5432", "10.0.0.8:5432", r#"to: { cidrs: ["10.0.0.8/32"] }, ports: [5432]"#),
            ("GET 10.0.0.8", "10.0.0.8:PORT", r#"to: { cidrs: ["10.0.0.8/32"] }, ports: [PORT]"#),
            ("udp [fd00::1]:123", "[fd00::1]:123", r#"to: { cidrs: ["fd00::1/128"] }, ports: [123]"#),
            ("[fd00::1]", "[fd00::1]:PORT", r#"to: { cidrs: ["fd00::1/128"] }, ports: [PORT]"#),
            (
                "wiki.corp.example:8080",
                "wiki.corp.example:8080@ADDRESS/32",
                r#"to: { cidrs: ["ADDRESS/32"] }, names: [wiki.corp.example], ports: [8080]"#,
            ),
            (
                "dns wiki.corp.example",
                "wiki.corp.example:PORT@ADDRESS/32",
                r#"to: { cidrs: ["ADDRESS/32"] }, names: [wiki.corp.example], ports: [PORT]"#,
            ),
        ] {
            let narrow = Narrow::of(what);
            assert_eq!(narrow.written(ChosenBy::Flags), format!("--allow {flag}"));
            assert_eq!(narrow.written(ChosenBy::Policy), format!("`{rule}`"));
            let filled = |text: &str| text.replace("PORT", "443").replace("ADDRESS", "10.0.0.8");
            assert!(filled(flag).parse::<Destination>().is_ok(), "{flag}");
            let policy = format!(
                "apiVersion: cofferdam/v1\nkind: EgressPolicy\nspec:\n  rules:\n    - {{ name: one, priority: 1, {}, \
                 action: allow }}\n",
                filled(rule)
            );
            assert!(policy_file::parse("policy", policy.as_bytes()).is_ok(), "{policy}");
        }
    }

    #[test]
    fn names_without_an_address_are_the_servers_matter() {
        let unresolved = vec![Unresolved { name: "gone.example".to_owned(), reason: "NXDOMAIN".to_owned() }];
        let summary = Summary { unresolved, ..Summary::default() };
        assert!(hints("7f3a", &summary, &BARE)[0].ends_with("`cofferdam observe --run 7f3a --type dns`"));
    }
}
