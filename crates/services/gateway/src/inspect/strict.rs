//! HTTP/1.1 of the client, read strictly before the library sees it.
//!
//! `wire` reads every head and follows every body to its end. The library gets a head that holds only what it needs
//! to carry the body and answer; the head as read waits in [`Heads`] for the request that it belongs to. A head
//! without one meaning becomes a last request that is refused, and nothing behind it is read.

use std::{
    cell::Cell,
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use policy::Layer;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};
use wire::{
    body::Body,
    http_head::{self, Framing, Head, NextLook, RequestHead},
};

/// How much is read at once.
const PIECE: usize = 16 * 1024;
/// What the library reads in place of a head that is refused.
const REFUSED: &[u8] = b"GET / HTTP/1.1\r\nHost: refused.invalid\r\nConnection: close\r\n\r\n";
/// Fields by which the library carries a body, keeps a connection or gives it away.
const FOR_LIBRARY: [&str; 6] = ["content-length", "transfer-encoding", "connection", "expect", "te", "upgrade"];

/// A head, or why it is none.
pub(super) type Read = Result<Box<RequestHead>, (Layer, &'static str)>;

/// What the reader and whoever answers tell each other.
#[derive(Debug, Default)]
pub(super) struct Heads(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    heads: VecDeque<Read>,
    /// What came of a WebSocket's handshake.
    tunnel: Option<bool>,
    waits: Option<Waker>,
}

impl Heads {
    /// The head of the request that the library took up next.
    pub(super) fn next(&self) -> Read {
        let lost = Err((Layer::Http, "a request whose head was not read"));
        self.told().heads.pop_front().unwrap_or(lost)
    }

    /// What follows a WebSocket's handshake: its frames, or the next request.
    pub(super) fn answer_upgrade(&self, tunnel: bool) {
        let mut told = self.told();
        told.tunnel = Some(tunnel);
        if let Some(waker) = told.waits.take() {
            waker.wake();
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client's stream, held to strict HTTP/1.1.
#[derive(Debug)]
pub(super) struct Strict<T> {
    inner: T,
    heads: Arc<Heads>,
    /// Read, and not looked at.
    held: BytesMut,
    look: NextLook,
    /// Looked at, and due.
    due: BytesMut,
    stage: Stage,
    /// Whether a head was ever read to its end.
    asked: bool,
    limit: usize,
    patience: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
enum Stage {
    Head,
    Body(Body),
    Upgrading,
    Tunnel,
    Refused,
}

impl<T> Strict<T> {
    /// `limit` bounds a head, `patience` the time for one from its first byte, and for the first one from now.
    pub(super) fn new(inner: T, heads: Arc<Heads>, limit: usize, patience: Duration) -> Self {
        let (held, due) = (BytesMut::new(), BytesMut::new());
        let look = NextLook::default();
        Self { inner, heads, held, look, due, stage: Stage::Head, asked: false, limit, patience, deadline: None }
    }

    fn refuse(&mut self, layer: Layer, reason: &'static str) {
        self.heads.told().heads.push_back(Err((layer, reason)));
        self.due.extend_from_slice(REFUSED);
        self.held.clear();
        self.stage = Stage::Refused;
    }

    /// Looks at what is held; `false` where more is needed.
    fn look(&mut self) -> bool {
        if !self.look.is_due(&self.held, self.limit) {
            return false;
        }
        self.look = NextLook::default();
        match http_head::read(&self.held, self.limit, false) {
            Head::Incomplete => {
                self.look = NextLook::after(self.held.len());
                return false;
            }
            Head::Malformed(reason) => self.refuse(Layer::Http, reason),
            Head::Http2 => self.refuse(Layer::Http, "HTTP/2 where HTTP/1.1 was agreed"),
            Head::NotHttp => self.refuse(Layer::Tls, "no HTTP inside TLS that a rule opens"),
            Head::Complete(head, used) => {
                self.held.advance(used);
                write_for_library(&head, &mut self.due);
                self.stage = match head.framing {
                    _ if head.websocket => Stage::Upgrading,
                    Framing::Empty | Framing::Length(0) => Stage::Head,
                    Framing::Length(length) => Stage::Body(Body::Length(length)),
                    Framing::Chunked => Stage::Body(Body::chunked(true)),
                };
                let mut told = self.heads.told();
                told.tunnel = None;
                told.heads.push_back(Ok(head));
            }
        }
        (self.asked, self.deadline) = (true, None);
        true
    }
}

/// A head that the library can't read otherwise than we did.
fn write_for_library(head: &RequestHead, due: &mut BytesMut) {
    due.extend_from_slice(head.method.as_bytes());
    due.extend_from_slice(if head.version_1_1 { b" / HTTP/1.1\r\n" } else { b" / HTTP/1.0\r\n" });
    due.extend_from_slice(b"Host: judged.invalid\r\n");
    for (name, value) in &head.fields {
        if FOR_LIBRARY.iter().any(|needed| name.eq_ignore_ascii_case(needed)) {
            due.extend_from_slice(name.as_bytes());
            due.extend_from_slice(b": ");
            due.extend_from_slice(value);
            due.extend_from_slice(b"\r\n");
        }
    }
    due.extend_from_slice(b"\r\n");
}

impl<T: AsyncRead + Unpin> Strict<T> {
    /// Reads a piece more; how many bytes.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        read_piece(&mut self.inner, &mut self.held, cx)
    }

    /// The next byte of a head, or the end of the wait for it.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if !self.held.is_empty() || !self.asked {
            let until = Instant::now() + self.patience;
            let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
            if deadline.as_mut().poll(cx).is_ready() {
                if self.held.is_empty() {
                    return Poll::Ready(Ok(false));
                }
                self.refuse(Layer::Http, "a request that took too long");
                return Poll::Ready(Ok(true));
            }
        }
        match std::task::ready!(self.poll_more(cx)) {
            Ok(0) if self.held.is_empty() => Poll::Ready(Ok(false)),
            // Most clients close between requests without a word of TLS.
            Err(error) if self.held.is_empty() && error.kind() == io::ErrorKind::UnexpectedEof => {
                Poll::Ready(Ok(false))
            }
            Ok(0) => {
                self.refuse(Layer::Http, "a request that ends too early");
                Poll::Ready(Ok(true))
            }
            Ok(_) => Poll::Ready(Ok(true)),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Makes something due; `false` at the end.
    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        match &mut self.stage {
            // The library answers what was refused, and closes.
            Stage::Refused => Poll::Pending,
            Stage::Head => {
                if !self.held.is_empty() && self.look() {
                    return Poll::Ready(Ok(true));
                }
                self.poll_head(cx)
            }
            Stage::Body(body) if !self.held.is_empty() => match body.advance(&self.held) {
                Ok(taken) => {
                    if body.is_done() {
                        self.stage = Stage::Head;
                    }
                    self.due = self.held.split_to(taken);
                    Poll::Ready(Ok(true))
                }
                Err(reason) => Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, reason))),
            },
            Stage::Tunnel if !self.held.is_empty() => {
                self.due = std::mem::take(&mut self.held);
                Poll::Ready(Ok(true))
            }
            Stage::Body(_) | Stage::Tunnel => Poll::Ready(std::task::ready!(self.poll_more(cx)).map(|count| count > 0)),
            Stage::Upgrading => {
                let mut told = self.heads.told();
                match told.tunnel {
                    Some(tunnel) => {
                        drop(told);
                        self.stage = if tunnel { Stage::Tunnel } else { Stage::Head };
                        Poll::Ready(Ok(true))
                    }
                    None => {
                        told.waits = Some(cx.waker().clone());
                        Poll::Pending
                    }
                }
            }
        }
    }
}

thread_local! {
    /// What is read comes here first, so that a connection that waits holds no memory for what may come, and none has
    /// to be found each time that nothing does.
    static PASSING: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Appends what the stream has, at most a piece.
fn read_piece<T: AsyncRead + Unpin>(
    inner: &mut T,
    held: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut passing = PASSING.take();
    passing.resize(PIECE, 0);
    let mut read = ReadBuf::new(&mut passing);
    let polled = Pin::new(inner).poll_read(cx, &mut read);
    if held.is_empty() {
        *held = BytesMut::new();
    }
    held.extend_from_slice(read.filled());
    let count = read.filled().len();
    PASSING.set(passing);
    polled.map_ok(|()| count)
}

impl<T: AsyncRead + Unpin> AsyncRead for Strict<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.due.is_empty() {
            match std::task::ready!(self.poll_due(cx)) {
                Ok(true) => {}
                Ok(false) => return Poll::Ready(Ok(())),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        let count = self.due.len().min(buf.remaining());
        buf.put_slice(self.due.get(..count).unwrap_or_default());
        self.due.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Strict<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests;
