//! Questions to the person at the terminal: what, who, why; once, this run, always, or deny.
//!
//! The prompt uses the real terminal (`/dev/tty`), whatever the command's streams are, and pauses the copying of the
//! command's own terminal. Questions come one after another; one whose flow went away is taken back, and the one
//! behind it wants more than a letter, so that no answer goes to another question than the one that was read. Without
//! a terminal, or from the background, nobody can be asked: that is a deny.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use gateway::{Answer, Question, Reply};
use rustix::{fs::OFlags, io::Errno, process::getpgrp, termios::tcgetpgrp};
use sandbox::Console;
use tokio::sync::{Mutex, mpsc};

use crate::run::Guard;

/// The rule that an "always" writes.
mod always;
/// The terminal while a question stands on it.
mod screen;

use screen::{Always, Screen, Shown};

/// How many questions wait for the person; more are denied by the gateway.
pub(crate) const QUESTIONS: usize = 64;
/// How many questions a person is asked within [`PER`]; more are denied. Who must say no too often says yes.
const AT_MOST: usize = 20;
/// See [`AT_MOST`].
const PER: Duration = Duration::from_secs(60);

/// The console of an interactive command, shared with who ends the run.
pub(crate) type SharedConsole = Arc<Mutex<Option<Console>>>;

/// Whether a person can be asked here: there is a terminal, and we are in its foreground.
pub(crate) fn can_ask() -> bool {
    let Ok(terminal) = open_terminal() else { return false };
    match tcgetpgrp(&terminal) {
        Ok(foreground) => foreground == getpgrp(),
        // The terminal's foreground lives in an outer pid namespace, as for everything in a container.
        Err(Errno::OPNOTSUPP) => true,
        Err(_) => false,
    }
}

fn open_terminal() -> io::Result<File> {
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC).bits()).unwrap_or_default();
    OpenOptions::new().read(true).write(true).custom_flags(flags).open("/dev/tty")
}

/// Answers questions until the gateway is gone.
pub(crate) fn start(
    mut questions: mpsc::Receiver<Question>,
    console: SharedConsole,
    rule_file: Option<PathBuf>,
    guard: Guard,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .context("starting the prompt")?;
    let answer_all = move || {
        runtime.block_on(async move {
            let mut asking = Asking::default();
            while let Some(question) = questions.recv().await {
                asking.answer(question, &console, rule_file.as_deref(), &guard).await;
            }
        });
    };
    thread::Builder::new().name("ask".to_owned()).spawn(answer_all).context("starting the prompt")?;
    Ok(())
}

/// What is known of the questions before.
#[derive(Debug, Default)]
struct Asking {
    /// When the last ones were shown.
    shown: VecDeque<Instant>,
    /// The last one was taken back, and an answer to it may be on its way.
    taken_back: bool,
}

impl Asking {
    async fn answer(
        &mut self,
        mut question: Question,
        console: &SharedConsole,
        rule_file: Option<&Path>,
        guard: &Guard,
    ) {
        // A reply that is dropped is a deny, recorded as one that nobody gave.
        if question.reply.is_closed() || !self.may_ask(Instant::now()) {
            return;
        }
        let held = console.lock().await;
        let paused = held.as_ref().map(Console::pause);
        let rule = rule_file.map(|file| (file, always::rule(file, &question, guard)));
        let always = match &rule {
            None => Always::No(None),
            Some((_, Err(error))) => Always::No(Some(format!("{error:#}"))),
            Some((file, Ok(rule))) => Always::Writes { file: file.to_path_buf(), rule: rule.shown() },
        };
        let shown = Shown {
            flow: question.flow,
            what: &question.what,
            who: question.who.as_deref(),
            why: &question.why,
            always: &always,
            number: self.taken_back,
        };
        let asked = tokio::select! {
            asked = ask(shown) => asked,
            () = question.reply.closed() => {
                self.taken_back = true;
                say("\ntoo late: the flow is gone\n");
                return;
            }
        };
        let answer = match asked {
            Ok(answer) => answer,
            Err(error) => {
                say(&format!("\ncofferdam: denied {}: {error}\n", question.what));
                return;
            }
        };
        self.taken_back = false;
        if answer == Answer::Always
            && let Some((file, Ok(rule))) = &rule
        {
            match always::write(file, rule, guard) {
                Ok(()) => say(&format!("wrote a rule into {}\n", file.display())),
                Err(error) => say(&format!("allowed for this run only: {error:#}\n")),
            }
        }
        drop(paused);
        drop(held);
        // Closed in the meantime: the flow is gone, and was denied.
        let _ = question.reply.send(Reply { answer, by: Some(by()) });
    }

