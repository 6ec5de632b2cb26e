//! One call from bytes to policy.

use std::{collections::BTreeMap, sync::Arc};

use policy::model::{Feed, Group, PolicySpec, ServiceTag, To};
use serde::Serialize;
use values::{GroupName, RuleName};

use crate::{
    convert,
    diagnostics::{Diagnostic, Diagnostics, Severity},
    document::{self, DocumentError, Node},
    place::Place,
    shape,
    trial::PolicyTest,
    wire,
};

/// What an empty file gets for a hint.
const SMALLEST: &str =
    "the smallest policy is three lines: `apiVersion: cofferdam/v1`, `kind: EgressPolicy`, `spec: {}`";

/// A line and column of the file, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

/// A policy file that may be compiled.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyFile {
    /// The policy.
    pub spec: Arc<PolicySpec>,
    /// Its tests; a failing one refuses the policy.
    pub tests: Vec<PolicyTest>,
    /// The file's fields as written.
    pub written: wire::File,
    /// What may not do what was meant. No errors.
    pub warnings: Diagnostics,
    /// Where each rule stands, for errors that compile finds.
    pub rules: BTreeMap<RuleName, Position>,
    /// Where each group stands.
    pub groups: BTreeMap<GroupName, Position>,
    /// Where each test stands, in order.
    pub test_positions: Vec<Position>,
}

/// A list that a policy needs before it can be compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeededList<T> {
    /// The list.
    pub list: T,
    /// The group or rule that names it.
    pub named_by: String,
}

/// Every list that a policy needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NeededLists {
    /// Feeds, each path once.
    pub feeds: Vec<NeededList<Feed>>,
    /// Service tags, each once.
    pub service_tags: Vec<NeededList<ServiceTag>>,
}

impl NeededLists {
    /// The lists that this policy names.
    pub fn of(spec: &PolicySpec) -> Self {
        let mut needed = Self::default();
        for (name, group) in &spec.groups {
            needed.add(group, || format!("group {name}"));
        }
        for rule in &spec.rules {
            if let To::Inline(group) = &rule.to {
                needed.add(group, || format!("rule {}", rule.name));
            }
        }
        needed
    }

    fn add(&mut self, group: &Group, named_by: impl Fn() -> String) {
        if let Some(feed) = &group.feed
            && !self.feeds.iter().any(|known| known.list.path == feed.path && known.list.format == feed.format)
        {
            self.feeds.push(NeededList { list: feed.clone(), named_by: named_by() });
        }
        if let Some(tag) = &group.service_tag
            && !self.service_tags.iter().any(|known| known.list == *tag)
        {
            self.service_tags.push(NeededList { list: tag.clone(), named_by: named_by() });
        }
    }
}

/// Reads a policy file. `file` is its name for messages; the error holds every finding, warnings included.
pub fn parse(file: &str, bytes: &[u8]) -> Result<PolicyFile, Diagnostics> {
    let mut found = Diagnostics::new(file);
    let Some((root, written)) = read(bytes, &mut found) else {
        found.sort();
        return Err(found);
    };
    let converted = convert::convert(&written);
    found.items.extend(converted.findings.iter().map(|finding| finding.diagnostic(&root)));
    omitted(converted.omitted, &mut found);
    found.sort();
    if found.has_errors() {
        return Err(found);
    }
    let spec = Place::TOP;
    let spec = spec.key("spec");
    let (rules, groups, tests) = (spec.key("rules"), spec.key("groups"), spec.key("tests"));
    // The file's own rules stand first, in its order; those of its preset and pack behind them.
    let own_rules = converted.spec.rules.iter().take(written.spec.rules.len()).enumerate();
    let own_groups = written.spec.groups.keys().filter_map(|name| Some((GroupName::new(name).ok()?, name)));
    Ok(PolicyFile {
        rules: own_rules.map(|(index, rule)| (rule.name.clone(), position(&rules.index(index), &root))).collect(),
        groups: own_groups.map(|(group, name)| (group, position(&groups.key(name), &root))).collect(),
        test_positions: (0..written.spec.tests.len()).map(|index| position(&tests.index(index), &root)).collect(),
        spec: Arc::new(converted.spec),
        tests: converted.tests,
        warnings: found,
        written,
    })
}

