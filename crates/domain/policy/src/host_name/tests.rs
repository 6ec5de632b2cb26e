//! Tables of names and patterns, and properties of the normal form.

use proptest::{prelude::any, prop_assert, prop_assert_eq, proptest};

use super::{HostName, HostNameError, HostPattern};

fn parsed(text: &str) -> Result<String, HostNameError> {
    HostName::parse(text).map(|name| name.as_str().to_owned())
}

#[test]
fn spellings_of_one_name() {
    for text in [
        "example.com",
        "EXAMPLE.Com",
        "example.com.",
        "example\u{3002}com",
        "example\u{ff0e}com\u{ff61}",
        "\u{ff45}xample.com",
    ] {
        assert_eq!(parsed(text).as_deref(), Ok("example.com"), "{text:?}");
    }
    for text in ["bücher.example", "BÜCHER.example", "xn--bcher-kva.example", "XN--BCHER-KVA.EXAMPLE."] {
        assert_eq!(parsed(text).as_deref(), Ok("xn--bcher-kva.example"), "{text:?}");
    }
}

#[test]
fn names_that_real_services_use() {
    let longest_label = "a".repeat(63);
    let names = [
        "r3---sn-4g5e6nez.googlevideo.com",
        "_acme-challenge.example.com",
        "my_bucket.s3.example.com",
        "1.example",
        "0x7f.example",
        "3com.com",
        "localhost",
        "xn--fiqs8s",
        "127.0.0.1.nip.example",
        &longest_label,
    ];
    for name in names {
        assert_eq!(parsed(name).as_deref(), Ok(name));
    }
}

