//! A TCP socket that the runtime learns of only when it has to be waited for.
//!
//! Most connections are read, judged and connected without a wait, and then live in the pump, which waits for them
//! itself. Telling the runtime of each socket and taking it back costs more than the calls in between.

use std::{io, net::SocketAddr, os::fd::OwnedFd};

use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{identify, pump};

/// Room for what a client says first: a request head, a ClientHello.
const FIRST_READ: usize = 2048;

/// A connected TCP socket that does not block.
#[derive(Debug)]
pub(crate) enum Socket {
    /// The runtime knows nothing of it.
    Own(OwnedFd),
    /// The runtime waits for it.
    Watched(TcpStream),
    /// The runtime could not take it, and it is closed.
    Lost,
}

impl Socket {
    /// Reads what is there, or waits for it; 0 at the end.
    pub(crate) async fn read(&mut self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        match self.read_now(bytes)? {
            Some(count) => Ok(count),
            None => {
                bytes.reserve(FIRST_READ);
                self.watched()?.read_buf(bytes).await
            }
        }
    }

    /// Reads what is there; nothing where there is nothing yet.
    fn read_now(&mut self, bytes: &mut Vec<u8>) -> io::Result<Option<usize>> {
        let Socket::Own(socket) = self else { return Ok(None) };
        bytes.reserve(FIRST_READ);
        match rustix::net::recv(socket, rustix::buffer::spare_capacity(bytes), RecvFlags::DONTWAIT) {
            Ok((count, _)) => Ok(Some(count)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes all of it.
    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        if let Socket::Own(socket) = self {
            match rustix::net::send(&*socket, rest, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if rest.is_empty() { Ok(()) } else { self.watched()?.write_all(rest).await }
    }

    /// The socket as the runtime has it.
    pub(crate) fn watched(&mut self) -> io::Result<&mut TcpStream> {
        if let Socket::Own(_) = self {
            *self = Socket::Watched(std::mem::replace(self, Socket::Lost).into_stream()?);
        }
        match self {
            Socket::Watched(stream) => Ok(stream),
            Socket::Own(_) | Socket::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// The same, given away.
    pub(crate) fn into_stream(self) -> io::Result<TcpStream> {
        match self {
            Socket::Own(socket) => TcpStream::from_std(socket.into()),
            Socket::Watched(stream) => Ok(stream),
            Socket::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// The socket alone; the runtime forgets it.
    pub(crate) fn release(self) -> io::Result<OwnedFd> {
        match self {
            Socket::Own(socket) => Ok(socket),
            Socket::Watched(stream) => Ok(stream.into_std()?.into()),
            Socket::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Where a redirected client was going; `local` is where it came in.
    pub(crate) fn original_destination(&self, local: SocketAddr) -> io::Result<SocketAddr> {
        match self {
            Socket::Own(socket) => identify::original_destination(socket, local),
            Socket::Watched(stream) => identify::original_destination(stream, local),
            Socket::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Closes it with a reset.
    pub(crate) fn reset(self) {
        match &self {
            Socket::Own(socket) => pump::reset(socket),
            Socket::Watched(stream) => pump::reset(stream),
            Socket::Lost => {}
        }
    }
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Self {
        Socket::Watched(stream)
    }
}
