//! The client: TLS and HTTP/1.1 to the origin, directly, through a CONNECT proxy, or through whatever intercepts it.
//!
//! One thread and one event loop, so that many connections cost no more threads than one. Every certificate is verified;
//! no session is resumed, so that each new connection is a whole one.

use std::{
    env,
    io::Read as _,
    net::{SocketAddr, ToSocketAddrs as _},
    path::PathBuf,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    task::LocalSet,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{identity::NAME, origin::head_end};
use crate::load::Measured;

/// Where a sandbox has the placeholder of a secret that requests carry.
pub const TOKEN: &str = "BENCHES_TOKEN";
/// How much is read at once.
const PIECE: usize = 64 * 1024;
/// The body of a POST.
const UPLOAD: usize = 1000;

/// What the client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// Answers of `bytes` each, one after the other.
    Bulk,
    /// Connect, one answer, close, over and over.
    New,
    /// One answer after the other on kept connections.
    Kept,
    /// The same with POST, head and body written by themselves, as many clients do.
    Post,
    /// Open connections, one answer on each, say so, and hold them until standard input closes.
    Idle,
}

/// One load.
#[derive(Debug, Clone, Args)]
pub struct TlsLoad {
    /// What to do.
    #[arg(long)]
    shape: Shape,
    /// The origin's port; its name is asked of the system.
    #[arg(long)]
    port: u16,
    /// Go through this CONNECT proxy.
    #[arg(long)]
    proxy: Option<SocketAddr>,
    /// How many at a time.
    #[arg(long, default_value_t = 1)]
    clients: usize,
    /// For how long.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Idle connections.
    #[arg(long, default_value_t = 1)]
    count: usize,
    /// Bytes of an answer.
    #[arg(long, default_value_t = 64)]
    bytes: usize,
    /// Whom to trust; what `SSL_CERT_FILE` says unless given.
    #[arg(long, env = "SSL_CERT_FILE")]
    roots: PathBuf,
    /// Stay until standard input closes, so that what forwards can still be measured.
    #[arg(long)]
    hold: bool,
}

/// What every connection needs.
struct Client {
    load: TlsLoad,
    connector: TlsConnector,
    first_hop: SocketAddr,
    get: Vec<u8>,
    post: (Vec<u8>, Vec<u8>),
}

type Tls = TlsStream<BufReader<TcpStream>>;

/// Runs the load and prints what it measured as one JSON line.
pub fn run(load: &TlsLoad) -> Result<()> {
    let client = Rc::new(Client::new(load.clone())?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        if load.shape == Shape::Idle {
            return client.hold_idle().await;
        }
        // What is done once per process is no part of any figure, unless it is all of it.
        if load.shape != Shape::Bulk {
            client.exchange(&mut client.open().await?).await?;
        }
        let start = Instant::now();
        let tasks: Vec<_> = (0..load.clients)
            .map(|_| {
                let client = Rc::clone(&client);
                tokio::task::spawn_local(async move { client.drive(start).await })
            })
            .collect();
        let mut latencies = Vec::new();
        for task in tasks {
            latencies.extend(task.await??);
        }
        println!("{}", serde_json::to_string(&measured(latencies, start.elapsed(), load.bytes))?);
        if load.hold {
            std::io::stdin().read_to_end(&mut Vec::new())?;
        }
        Ok(())
    })
}

fn measured(mut latencies: Vec<Duration>, elapsed: Duration, bytes: usize) -> Measured {
    latencies.sort_unstable();
    let percentile = |p: usize| {
        let index = (latencies.len() * p / 100).min(latencies.len().saturating_sub(1));
        latencies.get(index).map_or(0.0, |d| d.as_secs_f64() * 1e6)
    };
    Measured {
        seconds: elapsed.as_secs_f64(),
        done: latencies.len(),
        bytes: (bytes * latencies.len()) as u64,
        p50_us: percentile(50),
        p99_us: percentile(99),
    }
}

#[expect(clippy::disallowed_methods, reason = "this is what runs in a sandbox, and it asks as programs do")]
fn origin_address(port: u16) -> Result<SocketAddr> {
    (NAME, port).to_socket_addrs()?.next().context("the origin's name has no address")
}

