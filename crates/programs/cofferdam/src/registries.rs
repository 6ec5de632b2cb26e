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

use crate::failure::{Failure, code};

/// One toggle that is on, and the hosts behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registry {
    pub(crate) manager: Manager,
    pub(crate) endpoints: Vec<Host>,
    pub(crate) notes: Vec<String>,
}

/// A host of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    if managers.is_empty() {
        return Ok(Vec::new());
    }
    let caller = Caller::of_this_process(writable_by_workload.to_vec());
    let fetcher = Fetcher::default();
    let results = thread::scope(|scope| {
        let started: Vec<_> =
            managers.iter().map(|manager| (manager, scope.spawn(|| discover(*manager, &caller, &fetcher)))).collect();
        started.into_iter().map(|(manager, thread)| (*manager, thread.join())).collect::<Vec<_>>()
    });
    let mut found = Vec::new();
    for (manager, result) in results {
        let refused = |reason: String| {
            Failure::new(code::RUN_FAILED, format!("the hosts of {manager} can't be had: {reason}"))
                .hint(format!("fix {manager}'s own configuration, or name its hosts with --allow"))
        };
        let Found { endpoints, notes, .. } = result
            .map_err(|_| refused("the search ended early".to_owned()))?
            .map_err(|error| refused(error.to_string()))?;
        let endpoints = endpoints
            .into_iter()
            .map(|endpoint| Host {
                private: private_addresses(&endpoint.host, endpoint.port),
                host: endpoint.host,
                port: endpoint.port,
            })
            .collect();
        found.push(Registry { manager, endpoints, notes });
    }
    Ok(found)
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
    addresses.retain(|address| crate::run::is_private(*address));
    addresses.sort();
    addresses.dedup();
    addresses
}
