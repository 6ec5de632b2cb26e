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
//! Names and what they lead to lie one behind the other in one buffer, so that a hit touches two places
//! of memory, the slot and the record. Texts are compared in full: a hash alone would let whoever finds
//! a collision through.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;

use crate::host_name::HostPattern;

/// What a matching name leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lead {
    /// A destination set holds the name.
    Set(u32),
    /// A destination set of one rule only.
    Rule(u32),
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
const COVERAGE: u32 = COVERS_ITSELF | COVERS_SUBNAMES;

impl Post {
    fn new(coverage: u32, lead: Lead) -> Self {
        let (kind, id) = match lead {
            Lead::Set(id) => (0, id),
            Lead::Rule(id) => (1 << 28, id),
            Lead::Url(id) => (2 << 28, id),
            Lead::Opens(id) => (3 << 28, id),
        };
        Self(coverage | kind | id)
    }

    fn lead(self) -> Lead {
        let id = self.0 & ((1 << 28) - 1);
        match (self.0 >> 28) & 3 {
            0 => Lead::Set(id),
            1 => Lead::Rule(id),
            2 => Lead::Url(id),
            _ => Lead::Opens(id),
        }
    }
}

/// No further post.
const END: u32 = u32::MAX;
/// A record: the post added last, where the posts before it stand in `more`, the text's length, the text.
const HEADER: usize = 9;

/// The fixed part of a record.
#[derive(Debug, Clone, Copy)]
struct Header {
    post: Post,
    next: u32,
    length: u8,
}

/// The index. Built once, then only read.
#[derive(Debug, Default)]
pub(crate) struct NameIndex {
    state: RandomState,
    /// Open addressing, at most half full: the hash's high half, then a record's offset plus one.
    slots: Vec<u64>,
    names: usize,
    records: Vec<u8>,
    more: Vec<(Post, u32)>,
    /// What covers every name.
    every: Vec<Post>,
    /// The most labels of any name: longer suffixes need no look-up.
    deepest: usize,
}

impl NameIndex {
    /// Room for this many names, so that building does not rehash.
    pub(crate) fn with_capacity(names: usize) -> Self {
        let records = Vec::with_capacity(names.saturating_mul(HEADER + 20));
        Self { slots: vec![0; slot_count(names)], records, ..Self::default() }
    }

    /// Whether the records still fit the slots' offsets.
    pub(crate) fn fits(&self) -> bool {
        u32::try_from(self.records.len()).is_ok_and(|length| length < u32::MAX) && self.more.len() < END as usize
    }

    /// Adds a pattern.
    pub(crate) fn insert(&mut self, pattern: &HostPattern, lead: Lead) {
        let (name, coverage) = match pattern {
            HostPattern::Exact(name) => (name, COVERS_ITSELF),
            HostPattern::Subnames(name) => (name, COVERS_SUBNAMES),
            HostPattern::Domain(name) => (name, COVERAGE),
            HostPattern::Any => return self.every.push(Post::new(COVERAGE, lead)),
        };
        self.insert_post(name.as_str().as_bytes(), Post::new(coverage, lead));
    }

    fn insert_post(&mut self, name: &[u8], post: Post) {
        if (self.names + 1) * 2 > self.slots.len() {
            self.grow();
        }
        let hash = self.hash(name);
        match self.probe(hash, name) {
            Probe::Found(offset, header) => {
                if header.post != post {
                    let behind = self.more.len() as u32;
                    self.more.push((header.post, header.next));
                    self.write(offset, Header { post, next: behind, ..header });
                }
            }
            Probe::Free(slot) => {
                self.deepest = self.deepest.max(name.split(|byte| *byte == b'.').count());
                self.names += 1;
                let offset = self.records.len();
                self.records.extend_from_slice(&[0; HEADER]);
                self.records.extend_from_slice(name);
                self.write(offset, Header { post, next: END, length: name.len() as u8 });
                if let Some(slot) = self.slots.get_mut(slot) {
                    *slot = slot_value(hash, offset);
                }
            }
        }
    }

