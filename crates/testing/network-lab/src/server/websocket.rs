//! WebSocket echo (RFC 6455): text and binary frames come back, ping gets pong, close closes.

use anyhow::{Context as _, Result, bail};
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use data_encoding::BASE64;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{carried::Stream, http1::Request};

/// What the handshake's answer hashes behind the client's key (RFC 6455, 1.3).
const MAGIC: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The longest frame taken.
const LONGEST: u64 = 16 << 20;

pub(super) async fn serve(mut stream: impl Stream, request: &Request, ahead: Vec<u8>) -> Result<()> {
    let key = request.header("sec-websocket-key").context("a WebSocket without a key")?;
    let accept = digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{MAGIC}").as_bytes());
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        BASE64.encode(accept.as_ref())
    );
    stream.write_all(head.as_bytes()).await?;
    stream.flush().await?;
    let (reader, mut writer) = tokio::io::split(stream);
    let mut reader = ahead.as_slice().chain(reader);
    loop {
        let first = reader.read_u8().await?;
        let second = reader.read_u8().await?;
        let length = match second & 0x7f {
            126 => u64::from(reader.read_u16().await?),
            127 => reader.read_u64().await?,
            short => u64::from(short),
        };
        if length > LONGEST || second & 0x80 == 0 {
            bail!("a frame of {length} bytes, masked {}", second & 0x80 != 0);
        }
        let mut mask = [0; 4];
        reader.read_exact(&mut mask).await?;
        let mut payload = vec![0; usize::try_from(length)?];
        reader.read_exact(&mut payload).await?;
        for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
            *byte ^= mask;
        }
        // A ping's answer is a pong; all other frames come back as they are.
        let first = if first & 0x0f == 9 { (first & 0xf0) | 10 } else { first };
        let mut frame = vec![first];
        match payload.len() {
            length @ 0..126 => frame.push(u8::try_from(length)?),
            length @ 126..65_536 => {
                frame.push(126);
                frame.extend_from_slice(&u16::try_from(length)?.to_be_bytes());
            }
            length => {
                frame.push(127);
                frame.extend_from_slice(&u64::try_from(length)?.to_be_bytes());
            }
        }
        frame.extend_from_slice(&payload);
        writer.write_all(&frame).await?;
        writer.flush().await?;
        if first & 0x0f == 8 {
            writer.shutdown().await?;
            return Ok(());
        }
    }
}
