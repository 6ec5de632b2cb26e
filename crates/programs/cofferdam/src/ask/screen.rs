//! A question as it stands on the terminal: on a screen of its own, in known colours, in fields that can't run into
//! one another.
//!
//! The workload writes to the same terminal before and after, and chooses parts of the text (its own arguments). So
//! nothing it left there may colour, move or hide a question, and no text of its may look like another field.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::AsFd as _,
    path::PathBuf,
    time::Duration,
};

use rustix::termios::{
    InputModes, LocalModes, OptionalActions, OutputModes, QueueSelector, Termios, tcflush, tcgetattr, tcgetwinsize,
    tcsetattr,
};
use tokio::io::unix::AsyncFd;

/// Ends a half-written sequence and takes the alternate screen.
const ENTER: &str = "\x18\x1b\\\x1b[?1049h";
/// Puts back whatever could hide text: colours and their palette, character set, scroll margins, held-back painting,
/// origin, wrapping, insertion, cursor. Then clears.
const CLEAR: &str = "\x1b[0m\x1b]104\x07\x1b]110\x07\x1b]111\x07\x1b(B\x0f\x1b[r\x1b[?69l\x1b[?2026l\x1b[?6l\x1b[?7h\x1b[4l\x1b[?5l\x1b[?25h\x1b[2J\x1b[H";
/// Gives the screen back.
const LEAVE: &str = "\x1b[0m\x1b[?1049l";
/// How long what is typed after a question appeared is thrown away: it was meant for something else.
const NOT_YET: Duration = Duration::from_secs(1);
/// The narrowest terminal on which a question can be read.
const NARROWEST: usize = 40;
/// The longest answer that is read.
const ANSWER_LIMIT: usize = 64;

/// Whether "always" is one of the answers.
#[derive(Debug, Clone)]
pub(super) enum Always {
    /// Not, and why; without a word where there is no file for it.
    No(Option<String>),
    /// It writes this rule into this file.
    Writes { file: PathBuf, rule: String },
}

/// Where the rule has no room: what is not shown whole is not answered.
const NO_ROOM: &str = "the terminal is too small to show the rule";

/// What a person is told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown<'a> {
    pub(super) flow: u64,
    pub(super) what: &'a str,
    pub(super) who: Option<&'a str>,
    pub(super) why: &'a str,
    pub(super) always: &'a Always,
    /// A yes must name the flow.
    pub(super) number: bool,
}

/// A terminal that shows a question. Dropping it gives the screen back.
pub(super) struct Screen {
    terminal: AsyncFd<File>,
    /// The settings that another program of a pipeline had made.
    before: Option<Termios>,
    /// Whether it showed a rule that "always" writes.
    pub(super) offers_always: bool,
}

impl Screen {
    /// Shows a question, and takes answers from a moment later on. An error where it can't be shown whole.
    pub(super) async fn show(terminal: File, shown: Shown<'_>) -> io::Result<Self> {
        let size = tcgetwinsize(&terminal)?;
        // Some terminals do not know their size.
        let or = |value: u16, usual| if value == 0 { usual } else { usize::from(value) };
        let (rows, columns) = (or(size.ws_row, 24), or(size.ws_col, 80));
        let fits = |text: &String| text.lines().count() + 2 <= rows;
        let (no_room, mut text) = (Always::No(Some(NO_ROOM.to_owned())), layout(shown, columns));
        let mut offers_always = matches!(shown.always, Always::Writes { .. });
        if offers_always && !fits(&text) {
            offers_always = false;
            text = layout(Shown { always: &no_room, ..shown }, columns);
        }
        if columns < NARROWEST || !fits(&text) {
            return Err(io::Error::other("the terminal is too small for the question"));
        }
        #[expect(deprecated, reason = "the safe form; a File owns its descriptor for as long as this lives")]
        let screen = Self { before: take_lines(&terminal)?, terminal: AsyncFd::new(terminal)?, offers_always };
        screen.write(&format!("{ENTER}{CLEAR}{text}"))?;
        tokio::time::sleep(NOT_YET).await;
        // Once more: what another program of a pipeline still had to show is shown by now.
        screen.write(&format!("{CLEAR}{text}"))?;
        tcflush(screen.terminal.get_ref().as_fd(), QueueSelector::IFlush)?;
        screen.write("a letter, then Enter > ")?;
        Ok(screen)
    }

    /// Writes a text of ours.
    pub(super) fn write(&self, text: &str) -> io::Result<()> {
        self.terminal.get_ref().write_all(text.as_bytes())
    }

