//! The text around a new rule stays as it is, and the rule is judged where it should be.

use policy::Target;
use proptest::prelude::*;
use values::RuleName;

use super::{AppendError, NewRule, append_rule};
use crate::{parse, wire};

fn name(text: &str) -> RuleName {
    RuleName::new(text).expect("a name")
}

fn always(host: &str, before: &str) -> NewRule {
    let group = match Target::parse(host).expect("a target") {
        Target::Name(name) => wire::Group { hosts: vec![name.to_string()], ..wire::Group::default() },
        Target::Address(address) => wire::Group { cidrs: vec![address.to_string()], ..wire::Group::default() },
    };
    let name = format!("always-{}", host.trim_matches(['[', ']']));
    let rule = wire::Rule {
        protocol: Some(wire::Protocol::Tcp),
        ports: Some(wire::OneOrMany::Many(vec![wire::Port::One(443)])),
        note: Some("asked: \"yes\" # really".to_owned()),
        ..wire::Rule::new(name, 0, wire::Action::Allow, wire::To::Group(group))
    };
    NewRule { rule, before: Some(self::name(before)) }
}

/// The rules of a file in the order in which they are judged.
fn order(text: &str) -> Vec<String> {
    let file = parse("p", text.as_bytes()).unwrap_or_else(|found| panic!("{text}\n{}", found.render(text, false)));
    let mut rules: Vec<_> = file.spec.rules.iter().map(|rule| (rule.priority, rule.name.to_string())).collect();
    rules.sort();
    rules.into_iter().map(|(_, name)| name).collect()
}

/// Every line of the old text, in order, is in the new one: but for the lines given.
fn keeps_lines(old: &str, new: &str, changed: &[&str]) {
    let mut lines = new.lines();
    for line in old.lines().filter(|line| !changed.contains(line)) {
        assert!(lines.any(|other| other == line), "{line:?} is gone:\n{new}");
    }
}

const FRONT: &str = "# mine\napiVersion: cofferdam/v1   # the version\nkind: EgressPolicy\n\nspec:\n";

#[test]
fn every_style_of_a_file() {
    let cases = [
        "  rules:\n    # first\n    - name: ask   # asks\n      priority: 10\n      to: any\n      action: ask\n    # the end\n\n  mode: limited # why\n",
        "  rules:\n  - { name: ask, priority: 10, to: any, action: ask } # why\n",
        "  rules:\n    - { name: deny, priority: 1, to: any, action: ask, ports: [25] }\n    - name: ask\n      priority: 10\n      to: any\n      action: ask\n      note: |\n        many\n        lines\n\n# after\n",
        "  rules:\n    -\n      name: ask\n      priority: 10\n      to: any\n      action: ask",
        "  rules: [{ name: ask, priority: 10, to: any, action: ask }]\n  mode: limited\n",
        "  rules: [\n    { name: ask, priority: 10, to: any, action: ask },  # one\n  ]\n",
        "  rules: [\n    { name: ask, priority: 10, to: any, action: ask }   # one\n  ]\n",
        "  rules:\n    - name: ask\n      priority: 10\n      to:\n        hosts:\n          - \"*.example.com\"\n      action: ask\n      ports:\n        - 443   # tls\n",
    ];
    for (number, case) in cases.iter().enumerate() {
        let text = format!("{FRONT}{case}");
        let new = append_rule(&text, &always("a.example", "ask")).unwrap_or_else(|error| panic!("{text}\n{error}"));
        let order = order(&new);
        let place = order.iter().position(|name| name == "always-a.example").expect("it is there");
        assert_eq!(order[place + 1], "ask", "{new}");
        // Without a line end at the end, or in one line, the line of the list grows.
        if ![3, 4, 5, 6].contains(&number) {
            keeps_lines(&text, &new, &[]);
        }
        assert!(new.len() > text.len() && new.matches('#').count() >= text.matches('#').count(), "{new}");
        let crlf = append_rule(&text.replace('\n', "\r\n"), &always("a.example", "ask")).expect("carriage returns");
        assert!(!crlf.replace("\r\n", "").contains('\n'), "{crlf:?}");
        let twice = append_rule(&new, &always("a.example", "ask")).expect("again");
        assert!(order.len() + 1 == self::order(&twice).len() && twice.contains("always-a.example-2"), "{twice}");
    }
    let text = format!("{FRONT}{}", cases[0]);
    insta::assert_snapshot!(append_rule(&text, &always("[2001:db8::1]", "ask")).expect("added"));
}

