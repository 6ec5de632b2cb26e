//! What a destination is made of: groups, named or in place, with the lists they refer to.
//!
//! Each named group, group in place and list is one *set*. A list's set is shared by all groups that
//! refer to it, so a feed of a million names is indexed once however many rules use it.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;
use ipnet::IpNet;
use smallvec::{SmallVec, smallvec};
use values::{GroupName, RuleName};

use crate::{
    compile::{
        CompileError, SetRules,
        names::{Lead, NameIndex},
        ranges::{Holder, RangeIndex, canonical_range},
        rules::{Destination, Url},
    },
    host_name::{HostName, HostPattern},
    http_path::PathGlob,
    model::{Group, ListContent, Lists, Mode, PolicySpec, To, UrlPattern},
};

/// Who uses a destination, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Use<'r> {
    /// The rule; none for pseudo-rules.
    pub(super) rule: Option<&'r RuleName>,
    /// Its number; none where it is off and only checked.
    pub(super) number: Option<u32>,
    /// Whether it denies: then it may cover what it likes.
    pub(super) denies: bool,
}

/// A group's sets: its own, then those of its lists.
#[derive(Debug, Clone)]
struct Sets {
    numbers: SmallVec<[u32; 2]>,
    names: bool,
    ranges: bool,
}

/// All sets so far, and the indexes that lead to them.
pub(super) struct Destinations<'a> {
    spec: &'a PolicySpec,
    lists: &'a Lists,
    sets: Vec<SetRules>,
    urls: Vec<Url>,
    names: NameIndex,
    ranges: Vec<(IpNet, u32, bool)>,
    groups: HashMap<&'a GroupName, Option<Sets>, RandomState>,
    /// The set of each list, by where its content lies.
    list_sets: HashMap<*const ListContent, u32, RandomState>,
    /// Named groups that were checked for what denies, and for what does not.
    checked: HashSet<(&'a GroupName, bool), RandomState>,
}

impl<'a> Destinations<'a> {
    pub(super) fn new(spec: &'a PolicySpec, lists: &'a Lists) -> Self {
        let listed = lists.feeds.values().chain(lists.service_tags.values()).map(|list| list.hosts.len());
        let inline = spec.rules.iter().map(|rule| match &rule.to {
            To::Inline(group) => group.hosts.len() + rule.names.len(),
            To::Any | To::Group(_) => rule.names.len(),
        });
        let grouped = spec.groups.values().map(|group| group.hosts.len());
        let names = listed.chain(inline).chain(grouped).sum();
        Self {
            spec,
            lists,
            sets: Vec::with_capacity(spec.rules.len()),
            urls: Vec::new(),
            names: NameIndex::with_capacity(names),
            ranges: Vec::new(),
            groups: HashMap::default(),
            list_sets: HashMap::default(),
            checked: HashSet::default(),
        }
    }

    /// How many sets there are.
    pub(super) fn len(&self) -> usize {
        self.sets.len()
    }

    /// How many URLs there are.
    pub(super) fn urls(&self) -> usize {
        self.urls.len()
    }

    /// Whether the name index still fits its offsets.
    pub(super) fn fits(&self) -> bool {
        self.names.fits()
    }

    /// The finished sets and indexes.
    ///
    /// Where a set has one rule only, the indexes lead to the rule itself.
    pub(super) fn finish(mut self) -> (Vec<SetRules>, Vec<Url>, NameIndex, RangeIndex) {
        let sets = self.sets;
        let only = |set: u32| match sets.get(set as usize).map(SmallVec::as_slice) {
            Some([rule]) => Some(*rule),
            Some(_) | None => None,
        };
        self.names.resolve(|lead| match lead {
            Lead::Set(set) => only(set).map_or(lead, Lead::Rule),
            Lead::Rule(_) | Lead::Url(_) | Lead::Opens(_) => lead,
        });
        let holder = |set| only(set).map_or(Holder::Set(set), Holder::Rule);
        let ranges = self.ranges.into_iter().map(|(range, set, written)| (range, holder(set), written));
        let ranges = RangeIndex::build(ranges.collect());
        (sets, self.urls, self.names, ranges)
    }

