//! What tests of a policy find.

use policy::{CompiledPolicy, OwnAddresses, model::Lists};
use values::Revision;

use super::{TestOutcome, run_tests};

fn outcomes(tests: &str) -> Vec<TestOutcome> {
    let text = format!(
        "apiVersion: cofferdam/v1\nkind: EgressPolicy\nspec:\n  mode: limited\n  rules:\n    \
         - {{ name: sre, priority: 1, from: {{ team: sre }}, to: {{ hosts: [a.example] }}, process: /usr/bin/curl, action: allow }}\n    \
         - {{ name: old, priority: 2, to: {{ hosts: [b.example] }}, action: allow, expires: 2026-01-01 }}\n    \
         - {{ name: seen, priority: 3, to: any, action: deny, enforcement: watch }}\n    \
         - {{ name: rest, priority: 4, to: {{ hosts: [c.example] }}, action: allow }}\n  tests:\n{tests}"
    );
    let file = crate::parse("p", text.as_bytes()).unwrap_or_else(|found| panic!("{}", found.render(&text, false)));
    let policy =
        CompiledPolicy::compile(file.spec, Lists::default(), OwnAddresses::default(), Revision(1)).expect("compiles");
    run_tests(&policy, &file.tests, "2026-11-21T09:00:00Z".parse().expect("a time"))
}

#[test]
fn what_holds_passes() {
    let tests =
        "    - { from: { team: sre }, to: \"https://a.example/\", process: /usr/bin/curl, expect: allowed, rule: sre }
    - { from: { team: sre }, to: \"https://a.example/\", expect: denied }
    - { to: \"https://a.example/\", process: /usr/bin/curl, expect: denied, rule: mode-default }
    - { to: \"https://b.example/\", expect: denied }
    - { to: \"https://c.example/\", expect: allowed, rule: rest, would: seen }
    - { to: \"https://c.example/\", address: 10.0.0.8, expect: denied, rule: \"guard:private\" }
";
    for outcome in outcomes(tests) {
        assert!(outcome.passed, "{}: {:?}", outcome.to, outcome.failures);
    }
}

#[test]
fn what_does_not_hold_says_why() {
    let found = outcomes(
        "    - { to: \"https://a.example/\", expect: allowed, rule: sre }\n    - { to: \"https://c.example/\", expect: allowed, would: [rest] }\n",
    );
    assert_eq!(found.iter().map(|outcome| outcome.passed).collect::<Vec<_>>(), [false, false]);
    assert_eq!(found[0].failures.len(), 2);
    assert!(
        found[0].failures[0].starts_with("expected allowed, got denied by mode-default"),
        "{:?}",
        found[0].failures
    );
    assert!(found[1].failures[0].contains("watched match of rest"), "{:?}", found[1].failures);
}
