//! The helper program of the lab: its first process, its servers, and the step into its namespaces.

use std::process::ExitCode;

fn main() -> ExitCode {
    network_lab::server::run(std::env::args().skip(1).collect())
}
