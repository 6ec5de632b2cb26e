//! IP addresses: canonical form, embedded addresses, special ranges.
//!
//! An address can stand for another one: a v4-mapped address *is* the IPv4 address; a NAT64 or 6to4
//! address is carried to the one embedded in it. [`judged_addresses`](crate::address::judged_addresses) lists all that a flow to an
//! address could reach, and the policy judges each; the strictest verdict wins. [`special`](crate::address::special) names the
//! range an address lies in; what is guarded in which mode is the judge's matter.
//!
//! ```text
//! ::ffff:7f00:1       → 127.0.0.1
//! 64:ff9b::a9fe:a9fe  → 64:ff9b::a9fe:a9fe, 169.254.169.254
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;
use smallvec::{SmallVec, smallvec};

/// A range with a meaning of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpecialRange {
    /// A cloud's metadata service (spec/egress.md 4).
    Metadata,
    /// 127.0.0.0/8, ::1.
    Loopback,
    /// 169.254.0.0/16, fe80::/10.
    LinkLocal,
    /// RFC 1918, 100.64.0.0/10, fc00::/7, fec0::/10.
    Private,
    /// 224.0.0.0/4, ff00::/8.
    Multicast,
    /// 255.255.255.255.
    Broadcast,
    /// 0.0.0.0, ::.
    Unspecified,
    /// Not assigned to anybody who could be meant.
    Reserved,
    /// 192.0.2.0/24, 198.51.100.0/24, 203.0.113.0/24, 2001:db8::/32, 3fff::/20: for documents and
    /// laboratories. Known, but guarded by nothing: they lead nowhere.
    Documentation,
}

/// The IPv4 address where the address is v4-mapped (`::ffff:a.b.c.d`), else itself.
/// Doing it twice changes nothing.
pub fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// Every address that a flow to this one may reach: itself, v4-mapped folded to IPv4, then those
/// embedded in it (compatible, translated, NAT64, 6to4, Teredo, ISATAP).
pub fn judged_addresses(ip: IpAddr) -> SmallVec<[IpAddr; 3]> {
    let outer = canonical(ip);
    let mut all: SmallVec<[IpAddr; 3]> = smallvec![outer];
    if let IpAddr::V6(v6) = outer {
        embedded(v6, &mut |v4| {
            if !all.contains(&IpAddr::V4(v4)) {
                all.push(IpAddr::V4(v4));
            }
        });
    }
    all
}

/// Tells of every IPv4 address embedded in an IPv6 address that is not v4-mapped.
fn embedded(ip: Ipv6Addr, found: &mut dyn FnMut(Ipv4Addr)) {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let pair = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match (a, b, c, d, e, f) {
        // IPv4-compatible (RFC 4291 2.5.5.1, deprecated); :: and ::1 are themselves.
        (0, 0, 0, 0, 0, 0) if (g, h) != (0, 0) && (g, h) != (0, 1) => found(pair(g, h)),
        // IPv4-translated (RFC 2765).
        (0, 0, 0, 0, 0xffff, 0) => found(pair(g, h)),
        // NAT64, the well-known prefix (RFC 6052).
        (0x64, 0xff9b, 0, 0, 0, 0) => found(pair(g, h)),
        _ => {}
    }
    if (a, b, c) == (0x64, 0xff9b, 1) {
        local_nat64(ip, found);
    }
    // 6to4 (RFC 3056).
    if a == 0x2002 {
        found(pair(b, c));
    }
    // Teredo (RFC 4380): the server, and the client with every bit flipped.
    if (a, b) == (0x2001, 0) {
        found(pair(c, d));
        found(pair(!g, !h));
    }
    // ISATAP (RFC 5214): an interface identifier in any prefix.
    if (e == 0 || e == 0x0200) && f == 0x5efe {
        found(pair(g, h));
    }
}

/// The local-use NAT64 prefix `64:ff9b:1::/48` (RFC 8215): the operator may translate with any prefix
/// length within it, so every place of RFC 6052 is read. Where a reading gives 0.0.0.0/8 it is the
/// padding of another one.
fn local_nat64(ip: Ipv6Addr, found: &mut dyn FnMut(Ipv4Addr)) {
    let [_, _, _, _, _, _, o6, o7, _, o9, o10, o11, o12, o13, o14, o15] = ip.octets();
    let readings = [[o6, o7, o9, o10], [o7, o9, o10, o11], [o9, o10, o11, o12], [o12, o13, o14, o15]];
    for octets in readings {
        let [first, ..] = octets;
        if first != 0 {
            found(Ipv4Addr::from(octets));
        }
    }
}

/// The special range that an address lies in; v4-mapped addresses count as IPv4. What is embedded
/// in other ways is not looked at: see [`judged_addresses`].
pub fn special(ip: IpAddr) -> Option<SpecialRange> {
    match canonical(ip) {
        IpAddr::V4(v4) => special_v4(v4),
        IpAddr::V6(v6) => special_v6(v6),
    }
}

fn special_v4(ip: Ipv4Addr) -> Option<SpecialRange> {
    match ip.octets() {
        [169, 254, 169, 254]
        | [169, 254, 170, 2 | 23]
        | [100, 100, 100, 200]
        | [168, 63, 129, 16]
        | [192, 0, 0, 192] => Some(SpecialRange::Metadata),
        [0, 0, 0, 0] => Some(SpecialRange::Unspecified),
        [0, ..] => Some(SpecialRange::Reserved),
        [127, ..] => Some(SpecialRange::Loopback),
        [169, 254, ..] => Some(SpecialRange::LinkLocal),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Some(SpecialRange::Private),
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Some(SpecialRange::Documentation),
        // IETF protocol assignments, the 6to4 relay's anycast (RFC 7526), benchmarking (RFC 2544).
        [192, 0, 0, _] | [192, 88, 99, _] | [198, 18 | 19, ..] => Some(SpecialRange::Reserved),
        [224..=239, ..] => Some(SpecialRange::Multicast),
        [255, 255, 255, 255] => Some(SpecialRange::Broadcast),
        [240..=255, ..] => Some(SpecialRange::Reserved),
        _ => None,
    }
}

fn special_v6(ip: Ipv6Addr) -> Option<SpecialRange> {
    match ip.segments() {
        [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254]
        | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254]
        | [0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe]
        | [0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42] => Some(SpecialRange::Metadata),
        [0, 0, 0, 0, 0, 0, 0, 0] => Some(SpecialRange::Unspecified),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some(SpecialRange::Loopback),
        [0xfe80..=0xfebf, ..] => Some(SpecialRange::LinkLocal),
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Some(SpecialRange::Private),
        [0xff00..=0xffff, ..] => Some(SpecialRange::Multicast),
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0x0fff, ..] => Some(SpecialRange::Documentation),
        // Benchmarking (RFC 5180) and ORCHIDs (RFC 4843, RFC 7343).
        [0x2001, 2, 0, ..] | [0x2001, 0x10..=0x2f, ..] => Some(SpecialRange::Reserved),
        // NAT64: what is embedded is judged beside it.
        [0x64, 0xff9b, 0, 0, 0, 0, ..] | [0x64, 0xff9b, 1, ..] => None,
        [0x2000..=0x3fff, ..] => None,
        // Outside 2000::/3 nothing else is assigned to hosts.
        _ => Some(SpecialRange::Reserved),
    }
}

/// Whether this name is a metadata service's (spec/egress.md 4).
pub(crate) fn is_metadata_name(name: &str) -> bool {
    name == "metadata.google.internal"
}

#[cfg(test)]
mod tests;
