//! The thread between the caller's terminal and the workload's.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::termios::{LocalModes, OutputModes, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetwinsize};

use super::filter::Filter;
use super::keyboard::{Keyboard, Whose};
use super::worker::{Ear, Word};
use super::{ConsoleError, Next, try_again};
use crate::standard::Caller;

/// How long what is left of the workload's output may take to come, once the workload is gone.
const LEFT_OVER: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// How often it is seen whose the keys are, where that may change without a sign.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// How long a line must have been there, unread by others, before it is the workload's.
const UNREAD: Duration = Duration::from_millis(100);
/// What is copied at once.
const CHUNK: usize = 16 * 1024;

/// What the thread has.
pub(super) struct Copier {
    master: OwnedFd,
    screen: OwnedFd,
    keyboard: Keyboard,
    filter: Option<Filter>,
    is_input: bool,
    whose: Whose,
    /// Typed, and not yet taken by the workload: its output must still be copied then, or both would wait.
    typed: Vec<u8>,
    /// Since when a line waits in the caller's terminal.
    line_since: Option<Instant>,
    /// What the workload's terminal will echo and the caller's has echoed already.
    echo: Vec<u8>,
    /// The cursor stands behind a text, as behind a prompt.
    in_line: bool,
}

impl Copier {
    pub(super) fn new(caller: Caller, master: OwnedFd, filter: Option<Filter>) -> Result<Copier, ConsoleError> {
        ioctl_fionbio(&master, true).map_err(|errno| ConsoleError::Copy(errno.into()))?;
        Ok(Copier {
            master,
            screen: caller.screen,
            keyboard: Keyboard::new(caller.keys, caller.is_shared)?,
            filter,
            is_input: caller.is_input,
            whose: Whose::Others,
            typed: Vec::new(),
            line_since: None,
            echo: Vec::new(),
            in_line: false,
        })
    }

    pub(super) fn run(mut self, ear: &Ear) -> Result<(), Errno> {
        block_terminal_stops();
        self.resize();
        while self.step(ear) == Next::On {}
        self.keyboard.restore();
        Ok(())
    }

    /// Waits for something to copy and copies it.
    fn step(&mut self, ear: &Ear) -> Next {
        let looks = match self.whose {
            Whose::Others | Whose::Anybodys => true,
            Whose::Workloads => self.keyboard.is_shared(),
            Whose::Nobodys => false,
        };
        if looks {
            self.whose = self.keyboard.follow(self.master.as_fd());
        }
        let interest = if self.typed.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
        let mut watched = vec![PollFd::new(ear, PollFlags::IN), PollFd::new(&self.master, interest)];
        if self.wants_keys() {
            watched.push(PollFd::new(&self.keyboard, PollFlags::IN));
        }
        match poll(&mut watched, looks.then_some(&LOOK)) {
            Ok(_) => {}
            Err(Errno::INTR) => return Next::On,
            Err(_) => return Next::End,
        }
        let ready: Vec<PollFlags> = watched.iter().map(PollFd::revents).collect();
        let [word, output, keys @ ..] = ready.as_slice() else { return Next::End };
        if !word.is_empty() {
            return self.listen(ear);
        }
        let gone = PollFlags::HUP | PollFlags::ERR;
        if output.intersects(PollFlags::IN | gone) && self.copy_output() == Next::End {
            return Next::End;
        }
        match keys.first() {
            Some(ready) if !ready.is_empty() => self.keys(ready.intersects(gone)),
            Some(_) => self.line_since = None,
            None => {}
        }
        self.pass_typed()
    }

    /// A line that others may read is looked for again when it has waited long enough.
    fn wants_keys(&self) -> bool {
        match self.whose {
            Whose::Workloads => self.typed.is_empty(),
            Whose::Anybodys => {
                let waited = self.line_since.is_none_or(|since| since.elapsed() >= UNREAD);
                waited && self.typed.is_empty() && (self.is_input || self.in_line)
            }
            Whose::Others | Whose::Nobodys => false,
        }
    }

