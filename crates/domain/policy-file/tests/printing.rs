//! What is printed reads back as the same.
#![allow(clippy::expect_used, reason = "a failed test is what it is for")]

use std::collections::BTreeMap;

use policy_file::{
    parse, print,
    wire::{
        Action, ApiVersion, Credential, DefaultEnforcement, Dns, Ech, Enforcement, Feed, FeedFormat, File, From, Group,
        HttpMatch, Kind, Log, Metadata, Mode, OneOrMany, PathPrefix, Port, Protocol, Provider, RecordType, RefuseWith,
        Route, Rule, ServiceTag, Size, Spec, TestCase, Tls, To, Transform, Verdict,
    },
};
use proptest::{
    collection::{btree_map, vec},
    option::of,
    prelude::*,
    sample::{select, subsequence},
};

/// Text that YAML readers like to take for something else.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        select(vec![
            "null",
            "~",
            "yes",
            "off",
            "1.10",
            "0x1f",
            "-",
            "? a",
            "a: b",
            "# x",
            "&a",
            "*a",
            "!t",
            "|",
            ">",
            "[",
            "{}",
            "'",
            "\"",
            "%",
            "@",
            " x ",
            "é\u{202e}",
            "a\nb",
            "\t",
            "2026-11-21",
            "<<",
            "=",
            "1e3",
            ".inf",
            "\\n",
            "---",
            "..."
        ])
        .prop_map(str::to_owned),
        "\\PC{1,20}",
    ]
}

fn word() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9-]{0,12}"
}

fn host() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z][a-z0-9]{0,8}\\.example", "\\*\\.[a-z]{1,8}\\.example", Just("on.example".to_owned())]
}

fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(text(), text(), 1..3)
}

fn destinations() -> impl Strategy<Value = Group> {
    let lists = (
        vec(host(), 1..3),
        vec(select(vec!["10.0.0.0/8", "fd00::/8", "192.0.2.7"]), 0..3),
        vec(select(vec!["http://a.example/x/**"]), 0..2),
    );
    let feed =
        of((word(), select(vec![FeedFormat::Hosts, FeedFormat::SpamhausDrop]), of(select(vec!["10m", "1h 30m"]))));
    let tag = of((select(vec![Provider::Azure, Provider::Google]), word(), of(word())));
    (lists, feed, tag).prop_map(|((hosts, cidrs, urls), feed, tag)| Group {
        sandboxes: None,
        hosts,
        urls: urls.into_iter().map(str::to_owned).collect(),
        cidrs: cidrs.into_iter().map(str::to_owned).collect(),
        service_tag: tag.map(|(provider, name, path)| ServiceTag { provider, name, path }),
        feed: feed.map(|(path, format, refresh)| Feed {
            path: format!("{path}-{format:?}"),
            format,
            refresh: refresh.map(str::to_owned),
        }),
    })
}

fn sources() -> impl Strategy<Value = Group> {
    let sandboxes = prop_oneof![labels().prop_map(OneOrMany::One), vec(labels(), 1..3).prop_map(OneOrMany::Many)];
    sandboxes.prop_map(|sandboxes| Group { sandboxes: Some(sandboxes), ..Group::default() })
}

fn port() -> impl Strategy<Value = Port> {
    prop_oneof![
        (1i64..65536).prop_map(Port::One),
        (1u16..100, 100u16..200).prop_map(|(low, high)| Port::Range(format!("{low}-{high}")))
    ]
}

fn transform() -> impl Strategy<Value = Transform> {
    let values = || btree_map("[A-Z][a-z]{3,5}", "[!-~]([ -~]{0,9}[!-~])?", 1..3);
    let prefix = Just(PathPrefix { prefix: "/v1".to_owned(), with: "/".to_owned() });
    (values(), btree_map("y-[a-z]{1,3}", "[!-~]{0,9}", 0..2), vec("z-[a-z]", 0..1), of(host()), of(prefix)).prop_map(
        |(set, insert, remove, host, path)| {
            let host = host.filter(|host| !host.starts_with('*'));
            Transform { set, insert, remove, scheme: None, host, path }
        },
    )
}

