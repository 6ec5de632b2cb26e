//! A stream that remembers what it carried, and tells it when it ends.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::recorder::{Carrying, KEPT, Visit};

/// Any stream.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A stream whose bytes are recorded; bytes that were read ahead come first.
pub(super) struct Carried<S> {
    stream: S,
    ahead: Vec<u8>,
    number: u64,
    carrying: Arc<Mutex<Carrying>>,
    visit: Visit,
}

impl<S> Carried<S> {
    pub(super) fn new(stream: S, visit: &Visit) -> Self {
        let (number, carrying) = visit.open();
        Self { stream, ahead: Vec::new(), number, carrying, visit: visit.clone() }
    }

    /// Puts bytes back: the next read gets them again. They stay recorded once.
    pub(super) fn put_back(&mut self, bytes: &[u8]) {
        self.ahead.splice(0..0, bytes.iter().copied());
    }

    fn received(&self, bytes: &[u8]) {
        let mut carrying = self.carrying.lock().unwrap_or_else(PoisonError::into_inner);
        carrying.received += bytes.len() as u64;
        let room = KEPT.saturating_sub(carrying.data.len());
        carrying.data.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    fn sent(&self, count: usize) {
        self.carrying.lock().unwrap_or_else(PoisonError::into_inner).sent += count as u64;
    }
}

impl<S> Drop for Carried<S> {
    fn drop(&mut self) {
        self.visit.close(self.number);
    }
}

impl<S: Stream> AsyncRead for Carried<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.ahead.is_empty() {
            let count = this.ahead.len().min(buffer.remaining());
            let taken: Vec<u8> = this.ahead.drain(..count).collect();
            buffer.put_slice(&taken);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        this.received(buffer.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl<S: Stream> AsyncWrite for Carried<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let count = ready!(Pin::new(&mut this.stream).poll_write(cx, bytes))?;
        this.sent(count);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
