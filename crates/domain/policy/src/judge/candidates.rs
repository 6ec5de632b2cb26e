//! The rules that a flow's facts lead to, lowest number first.

use smallvec::SmallVec;

/// How a rule was reached, as a set of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Marks(u16);

impl Marks {
    /// It goes anywhere.
    pub(crate) const ANY: Marks = Marks(1);
    /// Its set holds the name.
    pub(crate) const NAME: Marks = Marks(1 << 1);
    /// Its set holds the address.
    pub(crate) const RANGE: Marks = Marks(1 << 2);
    /// Its set holds the address in a range that opens the guard over it.
    pub(crate) const OPENS_GUARD: Marks = Marks(1 << 3);
    /// Its set holds exactly this address.
    pub(crate) const EXACT_ADDRESS: Marks = Marks(1 << 4);
    /// Its `names:` open the name.
    pub(crate) const OPENS_NAME: Marks = Marks(1 << 5);
    /// A URL of its set matches.
    pub(crate) const URL: Marks = Marks(1 << 6);
    /// A URL of its set has this host, and the path is ambiguous.
    pub(crate) const URL_AMBIGUOUS: Marks = Marks(1 << 7);
    /// A URL of its set has this host, and the request is not known yet.
    pub(crate) const URL_PENDING: Marks = Marks(1 << 8);
    /// An `https` URL of its set has this host, and what is inside TLS can't be read.
    pub(crate) const URL_HIDDEN: Marks = Marks(1 << 9);
    /// Its set holds names, and the name is not known yet.
    pub(crate) const NAME_PENDING: Marks = Marks(1 << 10);
    /// Its set holds ranges, and the address is not known yet.
    pub(crate) const ADDRESS_PENDING: Marks = Marks(1 << 11);

    /// A URL of its set may match, by what is known.
    pub(crate) const MAY_BE_URL: Marks =
        Marks(Self::URL.0 | Self::URL_PENDING.0 | Self::URL_HIDDEN.0 | Self::NAME_PENDING.0);

    /// Whether any bit of the other is here.
    pub(crate) fn has(self, other: Marks) -> bool {
        self.0 & other.0 != 0
    }

    /// The bits of both.
    #[must_use]
    pub(crate) fn with(self, other: Marks) -> Marks {
        Marks(self.0 | other.0)
    }
}

/// More lists than this are sorted at once: a scan over all of them for each rule would cost more.
const SCANNED_LISTS: usize = 24;

#[derive(Debug, Clone, Copy)]
struct List<'p> {
    first: u32,
    rest: &'p [u32],
    marks: Marks,
}

/// The lists to merge.
#[derive(Debug, Default)]
pub(crate) struct Candidates<'p> {
    lists: SmallVec<[List<'p>; 8]>,
    /// All rules of all lists, descending, where there were too many lists.
    sorted: Option<Vec<(u32, Marks)>>,
}

impl<'p> Candidates<'p> {
    /// Adds a list of rules in ascending order.
    pub(crate) fn add(&mut self, rules: &'p [u32], marks: Marks) {
        if let [first, rest @ ..] = rules {
            self.lists.push(List { first: *first, rest, marks });
        }
    }

    /// Adds one rule.
    pub(crate) fn add_one(&mut self, rule: u32, marks: Marks) {
        self.lists.push(List { first: rule, rest: &[], marks });
    }

    /// The next rule and how it was reached.
    pub(crate) fn next(&mut self) -> Option<(u32, Marks)> {
        if self.lists.len() > SCANNED_LISTS {
            self.sorted = Some(self.sort());
            self.lists.clear();
        }
        if let Some(sorted) = &mut self.sorted {
            let (rule, mut marks) = sorted.pop()?;
            while let Some((_, more)) = sorted.pop_if(|(next, _)| *next == rule) {
                marks = marks.with(more);
            }
            return Some((rule, marks));
        }
        let rule = self.lists.iter().map(|list| list.first).min()?;
        let mut marks = Marks::default();
        self.lists.retain(|list| {
            while list.first == rule {
                marks = marks.with(list.marks);
                let [first, rest @ ..] = list.rest else { return false };
                (list.first, list.rest) = (*first, rest);
            }
            true
        });
        Some((rule, marks))
    }

    fn sort(&self) -> Vec<(u32, Marks)> {
        let rules = |list: &List<'p>| std::iter::once(list.first).chain(list.rest.iter().copied());
        let mut all: Vec<(u32, Marks)> =
            self.lists.iter().flat_map(|list| rules(list).map(|rule| (rule, list.marks))).collect();
        all.sort_unstable_by_key(|(rule, _)| std::cmp::Reverse(*rule));
        all
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prop_assert_eq, proptest};

    use super::{Candidates, Marks};

    proptest! {
        #[test]
        fn merges_in_order_with_all_marks(mut lists in vec((vec(0u32..50, 0..6), 0u16..4), 0..40)) {
            let mut candidates = Candidates::default();
            for (list, _) in &mut lists {
                list.sort_unstable();
            }
            for (list, bit) in &lists {
                candidates.add(list, Marks(1 << *bit));
            }
            let mut expected = std::collections::BTreeMap::new();
            for (rule, bit) in lists.iter().flat_map(|(list, bit)| list.iter().map(move |rule| (*rule, *bit))) {
                *expected.entry(rule).or_insert(0u16) |= 1 << bit;
            }
            let merged: Vec<_> = std::iter::from_fn(|| candidates.next()).map(|(rule, marks)| (rule, marks.0)).collect();
            prop_assert_eq!(merged, expected.into_iter().collect::<Vec<_>>());
        }
    }
}