fn rule() -> impl Strategy<Value = Rule> {
    let who = (
        prop_oneof![
            Just(None),
            Just(Some(From::Name("any".to_owned()))),
            labels().prop_map(|l| Some(From::Labels(l))),
            Just(Some(From::Name("sources".to_owned())))
        ],
        prop_oneof![
            Just(To::Name("any".to_owned())),
            Just(To::Name("targets".to_owned())),
            destinations().prop_map(To::Group)
        ],
    );
    let how = (
        of(select(vec![Protocol::Tcp, Protocol::Any])),
        of(prop_oneof![port().prop_map(OneOrMany::One), vec(port(), 0..4).prop_map(OneOrMany::Many)]),
        of(prop_oneof![
            Just(OneOrMany::One("/usr/bin/git".to_owned())),
            Just(OneOrMany::Many(vec![format!("sha256:{}", "a".repeat(64))]))
        ]),
    );
    let http = vec(
        (
            vec(select(vec!["GET", "POST"]), 0..2),
            vec(select(vec!["/", "/a/**", "/*"]), 0..2),
            btree_map("x-[a-z]{1,5}", "[!-~]{1,9}", 0..2),
            btree_map("[a-z]{1,5}", "[ -~]{0,9}", 0..2),
        ),
        0..2,
    );
    let what = (
        select(vec![Action::Allow, Action::Deny, Action::Ask]),
        of(select(vec![
            Enforcement::Enforce,
            Enforcement::Watch,
            Enforcement::Off,
            Enforcement::Audit,
            Enforcement::Enabled,
        ])),
        of(select(vec![Tls::Passthrough, Tls::Inspect])),
        of(select(vec![Ech::Allow, Ech::Deny])),
        of(select(vec![Log::All, Log::Start, Log::End])),
        of(prop_oneof![(0i64..9).prop_map(Size::Bytes), Just(Size::Unit("10MiB".to_owned()))]),
    );
    let rest = (
        vec(select(vec![RecordType::Mx, RecordType::Txt]), 0..2),
        of(text()),
        of(select(vec!["2027-01-31", "2027-01-31T12:00:00+02:00"])),
        of(transform()),
    );
    (who, how, http, what, rest).prop_map(
        |(
            (from, to),
            (protocol, ports, process),
            http,
            (action, enforcement, tls, ech, log, size),
            (record_types, note, expires, transform),
        )| {
            let plain = http.is_empty() && size.is_none();
            Rule {
                name: String::new(),
                priority: 0,
                from,
                to,
                names: Vec::new(),
                protocol,
                ports,
                http: http
                    .into_iter()
                    .map(|(methods, paths, headers, query)| HttpMatch {
                        scheme: (!query.is_empty()).then_some(policy_file::wire::Scheme::Https),
                        methods: methods.into_iter().map(str::to_owned).collect(),
                        paths: paths.into_iter().map(str::to_owned).collect(),
                        headers,
                        query,
                    })
                    .collect(),
                process,
                action,
                enforcement,
                max_body: size.filter(|_| action != Action::Deny),
                max_response: None,
                // What passes TLS through looks at no request.
                tls: tls.filter(|tls| *tls == Tls::Inspect || plain),
                ech,
                route: None,
                credential: None,
                transform: transform.filter(|_| action != Action::Deny && tls != Some(Tls::Passthrough)),
                upstream_ca: None,
                log,
                record_types,
                note,
                expires: expires.map(str::to_owned),
            }
        },
    )
}

/// Each source and each way to attach, of the file that the fuzz target starts from.
fn credentials() -> impl Strategy<Value = BTreeMap<String, Credential>> {
    let text = include_str!("data/credentials.yaml");
    let all = parse("credentials.yaml", text.as_bytes()).expect("a policy").written.spec.credentials;
    let count = all.len();
    subsequence(all.into_iter().collect::<Vec<_>>(), 0..=count).prop_map(|some| some.into_iter().collect())
}

