//! The program in a laboratory internet.

use std::{process::Command, time::Duration};

use anyhow::Result;
use network_lab::{Certificates, Lab, LabSpec, Output};

use crate::support::World;

/// How long one command may take.
pub const TIME: Duration = Duration::from_secs(100);

/// A laboratory, and a world in which its host runs the program.
pub struct Fixture {
    pub lab: Lab,
    pub world: World,
}

impl Fixture {
    /// The standard laboratory.
    pub fn new() -> Result<Self> {
        Ok(Self { lab: Lab::start(LabSpec::standard())?, world: World::new()? })
    }

    /// The program with these arguments, on the laboratory's host.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.lab.host().command_in(&self.world.work(), env!("CARGO_BIN_EXE_cofferdam"));
        command.args(arguments).envs(Certificates::environment(self.lab.certificates().bundle()));
        self.world.settle(&mut command);
        command
    }

    /// The same, run to its end.
    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        self.lab.host().run(self.command(arguments), TIME)
    }
}
