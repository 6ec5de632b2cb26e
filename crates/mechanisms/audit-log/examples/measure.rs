//! What one record costs: `cargo run --release -p audit-log --example measure [FOLDER]`.
//!
//! The event is the one of spec/egress.md, section 11. First the line and its hash alone, then the whole record with
//! one thread and with two, then on the disk.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use audit_event::{
    Chain, Destination, Event, FlowDecided, Position, Process, RunContext, SaltKey, TlsSeen, Transfer, WouldRecord,
};
use audit_log::{AuditLog, Durability, Options};
use jiff::Timestamp;

fn event() -> Event {
    Event::FlowDecided(Box::new(FlowDecided {
        flow: 42,
        revision: "3".into(),
        verdict: "denied".into(),
        enforcement: "enforce".into(),
        rule: "deny-east-west".into(),
        layer: "ip".into(),
        reason: "destination in group private".into(),
        would: vec![WouldRecord { rule: "deny-new-domains".into(), verdict: "would-deny".into() }],
        process: Some(Process {
            pid: 4711,
            exe: "/usr/bin/curl".into(),
            digest: None,
            args: "curl -s http://db.internal/".into(),
        }),
        destination: Destination {
            name: Some("db.internal".into()),
            name_from: Some("dns-binding".into()),
            address: Some([10, 0, 0, 8].into()),
            original_address: Some([10, 0, 0, 8].into()),
            port: 80,
        },
        protocol: "tcp".into(),
        route: None,
        tls: TlsSeen { mode: "none".into(), sni: None, alpn: None, ech: None },
        http: None,
        credential: None,
        bytes: Transfer::default(),
        duration_us: 87,
        error: None,
    }))
}

fn context() -> RunContext {
    RunContext { sandbox: "run-7f3a9c01".into(), thread: None, tool_call: None }
}

fn encoding(rounds: u32) -> Result<Duration> {
    let mut chain = Chain::new(&context(), Position::START, SaltKey::from_random([7; 32]));
    let (event, now) = (event(), Timestamp::now());
    let mut line = Vec::new();
    let start = Instant::now();
    for _ in 0..rounds {
        line.clear();
        chain.append(&event, now, &mut line)?;
    }
    println!("a line has {} bytes", line.len());
    Ok(start.elapsed() / rounds)
}

/// How many events are made before the clock starts again.
const AT_ONCE: u32 = 100;

fn recording(folder: &Path, durability: Durability, threads: u32, rounds: u32) -> Result<Duration> {
    let path = folder.join(format!("{durability:?}-{threads}.jsonl"));
    let log = AuditLog::open(&path, context(), Options { durability, ..Options::default() })?;
    let one_thread = || -> Result<Duration> {
        let mut spent = Duration::ZERO;
        for _ in 0..rounds / AT_ONCE {
            // Making the events isn't part of the record.
            let events: Vec<Event> = (0..AT_ONCE).map(|_| event()).collect();
            let start = Instant::now();
            for event in events {
                log.record_blocking(event)?;
            }
            spent += start.elapsed();
        }
        Ok(spent)
    };
    let spent = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(one_thread)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?)
            .sum::<Result<Duration>>()
    })?;
    Ok(spent / (rounds * threads))
}

fn main() -> Result<()> {
    let folder = match std::env::args_os().nth(1) {
        Some(parent) => tempfile::TempDir::new_in(parent)?,
        None => tempfile::TempDir::new()?,
    };
    println!("line and hash: {:?}", encoding(300_000)?);
    for threads in [1, 2, 8] {
        let each = recording(folder.path(), Durability::Written, threads, 200_000 / threads)?;
        println!("written, {threads} threads: a call takes {each:?}");
    }
    for threads in [1, 2, 8] {
        let each = recording(folder.path(), Durability::Fsync, threads, 4_000 / threads)?;
        println!("fsync, {threads} threads: a call takes {each:?}");
    }
    Ok(())
}