    /// Reads a line; `None` at the end of the terminal.
    pub(super) async fn line(&self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        loop {
            let mut ready = self.terminal.readable().await?;
            let mut buffer = [0; ANSWER_LIMIT];
            match ready.try_io(|terminal| terminal.get_ref().read(&mut buffer)) {
                Err(_would_block) => continue,
                Ok(Ok(0)) => return Ok(None),
                Ok(Ok(count)) => line.extend(buffer.iter().take(count)),
                Ok(Err(error)) => return Err(error),
            }
            if line.ends_with(b"\n") || line.len() >= ANSWER_LIMIT {
                return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing anyway.
        let _ = self.write(LEAVE);
        let terminal = self.terminal.get_ref();
        let _ = self.before.as_ref().map(|before| tcsetattr(terminal, OptionalActions::Now, before));
    }
}

/// Makes a terminal take lines and show what is typed. Gives the settings that it had, where they were others.
fn take_lines(terminal: &File) -> io::Result<Option<Termios>> {
    let before = tcgetattr(terminal)?;
    let (usual, ends) = (LocalModes::ICANON | LocalModes::ECHO, InputModes::ICRNL);
    if before.local_modes.contains(usual) && before.input_modes.contains(ends) {
        return Ok(None);
    }
    let mut lines = before.clone();
    lines.local_modes |= usual | LocalModes::ISIG;
    lines.input_modes |= ends;
    lines.output_modes |= OutputModes::OPOST | OutputModes::ONLCR;
    tcsetattr(terminal, OptionalActions::Now, &lines)?;
    Ok(Some(before))
}

/// The text of a question. Where it goes is never cut; the process, most of it chosen by the workload, has one line.
fn layout(shown: Shown<'_>, columns: usize) -> String {
    let Shown { flow, what, who, why, always, number } = shown;
    let mut text = "cofferdam asks: may this leave?\n\n".to_owned();
    text += &field("  what  ", what, columns, usize::MAX);
    text += &field("  who   ", who.unwrap_or("unknown"), columns, 1);
    text += &field("  why   ", why, columns, 3);
    text += "\n";
    text += &field("  [o] ", "once", columns, 1);
    text += &field("  [r] ", "this run: whatever goes to this host and port", columns, 2);
    match always {
        Always::Writes { file, rule } => {
            text += &field("  [a] ", &format!("always: write a rule into {}", file.display()), columns, 3);
            text += &field("      ", rule, columns, usize::MAX);
        }
        Always::No(Some(why)) => text += &field("      ", &format!("no \"always\" here: {why}"), columns, 2),
        Always::No(None) => {}
    }
    text += &field("  [d] ", "deny", columns, 1);
    if number {
        let say = format!("Another was taken back just now. To allow this one add its number: o {flow}");
        text += &field("  ", &say, columns, 3);
    }
    text
}

/// A label and a text in the columns to the right of it, on so many lines. White space counts as one space.
fn field(label: &str, text: &str, columns: usize, lines: usize) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    // The last column stays free: terminals differ in what happens behind it.
    let room = columns.saturating_sub(label.len() + 1).max(2);
    let mut rows = vec![String::new()];
    let mut used = 0;
    for character in text.chars() {
        // What is no ASCII may be twice as wide.
        let width = if character.is_ascii() { 1 } else { 2 };
        // The last line keeps room for the mark that it was cut.
        let keep = if rows.len() >= lines { 2 } else { 0 };
        if used + width + keep > room {
            if rows.len() >= lines {
                rows.last_mut().into_iter().for_each(|row| row.push('…'));
                break;
            }
            rows.push(String::new());
            used = 0;
        }
        rows.last_mut().into_iter().for_each(|row| row.push(character));
        used += width;
    }
    let indented = format!("\n{}", " ".repeat(label.len()));
    format!("{label}{}\n", rows.join(&indented))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, proptest};

    use super::{Always, Shown, field, layout};

    const PLAIN: Shown<'_> = Shown {
        flow: 12,
        what: "evil.example:443",
        who: None,
        why: "rule ask: it says so",
        always: &Always::No(None),
        number: false,
    };

    #[test]
    fn arguments_make_no_field() {
        for columns in 40..200 {
            let spaces = " ".repeat(columns);
            let who = format!("/bin/curl (pid 7): curl {spaces}  what  api.github.com:443{spaces}  what  x");
            let text = layout(Shown { who: Some(&who), ..PLAIN }, columns);
            let fields: Vec<&str> = text.lines().filter(|line| line.trim_start().starts_with("what")).collect();
            assert_eq!(fields, ["  what  evil.example:443"], "{text}");
        }
    }

    #[test]
    fn where_it_goes_is_shown_whole_and_a_number_where_one_is_due() {
        let host = format!("{}.evil.example:443", "a.".repeat(120).trim_end_matches('.'));
        let rule = format!("{{{}}}", "\"x\":1,".repeat(60));
        let always = Always::Writes { file: "policy.yaml".into(), rule: rule.clone() };
        let shown = Shown { what: &host, always: &always, number: true, ..PLAIN };
        let text = layout(shown, 80);
        let joined: String = text.split_whitespace().collect();
        assert!(joined.contains(&host) && text.contains("write a rule into policy.yaml"), "{text}");
        assert!(joined.contains(&rule), "{text}");
        assert!(text.contains("add its number: o 12"), "{text}");
    }

    proptest! {
        #[test]
        fn a_field_keeps_to_its_columns(text in ".{0,400}", columns in 40usize..200, lines in 1usize..5) {
            let shown = field("  who   ", &text, columns, lines);
            prop_assert!(shown.lines().count() <= lines);
            for line in shown.split('\n') {
                let width: usize = line.chars().map(|one| if one.is_ascii() { 1 } else { 2 }).sum();
                prop_assert!(width < columns);
            }
        }
    }
}
