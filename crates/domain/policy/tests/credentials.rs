//! Which requests get a credential, and which never do.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed test is what it is for")]

use std::path::PathBuf;

use policy::{
    CompileError, CompiledPolicy, Conclusion, Fact, Facts, HostPattern, HttpFacts, NameAnswer, QueryType, Step,
    TlsFacts, Verdict,
    model::{
        Action, Group, HttpMatch, Lists, Mode, PolicySpec, Rule, RuleEnforcement, TlsMode, To, UrlPattern,
        credential::{
            Attach, Aws, AwsKeys, Bind, Credential, CredentialMisuse, CredentialProblem, Expose, Field, Format, Place,
            Source, Stored,
        },
    },
};
use proptest::{prelude::ProptestConfig, prop_assert, prop_assert_eq, proptest};
use values::{CredentialName, LabelSelector, Labels, Revision};

mod support;

use support::{
    address, anybody, cidrs, compile, facts,
    generate::{bind, flow, labels, policy},
    hosts, name, now, own, rule, shown, sni,
};

fn key() -> CredentialName {
    CredentialName::new("key").unwrap()
}

fn bound(hosts: &[&str], methods: &[&str], paths: &[&str]) -> Bind {
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    let hosts = hosts.iter().map(|text| HostPattern::parse(text).unwrap()).collect();
    Bind { hosts, methods: texts(methods), paths: texts(paths), sandboxes: None }
}

fn credential(bind: Bind) -> Credential {
    let source = Source::Stored(Stored::File(PathBuf::from("key.token")));
    Credential { source, attach: Attach::Bearer, bind, expose: None }
}

fn spec(credential: Credential, rules: Vec<Rule>) -> PolicySpec {
    PolicySpec { credentials: [(key(), credential)].into(), rules, ..PolicySpec::default() }
}

fn attaching(to: To) -> Rule {
    Rule { credential: Some(key()), ..rule("r", 1, Action::Allow, to) }
}

fn request(method: &str, path: Option<&str>) -> Fact<HttpFacts> {
    let (method, path) = (method.to_owned(), path.map(str::to_owned));
    Fact::Known(HttpFacts { method, path, ..HttpFacts::default() })
}

/// What is decided of a request inside TLS to this host, with the credential it would carry.
fn decided(policy: &CompiledPolicy, labels: &Labels, host: &str, http: Fact<HttpFacts>) -> String {
    let source = policy.source(labels);
    let tls = Fact::Known(TlsFacts::default());
    let flow = Facts { name: sni(host), address: address("8.8.8.8"), tls, http, ..facts(&source) };
    let step = policy.judge(&flow);
    match &step {
        Step::Needs(_) => shown(&step),
        Step::Decided(decision) => {
            assert_eq!(decision.permit.as_ref().and_then(|permit| permit.credential()), decision.credential.as_ref());
            let with = decision.credential.as_ref().map(|name| format!(" with {name}")).unwrap_or_default();
            format!("{}{with}", shown(&step))
        }
    }
}

#[test]
fn a_credential_goes_to_what_it_is_bound_to_and_nowhere_else() {
    let bind = bound(&["a.test", "*.c.test"], &["GET", "POST"], &["/api/**"]);
    let policy =
        compile(spec(credential(bind), vec![attaching(hosts(&["a.test", "b.test", "d.c.test"]))]), Lists::default());
    let nobody = Labels::default();
    let denied = "denied by mode-default";
    let carried = "allowed by r with key";
    for (host, method, path, expected) in [
        ("a.test", "GET", Some("/api/x"), carried),
        ("a.test", "POST", Some("/api"), carried),
        ("d.c.test", "GET", Some("/api/x"), carried),
        ("a.test", "DELETE", Some("/api/x"), denied),
        ("a.test", "get", Some("/api/x"), denied),
        ("a.test", "GET", Some("/other"), denied),
        ("a.test", "GET", None, denied),
        ("b.test", "GET", Some("/api/x"), denied),
    ] {
        assert_eq!(decided(&policy, &nobody, host, request(method, path)), expected, "{method} {host} {path:?}");
    }
    // Nothing is opened for what it is not bound to, and nothing is sent where nobody can look.
    assert_eq!(decided(&policy, &nobody, "b.test", Fact::Pending), denied);
    assert_eq!(decided(&policy, &nobody, "a.test", Fact::Pending), "needs Http");
    assert_eq!(decided(&policy, &nobody, "a.test", Fact::Absent), denied);
    let names: Vec<String> = policy.inspects().map(ToString::to_string).collect();
    assert_eq!(names, ["a.test", "d.c.test"]);
}

