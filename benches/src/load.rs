//! The client: bulk, new connections, kept-alive round trips, idle tunnels.
//!
//! Plain blocking sockets and threads, so that the client costs the same for every side.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::origin::REQUEST;

/// What the client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// Streams of `bytes` each.
    Bulk,
    /// Connect, 64 bytes, close, over and over.
    New,
    /// 64 bytes over and over on one connection.
    Kept,
    /// Open connections, say so, and hold them until standard input closes.
    Idle,
}

/// One load.
#[derive(Debug, Clone, Args)]
pub struct Load {
    /// What to do.
    #[arg(long)]
    pub shape: Shape,
    /// The origin, or where a fixed forwarder listens.
    #[arg(long)]
    pub target: SocketAddr,
    /// Go through this CONNECT proxy.
    #[arg(long)]
    pub proxy: Option<SocketAddr>,
    /// How many at a time.
    #[arg(long, default_value_t = 1)]
    pub clients: usize,
    /// Connections or round trips in all, or idle connections.
    #[arg(long, default_value_t = 1)]
    pub count: usize,
    /// Bytes of one bulk stream.
    #[arg(long, default_value_t = 64)]
    pub bytes: u64,
    /// Stay until standard input closes, so that what forwards can still be measured.
    #[arg(long)]
    pub hold: bool,
}

/// What one load measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measured {
    /// Seconds from start to end.
    pub seconds: f64,
    /// Connections, round trips or streams done.
    pub done: usize,
    /// Body bytes received.
    pub bytes: u64,
    /// Median latency, in microseconds.
    pub p50_us: f64,
    /// 99th percentile, in microseconds.
    pub p99_us: f64,
}

impl Measured {
    /// A load that failed.
    pub const MISSING: Measured = Measured { seconds: f64::NAN, done: 0, bytes: 0, p50_us: f64::NAN, p99_us: f64::NAN };
}

/// Runs the load and prints what it measured as one JSON line.
pub fn run(load: &Load) -> Result<()> {
    if load.shape == Shape::Idle {
        return hold_idle(load);
    }
    let start = Instant::now();
    let workers: Vec<_> = (0..load.clients)
        .map(|_| {
            let load = load.clone();
            thread::spawn(move || drive(&load))
        })
        .collect();
    let mut latencies = Vec::new();
    for worker in workers {
        latencies.extend(worker.join().map_err(|_| anyhow::anyhow!("a client panicked"))??);
    }
    let seconds = start.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let percentile = |p: usize| {
        let index = (latencies.len() * p / 100).min(latencies.len().saturating_sub(1));
        latencies.get(index).map_or(0.0, |d: &Duration| d.as_secs_f64() * 1e6)
    };
    let measured = Measured {
        seconds,
        done: latencies.len(),
        bytes: load.bytes * latencies.len() as u64,
        p50_us: percentile(50),
        p99_us: percentile(99),
    };
    println!("{}", serde_json::to_string(&measured)?);
    if load.hold {
        std::io::stdin().read_to_end(&mut Vec::new())?;
    }
    Ok(())
}

fn drive(load: &Load) -> Result<Vec<Duration>> {
    let share = (load.count / load.clients).max(1);
    let mut latencies = Vec::with_capacity(share);
    let mut buffer = vec![0_u8; 256 * 1024];
    let mut kept = if load.shape == Shape::New { None } else { Some(open(load)?) };
    for _ in 0..share {
        let start = Instant::now();
        match kept.as_mut() {
            Some(stream) => exchange(stream, load.bytes, &mut buffer)?,
            None => exchange(&mut open(load)?, load.bytes, &mut buffer)?,
        }
        latencies.push(start.elapsed());
    }
    Ok(latencies)
}

fn hold_idle(load: &Load) -> Result<()> {
    let mut held = Vec::with_capacity(load.count);
    let mut buffer = vec![0_u8; 4096];
    for _ in 0..load.count {
        let mut stream = open(load)?;
        exchange(&mut stream, 64, &mut buffer)?;
        held.push(stream);
    }
    println!("held");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn exchange(stream: &mut TcpStream, bytes: u64, buffer: &mut [u8]) -> Result<()> {
    let mut request = [0_u8; 9];
    let (first, length) = request.split_at_mut(1);
    first.fill(REQUEST);
    length.copy_from_slice(&bytes.to_be_bytes());
    stream.write_all(&request)?;
    let mut left = bytes;
    while left > 0 {
        let got = stream.read(buffer)?;
        ensure!(got > 0, "the connection ended {left} bytes early");
        left = left.saturating_sub(got as u64);
    }
    Ok(())
}

fn open(load: &Load) -> Result<TcpStream> {
    let first_hop = load.proxy.unwrap_or(load.target);
    let mut stream = TcpStream::connect(first_hop).with_context(|| format!("connecting to {first_hop}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    if load.proxy.is_some() {
        // In one piece, as clients do: `write!` would send each argument in a packet of its own.
        let request = format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", load.target);
        stream.write_all(request.as_bytes())?;
        read_connect_answer(&mut stream)?;
    }
    Ok(stream)
}

fn read_connect_answer(stream: &mut TcpStream) -> Result<()> {
    let mut head = Vec::with_capacity(256);
    let mut part = [0_u8; 512];
    while !head.ends_with(b"\r\n\r\n") {
        let got = stream.read(&mut part)?;
        ensure!(got > 0 && head.len() < 8192, "no answer to CONNECT: {:?}", String::from_utf8_lossy(&head));
        head.extend_from_slice(part.get(..got).unwrap_or_default());
    }
    let refused = !(head.starts_with(b"HTTP/1.1 200") || head.starts_with(b"HTTP/1.0 200"));
    ensure!(!refused, "CONNECT was refused: {}", String::from_utf8_lossy(&head));
    Ok(())
}
