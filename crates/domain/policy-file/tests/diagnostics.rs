//! What people read when a policy file is wrong: each case drawn, and kept as a snapshot.

use policy_file::{Diagnostics, parse};

fn errors(text: &str) -> Diagnostics {
    match parse("policy.yaml", text.as_bytes()) {
        Ok(file) => panic!("accepted: {:?}", file.written),
        Err(found) => found,
    }
}

/// A policy with this `spec`, which is indented by two spaces.
fn with_spec(spec: &str) -> String {
    format!("apiVersion: cofferdam/v1\nkind: EgressPolicy\nspec:\n{spec}")
}

/// What `spec` gets drawn as.
fn drawn(spec: &str) -> String {
    let text = with_spec(spec);
    errors(&text).render(&text, false)
}

macro_rules! snapshots {
    ($($name:ident: $spec:expr;)*) => {
        $(#[test] fn $name() { insta::assert_snapshot!(drawn($spec)); })*
    };
}

snapshots! {
    unknown_field_with_the_nearest_word: "  mode: limited\n  allowedHost: [a.example]\n  rule: []\n";
    unknown_words: "  mode: limitted\n  defaultEnforcement: enforcing\n  rules:\n    - { name: a, priority: 1, to: any, action: permit, enforcement: off, tls: inspec }\n";
    missing_fields: "  rules:\n    - name: a\n      action: allow\n";
    wrong_kinds: "  allowedHosts: a.example\n  strictBinding: \"yes\"\n  dns: { queriesPerSecond: many }\n  rules:\n    name: a\n";
    no_value: "  rules:\n  mode: ~\n";
    repeated_keys: "  mode: limited\n  rules: []\n  mode: routed\n";
    repeated_names_and_priorities: "  rules:\n    - { name: a, priority: 10, to: any, action: deny }\n    - { name: a, priority: 10, to: any, action: deny }\n";
    unknown_references: "  mode: routed\n  route: corpp\n  routes:\n    corp: { interface: wg0 }\n  groups:\n    azure-ad: { cidrs: [192.0.2.0/24] }\n    agents: { sandboxes: { team: sre } }\n  rules:\n    - { name: a, priority: 10, from: agent, to: azure-add, action: deny }\n    - { name: b, priority: 11, to: api.example.com, action: deny }\n    - { name: c, priority: 12, to: 10.0.0.0/8, action: deny, route: crop }\n  tests:\n    - { to: \"a.example:443\", expect: denied, rule: aa }\n";
    sources_are_no_destinations: "  groups:\n    agents: { sandboxes: { team: sre } }\n    web: { hosts: [a.example] }\n    both: { hosts: [a.example], sandboxes: { team: sre } }\n    none: {}\n    all: { sandboxes: {} }\n  rules:\n    - { name: a, priority: 1, from: web, to: agents, action: deny }\n    - { name: b, priority: 2, from: {}, to: { sandboxes: { team: sre } }, action: deny }\n";
    bad_addresses: "  groups:\n    g:\n      cidrs: [10.0.0.1/8, 300.0.0.0/8, \"::ffff:10.0.0.0/104\", 0x7f.1, \"fe80::1%eth0\"]\n";
    bad_hosts: "  allowedHosts: [\"https://a.example\", \"a.example:443\", \"a.example/path\", \"127.1\", \"a*.example\", \"раураl.com\", \"*.com\", \"*.co.uk\", \"*\", \"\"]\n";
    bad_ports: "  rules:\n    - { name: a, priority: 1, to: any, action: deny, ports: [0, 65536, 443-80, https, -1, \"007\"] }\n    - { name: b, priority: 2, to: any, action: deny, protocol: icmp, ports: 7 }\n";
    bad_times: "  groups:\n    g: { feed: { path: f.txt, format: hosts, refresh: 10 } }\n    h: { feed: { path: f.txt, format: host, refresh: 0s } }\n  rules:\n    - { name: a, priority: 1, to: any, action: deny, expires: tomorrow }\n    - { name: b, priority: 2, to: any, action: deny, expires: 2026-13-01 }\n";
    bad_http: "  rules:\n    - name: a\n      priority: 1\n      to: { urls: [\"http://a.example/x?y\", \"a.example/x\", \"ftp://a.example/\"] }\n      ports: [80]\n      http: [{ methods: [get, \"G T\"], paths: [api/**], headers: { \"x y\": z } }]\n      action: allow\n      process: [curl, \"sha256:12\"]\n";
    what_is_not_built_is_refused_by_name: "  groups:\n    runbooks: { urls: [\"https://github.com/acme/*\"] }\n  managedPath: { remoteMcp: true }\n  rules:\n    - { name: a, priority: 1, to: any, action: allow, tls: inspect, http: [{ methods: [GET] }] }\n    - { name: b, priority: 2, to: any, action: allow, transform: { set: { x: y } } }\n    - { name: c, priority: 3, to: any, action: allow, ports: [443], http: [{ methods: [GET] }] }\n";
    routes_and_modes: "  mode: limited\n  route: corp\n  routes:\n    corp: { interface: wg0, mark: 7, dns: [dns.example, \"tls://10.0.0.53\"] }\n    proxy: { httpProxy: proxy.example }\n    long: { interface: averyveryverylongname, sourceAddress: localhost, mark: -1 }\n";
    routed_needs_a_route: "  mode: routed\n";
    reserved_names: "  groups:\n    any: { hosts: [a.example] }\n  rules:\n    - { name: mode-default, priority: 1, to: any, action: deny }\n    - { name: \"guard:x\", priority: 2, to: any, action: deny }\n    - { name: \"a b\", priority: 3, to: any, action: deny }\n";
    bad_tests: "  tests:\n    - { to: a.example, expect: allow }\n    - { to: a.example, expect: allowed }\n    - { to: \"gopher://a.example/\", expect: denied }\n    - { to: \"a.example:443\", expect: denied, address: a, method: get }\n";
    credentials_of_the_wrong_shape: "  credentials:\n    a: { from: { value: s3cret }, attach: bearer, bind: { hosts: [a.example] } }\n    b: { from: { vualt: {} }, attach: bearr, bind: { host: [a.example] } }\n    c: { from: { oauth: { tokenUrl: \"https://a.example/t\", clientId: x, clientSecret: { password: x } } }, attach: { sigv4: { service: s3 } } }\n";
    credentials_that_contradict_themselves: "  credentials:\n    a: { from: { file: a, env: B }, attach: { header: x-key, query: key }, bind: { hosts: [a.example] } }\n    b: { from: {}, attach: {}, bind: {} }\n    c: { from: { env: C }, attach: bearer, bind: { hosts: [c.example, \"*\", \"*.com\", \"*.github.io\"], methods: [get], paths: [api] } }\n    d: { from: { env: D }, attach: { sigv4: { service: s3, region: eu-central-1 } }, bind: { hosts: [d.example] } }\n    e: { from: { aws: { profile: prod } }, attach: bearer, bind: { hosts: [e.example] } }\n    f: { from: { env: F }, attach: { placeholder: { headers: [authorization] } }, bind: { hosts: [f.example] } }\n    g: { from: { env: G }, attach: { header: Host }, bind: { hosts: [g.example] } }\n    h: { from: { env: H }, attach: { header: x-key, format: \"Token\" }, bind: { hosts: [h.example] } }\n    i: { from: { env: I }, attach: { header: \"x key\", format: \"{value}\" }, bind: { hosts: [i.example] }, expose: { format: aws } }\n    j: { from: { env: J }, attach: { query: \"\" }, bind: { hosts: [j.example] }, expose: {} }\n    k: { from: { env: K }, attach: { placeholder: { fields: [{ method: POST, path: /a/*, json: token }, { method: POST, path: /a/../b }] } }, bind: { hosts: [k.example] }, expose: { env: \"1K\", format: github } }\n    l: { from: { env: L }, attach: clientCertificate, bind: { hosts: [l.example] } }\n";
    sources_that_cannot_be: "  credentials:\n    a: { from: { vault: { address: \"http://vault.example:8200\", path: x, field: y, auth: {} } }, attach: bearer, bind: { hosts: [a.example] } }\n    b: { from: { oauth: { tokenUrl: \"https://u:p@b.example/token?x\", clientId: b } }, attach: bearer, bind: { hosts: [b.example] } }\n    c: { from: { file: ~/token }, attach: bearer, bind: { hosts: [c.example] } }\n    d: { from: { aws: { accessKeyId: AKIAEXAMPLE, assumeRole: { arn: role, durationSeconds: 1 } } }, attach: { sigv4: { service: s3, region: eu/1 } }, bind: { hosts: [d.example] } }\n    e: { from: { azure: { scope: \"\", managedIdentity: { endpoint: \"http://10.0.0.1/\" } } }, attach: bearer, bind: { hosts: [e.example] } }\n    f: { from: { kubernetes: { server: \"ftp://f.example\", token: { keyring: { service: s, account: \"\" } }, namespace: a/b, serviceAccount: c, expirationSeconds: 5 } }, attach: bearer, bind: { hosts: [f.example] } }\n    g: { from: { githubApp: { appId: 1, installationId: 0, privateKey: {} } }, attach: bearer, bind: { hosts: [g.example] } }\n    h: { from: { env: \"A=B\" }, attach: bearer, bind: { hosts: [h.example] } }\n    i: { from: { command: [\"\"] }, attach: bearer, bind: { hosts: [i.example] } }\n    j: { from: { gcp: { workloadIdentity: { audience: x, token: { env: T }, serviceAccount: me, stsEndpoint: \"http://192.0.2.1\" } } }, attach: bearer, bind: { hosts: [j.example] } }\n";
    rules_that_cannot_attach: "  credentials:\n    key: { from: { env: KEY }, attach: bearer, bind: { hosts: [api.example], methods: [GET] } }\n    idle: { from: { env: IDLE }, attach: bearer, bind: { hosts: [api.example] } }\n  rules:\n    - { name: a, priority: 1, to: { hosts: [api.example] }, action: allow, credential: kye }\n    - { name: b, priority: 2, to: { hosts: [api.example] }, action: deny, credential: key }\n    - { name: c, priority: 3, to: { hosts: [api.example] }, action: allow, tls: passthrough, credential: key }\n    - { name: d, priority: 4, to: { hosts: [api.example] }, action: allow, ports: [80], credential: key }\n    - { name: e, priority: 5, to: { hosts: [api.example] }, action: allow, protocol: udp, ports: [443], credential: key }\n    - { name: f, priority: 6, to: { hosts: [other.example, \"*.api.example\"] }, action: allow, credential: key }\n    - { name: g, priority: 7, to: { urls: [\"http://api.example/\"] }, action: ask, credential: key }\n    - { name: h, priority: 8, to: { hosts: [\"*.example\"] }, action: allow, http: [{ methods: [PUT] }], credential: key }\n  tests:\n    - { to: \"https://api.example/\", expect: allowed, credential: keey }\n";
    a_scheme_that_cannot_be: "  rules:\n    - { name: a, priority: 1, to: { hosts: [api.example] }, action: allow, transform: { scheme: http, hosts: b.example } }\n";
    changes_that_cannot_be: "  credentials:\n    key: { from: { env: KEY }, attach: bearer, bind: { hosts: [api.example], paths: [/v1/**] } }\n  rules:\n    - { name: a, priority: 1, to: { hosts: [api.example] }, action: deny, transform: { set: { x-a: b } } }\n    - { name: b, priority: 2, to: { hosts: [api.example] }, action: allow, transform: {} }\n    - { name: c, priority: 3, to: { hosts: [api.example] }, action: allow, transform: { set: { Host: b.example } } }\n    - { name: d, priority: 4, to: { hosts: [api.example] }, action: allow, transform: { remove: [x-a, Content-Length] } }\n    - { name: e, priority: 5, to: { hosts: [api.example] }, action: allow, transform: { insert: { x-a: \"a\\r\\nb\" } } }\n    - { name: f, priority: 6, to: { hosts: [api.example] }, action: allow, transform: { set: { X-A: b }, remove: [x-a] } }\n    - { name: g, priority: 7, to: { hosts: [api.example] }, action: allow, transform: { scheme: https } }\n    - { name: h, priority: 8, to: { hosts: [api.example] }, action: allow, transform: { host: \"a.example:1\" } }\n    - { name: i, priority: 9, to: { hosts: [api.example] }, action: allow, transform: { path: { prefix: v1, with: /v2 } } }\n    - { name: j, priority: 10, to: { hosts: [api.example] }, action: allow, tls: passthrough, transform: { host: b.example } }\n    - { name: k, priority: 11, to: { hosts: [api.example] }, action: allow, credential: key, transform: { set: { authorization: x } } }\n    - { name: l, priority: 12, to: { hosts: [api.example] }, action: allow, credential: key, transform: { host: b.example } }\n    - { name: m, priority: 13, to: { hosts: [api.example] }, action: allow, credential: key, transform: { path: { prefix: /v1, with: /v2 } } }\n    - { name: n, priority: 14, to: { hosts: [api.example] }, action: allow, ports: [80], upstreamCa: ca.pem }\n    - { name: o, priority: 15, to: { hosts: [api.example] }, action: allow, upstreamCa: ~/ca.pem }\n";
    other_changes_that_cannot_be: "  rules:\n    - { name: i, priority: 9, to: { hosts: [api.example] }, action: allow, transform: { host: \"*.b.example\" } }\n    - { name: p, priority: 10, to: { hosts: [api.example] }, action: allow, transform: { path: { prefix: /v1/, with: /v2 } } }\n    - { name: q, priority: 11, to: { hosts: [api.example] }, action: allow, transform: { path: { prefix: /v1, with: /a/../b } } }\n    - { name: r, priority: 12, to: { hosts: [api.example] }, action: allow, protocol: udp, ports: [443], transform: { host: b.example } }\n    - { name: s, priority: 13, to: { hosts: [api.example] }, action: allow, transform: { set: { X-A: a, x-a: b, \"x b\": c } } }\n    - { name: t, priority: 14, to: { hosts: [api.example] }, action: allow, tls: passthrough, transform: { host: b.example } }\n";
    metadata_services_that_cannot_be: "  credentials:\n    keys: { from: { aws: { profile: p } }, attach: { sigv4: { service: s3, region: r } }, bind: { hosts: [a.example] } }\n    token: { from: { env: T }, attach: bearer, bind: { hosts: [a.example] } }\n  rules:\n    - { name: a, priority: 1, to: { hosts: [a.example] }, action: allow, credential: keys }\n    - { name: b, priority: 2, to: { hosts: [a.example] }, action: allow, credential: token }\n  metadataService:\n    aws: { credential: token, role: \"a/b\", accountId: \"12\", region: \"\" }\n    azure: { credential: keys }\n    gcp: { credential: tokn, project: A, email: me, projectNumber: 0 }\n";
    promote_needs_a_pack: "  promote: [deny-east-west]\n";
    promote_names_a_rule_of_the_pack: "  pack: agent-containment\n  promote: [deny-east-wst]\n  rules:\n    - { name: mine, priority: 10, to: any, action: deny }\n";
}

#[test]
fn a_wrong_version_or_kind() {
    let text = "apiVersion: cofferdam/v2\nkind: NetworkPolicy\nspec: {}\n";
    insta::assert_snapshot!(errors(text).render(text, false));
}

#[test]
fn broken_yaml() {
    for (name, text) in [
        ("unclosed", "apiVersion: cofferdam/v1\nkind: EgressPolicy\nspec: { rules: [\n"),
        ("tab", "apiVersion: cofferdam/v1\nkind: EgressPolicy\nspec:\n\tmode: limited\n"),
        ("star", "apiVersion: cofferdam/v1\nkind: EgressPolicy\nspec:\n  allowedHosts: [*.example.com]\n"),
        ("indent", "apiVersion: cofferdam/v1\nkind: EgressPolicy\nspec:\n  mode: limited\n   rules: []\n"),
        ("second", "apiVersion: cofferdam/v1\n---\nkind: EgressPolicy\n"),
        ("tag", "apiVersion: !!python/object cofferdam/v1\n"),
        ("cycle", "spec: &a\n  rules: [*a]\n"),
        ("key", "? [a, b]\n: c\n"),
        ("list", "- a\n- b\n"),
        ("word", "hello\n"),
    ] {
        insta::assert_snapshot!(name, errors(text).render(text, false));
    }
}

#[test]
fn a_file_without_a_policy() {
    for text in ["", "\n\n# nothing\n", "---\n", "~", "\u{feff}"] {
        let found = errors(text);
        assert!(found.to_string().contains("the file is empty"), "{text:?}: {found}");
    }
}

#[test]
fn colour_only_where_it_is_wanted_and_no_control_characters_of_the_file() {
    let text = with_spec("  \"mo\\ede\": \"\u{202e}x\"\n");
    let found = errors(&text);
    assert!(!found.render(&text, false).contains(['\u{1b}', '\u{202e}']));
    assert!(found.render(&text, true).contains("\u{1b}[1;31merror\u{1b}[0m"));
    assert!(!found.render(&text, true).contains('\u{202e}'));
}

#[test]
fn a_long_line_is_cut_around_the_caret() {
    let hosts: Vec<String> = (0..60).map(|n| format!("host-{n}.example")).chain(["127.1".to_owned()]).collect();
    let text = with_spec(&format!("  allowedHosts: [{}]\n", hosts.join(", ")));
    insta::assert_snapshot!(errors(&text).render(&text, false));
}

#[test]
fn every_error_of_a_file_is_reported() {
    let rules: String =
        (0..50).map(|n| format!("    - {{ name: r{n}, priority: {n}, to: nowhere{n}, action: deny }}\n")).collect();
    let found = errors(&with_spec(&format!("  rules:\n{rules}")));
    assert_eq!(found.items.len(), 50);
    assert!(found.items.iter().enumerate().all(|(index, item)| item.line == index + 5));
}

#[test]
fn findings_have_a_bound() {
    let rules: String =
        (0..3000).map(|n| format!("    - {{ name: r{n}, priority: {n}, to: nowhere{n}, action: deny }}\n")).collect();
    let found = errors(&with_spec(&format!("  rules:\n{rules}")));
    assert_eq!(found.items.len(), 1001);
    assert!(found.to_string().contains("2000 more findings are not shown"), "{found}");
}

#[test]
fn findings_about_shape_have_a_bound_too() {
    let unknown: String = (0..20_000).map(|n| format!("  field{n}: x\n  mode: limited\n")).collect();
    let found = errors(&with_spec(&unknown));
    assert_eq!(found.items.len(), 2001, "a thousand unknown fields, a thousand repeated keys, and a word on the rest");
    assert!(found.to_string().contains("19000 more findings are not shown"));
}

/// However many keys there are, a repeated one leads to the first.
#[test]
fn a_repeated_key_leads_to_the_first_in_mappings_of_any_size() {
    for (count, repeated) in (1..40).flat_map(|count| (0..count).map(move |repeated| (count, repeated))) {
        let group = |n: usize| format!("    g{n}: {{ hosts: [a.example] }}\n");
        let groups: String = (0..count).chain([repeated]).map(group).collect();
        let found = errors(&with_spec(&format!("  groups:\n{groups}")));
        let [item] = found.items.as_slice() else { panic!("one of {count} keys twice: {found}") };
        let first = item.related.as_ref().map(|related| related.line);
        assert_eq!((item.line, first), (5 + count, Some(5 + repeated)), "{found}");
    }
}

#[test]
fn a_file_of_nothing_but_values_is_refused() {
    let many = format!("[{}x]", "x,".repeat(3_000_000));
    assert!(errors(&many).to_string().contains("more than 3000000 values"));
}