#[test]
fn plain_requests_and_other_bytes_never_carry_one() {
    let policy = compile(spec(credential(bound(&["a.test"], &[], &[])), vec![attaching(To::Any)]), Lists::default());
    let source = anybody(&policy);
    let flow = Facts { name: sni("a.test"), address: address("8.8.8.8"), ..facts(&source) };
    let denied = "denied by mode-default";
    for (tls, http) in [
        (Fact::Absent, request("GET", Some("/"))),
        (Fact::Absent, Fact::Absent),
        (Fact::Pending, request("GET", Some("/"))),
        (Fact::Pending, Fact::Absent),
    ] {
        assert_eq!(shown(&policy.judge(&Facts { tls, http, ..flow.clone() })), denied);
    }
    let open = Facts { tls: Fact::Pending, http: Fact::Pending, ..flow.clone() };
    assert_eq!(shown(&policy.judge(&open)), "needs Http");
    // Which host it is is known before anything else is looked at.
    let tls = Fact::Known(TlsFacts::default());
    let nameless = Facts { name: Fact::Pending, tls: tls.clone(), http: Fact::Pending, ..flow.clone() };
    assert_eq!(shown(&policy.judge(&nameless)), "needs Name");
    let nameless = Facts { name: Fact::Absent, tls, http: request("GET", Some("/")), ..flow };
    assert_eq!(shown(&policy.judge(&nameless)), denied);
}

#[test]
fn what_is_not_bound_goes_to_later_rules() {
    let bind = bound(&["a.test"], &["GET"], &[]);
    let later = rule("later", 2, Action::Allow, hosts(&["a.test"]));
    let policy = compile(spec(credential(bind), vec![attaching(hosts(&["a.test"])), later]), Lists::default());
    let nobody = Labels::default();
    assert_eq!(decided(&policy, &nobody, "a.test", request("GET", Some("/"))), "allowed by r with key");
    assert_eq!(decided(&policy, &nobody, "a.test", request("PUT", Some("/"))), "allowed by later");
}

#[test]
fn only_the_sandboxes_it_is_bound_to() {
    let sre = LabelSelector([("team".to_owned(), "sre".to_owned())].into());
    let bind = Bind { sandboxes: Some(sre), ..bound(&["a.test"], &[], &[]) };
    let policy = compile(spec(credential(bind), vec![attaching(hosts(&["a.test"]))]), Lists::default());
    let get = || request("GET", Some("/"));
    assert_eq!(decided(&policy, &Labels::from_pairs([("team", "sre")]), "a.test", get()), "allowed by r with key");
    assert_eq!(decided(&policy, &Labels::from_pairs([("team", "web")]), "a.test", get()), "denied by mode-default");
    // Nor is the name resolved for others.
    let answer =
        |labels: &Labels| policy.judge_name(&policy.source(labels), &name("a.test"), QueryType::A, now()).answer;
    assert_eq!(answer(&Labels::from_pairs([("team", "sre")])), NameAnswer::Resolve);
    assert_eq!(answer(&Labels::default()), NameAnswer::Refuse);
}

