//! Tables of DNS questions under policies.

use jiff::Timestamp;
use values::{Labels, Revision, RuleName};

use super::QueryType;
use crate::{
    CompiledPolicy, HostName, HostPattern, NameAnswer, OwnAddresses, Protocol,
    model::{Action, Group, Lists, Mode, PolicySpec, RecordType, Rule, RuleEnforcement, To},
};

fn rule(name: &str, priority: i64, action: Action, hosts: &[&str]) -> Rule {
    let hosts: Vec<HostPattern> = hosts.iter().map(|text| HostPattern::parse(text).unwrap()).collect();
    let to = if hosts.is_empty() { To::Any } else { To::Inline(Group { hosts, ..Group::default() }) };
    Rule::new(RuleName::new(name).unwrap(), priority, action, to)
}

fn by_address(name: &str, priority: i64, range: &str, names: &[&str]) -> Rule {
    let names = names.iter().map(|text| HostPattern::parse(text).unwrap()).collect();
    let to = To::Inline(Group { cidrs: vec![range.parse().unwrap()], ..Group::default() });
    Rule { to, names, ..rule(name, priority, Action::Allow, &[]) }
}

fn compiled(mode: Mode, rules: Vec<Rule>) -> CompiledPolicy {
    let spec = PolicySpec { mode, rules, ..PolicySpec::default() };
    CompiledPolicy::compile(spec, Lists::default(), OwnAddresses::default(), Revision(1)).unwrap()
}

fn asked(policy: &CompiledPolicy, name: &str, record: QueryType) -> String {
    let source = policy.source(&Labels::default());
    let decision = policy.judge_name(&source, &HostName::parse(name).unwrap(), record, Timestamp::UNIX_EPOCH);
    let would: String =
        decision.would.iter().map(|would| format!(" [{} {}]", would.rule, would.verdict.as_str())).collect();
    let answer = match decision.answer {
        NameAnswer::Resolve => "resolve",
        NameAnswer::Synthetic => "synthetic",
        NameAnswer::Refuse => "refuse",
    };
    format!("{answer} by {}{would}", decision.rule)
}

#[test]
fn names_are_opened_by_what_could_allow_them() {
    let ssh_only = Rule { ports: vec![(22, 22)], ..rule("ssh", 10, Action::Allow, &["git.test"]) };
    let no_web = Rule { ports: vec![(80, 443)], ..rule("no-web", 20, Action::Deny, &["half.test"]) };
    let no_tcp = Rule { protocol: Some(Protocol::Tcp), ..rule("no-tcp", 25, Action::Deny, &["tcp.half.test"]) };
    let policy = compiled(
        Mode::Limited,
        vec![
            rule("no", 5, Action::Deny, &["*.bad.test", "bad.test"]),
            ssh_only,
            no_web,
            no_tcp,
            rule("half", 30, Action::Allow, &["half.test", "*.half.test", "x.bad.test"]),
            by_address("net", 40, "8.8.8.0/24", &["named.test"]),
            Rule { enforcement: RuleEnforcement::Watch, ..rule("seen", 50, Action::Allow, &["seen.test"]) },
            Rule { enforcement: RuleEnforcement::Watch, ..rule("seen-no", 1, Action::Deny, &["git.test"]) },
        ],
    );
    for (name, expected) in [
        ("git.test", "resolve by ssh [seen-no would-deny]"),
        ("half.test", "resolve by half"),
        ("tcp.half.test", "refuse by no-tcp"),
        ("x.bad.test", "refuse by no"),
        ("named.test", "resolve by net"),
        ("other.test", "refuse by mode-default"),
        ("seen.test", "refuse by mode-default [seen would-allow]"),
    ] {
        assert_eq!(asked(&policy, name, QueryType::A), expected, "{name}");
    }
}

