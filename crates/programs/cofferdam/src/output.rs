//! What people and programs read: colour only on a terminal, tables for people, JSON for programs.
//!
//! Data goes to standard output, everything else to standard error. JSON shapes are stable, tables are not.

use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::OnceLock,
};

use anyhow::Context as _;
use clap::ValueEnum;
use comfy_table::{Table, presets::NOTHING};
use rustix::termios::tcgetwinsize;
use serde::Serialize;

/// `--color`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub(crate) enum ColourChoice {
    /// On a terminal, unless NO_COLOR is set or TERM is `dumb`; with FORCE_COLOR everywhere.
    #[default]
    Auto,
    /// Everywhere, also into files and pipes.
    Always,
    /// Nowhere.
    Never,
}

static CHOICE: OnceLock<ColourChoice> = OnceLock::new();

/// Sets `--color` for this process.
pub(crate) fn choose_colour(choice: ColourChoice) {
    let _ = CHOICE.set(choice);
}

/// A colour with a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    /// Refused, failed.
    Red,
    /// Allowed, passed.
    Green,
    /// Watched, asked, warned.
    Yellow,
    /// Hints and names.
    Cyan,
    /// Less important.
    Dim,
}

/// Whether a stream is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    pub(crate) coloured: bool,
}

impl Style {
    /// Without colours.
    pub(crate) const PLAIN: Style = Style { coloured: false };

    pub(crate) fn of_stdout() -> Self {
        Self::of(io::stdout().is_terminal())
    }

    pub(crate) fn of_stderr() -> Self {
        Self::of(io::stderr().is_terminal())
    }

    /// `--color`, then NO_COLOR, FORCE_COLOR and TERM (no-color.org, force-color.org).
    fn of(is_terminal: bool) -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let coloured = match CHOICE.get().copied().unwrap_or_default() {
            ColourChoice::Always => true,
            ColourChoice::Never => false,
            ColourChoice::Auto if set("NO_COLOR") => false,
            ColourChoice::Auto if set("FORCE_COLOR") => true,
            ColourChoice::Auto => is_terminal && std::env::var_os("TERM").is_none_or(|term| term != "dumb"),
        };
        Self { coloured }
    }

    pub(crate) fn paint(self, text: &str, colour: Colour) -> String {
        if !self.coloured {
            return text.to_owned();
        }
        let code = match colour {
            Colour::Red => "1;31",
            Colour::Green => "32",
            Colour::Yellow => "33",
            Colour::Cyan => "36",
            Colour::Dim => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// A line on standard error about what this program does; never about the data asked for.
pub(crate) fn note(text: &str) {
    // Where nobody reads it any more, that changes nothing of how the command ends.
    let _ = writeln!(io::stderr(), "{} {}", Style::of_stderr().paint("cofferdam:", Colour::Cyan), harmless(text));
}

/// Writes text to standard output. A reader that went away (`| head`) is no error.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    let text = if stdout.is_terminal() { &coloured_only(text) } else { text };
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => other.context("writing to standard output"),
    }
}

/// Writes one line to standard output.
pub(crate) fn print_line(text: &str) -> anyhow::Result<()> {
    print(&format!("{text}\n"))
}

/// Writes a value as indented JSON to standard output.
pub(crate) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print_json_text(&serde_json::to_string_pretty(value)?)
}

/// Writes a line of JSON, or several, to standard output: as they are to a program, and to a terminal without a
/// character that acts on it or turns the text around.
pub(crate) fn print_json_text(text: &str) -> anyhow::Result<()> {
    if io::stdout().is_terminal() { print_line(&json_for_terminal(text)) } else { print_line(text) }
}

/// The same JSON with such characters as `\u` escapes. Between strings JSON has no control characters but white space.
fn json_for_terminal(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for one in text.chars() {
        match one {
            '\n' => shown.push(one),
            '\r' | '\t' => shown.push(' '),
            _ if acts(one) => {
                let mut units = [0; 2];
                one.encode_utf16(&mut units).iter().for_each(|unit| shown.push_str(&format!("\\u{unit:04x}")));
            }
            _ => shown.push(one),
        }
    }
    shown
}

