//! Ports to the rules that reach them: for one sandbox and one protocol, a segment tree over the
//! ports at which anything changes.
//!
//! Two questions are answered in time that does not grow with the rules' number: which rules to any
//! destination reach this port, and whether a rule whose destination can't be told yet (its name or
//! address is not known) could come before a given one.
//!
//! ```text
//! ports      0 ....... 80 81 ....... 443 444 ....... 65535
//! leaves     [   0   ][1 ][    2    ][ 3 ][     4      ]
//! a rule on 80-443 stands in the nodes that make up leaves 1 to 3; a rule on all ports in the root
//! ```

use crate::model::Action;

/// No rule.
pub(crate) const NO_RULE: u32 = u32::MAX;

/// The first rules of each kind whose destination a fact decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Firsts {
    /// The first enforced rule that allows.
    pub(crate) allow: u32,
    /// The first enforced rule that asks.
    pub(crate) ask: u32,
    /// The first enforced rule that denies.
    pub(crate) deny: u32,
    /// The first watched rule.
    pub(crate) watch: u32,
}

impl Firsts {
    const NONE: Firsts = Firsts { allow: NO_RULE, ask: NO_RULE, deny: NO_RULE, watch: NO_RULE };

    fn note(&mut self, rule: u32, action: Action, watch: bool) {
        let place = match (watch, action) {
            (true, _) => &mut self.watch,
            (false, Action::Allow) => &mut self.allow,
            (false, Action::Ask) => &mut self.ask,
            (false, Action::Deny) => &mut self.deny,
        };
        *place = rule.min(*place);
    }

    fn merge(&mut self, other: &Firsts) {
        self.allow = self.allow.min(other.allow);
        self.ask = self.ask.min(other.ask);
        self.deny = self.deny.min(other.deny);
        self.watch = self.watch.min(other.watch);
    }
}

/// What a rule's destination depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depends {
    /// On nothing: any destination.
    Nothing,
    /// On names, addresses, or either.
    Facts {
        /// Names or URLs.
        name: bool,
        /// Ranges.
        address: bool,
        /// Whether it is left to a closer look (see [`Reach::irregular`]).
        irregular: bool,
    },
}

/// A rule to be placed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placed<'a> {
    pub(crate) rule: u32,
    pub(crate) action: Action,
    pub(crate) watch: bool,
    /// Empty is every port.
    pub(crate) ports: &'a [(u16, u16)],
    pub(crate) depends: Depends,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    /// Where this node's rules stand in `rules`.
    start: u32,
    end: u32,
    by_name: Firsts,
    by_address: Firsts,
}

/// The rules of one sandbox and protocol, by port.
#[derive(Debug)]
pub(crate) struct Reach {
    /// The first port of each leaf, ascending, from 0.
    bounds: Vec<u16>,
    /// The number of leaves, a power of two.
    width: usize,
    /// A heap: the root at 1, leaf `i` at `width + i`.
    nodes: Vec<Node>,
    /// Rules to any destination, node by node, ascending in each.
    rules: Vec<u32>,
    /// Rules that need a closer look while a fact is pending: those that expire, and those by name
    /// *and* address with more conditions or watched. Ascending.
    irregular: Vec<u32>,
}

/// The answer for one port.
#[derive(Debug)]
pub(crate) struct Reached {
    pub(crate) by_name: Firsts,
    pub(crate) by_address: Firsts,
}

