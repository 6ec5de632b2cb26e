//! What stands between a probe and the lab.
//!
//! | adapter | the sandbox | its one way out |
//! | --- | --- | --- |
//! | `none` | none: the probe runs on the lab's host | everything; the proxy is one without bounds |
//! | `cofferdam` | `cofferdam run` | its gateway |
//! | `squid` | `bwrap --unshare-net` | an allow-list Squid, through a Unix socket and socat |
//! | `tinyproxy` | a network namespace with a route to the proxy alone | an allow-list tinyproxy |

/// Cofferdam.
mod cofferdam;
/// Squid in front of bubblewrap.
mod squid;
/// Tinyproxy in front of a network namespace.
mod tinyproxy;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};
use network_lab::{Lab, addresses};

use crate::{
    arguments::Arguments,
    case::Setting,
    instance::{Instance, Places, Trust},
};

/// The names that the allow-list proxies let through: the policies' list, as far as such a proxy can say it.
const LISTED: [&str; 9] = [
    "allowed.test",
    "*.allowed.test",
    "dual.test",
    "second.test",
    "cdn-a.test",
    "git.test",
    "relay.test",
    "*.wild.test",
    "paths.test",
];

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Nothing in the way.
    None,
    /// Ours.
    Cofferdam,
    /// bubblewrap and Squid.
    Squid,
    /// A network namespace and tinyproxy.
    Tinyproxy,
}

/// One adapter, ready in one lab.
#[derive(Debug)]
pub(crate) enum Adapter {
    /// Nothing in the way.
    None,
    /// Ours: the program, and the user to run as.
    Cofferdam {
        /// The program.
        program: PathBuf,
        /// The user, where not the caller.
        user: Option<u32>,
    },
    /// bubblewrap and Squid; the helpers end with the lab.
    Squid,
    /// A network namespace and tinyproxy.
    Tinyproxy,
}

impl Kind {
    /// Its name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::None => "none",
            Kind::Cofferdam => "cofferdam",
            Kind::Squid => "bwrap + squid",
            Kind::Tinyproxy => "netns + tinyproxy",
        }
    }

    /// The settings it has.
    pub(crate) fn settings(self) -> &'static [Setting] {
        match self {
            Kind::Cofferdam => &[Setting::Limited, Setting::Unrestricted, Setting::Watched, Setting::Routed],
            Kind::None | Kind::Squid | Kind::Tinyproxy => &[Setting::Limited],
        }
    }

    /// Makes it ready in a lab.
    pub(crate) fn prepare(self, lab: &Lab, places: &Places, arguments: &Arguments) -> Result<Adapter> {
        Ok(match self {
            Kind::None => Adapter::None,
            Kind::Cofferdam => {
                Adapter::Cofferdam { program: cofferdam::find(arguments.cofferdam.as_deref())?, user: arguments.user }
            }
            Kind::Squid => {
                squid::start(lab, places)?;
                Adapter::Squid
            }
            Kind::Tinyproxy => {
                tinyproxy::start(lab, places)?;
                Adapter::Tinyproxy
            }
        })
    }
}

impl Adapter {
    /// The command that runs one probe, and where its record will be.
    pub(crate) fn command(
        &self,
        lab: &Lab,
        places: &Places,
        instance: &Instance<'_>,
        record: &Path,
    ) -> Result<Command> {
        match self {
            Adapter::None => {
                let (program, rest) = split(instance)?;
                let mut command = lab.host().command_in(&places.work, program);
                command.args(rest).envs(instance.environment(places, Trust::Servers));
                // What a sandbox holds a placeholder for.
                command.env("LAB_TOKEN", &instance.words.secret).env("LAB_UNHINDERED", "yes");
                command.env("LAB_PROXY", format!("127.0.0.1:{}", addresses::OPEN_PROXY_PORT));
                Ok(command)
            }
            Adapter::Cofferdam { program, user } => cofferdam::command(program, *user, lab, places, instance, record),
            Adapter::Squid => squid::command(lab, places, instance),
            Adapter::Tinyproxy => tinyproxy::command(lab, places, instance),
        }
    }
}

impl Adapter {
    /// Cofferdam itself, on the lab's host, for what is done beside a run.
    pub(crate) fn own_command(&self, lab: &Lab, places: &Places) -> Result<Command> {
        match self {
            Adapter::Cofferdam { program, user } => cofferdam::own_command(program, *user, lab, places),
            Adapter::None | Adapter::Squid | Adapter::Tinyproxy => bail!("this adapter has no program of ours"),
        }
    }
}

/// The program and its arguments.
fn split<'run>(instance: &'run Instance<'_>) -> Result<(&'run String, &'run [String])> {
    instance.command.split_first().ok_or_else(|| anyhow::anyhow!("{} has no probe", instance.case.id))
}

/// What clients of an explicit proxy look at.
fn proxy_environment(proxy: &str) -> Vec<(String, String)> {
    let url = format!("http://{proxy}");
    let mut environment = vec![("LAB_PROXY".to_owned(), proxy.to_owned())];
    for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"] {
        environment.push((name.to_owned(), url.clone()));
    }
    environment
}