#[test]
fn a_rule_to_any_destination_opens_the_bound_names_alone() {
    let policy = compile(spec(credential(bound(&["a.test"], &[], &[])), vec![attaching(To::Any)]), Lists::default());
    let source = anybody(&policy);
    let answer = |text: &str| policy.judge_name(&source, &name(text), QueryType::A, now()).answer;
    assert_eq!((answer("a.test"), answer("b.test")), (NameAnswer::Resolve, NameAnswer::Refuse));
    let names: Vec<String> = policy.inspects().map(ToString::to_string).collect();
    assert_eq!(names, ["a.test"]);
}

#[test]
fn an_asked_request_carries_it_after_the_yes_and_a_watched_one_never() {
    let bind = || bound(&["a.test"], &["GET"], &[]);
    let ask = Rule { action: Action::Ask, ..attaching(hosts(&["a.test"])) };
    let policy = compile(spec(credential(bind()), vec![ask]), Lists::default());
    let source = anybody(&policy);
    let tls = || Fact::Known(TlsFacts::default());
    let get = || request("GET", Some("/"));
    let flow = Facts { name: sni("a.test"), address: address("8.8.8.8"), tls: tls(), http: get(), ..facts(&source) };
    let Step::Decided(mut decision) = policy.judge(&flow) else { panic!("undecided") };
    assert_eq!((decision.verdict, decision.credential.clone()), (Verdict::Asked, Some(key())));
    assert_eq!(decision.approve().unwrap().credential(), Some(&key()));

    let watched = Rule { enforcement: RuleEnforcement::Watch, ..attaching(hosts(&["a.test"])) };
    let open = PolicySpec { mode: Mode::Unrestricted, ..spec(credential(bind()), vec![watched]) };
    let policy = compile(open, Lists::default());
    let nobody = Labels::default();
    assert_eq!(decided(&policy, &nobody, "a.test", get()), "allowed by mode-default [r would-allow]");
    assert_eq!(decided(&policy, &nobody, "a.test", request("PUT", None)), "allowed by mode-default");
    assert_eq!(decided(&policy, &nobody, "a.test", Fact::Pending), "allowed by mode-default [r would-unknown]");
    assert!(!policy.needs_inspection());
}

#[test]
fn explain_says_what_it_is_not_bound_to() {
    let sre = LabelSelector([("team".to_owned(), "sre".to_owned())].into());
    let bind = Bind { sandboxes: Some(sre), ..bound(&["a.test"], &["GET"], &[]) };
    let policy = compile(spec(credential(bind), vec![attaching(To::Any)]), Lists::default());
    let (sre, web) = (Labels::from_pairs([("team", "sre")]), Labels::default());
    let why = |labels: &Labels, host: &str, tls: Fact<TlsFacts>, http: Fact<HttpFacts>| {
        let source = policy.source(labels);
        let flow = Facts { name: sni(host), address: address("8.8.8.8"), tls, http, ..facts(&source) };
        let explained = policy.explain(&flow);
        let carried = match &explained.conclusion {
            Conclusion::Decided { credential, .. } => credential.clone(),
            Conclusion::Needs { .. } => None,
        };
        (explained.tried[0].why.clone(), carried)
    };
    let tls = || Fact::Known(TlsFacts::default());
    let words = |text: &str| (text.to_owned(), None);
    let post = || request("POST", Some("/x"));
    assert_eq!(why(&sre, "a.test", tls(), post()), words("credential key is not bound to POST /x"));
    assert_eq!(
        why(&sre, "a.test", tls(), request("P", None)),
        words("credential key is not bound to P an ambiguous path")
    );
    assert_eq!(why(&sre, "b.test", tls(), post()), words("credential key is not bound to b.test (8.8.8.8)"));
    assert_eq!(why(&web, "a.test", tls(), post()), words("credential key is not bound to this sandbox"));
    let plain = words("credential key is attached only to requests inside TLS");
    assert_eq!(why(&sre, "a.test", Fact::Absent, post()), plain);
    let carried = why(&sre, "a.test", tls(), request("GET", Some("/")));
    assert_eq!(carried, ("the request to a.test (8.8.8.8) matches".to_owned(), Some(key())));
}

