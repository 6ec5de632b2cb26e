//! A socket that is read in large pieces while much comes.
//!
//! The TLS library asks for four kilobytes at a time, a call to the kernel each. While such reads come back full, this
//! reads ahead. A connection that waits holds no buffer.

use std::{
    io,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::{Buf as _, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    net::TcpStream,
    task::coop,
};

/// How much is read at once.
const PIECE: usize = 64 * 1024;

/// The socket, and what was read of it.
#[derive(Debug)]
pub(super) struct Ahead {
    held: BytesMut,
    /// The last read brought all that there was room for.
    full: bool,
    pub(super) stream: TcpStream,
}

impl Ahead {
    /// `first` was read before.
    pub(super) fn new(first: &[u8], stream: TcpStream) -> Self {
        Self { held: first.into(), full: false, stream }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.held.reserve(PIECE);
        let polled = pin!(self.stream.read_buf(&mut self.held)).poll(cx);
        if self.held.is_empty() {
            (self.held, self.full) = (BytesMut::new(), false);
        }
        polled
    }
}

impl AsyncRead for Ahead {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.held.is_empty() && !self.full {
            let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
            self.full = polled.is_ready() && buf.remaining() == 0;
            return polled;
        }
        if self.held.is_empty() {
            match std::task::ready!(self.poll_piece(cx)) {
                Ok(0) => return Poll::Ready(Ok(())),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        // Whoever reads here gives way now and then, as it would at the socket: others take up what it read.
        let turn = std::task::ready!(coop::poll_proceed(cx));
        turn.made_progress();
        let count = self.held.len().min(buf.remaining());
        buf.put_slice(self.held.get(..count).unwrap_or_default());
        self.held.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Ahead {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
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
