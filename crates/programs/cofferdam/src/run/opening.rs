//! What is said on standard error at the start: everything that was opened beyond the standard.

use super::{choose_policy::Choice, environment, environment::Chosen, mounts::Opened};
use crate::presets::Preset;

/// How many files are named before they are only counted.
const NAMED: usize = 4;

/// What was opened, in words.
pub(crate) struct Said {
    opened: Vec<String>,
    notes: Vec<String>,
}

impl Said {
    pub(crate) fn new(choice: &Choice, presets: &[Preset], chosen: &Chosen, opened: &Opened, plan: &[String]) -> Self {
        let mut all = opened.said.clone();
        all.extend(chosen.opened.iter().map(|name| format!("variable {name}")));
        all.extend(choice.said.iter().cloned());
        all.extend(opened.tls.iter().map(|tls| format!("TLS for {tls}")));
        let mut notes = Vec::new();
        for preset in presets {
            notes.push(format!("{} (preset {}); --program-preset none turns it off", preset.summary, preset.name));
            notes.extend(preset.note.clone());
        }
        if !opened.said.is_empty() {
            notes.push(format!("opened {}", opened.said.join(", ")));
        }
        if !chosen.opened.is_empty() {
            notes.push(format!("passed {}", chosen.opened.join(", ")));
        }
        notes.extend(choice.said.iter().cloned());
        notes.extend(opened.tls.iter().map(|tls| format!("TLS is opened for: {tls}")));
        notes.extend(credentials(chosen, opened));
        if !opened.closed.is_empty() {
            notes.push(format!("read-only for the command: {}", some_of(&opened.closed)));
        }
        if !opened.sockets.is_empty() {
            notes.push(format!("sockets that it may reach whoever listens on: {}", some_of(&opened.sockets)));
        }
        notes.extend(held_back(presets, chosen));
        notes.extend(plan.iter().cloned());
        Self { opened: all, notes }
    }

    /// For the record: names only, never values.
    pub(crate) fn opened(self) -> Vec<String> {
        self.opened
    }

    /// For people.
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }
}

/// Credentials are named: what the command can read, it can send to what is allowed. The policy's own come first, and all
/// of them.
fn credentials(chosen: &Chosen, opened: &Opened) -> Option<String> {
    let mut found = opened.credentials.clone();
    found.extend(environment::with_password(&chosen.variables).into_iter().map(|name| format!("the variable {name}")));
    let mut first = opened.sources.clone();
    for names in [&mut first, &mut found] {
        names.sort();
        names.dedup();
    }
    found.retain(|name| !first.contains(name));
    let named = NAMED.max(first.len());
    let all = [first, found].concat();
    (!all.is_empty()).then(|| format!("credentials that it can read: {}", first_of(&all, named)))
}

fn some_of(all: &[String]) -> String {
    first_of(all, NAMED)
}

fn first_of(all: &[String], named: usize) -> String {
    let mut text = all.iter().take(named).cloned().collect::<Vec<_>>().join(", ");
    if all.len() > named {
        text.push_str(&format!(" and {} more", all.len() - named));
    }
    text
}

/// Secrets that a preset knows and that the caller has, but that were not passed.
fn held_back(presets: &[Preset], chosen: &Chosen) -> Option<String> {
    let mut names: Vec<&str> = presets.iter().flat_map(|preset| preset.secrets.iter().map(String::as_str)).collect();
    names.retain(|name| std::env::var_os(name).is_some() && !chosen.variables.contains_key(*name));
    names.sort_unstable();
    names.dedup();
    let first = names.first()?;
    Some(format!("not passed: {} (pass one with --env {first})", names.join(", ")))
}