fn problems(spec: PolicySpec) -> Vec<CompileError> {
    CompiledPolicy::compile(spec, Lists::default(), own(), Revision(1)).map(drop).err().unwrap_or_default()
}

#[test]
fn rules_that_cannot_attach_are_refused() {
    let entry = |methods: &[&str]| HttpMatch {
        methods: methods.iter().map(|m| (*m).to_owned()).collect(),
        ..HttpMatch::default()
    };
    let url = |tls| UrlPattern { tls, host: HostPattern::parse("a.test").unwrap(), port: 443, path: "/".to_owned() };
    let urls = |tls| To::Inline(Group { urls: vec![url(tls)], ..Group::default() });
    let base = || attaching(hosts(&["a.test"]));
    for (rule, misuse) in [
        (base(), None),
        (attaching(hosts(&["*.test"])), None),
        (attaching(cidrs(&["8.0.0.0/8"])), None),
        (attaching(urls(true)), None),
        (Rule { http: vec![entry(&["POST", "GET"]), entry(&["PUT"])], ..base() }, None),
        (Rule { action: Action::Deny, ..base() }, Some(CredentialMisuse::Denies)),
        (
            Rule { protocol: Some(policy::Protocol::Udp), ports: vec![(443, 443)], ..base() },
            Some(CredentialMisuse::Protocol),
        ),
        (Rule { tls: TlsMode::Passthrough, ..base() }, Some(CredentialMisuse::Passthrough)),
        (Rule { ports: vec![(80, 80)], ..base() }, Some(CredentialMisuse::Plain)),
        (attaching(hosts(&["b.test", "*.a.test"])), Some(CredentialMisuse::Hosts)),
        (attaching(urls(false)), Some(CredentialMisuse::Hosts)),
        (Rule { http: vec![entry(&["PUT"]), entry(&["POST"])], ..base() }, Some(CredentialMisuse::Methods)),
    ] {
        let found = problems(spec(credential(bound(&["a.test"], &["GET"], &[])), vec![rule.clone()]));
        let expected = misuse.map(|problem| CompileError::CredentialMisuse {
            rule: rule.name.clone(),
            credential: key(),
            problem,
        });
        assert_eq!(found, Vec::from_iter(expected), "{rule:?}");
    }
    let unknown = Rule { credential: Some(CredentialName::new("other").unwrap()), ..base() };
    let found = problems(spec(credential(bound(&["a.test"], &[], &[])), vec![unknown]));
    assert!(matches!(found.as_slice(), [CompileError::UnknownCredential { .. }]), "{found:?}");
}

