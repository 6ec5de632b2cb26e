//! What compile refuses, and that it says all of it at once.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed test is what it is for")]

use std::collections::BTreeMap;

use policy::{
    CompileError, CompiledPolicy, HostPattern, OwnAddresses, Protocol,
    model::{
        Action, From, Group, HttpMatch, ListContent, Lists, ManagedHosts, ManagedPath, Mode, PolicySpec, Provider,
        Rule, RuleEnforcement, ServiceTag, TlsMode, To, UrlPattern,
    },
};
use values::{GroupName, LabelSelector, Revision, RouteName, RuleName};

mod support;

use support::{cidrs, feed, hosts, rule};

fn errors(spec: PolicySpec, lists: Lists) -> Vec<String> {
    match CompiledPolicy::compile(spec, lists, OwnAddresses::default(), Revision(1)) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(CompileError::to_string).collect(),
    }
}

fn limited(rules: Vec<Rule>) -> PolicySpec {
    PolicySpec { rules, ..PolicySpec::default() }
}

fn check(spec: PolicySpec, expected: &[&str]) {
    assert_eq!(errors(spec, Lists::default()), expected);
}

fn group(name: &str) -> GroupName {
    GroupName::new(name).unwrap()
}

fn allow(to: To) -> Rule {
    rule("r", 1, Action::Allow, to)
}

#[test]
fn names_and_priorities_are_unique() {
    check(
        limited(vec![
            rule("a", 1, Action::Allow, To::Any),
            rule("b", 1, Action::Deny, To::Any),
            rule("a", 2, Action::Deny, To::Any),
        ]),
        &["rule b has priority 1, as has rule a; priorities are unique", "two rules are named a"],
    );
    for name in ["mode-default", "allowed-hosts", "guard:private", "managed-path:pypi", "metadata-service:aws"] {
        check(
            limited(vec![rule(name, 1, Action::Allow, To::Any)]),
            &[&format!("{name} is the name of a built-in; name the rule otherwise")],
        );
    }
}

#[test]
fn what_is_referred_to_is_there() {
    let mut spec = limited(vec![
        Rule {
            from: From::Group(group("who")),
            route: Some(RouteName::new("gone").unwrap()),
            ..allow(To::Group(group("what")))
        },
        rule("s", 2, Action::Allow, feed("gone.txt")),
    ]);
    check(
        spec.clone(),
        &[
            "route gone is not defined",
            "rule r refers to group who, which is not defined",
            "rule r refers to group what, which is not defined",
            "feed gone.txt was not read",
        ],
    );
    spec.groups = BTreeMap::from([
        (group("who"), Group { hosts: vec![HostPattern::parse("a.test").unwrap()], ..Group::default() }),
        (group("what"), Group { sandboxes: vec![LabelSelector::default()], ..Group::default() }),
    ]);
    spec.rules.truncate(1);
    check(
        spec,
        &[
            "route gone is not defined",
            "rule r comes from group who, which selects no sandboxes",
            "rule r goes to a group that holds no hosts, urls, cidrs, service tag or feed",
        ],
    );
    let tag = ServiceTag { provider: Provider::Azure, name: "Storage".to_owned(), path: "tags.json".to_owned() };
    let to = To::Inline(Group { service_tag: Some(tag), ..Group::default() });
    check(limited(vec![allow(to)]), &["service tag Storage was not found in tags.json"]);
}

#[test]
fn an_error_says_where() {
    let spec = limited(vec![allow(To::Group(group("what")))]);
    let errors = CompiledPolicy::compile(spec, Lists::default(), OwnAddresses::default(), Revision(1)).unwrap_err();
    assert_eq!(errors[0].rule(), Some(&RuleName::new("r").unwrap()));
    assert_eq!(errors[0].group(), Some(&group("what")));
}

