//! A shell, or one command, on the host of a standard lab; at its end, what reached the lab.

use anyhow::Result;
use network_lab::{Certificates, Lab, LabSpec};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let program = arguments.next().unwrap_or_else(|| "bash".to_owned());
    let lab = Lab::start(LabSpec::standard())?;
    let status = lab
        .host()
        .command(program)
        .args(arguments)
        .envs(Certificates::environment(lab.certificates().bundle()))
        .status()?;
    for reached in lab.reached()? {
        eprintln!("{reached}");
    }
    eprintln!("{status}");
    Ok(())
}
