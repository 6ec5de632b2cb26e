//! Which flows are opened, and what is decided of what is inside.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed test is what it is for")]

use policy::{
    EchState, Fact, Facts, HostPattern, HttpFacts, Missing, NameSource, NamedHost, Protocol, Step, TlsFacts, Verdict,
    model::{
        Action, Group, HttpMatch, Lists, Mode, PolicySpec, ProcessMatch, Rule, RuleEnforcement, Scheme, TlsMode, To,
        UrlPattern,
    },
};
use proptest::{option::of, prelude::ProptestConfig, prop_assert, prop_assert_eq, proptest};

mod support;

use support::{
    address, anybody, cidrs, compile, facts,
    generate::{Flow, flow, http_facts, labels, policy},
    hosts, name, rule, shown, sni,
};

fn limited(rules: Vec<Rule>) -> PolicySpec {
    PolicySpec { rules, ..PolicySpec::default() }
}

fn open(rules: Vec<Rule>) -> PolicySpec {
    PolicySpec { mode: Mode::Unrestricted, ..limited(rules) }
}

fn methods(method: &str) -> Vec<HttpMatch> {
    vec![HttpMatch { methods: vec![method.to_owned()], ..HttpMatch::default() }]
}

fn get(path: &str) -> Fact<HttpFacts> {
    Fact::Known(HttpFacts { method: "GET".to_owned(), path: Some(path.to_owned()), query: None, headers: vec![] })
}

fn url(text: &str) -> To {
    let (host, path) = text.split_once('/').unwrap();
    let (host, path) = (HostPattern::parse(host).unwrap(), format!("/{path}"));
    To::Inline(Group { urls: vec![UrlPattern { tls: true, host, port: 443, path }], ..Group::default() })
}

/// TLS to a.test at a public address, of which the request is pending, absent, or a GET of this path.
fn steps(spec: &PolicySpec, path: &str) -> [String; 3] {
    let policy = compile(spec.clone(), Lists::default());
    let source = anybody(&policy);
    let step = |http: Fact<HttpFacts>| {
        let tls = Fact::Known(TlsFacts::default());
        let flow = Facts { name: sni("a.test"), address: address("8.8.8.8"), tls, http, ..facts(&source) };
        shown(&policy.judge(&flow))
    };
    [step(Fact::Pending), step(Fact::Absent), step(get(path))]
}

#[test]
fn a_request_inside_is_asked_for_where_a_rule_needs_it() {
    let allow = |to| rule("r", 1, Action::Allow, to);
    let a = || hosts(&["a.test"]);
    let denied = "denied by mode-default";
    let cases = [
        (allow(a()), ["allowed by r"; 3]),
        (Rule { tls: TlsMode::Inspect, ..allow(a()) }, ["needs Http", denied, "allowed by r"]),
        (Rule { http: methods("GET"), ..allow(a()) }, ["needs Http", denied, "allowed by r"]),
        (Rule { http: methods("PUT"), ..allow(a()) }, ["needs Http", denied, denied]),
        (Rule { max_body: Some(1), ..allow(a()) }, ["needs Http", denied, "allowed by r"]),
        (allow(url("a.test/x/**")), ["needs Http", denied, "allowed by r"]),
        (allow(url("a.test/y/**")), ["needs Http", denied, denied]),
        (allow(url("b.test/x/**")), [denied; 3]),
        (Rule { action: Action::Ask, http: methods("GET"), ..allow(a()) }, ["needs Http", denied, "asked by r"]),
        // Its ports say that it is about plain HTTP.
        (Rule { http: methods("GET"), ports: vec![(80, 80)], ..allow(a()) }, [denied; 3]),
        // Nothing is opened that is denied anyway.
        (Rule { action: Action::Deny, http: methods("GET"), ..allow(a()) }, [denied, "denied by r", "denied by r"]),
        (Rule { action: Action::Deny, tls: TlsMode::Inspect, ..allow(a()) }, ["denied by r"; 3]),
    ];
    for (rule, expected) in cases {
        assert_eq!(steps(&limited(vec![rule.clone()]), "/x/y"), expected, "{rule:?}");
    }
}

