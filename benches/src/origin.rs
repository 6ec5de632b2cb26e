//! The server that every side forwards to.
//!
//! A request is nine bytes: `0x01` and a big-endian length; the answer is that many bytes. The first byte
//! looks like neither TLS nor HTTP, so a gateway that reads ahead treats the flow as what it is: raw TCP.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use clap::Args;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// The first byte of a request.
pub const REQUEST: u8 = 0x01;

const CHUNK: usize = 256 * 1024;

/// Where the origin listens.
#[derive(Args)]
pub struct Origin {
    /// The address and port.
    #[arg(long)]
    listen: SocketAddr,
}

/// Serves until killed.
pub fn serve(origin: &Origin) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        let listener = TcpListener::bind(origin.listen).await.with_context(|| format!("binding {}", origin.listen))?;
        println!("ready");
        loop {
            // A connection that was aborted while it waited is no reason to end.
            let Ok((stream, _)) = listener.accept().await else { continue };
            tokio::spawn(async move {
                // A client that goes away ends its own connection only.
                let _ = answer(stream).await;
            });
        }
    });
    drop(runtime);
    served
}

async fn answer(mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let body = vec![0x5a_u8; CHUNK];
    loop {
        let mut request = [0_u8; 9];
        if stream.read_exact(&mut request).await.is_err() {
            return Ok(());
        }
        let [_, length @ ..] = request;
        let mut left = usize::try_from(u64::from_be_bytes(length))?;
        while left > 0 {
            let chunk = body.get(..left.min(CHUNK)).unwrap_or_default();
            stream.write_all(chunk).await?;
            left -= chunk.len();
        }
    }
}
