//! Runs a command in a sandbox whose sockets nobody answers: `contained COMMAND…`. Used to measure the start.

use anyhow::Context;
use sandbox::{GroupLimits, PlanRequest, Spec, Streams};

fn main() -> anyhow::Result<()> {
    let mut request = PlanRequest::new(std::env::args_os().skip(1), &std::env::current_dir()?)?;
    request.environment = ["PATH", "TERM", "HOME"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), std::env::var_os(name)?)))
        .collect();
    let planned = request.plan()?;
    let spec = Spec { plan: planned.plan, limits: GroupLimits::default(), streams: Streams::Inherit };
    let started = sandbox::start(&spec).map_err(|error| {
        let hint = error.hint().unwrap_or_default();
        anyhow::Error::new(error).context(hint)
    })?;
    let exit = started.sandbox.run().context("the sandbox is gone")?.wait();
    std::process::exit(exit.code().into());
}
