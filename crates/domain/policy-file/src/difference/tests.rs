//! What a reviewer reads.

use std::sync::Arc;

use policy::model::PolicySpec;
use proptest::prelude::*;

use super::{Difference, diff, longest_rising};
use crate::parse;

fn spec(text: &str) -> Arc<PolicySpec> {
    let text = format!("apiVersion: cofferdam/v1\nkind: EgressPolicy\nspec:\n{text}");
    parse("p", text.as_bytes()).unwrap_or_else(|found| panic!("{}", found.render(&text, false))).spec
}

fn told(before: &str, after: &str) -> String {
    diff(&spec(before), &spec(after)).iter().map(|difference: &Difference| format!("{difference}\n")).collect()
}

const BEFORE: &str = "  mode: limited
  allowedHosts: [a.example, b.example]
  routes:
    corp: { interface: wg0 }
  groups:
    web: { hosts: [x.example, y.example] }
    old: { cidrs: [10.0.0.0/8] }
  rules:
    - { name: one, priority: 10, to: web, action: allow, ports: [443] }
    - { name: two, priority: 20, to: web, action: deny }
    - { name: three, priority: 30, to: old, action: deny }
    - { name: four, priority: 40, to: any, action: deny, enforcement: watch }
";

const AFTER: &str = "  mode: unrestricted
  defaultEnforcement: watch
  allowedHosts: [b.example, c.example]
  strictBinding: false
  dns: { queriesPerSecond: 5 }
  routes:
    corp: { interface: wg1, dns: [10.0.0.53] }
    proxy: { socks5: \"proxy.example:1080\" }
  groups:
    web: { hosts: [y.example, z.example], cidrs: [192.0.2.0/24] }
  rules:
    - { name: two, priority: 5, to: web, action: deny, note: changed }
    - { name: one, priority: 11, to: web, action: allow, ports: [80, 443], from: { team: sre } }
    - { name: four, priority: 50, to: any, action: deny }
    - { name: five, priority: 60, to: { hosts: [n.example] }, protocol: tcp, ports: [8000-8010], action: allow, route: proxy, process: /usr/bin/git }
";

#[test]
fn everything_that_differs_is_told() {
    insta::assert_snapshot!(told(BEFORE, AFTER));
}

#[test]
fn what_means_the_same_is_no_difference() {
    assert_eq!(told(BEFORE, BEFORE), "");
    let renumbered = BEFORE.replace("priority: 10", "priority: 11").replace("priority: 40", "priority: 400");
    assert_eq!(told(BEFORE, &renumbered), "");
    let mut lines: Vec<&str> = BEFORE.lines().collect();
    let last = lines.len() - 1;
    lines.swap(last, last - 3);
    assert_eq!(told(BEFORE, &(lines.join("\n") + "\n")), "");
}

proptest! {
    #[test]
    fn a_longest_run_rises_and_none_is_longer(values in Just((0..9usize).collect::<Vec<_>>()).prop_shuffle()) {
        let kept = longest_rising(&values);
        let run: Vec<usize> = values.iter().copied().filter(|value| kept.contains(value)).collect();
        prop_assert!(run.is_sorted());
        let best = (0u32..1 << values.len())
            .map(|bits| values.iter().enumerate().filter(|(index, _)| bits >> index & 1 == 1).map(|(_, value)| *value).collect::<Vec<_>>())
            .filter(|run| run.is_sorted())
            .map(|run| run.len())
            .max();
        prop_assert_eq!(Some(run.len()), best);
    }
}
