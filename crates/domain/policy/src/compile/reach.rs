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
//!
//! So a rule stands in few nodes whatever its ports. Each leaf knows the nearest node above it that
//! holds any rule, and each such node the next: a look-up visits no empty ones.

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

/// No node.
const NO_NODE: u32 = u32::MAX;

/// A node that holds rules to any destination.
#[derive(Debug, Clone, Copy)]
struct Node {
    /// Where its rules stand in `rules`.
    start: u32,
    end: u32,
    /// The next such node towards the root.
    above: u32,
}

/// What holds for the ports of one leaf.
#[derive(Debug, Clone, Copy)]
struct Leaf {
    reached: Reached,
    /// The nearest node that holds rules.
    node: u32,
}

/// The rules of one sandbox and protocol, by port.
#[derive(Debug)]
pub(crate) struct Reach {
    ports: PortTable,
    leaves: Vec<Leaf>,
    nodes: Vec<Node>,
    /// Rules to any destination, node by node, ascending in each.
    rules: Vec<u32>,
    /// Rules that need a closer look while a fact is pending: those that expire, and those by name
    /// *and* address with more conditions or watched. Ascending.
    irregular: Vec<u32>,
}

/// The first rules that depend on a fact, for one port.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reached {
    pub(crate) by_name: Firsts,
    pub(crate) by_address: Firsts,
}

impl Reached {
    const NONE: Reached = Reached { by_name: Firsts::NONE, by_address: Firsts::NONE };

    fn note(&mut self, placed: &Placed<'_>) {
        let Depends::Facts { name, address, .. } = placed.depends else { return };
        if name {
            self.by_name.note(placed.rule, placed.action, placed.watch);
        }
        if address {
            self.by_address.note(placed.rule, placed.action, placed.watch);
        }
    }

    fn merge(&mut self, other: &Reached) {
        self.by_name.merge(&other.by_name);
        self.by_address.merge(&other.by_address);
    }
}

/// The tree while it is built: a heap with the root at 1 and leaf `i` at `width + i`.
struct Tree {
    width: usize,
    reached: Vec<Reached>,
    /// Rules to any destination, with their nodes.
    rules: Vec<(u32, u32)>,
}

impl Tree {
    /// Puts a rule into the nodes that make up the leaves from `first` to `last`.
    fn place(&mut self, placed: &Placed<'_>, first: usize, last: usize) {
        let (mut low, mut high) = (first + self.width, last + self.width + 1);
        while low < high {
            if low % 2 == 1 {
                self.place_at(placed, low);
                low += 1;
            }
            if high % 2 == 1 {
                high -= 1;
                self.place_at(placed, high);
            }
            (low, high) = (low / 2, high / 2);
        }
    }

    fn place_at(&mut self, placed: &Placed<'_>, node: usize) {
        match placed.depends {
            Depends::Nothing => self.rules.push((node as u32, placed.rule)),
            Depends::Facts { .. } => {
                if let Some(reached) = self.reached.get_mut(node) {
                    reached.note(placed);
                }
            }
        }
    }
}

