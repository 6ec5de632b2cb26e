//! One more rule in a person's file, with everything else left as it is.
//!
//! A person who answers "always" wants a rule in the file, and the comments, the order and the layout of that
//! file kept. So the text is not written anew: the rule is put in where the list of rules ends, in the style of
//! that list. It is judged right before the rule that asked, and nothing else changes its turn: that is checked
//! on the result before it is given back.
//!
//! ```text
//! rules:                         rules:
//!   - { name: ask-web, … }  ->     - { name: ask-web, … }
//!                                  - name: always-a.example
//!                                    priority: 19
//! ```

/// What "always" means.
mod narrow;

use policy::model::PolicySpec;
use values::RuleName;

use crate::{
    diagnostics::Diagnostics,
    document::{Content, Extent, Node},
    parse::{self, PolicyFile},
    print::{PrintError, print_rule},
    wire,
};

pub use narrow::{Asked, NotFaithful};

/// How far apart priorities are set where there is room.
const STEP: i64 = 10;

/// A rule to be added.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRule {
    /// The rule. Its priority is chosen, and its name made unique.
    pub rule: wire::Rule,
    /// The rule that it is to be judged right before; `None` puts it behind all.
    pub before: Option<RuleName>,
}

/// Why a rule can't be added.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The file is no policy as it is.
    #[error("the file can't be read as it is:\n{0}")]
    Unreadable(Diagnostics),
    /// The rule that asked is not in the file.
    #[error("no rule of the file is named {0}")]
    NoSuchRule(RuleName),
    /// There is no priority left before the rule that asked, and the ones in the way come from a preset or pack.
    #[error("there is no priority free before {0}")]
    NoRoom(RuleName),
    /// The rules are written in a way that text can't be put into.
    #[error("the rules of the file are an alias; a rule can't be added to them")]
    Alias,
    /// The rule can't be written.
    #[error(transparent)]
    Print(#[from] PrintError),
    /// The file with the rule is no policy: the rule is wrong.
    #[error("the rule does not fit the file:\n{0}")]
    Refused(Diagnostics),
    /// The file with the rule would mean something else. Nothing was changed.
    #[error("the file with the rule would not mean what it should; add it by hand")]
    OtherMeaning,
}

/// A piece of text to be put in place of another.
#[derive(Debug)]
struct Edit {
    from: usize,
    to: usize,
    text: String,
}

/// Adds a rule to the text of a policy file and gives back the new text.
pub fn append_rule(text: &str, rule: &NewRule) -> Result<String, AppendError> {
    let file = parse::parse("policy", text.as_bytes()).map_err(AppendError::Unreadable)?;
    let root = parse::tree(text.as_bytes(), &mut Diagnostics::new("policy"))
        .map_err(|_| AppendError::Unreadable(Diagnostics::new("policy")))?;
    let mut rule = rule.clone();
    rule.rule.name = free_name(&file.spec, &rule.rule.name);
    let mut edits = Vec::new();
    rule.rule.priority = make_room(&file, &root, rule.before.as_ref(), &mut edits)?;
    let bare = text.strip_prefix('\u{feff}').unwrap_or(text);
    edits.push(placed(bare, &root, &rule.rule)?);
    edits.sort_by_key(|edit| std::cmp::Reverse(edit.from));
    let mut changed = bare.to_owned();
    for edit in edits {
        changed.replace_range(edit.from..edit.to, &edit.text);
    }
    let again = parse::parse("policy", changed.as_bytes()).map_err(AppendError::Refused)?;
    if !means_the_same(&file.spec, &again.spec, &rule) || !again.written.spec.rules.contains(&rule.rule) {
        return Err(AppendError::OtherMeaning);
    }
    Ok(if bare.len() < text.len() { format!("\u{feff}{changed}") } else { changed })
}

