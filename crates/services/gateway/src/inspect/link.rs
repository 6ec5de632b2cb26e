//! Streams that know when they last moved, and how much.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use audit_event::Transfer;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Instant,
};

use super::ahead::Ahead;
use crate::pump;

/// What is known of a client's connection from its bytes.
#[derive(Debug)]
pub(super) struct Link {
    since: Instant,
    /// Milliseconds from `since` to the last byte.
    last: AtomicU64,
    torn: AtomicBool,
    sent: AtomicU64,
    received: AtomicU64,
}

impl Link {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            since: Instant::now(),
            last: AtomicU64::new(0),
            torn: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
        })
    }

    fn touch(&self) {
        let passed = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(passed, Ordering::Relaxed);
    }

    /// The connection ends with a reset, so that nobody takes what came for the whole.
    pub(super) fn tear(&self) {
        self.torn.store(true, Ordering::Relaxed);
    }

    /// What moved between us and servers.
    pub(super) fn moved(&self) -> Transfer {
        Transfer { sent: self.sent.load(Ordering::Relaxed), received: self.received.load(Ordering::Relaxed) }
    }

    /// Waits until no byte moved for so long.
    pub(super) async fn idle(&self, bound: Duration) {
        loop {
            let last = self.since + Duration::from_millis(self.last.load(Ordering::Relaxed));
            if last.elapsed() >= bound {
                return;
            }
            tokio::time::sleep_until(last + bound).await;
        }
    }
}

/// The client's socket, with the bytes that were read of it before.
#[derive(Debug)]
pub(super) struct ClientStream {
    stream: Ahead,
    link: Arc<Link>,
}

impl ClientStream {
    pub(super) fn new(first: &[u8], stream: TcpStream, link: Arc<Link>) -> Self {
        Self { stream: Ahead::new(first, stream), link }
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        if self.link.torn.load(Ordering::Relaxed) {
            pump::reset(&self.stream.stream);
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if polled.is_ready() {
            self.link.touch();
        }
        polled
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if polled.is_ready() {
            self.link.touch();
        }
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        if polled.is_ready() {
            self.link.touch();
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// For whom a connection to a server counts what moves: one client's connection after the other.
#[derive(Debug)]
pub(super) struct Carried(Mutex<Option<Arc<Link>>>);

impl Carried {
    pub(super) fn new(link: &Arc<Link>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Some(Arc::clone(link)))))
    }

    pub(super) fn carry_for(&self, link: &Arc<Link>) {
        *self.link() = Some(Arc::clone(link));
    }

    pub(super) fn is_free(&self) {
        *self.link() = None;
    }

    fn link(&self) -> MutexGuard<'_, Option<Arc<Link>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, sent: usize, received: usize) {
        if let Some(link) = &*self.link() {
            link.touch();
            link.sent.fetch_add(sent as u64, Ordering::Relaxed);
            link.received.fetch_add(received as u64, Ordering::Relaxed);
        }
    }
}

/// A stream to a server; what moves is counted.
#[derive(Debug)]
pub(super) struct ServerStream<T> {
    stream: T,
    carried: Arc<Carried>,
}

impl<T> ServerStream<T> {
    pub(super) fn new(stream: T, carried: Arc<Carried>) -> Self {
        Self { stream, carried }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for ServerStream<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if polled.is_ready() {
            self.carried.count(0, buf.filled().len() - before);
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for ServerStream<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = polled {
            self.carried.count(count, 0);
        }
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        if let Poll::Ready(Ok(count)) = polled {
            self.carried.count(count, 0);
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
