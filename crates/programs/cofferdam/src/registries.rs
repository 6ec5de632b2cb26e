//! The hosts behind a managed path, from the package managers themselves.
//!
//! A registry in a private network (a company's mirror) would be stopped by the guard over private ranges. Where its
//! index was read over verified TLS, its addresses of this moment are opened one by one; else `--managed-address`
//! names the range.

use std::{
    net::{IpAddr, ToSocketAddrs as _},
    path::PathBuf,
    thread,
};

use anyhow::Result;
use package_managers::{Caller, Fetcher, Found, Manager, discover};
use policy::address::{SpecialRange, special};
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, code};

/// One toggle that is on, and the hosts behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Registry {
    /// As a policy names it: `crates`.
    pub(crate) toggle: String,
    /// As people name its manager: `cargo`.
    pub(crate) name: String,
    pub(crate) hosts: Vec<Host>,
    pub(crate) notes: Vec<String>,
    /// What of the system its manager can't do without; known to the run that asked.
    #[serde(skip)]
    pub(crate) files: Vec<PathBuf>,
}

/// A host of a registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Host {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Its addresses in private ranges that may be opened.
    pub(crate) private: Vec<IpAddr>,
}

/// The managers that flags or a policy name.
pub(crate) fn managers(toggles: &[String]) -> Result<Vec<Manager>> {
    let mut managers = Vec::new();
    for toggle in toggles {
        let manager = Manager::parse(toggle).ok_or_else(|| {
            let known: Vec<&str> = Manager::ALL.iter().map(|manager| manager.name()).collect();
            Failure::new(code::RUN_FAILED, format!("no package manager is called {toggle:?}"))
                .hint(format!("known: {}", known.join(", ")))
        })?;
        if !managers.contains(&manager) {
            managers.push(manager);
        }
    }
    Ok(managers)
}

/// Finds the hosts of each manager, all at once. One that can't be had refuses the start, with its reason.
pub(crate) fn find(managers: &[Manager], writable_by_workload: &[PathBuf]) -> Result<Vec<Registry>> {
    let found = find_each(managers, writable_by_workload);
    found
        .into_iter()
        .map(|(manager, found)| {
            found.map_err(|reason| {
                Failure::new(code::RUN_FAILED, format!("the hosts of {manager} can't be had: {reason}"))
                    .hint(format!("fix {manager}'s own configuration, or name its hosts with --allow"))
                    .into()
            })
        })
        .collect()
}

/// Finds the hosts of each manager, all at once; beside each the reason where they can't be had.
pub(crate) fn find_each(
    managers: &[Manager],
    writable_by_workload: &[PathBuf],
) -> Vec<(Manager, Result<Registry, String>)> {
    if managers.is_empty() {
        return Vec::new();
    }
    let caller = Caller::of_this_process(writable_by_workload.to_vec());
    let fetcher = Fetcher::default();
    thread::scope(|scope| {
        let find_one =
            |manager: Manager| discover(manager, &caller, &fetcher).map(registry).map_err(|error| error.to_string());
        let started: Vec<_> =
            managers.iter().map(|manager| (*manager, scope.spawn(move || find_one(*manager)))).collect();
        let ended_early = |_| Err("the search ended early".to_owned());
        started.into_iter().map(|(manager, thread)| (manager, thread.join().unwrap_or_else(ended_early))).collect()
    })
}

fn registry(found: Found) -> Registry {
    let Found { manager, endpoints, notes, files } = found;
    let host = |endpoint: package_managers::Endpoint| Host {
        private: private_addresses(&endpoint.host, endpoint.port),
        host: endpoint.host,
        port: endpoint.port,
    };
    Registry {
        toggle: manager.toggle().to_owned(),
        name: manager.name().to_owned(),
        hosts: endpoints.into_iter().map(host).collect(),
        notes,
        files,
    }
}

/// The private addresses of a host that is only spoken to over TLS; its certificate was verified when its index was read.
#[expect(
    clippy::disallowed_methods,
    reason = "before the start, for the caller's own registries: nothing of the workload is resolved here"
)]
fn private_addresses(host: &str, port: u16) -> Vec<IpAddr> {
    if port != 443 {
        return Vec::new();
    }
    let mut addresses: Vec<IpAddr> =
        (host, port).to_socket_addrs().into_iter().flatten().map(|address| address.ip()).collect();
    addresses.retain(|address| special(*address) == Some(SpecialRange::Private));
    addresses.sort();
    addresses.dedup();
    addresses
}
