//! The last step of a command that a test runs in the lab: its folder, its user, its end with the test's.

use std::{
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail};

pub(super) fn run(arguments: &[String]) -> Result<ExitCode> {
    let mut arguments = arguments.iter();
    let mut user = None;
    loop {
        match arguments.next().map(String::as_str) {
            Some("--folder") => {
                let folder = arguments.next().context("--folder DIR")?;
                std::env::set_current_dir(folder).with_context(|| format!("enter {folder}"))?;
            }
            Some("--user") => user = arguments.next(),
            Some("--") => break,
            other => bail!("enter: {other:?} is no option"),
        }
    }
    let program = arguments.next().context("enter: no command")?;
    let mut command = match user {
        Some(user) => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", user, "--regid", user, "--clear-groups", "--"]).arg(program);
            command
        }
        None => Command::new(program),
    };
    let error = command.args(arguments).exec();
    // 127 and 126 as a shell would say it: the test reads the code of its command.
    eprintln!("{program}: {error}");
    Ok(ExitCode::from(if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 }))
}
