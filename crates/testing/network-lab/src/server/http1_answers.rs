//! What each path answers with.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{sleep, timeout},
};

use super::{
    carried::Stream,
    http1::Request,
    reflect::{Reflection, Told},
};

/// The most that `/bytes/N` gives: 4 GiB.
const MOST: u64 = 4 << 30;
/// How long `/hold` holds.
const HOLD: Duration = Duration::from_secs(600);

pub(super) async fn answer(stream: &mut impl Stream, request: &Request) -> Result<()> {
    let told = Told { target: &request.target, headers: &request.headers, body: &request.body };
    if let Some(reflection) = told.answer() {
        return reflect(stream, &reflection, request.method == "HEAD").await;
    }
    let path = request.path();
    let (first, rest) = path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_start_matches('/'), ""));
    match first {
        "bytes" => body(stream, rest.parse()?).await,
        "chunked" => chunked(stream, rest.parse()?).await,
        "events" => events(stream, rest.parse()?, request.query("every").and_then(|ms| ms.parse().ok())).await,
        "status" => respond(stream, &format!("{rest} Asked For"), "", rest.as_bytes()).await,
        "hold" => hold(stream).await,
        "switch" => {
            stream
                .write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
                .await?;
            Ok(stream.flush().await?)
        }
        _ => {
            let host = request.header("host").unwrap_or("-");
            let mut text = format!("{} {host} {}\n", request.method, request.target).into_bytes();
            text.extend_from_slice(&request.body);
            respond(
                stream,
                "200 OK",
                "Content-Type: text/plain\r\n",
                if request.method == "HEAD" { b"" } else { &text },
            )
            .await
        }
    }
}

/// One answer with a body.
pub(super) async fn respond(stream: &mut impl Stream, status: &str, fields: &str, body: &[u8]) -> Result<()> {
    let head = format!("HTTP/1.1 {status}\r\nServer: network-lab\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat()).await?;
    stream.flush().await?;
    Ok(())
}

async fn reflect(stream: &mut impl Stream, reflection: &Reflection, is_head: bool) -> Result<()> {
    let mut head = format!("HTTP/1.1 {} Reflected\r\nTransfer-Encoding: chunked\r\n", reflection.status);
    for (name, value) in &reflection.fields {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all((head + "\r\n").as_bytes()).await?;
    if is_head {
        return Ok(stream.flush().await?);
    }
    for piece in reflection.body.chunks(reflection.pieces) {
        stream.write_all(&[format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()).await?;
        stream.flush().await?;
    }
    stream.write_all(b"0\r\n\r\n").await?;
    Ok(stream.flush().await?)
}

async fn body(stream: &mut impl Stream, length: u64) -> Result<()> {
    if length > MOST {
        bail!("{length} bytes is more than this server gives");
    }
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let block = vec![b'x'; 256 * 1024];
    let mut left = length;
    while left > 0 {
        let count = block.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        stream.write_all(block.get(..count).unwrap_or(&block)).await?;
        left -= count as u64;
    }
    stream.flush().await?;
    Ok(())
}

async fn chunked(stream: &mut impl Stream, length: usize) -> Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
    let mut left = length.min(64 << 20);
    while left > 0 {
        let count = left.min(1000);
        stream.write_all(format!("{count:x}\r\n{}\r\n", "x".repeat(count)).as_bytes()).await?;
        left -= count;
    }
    stream.write_all(b"0\r\n\r\n").await?;
    stream.flush().await?;
    Ok(())
}

async fn events(stream: &mut impl Stream, count: u32, every: Option<u64>) -> Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n").await?;
    for number in 0..count.min(10_000) {
        stream.write_all(format!("id: {number}\ndata: event {number}\n\n").as_bytes()).await?;
        stream.flush().await?;
        sleep(Duration::from_millis(every.unwrap_or(0).min(10_000))).await;
    }
    stream.shutdown().await?;
    Ok(())
}

async fn hold(stream: &mut impl Stream) -> Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nheld").await?;
    stream.flush().await?;
    let mut rest = Vec::new();
    timeout(HOLD, stream.read_to_end(&mut rest)).await??;
    Ok(())
}
