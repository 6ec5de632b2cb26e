//! The caller's terminal, while the workload has one of its own.
//!
//! ```text
//! the caller's terminal (raw)  ⇄  a thread here  ⇄  master | slave  ⇄  the workload
//! ```
//! The workload never holds the caller's terminal, so it can't type into it, or change what stands behind it. A
//! prompt of ours pauses the copying: the terminal is as it was before, until the prompt is done.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

/// The signal handler's way to the copying thread.
static RESIZED: AtomicI32 = AtomicI32::new(-1);

/// Told to the thread, one byte each.
const RESIZE: u8 = b'r';
const PAUSE: u8 = b'p';
const FINISH: u8 = b'f';

/// How long what is left of the workload's output may take to come, once the workload is gone.
const LEFT_OVER: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Why the terminal can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// Its settings.
    #[error("the terminal's settings can't be {what}")]
    Settings {
        /// Read or changed.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The copying.
    #[error("the terminal can't be copied to and from")]
    Copy(#[source] io::Error),
}

/// Rows and columns of the caller's terminal, where standard input and output are one.
pub fn console_size() -> Option<(u16, u16)> {
    let (input, output) = (rustix::stdio::stdin(), rustix::stdio::stdout());
    if !isatty(input) || !isatty(output) {
        return None;
    }
    let size = tcgetwinsize(output).ok()?;
    // Some terminals do not know their size.
    let or = |value: u16, usual| if value == 0 { usual } else { value };
    Some((or(size.ws_row, 24), or(size.ws_col, 80)))
}

/// The caller's terminal, connected to the workload's.
#[derive(Debug)]
pub struct Console {
    settings: Arc<Settings>,
    word: OwnedFd,
    paused: Receiver<()>,
    resume: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The terminal as it was.
#[derive(Debug)]
struct Settings {
    before: Termios,
}

/// While it lives, the terminal is as it was, and nothing of the workload appears on it.
#[derive(Debug)]
pub struct Paused<'a> {
    console: &'a Console,
}

impl Console {
    /// Makes the caller's terminal raw and connects it to the workload's.
    pub fn attach(master: OwnedFd) -> Result<Console, ConsoleError> {
        let settings = Arc::new(Settings::read()?);
        let (hears, word) =
            pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(|errno| ConsoleError::Copy(errno.into()))?;
        ioctl_fionbio(&master, true).map_err(|errno| ConsoleError::Copy(errno.into()))?;
        watch_size(&word)?;
        settings.make_raw()?;
        let (tell_paused, paused) = channel();
        let (resume, resumed) = channel();
        let copier = Copier { master, hears, settings: Arc::clone(&settings), tell_paused, resumed };
        let thread = std::thread::Builder::new().name("console".to_owned()).spawn(move || copier.run());
        match thread {
            Ok(thread) => Ok(Console { settings, word, paused, resume: Some(resume), thread: Some(thread) }),
            Err(error) => {
                settings.restore();
                Err(ConsoleError::Copy(error))
            }
        }
    }

    /// Stops copying and gives the terminal back until the value is dropped.
    pub fn pause(&self) -> Paused<'_> {
        if rustix::io::write(&self.word, &[PAUSE]).is_ok() {
            // An error means that the thread has ended, which restored the terminal.
            let _ = self.paused.recv();
        }
        Paused { console: self }
    }

    /// Copies what is left and gives the terminal back. Call it when the workload has ended.
    pub fn finish(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        RESIZED.store(-1, Ordering::SeqCst);
        let _ = rustix::io::write(&self.word, &[FINISH]);
        self.resume = None;
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has nothing more to copy.
            let _ = thread.join();
        }
        self.settings.restore();
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.stop();
        }
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        if let Some(resume) = &self.console.resume {
            // Without a thread there is nothing to go on.
            let _ = resume.send(());
        }
    }
}

impl Settings {
    fn read() -> Result<Settings, ConsoleError> {
        let before = tcgetattr(rustix::stdio::stdin())
            .map_err(|errno| ConsoleError::Settings { what: "read", source: errno.into() })?;
        Ok(Settings { before })
    }

    fn make_raw(&self) -> Result<(), ConsoleError> {
        let mut raw = self.before.clone();
        raw.make_raw();
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &raw)
            .map_err(|errno| ConsoleError::Settings { what: "changed", source: errno.into() })
    }

    fn restore(&self) {
        // A terminal that is gone needs nothing.
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &self.before);
    }
}

/// What the thread has.
struct Copier {
    master: OwnedFd,
    hears: OwnedFd,
    settings: Arc<Settings>,
    tell_paused: Sender<()>,
    resumed: Receiver<()>,
}

/// Whether the copying goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    On,
    End,
}

impl Copier {
    fn run(self) {
        self.resize();
        let (mut typed, mut typing) = (Vec::new(), true);
        while self.step(&mut typed, &mut typing) == Next::On {}
        self.settings.restore();
    }