#[test]
fn a_condition_on_the_scheme_is_met_inside_tls_or_outside_alone() {
    let over = |scheme| vec![HttpMatch { scheme: Some(scheme), ..methods("GET").remove(0) }];
    let allow = |http| Rule { http, ..rule("r", 1, Action::Allow, hosts(&["a.test"])) };
    let deny = |http| Rule { action: Action::Deny, ..allow(http) };
    let both = || [over(Scheme::Http), over(Scheme::Https)].concat();
    let (yes, no, denied) = ("allowed by r", "denied by mode-default", "denied by r");
    let free = "allowed by mode-default";
    // Inside TLS: not read yet, unreadable, a GET; then a plain GET.
    for (spec, expected) in [
        (limited(vec![allow(over(Scheme::Https))]), ["needs Http", no, yes, no]),
        (limited(vec![allow(over(Scheme::Http))]), [no, no, no, yes]),
        (limited(vec![allow(both())]), ["needs Http", no, yes, yes]),
        (open(vec![deny(over(Scheme::Https))]), ["needs Http", denied, denied, free]),
        // What can't be read inside TLS is no plain request.
        (open(vec![deny(over(Scheme::Http))]), [free, free, free, denied]),
        (open(vec![deny(both())]), ["needs Http", denied, denied, denied]),
    ] {
        let policy = compile(spec.clone(), Lists::default());
        let source = anybody(&policy);
        let plain = Facts {
            name: sni("a.test"),
            address: address("8.8.8.8"),
            tls: Fact::Absent,
            http: get("/"),
            ..facts(&source)
        };
        let [pending, absent, read] = steps(&spec, "/");
        assert_eq!([pending, absent, read, shown(&policy.judge(&plain))], expected, "{:?}", spec.rules);
        // TLS is opened for no condition on plain requests.
        let opens = spec.rules[0].http.iter().any(|entry| entry.scheme == Some(Scheme::Https));
        assert_eq!(policy.inspects().next().is_some(), opens);
    }
}

#[test]
fn a_denial_holds_for_what_cannot_be_read() {
    let deny = |rule: Rule| open(vec![Rule { action: Action::Deny, ..rule }]);
    let base = || rule("r", 1, Action::Deny, hosts(&["a.test"]));
    let default = "allowed by mode-default";
    assert_eq!(
        steps(&deny(Rule { http: methods("GET"), ..base() }), "/x"),
        ["needs Http", "denied by r", "denied by r"]
    );
    assert_eq!(steps(&deny(Rule { http: methods("PUT"), ..base() }), "/x"), ["needs Http", "denied by r", default]);
    assert_eq!(
        steps(&deny(Rule { to: url("a.test/x"), ..base() }), "/x"),
        ["needs Http", "denied by r", "denied by r"]
    );
    assert_eq!(steps(&deny(Rule { to: url("a.test/x"), ..base() }), "/y"), ["needs Http", "denied by r", default]);
    assert_eq!(steps(&deny(Rule { to: url("b.test/x"), ..base() }), "/x"), [default; 3]);
    for rule in [Rule { http: methods("GET"), ..base() }, Rule { to: url("a.test/x"), ..base() }] {
        let policy = compile(deny(rule), Lists::default());
        let source = anybody(&policy);
        let flow = Facts { name: sni("a.test"), tls: Fact::Known(TlsFacts::default()), ..facts(&source) };
        let Step::Decided(decision) = policy.judge(&flow) else { panic!("undecided") };
        assert_eq!(decision.reason, "the rule denies some requests, and what is inside TLS can't be read");
    }
}

#[test]
fn a_watched_rule_opens_nothing() {
    let watched = |rule: Rule| limited(vec![Rule { enforcement: RuleEnforcement::Watch, ..rule }]);
    let unknown = "denied by mode-default [r would-unknown]";
    let base = || rule("r", 1, Action::Allow, hosts(&["a.test"]));
    let seen = |rule| steps(&watched(rule), "/x");
    let told = [unknown, unknown, "denied by mode-default [r would-allow]"];
    assert_eq!(seen(Rule { http: methods("GET"), ..base() }), told);
    assert_eq!(seen(Rule { tls: TlsMode::Inspect, ..base() }), told);
    assert_eq!(seen(Rule { to: url("a.test/x"), ..base() }), told);
    assert_eq!(
        seen(Rule { action: Action::Deny, http: methods("GET"), ..base() }),
        [unknown, unknown, "denied by mode-default [r would-deny]"]
    );
}

