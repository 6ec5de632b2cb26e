//! Streams that know when they last moved, and how much.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use audit_event::Transfer;
use certificates::{Fault, Upstream};
use tokio::{
    io::{AsyncBufRead as _, AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Instant,
};
use tokio_rustls::client::TlsStream;

use super::ahead::Ahead;
use crate::pump;

/// What is known of a client's connection from its bytes.
#[derive(Debug)]
pub(super) struct Link {
    since: Instant,
    /// Milliseconds from `since` to the last byte.
    last: AtomicU64,
    /// Requests that are dealt with, and milliseconds from `since` to the end of the last one.
    requests: AtomicU32,
    served: AtomicU64,
    torn: AtomicBool,
    sent: AtomicU64,
    received: AtomicU64,
    /// Counts what moves on all connections of the worker.
    moves: Arc<AtomicU64>,
}

impl Link {
    pub(super) fn new(moves: &Arc<AtomicU64>) -> Arc<Self> {
        Arc::new(Self {
            since: Instant::now(),
            last: AtomicU64::new(0),
            requests: AtomicU32::new(0),
            served: AtomicU64::new(0),
            torn: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            moves: Arc::clone(moves),
        })
    }

    fn passed(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn touch(&self) {
        self.last.store(self.passed(), Ordering::Relaxed);
        self.moves.fetch_add(1, Ordering::Relaxed);
    }

    /// A request is dealt with, until [`Link::served`].
    pub(super) fn serves(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// It is done.
    pub(super) fn served(&self) {
        self.served.store(self.passed(), Ordering::Relaxed);
        self.requests.fetch_sub(1, Ordering::Relaxed);
    }

    /// How long it has carried no request.
    pub(super) fn unserved(&self, now: Instant) -> Duration {
        if self.requests.load(Ordering::Relaxed) > 0 {
            return Duration::ZERO;
        }
        now.saturating_duration_since(self.since + Duration::from_millis(self.served.load(Ordering::Relaxed)))
    }

    /// How long no byte moved.
    pub(super) fn silent(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since + Duration::from_millis(self.last.load(Ordering::Relaxed)))
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

/// For whom a connection to a server counts what moves, one client's connection after the other; and what TLS said of
/// our own certificate after the handshake, where TLS 1.3 says it: the HTTP library does not always pass that on.
#[derive(Debug)]
pub(super) struct Carried {
    link: Mutex<Option<Arc<Link>>>,
    unidentified: OnceLock<Fault>,
}

impl Carried {
    pub(super) fn new(link: &Arc<Link>) -> Arc<Self> {
        Arc::new(Self { link: Mutex::new(Some(Arc::clone(link))), unidentified: OnceLock::new() })
    }

    pub(super) fn carry_for(&self, link: &Arc<Link>) {
        *self.link() = Some(Arc::clone(link));
    }

    pub(super) fn is_free(&self) {
        *self.link() = None;
    }

    /// What the server has against the certificate that it was shown, or that it was shown none.
    pub(super) fn unidentified(&self) -> Option<&Fault> {
        self.unidentified.get()
    }

    fn link(&self) -> MutexGuard<'_, Option<Arc<Link>>> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
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
pub(super) struct ServerStream {
    // Boxed: some kilobytes, which every future that it passes through would keep room for.
    stream: Box<TlsStream<Ahead>>,
    upstream: Upstream,
    carried: Arc<Carried>,
    /// What writing failed with.
    broken: Option<io::Error>,
}

impl ServerStream {
    pub(super) fn new(stream: TlsStream<Ahead>, upstream: Upstream, carried: Arc<Carried>) -> Self {
        Self { stream: Box::new(stream), upstream, carried, broken: None }
    }

    fn note(&self, error: &io::Error) {
        if let Some(fault @ (Fault::ClientCertificateWanted | Fault::ClientCertificateRefused)) =
            self.upstream.stream_fault(error)
        {
            // The first one says it.
            let _ = self.carried.unidentified.set(fault);
        }
    }

    fn written(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match polled {
            Poll::Ready(Ok(count)) => {
                self.carried.count(count, 0);
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => self.poll_last_words(cx, error).map(Err),
            Poll::Pending => Poll::Pending,
        }
    }

    /// What writing failed with, once it is known what the server said before it closed the connection. The socket is
    /// broken, so reading it ends at once; what was read stays for who reads.
    fn poll_last_words(&mut self, cx: &mut Context<'_>, error: io::Error) -> Poll<io::Error> {
        match Pin::new(&mut self.stream).poll_fill_buf(cx) {
            Poll::Ready(Ok(_)) => Poll::Ready(error),
            Poll::Ready(Err(last)) => {
                self.note(&last);
                Poll::Ready(error)
            }
            Poll::Pending => {
                self.broken = Some(error);
                Poll::Pending
            }
        }
    }
}

impl AsyncRead for ServerStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        match &polled {
            Poll::Ready(Ok(())) => self.carried.count(0, buf.filled().len() - before),
            Poll::Ready(Err(error)) => self.note(error),
            Poll::Pending => {}
        }
        polled
    }
}

impl AsyncWrite for ServerStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = match self.broken.take() {
            Some(error) => Poll::Ready(Err(error)),
            None => Pin::new(&mut self.stream).poll_write(cx, bytes),
        };
        self.written(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = match self.broken.take() {
            Some(error) => Poll::Ready(Err(error)),
            None => Pin::new(&mut self.stream).poll_write_vectored(cx, slices),
        };
        self.written(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = match self.broken.take() {
            Some(error) => Poll::Ready(Err(error)),
            None => Pin::new(&mut self.stream).poll_flush(cx).map_ok(|()| 0),
        };
        self.written(cx, polled).map_ok(|_| ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
