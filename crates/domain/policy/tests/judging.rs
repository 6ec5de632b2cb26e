//! What the rules of spec/egress.md come to, case by case.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed test is what it is for")]

use std::collections::BTreeMap;

use policy::{
    Decision, EchState, Fact, Facts, HostPattern, HttpFacts, NameSource, NamedHost, ProcessFacts, Protocol, Step,
    TlsFacts,
    model::{
        Action, EchMode, Group, HttpMatch, ListContent, Lists, ManagedHosts, ManagedPath, Mode, PolicySpec,
        ProcessMatch, Route, Rule, RuleEnforcement, To, UrlPattern,
    },
};
use values::{Labels, RouteName};

mod support;

use support::{address, anybody, cidrs, compile, facts, feed, hosts, name, now, rule, shown, sni};

fn limited(rules: Vec<Rule>) -> PolicySpec {
    PolicySpec { rules, ..PolicySpec::default() }
}

/// A change of the flow before it is judged.
type Change = fn(&mut Facts<'_>);

/// Judges changes of a plain TCP flow to port 443 and compares each outcome.
fn check(spec: &PolicySpec, cases: &[(&str, Change)]) {
    let policy = compile(spec.clone(), Lists::default());
    let source = anybody(&policy);
    for (expected, change) in cases {
        let mut flow = facts(&source);
        change(&mut flow);
        assert_eq!(shown(&policy.judge(&flow)), *expected, "{flow:?}");
    }
}

fn watched(rule: Rule) -> Rule {
    Rule { enforcement: RuleEnforcement::Watch, ..rule }
}

#[test]
fn the_first_match_decides() {
    let spec = limited(vec![
        rule("wide", 30, Action::Allow, hosts(&["*.a.test"])),
        rule("narrow", 20, Action::Deny, hosts(&["b.a.test"])),
        Rule { enforcement: RuleEnforcement::Off, ..rule("off", 10, Action::Deny, To::Any) },
        watched(rule("seen", 15, Action::Deny, hosts(&["*.a.test"]))),
    ]);
    check(
        &spec,
        &[
            ("denied by narrow [seen would-deny]", |flow| flow.name = sni("b.a.test")),
            ("allowed by wide [seen would-deny]", |flow| flow.name = sni("c.a.test")),
            ("denied by mode-default", |flow| flow.name = sni("a.test")),
            ("denied by mode-default", |_| {}),
        ],
    );
}

#[test]
fn modes() {
    let in_mode = |mode, watch_default| PolicySpec {
        mode,
        watch_default,
        route: (mode == Mode::Routed).then(|| RouteName::new("corp").unwrap()),
        routes: BTreeMap::from([(RouteName::new("corp").unwrap(), Route::default())]),
        allowed_hosts: vec![HostPattern::parse("ok.test").unwrap()],
        ..PolicySpec::default()
    };
    for (mode, watch_default, named, unnamed, private) in [
        (Mode::Unrestricted, false, "allowed by allowed-hosts", "allowed by mode-default", "denied by guard:private"),
        (Mode::Limited, false, "allowed by allowed-hosts", "denied by mode-default", "denied by guard:private"),
        (Mode::Routed, false, "allowed by allowed-hosts", "denied by mode-default", "denied by mode-default"),
        (
            Mode::Limited,
            true,
            "allowed by allowed-hosts",
            "allowed by mode-default [mode-default would-deny]",
            "denied by guard:private",
        ),
        (
            Mode::Routed,
            true,
            "allowed by allowed-hosts",
            "allowed by mode-default [mode-default would-deny]",
            "allowed by mode-default [mode-default would-deny]",
        ),
    ] {
        let policy = compile(in_mode(mode, watch_default), Lists::default());
        let source = anybody(&policy);
        let judge = |to: &str, named: Option<&str>| {
            let name = named.map_or(Fact::Absent, sni);
            shown(&policy.judge(&Facts { address: address(to), name, ..facts(&source) }))
        };
        assert_eq!(judge("8.8.8.8", Some("ok.test")), named, "{mode:?}");
        assert_eq!(judge("8.8.8.8", None), unnamed, "{mode:?}");
        assert_eq!(judge("10.0.0.5", None), private, "{mode:?}");
        assert_eq!(judge("169.254.169.254", Some("ok.test")), "denied by guard:metadata", "{mode:?}");
    }
}

#[test]
fn guards_and_what_opens_them() {
    for (range, to, expected) in [
        ("10.0.0.0/8", "10.0.0.5", "allowed by r"),
        ("10.0.0.5/32", "10.0.0.5", "allowed by r"),
        ("0.0.0.0/0", "10.0.0.5", "denied by guard:private"),
        ("8.0.0.0/6", "10.0.0.5", "denied by guard:private"),
        ("0.0.0.0/0", "8.8.8.8", "allowed by r"),
        ("100.64.0.0/10", "100.64.0.1", "allowed by r"),
        ("100.64.0.0/10", "100.100.100.200", "denied by guard:metadata"),
        ("100.100.100.200/32", "100.100.100.200", "allowed by r"),
        ("169.254.0.0/16", "169.254.1.1", "allowed by r"),
        ("169.254.0.0/16", "169.254.169.254", "denied by guard:metadata"),
        ("169.254.169.254/32", "169.254.169.254", "allowed by r"),
        ("127.0.0.0/8", "127.0.0.1", "allowed by r"),
        ("::ffff:127.0.0.1/128", "::ffff:127.0.0.1", "allowed by r"),
        ("::/0", "::1", "denied by guard:loopback"),
        ("::1/128", "::1", "allowed by r"),
        ("fc00::/7", "fd00::1", "allowed by r"),
        ("fc00::/7", "fd00:ec2::254", "denied by guard:metadata"),
        ("9.0.0.0/8", "9.9.9.9", "denied by guard:own-address"),
        ("9.9.9.9/32", "9.9.9.9", "allowed by r"),
        ("224.0.0.0/4", "224.0.0.251", "allowed by r"),
        ("255.255.255.255/32", "255.255.255.255", "allowed by r"),
        ("0.0.0.0/32", "0.0.0.0", "allowed by r"),
        ("240.0.0.0/5", "240.0.0.1", "allowed by r"),
        // Both the outer and the embedded address must be opened.
        ("64:ff9b::/96", "64:ff9b::10.0.0.5", "denied by guard:private"),
        ("10.0.0.0/8", "64:ff9b::10.0.0.5", "denied by mode-default"),
        ("64:ff9b::/96", "64:ff9b::8.8.8.8", "denied by mode-default"),
        ("::127.0.0.1/128", "::127.0.0.1", "denied by guard:loopback"),
    ] {
        let policy = compile(limited(vec![rule("r", 1, Action::Allow, cidrs(&[range]))]), Lists::default());
        let source = anybody(&policy);
        let step = policy.judge(&Facts { address: address(to), ..facts(&source) });
        assert_eq!(shown(&step), expected, "{to} with {range}");
    }
}

#[test]
fn what_opens_no_guard() {
    let flow: Change = |flow| {
        flow.name = sni("a.test");
        flow.address = address("10.0.0.5");
    };
    let opener = rule("opener", 9, Action::Allow, cidrs(&["10.0.0.0/8"]));
    for (first, expected) in [
        (rule("any", 1, Action::Allow, To::Any), "allowed by opener"),
        (rule("name", 1, Action::Allow, hosts(&["a.test"])), "allowed by opener"),
        (rule("ask", 1, Action::Ask, hosts(&["a.test"])), "allowed by opener"),
        // A denial before the opener keeps the guard shut.
        (rule("deny", 1, Action::Deny, hosts(&["a.test"])), "denied by guard:private"),
        (rule("deny", 1, Action::Deny, cidrs(&["10.0.0.0/8"])), "denied by deny"),
        (watched(rule("watched", 1, Action::Allow, cidrs(&["10.0.0.0/8"]))), "allowed by opener [watched would-allow]"),
    ] {
        check(&limited(vec![first, opener.clone()]), &[(expected, flow)]);
    }
    let alone = watched(rule("watched", 1, Action::Allow, cidrs(&["10.0.0.0/8"])));
    check(&limited(vec![alone]), &[("denied by guard:private [watched would-allow]", flow)]);

    let lists = Lists {
        feeds: BTreeMap::from([(
            "f".to_owned(),
            ListContent { hosts: vec![], cidrs: vec!["10.0.0.0/8".parse().unwrap()] },
        )]),
        ..Lists::default()
    };
    let policy = compile(limited(vec![rule("feed", 1, Action::Allow, feed("f"))]), lists);
    let source = anybody(&policy);
    assert_eq!(
        shown(&policy.judge(&Facts { address: address("10.0.0.5"), ..facts(&source) })),
        "denied by guard:private"
    );
}

#[test]
fn the_metadata_name() {
    let flow: Change = |flow| {
        flow.name = sni("metadata.google.internal");
        flow.address = Fact::Pending;
    };
    check(&PolicySpec { mode: Mode::Unrestricted, ..limited(vec![]) }, &[("denied by guard:metadata", flow)]);
    check(&limited(vec![rule("any", 1, Action::Allow, To::Any)]), &[("denied by guard:metadata", flow)]);
    check(
        &limited(vec![rule("wide", 1, Action::Allow, hosts(&["*.google.internal"]))]),
        &[("denied by guard:metadata", flow)],
    );
    let opened = Rule {
        names: vec![HostPattern::parse("metadata.google.internal").unwrap()],
        ..rule("open", 1, Action::Allow, cidrs(&["169.254.169.254/32"]))
    };
    check(
        &limited(vec![opened]),
        &[
            ("needs Address", flow),
            ("allowed by open", |flow| {
                flow.name = sni("metadata.google.internal");
                flow.address = address("169.254.169.254");
            }),
            ("denied by guard:metadata", |flow| {
                flow.name = sni("metadata.google.internal");
                flow.address = address("8.8.8.8");
            }),
        ],
    );
}

#[test]
fn facts_are_asked_for_only_where_they_matter() {
    let spec = limited(vec![
        rule("bad", 10, Action::Deny, hosts(&["bad.a.test"])),
        rule("tools", 20, Action::Allow, hosts(&["*.a.test"])),
        rule("net", 30, Action::Allow, cidrs(&["8.8.8.0/24"])),
        Rule { ports: vec![(22, 22)], ..rule("ssh", 40, Action::Allow, To::Any) },
        Rule { ports: vec![(25, 25)], ..rule("no-mail", 5, Action::Deny, To::Any) },
    ]);
    check(
        &spec,
        &[
            ("needs Name", |flow| (flow.name, flow.address) = (Fact::Pending, address("8.8.8.8"))),
            ("needs Name", |flow| (flow.name, flow.address) = (Fact::Pending, Fact::Pending)),
            ("allowed by net", |flow| (flow.name, flow.address) = (Fact::Absent, address("8.8.8.8"))),
            ("needs Address", |flow| (flow.name, flow.address) = (Fact::Absent, Fact::Pending)),
            // A denied name causes no query; the rule by address does not open it.
            ("denied by mode-default", |flow| (flow.name, flow.address) = (sni("evil.test"), Fact::Pending)),
            ("denied by bad", |flow| (flow.name, flow.address) = (sni("bad.a.test"), Fact::Pending)),
            ("needs Address", |flow| (flow.name, flow.address) = (sni("x.a.test"), Fact::Pending)),
            ("allowed by tools", |flow| (flow.name, flow.address) = (sni("x.a.test"), address("1.1.1.1"))),
            // Denied whatever the name is.
            ("denied by no-mail", |flow| (flow.port, flow.name, flow.address) = (25, Fact::Pending, Fact::Pending)),
            ("needs Name", |flow| (flow.port, flow.name, flow.address) = (22, Fact::Pending, address("1.1.1.1"))),
        ],
    );
    // Everything possible is a denial.
    let denials = limited(vec![rule("bad", 10, Action::Deny, hosts(&["bad.a.test"]))]);
    check(&denials, &[("denied by mode-default", |flow| (flow.name, flow.address) = (Fact::Pending, Fact::Pending))]);
}

#[test]
fn watched_rules_get_facts_but_no_queries() {
    let spec = limited(vec![
        watched(rule("by-name", 10, Action::Allow, hosts(&["a.test"]))),
        watched(rule("by-range", 20, Action::Deny, cidrs(&["8.8.8.0/24"]))),
        watched(Rule {
            names: vec![HostPattern::parse("n.test").unwrap()],
            ..rule("opened", 30, Action::Allow, cidrs(&["8.8.8.0/24"]))
        }),
    ]);
    check(
        &spec,
        &[
            ("needs Name", |flow| (flow.name, flow.address) = (Fact::Pending, address("8.8.8.8"))),
            ("denied by mode-default [by-name would-allow]", |flow| {
                (flow.name, flow.address) = (sni("a.test"), Fact::Pending)
            }),
            ("denied by mode-default [opened would-unknown]", |flow| {
                (flow.name, flow.address) = (sni("n.test"), Fact::Pending)
            }),
            ("denied by mode-default [by-range would-deny] [opened would-allow]", |flow| {
                flow.address = address("8.8.8.8")
            }),
        ],
    );
}

#[test]
fn an_ask_comes_before_the_query() {
    let spec = limited(vec![
        rule("feed", 5, Action::Deny, cidrs(&["6.6.6.0/24"])),
        rule("ask", 10, Action::Ask, hosts(&["new.test"])),
        Rule {
            names: vec![HostPattern::parse("n.test").unwrap()],
            ..rule("ask-net", 20, Action::Ask, cidrs(&["8.8.8.0/24"]))
        },
    ]);
    let policy = compile(spec, Lists::default());
    let source = anybody(&policy);
    let judge = |named: &str, to: Fact<std::net::IpAddr>| match policy.judge(&Facts {
        name: sni(named),
        address: to,
        ..facts(&source)
    }) {
        Step::Decided(decision) => decision,
        Step::Needs(missing) => panic!("{named} needs {missing:?}"),
    };
    let says = |decision: &Decision| format!("{:?} by {}", decision.verdict, decision.rule);
    let mut unresolved = judge("new.test", Fact::Pending);
    assert_eq!(says(&unresolved), "Asked by ask");
    assert!(unresolved.approve().is_none(), "the guards have not seen an address");
    let mut resolved = judge("new.test", address("8.8.8.8"));
    assert_eq!(says(&resolved), "Asked by ask");
    assert!(resolved.approve().is_some() && resolved.approve().is_none(), "a yes is used once");
    assert_eq!(says(&judge("new.test", address("6.6.6.6"))), "Denied by feed");
    assert_eq!(says(&judge("new.test", address("127.0.0.1"))), "Denied by guard:loopback");
    assert_eq!(says(&judge("n.test", Fact::Pending)), "Asked by ask-net");
    assert_eq!(says(&judge("n.test", address("1.1.1.1"))), "Denied by mode-default");
    let mut denied = judge("other.test", Fact::Pending);
    assert!(denied.approve().is_none());
}

#[test]
fn encrypted_hellos() {
    let suspect: Change = |flow| {
        flow.name = sni("a.test");
        flow.tls = Fact::Known(TlsFacts { alpn: vec![], ech: EchState::Suspect });
    };
    let grease: Change = |flow| {
        flow.name = sni("a.test");
        flow.tls = Fact::Known(TlsFacts { alpn: vec![], ech: EchState::Unverified });
    };
    let allow = rule("allow", 1, Action::Allow, hosts(&["a.test"]));
    check(&limited(vec![allow.clone()]), &[("denied by guard:ech", suspect), ("allowed by allow", grease)]);
    check(&limited(vec![Rule { ech: EchMode::Allow, ..allow.clone() }]), &[("allowed by allow", suspect)]);
    check(&limited(vec![rule("ask", 1, Action::Ask, To::Any)]), &[("denied by guard:ech", suspect)]);
    check(&limited(vec![watched(allow)]), &[("denied by mode-default [allow would-deny]", suspect)]);
    check(
        &PolicySpec { mode: Mode::Unrestricted, ..limited(vec![]) },
        &[("denied by guard:ech", suspect), ("allowed by mode-default", grease)],
    );
    check(&PolicySpec { watch_default: true, ..limited(vec![]) }, &[("denied by guard:ech", suspect)]);
}

#[test]
fn protocols_and_ports() {
    let spec = limited(vec![
        rule("web", 10, Action::Allow, hosts(&["a.test"])),
        Rule {
            ports: vec![(53, 53), (1000, 2000)],
            protocol: Some(Protocol::Udp),
            ..rule("udp", 20, Action::Allow, hosts(&["a.test"]))
        },
        Rule { protocol: Some(Protocol::Icmp), ..rule("ping", 30, Action::Allow, hosts(&["a.test"])) },
    ]);
    check(
        &spec,
        &[
            ("allowed by web", |flow| (flow.name, flow.port) = (sni("a.test"), 5432)),
            ("denied by mode-default", |flow| (flow.name, flow.protocol) = (sni("a.test"), Protocol::Udp)),
            ("allowed by udp", |flow| (flow.name, flow.protocol, flow.port) = (sni("a.test"), Protocol::Udp, 1000)),
            ("allowed by udp", |flow| (flow.name, flow.protocol, flow.port) = (sni("a.test"), Protocol::Udp, 2000)),
            ("denied by mode-default", |flow| {
                (flow.name, flow.protocol, flow.port) = (sni("a.test"), Protocol::Udp, 2001)
            }),
            ("allowed by ping", |flow| (flow.name, flow.protocol, flow.port) = (sni("a.test"), Protocol::Icmp, 0)),
            ("denied by mode-default", |flow| {
                (flow.name, flow.protocol, flow.port) = (sni("b.test"), Protocol::Icmp, 0)
            }),
        ],
    );
    let ports = Rule { ports: vec![(53, 53)], ..rule("ports", 1, Action::Allow, hosts(&["a.test"])) };
    check(
        &limited(vec![ports]),
        &[("denied by mode-default", |flow| {
            (flow.name, flow.protocol, flow.port) = (sni("a.test"), Protocol::Udp, 53)
        })],
    );
    let open = PolicySpec { mode: Mode::Unrestricted, ..limited(vec![rule("all", 1, Action::Allow, To::Any)]) };
    check(&open, &[("denied by mode-default", |flow| flow.protocol = Protocol::Udp), ("allowed by all", |_| {})]);
}

#[test]
fn expiry() {
    let ends = |seconds| Some(now() + jiff::SignedDuration::from_secs(seconds));
    let in_time = Rule { expires: ends(0), ..rule("r", 1, Action::Allow, hosts(&["a.test"])) };
    let flow: Change = |flow| flow.name = sni("a.test");
    check(&limited(vec![in_time.clone()]), &[("allowed by r", flow)]);
    let over = Rule { expires: ends(-1), ..in_time };
    check(&limited(vec![over.clone()]), &[("denied by mode-default", flow)]);
    check(&limited(vec![over.clone()]), &[("denied by mode-default", |flow| flow.name = Fact::Pending)]);
    let open = PolicySpec { mode: Mode::Unrestricted, ..limited(vec![Rule { action: Action::Deny, ..over }]) };
    check(&open, &[("denied by r", flow)]);
}

#[test]
fn requests() {
    let get = HttpMatch { methods: vec!["GET".to_owned()], paths: vec!["/api/**".to_owned()], ..HttpMatch::default() };
    let keyed = HttpMatch { headers: BTreeMap::from([("x-key".to_owned(), "1".to_owned())]), ..HttpMatch::default() };
    let with = |action| Rule { http: vec![get.clone(), keyed.clone()], ..rule("r", 1, action, hosts(&["a.test"])) };
    fn request(flow: &mut Facts<'_>, method: &str, path: Option<&str>, headers: &[(&str, &str)]) {
        let source = NameSource::HttpHost;
        flow.name = Fact::Known(NamedHost { name: name("a.test"), source });
        flow.http = Fact::Known(HttpFacts {
            method: method.to_owned(),
            path: path.map(str::to_owned),
            query: None,
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        });
    }
    check(
        &limited(vec![with(Action::Allow)]),
        &[
            ("allowed by r", |flow| request(flow, "GET", Some("/api/x"), &[])),
            ("denied by mode-default", |flow| request(flow, "get", Some("/api/x"), &[])),
            ("denied by mode-default", |flow| request(flow, "GET", Some("/apis"), &[])),
            ("denied by mode-default", |flow| request(flow, "GET", None, &[])),
            ("allowed by r", |flow| request(flow, "POST", None, &[("x-key", "1")])),
            ("denied by mode-default", |flow| request(flow, "POST", None, &[("x-key", "1"), ("x-key", "2")])),
            // Servers that take `_` for `-` see two values, or another field.
            ("denied by mode-default", |flow| request(flow, "POST", None, &[("x-key", "1"), ("x_key", "2")])),
            ("denied by mode-default", |flow| request(flow, "POST", None, &[("x_key", "1"), ("x-key", "1")])),
            ("denied by mode-default", |flow| request(flow, "POST", None, &[("x_key", "1")])),
            ("needs Http", |flow| (flow.name, flow.http) = (sni("a.test"), Fact::Pending)),
            ("denied by mode-default", |flow| flow.name = sni("a.test")),
        ],
    );
    check(
        &PolicySpec { mode: Mode::Unrestricted, ..limited(vec![with(Action::Deny)]) },
        &[
            ("denied by r", |flow| request(flow, "GET", None, &[])),
            ("denied by r", |flow| request(flow, "POST", None, &[("x-key", "1"), ("x-key", "2")])),
            ("denied by r", |flow| request(flow, "POST", None, &[("x_key", "1")])),
            ("denied by r", |flow| request(flow, "POST", None, &[("x-key", "2"), ("x_key", "1")])),
            ("allowed by mode-default", |flow| request(flow, "POST", None, &[("x_key", "2")])),
            ("allowed by mode-default", |flow| request(flow, "POST", None, &[])),
        ],
    );
    // What only inspection would tell is noted as such.
    check(
        &limited(vec![watched(with(Action::Allow))]),
        &[("denied by mode-default [r would-unknown]", |flow| {
            flow.name = sni("a.test");
            flow.tls = Fact::Known(TlsFacts::default());
        })],
    );
}

#[test]
fn urls() {
    let url =
        |tls, port| UrlPattern { tls, host: HostPattern::parse("a.test").unwrap(), port, path: "/docs/*".to_owned() };
    let group = |tls, port| To::Inline(Group { urls: vec![url(tls, port)], ..Group::default() });
    let known = |path: Option<&str>| {
        Fact::Known(HttpFacts { method: "GET".to_owned(), path: path.map(str::to_owned), headers: vec![], query: None })
    };
    let judge = |spec: PolicySpec, http: Fact<HttpFacts>, port| {
        let policy = compile(spec, Lists::default());
        let source = anybody(&policy);
        shown(&policy.judge(&Facts { name: sni("a.test"), http, port, ..facts(&source) }))
    };
    let allow = limited(vec![rule("r", 1, Action::Allow, group(false, 80))]);
    assert_eq!(judge(allow.clone(), known(Some("/docs/x")), 80), "allowed by r");
    assert_eq!(judge(allow.clone(), known(Some("/docs/x/y")), 80), "denied by mode-default");
    assert_eq!(judge(allow.clone(), known(Some("/docs/x")), 8080), "denied by mode-default");
    assert_eq!(judge(allow.clone(), known(None), 80), "denied by mode-default");
    assert_eq!(judge(allow, Fact::Pending, 80), "needs Http");
    let deny = PolicySpec { mode: Mode::Unrestricted, ..limited(vec![rule("r", 1, Action::Deny, group(false, 80))]) };
    assert_eq!(judge(deny, known(None), 80), "denied by r");

    let hidden = limited(vec![watched(rule("r", 1, Action::Allow, group(true, 443)))]);
    let policy = compile(hidden, Lists::default());
    let source = anybody(&policy);
    let flow = Facts { name: sni("a.test"), tls: Fact::Known(TlsFacts::default()), ..facts(&source) };
    assert_eq!(shown(&policy.judge(&flow)), "denied by mode-default [r would-unknown]");
}

#[test]
fn processes() {
    let spec = limited(vec![Rule {
        process: vec![ProcessMatch::Executable("/usr/bin/git".to_owned()), ProcessMatch::Digest("ab".to_owned())],
        ..rule("git", 1, Action::Allow, hosts(&["a.test"]))
    }]);
    fn run(flow: &mut Facts<'_>, executable: &str, digest: Option<&str>) {
        flow.name = sni("a.test");
        let (executable, digest) = (executable.to_owned(), digest.map(str::to_owned));
        flow.process = Fact::Known(ProcessFacts { pid: 7, executable, digest });
    }
    check(
        &spec,
        &[
            ("allowed by git", |flow| run(flow, "/usr/bin/git", None)),
            ("allowed by git", |flow| run(flow, "/tmp/x", Some("ab"))),
            ("denied by mode-default", |flow| run(flow, "/tmp/x", Some("cd"))),
            ("needs Process", |flow| (flow.name, flow.process) = (sni("a.test"), Fact::Pending)),
            ("denied by mode-default", |flow| (flow.name, flow.process) = (sni("b.test"), Fact::Pending)),
            ("denied by mode-default", |flow| flow.name = sni("a.test")),
        ],
    );
}

#[test]
fn managed_path_and_routes() {
    let route = |text: &str| RouteName::new(text).unwrap();
    let managed = |toggle: &str, host: &str, ports: &[u16]| ManagedHosts {
        toggle: toggle.to_owned(),
        hosts: vec![HostPattern::parse(host).unwrap()],
        ports: ports.to_vec(),
    };
    let spec = PolicySpec {
        mode: Mode::Routed,
        route: Some(route("corp")),
        routes: BTreeMap::from([(route("corp"), Route::default()), (route("lab"), Route::default())]),
        allowed_hosts: vec![HostPattern::parse("*.test").unwrap()],
        managed_path: ManagedPath {
            package_registries: vec![managed("pypi", "packages.test", &[])],
            code_repositories: vec![managed("github", "code.test", &[22])],
            additional_hosts: vec![HostPattern::parse("status.test").unwrap()],
        },
        rules: vec![
            Rule { route: Some(route("lab")), ..rule("lab", 1, Action::Allow, hosts(&["lab.test"])) },
            rule("no", 2, Action::Deny, hosts(&["status.test"])),
        ],
        ..PolicySpec::default()
    };
    let policy = compile(spec, Lists::default());
    let source = anybody(&policy);
    for (named, port, rule, through) in [
        ("packages.test", 443, "managed-path:pypi", None),
        ("packages.test", 8443, "allowed-hosts", Some("corp")),
        ("code.test", 22, "managed-path:github", None),
        ("code.test", 443, "allowed-hosts", Some("corp")),
        ("other.test", 443, "allowed-hosts", Some("corp")),
        ("lab.test", 443, "lab", Some("lab")),
        ("status.test", 443, "no", None),
    ] {
        let Step::Decided(decision) = policy.judge(&Facts { name: sni(named), port, ..facts(&source) }) else {
            panic!("undecided")
        };
        assert_eq!(decision.rule.as_str(), rule, "{named}:{port}");
        assert_eq!(decision.route.as_ref().map(RouteName::as_str), through, "{named}:{port}");
        assert!(policy.route(decision.route.as_ref()).is_some());
    }
    assert!(policy.route(Some(&route("gone"))).is_none(), "a route of another revision is no route");
}

#[test]
fn sources() {
    let sre =
        policy::model::From::Labels(values::LabelSelector(BTreeMap::from([("team".to_owned(), "sre".to_owned())])));
    let policy = compile(limited(vec![Rule { from: sre, ..rule("sre", 1, Action::Allow, To::Any) }]), Lists::default());
    for (labels, expected) in [
        (vec![("team", "sre")], "allowed by sre"),
        (vec![("team", "web")], "denied by mode-default"),
        (vec![], "denied by mode-default"),
    ] {
        let source = policy.source(&Labels::from_pairs(labels));
        assert_eq!(shown(&policy.judge(&facts(&source))), expected);
    }
}

#[test]
fn an_explanation_can_be_printed() {
    let spec = limited(vec![
        watched(rule("seen", 1, Action::Allow, hosts(&["a.test"]))),
        Rule { ports: vec![(22, 22)], ..rule("ssh", 2, Action::Allow, To::Any) },
        Rule { enforcement: RuleEnforcement::Off, ..rule("off", 3, Action::Deny, To::Any) },
        rule("no", 4, Action::Deny, hosts(&["*.test"])),
        rule("late", 5, Action::Allow, To::Any),
    ]);
    let policy = compile(spec, Lists::default());
    let source = anybody(&policy);
    let explanation = policy.explain(&Facts { name: sni("a.test"), ..facts(&source) });
    let lines: Vec<String> =
        explanation.tried.iter().map(|tried| format!("{} {:?}: {}", tried.rule, tried.outcome, tried.why)).collect();
    assert_eq!(
        lines,
        [
            "seen Noted: a.test matches (TLS server name)",
            "ssh NoMatch: port 443 is not among its ports",
            "off Skipped: it is off",
            "no Decided: a.test matches (TLS server name)",
            "late NotReached: a.test matches",
            "mode-default NotReached: the mode is limited",
        ]
    );
    let json = serde_json::to_value(&explanation).unwrap();
    assert_eq!(json["verdict"], "denied");
    assert_eq!(json["layer"], "tls");
    assert_eq!(json["would"][0]["verdict"], "would-allow");
    assert_eq!(json["tried"][3]["outcome"], "decided");
    assert_eq!(json["revision"], 7);
}