fn free_name(spec: &PolicySpec, wanted: &str) -> String {
    let taken = |name: &str| spec.rules.iter().any(|rule| rule.name.as_str() == name);
    let numbered = (2..).map(|number: u32| format!("{wanted}-{number}"));
    std::iter::once(wanted.to_owned()).chain(numbered).find(|name| !taken(name)).unwrap_or_default()
}

/// A free priority right before a rule. Where there is none, that rule and those right behind it move on by one.
fn make_room(
    file: &PolicyFile,
    root: &Node,
    before: Option<&RuleName>,
    edits: &mut Vec<Edit>,
) -> Result<i64, AppendError> {
    let mut priorities: Vec<i64> = file.spec.rules.iter().map(|rule| rule.priority).collect();
    priorities.sort_unstable();
    let Some(before) = before else {
        return Ok(priorities.last().map_or(100, |last| last.saturating_add(STEP)));
    };
    let rule = file.spec.rules.iter().find(|rule| rule.name == *before);
    let asked = rule.ok_or_else(|| AppendError::NoSuchRule(before.clone()))?.priority;
    let previous = priorities.iter().copied().filter(|priority| *priority < asked).max();
    let wanted = asked.checked_sub(1).ok_or_else(|| AppendError::NoRoom(before.clone()))?;
    if previous.is_none_or(|previous| previous < wanted) {
        return Ok(wanted);
    }
    // A row of priorities without a gap, from the rule that asked on.
    let mut last = asked;
    while priorities.binary_search(&last.saturating_add(1)).is_ok() {
        last = last.saturating_add(1);
    }
    let no_room = || AppendError::NoRoom(before.clone());
    if last == i64::MAX {
        return Err(no_room());
    }
    for priority in asked..=last {
        let index = file.written.spec.rules.iter().position(|rule| rule.priority == priority).ok_or_else(no_room)?;
        let at = priority_extent(root, index).ok_or_else(no_room)?;
        edits.push(Edit { from: at.start.byte(), to: at.end.byte(), text: (priority + 1).to_string() });
    }
    Ok(asked)
}

fn priority_extent(root: &Node, index: usize) -> Option<Extent> {
    let rules = &root.entry("spec")?.value.entry("rules")?.value;
    let rule = rules.item(index)?;
    let priority = rule.entry("priority")?.value.extent;
    // Of an alias the text stands elsewhere, and other rules may share it.
    (priority.start.byte() >= rule.extent.start.byte() && priority.end.byte() <= rule.extent.end.byte())
        .then_some(priority)
}

/// Where the rule goes, in the style of what is there.
fn placed(text: &str, root: &Node, rule: &wire::Rule) -> Result<Edit, AppendError> {
    let spec = root.entry("spec").map(|entry| &entry.value).ok_or(AppendError::Alias)?;
    let ending = if text.contains("\r\n") { "\r\n" } else { "\n" };
    match spec.entry("rules").map(|entry| &entry.value) {
        Some(rules) => match &rules.content {
            Content::List { flow: false, items } => {
                let first = items.first().ok_or(AppendError::Alias)?;
                let dash = text
                    .get(..first.extent.start.byte())
                    .and_then(|front| front.rfind('-'))
                    .ok_or(AppendError::Alias)?;
                let indent = indent_of(text, dash).ok_or(AppendError::Alias)?;
                Ok(in_lines(text, end_of(rules), &block(rule, indent, "")?, ending))
            }
            Content::List { flow: true, items } => {
                Ok(in_brackets(rules.extent, items.last().map(|item| item.extent), &flow(rule)))
            }
            Content::Scalar { .. } | Content::Map { .. } => Err(AppendError::Alias),
        },
        None => match &spec.content {
            Content::Map { flow: false, entries } => {
                let first = entries.first().ok_or(AppendError::Alias)?;
                let indent = indent_of(text, first.key_extent.start.byte()).ok_or(AppendError::Alias)?;
                Ok(in_lines(
                    text,
                    end_of(spec),
                    &block(rule, indent + 2, &format!("{}rules:\n", " ".repeat(indent)))?,
                    ending,
                ))
            }
            Content::Map { flow: true, entries } => {
                let last = entries.last().map(|entry| entry.value.extent);
                Ok(in_brackets(spec.extent, last, &format!("\"rules\": [{}]", flow(rule))))
            }
            Content::Scalar { .. } | Content::List { .. } => Err(AppendError::Alias),
        },
    }
}

