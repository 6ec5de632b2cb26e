//! Names to what they open: a hash over label boundaries.
//!
//! A name is found by looking up each of its suffixes, so the cost depends on its labels and not on
//! how many names there are:
//!
//! ```text
//! www.example.com → "www.example.com" (entries that cover the name itself)
//!                   "example.com", "com" (entries that cover sub-names)
//! ```
//!
//! The texts lie one behind the other in one buffer and are compared in full: a hash alone would let
//! whoever finds a collision through.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;

use crate::host_name::HostPattern;

/// What a matching entry leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lead {
    /// A destination set holds the name.
    Set(u32),
    /// A URL of a set has this host.
    Url(u32),
    /// A rule by address opens the name in DNS (`names:`).
    Opens(u32),
}

/// The largest number that a [`Lead`] can carry.
pub(crate) const LEAD_LIMIT: usize = (1 << 28) - 1;

/// A lead and what of the name it covers, in four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Post(u32);

const COVERS_ITSELF: u32 = 1 << 30;
const COVERS_SUBNAMES: u32 = 1 << 31;

impl Post {
    fn new(coverage: u32, lead: Lead) -> Self {
        let (kind, id) = match lead {
            Lead::Set(id) => (0, id),
            Lead::Url(id) => (1 << 28, id),
            Lead::Opens(id) => (2 << 28, id),
        };
        Self(coverage | kind | id)
    }

    fn lead(self) -> Lead {
        let id = self.0 & ((1 << 28) - 1);
        match (self.0 >> 28) & 3 {
            0 => Lead::Set(id),
            1 => Lead::Url(id),
            _ => Lead::Opens(id),
        }
    }
}

/// No further post.
const END: u32 = u32::MAX;

/// One name of the index.
#[derive(Debug, Clone, Copy)]
struct Entry {
    offset: u32,
    /// The post added last.
    post: Post,
    /// Where the posts before it stand in `more`.
    next: u32,
    length: u8,
}

/// The index. Built once, then only read.
#[derive(Debug, Default)]
pub(crate) struct NameIndex {
    state: RandomState,
    /// Open addressing, at most half full: the hash's high half, then an entry's number plus one.
    slots: Vec<u64>,
    entries: Vec<Entry>,
    text: String,
    more: Vec<(Post, u32)>,
    /// What covers every name.
    every: Vec<Post>,
    /// The most labels of any entry: longer suffixes need no look-up.
    deepest: usize,
}

impl NameIndex {
    /// Room for this many names, so that building does not rehash.
    pub(crate) fn with_capacity(names: usize) -> Self {
        let mut index = Self::default();
        index.slots = vec![0; slot_count(names)];
        index.entries.reserve_exact(names);
        index.text.reserve(names.saturating_mul(20));
        index
    }

    /// Whether the text still fits the entries' offsets.
    pub(crate) fn fits(&self) -> bool {
        u32::try_from(self.text.len()).is_ok() && self.entries.len() <= LEAD_LIMIT && self.more.len() < END as usize
    }

    /// Adds a pattern.
    pub(crate) fn insert(&mut self, pattern: &HostPattern, lead: Lead) {
        let (name, coverage) = match pattern {
            HostPattern::Exact(name) => (name, COVERS_ITSELF),
            HostPattern::Subnames(name) => (name, COVERS_SUBNAMES),
            HostPattern::Domain(name) => (name, COVERS_ITSELF | COVERS_SUBNAMES),
            HostPattern::Any => return self.every.push(Post::new(COVERS_ITSELF | COVERS_SUBNAMES, lead)),
        };
        self.insert_post(name.as_str(), Post::new(coverage, lead));
    }

    fn insert_post(&mut self, name: &str, post: Post) {
        if (self.entries.len() + 1) * 2 > self.slots.len() {
            self.grow();
        }
        let hash = self.hash(name);
        let slot = match self.probe(hash, name) {
            Probe::Found(entry) => {
                if let Some(entry) = self.entries.get_mut(entry) {
                    if entry.post != post {
                        let behind = self.more.len() as u32;
                        self.more.push((entry.post, entry.next));
                        (entry.post, entry.next) = (post, behind);
                    }
                }
                return;
            }
            Probe::Free(slot) => slot,
        };
        self.deepest = self.deepest.max(name.split('.').count());
        let entry = Entry { offset: self.text.len() as u32, post, next: END, length: name.len() as u8 };
        self.text.push_str(name);
        self.entries.push(entry);
        if let Some(slot) = self.slots.get_mut(slot) {
            *slot = slot_value(hash, self.entries.len());
        }
    }

