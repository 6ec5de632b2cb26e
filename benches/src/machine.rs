//! The machine that is measured on: what it is, how busy it was, and which programs it lacks.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// What the machine is and how busy it was while something was measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Machine {
    /// Processors that may be used.
    pub processors: usize,
    /// The kernel.
    pub kernel: String,
    /// Processes that ran or waited to, averaged over the minute before the measurement.
    pub load_before: f64,
    /// Percent of processor time that the host gave to others meanwhile.
    pub steal_percent: f64,
}

/// Watches the machine from the start to the end of a measurement.
#[derive(Debug)]
pub struct Watch {
    load_before: f64,
    before: (u64, u64),
}

impl Watch {
    /// From now on.
    pub fn start() -> Watch {
        let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load_before = text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(f64::NAN);
        Watch { load_before, before: ticks() }
    }

    /// Until now.
    pub fn end(self) -> Machine {
        let (all, stolen) = ticks();
        let (all, stolen) = (all.saturating_sub(self.before.0), stolen.saturating_sub(self.before.1));
        Machine {
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            load_before: self.load_before,
            steal_percent: 100.0 * stolen as f64 / all.max(1) as f64,
        }
    }
}

impl Machine {
    /// One line, with a warning where the figures are not those of a quiet machine.
    pub fn line(&self) -> String {
        let mut line = format!(
            "{} processors, Linux {}, load before {:.2}, steal {:.1} %",
            self.processors, self.kernel, self.load_before, self.steal_percent
        );
        if self.load_before > 0.5 || self.steal_percent > 2.0 {
            line.push_str(" – BUSY: take the figures again on a quiet machine");
        }
        line
    }
}

/// All ticks and stolen ticks of all processors (proc_stat(5)).
fn ticks() -> (u64, u64) {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<u64> = text
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .take(8)
        .filter_map(|word| word.parse().ok())
        .collect();
    (fields.iter().sum(), fields.get(7).copied().unwrap_or(0))
}

/// A program that a side needs and that is not installed. Nothing is installed for it: the side is left out by name.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{program} is not installed (Debian: {package})")]
pub struct NotInstalled {
    program: &'static str,
    package: &'static str,
}

/// The Debian package of each program that is not called like its package.
const PACKAGES: [(&str, &str); 4] =
    [("bwrap", "bubblewrap"), ("ip", "iproute2"), ("mount", "util-linux"), ("unshare", "util-linux")];

/// Where a program is: also where Debian puts those that an ordinary PATH may not hold.
pub fn program(name: &'static str) -> Result<PathBuf, NotInstalled> {
    ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin", "/sbin", "/bin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.exists())
        .ok_or_else(|| {
            let package = PACKAGES.iter().find(|(program, _)| *program == name).map_or(name, |(_, package)| package);
            NotInstalled { program: name, package }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_package() {
        let missing = program("no-such-program").unwrap_err().to_string();
        assert_eq!(missing, "no-such-program is not installed (Debian: no-such-program)");
        assert!(program("sh").is_ok());
    }

    #[test]
    fn the_machine_is_described() {
        let machine = Watch::start().end();
        assert!(machine.processors > 0);
        assert!((0.0..=100.0).contains(&machine.steal_percent));
    }
}