    /// The destination of a rule. After an error the answer does not matter.
    pub(super) fn destination(
        &mut self,
        to: &'a To,
        opens: &[HostPattern],
        used: Use<'_>,
        errors: &mut Vec<CompileError>,
    ) -> Destination {
        let sets = match to {
            To::Any => return Destination::Any,
            To::Group(name) => self.named(name, used, errors),
            To::Inline(group) => {
                self.check(group, None, used, errors);
                self.fill(group, None, used, errors)
            }
        };
        let Some(sets) = sets else { return Destination::Set { names: false, ranges: false } };
        if let Some(number) = used.number {
            self.join(&sets, number);
            // Without ranges there is nothing that the names could be checked against.
            for pattern in opens.iter().filter(|_| sets.ranges) {
                self.names.insert(pattern, Lead::Opens(number));
            }
        }
        check_patterns(self.spec.mode, opens, None, used, errors);
        Destination::Set { names: sets.names, ranges: sets.ranges }
    }

    /// The destination of a pseudo-rule.
    pub(super) fn hosts(&mut self, hosts: &[HostPattern], number: u32, errors: &mut Vec<CompileError>) -> Destination {
        let used = Use { rule: None, number: Some(number), denies: false };
        check_patterns(self.spec.mode, hosts, None, used, errors);
        let set = self.new_set();
        for pattern in hosts {
            self.names.insert(pattern, Lead::Set(set));
        }
        self.join(&Sets { numbers: smallvec![set], names: true, ranges: false }, number);
        Destination::Set { names: true, ranges: false }
    }

    /// Adds a rule to sets. Rules come in ascending order.
    fn join(&mut self, sets: &Sets, number: u32) {
        for set in &sets.numbers {
            if let Some(rules) = self.sets.get_mut(*set as usize)
                && rules.last() != Some(&number)
            {
                rules.push(number);
            }
        }
    }

    fn new_set(&mut self) -> u32 {
        self.sets.push(SetRules::new());
        self.sets.len() as u32 - 1
    }

    fn named(&mut self, name: &'a GroupName, used: Use<'_>, errors: &mut Vec<CompileError>) -> Option<Sets> {
        let Some(group) = self.spec.groups.get(name) else {
            if let Some(rule) = used.rule {
                errors.push(CompileError::UnknownGroup { rule: rule.clone(), group: name.clone() });
            }
            return None;
        };
        if self.checked.insert((name, used.denies)) {
            self.check(group, Some(name), used, errors);
        }
        if let Some(sets) = self.groups.get(name) {
            return sets.clone();
        }
        let sets = self.fill(group, Some(name), used, errors);
        self.groups.insert(name, sets.clone());
        sets
    }

    /// Indexes what a group holds; none where it holds nothing or refers to what is not there.
    fn fill(
        &mut self,
        group: &'a Group,
        name: Option<&GroupName>,
        used: Use<'_>,
        errors: &mut Vec<CompileError>,
    ) -> Option<Sets> {
        let lists = self.lists_of(group, name, used, errors)?;
        let own = self.new_set();
        let mut sets = Sets {
            numbers: smallvec![own],
            names: !group.hosts.is_empty() || !group.urls.is_empty(),
            ranges: !group.cidrs.is_empty(),
        };
        for pattern in &group.hosts {
            self.names.insert(pattern, Lead::Set(own));
        }
        self.ranges.extend(group.cidrs.iter().map(|range| (canonical_range(*range), own, true)));
        for url in &group.urls {
            self.fill_url(url, own, name, used, errors);
        }
        for list in lists {
            let set = self.list_set(list);
            sets.numbers.push(set);
            sets.names |= !list.hosts.is_empty();
            sets.ranges |= !list.cidrs.is_empty();
        }
        Some(sets)
    }

    fn fill_url(
        &mut self,
        url: &UrlPattern,
        set: u32,
        group: Option<&GroupName>,
        used: Use<'_>,
        errors: &mut Vec<CompileError>,
    ) {
        match (PathGlob::parse(&url.path), used.rule) {
            (Ok(path), _) => {
                let number = self.urls.len() as u32;
                self.urls.push(Url { set, tls: url.tls, port: url.port, path });
                self.names.insert(&url.host, Lead::Url(number));
            }
            (Err(source), Some(rule)) => {
                let (rule, group, glob) = (rule.clone(), group.cloned(), url.path.clone());
                errors.push(CompileError::PathGlob { rule, group, glob, source });
            }
            (Err(_), None) => {}
        }
    }

