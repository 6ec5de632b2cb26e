//! What minting and a full handshake cost: `cargo run --release -p certificates --example mint`.

use std::{
    hint::black_box,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Result;
use certificates::{Authority, Issuer, Leaves, Protocols, Scope, UpstreamRoots, trust};
use policy::{HostPattern, Target};
use rustls::{ClientConnection, ServerConnection, client::Resumption, pki_types::ServerName};

const ROUNDS: usize = 9;
const NAMES: usize = 2_000;

fn main() -> Result<()> {
    let now = SystemTime::now();
    let folder = tempfile::tempdir()?;
    let authority = Authority::open_or_create(&folder.path().join("authority"), now)?;
    let names: Vec<Target> =
        (0..NAMES).map(|number| Target::parse(&format!("host-{number}.example.com"))).collect::<Result<_, _>>()?;
    let mut minting = Vec::new();
    let mut reusing = Vec::new();
    for _ in 0..ROUNDS {
        let leaves = Leaves::new(Issuer::for_run(Scope::Any, now)?, NAMES)?;
        minting.push(each(&names, |name| leaves.server_config(name, Protocols::Either, now).map(drop))?);
        reusing.push(each(&names, |name| leaves.server_config(name, Protocols::Either, now).map(drop))?);
        assert_eq!(leaves.counts().minted, NAMES as u64);
    }
    report("leaf, minted with its configuration", &mut minting);
    report("leaf, held", &mut reusing);
    let rounds = |name, work: &dyn Fn() -> Result<()>| -> Result<()> {
        let mut costs = Vec::new();
        for _ in 0..ROUNDS {
            costs.push(each(&[(); 50], |()| work())?);
        }
        report(name, &mut costs);
        Ok(())
    };
    rounds("issuer of a run", &|| kept(Issuer::for_run(Scope::Any, now)))?;
    rounds("issuer under the installation's authority", &|| kept(authority.issuer(Scope::Any, now)))?;
    let place = folder.path().join("authority");
    rounds("authority, opened", &|| kept(Authority::open_or_create(&place, now)))?;
    let Some(first) = names.first() else { return Ok(()) };
    let scope = Scope::of(&[HostPattern::parse("*.example.com")?]);
    for (name, issuer) in [
        ("handshake, run's own issuer", Issuer::for_run(Scope::Any, now)?),
        ("handshake, issuer under the installation's", authority.issuer(Scope::Any, now)?),
        ("handshake, the same, names bounded", authority.issuer(scope, now)?),
    ] {
        handshakes(name, issuer, first, folder.path())?;
    }
    Ok(())
}

/// The work was done, and the compiler can't leave it out.
fn kept<T, E: Into<anyhow::Error>>(made: Result<T, E>) -> Result<()> {
    made.map(|made| drop(black_box(made))).map_err(Into::into)
}

/// Full handshakes of our own client and server in memory: both sides' work, no network.
fn handshakes(name: &str, issuer: Issuer, target: &Target, folder: &std::path::Path) -> Result<()> {
    let bundle = folder.join("bundle.pem");
    std::fs::write(&bundle, trust::pem(issuer.anchors()))?;
    let roots = UpstreamRoots::from_bundle(&bundle)?;
    let upstream = roots.client_config(Protocols::Http1, None, Resumption::disabled())?;
    let server = Leaves::new(issuer, 1)?.server_config(target, Protocols::Http1, SystemTime::now())?;
    let host = ServerName::try_from(target.to_string())?;
    let mut costs = Vec::new();
    for _ in 0..ROUNDS {
        costs.push(each(&[(); 300], |()| handshake(upstream.config(), server.clone(), host.clone()))?);
    }
    report(name, &mut costs);
    Ok(())
}

fn handshake(
    client: std::sync::Arc<rustls::ClientConfig>,
    server: std::sync::Arc<rustls::ServerConfig>,
    host: ServerName<'static>,
) -> Result<()> {
    let (mut client, mut server) = (ClientConnection::new(client, host)?, ServerConnection::new(server)?);
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire)?;
        }
        server.read_tls(&mut wire.as_slice())?;
        server.process_new_packets()?;
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire)?;
        }
        client.read_tls(&mut wire.as_slice())?;
        client.process_new_packets()?;
    }
    Ok(())
}

fn each<T, E>(items: &[T], mut work: impl FnMut(&T) -> Result<(), E>) -> Result<Duration, E> {
    let start = Instant::now();
    for item in items {
        work(item)?;
    }
    Ok(start.elapsed() / u32::try_from(items.len()).unwrap_or(u32::MAX))
}

fn report(what: &str, costs: &mut [Duration]) {
    costs.sort_unstable();
    if let [first, .., last] = &*costs
        && let Some(median) = costs.get(costs.len() / 2)
    {
        println!("{what:45} median {median:?} of {} rounds ({first:?} to {last:?})", costs.len());
    }
}