    /// Waits for something to copy and copies it. What is typed waits in `typed` where the workload does not read:
    /// its output must still be copied then, or both would wait for each other.
    fn step(&self, typed: &mut Vec<u8>, typing: &mut bool) -> Next {
        let input = rustix::stdio::stdin();
        let interest = if typed.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
        let mut watched = vec![PollFd::new(&self.hears, PollFlags::IN), PollFd::new(&self.master, interest)];
        if *typing && typed.is_empty() {
            watched.push(PollFd::from_borrowed_fd(input, PollFlags::IN));
        }
        match poll(&mut watched, None) {
            Ok(_) => {}
            Err(Errno::INTR) => return Next::On,
            Err(_) => return Next::End,
        }
        let ready: Vec<PollFlags> = watched.iter().map(PollFd::revents).collect();
        let [word, output, keys @ ..] = ready.as_slice() else { return Next::End };
        if !word.is_empty() && self.listen() == Next::End {
            return Next::End;
        }
        let gone = PollFlags::HUP | PollFlags::ERR;
        if output.intersects(PollFlags::IN | gone) && copy(self.master.as_fd(), rustix::stdio::stdout()) == Next::End {
            return Next::End;
        }
        if keys.iter().any(|ready| !ready.is_empty()) {
            // The end of what is typed is an end on our side alone.
            *typing = read(input, typed) == Next::On;
        }
        match rustix::io::write(&self.master, typed) {
            Ok(written) => drop(typed.drain(..written)),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => return Next::End,
        }
        Next::On
    }

    fn listen(&self) -> Next {
        let mut word = [0_u8; 1];
        if !rustix::io::read(&self.hears, word.as_mut_slice()).is_ok_and(|filled| filled == 1) {
            return Next::End;
        }
        match word {
            [RESIZE] => self.resize(),
            [PAUSE] => {
                self.settings.restore();
                let waiting = self.tell_paused.send(()).is_ok();
                if !waiting || self.resumed.recv().is_err() || self.settings.make_raw().is_err() {
                    return Next::End;
                }
            }
            _ => {
                while soon(self.master.as_fd()) && copy(self.master.as_fd(), rustix::stdio::stdout()) == Next::On {}
                return Next::End;
            }
        }
        Next::On
    }

    fn resize(&self) {
        if let Ok(size) = tcgetwinsize(rustix::stdio::stdout()) {
            // The kernel tells the workload's foreground processes.
            let _ = tcsetwinsize(&self.master, size);
        }
    }
}

/// Whether there is something to read, or will be very soon.
fn soon(descriptor: BorrowedFd<'_>) -> bool {
    poll(&mut [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)], Some(&LEFT_OVER)).is_ok_and(|ready| ready > 0)
}

/// Copies what is there.
fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Next {
    let mut bytes = Vec::new();
    if read(from, &mut bytes) == Next::End {
        return Next::End;
    }
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        match rustix::io::write(to, rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            // The caller's terminal may be non-blocking: somebody else's setting, which is left alone.
            Err(Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::from_borrowed_fd(to, PollFlags::OUT)], None);
            }
            Err(_) => return Next::End,
        }
    }
    Next::On
}

/// Reads what is there.
fn read(from: BorrowedFd<'_>, into: &mut Vec<u8>) -> Next {
    let mut buffer = [0_u8; 16 * 1024];
    match rustix::io::read(from, buffer.as_mut_slice()) {
        Ok(0) => Next::End,
        Ok(filled) => {
            into.extend_from_slice(buffer.get(..filled).unwrap_or_default());
            Next::On
        }
        Err(Errno::INTR | Errno::AGAIN) => Next::On,
        // A master whose other end is closed reads as EIO.
        Err(_) => Next::End,
    }
}

/// From now on a change of the terminal's size is a word to the thread.
fn watch_size(word: &OwnedFd) -> Result<(), ConsoleError> {
    use std::os::fd::AsRawFd;
    RESIZED.store(word.as_raw_fd(), Ordering::SeqCst);
    let handler: extern "C" fn(libc::c_int) = on_resize;
    // SAFETY: an all-zero sigaction is a valid one.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the handler makes async-signal-safe calls only, and lives as long as the program.
    if unsafe { libc::sigaction(libc::SIGWINCH, &raw const action, std::ptr::null_mut()) } != 0 {
        return Err(ConsoleError::Copy(io::Error::last_os_error()));
    }
    Ok(())
}

extern "C" fn on_resize(_: libc::c_int) {
    let word = RESIZED.load(Ordering::SeqCst);
    if word >= 0 {
        // SAFETY: writes one byte to a pipe by number; errno is put back for the code that was interrupted.
        unsafe {
            let errno = *libc::__errno_location();
            libc::write(word, [RESIZE].as_ptr().cast(), 1);
            *libc::__errno_location() = errno;
        }
    }
}
