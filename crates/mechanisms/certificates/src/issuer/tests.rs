//! Which names a scope holds.

use policy::{HostPattern, Target};
use proptest::prelude::{prop_assert, proptest};

use super::{MOST_NAMES, Scope};

fn patterns(texts: &[&str]) -> Vec<HostPattern> {
    texts.iter().map(|text| HostPattern::parse(text).unwrap()).collect()
}

#[test]
fn a_scope_is_the_narrowest_that_a_certificate_can_say() {
    let of = |texts: &[&str]| Scope::of(&patterns(texts));
    let names = |scope: &Scope| match scope {
        Scope::Any => vec!["any".to_owned()],
        Scope::Only(names) => names.iter().map(|name| name.as_str().to_owned()).collect(),
    };
    for (given, expected) in [
        (&["api.example.com"][..], &["api.example.com"][..]),
        (&["*.example.com", "api.example.com", "example.com"], &["example.com"]),
        (&["badexample.com", "example.com"], &["example.com", "badexample.com"]),
        (&[], &[]),
    ] {
        assert_eq!(names(&of(given)), expected, "{given:?}");
    }
    assert_eq!(Scope::of(&[HostPattern::Any]), Scope::Any);
}

#[test]
fn too_many_names_are_any() {
    let many: Vec<HostPattern> =
        (0..=MOST_NAMES).map(|n| HostPattern::parse(&format!("n{n}.example")).unwrap()).collect();
    assert_eq!(Scope::of(&many), Scope::Any);
    assert_ne!(Scope::of(&many[1..]), Scope::Any);
}

#[test]
fn what_it_holds() {
    let scope = Scope::of(&patterns(&["example.com"]));
    for (target, expected) in [
        ("example.com", true),
        ("a.b.example.com", true),
        ("badexample.com", false),
        ("com", false),
        ("192.0.2.1", false),
        ("2001:db8::1", false),
    ] {
        assert_eq!(scope.holds(&Target::parse(target).unwrap()), expected, "{target}");
    }
}

proptest! {
    #[test]
    fn whatever_a_pattern_matches_is_in_the_scope(labels in proptest::collection::vec("[a-z]{1,6}", 2..5), sub in "[a-z]{1,6}") {
        let apex = labels.join(".");
        let scope = Scope::of(&patterns(&[&format!("*.{apex}"), "other.example"]));
        let name = format!("{sub}.{apex}");
        prop_assert!(scope.holds(&Target::parse(&name).unwrap()));
    }
}
