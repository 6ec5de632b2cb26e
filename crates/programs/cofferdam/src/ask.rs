//! Questions to the person at the terminal: what, who, why; once, this run, always, or deny.
//!
//! The prompt uses the real terminal (`/dev/tty`), whatever the command's streams are, and pauses the copying of the
//! command's own terminal. Questions come one after another; one whose flow went away is taken back. Without a
//! terminal, or from the background, nobody can be asked: that is a deny.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    os::{fd::AsFd as _, unix::fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use anyhow::{Context as _, Result};
use gateway::{Answer, Question};
use rustix::{
    fs::OFlags,
    io::Errno,
    process::getpgrp,
    termios::{QueueSelector, tcflush, tcgetpgrp},
};
use sandbox::Console;
use tokio::{
    io::unix::AsyncFd,
    sync::{Mutex, mpsc},
};

use crate::policy::{Always, with_allow_rule};

/// How many questions wait for the person; more are denied by the gateway.
pub(crate) const QUESTIONS: usize = 64;
/// The longest answer that is read.
const ANSWER_LIMIT: usize = 64;

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
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().context("starting the prompt")?;
    let answer_all = move || {
        runtime.block_on(async move {
            while let Some(question) = questions.recv().await {
                answer(question, &console, rule_file.as_deref()).await;
            }
        });
    };
    thread::Builder::new().name("ask".to_owned()).spawn(answer_all).context("starting the prompt")?;
    Ok(())
}

async fn answer(mut question: Question, console: &SharedConsole, rule_file: Option<&Path>) {
    if question.reply.is_closed() {
        return;
    }
    let held = console.lock().await;
    let paused = held.as_ref().map(Console::pause);
    let text = prompt(&question, rule_file);
    let answer = tokio::select! {
        answer = ask(&text) => answer,
        () = question.reply.closed() => {
            let _ = open_terminal().and_then(|mut terminal| terminal.write_all(b"\ntoo late: the flow is gone\n"));
            return;
        }
    };
    let answer = answer.unwrap_or(Answer::Deny);
    if answer == Answer::Always
        && let Some(file) = rule_file
    {
        let said = match remember(file, &question) {
            Ok(()) => format!("wrote a rule into {}\n", file.display()),
            Err(error) => format!("allowed for this run only: {error:#}\n"),
        };
        let _ = open_terminal().and_then(|mut terminal| terminal.write_all(said.as_bytes()));
    }
    drop(paused);
    drop(held);
    // Closed in the meantime: the flow is gone, and was denied.
    let _ = question.reply.send(answer);
}

fn prompt(question: &Question, rule_file: Option<&Path>) -> String {
    let who = question.who.as_deref().unwrap_or("unknown");
    let always = match rule_file {
        Some(file) => format!("  [a] always: write a rule into {}\n", file.display()),
        None => String::new(),
    };
    format!(
        "\ncofferdam asks: may this leave?\n  what  {}\n  who   {who}\n  why   {}\n\n  [o] once   [r] this run   [d] deny\n{always}> ",
        question.what, question.why,
    )
}

/// Shows a question until a line that answers it comes.
async fn ask(text: &str) -> io::Result<Answer> {
    #[expect(deprecated, reason = "the safe form; a File owns its descriptor for as long as this lives")]
    let terminal = AsyncFd::new(open_terminal()?)?;
    // What was typed before the question was shown answers something else.
    tcflush(terminal.get_ref().as_fd(), QueueSelector::IFlush)?;
    terminal.get_ref().write_all(text.as_bytes())?;
    let mut line = Vec::new();
    loop {
        let mut ready = terminal.readable().await?;
        let mut buffer = [0; ANSWER_LIMIT];
        match ready.try_io(|terminal| terminal.get_ref().read(&mut buffer)) {
            Err(_would_block) => continue,
            Ok(Ok(0)) => return Ok(Answer::Deny),
            Ok(Ok(count)) => line.extend(buffer.iter().take(count)),
            Ok(Err(error)) => return Err(error),
        }
        if !line.ends_with(b"\n") && line.len() < ANSWER_LIMIT {
            continue;
        }
        if let Some(answer) = understand(&String::from_utf8_lossy(&line)) {
            return Ok(answer);
        }
        line.clear();
        terminal.get_ref().write_all(b"o, r, a or d > ")?;
    }
}

/// What a line says. An empty line is no answer: a person who hits return too often must not allow anything.
fn understand(line: &str) -> Option<Answer> {
    match line.trim().to_ascii_lowercase().as_str() {
        "o" | "once" | "y" | "yes" => Some(Answer::Once),
        "r" | "run" => Some(Answer::ThisRun),
        "a" | "always" => Some(Answer::Always),
        "d" | "deny" | "n" | "no" => Some(Answer::Deny),
        _ => None,
    }
}

/// Writes a rule that allows what was asked into a policy file. In place: the sandbox sees this very file read-only,
/// and a new one under its name would be the workload's to write.
fn remember(file: &Path, question: &Question) -> Result<()> {
    let mut options = OpenOptions::new();
    let opened = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(file);
    let mut opened = opened.with_context(|| format!("opening {}", file.display()))?;
    let mut old = String::new();
    opened.read_to_string(&mut old).with_context(|| format!("reading {}", file.display()))?;
    let always = Always { host: &question.host, port: question.port, asked_by: &question.rule };
    let text = with_allow_rule(Some(&old), always)?;
    let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
    let written =
        opened.rewind().and_then(|()| opened.write_all(text.as_bytes())).and_then(|()| opened.set_len(length));
    written.with_context(|| format!("writing {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_word_is_an_answer() {
        for (line, expected) in [
            ("o\n", Some(Answer::Once)),
            (" Run \n", Some(Answer::ThisRun)),
            ("ALWAYS", Some(Answer::Always)),
            ("n\n", Some(Answer::Deny)),
            ("\n", None),
            ("ok\n", None),
            ("", None),
        ] {
            assert_eq!(understand(line), expected, "{line:?}");
        }
    }
}
