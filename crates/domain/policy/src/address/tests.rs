//! Tables of addresses in every spelling, and properties of the canon.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::{prelude::any, prop_assert, prop_assert_eq, proptest};

use super::{SpecialRange, canonical, judged_addresses, special};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn embedded_addresses_are_judged_too() {
    for (text, judged) in [
        ("8.8.8.8", &["8.8.8.8"][..]),
        ("2001:4860:4860::8888", &["2001:4860:4860::8888"]),
        // v4-mapped is the IPv4 address.
        ("::ffff:127.0.0.1", &["127.0.0.1"]),
        ("::ffff:7f00:1", &["127.0.0.1"]),
        // Compatible, translated.
        ("::127.0.0.1", &["::127.0.0.1", "127.0.0.1"]),
        ("::ffff:0:127.0.0.1", &["::ffff:0:127.0.0.1", "127.0.0.1"]),
        ("::1", &["::1"]),
        ("::", &["::"]),
        // NAT64.
        ("64:ff9b::169.254.169.254", &["64:ff9b::a9fe:a9fe", "169.254.169.254"]),
        ("64:ff9b:1::10.0.0.1", &["64:ff9b:1::a00:1", "10.0.0.1"]),
        ("64:ff9b:1:a9fe:a9:fe00::", &["64:ff9b:1:a9fe:a9:fe00::", "169.254.169.254", "254.169.254.0", "169.254.0.0"]),
        // 6to4, Teredo (server, client), ISATAP.
        ("2002:7f00:1::", &["2002:7f00:1::", "127.0.0.1"]),
        (
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            &["2001:0:4136:e378:8000:63bf:3fff:fdd2", "65.54.227.120", "192.0.2.45"],
        ),
        ("2001:db8::5efe:10.0.0.8", &["2001:db8::5efe:a00:8", "10.0.0.8"]),
        ("2001:db8::200:5efe:10.0.0.8", &["2001:db8::200:5efe:a00:8", "10.0.0.8"]),
        ("fe80::5efe:127.0.0.1", &["fe80::5efe:7f00:1", "127.0.0.1"]),
    ] {
        let expected: Vec<IpAddr> = judged.iter().map(|text| ip(text)).collect();
        assert_eq!(judged_addresses(ip(text)).to_vec(), expected, "{text}");
    }
}

#[test]
fn special_ranges_and_their_borders() {
    use SpecialRange as S;
    for (text, range) in [
        ("169.254.169.254", Some(S::Metadata)),
        ("169.254.170.2", Some(S::Metadata)),
        ("169.254.170.23", Some(S::Metadata)),
        ("fd00:ec2::254", Some(S::Metadata)),
        ("fd20:ce::254", Some(S::Metadata)),
        ("100.100.100.200", Some(S::Metadata)),
        ("168.63.129.16", Some(S::Metadata)),
        ("192.0.0.192", Some(S::Metadata)),
        ("fd00:c1::a9fe:a9fe", Some(S::Metadata)),
        ("fd00:42::42", Some(S::Metadata)),
        ("168.63.129.17", None),
        ("127.0.0.1", Some(S::Loopback)),
        ("127.255.255.255", Some(S::Loopback)),
        ("126.255.255.255", None),
        ("128.0.0.0", None),
        ("::1", Some(S::Loopback)),
        ("::ffff:127.0.0.1", Some(S::Loopback)),
        ("169.254.0.1", Some(S::LinkLocal)),
        ("169.253.255.255", None),
        ("fe80::1", Some(S::LinkLocal)),
        ("febf::1", Some(S::LinkLocal)),
        ("fec0::1", Some(S::Private)),
        ("10.0.0.0", Some(S::Private)),
        ("9.255.255.255", None),
        ("11.0.0.0", None),
        ("172.15.255.255", None),
        ("172.16.0.0", Some(S::Private)),
        ("172.31.255.255", Some(S::Private)),
        ("172.32.0.0", None),
        ("192.168.255.255", Some(S::Private)),
        ("192.167.255.255", None),
        ("192.169.0.0", None),
        ("100.63.255.255", None),
        ("100.64.0.0", Some(S::Private)),
        ("100.127.255.255", Some(S::Private)),
        ("100.128.0.0", None),
        ("fc00::", Some(S::Private)),
        ("fdff:ffff::1", Some(S::Private)),
        ("224.0.0.1", Some(S::Multicast)),
        ("239.255.255.255", Some(S::Multicast)),
        ("ff02::1", Some(S::Multicast)),
        ("255.255.255.255", Some(S::Broadcast)),
        ("240.0.0.1", Some(S::Reserved)),
        ("255.255.255.254", Some(S::Reserved)),
        ("0.0.0.0", Some(S::Unspecified)),
        ("::", Some(S::Unspecified)),
        ("0.1.2.3", Some(S::Reserved)),
        ("192.0.0.1", Some(S::Reserved)),
        ("198.17.255.255", None),
        ("198.18.0.0", Some(S::Reserved)),
        ("198.20.0.0", None),
        ("192.0.2.1", Some(S::Documentation)),
        ("2001:db8::1", Some(S::Documentation)),
        ("3fff:fff::1", Some(S::Documentation)),
        ("3fff:1000::1", None),
        ("2606:4700::1111", None),
        ("64:ff9b::808:808", None),
        ("4000::1", Some(S::Reserved)),
        ("100::1", Some(S::Reserved)),
        ("::8.8.8.8", Some(S::Reserved)),
        ("2001:20::1", Some(S::Reserved)),
    ] {
        assert_eq!(special(ip(text)), range, "{text}");
    }
}

proptest! {
    #[test]
    fn canonical_twice_changes_nothing(bits in any::<u128>(), v4 in any::<u32>(), choose in 0u8..4) {
        let address = match choose {
            0 => IpAddr::V4(Ipv4Addr::from(v4)),
            1 => IpAddr::V6(Ipv4Addr::from(v4).to_ipv6_mapped()),
            2 => IpAddr::V6(Ipv6Addr::from((0x64_ff9b_u128 << 96) | u128::from(v4))),
            _ => IpAddr::V6(Ipv6Addr::from(bits)),
        };
        let once = canonical(address);
        prop_assert_eq!(canonical(once), once);
        let judged = judged_addresses(address);
        prop_assert_eq!(&judged, &judged_addresses(once));
        prop_assert_eq!(judged[0], once);
        prop_assert!(judged.iter().all(|judged| canonical(*judged) == *judged));
        prop_assert_eq!(special(address), special(once));
    }

    #[test]
    fn an_ipv4_address_is_found_wherever_it_is_embedded(v4 in any::<u32>(), low in any::<u64>()) {
        let v4 = Ipv4Addr::from(v4);
        let bits = u128::from(u32::from(v4));
        let forms = [
            Ipv6Addr::from((0x64_ff9b_u128 << 96) | bits),
            Ipv6Addr::from((0x2002_u128 << 112) | (bits << 80) | u128::from(low)),
            Ipv6Addr::from((0x2001_u128 << 112) | (bits << 64) | u128::from(low)),
            Ipv6Addr::from((0x2001_u128 << 112) | u128::from(!u32::from(v4))),
            Ipv6Addr::from((0xffff_0000_u128 << 32) | bits),
            Ipv6Addr::from((u128::from(low) << 64) | (0x0000_5efe_u128 << 32) | bits),
            v4.to_ipv6_mapped(),
        ];
        for form in forms {
            prop_assert!(judged_addresses(IpAddr::V6(form)).contains(&IpAddr::V4(v4)), "{form}");
        }
    }
}
