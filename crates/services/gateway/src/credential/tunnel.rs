//! WebSockets, looked through: what the server sends is masked, what the sandbox sends goes on as it is.

use std::io;

use secret_swap::Frames;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::Looking;

/// How much is read at once.
const PIECE: usize = 16 * 1024;

/// Moves frames both ways until both sides are done, or one fails.
pub(crate) async fn relay(
    client: &mut (impl AsyncRead + AsyncWrite + Unpin),
    server: &mut (impl AsyncRead + AsyncWrite + Unpin),
    looking: Option<Looking>,
) -> io::Result<()> {
    let Some(Looking { masks, .. }) = looking else {
        return tokio::io::copy_bidirectional(client, server).await.map(drop);
    };
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let up = async {
        tokio::io::copy(&mut from_client, &mut to_server).await?;
        to_server.shutdown().await
    };
    let down = async {
        let mut frames = Frames::new(masks.now());
        let mut piece = vec![0; PIECE];
        let mut out = Vec::new();
        loop {
            let count = from_server.read(&mut piece).await?;
            if count == 0 {
                return to_client.shutdown().await;
            }
            out.clear();
            frames.renew(masks.now());
            let outcome = frames.push(piece.get(..count).unwrap_or_default(), &mut out);
            to_client.write_all(&out).await?;
            to_client.flush().await?;
            outcome.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
    };
    tokio::try_join!(up, down).map(drop)
}
