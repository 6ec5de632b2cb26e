//! Generated policies and facts, from a universe small enough that they meet.

use std::{collections::BTreeMap, net::IpAddr};

use policy::{
    EchState, Fact, HostPattern, HttpFacts, NameSource, NamedHost, ProcessFacts, Protocol, TlsFacts,
    model::{
        Action, EchMode, Feed, FeedFormat, From, Group, HttpMatch, ListContent, Lists, ManagedHosts, ManagedPath, Mode,
        PolicySpec, ProcessMatch, RecordType, Route, Rule, RuleEnforcement, Scheme, TlsMode, To, UrlPattern,
        credential::{Attach, Bind, Credential, Source, Stored},
    },
};
use proptest::{
    collection::vec,
    option::{of, weighted},
    prelude::{Just, Strategy, any},
    prop_oneof,
    sample::{select, subsequence},
};
use values::{CredentialName, GroupName, LabelSelector, Labels, RouteName};

use super::{OWN, name, now, rule};

pub const NAMES: &[&str] = &["a.test", "b.a.test", "c.b.a.test", "z.test", "y.example", "metadata.google.internal"];
pub const ADDRESSES: &[&str] = &[
    "8.8.8.8",
    "8.8.4.4",
    "10.0.0.5",
    "10.1.0.1",
    "127.0.0.1",
    "169.254.169.254",
    "100.100.100.200",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "64:ff9b::10.0.0.5",
    "64:ff9b::169.254.169.254",
    "2002:808:808::1",
    "2001:4860::1",
    "fd00::1",
    OWN,
];
const RANGES: &[&str] = &[
    "0.0.0.0/0",
    "8.0.0.0/8",
    "8.8.8.8/32",
    "10.0.0.0/8",
    "10.0.0.5/32",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "169.254.169.254/32",
    "100.64.0.0/10",
    "::ffff:8.8.8.0/120",
    "::/0",
    "64:ff9b::/96",
    "2002::/16",
    "fc00::/7",
    "9.9.9.9/32",
    "9.0.0.0/8",
];
const PATTERNS: &[&str] =
    &["a.test", "*.a.test", "b.a.test", "*.b.a.test", "z.test", "*.example", "y.example", "metadata.google.internal"];
const FEEDS: &[&str] = &["one", "two"];
const GROUPS: &[&str] = &["first", "second", "third"];
const CREDENTIALS: &[&str] = &["key", "token"];

fn pattern() -> impl Strategy<Value = HostPattern> {
    select(PATTERNS).prop_map(|text| HostPattern::parse(text).unwrap())
}

fn range() -> impl Strategy<Value = ipnet::IpNet> {
    select(RANGES).prop_map(|text| text.parse().unwrap())
}

fn selector() -> impl Strategy<Value = LabelSelector> {
    select(&[("team", "sre"), ("team", "web"), ("tier", "one")][..])
        .prop_map(|(key, value)| LabelSelector(BTreeMap::from([(key.to_owned(), value.to_owned())])))
}

pub fn labels() -> impl Strategy<Value = Labels> {
    subsequence(vec![("team", "sre"), ("tier", "one")], 0..=2).prop_map(Labels::from_pairs)
}

fn url() -> impl Strategy<Value = UrlPattern> {
    (any::<bool>(), pattern(), select(&[80u16, 443][..]), select(&["/", "/a/**", "/*"][..]))
        .prop_map(|(tls, host, port, path)| UrlPattern { tls, host, port, path: path.to_owned() })
}

fn feed(path: &str) -> Feed {
    Feed { path: path.to_owned(), format: FeedFormat::Domains, refresh: None }
}

fn group() -> impl Strategy<Value = Group> {
    let parts = (
        vec(pattern(), 0..3),
        vec(url(), 0..2),
        vec(range(), 0..3),
        weighted(0.2, select(FEEDS)),
        vec(selector(), 1..3),
    );
    parts.prop_map(|(hosts, urls, cidrs, named, sandboxes)| {
        let mut group = Group { sandboxes, hosts, urls, cidrs, service_tag: None, feed: named.map(feed) };
        if group.hosts.is_empty() && group.urls.is_empty() && group.cidrs.is_empty() && group.feed.is_none() {
            group.hosts.push(HostPattern::parse("a.test").unwrap());
        }
        group
    })
}