    fn keys(&mut self, is_gone: bool) {
        match (self.whose, self.line_since) {
            (Whose::Anybodys, None) if !is_gone => self.line_since = Some(Instant::now()),
            (Whose::Workloads | Whose::Anybodys, _) => {
                self.line_since = None;
                self.read_keys(is_gone);
            }
            (Whose::Others | Whose::Nobodys, _) => {}
        }
    }

    fn read_keys(&mut self, is_gone: bool) {
        let mut buffer = [0_u8; CHUNK];
        match rustix::io::read(&self.keyboard, buffer.as_mut_slice()) {
            // In a terminal that takes lines: the end-of-file key, on a line of its own.
            Ok(0) if self.whose == Whose::Anybodys && !is_gone => self.typed.extend(self.end_of_file()),
            // The end of what is typed is an end on our side alone.
            Ok(0) => self.whose = Whose::Nobodys,
            Ok(filled) => {
                let typed = buffer.get(..filled).unwrap_or_default();
                self.typed.extend_from_slice(typed);
                if self.whose == Whose::Anybodys && self.echoes() {
                    self.echo = echo_of(typed);
                }
            }
            Err(errno) if try_again(errno) => {}
            // In the background; a terminal that is gone is found out next.
            Err(_) => self.whose = Whose::Others,
        }
    }

    fn end_of_file(&self) -> Option<u8> {
        let inside = tcgetattr(&self.master).ok()?;
        inside.local_modes.contains(LocalModes::ICANON).then(|| inside.special_codes[SpecialCodeIndex::VEOF])
    }

    fn echoes(&self) -> bool {
        tcgetattr(&self.master).is_ok_and(|inside| inside.local_modes.contains(LocalModes::ECHO))
    }

    /// Whether both the workload's terminal and the caller's put a return before each new line.
    fn ends_lines(&self) -> bool {
        let does = |inside: Termios| inside.output_modes.contains(OutputModes::OPOST | OutputModes::ONLCR);
        match self.whose {
            Whose::Workloads if !self.keyboard.is_shared() => false,
            Whose::Workloads | Whose::Anybodys | Whose::Others => tcgetattr(&self.master).is_ok_and(does),
            Whose::Nobodys => false,
        }
    }

    fn pass_typed(&mut self) -> Next {
        if self.typed.is_empty() {
            return Next::On;
        }
        match rustix::io::write(&self.master, &self.typed) {
            Ok(written) => drop(self.typed.drain(..written)),
            Err(errno) if try_again(errno) => {}
            Err(_) => return Next::End,
        }
        Next::On
    }

    fn listen(&mut self, ear: &Ear) -> Next {
        match ear.hear() {
            Word::Changed => {
                self.resize();
                self.whose = self.keyboard.follow(self.master.as_fd());
            }
            Word::Pause => {
                self.keyboard.restore();
                // A sequence that the workload did not end is over, as a prompt ends it on the terminal.
                self.filter = self.filter.take().map(|_| Filter::default());
                if !ear.wait() {
                    return Next::End;
                }
                // What was typed for a prompt, and a window that changed meanwhile.
                self.line_since = None;
                self.resize();
                self.whose = self.keyboard.follow(self.master.as_fd());
            }
            Word::Finish => {
                while soon(self.master.as_fd()) && self.copy_output() == Next::On {}
                return Next::End;
            }
        }
        Next::On
    }

    fn resize(&self) {
        if let Ok(size) = tcgetwinsize(&self.screen) {
            // The kernel tells the workload's foreground processes.
            let _ = tcsetwinsize(&self.master, size);
        }
    }