    /// The set of a list, filled when it is first used.
    fn list_set(&mut self, list: &'a ListContent) -> u32 {
        if let Some(set) = self.list_sets.get(&std::ptr::from_ref(list)) {
            return *set;
        }
        let set = self.new_set();
        self.list_sets.insert(list, set);
        for pattern in &list.hosts {
            self.names.insert(pattern, Lead::Set(set));
        }
        self.ranges.extend(list.cidrs.iter().map(|range| (canonical_range(*range), set, false)));
        set
    }

    /// The lists that a group refers to; none where one is missing or there is nothing at all.
    fn lists_of(
        &self,
        group: &Group,
        name: Option<&GroupName>,
        used: Use<'_>,
        errors: &mut Vec<CompileError>,
    ) -> Option<SmallVec<[&'a ListContent; 2]>> {
        let rule = used.rule?;
        let mut lists = SmallVec::new();
        let before = errors.len();
        if let Some(feed) = &group.feed {
            match self.lists.feeds.get(&feed.path) {
                Some(list) => lists.push(list),
                None => errors.push(CompileError::MissingFeed {
                    rule: rule.clone(),
                    group: name.cloned(),
                    path: feed.path.clone(),
                }),
            }
        }
        if let Some(tag) = &group.service_tag {
            match self.lists.service_tags.get(tag) {
                Some(list) => lists.push(list),
                None => errors.push(CompileError::MissingServiceTag {
                    rule: rule.clone(),
                    group: name.cloned(),
                    tag: tag.name.clone(),
                    path: tag.path.clone(),
                }),
            }
        }
        let nothing = group.feed.is_none() && group.service_tag.is_none();
        if nothing && group.hosts.is_empty() && group.urls.is_empty() && group.cidrs.is_empty() {
            errors.push(CompileError::NoDestination { rule: rule.clone(), group: name.cloned() });
        }
        (errors.len() == before).then_some(lists)
    }

    /// Whether the group may be used in this way.
    fn check(&self, group: &Group, name: Option<&GroupName>, used: Use<'_>, errors: &mut Vec<CompileError>) {
        let mode = self.spec.mode;
        check_patterns(mode, &group.hosts, name, used, errors);
        check_patterns(mode, group.urls.iter().map(|url| &url.host), name, used, errors);
        let feed = group.feed.as_ref().and_then(|feed| self.lists.feeds.get(&feed.path));
        let tag = group.service_tag.as_ref().and_then(|tag| self.lists.service_tags.get(tag));
        for list in feed.into_iter().chain(tag) {
            check_patterns(mode, &list.hosts, name, used, errors);
        }
    }
}

/// `*` belongs to unrestricted; everything under a public suffix to what denies.
fn check_patterns<'p>(
    mode: Mode,
    patterns: impl IntoIterator<Item = &'p HostPattern>,
    group: Option<&GroupName>,
    used: Use<'_>,
    errors: &mut Vec<CompileError>,
) {
    let (rule, group) = (used.rule, group);
    for pattern in patterns {
        match pattern {
            HostPattern::Any if mode != Mode::Unrestricted => {
                errors.push(CompileError::AnyHost { rule: rule.cloned(), group: group.cloned() });
            }
            HostPattern::Subnames(name) | HostPattern::Domain(name) if !used.denies && is_public_suffix(name) => {
                errors.push(CompileError::PublicSuffix {
                    rule: rule.cloned(),
                    group: group.cloned(),
                    pattern: pattern.clone(),
                });
            }
            HostPattern::Any | HostPattern::Subnames(_) | HostPattern::Domain(_) | HostPattern::Exact(_) => {}
        }
    }
}

/// Whether registries hand out the names under this one (`com`, `co.uk`). Suffixes of companies
/// (`github.io`) are left to the author, as are names of nobody's (`corp`, `internal`).
fn is_public_suffix(name: &HostName) -> bool {
    psl::suffix(name.as_str().as_bytes())
        .is_some_and(|suffix| suffix.typ() == Some(psl::Type::Icann) && suffix.as_bytes() == name.as_str().as_bytes())
}
