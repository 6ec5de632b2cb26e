//! What the runner does to a gateway in the middle of a run.
//!
//! The probe asks by writing to the pipe `ready-CANARY` in the working directory and goes on when the file
//! `acted-CANARY` is there. With no gateway of ours in the way nothing is done: what the probe tries then must work.

use std::{
    fs::{self, File},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use network_lab::Lab;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FileType, Mode},
};
use serde_json::Value;

use crate::{
    adapter::Adapter,
    case::Action,
    instance::{Instance, Places},
};

/// The pipe by which a probe asks.
#[derive(Debug)]
pub(crate) struct Asked {
    pipe: File,
}

impl Asked {
    /// Makes the pipe; whoever the probe runs as may write to it.
    pub(crate) fn new(places: &Places, instance: &Instance<'_>) -> Result<Self> {
        let path = places.work.join(format!("ready-{}", instance.words.canary));
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o666), 0)
            .with_context(|| format!("make the pipe {}", path.display()))?;
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
        // Open for both, so that neither side waits for the other to open.
        let pipe = File::options().read(true).write(true).open(&path)?;
        Ok(Self { pipe })
    }

    fn wait(&self, time: Duration) -> Result<()> {
        let time = Timespec::try_from(time).context("a bound")?;
        if poll(&mut [PollFd::new(&self.pipe, PollFlags::IN)], Some(&time)).context("wait for the probe")? == 0 {
            bail!("the probe asked for no change");
        }
        Ok(())
    }
}

/// Waits, no longer than the run may take, for the probe to ask; acts; tells the probe. Gives what was done.
pub(crate) fn when_asked(
    action: &Action,
    asked: &Asked,
    adapter: &Adapter,
    lab: &Lab,
    places: &Places,
    instance: &Instance<'_>,
) -> Result<String> {
    asked.wait(Duration::from_secs(instance.case.time))?;
    let done = match adapter {
        Adapter::Cofferdam { .. } => act(action, adapter, lab, places)?,
        Adapter::None | Adapter::Squid | Adapter::Tinyproxy => "nothing".to_owned(),
    };
    fs::write(places.work.join(format!("acted-{}", instance.words.canary)), &done).context("tell the probe")?;
    Ok(done)
}

fn act(action: &Action, adapter: &Adapter, lab: &Lab, places: &Places) -> Result<String> {
    match action {
        Action::Apply(policy) => {
            let mut command = adapter.own_command(lab, places)?;
            command.args(["policy", "apply"]).arg(places.policies.join(format!("{policy}.yaml")));
            let output = lab.host().run(command, Duration::from_secs(10))?;
            Ok(format!("apply {policy}: {:?} {}{}", output.status, output.stdout, output.stderr))
        }
        Action::KillGateway => {
            let pid = gateway(places)?;
            let mut command = lab.host().command("kill");
            command.args(["-KILL", &pid.to_string()]);
            let output = lab.host().run(command, Duration::from_secs(10))?;
            Ok(format!("kill {pid}: {:?} {}", output.status, output.stderr))
        }
    }
}

/// The pid, inside the lab, of the newest live run's gateway, as its `run.json` tells.
fn gateway(places: &Places) -> Result<u64> {
    let mut newest: Option<(std::time::SystemTime, PathBuf)> = None;
    let runs = places.state.join("cofferdam/runs");
    for entry in fs::read_dir(&runs).with_context(|| format!("read {}", runs.display()))? {
        let path = entry?.path().join("run.json");
        let Ok(changed) = fs::metadata(&path).and_then(|metadata| metadata.modified()) else { continue };
        if newest.as_ref().is_none_or(|(known, _)| *known < changed) {
            newest = Some((changed, path));
        }
    }
    let (_, path) = newest.context("no run has told of itself")?;
    let run: Value = serde_json::from_slice(&fs::read(&path)?).with_context(|| path.display().to_string())?;
    run.get("pid").and_then(Value::as_u64).with_context(|| format!("{} names no pid", path.display()))
}
