//! A network namespace for the benchmark: its own loopback, the origin's address, no way out.

use std::{env, fs, os::unix::fs::MetadataExt, process::Command};

use anyhow::{Context, Result, ensure};

use crate::machine::program;

/// Runs this program again inside a namespace of its own, with `--inside`, and ends as it ends.
pub fn enter() -> Result<()> {
    // As root no user namespace is needed, and Squid wants to change to its own user.
    let root = fs::metadata("/proc/self")?.uid() == 0;
    let user: &[&str] = if root { &[] } else { &["--user", "--map-root-user"] };
    let status = Command::new(program("unshare")?)
        .args(user)
        .args(["--net", "--mount", "--"])
        .arg(env::current_exe()?)
        .args(env::args_os().skip(1))
        .arg("--inside")
        .status()
        .context("starting unshare")?;
    ensure!(status.success(), "the measurement failed");
    Ok(())
}

/// Gives the namespace its addresses and bounds.
pub fn prepare() -> Result<()> {
    let ip = program("ip")?;
    for arguments in [["link", "set", "lo", "up"].as_slice(), &["address", "add", "203.0.113.1/32", "dev", "lo"]] {
        ensure!(Command::new(&ip).args(arguments).status()?.success(), "ip {arguments:?} failed");
    }
    // Short connections leave ports in TIME_WAIT; without these settings every side soon waits for a free one.
    fs::write("/proc/sys/net/ipv4/ip_local_port_range", "10000 65000")?;
    fs::write("/proc/sys/net/ipv4/tcp_max_tw_buckets", "1000")?;
    Ok(())
}