#[test]
fn credentials_that_are_wrong_in_themselves_are_refused() {
    let base = || credential(bound(&["a.test"], &[], &[]));
    let attach = |attach: Attach| Credential { attach, ..base() };
    let header = |name: &str, format: &str| attach(Attach::Header { name: name.to_owned(), format: format.to_owned() });
    let env = |format: Format| Some(Expose { env: Some("TOKEN".to_owned()), format });
    let keys = Source::Aws(Box::new(Aws {
        keys: AwsKeys::Profile("prod".to_owned()),
        assume_role: None,
        sts_endpoint: None,
        region: "eu-central-1".to_owned(),
    }));
    let sigv4 = || Attach::SigV4 { service: "s3".to_owned(), region: "eu-central-1".to_owned() };
    let swapped = |fields: Vec<Field>| Credential {
        expose: env(Format::Github),
        ..attach(Attach::Placeholder { headers: vec!["authorization".to_owned()], fields })
    };
    let field = |path: &str, place| Field { method: "POST".to_owned(), path: path.to_owned(), place };
    let certificate = Source::Certificate { chain: PathBuf::from("c.pem"), key: Stored::File(PathBuf::from("k.pem")) };
    let wide = |text: &str| Some(CredentialProblem::TooWide(HostPattern::parse(text).unwrap()));
    let format = |text: &str| Some(CredentialProblem::Format(text.to_owned()));
    let named = |text: &str| Some(CredentialProblem::Header(text.to_owned()));
    let path = |text: &str| Some(CredentialProblem::FieldPath(text.to_owned()));
    for (credential, problem) in [
        (base(), None),
        (Credential { expose: env(Format::Plain), ..base() }, None),
        (header("x-key", "Token {value}"), None),
        (Credential { source: keys.clone(), ..attach(sigv4()) }, None),
        (
            Credential {
                source: keys.clone(),
                expose: Some(Expose { env: None, format: Format::Aws }),
                ..attach(sigv4())
            },
            None,
        ),
        (Credential { source: certificate.clone(), ..attach(Attach::ClientCertificate) }, None),
        (swapped(vec![field("/x/{placeholder}", Place::Path), field("/y", Place::Query("t".to_owned()))]), None),
        (credential(bound(&[], &[], &[])), Some(CredentialProblem::NoHosts)),
        (credential(bound(&["*"], &[], &[])), wide("*")),
        (credential(bound(&["*.com"], &[], &[])), wide("*.com")),
        (credential(bound(&["*.github.io"], &[], &[])), wide("*.github.io")),
        (attach(sigv4()), Some(CredentialProblem::NoKeys)),
        (Credential { source: keys.clone(), ..base() }, Some(CredentialProblem::KeysSent)),
        (attach(Attach::ClientCertificate), Some(CredentialProblem::NoCertificate)),
        (Credential { source: certificate.clone(), ..base() }, Some(CredentialProblem::CertificateSent)),
        (
            Credential { source: certificate, expose: env(Format::Plain), ..attach(Attach::ClientCertificate) },
            Some(CredentialProblem::ExposedCertificate),
        ),
        (header("x-key", "Token"), format("Token")),
        (header("x-key", "{value}{value}"), format("{value}{value}")),
        (header("x-key", "{value}\r\nx: y"), format("{value}\r\nx: y")),
        (header("Host", "{value}"), named("Host")),
        (header("proxy-authorization", "{value}"), named("proxy-authorization")),
        (header("transfer-encoding", "{value}"), named("transfer-encoding")),
        (Credential { expose: None, ..swapped(vec![]) }, Some(CredentialProblem::NoPlaceholder)),
        (
            Credential {
                expose: env(Format::Plain),
                ..attach(Attach::Placeholder { headers: vec![], fields: vec![] })
            },
            Some(CredentialProblem::NowhereToSwap),
        ),
        (swapped(vec![field("/x", Place::Path)]), path("/x")),
        (swapped(vec![field("/x/../y", Place::Json("/a".to_owned()))]), path("/x/../y")),
        (Credential { expose: env(Format::Aws), ..base() }, Some(CredentialProblem::ExposedKeys)),
        (
            Credential { source: keys, expose: env(Format::Aws), ..attach(sigv4()) },
            Some(CredentialProblem::ExposedKeys),
        ),
        (
            Credential { expose: Some(Expose { env: None, format: Format::Plain }), ..base() },
            Some(CredentialProblem::ExposedNowhere),
        ),
    ] {
        assert_eq!(credential.problems(), Vec::from_iter(problem.clone()), "{credential:?}");
        let expected = problem.map(|problem| CompileError::Credential { credential: key(), problem });
        assert_eq!(problems(spec(credential, vec![])), Vec::from_iter(expected));
    }
    let glob = credential(bound(&["a.test"], &[], &["api/**"]));
    assert!(matches!(glob.problems().as_slice(), [CredentialProblem::PathGlob { .. }]));
}