#[test]
fn a_file_without_rules_and_json_get_them() {
    for text in [
        format!("{FRONT}  mode: limited   # why\n"),
        format!("{FRONT}  mode: limited\n\n# the end"),
        format!("{FRONT}  rules: []\n"),
        "{\n\t\"apiVersion\": \"cofferdam/v1\",\n\t\"kind\": \"EgressPolicy\",\n\t\"spec\": {\n\t\t\"mode\": \"limited\"\n\t}\n}\n".to_owned(),
        "{\"apiVersion\": \"cofferdam/v1\", \"kind\": \"EgressPolicy\", \"spec\": {}}".to_owned(),
        "\u{feff}apiVersion: cofferdam/v1\nkind: EgressPolicy\nspec: {}\n".to_owned(),
    ] {
        let rule = NewRule { before: None, ..always("a.example", "x") };
        let new = append_rule(&text, &rule).unwrap_or_else(|error| panic!("{text}\n{error}"));
        assert_eq!(order(&new), ["always-a.example"], "{new}");
        assert_eq!(text.starts_with('{'), serde_json::from_str::<serde_json::Value>(&new).is_ok(), "{new}");
        keeps_lines(&text, &new, &["  rules: []", "spec: {}", "\u{feff}", "\t\t\"mode\": \"limited\"", text.lines().next().filter(|_| text.starts_with("{\"")).unwrap_or("-")]);
        assert_eq!(text.starts_with('\u{feff}'), new.starts_with('\u{feff}'));
    }
}

#[test]
fn where_no_priority_is_free_the_rules_behind_move_on() {
    let rules: String = [("a", 1), ("ask", 2), ("b", 3), ("c", 4), ("d", 9)]
        .iter()
        .map(|(name, priority)| {
            format!(
                "    - {{ name: {name}, priority: {priority}, to: any, action: ask, ports: [{priority}] }} # {name}\n"
            )
        })
        .collect();
    let text = format!("{FRONT}  rules:\n{rules}");
    let new = append_rule(&text, &always("a.example", "ask")).expect("added");
    assert_eq!(order(&new), ["a", "always-a.example", "ask", "b", "c", "d"]);
    assert!(
        new.contains("name: d, priority: 9,")
            && new.contains("name: ask, priority: 3,")
            && new.contains("name: c, priority: 5,"),
        "{new}"
    );
}

#[test]
fn what_can_not_be_done_is_refused() {
    let text =
        format!("{FRONT}  rules:\n    - {{ name: ask, priority: -9223372036854775808, to: any, action: ask }}\n");
    assert!(matches!(append_rule(&text, &always("a.example", "ask")), Err(AppendError::NoRoom(_))));
    assert!(matches!(append_rule(&text, &always("a.example", "gone")), Err(AppendError::NoSuchRule(_))));
    assert!(matches!(append_rule("spec: [", &always("a.example", "ask")), Err(AppendError::Unreadable(_))));
    let packed = format!(
        "{FRONT}  pack: agent-containment\n  rules:\n    - {{ name: mine, priority: 800089, to: any, action: deny, ports: [1] }}\n"
    );
    assert!(matches!(append_rule(&packed, &always("a.example", "default-deny-internet")), Err(AppendError::NoRoom(_))));
    assert!(append_rule(&packed, &always("a.example", "mine")).is_ok());
    let mut wrong = always("a.example", "ask");
    wrong.rule.route = Some("nowhere".to_owned());
    assert!(matches!(append_rule(&text.replace("-9223372036854775808", "5"), &wrong), Err(AppendError::Refused(_))));
}

proptest! {
    #[test]
    fn order_is_kept_whatever_the_priorities(priorities in prop::collection::btree_set(-5i64..12, 1..10), ask in any::<prop::sample::Index>(), flow in any::<bool>()) {
        let rule = |priority: &i64| format!("{{ name: r{priority}, priority: {priority}, to: any, action: ask, ports: [7] }}");
        let rules: Vec<String> = priorities.iter().rev().map(rule).collect();
        let rules = if flow { format!("  rules: [{}]\n", rules.join(", ")) } else { format!("  rules:\n    - {}\n", rules.join("\n    - ")) };
        let text = format!("{FRONT}{rules}");
        let before = order(&text);
        let asked = ask.get(&before).clone();
        let new = append_rule(&text, &always("a.example", &asked)).expect("added");
        let mut expected = before.clone();
        expected.insert(before.iter().position(|name| *name == asked).expect("there"), "always-a.example".to_owned());
        prop_assert_eq!(order(&new), expected);
    }
}
