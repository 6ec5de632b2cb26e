//! The socket between the host and init: one message a packet, with descriptors beside it.
//!
//! Neither side trusts the other's packets to be well-formed: an over-long or cut packet is an error, never a part
//! of a message. Descriptors arrive close-on-exec.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The most descriptors beside one message: the kernel's SCM_MAX_FD.
pub const MOST_DESCRIPTORS: usize = 253;

/// The longest message. Both sides' messages are short; what is long travels as a descriptor.
const LONGEST_MESSAGE: usize = 64 * 1024;

/// One end of the socket.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
}

/// Why a message did not get through.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The other side is gone.
    #[error("the other side of the sandbox's control socket is gone")]
    Closed,
    /// The kernel refused.
    #[error("the sandbox's control socket failed")]
    Socket(#[source] Errno),
    /// A packet that is no message of this protocol.
    #[error("a packet on the sandbox's control socket is not a message")]
    Malformed(#[source] serde_json::Error),
    /// A packet longer than any message, or with more descriptors than fit.
    #[error("a packet on the sandbox's control socket is too long")]
    TooLong,
}

impl Channel {
    /// A connected pair.
    pub fn pair() -> Result<(Channel, Channel), ChannelError> {
        let (one, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(ChannelError::Socket)?;
        Ok((Channel { socket: one }, Channel { socket: other }))
    }

    /// The end that this descriptor is.
    pub fn from_socket(socket: OwnedFd) -> Channel {
        Channel { socket }
    }

    /// Sends one message with descriptors beside it.
    pub fn send<M: Serialize>(&self, message: &M, beside: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
        let bytes = serde_json::to_vec(message).map_err(ChannelError::Malformed)?;
        if bytes.len() > LONGEST_MESSAGE || beside.len() > MOST_DESCRIPTORS {
            return Err(ChannelError::TooLong);
        }
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !beside.is_empty() && !control.push(SendAncillaryMessage::ScmRights(beside)) {
            return Err(ChannelError::TooLong);
        }
        loop {
            match sendmsg(&self.socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(ChannelError::Closed),
                Err(errno) => return Err(ChannelError::Socket(errno)),
            }
        }
    }

    /// Waits for one message and the descriptors beside it.
    pub fn receive<M: DeserializeOwned>(&self) -> Result<(M, Vec<OwnedFd>), ChannelError> {
        let mut bytes = vec![0; LONGEST_MESSAGE];
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut buffers = [IoSliceMut::new(&mut bytes)];
            match recvmsg(&self.socket, &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Ok(received) => break received,
                Err(Errno::INTR) => {}
                Err(Errno::CONNRESET) => return Err(ChannelError::Closed),
                Err(errno) => return Err(ChannelError::Socket(errno)),
            }
        };
        let mut beside = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                beside.extend(descriptors);
            }
        }
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(ChannelError::TooLong);
        }
        // No message is empty, so an empty packet is the end.
        if received.bytes == 0 {
            return Err(ChannelError::Closed);
        }
        let packet = bytes.get(..received.bytes).unwrap_or_default();
        Ok((serde_json::from_slice(packet).map_err(ChannelError::Malformed)?, beside))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
#[path = "channel/tests.rs"]
mod tests;
