//! What is wrong with a policy file, in words that a person can act on.
//!
//! ```text
//! error: no group is named "azure-add"
//!   --> prod.yaml:21:67
//!    |
//! 21 |     - { name: allow-identity, priority: 20, from: agents, to: azure-add, action: allow }
//!    |                                                               ^^^^^^^^^ did you mean "azure-ad"?
//!    = hint: groups stand under spec.groups
//! ```

use std::fmt::{self, Write as _};

use serde::Serialize;

use crate::document::Extent;

/// The widest piece of a source line that is drawn.
const DRAWN_WIDTH: usize = 110;

/// The most findings of one kind that are kept: beyond it a file is no policy, and each one costs a search for near words.
pub(crate) const FINDING_LIMIT: usize = 1000;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The policy can't be used.
    Error,
    /// The policy can be used and may not do what was meant.
    Warning,
}

/// Another place that belongs to a diagnostic, such as the first of two equal names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Related {
    /// Its line, counted from 1.
    pub line: usize,
    /// Its column in characters, counted from 1.
    pub column: usize,
    /// What is there.
    pub note: String,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The line, counted from 1; 0 where it is about the file as a whole.
    pub line: usize,
    /// The column in characters, counted from 1; 0 where it is about the file as a whole.
    pub column: usize,
    /// How many characters of that line it is about; at least 1 where there is a line.
    pub width: usize,
    /// What is wrong.
    pub message: String,
    /// The nearest known word, where one is near.
    pub nearest: Option<String>,
    /// What to do.
    pub hint: Option<String>,
    /// Another place that belongs to it.
    pub related: Option<Related>,
}

impl Diagnostic {
    /// A finding about the file as a whole.
    pub(crate) fn of_file(message: String, hint: Option<String>) -> Self {
        let severity = Severity::Error;
        Self { severity, line: 0, column: 0, width: 0, message, nearest: None, hint, related: None }
    }

    /// A finding about a piece of the text.
    pub(crate) fn at(extent: Extent, severity: Severity, message: String) -> Self {
        let (start, end) = (extent.start, extent.end);
        let width =
            if end.line() == start.line() { end.column().saturating_sub(start.column()).max(1) } else { usize::MAX };
        let (line, column) = (start.line(), start.column());
        Self { severity, line, column, width, message, nearest: None, hint: None, related: None }
    }

    pub(crate) fn nearest(self, nearest: Option<String>) -> Self {
        Self { nearest, ..self }
    }

    pub(crate) fn hint(self, hint: Option<String>) -> Self {
        Self { hint, ..self }
    }

    pub(crate) fn related(self, extent: Extent, note: &str) -> Self {
        let (line, column) = (extent.start.line(), extent.start.column());
        Self { related: Some(Related { line, column, note: note.to_owned() }), ..self }
    }
}

/// All findings of one file, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostics {
    /// The file's name, as the caller gave it.
    pub file: String,
    /// The findings.
    pub items: Vec<Diagnostic>,
}

impl Diagnostics {
    pub(crate) fn new(file: &str) -> Self {
        Self { file: file.to_owned(), items: Vec::new() }
    }

    pub(crate) fn sort(&mut self) {
        self.items.sort_by_key(|item| (item.line, item.column, item.severity));
        self.items.dedup();
    }

    /// Whether a finding forbids the use of the policy.
    pub fn has_errors(&self) -> bool {
        self.items.iter().any(|item| item.severity == Severity::Error)
    }