fn from() -> impl Strategy<Value = From> {
    prop_oneof![
        3 => Just(From::Any),
        1 => selector().prop_map(From::Labels),
        1 => select(GROUPS).prop_map(|name| From::Group(GroupName::new(name).unwrap())),
    ]
}

fn to() -> impl Strategy<Value = To> {
    prop_oneof![
        2 => Just(To::Any),
        3 => group().prop_map(To::Inline),
        2 => select(GROUPS).prop_map(|name| To::Group(GroupName::new(name).unwrap())),
    ]
}

fn http() -> impl Strategy<Value = HttpMatch> {
    let paths = subsequence(vec!["/a/**", "/b"], 0..=2);
    let scheme = weighted(0.3, select(&[Scheme::Http, Scheme::Https][..]));
    (subsequence(vec!["GET", "POST"], 0..=1), paths, any::<bool>(), weighted(0.3, Just(())), scheme).prop_map(
        |(methods, paths, header, query, scheme)| HttpMatch {
            scheme,
            methods: methods.into_iter().map(str::to_owned).collect(),
            paths: paths.into_iter().map(str::to_owned).collect(),
            headers: header.then(|| ("x-key".to_owned(), "1".to_owned())).into_iter().collect(),
            query: query.map(|()| ("q".to_owned(), "1".to_owned())).into_iter().collect(),
        },
    )
}

fn protocol() -> impl Strategy<Value = Protocol> {
    select(&[Protocol::Tcp, Protocol::Tcp, Protocol::Tcp, Protocol::Udp, Protocol::Icmp][..])
}

fn ports() -> impl Strategy<Value = Vec<(u16, u16)>> {
    prop_oneof![3 => Just(Vec::new()), 1 => Just(vec![(80, 80)]), 2 => vec(select(&[(80, 80), (443, 443), (22, 443), (0, 65535), (444, 65535)][..]), 1..3)]
}

fn action() -> impl Strategy<Value = Action> {
    select(&[Action::Allow, Action::Allow, Action::Deny, Action::Ask][..])
}

fn enforcement() -> impl Strategy<Value = RuleEnforcement> {
    select(&[RuleEnforcement::Enforce, RuleEnforcement::Enforce, RuleEnforcement::Watch, RuleEnforcement::Off][..])
}

/// A rule without name and priority.
pub fn any_rule() -> impl Strategy<Value = Rule> {
    let what = (from(), to(), vec(pattern(), 0..2), weighted(0.3, protocol()), ports());
    let how = (vec(http(), 0..2), weighted(0.2, any::<bool>()), action(), enforcement(), any::<bool>());
    let more = (
        weighted(0.2, -10i64..10),
        weighted(0.2, Just(RouteName::new("side").unwrap())),
        weighted(0.2, Just(RecordType::Txt)),
        select(&[TlsMode::AsNeeded, TlsMode::AsNeeded, TlsMode::Inspect, TlsMode::Passthrough][..]),
        weighted(0.1, 0u64..9),
        weighted(0.3, select(CREDENTIALS)),
    );
    (what, how, more).prop_map(
        |(
            (from, to, names, protocol, mut ports),
            (http, process, action, enforcement, ech),
            (expires, route, record, tls, bound, credential),
        )| {
            if protocol == Some(Protocol::Icmp) {
                ports.clear();
            }
            let max_body = bound.filter(|_| action != Action::Deny);
            let tls = match tls {
                TlsMode::Inspect if protocol.is_some_and(|own| own != Protocol::Tcp) => TlsMode::AsNeeded,
                TlsMode::Passthrough if http.is_empty() && max_body.is_none() => tls,
                TlsMode::Passthrough if protocol == Some(Protocol::Icmp) => TlsMode::AsNeeded,
                // What passes TLS through has no condition on what is inside.
                TlsMode::Passthrough => {
                    ports = vec![(80, 80)];
                    tls
                }
                TlsMode::AsNeeded | TlsMode::Inspect => tls,
            };
            let process = process.map(|path| match path {
                true => ProcessMatch::Executable("/usr/bin/git".to_owned()),
                false => ProcessMatch::Digest("00".to_owned()),
            });
            Rule {
                from,
                names,
                protocol,
                ports,
                http,
                max_body,
                tls,
                process: process.into_iter().collect(),
                enforcement,
                ech: if ech { EchMode::Allow } else { EchMode::DenySuspect },
                route,
                credential: credential.map(|name| CredentialName::new(name).unwrap()),
                record_types: record.into_iter().collect(),
                expires: expires.map(|seconds| now() + jiff::SignedDuration::from_secs(seconds)),
                ..rule("unnamed", 0, action, to)
            }
        },
    )
}