#[test]
fn all_else_is_judged_before_a_flow_is_opened() {
    let inspected = |rule: Rule| Rule { http: methods("GET"), ..rule };
    let judge = |spec: PolicySpec, change: fn(&mut Facts<'_>)| {
        let policy = compile(spec, Lists::default());
        let source = anybody(&policy);
        let tls = Fact::Known(TlsFacts::default());
        let mut flow = Facts { name: sni("a.test"), tls, http: Fact::Pending, ..facts(&source) };
        flow.address = Fact::Pending;
        change(&mut flow);
        shown(&policy.judge(&flow))
    };
    let allow = || inspected(rule("r", 9, Action::Allow, hosts(&["a.test"])));
    let git = || ProcessMatch::Executable("/usr/bin/git".to_owned());
    assert_eq!(judge(limited(vec![allow()]), |_| {}), "needs Address");
    assert_eq!(judge(limited(vec![allow()]), |flow| flow.address = address("8.8.8.8")), "needs Http");
    assert_eq!(judge(limited(vec![allow()]), |flow| flow.address = address("10.0.0.1")), "denied by guard:private");
    let process = Rule { process: vec![git()], ..allow() };
    assert_eq!(judge(limited(vec![process.clone()]), |flow| flow.process = Fact::Pending), "needs Process");
    assert_eq!(judge(limited(vec![process]), |_| {}), "denied by mode-default");
    let name = |action| rule("name", 1, action, hosts(&["a.test"]));
    assert_eq!(judge(limited(vec![name(Action::Deny), allow()]), |_| {}), "denied by name");
    let before = limited(vec![name(Action::Allow), allow()]);
    assert_eq!(judge(before, |flow| flow.address = address("8.8.8.8")), "allowed by name");
    // An address that a rule before may deny.
    let ranges = limited(vec![rule("range", 1, Action::Deny, cidrs(&["8.0.0.0/8"])), allow()]);
    assert_eq!(judge(ranges, |_| {}), "needs Address");
    // Nobody is asked about a name that only an ask covers: the flow is opened first.
    let ask = limited(vec![Rule { action: Action::Ask, ..allow() }]);
    assert_eq!(judge(ask.clone(), |_| {}), "needs Http");
    assert_eq!(judge(ask, |flow| flow.http = get("/")), "asked by r");
    // Until the ClientHello is read, the request is what the first bytes are.
    let urls = limited(vec![rule("r", 1, Action::Allow, url("a.test/x"))]);
    assert_eq!(judge(urls.clone(), |flow| flow.tls = Fact::Pending), "needs Http");
    assert_eq!(
        judge(urls.clone(), |flow| (flow.tls, flow.http) = (Fact::Pending, get("/x"))),
        "denied by mode-default"
    );
    assert_eq!(judge(urls, |flow| (flow.tls, flow.http) = (Fact::Absent, get("/x"))), "denied by mode-default");
}

#[test]
fn a_request_seen_inside_went_to_no_hidden_name() {
    let policy = compile(
        limited(vec![Rule { tls: TlsMode::Inspect, ..rule("r", 1, Action::Allow, hosts(&["a.test"])) }]),
        Lists::default(),
    );
    let source = anybody(&policy);
    let tls = Fact::Known(TlsFacts { ech: EchState::Suspect, ..TlsFacts::default() });
    let flow = Facts { name: sni("a.test"), address: address("8.8.8.8"), tls, http: get("/"), ..facts(&source) };
    assert_eq!(shown(&policy.judge(&flow)), "allowed by r");
}

#[test]
fn a_parameter_of_the_query() {
    let entry = HttpMatch { query: [("q".to_owned(), "1".to_owned())].into(), ..HttpMatch::default() };
    let judge = |action: Action, query: Option<&str>| {
        let spec = PolicySpec {
            mode: if action == Action::Deny { Mode::Unrestricted } else { Mode::Limited },
            ..limited(vec![Rule { http: vec![entry.clone()], ..rule("r", 1, action, hosts(&["a.test"])) }])
        };
        let policy = compile(spec, Lists::default());
        let source = anybody(&policy);
        let request = HttpFacts { query: query.map(str::to_owned), ..HttpFacts::default() };
        let named = NamedHost { name: name("a.test"), source: NameSource::HttpHost };
        let flow = Facts { name: Fact::Known(named), http: Fact::Known(request), ..facts(&source) };
        match policy.judge(&flow) {
            Step::Decided(decision) => decision.rule.as_str() == "r",
            Step::Needs(missing) => panic!("{missing:?}"),
        }
    };
    for (query, allows, denies) in [
        (None, false, false),
        (Some(""), false, false),
        (Some("q=1"), true, true),
        (Some("x=2&q=%31"), true, true),
        (Some("q=2"), false, false),
        (Some("q=1&q=1"), false, true),
        (Some("q=2&Q=1"), false, true),
        (Some("q=1;x"), false, true),
        (Some("q=%2531"), false, true),
    ] {
        assert_eq!(judge(Action::Allow, query), allows, "allow {query:?}");
        assert_eq!(judge(Action::Deny, query), denies, "deny {query:?}");
    }
}

