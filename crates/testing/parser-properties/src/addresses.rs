//! Addresses: what an address could lead to, and which range it lies in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use policy::{
    Target,
    address::{SpecialRange, canonical, judged_addresses, special},
};

/// Ranges that no flow may be led to by mistake, written down a second time, from the registries.
const RANGES: [(&str, SpecialRange); 17] = [
    ("127.0.0.0/8", SpecialRange::Loopback),
    ("::1/128", SpecialRange::Loopback),
    ("10.0.0.0/8", SpecialRange::Private),
    ("172.16.0.0/12", SpecialRange::Private),
    ("192.168.0.0/16", SpecialRange::Private),
    ("fec0::/10", SpecialRange::Private),
    ("224.0.0.0/4", SpecialRange::Multicast),
    ("ff00::/8", SpecialRange::Multicast),
    ("255.255.255.255/32", SpecialRange::Broadcast),
    ("0.0.0.0/32", SpecialRange::Unspecified),
    ("::/128", SpecialRange::Unspecified),
    ("fe80::/10", SpecialRange::LinkLocal),
    ("169.254.169.254/32", SpecialRange::Metadata),
    ("169.254.0.0/17", SpecialRange::LinkLocal),
    ("198.18.0.0/15", SpecialRange::Reserved),
    ("192.0.2.0/24", SpecialRange::Documentation),
    ("2001:db8::/32", SpecialRange::Documentation),
];

/// Four or sixteen bytes as an address.
pub(crate) fn address(bytes: &[u8]) {
    if let Some(octets) = bytes.first_chunk::<4>() {
        holds(IpAddr::V4(Ipv4Addr::from(*octets)));
        // Wherever it is embedded it is judged.
        let v4 = Ipv4Addr::from(*octets);
        let [a, b, c, d] = *octets;
        let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        for v6 in [
            v4.to_ipv6_mapped(),
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
            Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, high, low),
            Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
            Ipv6Addr::new(0x2001, 0, 0x0808, 0x0808, 0, 0, !high, !low),
            Ipv6Addr::new(0x2400, 1, 2, 3, 0x0200, 0x5efe, high, low),
            Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low),
        ] {
            let padding = a == 0 && v6.segments().first_chunk() == Some(&[0x64, 0xff9b, 1]);
            assert!(padding || judged_addresses(IpAddr::V6(v6)).contains(&IpAddr::V4(v4)), "{v6} hides {v4}");
        }
    }
    if let Some(octets) = bytes.first_chunk::<16>() {
        holds(IpAddr::V6(Ipv6Addr::from(*octets)));
    }
}

fn holds(ip: IpAddr) {
    let normal = canonical(ip);
    assert_eq!(canonical(normal), normal);
    let judged = judged_addresses(ip);
    assert_eq!(judged.first(), Some(&normal));
    assert_eq!(judged, judged_addresses(normal));
    let mut once = judged.to_vec();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), judged.len(), "{ip}: judged twice");
    assert_eq!(special(ip), special(normal), "{ip} and {normal} lie in one range");
    for (range, expected) in RANGES {
        let range: IpNet = range.parse().unwrap();
        if range.contains(&normal) && special(normal) != Some(SpecialRange::Metadata) {
            assert_eq!(special(normal), Some(expected), "{normal} in {range}");
        }
    }
    assert_eq!(Target::parse(&ip.to_string()), Ok(Target::Address(normal)), "{ip}");
}