#[test]
fn wildcards_over_public_suffixes_only_deny() {
    let refused =
        |pattern: &str| format!("{pattern} covers every name under a public suffix; only a rule that denies may do so");
    for pattern in ["*.com", "*.co.uk", "*.xn--p1ai"] {
        check(limited(vec![allow(hosts(&[pattern]))]), &[&refused(pattern)]);
        check(limited(vec![rule("r", 1, Action::Ask, hosts(&[pattern]))]), &[&refused(pattern)]);
        check(limited(vec![rule("r", 1, Action::Deny, hosts(&[pattern]))]), &[]);
        let allowed = PolicySpec { allowed_hosts: vec![HostPattern::parse(pattern).unwrap()], ..PolicySpec::default() };
        check(allowed, &[&refused(pattern)]);
    }
    for pattern in ["*.example.com", "*.github.io", "*.internal", "com"] {
        check(limited(vec![allow(hosts(&[pattern]))]), &[]);
    }
    let list = ListContent { hosts: vec![HostPattern::Domain("com".parse().unwrap())], cidrs: vec![] };
    let lists = Lists { feeds: BTreeMap::from([("f".to_owned(), list)]), ..Lists::default() };
    assert_eq!(errors(limited(vec![allow(feed("f"))]), lists.clone()).len(), 1);
    assert_eq!(errors(limited(vec![rule("r", 1, Action::Deny, feed("f"))]), lists).len(), 0);
    // A group that two rules use is checked for each use.
    let mut spec = limited(vec![
        rule("no", 1, Action::Deny, To::Group(group("g"))),
        rule("yes", 2, Action::Allow, To::Group(group("g"))),
    ]);
    spec.groups =
        BTreeMap::from([(group("g"), Group { hosts: vec![HostPattern::parse("*.com").unwrap()], ..Group::default() })]);
    assert_eq!(errors(spec, Lists::default()), [refused("*.com")]);
}

#[test]
fn every_host_only_in_unrestricted() {
    let refused = "'*' alone can be used only in mode unrestricted; say which hosts, or `to: any`";
    check(limited(vec![allow(hosts(&["*"]))]), &[refused]);
    check(PolicySpec { mode: Mode::Unrestricted, ..limited(vec![allow(hosts(&["*"]))]) }, &[]);
}

#[test]
fn modes_and_routes() {
    let corp = RouteName::new("corp").unwrap();
    check(
        PolicySpec { mode: Mode::Routed, ..PolicySpec::default() },
        &["mode routed needs `route:`, the next hop of what is allowed"],
    );
    check(
        PolicySpec { mode: Mode::Routed, route: Some(corp.clone()), ..PolicySpec::default() },
        &["route corp is not defined"],
    );
    check(
        PolicySpec { route: Some(corp), ..PolicySpec::default() },
        &["`route:` belongs to mode routed; give each rule its own route, or change the mode"],
    );
}

#[test]
fn ports_and_globs() {
    let ports = |ports: Vec<(u16, u16)>| limited(vec![Rule { ports, ..allow(To::Any) }]);
    check(ports(vec![(2, 1)]), &["rule r: the port range 2-1 ends before it starts"]);
    check(ports(vec![(1, 1); 65]), &["rule r: 65 port ranges; at most 64 are allowed"]);
    check(ports(vec![(0, u16::MAX)]), &[]);
    let icmp = Rule { ports: vec![(1, 1)], protocol: Some(Protocol::Icmp), ..allow(To::Any) };
    check(limited(vec![icmp]), &["rule r: ICMP has no ports"]);
    let http = HttpMatch { paths: vec!["api".to_owned(), "/a**".to_owned()], ..HttpMatch::default() };
    check(
        limited(vec![Rule { http: vec![http], ..allow(hosts(&["a.test"])) }]),
        &["\"api\": a path glob starts with '/'", "\"/a**\": '**' must be a whole segment, as in /api/**"],
    );
}

