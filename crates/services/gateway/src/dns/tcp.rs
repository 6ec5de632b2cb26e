//! DNS over TCP (RFC 7766): frames of a length and a message, any number on one connection.
//!
//! Bounds: connections at a time, the time in which a frame must be whole, and the time in which an answer must be
//! taken. A message longer than a question can be ends the connection.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};

use wire::dns::reply::{self, Transport};

use super::{DnsContext, decide::First};
use crate::identify::{self, Asker};

/// The most connections of one worker.
const CONNECTION_LIMIT: usize = 64;
/// How long a connection may be without a whole frame, and how long an answer may take to be taken.
const IDLE_LIMIT: Duration = Duration::from_secs(10);
/// The largest question.
const FRAME_LIMIT: usize = 4096;
/// How long to wait when no connection can be accepted for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until it is dropped.
pub(crate) async fn serve_tcp(listener: TcpListener, context: Arc<DnsContext>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTION_LIMIT => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream, Arc::clone(&context)));
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(mut stream: TcpStream, context: Arc<DnsContext>) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let Some(asker) = asker(&stream) else { return };
    let mut message = Vec::with_capacity(512);
    let mut out = Vec::with_capacity(512);
    loop {
        match timeout(IDLE_LIMIT, frame(&mut stream, &mut message)).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false) | Err(_)) | Err(_) => return,
        }
        out.clear();
        out.extend_from_slice(&[0, 0]);
        if !context.respond(&message, asker, &mut out).await {
            return;
        }
        let Ok(length) = u16::try_from(out.len() - 2) else { return };
        if let Some(head) = out.first_chunk_mut::<2>() {
            *head = length.to_be_bytes();
        }
        if !matches!(timeout(IDLE_LIMIT, stream.write_all(&out)).await, Ok(Ok(()))) {
            return;
        }
    }
}

/// The ends of a connection, as the client sees them.
fn asker(stream: &TcpStream) -> Option<Asker> {
    let (client, local) = (stream.peer_addr().ok()?, stream.local_addr().ok()?);
    let server = identify::original_destination(stream, local).unwrap_or(local);
    Some(Asker::Stream { client, server })
}

/// Reads one frame; false at the end or where it is too long.
async fn frame(stream: &mut TcpStream, message: &mut Vec<u8>) -> io::Result<bool> {
    let length = usize::from(stream.read_u16().await?);
    if length > FRAME_LIMIT {
        return Ok(false);
    }
    message.resize(length, 0);
    stream.read_exact(message).await?;
    Ok(true)
}

impl DnsContext {
    /// Answers one message behind what is in the buffer; false where it gets no answer.
    async fn respond(&self, message: &[u8], asker: Asker, out: &mut Vec<u8>) -> bool {
        match self.first(message, Transport::Tcp, None, out) {
            // Nothing was kept to be given again.
            First::Nothing | First::Again(_) => false,
            First::Answer(event) => {
                let event = match event {
                    Some(event) if self.wants_process(&event) => Some(self.with_process(event, asker).await),
                    event => event,
                };
                if !self.record(event).await {
                    let withheld = reply::withheld(out.get(2..).unwrap_or_default());
                    out.truncate(2);
                    out.extend_from_slice(&withheld);
                }
                true
            }
            First::Upstream(pending) => {
                let answer = self.finish(*pending).await;
                out.extend_from_slice(&answer);
                true
            }
        }
    }
}