impl Reach {
    /// Places rules, which come in ascending order.
    pub(crate) fn build(rules: &[Placed<'_>]) -> Self {
        let bounds = bounds(rules);
        let width = bounds.len().next_power_of_two();
        let empty = Node { start: 0, end: 0, by_name: Firsts::NONE, by_address: Firsts::NONE };
        let mut reach =
            Self { bounds, width, nodes: vec![empty; 2 * width], rules: Vec::new(), irregular: Vec::new() };
        let mut at_nodes: Vec<(u32, u32)> = Vec::new();
        for placed in rules {
            if let Depends::Facts { irregular: true, .. } = placed.depends {
                reach.irregular.push(placed.rule);
                continue;
            }
            if placed.ports.is_empty() {
                reach.place(placed, 1, &mut at_nodes);
            }
            for (first, last) in placed.ports {
                let (mut low, mut high) = (reach.leaf(*first) + width, reach.leaf(*last) + width + 1);
                while low < high {
                    if low % 2 == 1 {
                        reach.place(placed, low, &mut at_nodes);
                        low += 1;
                    }
                    if high % 2 == 1 {
                        high -= 1;
                        reach.place(placed, high, &mut at_nodes);
                    }
                    (low, high) = (low / 2, high / 2);
                }
            }
        }
        at_nodes.sort_unstable();
        at_nodes.dedup();
        reach.rules = at_nodes.iter().map(|(_, rule)| *rule).collect();
        for (at, (node, _)) in (0u32..).zip(&at_nodes) {
            if let Some(node) = reach.nodes.get_mut(*node as usize) {
                if node.start == node.end {
                    node.start = at;
                }
                node.end = at + 1;
            }
        }
        reach
    }

    fn place(&mut self, placed: &Placed<'_>, node: usize, at_nodes: &mut Vec<(u32, u32)>) {
        match placed.depends {
            Depends::Nothing => at_nodes.push((node as u32, placed.rule)),
            Depends::Facts { name, address, .. } => {
                let Some(node) = self.nodes.get_mut(node) else { return };
                if name {
                    node.by_name.note(placed.rule, placed.action, placed.watch);
                }
                if address {
                    node.by_address.note(placed.rule, placed.action, placed.watch);
                }
            }
        }
    }

    fn leaf(&self, port: u16) -> usize {
        self.bounds.partition_point(|bound| *bound <= port).saturating_sub(1)
    }

    /// Walks from the port's leaf to the root; tells of each list of rules to any destination.
    pub(crate) fn look_up<'s>(&'s self, port: u16, found: &mut impl FnMut(&'s [u32])) -> Reached {
        let mut reached = Reached { by_name: Firsts::NONE, by_address: Firsts::NONE };
        let mut at = self.leaf(port) + self.width;
        while at > 0 {
            let Some(node) = self.nodes.get(at) else { break };
            reached.by_name.merge(&node.by_name);
            reached.by_address.merge(&node.by_address);
            if node.start != node.end {
                found(self.rules.get(node.start as usize..node.end as usize).unwrap_or_default());
            }
            at /= 2;
        }
        reached
    }

    /// The rules that need a closer look while a fact is pending.
    pub(crate) fn irregular(&self) -> &[u32] {
        &self.irregular
    }
}

/// The ports at which the set of rules changes.
fn bounds(rules: &[Placed<'_>]) -> Vec<u16> {
    let mut bounds = vec![0];
    for (first, last) in rules.iter().flat_map(|placed| placed.ports) {
        bounds.push(*first);
        bounds.extend(last.checked_add(1));
    }
    bounds.sort_unstable();
    bounds.dedup();
    bounds
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prop_assert_eq, proptest};

    use super::{Depends, NO_RULE, Placed, Reach};
    use crate::model::Action;

    proptest! {
        #[test]
        fn finds_what_a_linear_search_finds(ranges in vec(vec((0u16..20, 0u16..20), 0..3), 0..30), port in 0u16..24) {
            let ranges: Vec<Vec<(u16, u16)>> =
                ranges.into_iter().map(|rule| rule.into_iter().map(|(a, b)| (a.min(b), a.max(b))).collect()).collect();
            let placed = |depends| -> Vec<Placed<'_>> {
                (0u32..).zip(&ranges).map(|(rule, ports)| Placed { rule, action: Action::Allow, watch: false, ports, depends }).collect()
            };
            let expected: Vec<u32> = (0u32..).zip(&ranges)
                .filter(|(_, ports)| ports.is_empty() || ports.iter().any(|(first, last)| (*first..=*last).contains(&port)))
                .map(|(rule, _)| rule).collect();

            let any = Reach::build(&placed(Depends::Nothing));
            let mut found = Vec::new();
            any.look_up(port, &mut |rules| found.extend_from_slice(rules));
            found.sort_unstable();
            found.dedup();
            prop_assert_eq!(&found, &expected);

            let by_name = Reach::build(&placed(Depends::Facts { name: true, address: false, irregular: false }));
            let reached = by_name.look_up(port, &mut |_| panic!("no rule goes to any destination"));
            prop_assert_eq!(reached.by_name.allow, expected.first().copied().unwrap_or(NO_RULE));
            prop_assert_eq!(reached.by_address.allow, NO_RULE);
        }
    }
}
