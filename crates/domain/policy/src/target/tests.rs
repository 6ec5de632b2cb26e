//! Destinations in any text: refused, or read back as written.

use std::net::IpAddr;

use proptest::{prelude::any, prop_assert, prop_assert_eq, proptest};

use super::Target;

#[test]
fn names_and_addresses() {
    for (host, shown) in [
        ("example.com", "example.com"),
        ("Example.COM.", "example.com"),
        ("1.2.3.4", "1.2.3.4"),
        ("[::1]", "[::1]"),
        ("::1", "[::1]"),
        ("2001:DB8:0::1", "[2001:db8::1]"),
        ("[::ffff:1.2.3.4]", "1.2.3.4"),
        ("::ffff:102:304", "1.2.3.4"),
    ] {
        assert_eq!(Target::parse(host).unwrap().to_string(), shown, "{host}");
    }
    assert_eq!(Target::parse("10.0.0.8"), Ok(Target::Address(IpAddr::from([10, 0, 0, 8]))));
}

#[test]
fn what_is_neither() {
    for host in [
        "",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "0",
        "1.2.3.4.",
        "1.2.3.4.5",
        "01.2.3.4",
        "1.2.3",
        "256.1.1.1",
        "[::1",
        "::1]",
        "[[::1]]",
        "[[::]]",
        "[1.2.3.4]",
        "[example.com]",
        "[]",
        "fe80::1%eth0",
        "[fe80::1%25eth0]",
        "[v1.x]",
        "a:80",
        "1.2.3.4:80",
        "[::1]:80",
        "::ffff:127.1",
        "a b",
        "%31.2.3.4",
        "user@1.2.3.4",
        "1.2.3.4/8",
    ] {
        assert!(Target::parse(host).is_err(), "{host:?}: {:?}", Target::parse(host));
    }
}

proptest! {
    #[test]
    fn an_address_reads_back(bits in any::<u128>(), v4 in any::<u32>()) {
        for address in [IpAddr::V6(bits.into()), IpAddr::V4(v4.into())] {
            prop_assert_eq!(Target::parse(&address.to_string()), Ok(Target::Address(address.to_canonical())));
            let shown = Target::Address(address.to_canonical()).to_string();
            prop_assert_eq!(Target::parse(&shown), Ok(Target::Address(address.to_canonical())));
        }
    }

    #[test]
    fn any_text_is_refused_or_reads_back(text in any::<String>()) {
        if let Ok(target) = Target::parse(&text) {
            prop_assert!(Target::parse(&target.to_string()) == Ok(target));
        }
    }
}
