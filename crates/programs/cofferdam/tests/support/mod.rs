//! What the tests of the binary share: the program in a world of its own.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result};

/// A home, a state folder and a working directory that nobody else uses.
pub struct World {
    folder: tempfile::TempDir,
}

impl World {
    /// An empty one.
    pub fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        for name in ["home", "work"] {
            std::fs::create_dir(folder.path().join(name))?;
        }
        Ok(Self { folder })
    }

    /// The folder with everything in it.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The working directory.
    pub fn work(&self) -> PathBuf {
        self.path().join("work")
    }

    /// Writes a file into the working directory.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.work().join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// Gives a command this world's environment.
    pub fn settle(&self, command: &mut Command) {
        let home = self.path().join("home");
        command.env("HOME", &home).env("XDG_STATE_HOME", self.path().join("state")).env_remove("XDG_RUNTIME_DIR");
        command.env_remove("XDG_CONFIG_HOME").env_remove("COFFERDAM_POLICY").env("USER", "ada").env_remove("NO_COLOR");
        command.stdin(Stdio::null());
    }

    /// The program with these arguments.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
        command.args(arguments).current_dir(self.work());
        self.settle(&mut command);
        command
    }

    /// Runs it to its end.
    pub fn run(&self, arguments: &[&str]) -> Result<Done> {
        let output = self.command(arguments).output().with_context(|| format!("starting cofferdam {arguments:?}"))?;
        Ok(Done::of(&output))
    }
}

/// What a command gave.
#[derive(Debug)]
pub struct Done {
    /// The exit code.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Done {
    /// From what a process gave.
    pub fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Checks the exit code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.out, self.err);
        self
    }
}
