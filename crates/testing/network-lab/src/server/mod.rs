//! The first process of a lab and its servers: the body of the helper program `network-lab-server`.
//!
//! `anchor` is the first process of the lab's pid namespace: it makes the network namespaces, starts one `serve`
//! in each, passes lines between them and the test, and ends when the test's end of its standard input closes,
//! which ends everything else. `enter` is the last step of a command that a test runs in the lab.

/// The lab's first process.
mod anchor;
/// A stream that remembers what it carried.
mod carried;
/// Scripted DNS.
mod dns;
/// The last step into the lab of a test's command.
mod enter;
/// Files of the lab's folder.
mod files;
/// Git over HTTP.
mod git;
/// HTTP/1.1, lenient on purpose.
mod http1;
/// Answers that are more than one body.
mod http1_answers;
/// HTTP/2, with a gRPC-like echo.
mod http2;
/// Links, addresses and routes.
mod network;
/// Packets on the namespace's links.
mod packets;
/// The unfiltered proxy.
mod proxy;
/// What reached them, told to the test.
mod recorder;
/// Servers that say back what they were told.
mod reflect;
/// One namespace's servers.
mod serve;
/// Web servers: TLS or not, HTTP/2 or HTTP/1.1.
mod web;
/// WebSocket echo.
mod websocket;

use std::process::ExitCode;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::{
    reached::{Place, Reached},
    spec::{DnsName, LabSpec},
};

/// What the test tells the lab, one JSON line each; the first line of all is a [`Plan`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Control {
    /// Tell with [`Line::Fence`] when everything sent until now was read.
    Fence(u64),
    /// Change one name of every DNS server of a place.
    Name {
        /// Where.
        place: Place,
        /// The name.
        name: String,
        /// What it answers from now on.
        script: DnsName,
    },
}

/// What the lab tells the test, one JSON line each.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Line {
    /// The first process runs, with this pid seen from outside.
    Anchor {
        /// Its pid.
        pid: u32,
    },
    /// The servers of a place listen.
    Ready(Place),
    /// Something could not be set up.
    Failed(String),
    /// Something arrived.
    Reached(Box<Reached>),
    /// Everything that was sent before the fence was asked for has been told.
    Fence(u64, Place),
}

/// What the first process is to build.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// The servers.
    pub(crate) spec: LabSpec,
    /// The lab's folder: git repositories and the CA stand in it.
    pub(crate) folder: std::path::PathBuf,
}

/// Runs one of the helper program's parts.
#[must_use]
pub fn run(arguments: Vec<String>) -> ExitCode {
    match part(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("network-lab-server: {error:#}");
            if let Ok(line) = serde_json::to_string(&Line::Failed(format!("{error:#}"))) {
                println!("{line}");
            }
            ExitCode::from(125)
        }
    }
}

fn part(arguments: &[String]) -> Result<ExitCode> {
    match arguments {
        [part] if part == "anchor" => anchor::run(),
        [part, place] if part == "serve" => {
            let place = Place::ALL.into_iter().find(|known| known.name() == place);
            let Some(place) = place else { bail!("no such place: {arguments:?}") };
            serve::run(place)
        }
        [part, rest @ ..] if part == "enter" => enter::run(rest),
        _ => bail!("usage: network-lab-server anchor | serve PLACE | enter OPTIONS -- COMMAND"),
    }
}