impl Client {
    fn new(load: TlsLoad) -> Result<Client> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(&load.roots)? {
            roots.add(certificate?)?;
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::disabled();
        let first_hop = match load.proxy {
            Some(proxy) => proxy,
            None => origin_address(load.port)?,
        };
        let token = env::var(TOKEN).map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let head = |method: &str, more: &str| {
            let port = load.port;
            format!(
                "{method} /{} HTTP/1.1\r\nHost: {NAME}:{port}\r\nUser-Agent: benches\r\nAccept: */*\r\n{token}{more}\r\n",
                load.bytes
            )
            .into_bytes()
        };
        let get = head("GET", "");
        let post = (head("POST", &format!("Content-Length: {UPLOAD}\r\n")), vec![b'x'; UPLOAD]);
        Ok(Client { connector: TlsConnector::from(Arc::new(config)), first_hop, get, post, load })
    }

    async fn drive(&self, start: Instant) -> Result<Vec<Duration>> {
        let bound = Duration::from_secs_f64(self.load.seconds);
        let mut latencies = Vec::new();
        let mut kept = if self.load.shape == Shape::New { None } else { Some(self.open().await?) };
        loop {
            let since = Instant::now();
            match kept.as_mut() {
                Some(stream) => self.exchange(stream).await?,
                None => self.exchange(&mut self.open().await?).await?,
            }
            latencies.push(since.elapsed());
            if start.elapsed() >= bound {
                return Ok(latencies);
            }
        }
    }

    async fn hold_idle(&self) -> Result<()> {
        let mut held = Vec::with_capacity(self.load.count);
        for _ in 0..self.load.count {
            let mut stream = self.open().await?;
            self.exchange(&mut stream).await?;
            held.push(stream);
        }
        println!("held");
        std::io::stdin().read_to_end(&mut Vec::new())?;
        Ok(())
    }

    async fn open(&self) -> Result<Tls> {
        let stream =
            TcpStream::connect(self.first_hop).await.with_context(|| format!("connecting to {}", self.first_hop))?;
        stream.set_nodelay(true)?;
        let stream = if self.load.proxy.is_some() { self.tunnel(stream).await? } else { stream };
        // What the client costs is in every figure: it reads in large pieces.
        let stream = BufReader::with_capacity(PIECE, stream);
        Ok(self.connector.connect(ServerName::try_from(NAME)?, stream).await?)
    }

    async fn tunnel(&self, mut stream: TcpStream) -> Result<TcpStream> {
        let request = format!("CONNECT {NAME}:{0} HTTP/1.1\r\nHost: {NAME}:{0}\r\n\r\n", self.load.port);
        stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::with_capacity(256);
        while head_end(&head).is_none() {
            ensure!(stream.read_buf(&mut head).await? > 0, "no answer to CONNECT");
        }
        let granted = head.starts_with(b"HTTP/1.1 200") || head.starts_with(b"HTTP/1.0 200");
        ensure!(granted, "CONNECT was refused: {}", String::from_utf8_lossy(&head));
        Ok(stream)
    }

    async fn exchange(&self, stream: &mut Tls) -> Result<()> {
        let bytes = self.load.bytes;
        if self.load.shape == Shape::Post {
            stream.write_all(&self.post.0).await?;
            stream.flush().await?;
            stream.write_all(&self.post.1).await?;
        } else {
            stream.write_all(&self.get).await?;
        }
        stream.flush().await?;
        let mut held = Vec::with_capacity(PIECE);
        let end = loop {
            ensure!(stream.read_buf(&mut held).await? > 0, "the connection ended before an answer");
            if let Some(end) = head_end(&held) {
                break end;
            }
        };
        let ok = held.starts_with(b"HTTP/1.1 200 ");
        ensure!(
            ok,
            "no good answer: {}",
            String::from_utf8_lossy(held.get(..held.len().min(1000)).unwrap_or_default())
        );
        let mut got = held.len() - end;
        while got < bytes {
            held.clear();
            let count = stream.read_buf(&mut held).await?;
            ensure!(count > 0, "an answer ended {} bytes early", bytes - got);
            got += count;
        }
        Ok(())
    }
}
