//! The one command: read config, build, run, report.
fn main() {}
