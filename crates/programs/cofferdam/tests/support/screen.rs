//! A program in a pseudo-terminal of the test, which types into it.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use crate::support::World;

/// A program in a terminal, as a person sees it.
pub struct Screen {
    terminal: File,
    seen: String,
    child: Child,
}

/// A bound for what never comes.
const PATIENCE: Timespec = Timespec { tv_sec: 40, tv_nsec: 0 };

impl Screen {
    /// Starts it as the leader of a session whose terminal this is.
    pub fn start(world: &World, inner: Command, arguments: &[&str]) -> Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        tcsetwinsize(&master, Winsize { ws_row: 30, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 })?;
        let name = ptsname(&master, Vec::new())?.into_string()?;
        // setsid -c makes the terminal the controlling one of a new session.
        let mut command = Command::new("setsid");
        command.arg("-cw").arg(inner.get_program()).args(inner.get_args()).args(arguments);
        if let Some(folder) = inner.get_current_dir() {
            command.current_dir(folder);
        }
        for (key, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        world.settle(&mut command);
        let open =
            || -> Result<Stdio> { Ok(Stdio::from(OwnedFd::from(File::options().read(true).write(true).open(&name)?))) };
        let child = command.stdin(open()?).stdout(open()?).stderr(open()?).spawn().context("setsid (util-linux)")?;
        Ok(Self { terminal: File::from(master), seen: String::new(), child })
    }

    /// Reads until the screen shows a text that was not waited for before.
    pub fn wait_for(&mut self, text: &str) -> Result<()> {
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return Ok(());
            }
            if poll(&mut [PollFd::new(&self.terminal, PollFlags::IN)], Some(&PATIENCE))? == 0 {
                bail!("waited for {text:?}, saw {:?}", self.seen);
            }
            let mut buffer = [0; 4096];
            match self.terminal.read(&mut buffer) {
                Ok(count @ 1..) => {
                    self.seen.push_str(&String::from_utf8_lossy(buffer.get(..count).unwrap_or_default()))
                }
                // The kernel says EIO when the last holder of the other side is gone.
                Ok(0) | Err(_) => bail!("waited for {text:?}, saw {:?} and the end", self.seen),
            }
        }
    }

    /// Types.
    pub fn type_in(&mut self, text: &str) -> Result<()> {
        Ok(self.terminal.write_all(text.as_bytes())?)
    }

    /// Waits for the end: the exit code, and what was shown after what was waited for.
    pub fn end(mut self) -> Result<(Option<i32>, String)> {
        let mut buffer = [0; 4096];
        while poll(&mut [PollFd::new(&self.terminal, PollFlags::IN)], Some(&PATIENCE))? > 0 {
            match self.terminal.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(count) => {
                    self.seen.push_str(&String::from_utf8_lossy(buffer.get(..count).unwrap_or_default()));
                }
            }
        }
        Ok((self.child.wait()?.code(), self.seen))
    }
}