    fn grow(&mut self) {
        let mut slots = vec![0u64; slot_count((self.entries.len() + 1) * 2)];
        let mask = slots.len() - 1;
        for (number, entry) in self.entries.iter().enumerate() {
            let hash = self.hash(self.text_of(entry));
            let mut at = hash as usize & mask;
            while slots.get(at).is_some_and(|slot| *slot != 0) {
                at = (at + 1) & mask;
            }
            if let Some(slot) = slots.get_mut(at) {
                *slot = slot_value(hash, number + 1);
            }
        }
        self.slots = slots;
    }

    fn hash(&self, name: &str) -> u64 {
        let mut hasher = self.state.build_hasher();
        hasher.write(name.as_bytes());
        hasher.finish()
    }

    fn text_of(&self, entry: &Entry) -> &str {
        let start = entry.offset as usize;
        self.text.get(start..start + usize::from(entry.length)).unwrap_or_default()
    }

    fn probe(&self, hash: u64, name: &str) -> Probe {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = hash as usize & mask;
        while let Some(slot) = self.slots.get(at) {
            if *slot == 0 {
                return Probe::Free(at);
            }
            if *slot >> 32 == hash >> 32 {
                let number = (*slot as u32 - 1) as usize;
                if self.entries.get(number).is_some_and(|entry| self.text_of(entry) == name) {
                    return Probe::Found(number);
                }
            }
            at = (at + 1) & mask;
        }
        Probe::Free(at)
    }

    /// Tells of every lead that covers the name.
    pub(crate) fn look_up(&self, name: &str, found: &mut impl FnMut(Lead)) {
        for post in &self.every {
            found(post.lead());
        }
        if self.entries.is_empty() {
            return;
        }
        let mut left = name.bytes().filter(|byte| *byte == b'.').count() + 1;
        let mut suffix = name;
        let mut coverage = COVERS_ITSELF;
        loop {
            if left <= self.deepest {
                if let Probe::Found(number) = self.probe(self.hash(suffix), suffix) {
                    self.posts(number, coverage, found);
                }
            }
            let Some((_, shorter)) = suffix.split_once('.') else { return };
            suffix = shorter;
            coverage = COVERS_SUBNAMES;
            left -= 1;
        }
    }

    fn posts(&self, number: usize, coverage: u32, found: &mut impl FnMut(Lead)) {
        let Some(entry) = self.entries.get(number) else { return };
        let (mut post, mut next) = (entry.post, entry.next);
        loop {
            if post.0 & coverage != 0 {
                found(post.lead());
            }
            match self.more.get(next as usize) {
                Some((earlier, before)) => (post, next) = (*earlier, *before),
                None => return,
            }
        }
    }

    /// The bytes that the index holds.
    pub(crate) fn memory(&self) -> usize {
        self.slots.capacity() * size_of::<u64>()
            + self.entries.capacity() * size_of::<Entry>()
            + self.text.capacity()
            + self.more.capacity() * size_of::<(Post, u32)>()
            + self.every.capacity() * size_of::<Post>()
    }
}

enum Probe {
    /// The entry's number.
    Found(usize),
    /// The slot where it would stand.
    Free(usize),
}

fn slot_count(names: usize) -> usize {
    (names.max(4) * 2).next_power_of_two()
}

fn slot_value(hash: u64, number: usize) -> u64 {
    (hash & !u64::from(u32::MAX)) | number as u64
}

#[cfg(test)]
mod tests {
    use super::{Lead, NameIndex};
    use crate::host_name::HostPattern;

    #[test]
    fn grows_and_finds_by_label_boundary() {
        let mut index = NameIndex::with_capacity(0);
        for number in 0..1000u32 {
            let pattern = HostPattern::parse(&format!("*.n{number}.example.com")).unwrap();
            index.insert(&pattern, Lead::Set(number));
        }
        for number in 0..1000u32 {
            let mut found = Vec::new();
            index.look_up(&format!("a.b.n{number}.example.com"), &mut |lead| found.push(lead));
            assert_eq!(found, [Lead::Set(number)]);
            index.look_up(&format!("n{number}.example.com"), &mut |lead| panic!("the apex leads to {lead:?}"));
            index.look_up(&format!("an{number}.example.com"), &mut |lead| panic!("half a label leads to {lead:?}"));
        }
    }

    #[test]
    fn one_name_can_lead_to_many() {
        let mut index = NameIndex::with_capacity(1);
        let leads = [Lead::Set(1), Lead::Url(2), Lead::Opens(3)];
        for lead in leads {
            index.insert(&HostPattern::parse("example.com").unwrap(), lead);
            index.insert(&HostPattern::parse("example.com").unwrap(), lead);
        }
        let mut found = Vec::new();
        index.look_up("example.com", &mut |lead| found.push(lead));
        assert_eq!(found.len(), leads.len());
        assert!(leads.iter().all(|lead| found.contains(lead)));
    }
}