/// Whether the credential is bound to all of this.
fn covers(bind: &Bind, labels: &Labels, facts: &Facts<'_>) -> bool {
    let (Some(named), Some(request)) = (facts.name.known(), facts.http.known()) else { return false };
    let path = |glob: &String| {
        let glob = policy::http_path::PathGlob::parse(glob).unwrap();
        request.path.as_ref().is_some_and(|path| glob.matches(path))
    };
    facts.tls.known().is_some()
        && bind.hosts.iter().any(|host| host.matches(&named.name))
        && (bind.methods.is_empty() || bind.methods.contains(&request.method))
        && (bind.paths.is_empty() || bind.paths.iter().any(path))
        && bind.sandboxes.as_ref().is_none_or(|selector| selector.matches(labels))
}

fn carried(policy: &CompiledPolicy, labels: &Labels, facts: &support::generate::Flow) -> Option<CredentialName> {
    match policy.judge(&facts.facts(&policy.source(labels))) {
        Step::Needs(_) => None,
        Step::Decided(decision) => decision.credential,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn what_is_not_bound_never_carries_a_credential((spec, lists) in policy(), labels in labels(), flow in flow(true)) {
        let policy = compile(spec.clone(), lists);
        let source = policy.source(&labels);
        let facts = flow.facts(&source);
        if let Step::Decided(decision) = policy.judge(&facts) {
            let own = policy.rule(&decision.rule).and_then(|rule| rule.credential.clone());
            match &decision.credential {
                Some(name) => {
                    prop_assert!(covers(&spec.credentials[name].bind, &labels, &facts), "{:?}", decision);
                    prop_assert_eq!(own.as_ref(), Some(name));
                    prop_assert!(decision.verdict != Verdict::Denied);
                }
                // A rule that attaches lets nothing through without.
                None => prop_assert!(own.is_none() || decision.verdict == Verdict::Denied, "{:?}", decision),
            }
            let permitted = decision.permit.as_ref().and_then(|permit| permit.credential());
            prop_assert!(permitted.is_none() || permitted == decision.credential.as_ref());
        }
    }

    #[test]
    fn a_narrower_binding_never_widens((spec, lists) in policy(), narrower in bind(), labels in labels(), flow in flow(false)) {
        let other = CredentialName::new("token").unwrap();
        let bind = &spec.credentials[&other].bind;
        let narrowed = Bind {
            hosts: bind.hosts.iter().filter(|host| narrower.hosts.contains(host)).cloned().collect(),
            methods: if bind.methods.is_empty() { narrower.methods.clone() } else { bind.methods.clone() },
            paths: if bind.paths.is_empty() { narrower.paths.clone() } else { bind.paths.clone() },
            sandboxes: bind.sandboxes.clone().or(narrower.sandboxes),
        };
        let mut after = spec.clone();
        after.credentials.get_mut(&other).unwrap().bind = narrowed;
        let Ok(after) = CompiledPolicy::compile(after, lists.clone(), own(), Revision(7)) else { return Ok(()) };
        let before = compile(spec, lists);
        let was = carried(&before, &labels, &flow);
        if carried(&after, &labels, &flow).as_ref() == Some(&other) {
            prop_assert!(was.is_some());
        }
    }

    #[test]
    fn watched_rules_attach_nothing((spec, lists) in policy(), labels in labels(), flow in flow(true)) {
        let rules = spec.rules.iter().cloned().map(|rule| Rule { enforcement: RuleEnforcement::Watch, ..rule });
        let policy = compile(PolicySpec { rules: rules.collect(), ..spec }, lists);
        prop_assert_eq!(carried(&policy, &labels, &flow), None);
    }

    #[test]
    fn the_meeting_of_two_patterns_covers_what_both_cover(one in bind(), two in bind(), asked in support::generate::known_name()) {
        for (one, two) in one.hosts.iter().zip(&two.hosts) {
            let both = one.matches(&asked.name) && two.matches(&asked.name);
            let meeting = one.meet(two);
            prop_assert_eq!(meeting.as_ref().is_some_and(|meeting| meeting.matches(&asked.name)), both, "{} {}", one, two);
            prop_assert_eq!(meeting, two.meet(one));
        }
    }
}
