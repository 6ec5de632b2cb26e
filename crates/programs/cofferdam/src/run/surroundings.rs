//! What a gateway is started with: the sandbox's sockets, this machine's bounds and its resolvers.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use gateway::{Inspection, SandboxSockets, Secrets, Settings};
use sandbox::Sockets;

use super::descriptors;

/// The sockets of a sandbox, for its gateway.
pub(super) fn handed_over(sockets: Sockets, init: u32) -> SandboxSockets {
    SandboxSockets {
        transparent: sockets.transparent,
        dns_udp: sockets.dns_udp,
        dns_tcp: sockets.dns_tcp,
        proxy: sockets.proxy,
        datagrams: sockets.datagrams,
        socket_diagnosis: Some(sockets.socket_diagnosis),
        rejections: sockets.rejections,
        init_pid: Some(init),
    }
}

/// Bounds that fit this machine, what TLS is opened with, the secrets that are attached there, and the folder where the
/// policy's bundles of roots are.
pub(super) fn settings(inspection: Option<Inspection>, secrets: Secrets, policy_folder: PathBuf) -> Settings {
    let usual = Settings::default();
    let max_connections = descriptors::connections(usual.max_connections);
    let policy_folder = Some(policy_folder);
    Settings { max_connections, host_resolvers: host_resolvers(), inspection, secrets, policy_folder, ..usual }
}

/// The host's DNS servers (resolv.conf(5)); 127.0.0.1 where none is named.
fn host_resolvers() -> Vec<SocketAddr> {
    let text = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let servers = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let mut found: Vec<SocketAddr> =
        servers.filter_map(|server| Some((server.trim().parse::<IpAddr>().ok()?, 53).into())).collect();
    if found.is_empty() {
        found.push((Ipv4Addr::LOCALHOST, 53).into());
    }
    found
}
