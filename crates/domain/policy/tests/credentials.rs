//! Which requests get a credential, and which never do.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed test is what it is for")]

use std::path::PathBuf;

use policy::{
    CompileError, CompiledPolicy, Conclusion, Fact, Facts, Guard, HostPattern, HttpFacts, NameAnswer, QueryType, Step,
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
    Bind { hosts, methods: texts(methods), paths: texts(paths), ..Bind::default() }
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
    decided_at(policy, labels, host, 443, http)
}

fn decided_at(policy: &CompiledPolicy, labels: &Labels, host: &str, port: u16, http: Fact<HttpFacts>) -> String {
    let source = policy.source(labels);
    let tls = Fact::Known(TlsFacts::default());
    let flow = Facts { name: sni(host), address: address("8.8.8.8"), port, tls, http, ..facts(&source) };
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
fn another_port_of_the_same_host_gets_it_only_where_somebody_names_the_port() {
    let url =
        UrlPattern { tls: true, host: HostPattern::parse("a.test").unwrap(), port: 8443, path: "/x/**".to_owned() };
    let to_url = |hosts: &[&str]| {
        let hosts = hosts.iter().map(|text| HostPattern::parse(text).unwrap()).collect();
        To::Inline(Group { hosts, urls: vec![url.clone()], ..Group::default() })
    };
    let plain = || attaching(hosts(&["a.test"]));
    let listed = |ports: &[(u16, u16)]| Rule { ports: ports.to_vec(), ..plain() };
    let bind = |ports: &[(u16, u16)]| Bind { ports: ports.to_vec(), ..bound(&["a.test"], &[], &[]) };
    let (carried, denied) = ("allowed by r with key", "denied by mode-default");
    for (rule, bind, path, at) in [
        (plain(), bind(&[]), "/", vec![443]),
        (attaching(To::Any), bind(&[]), "/", vec![443]),
        (listed(&[(8443, 8443)]), bind(&[]), "/", vec![8443]),
        (listed(&[(443, 9000)]), bind(&[]), "/", vec![443, 8443]),
        (plain(), bind(&[(8443, 8443)]), "/", vec![8443]),
        (listed(&[(443, 9000)]), bind(&[(443, 443)]), "/", vec![443]),
        (attaching(to_url(&[])), bind(&[]), "/x/y", vec![8443]),
        (attaching(to_url(&[])), bind(&[]), "/y", vec![]),
        // A URL names its port for its own paths alone.
        (attaching(to_url(&["a.test"])), bind(&[]), "/x/y", vec![443, 8443]),
        (attaching(to_url(&["a.test"])), bind(&[]), "/y", vec![443]),
    ] {
        let shown_rule = format!("{rule:?} {bind:?}");
        let policy = compile(spec(credential(bind), vec![rule]), Lists::default());
        let nobody = Labels::default();
        for port in [443, 8443, 9443] {
            let expected = if at.contains(&port) { carried } else { denied };
            let known = decided_at(&policy, &nobody, "a.test", port, request("GET", Some(path)));
            assert_eq!(known, expected, "{port} {path} {shown_rule}");
        }
        // Nothing is opened there for nothing.
        assert_eq!(decided_at(&policy, &nobody, "a.test", 9443, Fact::Pending), denied, "{shown_rule}");
    }
    let spec = spec(credential(bind(&[(8443, 8443)])), vec![listed(&[(443, 443)])]);
    let found = problems(spec);
    assert!(
        matches!(found.as_slice(), [CompileError::CredentialMisuse { problem: CredentialMisuse::Ports, .. }]),
        "{found:?}"
    );
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
    let source = policy.source(&sre);
    let other = Facts {
        name: sni("a.test"),
        address: address("8.8.8.8"),
        port: 8443,
        tls: tls(),
        http: post(),
        ..facts(&source)
    };
    assert_eq!(
        policy.explain(&other).tried[0].why,
        "credential key is not bound to port 8443: `ports` of the rule or of `bind` would name it"
    );
    let plain = words("credential key is attached only to requests inside TLS");
    assert_eq!(why(&sre, "a.test", Fact::Absent, post()), plain);
    let carried = why(&sre, "a.test", tls(), request("GET", Some("/")));
    assert_eq!(carried, ("the request to a.test (8.8.8.8) matches".to_owned(), Some(key())));
}

#[test]
fn a_denial_says_that_a_credential_is_why_no_rule_matches() {
    let sre = LabelSelector([("team".to_owned(), "sre".to_owned())].into());
    let bind = Bind { sandboxes: Some(sre), ..bound(&["a.test", "hidden.test"], &["GET", "PUT"], &["/v1/**"]) };
    let conditions = vec![HttpMatch { methods: vec!["GET".to_owned(), "POST".to_owned()], ..HttpMatch::default() }];
    let uses = Rule { http: conditions, ..attaching(hosts(&["a.test", "b.test"])) };
    let policy = compile(spec(credential(bind), vec![uses]), Lists::default());
    let (sre, web) = (Labels::from_pairs([("team", "sre")]), Labels::default());
    let reason = |labels: &Labels, host: &str, tls: Fact<TlsFacts>, http: Fact<HttpFacts>| {
        let source = policy.source(labels);
        let flow = Facts { name: sni(host), address: address("8.8.8.8"), tls, http, ..facts(&source) };
        let Step::Decided(decision) = policy.judge(&flow) else { panic!("undecided") };
        assert_eq!((decision.verdict, decision.rule.as_str()), (Verdict::Denied, "mode-default"));
        let explained = policy.explain(&flow).conclusion;
        let Conclusion::Decided { reason, .. } = explained else { panic!("undecided") };
        assert_eq!(reason, decision.reason);
        reason
    };
    let tls = || Fact::Known(TlsFacts::default());
    let get = || request("GET", Some("/v1/x"));
    for (reason, what) in [
        (reason(&sre, "a.test", tls(), request("POST", Some("/v1/x"))), "not bound to this method"),
        (reason(&sre, "a.test", tls(), request("GET", Some("/v2"))), "not bound to this path"),
        (reason(&sre, "a.test", tls(), request("GET", None)), "not bound to this path"),
        (reason(&sre, "b.test", tls(), get()), "not bound to this host"),
        (reason(&sre, "b.test", tls(), Fact::Pending), "not bound to this host"),
        (reason(&web, "a.test", tls(), get()), "not bound to this sandbox"),
        (reason(&sre, "a.test", Fact::Absent, get()), "attached only to requests inside TLS"),
    ] {
        assert_eq!(reason, format!("no rule matches; credential key of rule r is {what}"));
    }
    // What the rule does not match anyway is not the credential's doing.
    for reason in [
        reason(&sre, "a.test", tls(), request("PUT", Some("/v1/x"))),
        reason(&web, "a.test", tls(), request("PUT", Some("/v1/x"))),
        reason(&sre, "hidden.test", tls(), get()),
    ] {
        assert_eq!(reason, "no rule matches");
    }
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

/// Whether the port is that of HTTPS, or the rule, its URLs or the binding name it.
fn names_port(spec: &PolicySpec, rule: &Rule, bind: &Bind, port: u16) -> bool {
    let group = match &rule.to {
        To::Any => None,
        To::Group(name) => spec.groups.get(name),
        To::Inline(group) => Some(group),
    };
    let urls = group.into_iter().flat_map(|group| &group.urls).map(|url| (url.port, url.port));
    let listed: Vec<(u16, u16)> = urls.chain(rule.ports.clone()).chain(bind.ports.clone()).collect();
    port == 443 || listed.iter().any(|(first, last)| (*first..=*last).contains(&port))
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
                    let bind = &spec.credentials[name].bind;
                    prop_assert!(covers(bind, &labels, &facts), "{:?}", decision);
                    prop_assert!(names_port(&spec, policy.rule(&decision.rule).unwrap(), bind, facts.port), "{:?}", decision);
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
            ports: if bind.ports.is_empty() { Vec::new() } else { vec![bind.ports[0]] },
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
    fn adding_a_credential_to_a_rule_never_widens((spec, lists) in policy(), which in proptest::prelude::any::<proptest::sample::Index>(), labels in labels(), flow in flow(false)) {
        let bare = |rule: &&Rule| rule.credential.is_none() && rule.action != Action::Deny;
        let bare: Vec<&Rule> = spec.rules.iter().filter(bare).collect();
        if bare.is_empty() {
            return Ok(());
        }
        let chosen = bare[which.index(bare.len())].name.clone();
        let added = |rule: &Rule| match rule.name == chosen {
            true => support::generate::possible(Rule { credential: CredentialName::new("token").ok(), ..rule.clone() }, &spec),
            false => rule.clone(),
        };
        let with = PolicySpec { rules: spec.rules.iter().map(added).collect(), ..spec.clone() };
        let rest = spec.rules.iter().filter(|rule| rule.name != chosen).cloned().collect();
        let without = PolicySpec { rules: rest, ..spec.clone() };
        let judged = |spec| {
            let policy = compile(spec, lists.clone());
            match policy.judge(&flow.facts(&policy.source(&labels))) {
                Step::Needs(missing) => panic!("{missing:?} is pending"),
                Step::Decided(decision) => (decision.rule, decision.verdict),
            }
        };
        let (was, is, without) = (judged(spec), judged(with), judged(without));
        // Decided as before, or as if the rule were not there; and what it would attach to but can't look into is denied.
        let unseen = is == (Guard::Ech.rule_name(), Verdict::Denied);
        prop_assert!(is == was || is == without || unseen, "{:?} became {:?}, and is {:?} without the rule", was, is, without);
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
