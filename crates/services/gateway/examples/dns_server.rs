//! A gateway that serves DNS alone, to be measured beside other servers:
//!
//! ```text
//! cargo run --release -p gateway --example dns_server -- 127.0.0.1:5305 127.0.0.1:5300 2
//! dnsperf -s 127.0.0.1 -p 5305 -d questions.txt
//! ```
//! It listens at the first address, asks the server at the second, and runs so many workers. It allows
//! `h0.allowed.test` to `h9999.allowed.test`, refuses the rest, and records every question in a folder of its own.

use std::{net::SocketAddr, os::fd::OwnedFd, sync::Arc};

use anyhow::Context;
use audit_event::RunContext;
use audit_log::{AuditLog, Options};
use gateway::{Gateway, SandboxSockets, Settings};
use policy::{
    CompiledPolicy, HostPattern, OwnAddresses,
    model::{DnsLimits, Lists, PolicySpec},
};
use values::{Labels, Revision};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |what: &'static str| arguments.next().context(what);
    let listen: SocketAddr = next("where to listen")?.parse()?;
    let upstream: SocketAddr = next("which server to ask")?.parse()?;
    let workers: usize = next("how many workers")?.parse()?;
    let folder = tempfile::tempdir()?;
    let context = RunContext { sandbox: "run-measured".into(), thread: None, tool_call: None };
    let options = Options { keep_files: 1, ..Options::default() };
    let audit = AuditLog::open(&folder.path().join("events.jsonl"), context, options)?;
    let socket = std::net::UdpSocket::bind(listen)?;
    let sockets = SandboxSockets { dns_udp: vec![OwnedFd::from(socket)], ..SandboxSockets::default() };
    let settings = Settings { workers, host_resolvers: vec![upstream], ..Settings::default() };
    let gateway = Gateway::start(sockets, Arc::new(policy()?), Labels::default(), audit, None, settings)?;
    std::thread::park();
    drop(gateway);
    Ok(())
}

fn policy() -> anyhow::Result<CompiledPolicy> {
    let hosts = (0..10_000).map(|number| HostPattern::parse(&format!("h{number}.allowed.test")));
    let unbounded = DnsLimits { queries_per_second: u32::MAX, ..DnsLimits::default() };
    let spec = PolicySpec { allowed_hosts: hosts.collect::<Result<_, _>>()?, dns: unbounded, ..PolicySpec::default() };
    CompiledPolicy::compile(spec, Lists::default(), OwnAddresses::default(), Revision(1))
        .map_err(|errors| anyhow::anyhow!("{errors:?}"))
}