#[test]
fn passthrough_and_what_needs_inspection_exclude_each_other() {
    let url = UrlPattern { tls: true, host: HostPattern::parse("a.test").unwrap(), port: 443, path: "/x".to_owned() };
    let to = || To::Inline(Group { urls: vec![url.clone()], ..Group::default() });
    let through = |rule| Rule { tls: TlsMode::Passthrough, ..rule };
    let urls = "`tls: passthrough` looks at no request inside TLS, and url https://a.test/x needs it; leave out `tls`, or \
                go to the host instead of the URL";
    let plain = |what: &str| {
        format!(
            "`tls: passthrough` looks at no request inside TLS, and `{what}` needs it; leave out `tls`, or set \
             `ports: [80]` to look at plain HTTP alone"
        )
    };
    check(limited(vec![allow(to())]), &[]);
    check(limited(vec![through(allow(to()))]), &[urls]);
    check(limited(vec![through(Rule { enforcement: RuleEnforcement::Watch, ..allow(to()) })]), &[urls]);
    let http = || Rule { http: vec![HttpMatch::default()], ..allow(hosts(&["a.test"])) };
    check(limited(vec![http()]), &[]);
    check(limited(vec![through(http())]), &[&plain("http")]);
    check(limited(vec![through(Rule { ports: vec![(80, 81)], ..http() })]), &[&plain("http")]);
    check(limited(vec![through(Rule { ports: vec![(80, 80)], ..http() })]), &[]);
    check(limited(vec![through(Rule { max_body: Some(1), ..allow(To::Any) })]), &[&plain("maxBody")]);
    check(limited(vec![through(Rule { max_response: Some(1), ..allow(To::Any) })]), &[&plain("maxResponse")]);
    check(limited(vec![through(allow(To::Any))]), &[]);
    let udp = Rule { tls: TlsMode::Inspect, protocol: Some(Protocol::Udp), ..allow(To::Any) };
    check(limited(vec![udp]), &["rule r: only TCP can be inspected; leave out `tls: inspect` or set `protocol: tcp`"]);
    let denial = Rule { max_body: Some(1), action: Action::Deny, ..allow(To::Any) };
    check(
        limited(vec![denial]),
        &["rule r denies; only what is allowed or asked about has a `maxBody` or `maxResponse`"],
    );
}

#[test]
fn toggles_are_names() {
    let hosts = vec![HostPattern::parse("a.test").unwrap()];
    let entry = ManagedHosts { toggle: "py pi".to_owned(), hosts, ports: vec![] };
    let managed_path = ManagedPath { package_registries: vec![entry], ..ManagedPath::default() };
    check(PolicySpec { managed_path, ..PolicySpec::default() }, &["managed path \"py pi\": not a name"]);
}

#[test]
fn a_rule_that_is_off_is_checked_all_the_same() {
    let off = Rule { enforcement: RuleEnforcement::Off, ..allow(To::Group(group("gone"))) };
    check(limited(vec![off]), &["rule r refers to group gone, which is not defined"]);
}

#[test]
fn a_shared_list_is_indexed_once() {
    let hosts: Vec<HostPattern> =
        (0..1000).map(|n| HostPattern::Domain(format!("n{n}.test").parse().unwrap())).collect();
    let lists = || Lists {
        feeds: BTreeMap::from([("f".to_owned(), ListContent { hosts: hosts.clone(), cidrs: vec![] })]),
        ..Lists::default()
    };
    let spec = |count: i64| limited((0..count).map(|n| rule(&format!("r{n}"), n, Action::Deny, feed("f"))).collect());
    let size = |count| support::compile(spec(count), lists()).index_memory();
    assert!(size(20) < size(1) * 2);
}

#[test]
fn the_policy_is_kept_as_written() {
    let spec = limited(vec![rule("b", 2, Action::Allow, cidrs(&["10.0.0.0/8"])), rule("a", 1, Action::Deny, To::Any)]);
    let policy = support::compile(spec.clone(), Lists::default());
    assert_eq!(policy.spec(), &spec);
    assert_eq!(policy.revision(), Revision(7));
    assert_eq!(policy.rule(&RuleName::new("b").unwrap()), Some(&spec.rules[0]));
    assert_eq!(policy.rule(&RuleName::new("mode-default").unwrap()), None);
}
