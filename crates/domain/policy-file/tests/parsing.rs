//! What a policy file may say, and what it then means.

use policy::model::{
    Action, EchMode, Feed, FeedFormat, From, Hop, Mode, RecordType, RuleEnforcement, StrictBinding, TlsMode, To,
    credential::{Attach, Source, Stored},
};
use policy_file::{PolicyFile, Severity, parse};

fn accepted(text: &str) -> PolicyFile {
    parse("policy.yaml", text.as_bytes()).unwrap_or_else(|found| panic!("refused:\n{}", found.render(text, false)))
}

fn refused(bytes: &[u8]) -> String {
    match parse("policy.yaml", bytes) {
        Ok(_) => panic!("accepted"),
        Err(found) => found.to_string(),
    }
}

fn with_spec(spec: &str) -> String {
    format!("apiVersion: cofferdam/v1\nkind: EgressPolicy\nspec:\n{spec}")
}

/// The example of spec/egress.md, section 1.
const EXAMPLE: &str = include_str!("data/spec-example.yaml");

#[test]
fn the_example_of_the_specification_is_refused_for_connectors_alone() {
    let found = parse("prod.yaml", EXAMPLE.as_bytes()).expect_err("needs connectors");
    insta::assert_snapshot!(found.render(EXAMPLE, false));
}

#[test]
fn the_example_without_connectors_is_a_policy() {
    let text: String =
        EXAMPLE.lines().filter(|line| !line.contains("remoteMcp")).map(|line| line.to_owned() + "\n").collect();
    let file = accepted(&text);
    let spec = &file.spec;
    assert_eq!((spec.name.as_str(), spec.mode, spec.watch_default), ("production", Mode::Routed, false));
    assert_eq!(spec.route.as_ref().map(|route| route.as_str()), Some("corp"));
    let corp = spec.routes.values().next().expect("a route");
    assert_eq!(corp.hop, Hop::Interface("wg0".to_owned()));
    assert_eq!(spec.rules.len(), 5);
    assert_eq!(spec.rules[4].enforcement, RuleEnforcement::Watch);
    assert_eq!(spec.managed_path.package_registries.len(), 5);
    assert_eq!(spec.managed_path.code_repositories.len(), 4);
    assert_eq!(file.tests.len(), 2);
    let (name, pagerduty) = spec.credentials.first_key_value().expect("a credential");
    assert_eq!(spec.rules[2].credential.as_ref(), Some(name));
    let (header, format) = ("authorization".to_owned(), "Token token={value}".to_owned());
    assert_eq!(pagerduty.attach, Attach::Header { name: header, format });
    assert_eq!(pagerduty.source, Source::Stored(Stored::File("pagerduty.token".into())));
    assert_eq!(pagerduty.bind.methods, ["GET", "POST"]);
    let bad = spec.groups.values().find_map(|group| group.feed.clone()).expect("a feed");
    let refresh = Some(std::time::Duration::from_secs(600));
    assert_eq!(bad, Feed { path: "feeds/urlhaus.txt".to_owned(), format: FeedFormat::Hosts, refresh });
    let needed = policy_file::NeededLists::of(spec);
    assert_eq!((needed.feeds.len(), needed.service_tags.len()), (1, 1));
    assert_eq!(needed.service_tags[0].list.path, "service-tags/azure.json");
}