    fn grow(&mut self) {
        let mut slots = vec![0u64; slot_count((self.names + 1) * 2)];
        let mask = slots.len() - 1;
        for slot in self.slots.iter().filter(|slot| **slot != 0) {
            let offset = offset_of(*slot);
            let Some((_, text)) = self.record(offset) else { continue };
            let hash = self.hash(text);
            let mut at = hash as usize & mask;
            while slots.get(at).is_some_and(|slot| *slot != 0) {
                at = (at + 1) & mask;
            }
            if let Some(slot) = slots.get_mut(at) {
                *slot = slot_value(hash, offset);
            }
        }
        self.slots = slots;
    }

    /// Replaces leads and lets go of spare room, once all is added.
    pub(crate) fn resolve(&mut self, replace: impl Fn(Lead) -> Lead) {
        self.records.shrink_to_fit();
        let replaced = |post: Post| Post::new(post.0 & COVERAGE, replace(post.lead()));
        for post in self.every.iter_mut().chain(self.more.iter_mut().map(|(post, _)| post)) {
            *post = replaced(*post);
        }
        let mut offset = 0;
        while let Some((header, _)) = self.record(offset) {
            self.write(offset, Header { post: replaced(header.post), ..header });
            offset += HEADER + usize::from(header.length);
        }
    }

    fn hash(&self, name: &[u8]) -> u64 {
        let mut hasher = self.state.build_hasher();
        hasher.write(name);
        hasher.finish()
    }

    /// The record at an offset and the text in it.
    fn record(&self, offset: usize) -> Option<(Header, &[u8])> {
        let (header, rest) = self.records.get(offset..)?.split_first_chunk::<HEADER>()?;
        let [a, b, c, d, e, f, g, h, length] = *header;
        let post = Post(u32::from_le_bytes([a, b, c, d]));
        let next = u32::from_le_bytes([e, f, g, h]);
        Some((Header { post, next, length }, rest.get(..usize::from(length))?))
    }

    fn write(&mut self, offset: usize, header: Header) {
        let [a, b, c, d] = header.post.0.to_le_bytes();
        let [e, f, g, h] = header.next.to_le_bytes();
        if let Some(bytes) = self.records.get_mut(offset..offset + HEADER) {
            bytes.copy_from_slice(&[a, b, c, d, e, f, g, h, header.length]);
        }
    }

    fn probe(&self, hash: u64, name: &[u8]) -> Probe {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = hash as usize & mask;
        while let Some(slot) = self.slots.get(at) {
            if *slot == 0 {
                return Probe::Free(at);
            }
            if *slot >> 32 == hash >> 32 {
                let offset = offset_of(*slot);
                if let Some((header, text)) = self.record(offset)
                    && text == name
                {
                    return Probe::Found(offset, header);
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
        if self.names == 0 {
            return;
        }
        let mut left = name.bytes().filter(|byte| *byte == b'.').count() + 1;
        let mut suffix = name.as_bytes();
        let mut coverage = COVERS_ITSELF;
        loop {
            if left <= self.deepest
                && let Probe::Found(_, header) = self.probe(self.hash(suffix), suffix)
            {
                self.posts(header, coverage, found);
            }
            let dot = suffix.iter().position(|byte| *byte == b'.');
            let Some(shorter) = dot.and_then(|dot| suffix.get(dot + 1..)) else { return };
            suffix = shorter;
            coverage = COVERS_SUBNAMES;
            left -= 1;
        }
    }

    fn posts(&self, header: Header, coverage: u32, found: &mut impl FnMut(Lead)) {
        let Header { mut post, mut next, .. } = header;
        loop {
            if post.0 & coverage != 0 {
                found(post.lead());
            }
            if next == END {
                return;
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
            + self.records.capacity()
            + self.more.capacity() * size_of::<(Post, u32)>()
            + self.every.capacity() * size_of::<Post>()
    }
}

enum Probe {
    /// The record's offset and header.
    Found(usize, Header),
    /// The slot where it would stand.
    Free(usize),
}

fn slot_count(names: usize) -> usize {
    (names.max(4) * 2).next_power_of_two()
}

fn slot_value(hash: u64, offset: usize) -> u64 {
    (hash & !u64::from(u32::MAX)) | (offset as u64 + 1)
}

fn offset_of(slot: u64) -> usize {
    (slot as u32).wrapping_sub(1) as usize
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