    /// Copies what is there.
    fn copy_output(&mut self) -> Next {
        let mut buffer = [0_u8; CHUNK];
        let filled = match rustix::io::read(&self.master, buffer.as_mut_slice()) {
            Ok(0) => return Next::End,
            Ok(filled) => filled,
            Err(errno) if try_again(errno) => return Next::On,
            // A master whose other end is closed reads as EIO.
            Err(_) => return Next::End,
        };
        let output = without_echo(buffer.get(..filled).unwrap_or_default(), &mut self.echo);
        if let Some(last) = output.last() {
            self.in_line = *last != b'\n';
        }
        // The caller's terminal makes its own ends of lines, as long as it is not raw.
        let single;
        let output = if self.ends_lines() {
            single = without_returns(output);
            &single
        } else {
            output
        };
        let Some(filter) = &mut self.filter else { return write_all(self.screen.as_fd(), output) };
        let mut shown = Vec::with_capacity(output.len());
        filter.push(output, &mut shown);
        write_all(self.screen.as_fd(), &shown)
    }
}

fn without_returns(output: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(output.len());
    for (at, byte) in output.iter().enumerate() {
        if *byte != b'\r' || output.get(at + 1) != Some(&b'\n') {
            lines.push(*byte);
        }
    }
    lines
}

/// What a terminal that takes lines writes back.
fn echo_of(typed: &[u8]) -> Vec<u8> {
    let mut echo = Vec::with_capacity(typed.len() + 1);
    for byte in typed {
        match byte {
            b'\n' => echo.extend_from_slice(b"\r\n"),
            b'\t' => echo.push(b'\t'),
            0..=0x1f => echo.extend_from_slice(&[b'^', byte + b'@']),
            _ => echo.push(*byte),
        }
    }
    echo
}

/// Takes what is expected as an echo from the front of an output. Another output ends the expectation.
fn without_echo<'a>(output: &'a [u8], echo: &mut Vec<u8>) -> &'a [u8] {
    let same = output.iter().zip(echo.iter()).take_while(|(one, other)| one == other).count();
    if same == echo.len() || same == output.len() {
        echo.drain(..same);
        return output.get(same..).unwrap_or_default();
    }
    echo.clear();
    output
}

/// Whether there is something to read, or will be very soon.
fn soon(descriptor: BorrowedFd<'_>) -> bool {
    poll(&mut [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)], Some(&LEFT_OVER)).is_ok_and(|ready| ready > 0)
}

fn write_all(to: BorrowedFd<'_>, bytes: &[u8]) -> Next {
    let mut rest = bytes;
    while !rest.is_empty() {
        match rustix::io::write(to, rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::from_borrowed_fd(to, PollFlags::OUT)], None);
            }
            Err(_) => return Next::End,
        }
    }
    Next::On
}

/// This thread is refused, not stopped with the whole process, where it touches a terminal in the background.
fn block_terminal_stops() {
    let mut stops = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the set is written by sigemptyset before pthread_sigmask reads it.
    unsafe {
        libc::sigemptyset(stops.as_mut_ptr());
        libc::sigaddset(stops.as_mut_ptr(), libc::SIGTTIN);
        libc::sigaddset(stops.as_mut_ptr(), libc::SIGTTOU);
        libc::pthread_sigmask(libc::SIG_BLOCK, stops.as_ptr(), std::ptr::null_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::{echo_of, without_echo};

    #[test]
    fn what_was_echoed_is_not_shown_twice() {
        let expected = echo_of(b"h\x01i\n");
        assert_eq!(expected, b"h^Ai\r\n");
        for (pieces, shown) in [
            (&["h^Ai\r\nanswer"][..], "answer"),
            (&["h^A", "i\r\nans", "wer"], "answer"),
            (&["other"], "other"),
            (&["h^other", "h^Ai\r\n"], "h^otherh^Ai\r\n"),
        ] {
            let mut echo = expected.clone();
            let mut seen = Vec::new();
            for piece in pieces {
                seen.extend_from_slice(without_echo(piece.as_bytes(), &mut echo));
            }
            assert_eq!(String::from_utf8_lossy(&seen), shown, "{pieces:?}");
        }
    }
}