    /// Counts a question, where there may be another one now.
    fn may_ask(&mut self, now: Instant) -> bool {
        while self.shown.front().is_some_and(|shown| now.duration_since(*shown) >= PER) {
            self.shown.pop_front();
        }
        let may = self.shown.len() < AT_MOST;
        if may {
            self.shown.push_back(now);
        }
        may
    }
}

/// Who sits at the terminal: the user that this process is, as the system's own list names it.
fn by() -> String {
    let uid = rustix::process::getuid().as_raw();
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| format!("uid {uid}"))
}

/// Tells the person something; where it can't be told there is nobody.
fn say(text: &str) {
    let _ = open_terminal().and_then(|mut terminal| terminal.write_all(text.as_bytes()));
}

/// Shows a question until a line that answers it comes.
async fn ask(shown: Shown<'_>) -> io::Result<Answer> {
    let screen = Screen::show(open_terminal()?, shown).await?;
    let number = shown.number.then_some(shown.flow);
    while let Some(line) = screen.line().await? {
        match understand(&line, number) {
            Some(Answer::Always) if !screen.offers_always => {}
            Some(answer) => return Ok(answer),
            None => {}
        }
        match (number, screen.offers_always) {
            (Some(number), true) => screen.write(&format!("o, r or a with {number}, or d > "))?,
            (Some(number), false) => screen.write(&format!("o or r with {number}, or d > "))?,
            (None, true) => screen.write("o, r, a or d > ")?,
            (None, false) => screen.write("o, r or d > ")?,
        }
    }
    Ok(Answer::Deny)
}

/// What a line says. An empty line is no answer: a person who hits return too often must not allow anything.
fn understand(line: &str, number: Option<u64>) -> Option<Answer> {
    let line = line.trim().to_ascii_lowercase();
    let (word, behind) = line.split_once(' ').unwrap_or((&line, ""));
    let answer = match word {
        "o" | "once" | "y" | "yes" => Answer::Once,
        "r" | "run" => Answer::ThisRun,
        "a" | "always" => Answer::Always,
        "d" | "deny" | "n" | "no" => Answer::Deny,
        _ => return None,
    };
    let expected = number.map(|number| number.to_string()).unwrap_or_default();
    (behind.trim() == expected || (answer == Answer::Deny && behind.is_empty())).then_some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_word_is_an_answer() {
        for (line, number, expected) in [
            ("o\n", None, Some(Answer::Once)),
            (" Run \n", None, Some(Answer::ThisRun)),
            ("ALWAYS", None, Some(Answer::Always)),
            ("n\n", None, Some(Answer::Deny)),
            ("\n", None, None),
            ("ok\n", None, None),
            ("", None, None),
            ("o 7", None, None),
            ("o", Some(7), None),
            ("o 8", Some(7), None),
            ("o 7x", Some(7), None),
            ("o  7\n", Some(7), Some(Answer::Once)),
            ("d", Some(7), Some(Answer::Deny)),
        ] {
            assert_eq!(understand(line, number), expected, "{line:?}");
        }
    }

    #[test]
    fn questions_are_bounded_in_time() {
        let (mut asking, start) = (Asking::default(), Instant::now());
        assert_eq!((0..100).filter(|_| asking.may_ask(start)).count(), AT_MOST);
        assert!(!asking.may_ask(start + PER / 2));
        assert!(asking.may_ask(start + PER));
    }
}