#[test]
fn what_is_refused() {
    use HostNameError as E;
    let long_label = format!("{}.example", "a".repeat(64));
    let long_name = format!("{}.{}.{}.{}", "a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(62));
    for (text, error) in [
        ("", E::Empty),
        (".", E::Empty),
        ("a..b", E::EmptyLabel),
        (".a", E::EmptyLabel),
        ("a..", E::EmptyLabel),
        ("a\0.com", E::Character('\0')),
        ("a\n.com", E::Character('\n')),
        ("a b.com", E::Character(' ')),
        ("a%2e.com", E::Character('%')),
        ("user@a.com", E::Character('@')),
        ("a.com:80", E::Character(':')),
        ("a/b", E::Character('/')),
        ("exa\u{ad}mple.com", E::Character('\u{ad}')),
        ("exa\u{200b}mple.com", E::Character('\u{200b}')),
        ("a\u{202e}.com", E::Character('\u{202e}')),
        ("*.example.com", E::Character('*')),
        (&long_label, E::LabelTooLong),
        (&long_name, E::NameTooLong),
        ("xn--a.example", E::Internationalised),
        ("xn--example.com", E::Internationalised),
        ("xn--.com", E::Internationalised),
        ("xn--xn--bch--xn--bcher---vxr---vxnkae.example", E::Internationalised),
        ("a\u{2f}b\u{ff0f}c", E::Character('/')),
        ("p\u{430}ypal.com", E::MixedScripts("p\u{430}ypal".to_owned())),
        ("xn--pypal-4ve.com", E::MixedScripts("p\u{430}ypal".to_owned())),
        ("g\u{3bf}\u{3bf}gle.com", E::MixedScripts("g\u{3bf}\u{3bf}gle".to_owned())),
    ] {
        let result = parsed(text);
        let same = match (&result, &error) {
            // Which of the two is found first does not matter.
            (Err(E::Internationalised), E::Character(_)) => !text.is_ascii(),
            (Err(found), expected) => found == expected,
            (Ok(_), _) => false,
        };
        assert!(same, "{text:?}: {result:?}, expected {error:?}");
    }
}

#[test]
fn addresses_in_any_spelling_are_no_names() {
    for text in [
        "127.0.0.1",
        "127.0.0.1.",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "0",
        "0.0.0.0",
        "0x7f.1",
        "1.2.3.0x",
        "a.0xff",
        "example.007",
        "256.256.256.256",
        "\u{ff11}\u{ff12}\u{ff17}.0.0.1",
        "127\u{3002}0\u{3002}0\u{3002}1",
    ] {
        assert_eq!(parsed(text), Err(HostNameError::IpSpelling), "{text:?}");
    }
}

#[test]
fn scripts_written_together_are_not_mixed() {
    for text in [
        "日本語.example",
        "ひらがなカタカナ漢字abc.example",
        "한국어abc.example",
        "пример.example",
        "ελλάδα.example",
        "ラーメン.example",
    ] {
        assert!(HostName::parse(text).is_ok(), "{text}: {:?}", HostName::parse(text));
    }
}

#[test]
fn patterns() {
    let name = |text: &str| HostName::parse(text).unwrap();
    for (pattern, covered, not_covered) in [
        ("example.com", vec!["example.com"], vec!["www.example.com", "example.org"]),
        (
            "*.example.com",
            vec!["www.example.com", "a.b.example.com"],
            vec!["example.com", "notexample.com", "example.com.evil.test", "wwwexample.com"],
        ),
        ("*", vec!["example.com", "localhost"], vec![]),
    ] {
        let parsed = HostPattern::parse(pattern).unwrap();
        assert_eq!(parsed.to_string(), pattern);
        for text in covered {
            assert!(parsed.matches(&name(text)), "{pattern} covers {text}");
        }
        for text in not_covered {
            assert!(!parsed.matches(&name(text)), "{pattern} does not cover {text}");
        }
    }
    let domain = HostPattern::Domain(name("example.com"));
    assert!(domain.matches(&name("example.com")) && domain.matches(&name("a.example.com")));
    assert!(!domain.matches(&name("anexample.com")));
    for text in ["a.*.com", "*example.com", "**", "*.*.com", "ex*mple.com"] {
        assert_eq!(HostPattern::parse(text), Err(HostNameError::Wildcard), "{text}");
    }
}

proptest! {
    #[test]
    fn a_normal_form_is_its_own(text in "[a-zA-Z0-9äß_.\u{3002}\u{ff0e}-]{1,40}") {
        if let Ok(name) = HostName::parse(&text) {
            prop_assert_eq!(HostName::parse(name.as_str()), Ok(name.clone()));
            prop_assert_eq!(HostName::parse(&format!("{name}.")), Ok(name.clone()));
            prop_assert_eq!(HostName::parse(&name.as_str().to_ascii_uppercase()), Ok(name));
        }
    }

    #[test]
    fn any_text_is_refused_or_clean(text in any::<String>()) {
        if let Ok(name) = HostName::parse(&text) {
            let clean = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-' | '_' | '.');
            prop_assert!(name.as_str().chars().all(clean) && name.as_str().len() <= 253);
            prop_assert!(name.as_str().parse::<std::net::IpAddr>().is_err());
            prop_assert!(name.as_str().split('.').all(|label| (1..=63).contains(&label.len())));
        }
    }

    #[test]
    fn dots_and_case_do_not_matter(labels in proptest::collection::vec("[a-z][a-z0-9]{0,8}", 1..5), dots in proptest::collection::vec(0usize..4, 5), upper in any::<bool>()) {
        let plain = labels.join(".");
        let mut noisy = String::new();
        for (index, label) in labels.iter().enumerate() {
            if index > 0 {
                noisy.push([".", "\u{3002}", "\u{ff0e}", "\u{ff61}"][dots[index % dots.len()]].chars().next().unwrap());
            }
            noisy.push_str(&if upper { label.to_uppercase() } else { label.clone() });
        }
        prop_assert_eq!(HostName::parse(&noisy), HostName::parse(&plain));
    }

    #[test]
    fn a_wildcard_covers_sub_names_only(apex in "[a-z]{1,5}\\.[a-z]{2,4}", sub in "[a-z]{1,5}(\\.[a-z]{1,5})?") {
        let pattern = HostPattern::parse(&format!("*.{apex}")).unwrap();
        let covers = |text: String| pattern.matches(&HostName::parse(&text).unwrap());
        let (below, glued, behind) = (format!("{sub}.{apex}"), format!("{sub}{apex}"), format!("{apex}.{sub}q"));
        prop_assert!(covers(below));
        prop_assert!(!covers(apex) && !covers(behind));
        // Gluing text with a dot before the apex makes a sub-name of another apex.
        prop_assert!(!covers(glued));
    }
}
