//! Cofferdam's gateway without a sandbox: what a figure owes to the gateway, and what to its surroundings.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    path::PathBuf,
    sync::Arc,
    time::SystemTime,
};

use anyhow::{Context as _, Result};
use audit_event::RunContext;
use audit_log::{AuditLog, Options};
use certificates::{Issuer, Leaves, Scope, UpstreamRoots, trust};
use clap::Args;
use gateway::{Gateway, Inspection, SandboxSockets, Settings};
use policy::{CompiledPolicy, OwnAddresses, model::Lists};
use values::{Labels, Revision};

/// What it is started with.
#[derive(Args)]
pub struct TlsGateway {
    /// Where its proxy listens.
    #[arg(long)]
    listen: SocketAddr,
    /// The policy's file.
    #[arg(long)]
    policy: PathBuf,
    /// Whom it trusts upstream.
    #[arg(long)]
    roots: PathBuf,
    /// The folder of its record, and of the certificate that its clients trust.
    #[arg(long)]
    folder: PathBuf,
}

/// Serves until killed.
pub fn serve(served: &TlsGateway) -> Result<()> {
    let context = RunContext { sandbox: "run-measured".into(), thread: None, tool_call: None };
    let options = Options { keep_files: 1, ..Options::default() };
    let audit = AuditLog::open(&served.folder.join("events.jsonl"), context, options)?;
    let read = policy_file::parse("policy", &fs::read(&served.policy)?);
    let spec = read.map_err(|errors| anyhow::anyhow!("{errors:?}"))?.spec;
    let policy = CompiledPolicy::compile(spec, Lists::default(), OwnAddresses::default(), Revision(1))
        .map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
    let issuer = Issuer::for_run(Scope::Any, SystemTime::now())?;
    fs::write(served.folder.join("anchors.pem"), trust::pem(issuer.anchors()))?;
    let inspection =
        Inspection { leaves: Arc::new(Leaves::new(issuer, 64)?), roots: UpstreamRoots::from_bundle(&served.roots)? };
    let listener = TcpListener::bind(served.listen).with_context(|| format!("binding {}", served.listen))?;
    let sockets = SandboxSockets { proxy: vec![OwnedFd::from(listener)], ..SandboxSockets::default() };
    let settings = Settings {
        inspection: Some(inspection),
        // The benchmark's own name server.
        host_resolvers: vec![SocketAddr::from(([127, 0, 0, 1], 53))],
        ..Settings::default()
    };
    let gateway = Gateway::start(sockets, Arc::new(policy), Labels::default(), audit, None, settings)?;
    std::thread::park();
    drop(gateway);
    Ok(())
}