fn file() -> impl Strategy<Value = File> {
    let top = (
        of((of(text()), of(text())).prop_map(|(name, description)| Metadata { name, description })),
        of(select(vec![Mode::Unrestricted, Mode::Limited])),
        of(select(vec![DefaultEnforcement::Watch, DefaultEnforcement::Enabled])),
        vec(host(), 0..3),
        of(any::<bool>()),
    );
    let parts = (
        vec(rule(), 0..5),
        destinations(),
        sources(),
        of((of(1i64..1000), of(1i64..63), of(1u32..4000), of(select(vec![RefuseWith::Refused, RefuseWith::Nxdomain])))),
    );
    let tests = vec(
        (
            prop_oneof![Just(BTreeMap::new()), labels()],
            select(vec!["a.example:443", "http://a.example/x", "[2001:db8::1]:22"]),
            select(vec![Verdict::Allowed, Verdict::Denied, Verdict::Asked]),
        ),
        0..3,
    );
    (top, parts, tests, of(select(vec!["wg0", "eth0"])), credentials()).prop_map(
        |(
            (metadata, mode, default_enforcement, allowed_hosts, strict_binding),
            (mut rules, targets, sources, dns),
            tests,
            interface,
            credentials,
        )| {
            for (number, rule) in (0i64..).zip(&mut rules) {
                rule.name = format!("r{number}");
                rule.priority = 7 * number - 3;
            }
            let spec = Spec {
                mode,
                default_enforcement,
                allowed_hosts,
                strict_binding,
                groups: BTreeMap::from([("targets".to_owned(), targets), ("sources".to_owned(), sources)]),
                routes: interface
                    .map(|name| {
                        (
                            "hop".to_owned(),
                            Route {
                                interface: Some(name.to_owned()),
                                dns: vec!["tls://10.0.0.53#dns.example".to_owned()],
                                ..Route::default()
                            },
                        )
                    })
                    .into_iter()
                    .collect(),
                rules,
                credentials,
                dns: dns.map(|(queries_per_second, label_length, entropy, refuse_with)| Dns {
                    queries_per_second,
                    label_length,
                    entropy_bits_per_second: entropy.map(|e| f64::from(e) / 4.0),
                    refuse_with,
                }),
                tests: tests
                    .into_iter()
                    .map(|(from, to, expect)| TestCase {
                        from,
                        to: to.to_owned(),
                        method: None,
                        process: None,
                        address: None,
                        expect,
                        rule: None,
                        credential: None,
                        would: None,
                    })
                    .collect(),
                ..Spec::default()
            };
            File { api_version: ApiVersion::V1, kind: Kind::EgressPolicy, metadata, spec }
        },
    )
}

proptest! {
    #[test]
    fn a_printed_file_reads_back_as_itself(file in file()) {
        let text = print(&file).expect("prints");
        let read = parse("printed.yaml", text.as_bytes());
        let read = read.map_err(|found| TestCaseError::fail(format!("{text}\n{}", found.render(&text, false))))?;
        prop_assert_eq!(&read.written, &file, "{}", text);
        let json = serde_json::to_string(&file).expect("JSON");
        let from_json = parse("printed.json", json.as_bytes()).map_err(|found| TestCaseError::fail(format!("{json}\n{found}")))?;
        prop_assert_eq!(&from_json.written, &file, "{}", json);
        prop_assert_eq!(from_json.spec, read.spec);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,200}", bytes in vec(any::<u8>(), 0..200)) {
        for input in [text.as_bytes(), bytes.as_slice()] {
            if let Err(found) = parse("junk", input) {
                let _ = found.render(&String::from_utf8_lossy(input), true);
            }
        }
    }

    #[test]
    fn a_policy_with_a_piece_torn_out_is_read_or_refused(file in file(), at in any::<prop::sample::Index>(), length in 0usize..20, with in "\\PC{0,3}") {
        let mut text: Vec<char> = print(&file).expect("prints").chars().collect();
        let from = at.index(text.len());
        let to = (from + length).min(text.len());
        text.splice(from..to, with.chars());
        let text: String = text.into_iter().collect();
        if let Err(found) = parse("torn.yaml", text.as_bytes()) {
            prop_assert!(found.has_errors());
            let lines = text.lines().count();
            prop_assert!(found.items.iter().all(|item| item.line <= lines + 1), "{found}");
            let _ = found.render(&text, false);
        }
    }
}
