//! Parameters of queries.
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

use proptest::{prop_assert, prop_assert_eq, proptest};

use super::{Parameter, parameter};

#[test]
fn one_parameter() {
    let once = |value: &str| Parameter::Once(value.to_owned());
    let cases = [
        ("", "a", Parameter::Missing),
        ("b=1", "a", Parameter::Missing),
        ("a=1", "a", once("1")),
        ("b=2&a=1&c", "a", once("1")),
        ("&&a=1&", "a", once("1")),
        ("a", "a", once("")),
        ("a=", "a", once("")),
        ("a=1=2", "a", once("1=2")),
        ("%61=%31", "a", once("1")),
        ("a=x%20y%26b", "a", once("x y&b")),
        ("a=%c3%a9", "a", once("é")),
        ("b=x+y&a=1", "a", once("1")),
        ("b=%zz&a=1", "a", once("1")),
        // Sent twice, or by a name that some take for the same.
        ("a=1&a=1", "a", Parameter::Ambiguous),
        ("a=1&%61=2", "a", Parameter::Ambiguous),
        ("A=1", "a", Parameter::Ambiguous),
        ("a=1&A=2", "a", Parameter::Ambiguous),
        ("a[]=1", "a", Parameter::Ambiguous),
        ("a=1&a%5b0%5d=2", "a", Parameter::Ambiguous),
        ("k.y=1", "k_y", Parameter::Ambiguous),
        ("+a=1", "a", Parameter::Ambiguous),
        // Read in different ways.
        ("a=x+y", "a", Parameter::Ambiguous),
        ("a=1;b=2", "a", Parameter::Ambiguous),
        ("b=1;a=2", "a", Parameter::Ambiguous),
        ("a=%2531", "a", Parameter::Ambiguous),
        ("%2561=1", "a", Parameter::Ambiguous),
        ("a=%zz", "a", Parameter::Ambiguous),
        ("a=%3", "a", Parameter::Ambiguous),
        ("a=%ff", "a", Parameter::Ambiguous),
        ("a=%00", "a", Parameter::Ambiguous),
        ("%0aa=1", "a", Parameter::Ambiguous),
        ("a=1#b", "a", Parameter::Ambiguous),
        ("a=é", "a", Parameter::Ambiguous),
    ];
    for (query, name, expected) in cases {
        assert_eq!(parameter(query, name), expected, "{query}");
    }
}

/// Every byte percent-encoded.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

proptest! {
    #[test]
    fn never_panics(query in ".*", name in ".*") {
        let _ = parameter(&query, &name);
    }

    #[test]
    fn encoding_changes_nothing(name in "[a-z]{1,4}", value in "[a-zé =&/?]{0,8}", other in "[a-z]{5}") {
        let query = format!("{other}=1&{}={}", encoded(&name), encoded(&value));
        prop_assert_eq!(parameter(&query, &name), Parameter::Once(value));
    }

    #[test]
    fn what_is_said_twice_is_never_said(name in "[a-z]{1,4}", query in "[a-zA-Z=&%0-9+;]{0,20}", value in "[a-z]{0,3}") {
        let twice = format!("{name}={value}&{query}&{}={value}", name.to_uppercase());
        prop_assert!(parameter(&twice, &name) == Parameter::Ambiguous);
    }
}