#[test]
fn every_field_of_a_rule() {
    let file = accepted(&with_spec(
        r#"  mode: limited
  strictBinding: false
  dns: { queriesPerSecond: 10, labelLength: 20, entropyBitsPerSecond: 12.5, refuseWith: refused }
  routes:
    tunnel: { socks5: "[::1]:1080", dns: [10.0.0.53, "tls://10.0.0.53#dns.example", "https://dns.example/q#10.0.0.53:8443"] }
  rules:
    - name: everything
      priority: -5
      from: { team: sre, 1: 2 }
      to: { cidrs: [10.1.0.0/16, "fd00::1"] }
      names: [db.internal]
      protocol: tcp
      ports: [5432, 8000-8100]
      http: [{ methods: [GET], paths: ["/api/**"], headers: { X-Team: SRE }, query: { page: 1 }, scheme: https }]
      maxBody: 10MiB
      maxResponse: 1000
      process: /usr/bin/psql
      action: ask
      enforcement: audit
      tls: inspect
      ech: allow
      route: tunnel
      log: start
      recordTypes: [MX, TXT, SRV]
      note: "a note"
      expires: 2027-01-31
"#,
    ));
    let rule = &file.spec.rules[0];
    assert_eq!((rule.priority, rule.action, rule.enforcement), (-5, Action::Ask, RuleEnforcement::Watch));
    let From::Labels(labels) = &rule.from else { panic!("labels") };
    assert_eq!(labels.0.get("1").map(String::as_str), Some("2"), "what looks like a number stays text");
    let To::Inline(group) = &rule.to else { panic!("inline") };
    assert_eq!(group.cidrs.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.1.0.0/16", "fd00::1/128"]);
    assert_eq!(rule.ports, [(5432, 5432), (8000, 8100)]);
    assert_eq!(rule.http[0].headers.get("x-team").map(String::as_str), Some("SRE"));
    assert_eq!(rule.http[0].query.get("page").map(String::as_str), Some("1"));
    assert_eq!(rule.http[0].scheme, Some(policy::model::Scheme::Https));
    assert_eq!((rule.max_body, rule.max_response), (Some(10 << 20), Some(1000)));
    assert_eq!((rule.ech, rule.tls), (EchMode::Allow, TlsMode::Inspect));
    assert_eq!(rule.record_types, [RecordType::Mx, RecordType::Txt, RecordType::Srv]);
    assert_eq!(rule.expires.map(|at| at.to_string()).as_deref(), Some("2027-02-01T00:00:00Z"));
    assert_eq!(file.spec.strict_binding, StrictBinding::Record);
    assert_eq!((file.spec.dns.queries_per_second, file.spec.dns.refused), (10, true));
    let route = file.spec.routes.values().next().expect("a route");
    assert_eq!(route.dns.len(), 3);
    assert_eq!(file.rules.values().next().expect("a rule").line, 10);
}

#[test]
fn json_is_read_too() {
    for text in [
        r#"{"apiVersion":"cofferdam/v1","kind":"EgressPolicy","spec":{"mode":"limited","allowedHosts":["*.example.com"]}}"#,
        "{\n\t\"apiVersion\": \"cofferdam/v1\",\n\t\"kind\": \"EgressPolicy\",\n\t\"spec\": {\n\t\t\"mode\": \"limited\",\n\t\t\"allowedHosts\": [\n\t\t\t\"*.example.com\"\n\t\t]\n\t}\n}\n",
    ] {
        assert_eq!(accepted(text).spec.allowed_hosts.len(), 1);
    }
    let text = "{\"apiVersion\": \"cofferdam/v1\", \"kind\": \"EgressPolicy\",\n \"spec\": {\"moode\": \"limited\"}}";
    assert!(
        refused(text.as_bytes()).contains("policy.yaml:2:11: error: unknown field \"moode\" (did you mean \"mode\"?)")
    );
}

#[test]
fn anchors_and_aliases_are_expanded_within_bounds() {
    let file =
        accepted(&with_spec("  allowedHosts: &hosts [a.example, b.example]\n  groups:\n    g: { hosts: *hosts }\n"));
    assert_eq!(file.spec.groups.values().next().expect("a group").hosts.len(), 2);
}

#[test]
fn bombs_and_junk_are_refused_at_once() {
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..40 {
        let inner = vec![format!("*a{}", level - 1); 10].join(", ");
        laughs.push_str(&format!("a{level}: &a{level} [{inner}]\n"));
    }
    assert!(refused(laughs.as_bytes()).contains("expand to more than"));
    let mut deep = String::from("a0: &a0 [x]\n");
    for level in 1..2000 {
        deep.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
    }
    assert!(refused(deep.as_bytes()).contains("levels deep"));
    for depth in [100, 100_000] {
        assert!(!refused("[".repeat(depth).as_bytes()).is_empty());
        assert!(!refused("{a: ".repeat(depth).as_bytes()).is_empty());
        assert!(!refused("- ".repeat(depth).as_bytes()).is_empty());
    }
    assert!(refused(&vec![b'#'; 16 * 1024 * 1024 + 1]).contains("at most"));
    assert!(refused(b"apiVersion: cofferdam/v1\nkind: \xff\n").contains("is not UTF-8"));
    let utf16: Vec<u8> = "apiVersion: cofferdam/v1".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(!refused(&utf16).is_empty());
}

#[test]
fn a_byte_order_mark_and_carriage_returns_do_no_harm() {
    let text = format!("\u{feff}{}", with_spec("  mode: limited\n").replace('\n', "\r\n"));
    assert_eq!(accepted(&text).spec.mode, Mode::Limited);
}

#[test]
fn sixty_four_port_ranges_and_no_more() {
    let rule = |count: usize| {
        let ports: Vec<String> = (1..=count).map(|port| port.to_string()).collect();
        with_spec(&format!(
            "  rules:\n    - {{ name: a, priority: 1, to: any, action: deny, ports: [{}] }}\n",
            ports.join(", ")
        ))
    };
    assert_eq!(accepted(&rule(64)).spec.rules[0].ports.len(), 64);
    assert!(refused(rule(65).as_bytes()).contains("65 port ranges; a rule has at most 64"));
}

#[test]
fn wide_wildcards_are_judged_by_what_they_let_through() {
    let deny = accepted(&with_spec(
        "  groups:\n    g: { hosts: [\"*.zip\"] }\n  rules:\n    - { name: a, priority: 1, to: g, action: deny }\n",
    ));
    assert!(deny.warnings.items.is_empty());
    let text = with_spec(
        "  groups:\n    g: { hosts: [x.example, \"*.zip\"] }\n  rules:\n    - { name: a, priority: 1, to: g, action: allow }\n",
    );
    assert!(refused(text.as_bytes()).contains("policy.yaml:5:29: error: \"*.zip\" covers every domain"));
    let tenants = accepted(&with_spec("  allowedHosts: [\"*.github.io\"]\n"));
    assert_eq!(tenants.warnings.count(Severity::Warning), 1);
    assert!(tenants.warnings.to_string().contains("every customer"));
    assert!(accepted(&with_spec("  mode: unrestricted\n  allowedHosts: [\"*\"]\n")).warnings.items.is_empty());
}

#[test]
fn what_may_not_do_what_was_meant_is_a_warning() {
    let text = with_spec(
        "  rules:\n    - { name: a, priority: 1, to: { cidrs: [10.0.0.0/8] }, action: allow }\n    - { name: b, priority: 2, to: any, action: allow, http: [{ methods: [GET] }] }\n  tests:\n    - { to: \"https://a.example/\", method: POST, expect: denied }\n",
    );
    insta::assert_snapshot!(accepted(&text).warnings.render(&text, false));
}

#[test]
fn a_rule_that_looks_into_all_tls_is_a_warning() {
    for (rest, warned) in [
        ("to: any, action: deny, http: [{ methods: [POST] }]", true),
        ("to: any, action: deny, http: [{ methods: [POST] }], ports: [80, 443]", true),
        ("to: any, action: allow, http: [{ methods: [POST] }], ports: [\"1-1000\"]", true),
        ("to: any, action: allow, tls: inspect", true),
        ("to: any, action: allow, maxBody: 1MiB", true),
        ("to: any, action: deny, http: [{ methods: [POST] }], ports: [80]", false),
        ("to: any, action: deny, http: [{ methods: [POST] }], enforcement: watch", false),
        ("to: any, action: deny, http: [{ methods: [POST] }], enforcement: off", false),
        ("to: { hosts: [a.example] }, action: allow, http: [{ methods: [POST] }]", false),
        ("to: any, action: deny, tls: inspect", false),
        ("to: any, action: deny", false),
    ] {
        let file = accepted(&with_spec(&format!("  rules:\n    - {{ name: a, priority: 1, {rest} }}\n")));
        let text = file.warnings.to_string();
        assert_eq!(text.contains("the TLS of every destination inspected"), warned, "{rest}: {text}");
    }
}

#[test]
fn what_looks_inside_is_inspected_unless_the_file_says_otherwise() {
    let rule = |rest: &str| with_spec(&format!("  rules:\n    - {{ name: a, priority: 1, {rest} }}\n"));
    for (rest, inspected) in [
        ("to: { hosts: [a.example] }, action: allow", false),
        ("to: { hosts: [a.example] }, action: allow, tls: inspect", true),
        ("to: { hosts: [a.example] }, action: allow, http: [{ query: { page: 1 } }]", true),
        ("to: { hosts: [a.example] }, action: allow, http: [{ methods: [GET] }], enforcement: watch", false),
        ("to: { hosts: [a.example] }, action: allow, http: [{ methods: [GET] }], ports: [80]", false),
        ("to: { hosts: [a.example] }, action: allow, http: [{ methods: [GET] }], ports: 80, tls: passthrough", false),
        ("to: { hosts: [a.example] }, action: allow, maxResponse: 10MiB", true),
        ("to: { urls: [\"https://a.example/x/**\"] }, action: allow", true),
        ("to: { urls: [\"http://a.example/x/**\"] }, action: allow, http: [{ methods: [GET] }]", false),
    ] {
        let spec = accepted(&rule(rest)).spec;
        assert_eq!(spec.inspecting_rules().count() == 1, inspected, "{rest}");
    }
    for (rest, wrong) in [
        ("to: any, action: allow, http: [{ methods: [GET] }], tls: passthrough", "never sees the request"),
        ("to: any, action: allow, maxBody: 1, tls: passthrough", "never sees the request"),
        ("to: { urls: [\"https://a.example/x\"] }, action: allow, tls: passthrough", "the https URL at a.example"),
        ("to: any, action: allow, protocol: udp, ports: [443], tls: inspect", "only TCP can be inspected"),
        ("to: any, action: deny, maxBody: 1", "a denied request has no body to bound"),
        ("to: any, action: allow, maxBody: -1", "\"-1\" is no size"),
        ("to: any, action: allow, maxBody: 10 miles", "\"10 miles\" is no size"),
        ("to: any, action: allow, maxBody: 99999999999GiB", "is no size"),
        ("to: any, action: allow, http: [{ query: { \"\": x } }]", "can't be a parameter of a query"),
    ] {
        let found = refused(rule(rest).as_bytes());
        assert!(found.contains(wrong), "{rest}: {found}");
    }
}

#[test]
fn sizes_in_bytes_or_units() {
    for (text, bytes) in [("0", 0), ("1000", 1000), ("512KiB", 524_288), ("2 MB", 2_000_000), ("1GiB", 1 << 30)] {
        let text =
            with_spec(&format!("  rules:\n    - {{ name: a, priority: 1, to: any, action: ask, maxBody: {text} }}\n"));
        assert_eq!(accepted(&text).spec.rules[0].max_body, Some(bytes));
    }
}

#[test]
fn udp_that_opens_no_port_is_a_warning() {
    for (rest, warned) in [
        ("action: allow, protocol: udp", true),
        ("action: ask, protocol: udp", true),
        ("action: allow, protocol: udp, ports: [123]", false),
        ("action: deny, protocol: udp", false),
        ("action: allow, protocol: any", false),
        ("action: allow", false),
    ] {
        let file = accepted(&with_spec(&format!("  rules:\n    - {{ name: a, priority: 1, to: any, {rest} }}\n")));
        let text = file.warnings.to_string();
        assert_eq!(text.contains("UDP is opened port by port"), warned, "{rest}: {text}");
    }
}

#[test]
fn a_pack_adds_its_rules_behind_the_files_own() {
    let file = accepted(&with_spec(
        "  pack: agent-containment\n  promote: [deny-east-west]\n  groups:\n    threat-intel: { hosts: [bad.example] }\n",
    ));
    assert_eq!(file.spec.rules.len(), 6);
    let watched = file.spec.rules.iter().filter(|rule| rule.enforcement == RuleEnforcement::Watch).count();
    assert_eq!(watched, 5);
    let group = file.spec.groups.iter().find(|(name, _)| name.as_str() == "threat-intel").expect("the group").1;
    assert!(group.feed.is_none(), "the file's own group replaces the pack's");
    assert_eq!(file.spec.mode, Mode::Limited);
    assert!(!file.spec.watch_default, "a pack does not change the file's mode");
}

#[test]
fn a_preset_is_where_a_file_starts_from() {
    let file = accepted(&with_spec("  preset: locked-down\n  dns: { labelLength: 50 }\n  allowedHosts: [a.example]\n"));
    assert_eq!((file.spec.dns.label_length, file.spec.dns.queries_per_second), (50, 20));
    assert_eq!(file.spec.allowed_hosts.len(), 1);
    assert_eq!(accepted(&with_spec("  preset: open\n")).spec.mode, Mode::Unrestricted);
    let own = "  preset: balanced\n  rules:\n    - { name: mine, priority: 1, to: any, action: ask }\n";
    let names: Vec<String> = accepted(&with_spec(own)).spec.rules.iter().map(|rule| rule.name.to_string()).collect();
    assert_eq!(names, ["mine", "allow-git-over-ssh"]);
}