/// How far a place is indented; none where something other than spaces stands before it.
fn indent_of(text: &str, at: usize) -> Option<usize> {
    let line = text.get(..at)?.rsplit('\n').next()?;
    line.bytes().all(|byte| byte == b' ').then_some(line.len())
}

/// Where the last value in a node ends.
fn end_of(node: &Node) -> usize {
    match &node.content {
        Content::List { flow: false, items } => items.last().map_or(node.extent.end.byte(), end_of),
        Content::Map { flow: false, entries } => {
            entries.last().map_or(node.extent.end.byte(), |entry| end_of(&entry.value))
        }
        Content::Scalar { .. } | Content::List { .. } | Content::Map { .. } => node.extent.end.byte(),
    }
}

/// A rule as lines of a block list.
fn block(rule: &wire::Rule, indent: usize, front: &str) -> Result<String, AppendError> {
    let mut lines = front.to_owned();
    for (number, line) in print_rule(rule)?.lines().enumerate() {
        let mark = if number == 0 { "- " } else { "  " };
        lines.push_str(&" ".repeat(indent));
        lines.push_str(mark);
        lines.push_str(line);
        lines.push('\n');
    }
    Ok(lines)
}

/// A rule in braces; JSON is YAML in one line.
fn flow(rule: &wire::Rule) -> String {
    // Wire types hold nothing that JSON does not.
    serde_json::to_string(rule).unwrap_or_default()
}

/// Puts whole lines behind the line in which `end` lies.
fn in_lines(text: &str, end: usize, lines: &str, ending: &str) -> Edit {
    let rest = text.get(end..).unwrap_or_default();
    let at_line_start = end == 0 || text.get(..end).is_some_and(|front| front.ends_with('\n'));
    let lines = lines.replace('\n', ending);
    if at_line_start && end > 0 {
        return Edit { from: end, to: end, text: lines };
    }
    match rest.find('\n') {
        Some(newline) => Edit { from: end + newline + 1, to: end + newline + 1, text: lines },
        None => Edit { from: text.len(), to: text.len(), text: format!("{ending}{lines}") },
    }
}

/// Puts an element behind the last one in brackets.
fn in_brackets(brackets: Extent, last: Option<Extent>, element: &str) -> Edit {
    match last {
        Some(last) => Edit { from: last.end.byte(), to: last.end.byte(), text: format!(", {element}") },
        None => Edit { from: brackets.start.byte() + 1, to: brackets.start.byte() + 1, text: element.to_owned() },
    }
}

/// Whether the only difference is the new rule, right before the rule it was to stand before.
fn means_the_same(old: &PolicySpec, new: &PolicySpec, added: &NewRule) -> bool {
    let order = |spec: &PolicySpec| {
        let mut rules: Vec<policy::model::Rule> = spec.rules.clone();
        rules.sort_by_key(|rule| rule.priority);
        rules
    };
    let mut now = order(new);
    let Some(place) = now.iter().position(|rule| rule.name.as_str() == added.rule.name) else { return false };
    let right_place = match &added.before {
        Some(before) => now.get(place + 1).is_some_and(|next| next.name == *before),
        None => place + 1 == now.len(),
    };
    now.remove(place);
    let was = order(old);
    let alike = was.len() == now.len()
        && was.iter().zip(&now).all(|(was, now)| {
            policy::model::Rule { priority: 0, ..was.clone() } == policy::model::Rule { priority: 0, ..now.clone() }
        });
    let rest = |spec: &PolicySpec| PolicySpec { rules: Vec::new(), ..spec.clone() };
    right_place && alike && rest(old) == rest(new)
}

#[cfg(test)]
mod tests;
