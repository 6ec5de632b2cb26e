//! Addresses to the sets whose ranges hold them: a prefix trie, and in it for each range the next
//! wider one, so that one longest match leads to all of them.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;
use smallvec::{SmallVec, smallvec};

/// A set or rule with a range that holds the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RangeHit {
    /// The set, or the rule where the set has only that one.
    pub(crate) holder: Holder,
    /// Whether the range stands in the policy itself (not in a feed or service tag): only such a
    /// range opens a guard.
    pub(crate) written: bool,
    /// The range.
    pub(crate) range: IpNet,
}

/// Whose range it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Holder {
    /// A destination set.
    Set(u32),
    /// A destination set of one rule only.
    Rule(u32),
}

/// No wider range.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Node {
    range: IpNet,
    /// The next wider range's node.
    wider: u32,
    holders: SmallVec<[Post; 2]>,
}

/// A holder's number times four, plus two for a rule, plus one where the range was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Post(u32);

impl Post {
    fn new(holder: Holder, written: bool) -> Self {
        match holder {
            Holder::Set(set) => Self(set * 4 + u32::from(written)),
            Holder::Rule(rule) => Self(rule * 4 + 2 + u32::from(written)),
        }
    }

    fn holder(self) -> Holder {
        if self.0 & 2 == 0 { Holder::Set(self.0 / 4) } else { Holder::Rule(self.0 / 4) }
    }

    fn written(self) -> bool {
        self.0 & 1 == 1
    }
}

/// The index. Built once, then only read.
#[derive(Debug, Default)]
pub(crate) struct RangeIndex {
    v4: PrefixMap<Ipv4Net, u32>,
    v6: PrefixMap<Ipv6Net, u32>,
    nodes: Vec<Node>,
}

/// A range in canonical form: no host bits, v4-mapped ranges as IPv4.
pub(crate) fn canonical_range(range: IpNet) -> IpNet {
    let range = range.trunc();
    let IpNet::V6(v6) = range else { return range };
    let mapped = v6.network().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    match mapped.map(|(network, length)| Ipv4Net::new(network, length)) {
        Some(Ok(v4)) => IpNet::V4(v4),
        Some(Err(_)) | None => range,
    }
}

impl RangeIndex {
    /// Builds the index from ranges in canonical form, each with its holder and whether it was written.
    pub(crate) fn build(mut ranges: Vec<(IpNet, Holder, bool)>) -> Self {
        // A range sorts right before those within it.
        ranges
            .sort_unstable_by_key(|(range, holder, written)| (range.network(), range.prefix_len(), *holder, *written));
        ranges.dedup();
        let mut index = Self::default();
        let mut open: Vec<u32> = Vec::new();
        for (range, holder, written) in ranges {
            let post = Post::new(holder, written);
            if let Some(last) = index.nodes.last_mut().filter(|last| last.range == range) {
                last.holders.push(post);
                continue;
            }
            while open.last().is_some_and(|wider| !index.holds(*wider, &range)) {
                open.pop();
            }
            let number = index.nodes.len() as u32;
            let wider = open.last().copied().unwrap_or(NONE);
            index.nodes.push(Node { range, wider, holders: smallvec![post] });
            open.push(number);
            match range {
                IpNet::V4(range) => index.v4.insert(range, number),
                IpNet::V6(range) => index.v6.insert(range, number),
            };
        }
        index
    }

    fn holds(&self, node: u32, range: &IpNet) -> bool {
        self.nodes.get(node as usize).is_some_and(|node| node.range.contains(range))
    }

    /// Tells of every set with a range that holds the address (in canonical form).
    pub(crate) fn look_up(&self, address: IpAddr, found: &mut impl FnMut(RangeHit)) {
        if self.nodes.is_empty() {
            return;
        }
        let narrowest = match address {
            IpAddr::V4(v4) => self.v4.get_lpm(&Ipv4Net::from(v4)).map(|(_, node)| *node),
            IpAddr::V6(v6) => self.v6.get_lpm(&Ipv6Net::from(v6)).map(|(_, node)| *node),
        };
        let mut at = narrowest.unwrap_or(NONE);
        while let Some(node) = self.nodes.get(at as usize) {
            for post in &node.holders {
                found(RangeHit { holder: post.holder(), written: post.written(), range: node.range });
            }
            if node.wider == NONE {
                return;
            }
            at = node.wider;
        }
    }

    /// The bytes that the index holds.
    pub(crate) fn memory(&self) -> usize {
        self.v4.mem_size() + self.v6.mem_size() + self.nodes.capacity() * size_of::<Node>()
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use ipnet::IpNet;
    use proptest::{
        collection::vec,
        prelude::{Strategy, any},
        prop_assert_eq, proptest,
    };

    use super::{Holder, RangeIndex, canonical_range};

    fn v4_range() -> impl Strategy<Value = IpNet> {
        // Few bits differ, so that ranges lie in each other.
        (0u32..8, 0u32..4, 0u8..=32).prop_map(|(high, low, length)| {
            IpNet::new(IpAddr::V4(((high << 29) | low).into()), length).unwrap().trunc()
        })
    }

    proptest! {
        #[test]
        fn finds_what_a_linear_search_finds(ranges in vec((v4_range(), (0u32..5).prop_map(Holder::Set), any::<bool>()), 0..40), high in 0u32..8, low in 0u32..4) {
            let address = IpAddr::V4(((high << 29) | low).into());
            let mut expected: Vec<_> = ranges.iter().filter(|(range, ..)| range.contains(&address)).map(|(r, s, w)| (*r, *s, *w)).collect();
            let mut found = Vec::new();
            RangeIndex::build(ranges).look_up(address, &mut |hit| found.push((hit.range, hit.holder, hit.written)));
            expected.sort_unstable();
            expected.dedup();
            found.sort_unstable();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn mapped_ranges_are_ipv4() {
        for (text, canonical) in [
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:10.1.2.3/128", "10.1.2.3/32"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(canonical_range(text.parse().unwrap()), canonical.parse().unwrap(), "{text}");
        }
    }
}
