//! What a process costs: processor time and memory.

use std::{fs, path::Path};

use anyhow::{Context, Result};

/// Kernel clock ticks a second in `/proc/PID/stat` (USER_HZ; 100 on every Linux the project runs on, time(7)).
const TICKS: f64 = 100.0;

/// Seconds of processor time that these processes have used, in user and kernel mode.
pub fn processor_seconds(pids: &[u32]) -> Result<f64> {
    pids.iter().map(|pid| seconds_of(*pid)).sum()
}

fn seconds_of(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid} is gone"))?;
    // The command name may hold spaces and brackets; the fields begin after the last one (proc(5)).
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut times = fields.split_whitespace().skip(11).take(2);
    let user: f64 = times.next().context("no user time")?.parse()?;
    let system: f64 = times.next().context("no system time")?.parse()?;
    Ok((user + system) / TICKS)
}

/// Proportional set size of these processes, in MiB.
pub fn memory_mib(pids: &[u32]) -> Result<f64> {
    let mut kib = 0.0;
    for pid in pids {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let line = text.lines().find(|line| line.starts_with("Pss:")).context("no Pss line")?;
        kib += line.split_whitespace().nth(1).context("no figure")?.parse::<f64>()?;
    }
    Ok(kib / 1024.0)
}

/// The most memory that these processes have had, one added to the other, in MiB.
pub fn peak_mib(pids: &[u32]) -> Result<f64> {
    let mut kib = 0.0;
    for pid in pids {
        let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = text.lines().find(|line| line.starts_with("VmHWM:")).context("no VmHWM line")?;
        kib += line.split_whitespace().nth(1).context("no figure")?.parse::<f64>()?;
    }
    Ok(kib / 1024.0)
}

/// The process and all its descendants.
pub fn tree(root: u32) -> Vec<u32> {
    let mut all = vec![root];
    let mut next = 0;
    while let Some(pid) = all.get(next).copied() {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        all.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        next += 1;
    }
    all
}

/// Of these processes, those that run this executable.
pub fn running(pids: &[u32], executable: &Path) -> Vec<u32> {
    let wanted = executable.canonicalize().ok();
    pids.iter().copied().filter(|pid| fs::read_link(format!("/proc/{pid}/exe")).ok() == wanted).collect()
}