    /// How many findings are of this severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.items.iter().filter(|item| item.severity == severity).count()
    }

    /// Draws every finding with its line and a caret. `source` is the text that was parsed.
    pub fn render(&self, source: &str, color: bool) -> String {
        let paint = Paint { color };
        let source = source.strip_prefix('\u{feff}').unwrap_or(source);
        let mut lines: Vec<&str> = Vec::new();
        lines.extend(source.lines());
        let mut out = String::new();
        for (number, item) in self.items.iter().enumerate() {
            if number > 0 {
                out.push('\n');
            }
            let line = item.line.checked_sub(1).and_then(|index| lines.get(index)).copied();
            // Writing to a String can't fail.
            let _ = self.draw(&mut out, item, line, &paint);
        }
        out
    }

    fn draw(&self, out: &mut String, item: &Diagnostic, source: Option<&str>, paint: &Paint) -> fmt::Result {
        let margin = " ".repeat(item.line.max(item.related.as_ref().map_or(0, |r| r.line)).to_string().len());
        let word = match item.severity {
            Severity::Error => paint.red("error"),
            Severity::Warning => paint.yellow("warning"),
        };
        writeln!(out, "{word}: {}", paint.bold(&shown(&item.message)))?;
        let bar = paint.blue("|");
        let file = shown(&self.file);
        if item.line == 0 {
            writeln!(out, "{margin}{} {file}", paint.blue("-->"))?;
        } else {
            writeln!(out, "{margin}{} {file}:{}:{}", paint.blue("-->"), item.line, item.column)?;
        }
        let meant = item.nearest.as_ref().map(|word| format!("did you mean {word:?}?"));
        if let Some(source) = source {
            let drawn = Drawn::cut(source, item.column, item.width);
            writeln!(out, "{margin} {bar}")?;
            let number = format!("{:>width$}", item.line, width = margin.len());
            writeln!(out, "{} {bar} {}", paint.blue(&number), drawn.text)?;
            let carets = format!("{}{}", "^".repeat(drawn.width), meant.map(|m| format!(" {m}")).unwrap_or_default());
            writeln!(out, "{margin} {bar} {}{}", " ".repeat(drawn.indent), paint.red(&carets))?;
        } else if let Some(meant) = meant {
            writeln!(out, "{margin} = {meant}")?;
        }
        if let Some(related) = &item.related {
            writeln!(out, "{margin} = line {}: {}", related.line, shown(&related.note))?;
        }
        if let Some(hint) = &item.hint {
            writeln!(out, "{margin} = hint: {}", shown(hint))?;
        }
        Ok(())
    }
}

/// One line for each finding: `file:line:column: error: message`.
impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, item) in self.items.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            let word = match item.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            match item.line {
                0 => write!(f, "{}: {word}: {}", shown(&self.file), shown(&item.message))?,
                line => write!(f, "{}:{line}:{}: {word}: {}", shown(&self.file), item.column, shown(&item.message))?,
            }
            if let Some(nearest) = &item.nearest {
                write!(f, " (did you mean {nearest:?}?)")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// The piece of a source line around a caret.
struct Drawn {
    text: String,
    indent: usize,
    width: usize,
}

impl Drawn {
    fn cut(line: &str, column: usize, width: usize) -> Self {
        let start = column.saturating_sub(1);
        let from = if start + 20 > DRAWN_WIDTH { start.saturating_sub(DRAWN_WIDTH / 2) } else { 0 };
        let text: String = line.chars().skip(from).take(DRAWN_WIDTH).collect();
        let length = text.chars().count();
        let indent = start.saturating_sub(from).min(length);
        let width = width.min(length.saturating_sub(indent)).max(1);
        let (cut_left, cut_right) = (from > 0, line.chars().nth(from + DRAWN_WIDTH).is_some());
        let text = format!("{}{}{}", if cut_left { "…" } else { "" }, shown(&text), if cut_right { "…" } else { "" });
        Self { text: text.trim_end().to_owned(), indent: indent + usize::from(cut_left), width }
    }
}

/// Text of a file or an error as a terminal may see it: one column for each character, nothing that steers it.
fn shown(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\t' => ' ',
            c if c.is_control()
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
            {
                '\u{fffd}'
            }
            c => c,
        })
        .collect()
}

/// Colour, where it is wanted.
struct Paint {
    color: bool,
}

impl Paint {
    fn paint(&self, code: &str, text: &str) -> String {
        let mut out = String::new();
        if self.color {
            // Writing to a String can't fail.
            let _ = write!(out, "\u{1b}[{code}m{text}\u{1b}[0m");
        } else {
            out.push_str(text);
        }
        out
    }

    fn red(&self, text: &str) -> String {
        self.paint("1;31", text)
    }

    fn yellow(&self, text: &str) -> String {
        self.paint("1;33", text)
    }

    fn blue(&self, text: &str) -> String {
        self.paint("1;34", text)
    }

    fn bold(&self, text: &str) -> String {
        self.paint("1", text)
    }
}

/// The longest word that is compared with others.
const COMPARED: usize = 64;

/// The known word nearest to `word`: at most a third of it may differ.
pub(crate) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<String> {
    if word.len() > COMPARED {
        return None;
    }
    let lower = word.to_lowercase();
    let bound = (word.chars().count() / 3).clamp(1, 4);
    let distance = |candidate: &str| -> Option<usize> {
        let candidate = candidate.to_lowercase();
        if lower.len() > 2 && candidate.starts_with(&lower) {
            return Some(bound);
        }
        if candidate.len().abs_diff(lower.len()) > 2 * bound || candidate.len() > COMPARED {
            return None;
        }
        Some(strsim::damerau_levenshtein(&lower, &candidate)).filter(|distance| *distance <= bound)
    };
    let near = known.into_iter().filter_map(|candidate| Some((distance(candidate)?, candidate)));
    near.min().map(|(_, candidate)| candidate.to_owned())
}
