//! Addresses to the sets whose ranges hold them: a prefix trie, and in it for each range the next
//! wider one, so that one longest match leads to all of them.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;

/// A set with a range that holds the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RangeHit {
    /// The set.
    pub(crate) set: u32,
    /// Whether the range stands in the policy itself (not in a feed or service tag): only such a
    /// range opens a guard.
    pub(crate) written: bool,
    /// The range.
    pub(crate) range: IpNet,
}

/// No wider range.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Node {
    range: IpNet,
    /// The next wider range's node.
    wider: u32,
    /// Set number times two, plus one where written.
    sets: smallvec::SmallVec<[u32; 2]>,
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
    /// Builds the index from ranges in canonical form, each with its set and whether it was written.
    pub(crate) fn build(mut ranges: Vec<(IpNet, u32, bool)>) -> Self {
        // A range sorts right before those within it.
        ranges.sort_unstable_by_key(|(range, set, written)| (range.network(), range.prefix_len(), *set, *written));
        ranges.dedup();
        let mut index = Self::default();
        let mut open: Vec<u32> = Vec::new();
        for (range, set, written) in ranges {
            let post = set * 2 + u32::from(written);
            if let Some(last) = index.nodes.last_mut().filter(|last| last.range == range) {
                last.sets.push(post);
                continue;
            }
            while open.last().is_some_and(|wider| !index.holds(*wider, &range)) {
                open.pop();
            }
            let number = index.nodes.len() as u32;
            let wider = open.last().copied().unwrap_or(NONE);
            index.nodes.push(Node { range, wider, sets: smallvec::smallvec![post] });
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
            for post in &node.sets {
                found(RangeHit { set: post / 2, written: post % 2 == 1, range: node.range });
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
    use proptest::{collection::vec, prelude::any, prop_assert_eq, proptest};

    use super::{RangeIndex, canonical_range};

    fn v4_range() -> impl proptest::strategy::Strategy<Value = IpNet> {
        use proptest::strategy::Strategy;
        // Few bits differ, so that ranges lie in each other.
        (0u32..8, 0u32..4, 0u8..=32).prop_map(|(high, low, length)| {
            IpNet::new(IpAddr::V4(((high << 29) | low).into()), length).unwrap().trunc()
        })
    }

    proptest! {
        #[test]
        fn finds_what_a_linear_search_finds(ranges in vec((v4_range(), 0u32..5, any::<bool>()), 0..40), high in 0u32..8, low in 0u32..4) {
            let address = IpAddr::V4(((high << 29) | low).into());
            let mut expected: Vec<_> = ranges.iter().filter(|(range, ..)| range.contains(&address)).map(|(r, s, w)| (*r, *s, *w)).collect();
            let mut found = Vec::new();
            RangeIndex::build(ranges).look_up(address, &mut |hit| found.push((hit.range, hit.set, hit.written)));
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