/// What a credential may be bound to.
pub fn bind() -> impl Strategy<Value = Bind> {
    let hosts = vec(pattern(), 1..3);
    let methods = subsequence(vec!["GET", "POST"], 0..=1);
    let paths = subsequence(vec!["/a/**", "/b"], 0..=1);
    let what = (hosts, methods, paths, weighted(0.3, ports()), weighted(0.3, selector()));
    what.prop_map(|(hosts, methods, paths, ports, sandboxes)| Bind {
        hosts,
        methods: methods.into_iter().map(str::to_owned).collect(),
        paths: paths.into_iter().map(str::to_owned).collect(),
        ports: ports.unwrap_or_default(),
        sandboxes,
    })
}

fn credential(bind: Bind) -> Credential {
    Credential { source: Source::Stored(Stored::Env("TOKEN".to_owned())), attach: Attach::Bearer, bind, expose: None }
}

/// A policy whose rules stand in any order of priority, with lists for its feeds.
pub fn policy() -> impl Strategy<Value = (PolicySpec, Lists)> {
    let mode = select(&[Mode::Unrestricted, Mode::Limited, Mode::Limited, Mode::Routed][..]);
    let rules = vec(any_rule(), 0..9)
        .prop_map(|rules| (rules.len(), rules))
        .prop_flat_map(|(count, rules)| (Just(rules), Just((0..count as i64).collect::<Vec<_>>()).prop_shuffle()));
    let behind = (vec(pattern(), 0..2), vec(pattern(), 0..2), vec(pattern(), 0..2));
    let parts = ([group(), group(), group()], [bind(), bind()], [list(), list()]);
    (mode, any::<bool>(), rules, parts, behind).prop_map(
        |(
            mode,
            watch_default,
            (rules, priorities),
            (groups, binds, lists),
            (allowed_hosts, registries, additional_hosts),
        )| {
            let side = RouteName::new("side").unwrap();
            let groups: BTreeMap<GroupName, Group> =
                GROUPS.iter().map(|name| GroupName::new(name).unwrap()).zip(groups).collect();
            let credentials = CREDENTIALS.iter().map(|name| CredentialName::new(name).unwrap());
            let credentials = credentials.zip(binds.map(credential)).collect();
            let parts = PolicySpec { groups, credentials, ..PolicySpec::default() };
            let named = |(rule, priority): (Rule, i64)| Rule {
                name: values::RuleName::new(&format!("r{priority}")).unwrap(),
                priority,
                ..possible(rule, &parts)
            };
            let rules: Vec<Rule> = rules.into_iter().zip(priorities).map(named).collect();
            let pypi = ManagedHosts { toggle: "pypi".to_owned(), hosts: registries, ports: Vec::new() };
            let spec = PolicySpec {
                mode,
                watch_default,
                allowed_hosts,
                route: (mode == Mode::Routed).then(|| side.clone()),
                managed_path: ManagedPath {
                    package_registries: vec![pypi],
                    additional_hosts,
                    ..ManagedPath::default()
                },
                routes: BTreeMap::from([(side, Route::default())]),
                rules,
                ..parts
            };
            let feeds = FEEDS.iter().map(|path| (*path).to_owned()).zip(lists).collect();
            (spec, Lists { feeds, ..Lists::default() })
        },
    )
}