#[test]
fn the_names_at_which_tls_may_be_opened() {
    let names = |rules: Vec<Rule>| -> Vec<String> {
        let policy = compile(limited(rules), Lists::default());
        assert_eq!(policy.needs_inspection(), policy.inspects().next().is_some());
        policy.inspects().map(ToString::to_string).collect()
    };
    let base = |number: i64, to| rule(&format!("r{number}"), number, Action::Allow, to);
    let both = vec![
        Rule { http: methods("GET"), ..base(1, hosts(&["b.test", "*.c.test"])) },
        base(2, url("a.test/x")),
        Rule { tls: TlsMode::Inspect, ..base(3, hosts(&["b.test"])) },
        base(4, hosts(&["d.test"])),
        Rule { tls: TlsMode::Inspect, enforcement: RuleEnforcement::Watch, ..base(5, hosts(&["e.test"])) },
        Rule { http: methods("GET"), ports: vec![(80, 80)], ..base(6, hosts(&["f.test"])) },
    ];
    assert_eq!(names(both), ["a.test", "b.test", "*.c.test"]);
    assert_eq!(names(vec![Rule { http: methods("GET"), ..base(1, To::Any) }, base(2, url("a.test/x"))]), ["*"]);
    assert_eq!(names(vec![Rule { tls: TlsMode::Inspect, ..base(1, cidrs(&["8.0.0.0/8"])) }]), ["*"]);
    assert!(names(vec![base(1, To::Any)]).is_empty());
}

/// The flow as TLS, with this of its request.
fn over_tls(flow: &Flow, http: Fact<HttpFacts>) -> Flow {
    let tls = Fact::Known(TlsFacts { ech: EchState::None, ..TlsFacts::default() });
    Flow { protocol: Protocol::Tcp, tls, http, ..flow.clone() }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn only_names_that_the_policy_inspects_are_opened((spec, lists) in policy(), labels in labels(), flow in flow(true)) {
        let policy = compile(spec, lists);
        let flow = over_tls(&flow, Fact::Pending);
        let source = policy.source(&labels);
        if let Step::Needs(Missing::Http) = policy.judge(&flow.facts(&source)) {
            let covers = |pattern: &HostPattern| match &flow.name {
                _ if *pattern == HostPattern::Any => true,
                Fact::Known(named) => pattern.matches(&named.name),
                Fact::Pending | Fact::Absent => false,
            };
            prop_assert!(policy.inspects().any(covers), "{:?}", policy.inspects().collect::<Vec<_>>());
        }
    }

    #[test]
    fn watched_rules_open_nothing((spec, lists) in policy(), labels in labels(), flow in flow(true)) {
        let rules = spec.rules.iter().cloned().map(|rule| Rule { enforcement: RuleEnforcement::Watch, ..rule });
        let policy = compile(PolicySpec { rules: rules.collect(), ..spec }, lists);
        prop_assert!(!policy.needs_inspection());
        let source = policy.source(&labels);
        let step = policy.judge(&over_tls(&flow, Fact::Pending).facts(&source));
        prop_assert!(!matches!(step, Step::Needs(Missing::Http)));
    }

    #[test]
    fn what_is_decided_without_opening_is_decided_the_same_inside((spec, lists) in policy(), labels in labels(), flow in flow(false), inside in of(http_facts())) {
        let policy = compile(spec, lists);
        let source = policy.source(&labels);
        let closed = policy.judge(&over_tls(&flow, Fact::Pending).facts(&source));
        let inside = policy.judge(&over_tls(&flow, inside.map_or(Fact::Absent, Fact::Known)).facts(&source));
        match (closed, inside) {
            (Step::Needs(missing), _) => prop_assert_eq!(missing, Missing::Http),
            (Step::Decided(closed), Step::Decided(inside)) => prop_assert_eq!(closed.verdict, inside.verdict),
            (Step::Decided(_), Step::Needs(missing)) => prop_assert!(false, "needs {:?}", missing),
        }
    }

    #[test]
    fn what_cannot_be_read_gets_nothing_from_a_rule_that_reads((spec, lists) in policy(), labels in labels(), flow in flow(false)) {
        let policy = compile(spec, lists);
        let source = policy.source(&labels);
        if let Step::Decided(decision) = policy.judge(&over_tls(&flow, Fact::Absent).facts(&source))
            && decision.verdict != Verdict::Denied
        {
            let reads = policy.rule(&decision.rule).is_some_and(Rule::needs_request);
            prop_assert!(!reads, "{}", decision.rule);
        }
    }
}