fn position(place: &Place<'_>, root: &Node) -> Position {
    let start = place.find(root).start;
    Position { line: start.line(), column: start.column() }
}

/// The tree and the fields of a file, if it can be read whole; what is wrong goes to `found`.
fn read(bytes: &[u8], found: &mut Diagnostics) -> Option<(Node, wire::File)> {
    let root = match tree(bytes, found) {
        Ok(root) => root,
        Err(error) => {
            found.items.push(explain(&error, bytes));
            return None;
        }
    };
    let wrong = match shape::read(&root) {
        Ok(value) => match serde_json::from_value(value) {
            Ok(written) => return Some((root, written)),
            // The shape is made from the same types, so what fits it reads.
            Err(error) => vec![Diagnostic::of_file(format!("the right shape, yet unreadable: {error}"), None)],
        },
        Err(wrong) => {
            omitted(wrong.omitted, found);
            wrong.found
        }
    };
    found.items.extend(wrong);
    let mut rest = root.clone();
    if let Some(written) = shape::prune(&mut rest).and_then(|value| serde_json::from_value(value).ok()) {
        let findings = convert::convert(&written).findings;
        let standing = findings.iter().filter(|finding| finding.stands_without(&root));
        found.items.extend(standing.map(|finding| finding.diagnostic(&rest)));
    }
    None
}

fn omitted(count: usize, found: &mut Diagnostics) {
    if count > 0 {
        found.items.push(Diagnostic::of_file(format!("{count} more findings are not shown"), None));
    }
}

/// The tree of a file; repeated keys are noted as findings.
pub(crate) fn tree(bytes: &[u8], found: &mut Diagnostics) -> Result<Node, DocumentError> {
    let text = document::text_of(bytes)?;
    let mut repeated = Vec::new();
    let root = document::read(text, &mut repeated);
    found.items.extend(repeated.iter().map(|error| explain(error, bytes)));
    root
}

fn explain(error: &DocumentError, bytes: &[u8]) -> Diagnostic {
    let message = error.to_string();
    let hint = match error {
        DocumentError::TooLarge(_) | DocumentError::TooMany { .. } => Some("keep long lists in feeds".to_owned()),
        DocumentError::NotUtf8(at) => {
            let line = bytes.iter().take(*at).filter(|byte| **byte == b'\n').count() + 1;
            Some(format!("the byte stands in line {line}; save the file as UTF-8"))
        }
        DocumentError::Empty => Some(SMALLEST.to_owned()),
        DocumentError::Syntax { at, .. } => syntax_hint(bytes, at.start.line()),
        DocumentError::Cycle { .. } | DocumentError::AliasBudget { .. } => {
            Some("write it out, or use a group".to_owned())
        }
        DocumentError::SecondDocument { .. } => Some("one file, one policy: put it into a file of its own".to_owned()),
        DocumentError::ComplexKey { .. } => Some("a value that begins with { or [ ends with the same kind".to_owned()),
        DocumentError::TooDeep { .. } | DocumentError::Tag { .. } | DocumentError::RepeatedKey { .. } => None,
    };
    match (error.extent(), error) {
        (None, _) => Diagnostic::of_file(message, hint),
        (Some(at), DocumentError::RepeatedKey { first, .. }) => {
            Diagnostic::at(at, Severity::Error, message).related(*first, "the first one").hint(hint)
        }
        (Some(at), _) => Diagnostic::at(at, Severity::Error, message).hint(hint),
    }
}

/// What usually lies behind a syntax error in this line.
fn syntax_hint(bytes: &[u8], line: usize) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?.lines().nth(line.checked_sub(1)?)?;
    let indent = text.len() - text.trim_start().len();
    if text.get(..indent)?.contains('\t') {
        return Some("YAML is indented with spaces, not tabs".to_owned());
    }
    if text.contains(": *") || text.contains("[*") || text.contains("- *") {
        return Some("a value that begins with '*' stands in quotes: \"*.example.com\"".to_owned());
    }
    None
}
