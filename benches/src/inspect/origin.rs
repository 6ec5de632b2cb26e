//! The TLS server behind every side: HTTP/1.1, `GET /N` and `POST /N` are answered with N bytes.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::{Context, Result};
use clap::Args;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

const CHUNK: usize = 64 * 1024;

/// Where it listens, and as whom.
#[derive(Args)]
pub struct TlsOrigin {
    /// The address and port.
    #[arg(long)]
    listen: SocketAddr,
    /// Its certificate and key, one PEM file.
    #[arg(long)]
    identity: PathBuf,
}

/// Serves until killed.
pub fn serve(origin: &TlsOrigin) -> Result<()> {
    let certificate = CertificateDer::from_pem_file(&origin.identity)?;
    let key = PrivateKeyDer::from_pem_file(&origin.identity)?;
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    let mut config = config;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(origin.listen).await.with_context(|| format!("binding {}", origin.listen))?;
        println!("ready");
        loop {
            // A connection that was aborted while it waited is no reason to end.
            let Ok((stream, _)) = listener.accept().await else { continue };
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that goes away ends its own connection only.
                let _ = take(acceptor, stream).await;
            });
        }
    })
}

async fn take(acceptor: TlsAcceptor, stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    answer(acceptor.accept(stream).await?).await
}

async fn answer(mut stream: TlsStream<TcpStream>) -> Result<()> {
    let body = vec![0x5a_u8; CHUNK];
    let mut held = Vec::with_capacity(4096);
    loop {
        let Some(head) = head_end(&held) else {
            if stream.read_buf(&mut held).await? == 0 {
                return Ok(());
            }
            continue;
        };
        let text = std::str::from_utf8(held.get(..head).unwrap_or_default())?;
        let target = text.split(' ').nth(1).and_then(|path| path.strip_prefix('/')).context("no target")?;
        let bytes: usize = target.parse()?;
        let length = text.to_ascii_lowercase();
        let length = length.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        let end = head + length.unwrap_or(0);
        while held.len() < end {
            anyhow::ensure!(stream.read_buf(&mut held).await? > 0, "a request ended early");
        }
        held.drain(..end);
        let mut first = format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n").into_bytes();
        first.extend(body.iter().take(bytes));
        let mut left = bytes.saturating_sub(CHUNK);
        stream.write_all(&first).await?;
        while left > 0 {
            let chunk = body.get(..left.min(CHUNK)).unwrap_or_default();
            stream.write_all(chunk).await?;
            left -= chunk.len();
        }
        stream.flush().await?;
    }
}

/// Where a head ends; nothing where it is not there yet.
pub fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}
