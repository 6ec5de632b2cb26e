//! What differs between two policies, rule by rule: what a reviewer reads.
//!
//! Renumbering priorities without a change of order is no difference, nor is the order of the file.

/// The parts of a policy as words.
mod words;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use policy::model::{Action, Group, PolicySpec, Route, Rule, RuleEnforcement};
use serde::Serialize;

/// What a difference is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase", tag = "kind", content = "name")]
pub enum Subject {
    /// A setting of the policy: `mode`, `allowedHosts` …
    Setting(String),
    /// A route.
    Route(String),
    /// A credential.
    Credential(String),
    /// A group.
    Group(String),
    /// A rule.
    Rule(String),
}

/// One field, before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldChange {
    /// The field.
    pub field: String,
    /// What it was; empty for a part that was added.
    pub before: String,
    /// What it is; empty for a part that was removed.
    pub after: String,
    /// Whether it is a list, of which only the elements that went and came are told.
    pub elements: bool,
}

/// What became of a subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// It is new: in words.
    Added(String),
    /// It is gone: in words.
    Removed(String),
    /// It stays, with other fields.
    Changed(Vec<FieldChange>),
}

/// What a difference does to what may leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// More may leave.
    Wider,
    /// Less may leave.
    Narrower,
    /// Nothing changes: it is recorded or named otherwise.
    Same,
    /// It depends.
    Unclear,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What it is about.
    pub subject: Subject,
    /// What became of it.
    pub fate: Fate,
    /// What that does.
    pub reach: Reach,
}

/// Everything that differs: settings, routes, credentials, groups, then rules in the order in which they are judged.
pub fn diff(before: &PolicySpec, after: &PolicySpec) -> Vec<Difference> {
    let mut found = settings(before, after);
    found.extend(parts(
        &before.routes,
        &after.routes,
        |name| Subject::Route(name.to_string()),
        words::route,
        route_fields,
    ));
    found.extend(parts(
        &before.credentials,
        &after.credentials,
        |name| Subject::Credential(name.to_string()),
        words::credential,
        words::credential_fields,
    ));
    found.extend(parts(
        &before.groups,
        &after.groups,
        |name| Subject::Group(name.to_string()),
        words::group,
        group_fields,
    ));
    found.extend(rules(before, after));
    found
}

fn settings(before: &PolicySpec, after: &PolicySpec) -> Vec<Difference> {
    let (old, new) = (words::settings(before), words::settings(after));
    let changed = old.into_iter().zip(new).filter(|((_, old), (_, new))| old != new);
    changed
        .map(|((field, before), (_, after))| {
            let change = FieldChange::new(field, &before, &after);
            let reach = setting_reach(field, &change);
            Difference { subject: Subject::Setting(field.to_owned()), fate: Fate::Changed(vec![change]), reach }
        })
        .collect()
}

fn setting_reach(field: &str, change: &FieldChange) -> Reach {
    match (field, change.before.as_str(), change.after.as_str()) {
        ("name", ..) => Reach::Same,
        ("mode", _, "unrestricted") | ("defaultEnforcement", _, "watch") | ("strictBinding", _, "false") => {
            Reach::Wider
        }
        ("mode", "unrestricted", _) | ("defaultEnforcement", "watch", _) | ("strictBinding", "false", _) => {
            Reach::Narrower
        }
        ("allowedHosts" | "managedPath", "", _) => Reach::Wider,
        ("allowedHosts" | "managedPath", _, "") => Reach::Narrower,
        _ => Reach::Unclear,
    }
}

