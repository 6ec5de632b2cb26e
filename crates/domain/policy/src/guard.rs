//! The built-in guards: what no rule has to say.
//!
//! A guard stands before the rules. Those over addresses are opened only by an enforced rule that
//! names the very address or range (`to: any`, a host name, a feed or a service tag open none):
//!
//! | guard | opened by a `cidrs` entry that |
//! | --- | --- |
//! | loopback, link-local, private, multicast, broadcast, unspecified, reserved | holds the address and lies within that kind of range |
//! | metadata, own-address | is that one address (`/32`, `/128`) |
//!
//! The others (malformed, ech, binding, dns-limit) are about how a flow came, and no rule opens them
//! but `ech: allow`.

use std::sync::LazyLock;

use ipnet::IpNet;
use serde::Serialize;
use values::RuleName;

use crate::address::{self, SpecialRange};

/// A built-in guard. Ordered: where several hold, the first named is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guard {
    /// A cloud's metadata service, by address or name.
    Metadata,
    /// The host's loopback.
    Loopback,
    /// An address of the host, the gateway or the control plane.
    OwnAddress,
    /// Link-local.
    LinkLocal,
    /// Private, in the modes other than routed.
    Private,
    /// Multicast.
    Multicast,
    /// Broadcast.
    Broadcast,
    /// Unspecified.
    Unspecified,
    /// Reserved: nobody's.
    Reserved,
    /// Input that has no one meaning.
    Malformed,
    /// An encrypted ClientHello that may hide another name.
    Ech,
    /// An address that is not among its name's.
    Binding,
    /// A bound on DNS questions.
    DnsLimit,
}

impl Guard {
    /// Every guard, in order.
    pub const ALL: [Guard; 13] = [
        Guard::Metadata,
        Guard::Loopback,
        Guard::OwnAddress,
        Guard::LinkLocal,
        Guard::Private,
        Guard::Multicast,
        Guard::Broadcast,
        Guard::Unspecified,
        Guard::Reserved,
        Guard::Malformed,
        Guard::Ech,
        Guard::Binding,
        Guard::DnsLimit,
    ];

    /// The name under which it is recorded: `guard:metadata` …
    pub fn as_str(self) -> &'static str {
        match self {
            Guard::Metadata => "guard:metadata",
            Guard::Loopback => "guard:loopback",
            Guard::OwnAddress => "guard:own-address",
            Guard::LinkLocal => "guard:link-local",
            Guard::Private => "guard:private",
            Guard::Multicast => "guard:multicast",
            Guard::Broadcast => "guard:broadcast",
            Guard::Unspecified => "guard:unspecified",
            Guard::Reserved => "guard:reserved",
            Guard::Malformed => "guard:malformed",
            Guard::Ech => "guard:ech",
            Guard::Binding => "guard:binding",
            Guard::DnsLimit => "guard:dns-limit",
        }
    }

    /// What the guard found, for people.
    pub fn reason(self) -> &'static str {
        match self {
            Guard::Metadata => "destination is a cloud metadata service",
            Guard::Loopback => "destination is the host's loopback",
            Guard::OwnAddress => "destination is an address of this host or gateway",
            Guard::LinkLocal => "destination is link-local",
            Guard::Private => "destination is a private address",
            Guard::Multicast => "destination is a multicast address",
            Guard::Broadcast => "destination is a broadcast address",
            Guard::Unspecified => "destination is the unspecified address",
            Guard::Reserved => "destination is a reserved address",
            Guard::Malformed => "malformed",
            Guard::Ech => "an encrypted ClientHello may hide another name",
            Guard::Binding => "the address is not among the addresses of the name",
            Guard::DnsLimit => "a bound on DNS questions was crossed",
        }
    }

    /// Whether a rule that writes this range opens the guard over the addresses in it.
    pub(crate) fn is_opened_by(self, range: &IpNet) -> bool {
        let whole =
            |kind| address::special(range.network()) == Some(kind) && address::special(range.broadcast()) == Some(kind);
        match self {
            Guard::Metadata | Guard::OwnAddress => range.prefix_len() == range.max_prefix_len(),
            Guard::Loopback => whole(SpecialRange::Loopback),
            Guard::LinkLocal => whole(SpecialRange::LinkLocal),
            Guard::Private => whole(SpecialRange::Private),
            Guard::Multicast => whole(SpecialRange::Multicast),
            Guard::Broadcast => whole(SpecialRange::Broadcast),
            Guard::Unspecified => whole(SpecialRange::Unspecified),
            Guard::Reserved => whole(SpecialRange::Reserved),
            Guard::Malformed | Guard::Ech | Guard::Binding | Guard::DnsLimit => false,
        }
    }

    /// The name as a rule's, as decisions carry it.
    pub fn rule_name(self) -> RuleName {
        #[expect(clippy::expect_used, reason = "the names above are constants within the alphabet; a test makes each")]
        static NAMES: LazyLock<[RuleName; 13]> =
            LazyLock::new(|| Guard::ALL.map(|guard| RuleName::new(guard.as_str()).expect("a guard's name is a name")));
        #[expect(
            clippy::indexing_slicing,
            reason = "ALL lists every variant in order, so the discriminant is an index"
        )]
        NAMES[self as usize].clone()
    }
}

#[cfg(test)]
mod tests {
    use super::Guard;

    #[test]
    fn every_guard_has_its_own_name() {
        for (index, guard) in Guard::ALL.into_iter().enumerate() {
            assert_eq!(guard as usize, index);
            assert_eq!(guard.rule_name().as_str(), guard.as_str());
        }
    }
}