impl Reach {
    /// Places rules, which come in ascending order.
    pub(crate) fn build(rules: &[Placed<'_>]) -> Self {
        let bounds = bounds(rules);
        let width = bounds.len().next_power_of_two();
        let mut tree = Tree { width, reached: vec![Reached::NONE; 2 * width], rules: Vec::new() };
        let mut irregular = Vec::new();
        for placed in rules {
            if let Depends::Facts { irregular: true, .. } = placed.depends {
                irregular.push(placed.rule);
                continue;
            }
            if placed.ports.is_empty() {
                tree.place_at(placed, 1);
            }
            for (first, last) in placed.ports {
                tree.place(placed, leaf_of(&bounds, *first), leaf_of(&bounds, *last));
            }
        }
        Self::from_tree(tree, bounds, irregular)
    }

    fn from_tree(mut tree: Tree, bounds: Vec<u16>, irregular: Vec<u32>) -> Self {
        tree.rules.sort_unstable();
        tree.rules.dedup();
        let mut nodes: Vec<Node> = Vec::new();
        // The number in `nodes` of each node of the tree, or of the nearest above it.
        let mut holders = vec![NO_NODE; tree.reached.len()];
        let mut at = 0u32;
        for place in 1..tree.reached.len() {
            let above = holders.get(place / 2).copied().unwrap_or(NO_NODE);
            let here =
                tree.rules.iter().skip(at as usize).take_while(|(node, _)| *node as usize == place).count() as u32;
            let holder = if here == 0 { above } else { nodes.len() as u32 };
            if here > 0 {
                nodes.push(Node { start: at, end: at + here, above });
                at += here;
            }
            if let Some(this) = holders.get_mut(place) {
                *this = holder;
            }
            let inherited = tree.reached.get(place / 2).copied().filter(|_| place > 1);
            if let (Some(this), Some(inherited)) = (tree.reached.get_mut(place), inherited) {
                this.merge(&inherited);
            }
        }
        let places = tree.reached.iter().zip(&holders).skip(tree.width);
        let leaves = places.map(|(reached, node)| Leaf { reached: *reached, node: *node }).take(bounds.len()).collect();
        let rules = tree.rules.iter().map(|(_, rule)| *rule).collect();
        Self { ports: PortTable::new(&bounds), leaves, nodes, rules, irregular }
    }

    /// What reaches a port; tells of each list of rules to any destination.
    pub(crate) fn look_up<'s>(&'s self, port: u16, found: &mut impl FnMut(&'s [u32])) -> &'s Reached {
        let Some(leaf) = self.leaves.get(self.ports.leaf(port)) else { return &Reached::NONE };
        let mut at = leaf.node;
        while at != NO_NODE {
            let Some(node) = self.nodes.get(at as usize) else { break };
            found(self.rules.get(node.start as usize..node.end as usize).unwrap_or_default());
            at = node.above;
        }
        &leaf.reached
    }

    /// The rules that need a closer look while a fact is pending.
    pub(crate) fn irregular(&self) -> &[u32] {
        &self.irregular
    }
}

/// The leaf of each port: 256 pages of 256 ports, of which those within one leaf need no table.
#[derive(Debug)]
struct PortTable {
    pages: Vec<Page>,
    tables: Vec<[u16; PAGE]>,
}

const PAGE: usize = 256;

#[derive(Debug, Clone, Copy)]
enum Page {
    /// All ports of the page lie in this leaf.
    Leaf(u16),
    /// They are told apart by this table.
    Table(u16),
}

impl PortTable {
    fn new(bounds: &[u16]) -> Self {
        let mut table = Self { pages: Vec::with_capacity(PAGE), tables: Vec::new() };
        for page in 0..=u8::MAX {
            let port = |low: u8| leaf_of(bounds, u16::from_be_bytes([page, low])) as u16;
            if port(0) == port(u8::MAX) {
                table.pages.push(Page::Leaf(port(0)));
                continue;
            }
            let mut leaves = [0; PAGE];
            for (leaf, low) in leaves.iter_mut().zip(0..=u8::MAX) {
                *leaf = port(low);
            }
            table.pages.push(Page::Table(table.tables.len() as u16));
            table.tables.push(leaves);
        }
        table
    }

    fn leaf(&self, port: u16) -> usize {
        let [page, low] = port.to_be_bytes();
        match self.pages.get(usize::from(page)) {
            Some(Page::Leaf(leaf)) => usize::from(*leaf),
            Some(Page::Table(table)) => {
                let leaves = self.tables.get(usize::from(*table));
                leaves.and_then(|leaves| leaves.get(usize::from(low))).map_or(usize::MAX, |leaf| usize::from(*leaf))
            }
            None => usize::MAX,
        }
    }
}

/// The leaf of a port, found by search.
fn leaf_of(bounds: &[u16], port: u16) -> usize {
    bounds.partition_point(|bound| *bound <= port).saturating_sub(1)
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
