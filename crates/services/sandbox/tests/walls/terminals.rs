//! Interactive programs and the console, on a pseudo-terminal of the test's own.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use sandbox::{Console, GroupLimits, Passed, Spec, Standard};

use crate::bench::{Bench, as_anybody};

/// Set in the run that stands on the test's terminal.
const ON_TERMINAL: &str = "SANDBOX_TEST_ON_TERMINAL";
/// A bound for what never comes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A person at a terminal.
struct Person {
    master: File,
    slave: OwnedFd,
    seen: String,
    heard: Receiver<String>,
    program: Child,
}

impl Person {
    /// Starts this test program again with a terminal, to do as `role` says.
    fn starts(role: &str) -> Person {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        let size = Winsize { ws_row: 30, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&slave, size).unwrap();
        let name = std::thread::current().name().unwrap().to_owned();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", &name, "--nocapture"]).env(ON_TERMINAL, role);
        for set in [Command::stdin, Command::stdout, Command::stderr] {
            set(&mut command, slave.try_clone().unwrap());
        }
        // SAFETY: two calls that are safe between fork and exec.
        unsafe {
            command.pre_exec(|| {
                rustix::process::setsid()?;
                rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
                Ok(())
            });
        }
        let program = command.spawn().unwrap();
        let (tell, heard) = channel();
        let mut reader = File::from(master.try_clone().unwrap());
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut bytes) {
                if tell.send(String::from_utf8_lossy(&bytes[..length]).into_owned()).is_err() {
                    return;
                }
            }
        });
        Person { master: master.into(), slave, seen: String::new(), heard, program }
    }

    #[track_caller]
    fn sees(&mut self, text: &str) {
        while !self.seen.contains(text) {
            match self.heard.recv_timeout(PATIENCE) {
                Ok(more) => self.seen.push_str(&more),
                Err(_) => panic!("{text:?} never came: {:?}; {:?}", self.seen, self.program.try_wait()),
            }
        }
        let end = self.seen.find(text).unwrap() + text.len();
        self.seen.drain(..end);
    }

    fn types(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    fn cooked(&self) -> bool {
        tcgetattr(self.slave.as_fd()).unwrap().local_modes.contains(LocalModes::ICANON | LocalModes::ECHO)
    }

    fn ends_with(mut self, code: i32) {
        assert_eq!(self.program.wait().unwrap().code(), Some(code));
        assert!(self.cooked(), "the terminal is as it was");
    }
}

/// In the run on the terminal: a command with a terminal of its own.
fn interactive(command: &[&str]) -> ! {
    let mut bench = Bench::new(command);
    bench.request.environment.push(("PS1".to_owned(), "inside$ ".into()));
    bench.request.environment.push(("TERM".to_owned(), "xterm".into()));
    on_terminal(bench, |_| ());
}

/// Runs it with a terminal of its own, and ends with its code.
fn on_terminal(mut bench: Bench, meanwhile: impl FnOnce(&Console)) -> ! {
    let standard = Standard::of_this_process(true).unwrap();
    bench.request.terminal = standard.terminal;
    let plan = bench.request.plan().unwrap().plan;
    let started = sandbox::start(&Spec { plan, limits: GroupLimits::default(), streams: standard.streams }).unwrap();
    let running = started.sandbox.run().unwrap();
    let console = Console::attach(standard.outside, started.terminal, Passed::Harmless).unwrap();
    meanwhile(&console);
    let exit = running.wait();
    console.finish().unwrap();
    std::process::exit(exit.code().into());
}

#[test]
fn a_shell_works_on_a_terminal_of_its_own() {
    if std::env::var_os(ON_TERMINAL).is_some() {
        interactive(&["bash", "--norc", "--noprofile", "-i"]);
    }
    as_anybody(|| {
        let mut person = Person::starts("shell");
        person.sees("inside$ ");
        person.types("tty; stty size\n");
        person.sees("/dev/pts/0");
        person.sees("30 100");
        // Job control: the interrupt reaches the foreground job, not the shell.
        person.sees("inside$ ");
        person.types("bash -c 'trap \"echo cau\"ght\"; exit\" INT; echo star\"\"ted; while :; do :; done'\n");
        person.sees("started");
        person.types("\x03");
        person.sees("caught");
        person.sees("inside$ ");
        person.types("echo after=$((40 + 2))\n");
        person.sees("after=42");
        person.sees("inside$ ");
        let size = Winsize { ws_row: 50, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&person.slave, size).unwrap();
        person.types("until [ \"$(stty size)\" = '50 120' ]; do :; done; echo resized=$((1 + 1))\n");
        person.sees("resized=2");
        person.types("exit 9\n");
        person.ends_with(9);
    });
}

#[test]
fn what_is_pasted_and_what_is_printed_do_not_wait_for_each_other() {
    if std::env::var_os(ON_TERMINAL).is_some() {
        interactive(&[
            "bash",
            "-c",
            "stty raw -echo; echo up; head -c 300000 /dev/zero | tr '\\0' x; head -c 200000 | wc -c",
        ]);
    }
    let mut person = Person::starts("paste");
    person.sees("up");
    let mut master = person.master.try_clone().unwrap();
    let paste = std::thread::spawn(move || master.write_all(&vec![b'y'; 200_000]).unwrap());
    person.sees("200000");
    paste.join().unwrap();
    person.ends_with(0);
}

#[test]
fn a_prompt_gets_the_terminal_as_it_was() {
    if std::env::var_os(ON_TERMINAL).is_some() {
        let bench = Bench::bash("echo up; read answer; echo answered $answer");
        on_terminal(bench, |console| {
            let paused = console.pause();
            println!("allow?");
            let mut answer = String::new();
            std::io::stdin().read_line(&mut answer).unwrap();
            println!("person said {}", answer.trim());
            drop(paused);
        });
    }
    let mut person = Person::starts("prompt");
    person.sees("allow?");
    assert!(person.cooked());
    person.types("yes\n");
    person.sees("person said yes");
    person.sees("up");
    person.types("no\n");
    person.sees("answered no");
    person.ends_with(0);
}

#[test]
fn inherited_streams_have_no_controlling_terminal() {
    let outcome = Bench::bash("(: < /dev/tty) 2>/dev/null && echo TTY; echo end").run();
    assert_eq!(outcome.good(), "end\n");
}

#[test]
fn the_console_leaves_nothing_of_the_output_behind() {
    if std::env::var_os(ON_TERMINAL).is_some() {
        interactive(&["seq", "1", "5000"]);
    }
    let mut person = Person::starts("seq");
    person.sees("\r\n4999\r\n5000\r\n");
    person.ends_with(0);
}