/// Parts with names: what is new, gone or changed.
fn parts<K: Ord, V: PartialEq>(
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
    subject: impl Fn(&K) -> Subject,
    told: impl Fn(&V) -> String,
    fields: impl Fn(&V) -> Vec<(&'static str, String)>,
) -> Vec<Difference> {
    let names: BTreeSet<&K> = before.keys().chain(after.keys()).collect();
    let fate = |name: &K| match (before.get(name), after.get(name)) {
        (None, Some(new)) => Some(Fate::Added(told(new))),
        (Some(old), None) => Some(Fate::Removed(told(old))),
        (Some(old), Some(new)) if old != new => Some(Fate::Changed(changes(fields(old), fields(new)))),
        (Some(_), Some(_)) | (None, None) => None,
    };
    // What a group, route or credential does, the rules that use it say.
    let difference = |name: &K| Some(Difference { subject: subject(name), fate: fate(name)?, reach: Reach::Unclear });
    names.into_iter().filter_map(difference).collect()
}

fn changes(before: Vec<(&'static str, String)>, after: Vec<(&'static str, String)>) -> Vec<FieldChange> {
    let pairs = before.into_iter().zip(after).filter(|((_, old), (_, new))| old != new);
    pairs.map(|((field, before), (_, after))| FieldChange::new(field, &before, &after)).collect()
}

impl FieldChange {
    fn new(field: &str, before: &str, after: &str) -> Self {
        let (field, (before, after, elements)) = (field.to_owned(), trimmed(before, after));
        Self { field, before, after, elements }
    }
}

/// Of two lists only what the other does not have.
fn trimmed(before: &str, after: &str) -> (String, String, bool) {
    let list = |text: &str| -> Option<Vec<String>> {
        let inner = text.strip_prefix('[')?.strip_suffix(']')?;
        Some(inner.split(", ").filter(|item| !item.is_empty()).map(str::to_owned).collect())
    };
    let (Some(old), Some(new)) = (list(before), list(after)) else {
        return (before.to_owned(), after.to_owned(), false);
    };
    let gone: Vec<&str> = old.iter().filter(|item| !new.contains(item)).map(String::as_str).collect();
    let come: Vec<&str> = new.iter().filter(|item| !old.contains(item)).map(String::as_str).collect();
    (gone.join(", "), come.join(", "), true)
}

fn route_fields(route: &Route) -> Vec<(&'static str, String)> {
    vec![("hop", words::hop(&route.hop)), ("dns", words::dns(route))]
}

fn group_fields(group: &Group) -> Vec<(&'static str, String)> {
    words::group_fields(group)
}

/// Rules by priority.
fn ordered(spec: &PolicySpec) -> Vec<&Rule> {
    let mut rules: Vec<&Rule> = spec.rules.iter().collect();
    rules.sort_by_key(|rule| rule.priority);
    rules
}

fn rules(before: &PolicySpec, after: &PolicySpec) -> Vec<Difference> {
    let (old, new) = (ordered(before), ordered(after));
    let was: BTreeMap<&str, &Rule> = old.iter().map(|rule| (rule.name.as_str(), *rule)).collect();
    let is: BTreeMap<&str, &Rule> = new.iter().map(|rule| (rule.name.as_str(), *rule)).collect();
    let moved = moved(&old, &new, &was, &is);
    let mut found = Vec::new();
    for rule in &old {
        if !is.contains_key(rule.name.as_str()) {
            let (fate, reach) = (Fate::Removed(words::rule(rule)), opposite(effect(rule)));
            found.push(Difference { subject: Subject::Rule(rule.name.to_string()), fate, reach });
        }
    }
    for rule in &new {
        let subject = Subject::Rule(rule.name.to_string());
        let Some(old) = was.get(rule.name.as_str()) else {
            found.push(Difference { subject, fate: Fate::Added(words::rule(rule)), reach: effect(rule) });
            continue;
        };
        let mut fields = changes(words::rule_fields(old), words::rule_fields(rule));
        if moved.contains(rule.name.as_str()) {
            let (before, after) = (old.priority.to_string(), rule.priority.to_string());
            fields.push(FieldChange::new("priority", &before, &after));
        }
        if !fields.is_empty() {
            let reach = changed_reach(old, rule, &fields);
            found.push(Difference { subject, fate: Fate::Changed(fields), reach });
        }
    }
    found
}

/// The rules whose turn changed: the fewest that, taken out, leave the others in their old order.
fn moved<'r>(
    old: &[&'r Rule],
    new: &[&'r Rule],
    was: &BTreeMap<&str, &Rule>,
    is: &BTreeMap<&str, &Rule>,
) -> BTreeSet<&'r str> {
    let kept = |rules: &[&'r Rule], there: &BTreeMap<&str, &Rule>| -> Vec<&'r str> {
        rules.iter().map(|rule| rule.name.as_str()).filter(|name| there.contains_key(name)).collect()
    };
    let places: BTreeMap<&str, usize> =
        kept(old, is).into_iter().enumerate().map(|(place, name)| (name, place)).collect();
    let names = kept(new, was);
    let order: Vec<usize> = names.iter().filter_map(|name| places.get(name).copied()).collect();
    let staying: BTreeSet<usize> = longest_rising(&order);
    names.into_iter().filter(|name| places.get(name).is_some_and(|place| !staying.contains(place))).collect()
}

/// The values of a longest rising subsequence.
fn longest_rising(values: &[usize]) -> BTreeSet<usize> {
    // The smallest last value of a rising run of each length, and what came before each value in its run.
    let mut ends: Vec<usize> = Vec::new();
    let mut before: BTreeMap<usize, Option<usize>> = BTreeMap::new();
    for value in values {
        let length = ends.partition_point(|end| end < value);
        before.insert(*value, length.checked_sub(1).and_then(|index| ends.get(index).copied()));
        match ends.get_mut(length) {
            Some(end) => *end = *value,
            None => ends.push(*value),
        }
    }
    let mut kept = BTreeSet::new();
    let mut next = ends.last().copied();
    while let Some(value) = next {
        kept.insert(value);
        next = before.get(&value).copied().flatten();
    }
    kept
}

/// What a rule does by being there.
fn effect(rule: &Rule) -> Reach {
    match (rule.enforcement, rule.action) {
        (RuleEnforcement::Watch | RuleEnforcement::Off, _) => Reach::Same,
        (RuleEnforcement::Enforce, Action::Allow) => Reach::Wider,
        (RuleEnforcement::Enforce, Action::Deny) => Reach::Narrower,
        // In place of an allow it is narrower, in place of a deny wider.
        (RuleEnforcement::Enforce, Action::Ask) => Reach::Unclear,
    }
}

fn opposite(reach: Reach) -> Reach {
    match reach {
        Reach::Wider => Reach::Narrower,
        Reach::Narrower => Reach::Wider,
        Reach::Same => Reach::Same,
        Reach::Unclear => Reach::Unclear,
    }
}

fn changed_reach(before: &Rule, after: &Rule, fields: &[FieldChange]) -> Reach {
    if fields.iter().all(|change| matches!(change.field.as_str(), "note" | "log")) {
        return Reach::Same;
    }
    let only_whether =
        fields.iter().all(|change| matches!(change.field.as_str(), "note" | "log" | "enforcement" | "action"));
    match (effect(before), effect(after)) {
        (Reach::Same, Reach::Same) => Reach::Same,
        (Reach::Same, now) if only_whether => now,
        (was, Reach::Same) if only_whether => opposite(was),
        (Reach::Wider, Reach::Narrower) if only_whether => Reach::Narrower,
        (Reach::Narrower, Reach::Wider) if only_whether => Reach::Wider,
        _ => Reach::Unclear,
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Setting(name) => f.write_str(name),
            Subject::Route(name) => write!(f, "route {name}"),
            Subject::Credential(name) => write!(f, "credential {name}"),
            Subject::Group(name) => write!(f, "group {name}"),
            Subject::Rule(name) => write!(f, "rule {name}"),
        }
    }
}

/// `+ rule x: …`, `- rule x: …`, or `~ rule x:` and a line for each field.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reach = match self.reach {
            Reach::Wider => "  (wider)",
            Reach::Narrower => "  (narrower)",
            Reach::Same | Reach::Unclear => "",
        };
        match &self.fate {
            Fate::Added(told) => write!(f, "+ {}: {told}{reach}", self.subject),
            Fate::Removed(told) => write!(f, "- {}: {told}{reach}", self.subject),
            Fate::Changed(changes) => {
                if let (Subject::Setting(_), [change]) = (&self.subject, changes.as_slice()) {
                    return write!(f, "~ {change}{reach}");
                }
                write!(f, "~ {}:{reach}", self.subject)?;
                changes.iter().try_for_each(|change| write!(f, "\n    {change}"))
            }
        }
    }
}

impl fmt::Display for FieldChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, before, after, elements } = self;
        match (before.is_empty(), after.is_empty()) {
            (true, _) => write!(f, "{field}: + {after}"),
            (false, true) => write!(f, "{field}: - {before}"),
            (false, false) if *elements => write!(f, "{field}: - {before}  + {after}"),
            (false, false) => write!(f, "{field}: {before} -> {after}"),
        }
    }
}

#[cfg(test)]
mod tests;