#[test]
fn an_ask_alone_gets_a_synthetic_answer() {
    let port = |rule: Rule| Rule { ports: vec![(443, 443)], ..rule };
    let policy = compiled(
        Mode::Limited,
        vec![
            rule("ask", 10, Action::Ask, &["new.test", "both.test"]),
            port(rule("ask-web", 20, Action::Ask, &["web.test", "web-and-more.test"])),
            rule("allow", 30, Action::Allow, &["both.test", "web-and-more.test"]),
            rule("no", 40, Action::Deny, &["web.test"]),
        ],
    );
    for (name, expected) in [
        ("new.test", "synthetic by ask"),
        ("both.test", "synthetic by ask"),
        ("web.test", "synthetic by ask-web"),
        ("web-and-more.test", "resolve by allow"),
    ] {
        assert_eq!(asked(&policy, name, QueryType::Aaaa), expected, "{name}");
    }
    assert_eq!(asked(&policy, "new.test", QueryType::Txt), "refuse by mode-default");
    let open = compiled(Mode::Unrestricted, vec![port(rule("ask-web", 20, Action::Ask, &["web.test"]))]);
    assert_eq!(asked(&open, "web.test", QueryType::A), "resolve by mode-default");
}

#[test]
fn record_types() {
    let mail = Rule { record_types: vec![RecordType::Mx], ..rule("mail", 1, Action::Allow, &["mail.test"]) };
    let policy = compiled(Mode::Limited, vec![mail, rule("web", 2, Action::Allow, &["mail.test", "web.test"])]);
    for (name, number, expected) in [
        ("mail.test", 15, "resolve by mail"),
        ("mail.test", 16, "refuse by mode-default"),
        ("web.test", 15, "refuse by mode-default"),
        ("web.test", 1, "resolve by web"),
        ("web.test", 28, "resolve by web"),
        ("web.test", 5, "resolve by web"),
        ("web.test", 64, "resolve by web"),
        ("web.test", 65, "resolve by web"),
        ("web.test", 33, "refuse by mode-default"),
        ("web.test", 255, "refuse by mode-default"),
        ("web.test", 10, "refuse by mode-default"),
    ] {
        assert_eq!(asked(&policy, name, QueryType::from(number)), expected, "{name} {number}");
        assert_eq!(QueryType::from(number).number(), number);
    }
    let open = compiled(Mode::Unrestricted, vec![]);
    assert_eq!(asked(&open, "web.test", QueryType::A), "resolve by mode-default");
    assert_eq!(asked(&open, "web.test", QueryType::Txt), "refuse by mode-default");
    assert_eq!(asked(&open, "metadata.google.internal", QueryType::A), "refuse by guard:metadata");
}

#[test]
fn the_metadata_name_is_opened_by_name_only() {
    let wide = compiled(
        Mode::Limited,
        vec![rule("any", 1, Action::Allow, &[]), rule("wide", 2, Action::Allow, &["*.google.internal"])],
    );
    assert_eq!(asked(&wide, "metadata.google.internal", QueryType::A), "refuse by guard:metadata");
    let named =
        compiled(Mode::Limited, vec![by_address("net", 1, "169.254.169.254/32", &["metadata.google.internal"])]);
    assert_eq!(asked(&named, "metadata.google.internal", QueryType::A), "resolve by net");
}

#[test]
fn answers_keep_to_the_rules() {
    let policy = compiled(
        Mode::Limited,
        vec![
            rule("web", 1, Action::Allow, &["web.test"]),
            by_address("net", 2, "8.8.8.0/24", &["named.test"]),
            by_address("inside", 3, "10.0.0.0/8", &[]),
        ],
    );
    let source = policy.source(&Labels::default());
    for (name, address, admitted) in [
        ("web.test", "1.1.1.1", true),
        ("web.test", "127.0.0.1", false),
        ("web.test", "169.254.169.254", false),
        ("web.test", "10.0.0.5", true),
        ("web.test", "192.168.0.1", false),
        ("web.test", "64:ff9b::169.254.169.254", false),
        ("named.test", "8.8.8.8", true),
        ("named.test", "1.1.1.1", false),
    ] {
        let name = HostName::parse(name).unwrap();
        let is = policy.admits_answer(&source, &name, address.parse().unwrap(), Timestamp::UNIX_EPOCH);
        assert_eq!(is, admitted, "{name} {address}");
    }
}