/// A text of ours with colours, in which others' words may stand.
fn coloured_only(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\u{1b}') {
        let (before, behind) = rest.split_at(at);
        shown.push_str(&harmless(before));
        let colour = behind
            .get(1..)
            .and_then(|behind| behind.strip_prefix('['))
            .map(|numbers| numbers.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b';').count());
        let end = match colour {
            Some(count) if behind.as_bytes().get(2 + count) == Some(&b'm') => {
                shown.push_str(behind.get(..3 + count).unwrap_or_default());
                3 + count
            }
            Some(_) | None => {
                shown.push_str(&harmless("\u{1b}"));
                1
            }
        };
        rest = behind.get(end..).unwrap_or_default();
    }
    shown + &harmless(rest)
}

/// A text of others in a line for people: what acts stands as its number.
pub(crate) fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for one in text.chars() {
        if one == '\n' || one == '\t' || !acts(one) { shown.push(one) } else { shown.extend(one.escape_unicode()) }
    }
    shown
}

/// Whether a terminal does something else with it than to show it: control characters, and those of Unicode that turn
/// the direction of a text or can't be seen.
fn acts(one: char) -> bool {
    one.is_control()
        || matches!(one, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(one, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A number and what it counts: `1 rule`, `2 rules`. For words whose plural is theirs and an s.
pub(crate) fn count(number: impl TryInto<u64>, what: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// A table for people: columns with two spaces between them, no lines.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header.iter().copied());
    for row in rows {
        table.add_row(row);
    }
    table.lines().map(|line| line.trim_end().trim_start_matches(' ').to_owned() + "\n").collect()
}

/// Where standard output is a terminal, each line cut to fit its width.
pub(crate) fn cut_to_terminal(text: &str) -> String {
    let stdout = io::stdout();
    let size = stdout.is_terminal().then(|| tcgetwinsize(&stdout).ok()).flatten();
    match size.map(|size| usize::from(size.ws_col)) {
        // Some terminals do not know their size.
        None | Some(0) => text.to_owned(),
        Some(columns) => cut(text, columns),
    }
}

fn cut(text: &str, columns: usize) -> String {
    let cut_line = |line: &str| match line.char_indices().nth(columns) {
        // What is no ASCII may be twice as wide, and then takes a second row.
        Some(_) => line.chars().take(columns.saturating_sub(1)).chain(['…', '\n']).collect(),
        None => format!("{line}\n"),
    };
    text.lines().map(cut_line).collect()
}

#[cfg(test)]
mod tests {
    use super::{coloured_only, count, cut, harmless, json_for_terminal};

    #[test]
    fn a_line_that_is_too_long_says_so() {
        assert_eq!(cut("12345\n123456\né2345\n\n", 5), "12345\n1234…\né2345\n\n");
    }

    #[test]
    fn a_terminal_gets_no_character_that_acts() {
        for (text, expected) in [
            ("{\"a\":\"é 日 😀\"}", "{\"a\":\"é 日 😀\"}"),
            ("{\"a\":\"\u{9b}2J\u{7f}\"}", "{\"a\":\"\\u009b2J\\u007f\"}"),
            ("{\"a\":\t\"\u{202e}x\u{feff}\u{e0041}\"}\r", "{\"a\": \"\\u202ex\\ufeff\\udb40\\udc41\"} "),
        ] {
            assert_eq!(json_for_terminal(text), expected);
        }
        let (coloured, shown) =
            ("\u{1b}[1;31mred\u{1b}[0m \u{1b}[2Jx\u{1b}", "\u{1b}[1;31mred\u{1b}[0m \\u{1b}[2Jx\\u{1b}");
        assert_eq!(coloured_only(coloured), shown);
        assert_eq!(harmless("a\u{1b}[2J\u{202e}b\n"), "a\\u{1b}[2J\\u{202e}b\n");
    }

    #[test]
    fn one_is_no_plural() {
        assert_eq!(
            [count(0_u64, "rule"), count(1_usize, "rule"), count(2_u32, "rule")],
            ["0 rules", "1 rule", "2 rules"]
        );
    }

    proptest::proptest! {
        #[test]
        fn json_says_the_same(text in "\\PC{0,20}[\u{7f}-\u{9f}\u{200b}-\u{206f}\u{e0000}-\u{e007f}]{0,9}") {
            let line = serde_json::to_string(&text).unwrap();
            let shown = json_for_terminal(&line);
            proptest::prop_assert!(!shown.chars().any(super::acts));
            proptest::prop_assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
        }
    }
}
