//! Cofferdam: `cofferdam run --policy … -- probe` on the lab's host.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use network_lab::Lab;

use crate::instance::{Instance, Places, Trust};

/// Where the explicit proxy listens inside (init-protocol's `GatewayPorts`).
const PROXY: &str = "127.0.0.1:3128";

/// The program given, or the one beside this program.
pub(super) fn find(given: Option<&Path>) -> Result<PathBuf> {
    let own = std::env::current_exe().context("this program's own path")?;
    let program = match given {
        Some(given) => given.to_owned(),
        None => own.parent().context("a folder of this program")?.join("cofferdam"),
    };
    match program.canonicalize() {
        Ok(program) => Ok(program),
        Err(error) => bail!("no cofferdam at {}: {error}; build it or give --cofferdam PATH", program.display()),
    }
}

pub(super) fn command(
    program: &Path,
    user: Option<u32>,
    lab: &Lab,
    places: &Places,
    instance: &Instance<'_>,
    record: &Path,
) -> Result<Command> {
    let mut command = own_command(program, user, lab, places)?;
    // Whom the gateway trusts, and where the policies' credential comes from: the caller's alone.
    command.env("SSL_CERT_FILE", lab.certificates().bundle()).env("LAB_SECRET", &instance.words.secret);
    command.args(["run", "--quiet", "--policy"]).arg(instance.policy(places));
    command.arg("--events").arg(record);
    command.arg("--workdir").arg(&places.work);
    // The runner's own clock is the second, later one.
    command.arg("--timeout").arg(format!("{}s", instance.case.time));
    for (name, value) in instance.environment(places, Trust::Gateway) {
        command.arg("--env").arg(format!("{name}={value}"));
    }
    command.arg("--env").arg(format!("LAB_PROXY={PROXY}"));
    command.arg("--").args(&instance.command);
    Ok(command)
}

/// The program, as its user, with state and sockets where no sandbox sees them.
pub(super) fn own_command(program: &Path, user: Option<u32>, lab: &Lab, places: &Places) -> Result<Command> {
    let mut command = match user {
        Some(user) => lab.host().command_as(user, &places.work, program)?,
        None => lab.host().command_in(&places.work, program),
    };
    command.env("XDG_STATE_HOME", &places.state).env("XDG_RUNTIME_DIR", places.state.join("runtime"));
    command.env("HOME", places.state.join("home"));
    Ok(command)
}