/// `tls: passthrough` can't go to URLs inside TLS, and a credential not to what it is not bound to.
pub fn possible(rule: Rule, spec: &PolicySpec) -> Rule {
    let group = match &rule.to {
        To::Any => None,
        To::Group(name) => spec.groups.get(name),
        To::Inline(group) => Some(group),
    };
    let inside = group.is_some_and(|group| group.urls.iter().any(|url| url.tls));
    let tls = if inside && rule.tls == TlsMode::Passthrough { TlsMode::AsNeeded } else { rule.tls };
    let rule = Rule { tls, ..rule };
    let fits = |name: &CredentialName| spec.credential_misuse(&rule, &spec.credentials[name]).is_none();
    let credential = rule.credential.clone().filter(fits);
    Rule { credential, ..rule }
}

fn list() -> impl Strategy<Value = ListContent> {
    let domain = prop_oneof![
        pattern(),
        select(&["a.test", "y.example", "b.a.test"][..]).prop_map(|text| HostPattern::Domain(name(text))),
    ];
    (vec(domain, 0..3), vec(range(), 0..3)).prop_map(|(hosts, cidrs)| ListContent { hosts, cidrs })
}

/// Everything in [`policy::Facts`] but the source.
#[derive(Debug, Clone)]
pub struct Flow {
    pub protocol: Protocol,
    pub port: u16,
    pub address: Fact<IpAddr>,
    pub name: Fact<NamedHost>,
    pub tls: Fact<TlsFacts>,
    pub http: Fact<HttpFacts>,
    pub process: Fact<ProcessFacts>,
}

impl Flow {
    pub fn facts<'s>(&self, source: &'s policy::Source) -> policy::Facts<'s> {
        policy::Facts {
            source,
            protocol: self.protocol,
            port: self.port,
            original_address: None,
            address: self.address,
            name: self.name.clone(),
            tls: self.tls.clone(),
            http: self.http.clone(),
            process: self.process.clone(),
            now: now(),
        }
    }
}

fn fact<T: Clone + std::fmt::Debug>(known: impl Strategy<Value = T>, pending: bool) -> impl Strategy<Value = Fact<T>> {
    (of(known), any::<bool>()).prop_map(move |(known, waits)| match known {
        Some(value) => Fact::Known(value),
        None if waits && pending => Fact::Pending,
        None => Fact::Absent,
    })
}

pub fn known_name() -> impl Strategy<Value = NamedHost> {
    let source = select(&[NameSource::Sni, NameSource::HttpHost, NameSource::ProxyTarget, NameSource::DnsBinding][..]);
    (select(NAMES), source).prop_map(|(text, source)| NamedHost { name: name(text), source })
}

pub fn http_facts() -> impl Strategy<Value = HttpFacts> {
    let headers = vec(select(&[("x-key", "1"), ("x-key", "2"), ("x_key", "1"), ("other", "1")][..]), 0..3);
    let query = of(select(&["", "q=1", "q=2", "q=1&q=1", "Q=1", "q=1;x", "x&q=%31"][..]));
    (select(&["GET", "POST", "get"][..]), of(select(&["/", "/a/b", "/b"][..])), query, headers).prop_map(
        |(method, path, query, headers)| HttpFacts {
            method: method.to_owned(),
            path: path.map(str::to_owned),
            query: query.map(str::to_owned),
            headers: headers.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        },
    )
}

fn known_process() -> impl Strategy<Value = ProcessFacts> {
    (select(&["/usr/bin/git", "/bin/sh"][..]), of(select(&["00", "11"][..]))).prop_map(|(executable, digest)| {
        ProcessFacts { pid: 1, executable: executable.to_owned(), digest: digest.map(str::to_owned) }
    })
}

/// A flow; some facts may be pending where that is asked for.
pub fn flow(pending: bool) -> impl Strategy<Value = Flow> {
    let ech = select(&[EchState::None, EchState::None, EchState::Unverified, EchState::Suspect][..]);
    let tls = ech.prop_map(|ech| TlsFacts { alpn: Vec::new(), ech });
    let where_to = (protocol(), select(&[22u16, 80, 443, 8080][..]));
    let address = fact(select(ADDRESSES).prop_map(|text| text.parse::<IpAddr>().unwrap()), pending);
    (
        where_to,
        address,
        fact(known_name(), pending),
        fact(tls, pending),
        fact(http_facts(), pending),
        fact(known_process(), pending),
    )
        .prop_map(|((protocol, port), address, name, tls, http, process)| Flow {
            protocol,
            port,
            address,
            name,
            tls,
            http,
            process,
        })
}
