//! Netlink messages: a small encoder and the wait for the kernel's answers (netlink(7)).
//!
//! What the sandbox's rules need and no more. A message is a header, a fixed part, and attributes that may nest:
//! `Message::new(…).fixed(&bytes).text(1, "name").nest(4, |inside| …)`.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

/// nlmsghdr: length, type, flags, sequence, port.
const HEADER: usize = 16;
/// NLMSG_ERROR, which is also the acknowledgement.
const ERROR: u16 = 2;
/// NLA_F_NESTED.
const NESTED: u16 = 1 << 15;

/// NLM_F_REQUEST.
pub(crate) const REQUEST: u16 = 0x1;
/// NLM_F_ACK.
pub(crate) const ACKNOWLEDGE: u16 = 0x4;
/// NLM_F_EXCL.
pub(crate) const EXCLUSIVE: u16 = 0x200;
/// NLM_F_CREATE.
pub(crate) const CREATE: u16 = 0x400;
/// NLM_F_APPEND.
pub(crate) const APPEND: u16 = 0x800;

/// One message being written. Its sequence number is set when it is sent.
pub(crate) struct Message {
    bytes: Vec<u8>,
    acknowledged: bool,
}

impl Message {
    /// An empty message.
    pub(crate) fn new(kind: u16, flags: u16) -> Message {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&0_u32.to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        Message { bytes, acknowledged: flags & ACKNOWLEDGE != 0 }
    }

    /// The part before the attributes.
    pub(crate) fn fixed(mut self, bytes: &[u8]) -> Message {
        self.bytes.extend_from_slice(bytes);
        self.pad();
        self
    }

    /// An attribute of bytes.
    pub(crate) fn bytes(mut self, kind: u16, value: &[u8]) -> Message {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad();
        self
    }

    /// An attribute of text, ended by a zero.
    pub(crate) fn text(self, kind: u16, value: &str) -> Message {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat())
    }

    /// An attribute of a number in network order, as nf_tables has them.
    pub(crate) fn number(self, kind: u16, value: u32) -> Message {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// An attribute with attributes inside.
    pub(crate) fn nest(mut self, kind: u16, inside: impl FnOnce(Message) -> Message) -> Message {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        let mut whole = inside(self);
        let length = u16::try_from(whole.bytes.len() - start).unwrap_or(u16::MAX);
        write_at(&mut whole.bytes, start, &length.to_ne_bytes());
        whole
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// A netlink socket of this network namespace.
pub(crate) struct Netlink {
    socket: OwnedFd,
}

impl Netlink {
    /// Opens one.
    pub(crate) fn open(protocol: Option<Protocol>) -> Result<Netlink, Errno> {
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        Ok(Netlink { socket })
    }

    /// The socket, for who hears what the kernel says from now on.
    pub(crate) fn into_socket(self) -> OwnedFd {
        self.socket
    }

    /// Sends the messages as one batch and waits until each that asked for it is acknowledged.
    /// The first error that the kernel reports is the answer, with the message's place in the batch.
    pub(crate) fn transact(&self, messages: Vec<Message>) -> Result<(), (usize, Errno)> {
        let mut awaited = messages.iter().filter(|message| message.acknowledged).count();
        let mut batch = Vec::new();
        for (sequence, mut message) in messages.into_iter().enumerate() {
            let length = u32::try_from(message.bytes.len()).unwrap_or(u32::MAX);
            write_at(&mut message.bytes, 0, &length.to_ne_bytes());
            write_at(&mut message.bytes, 8, &u32::try_from(sequence).unwrap_or(u32::MAX).to_ne_bytes());
            batch.extend_from_slice(&message.bytes);
        }
        send(&self.socket, &batch, SendFlags::empty()).map_err(|errno| (0, errno))?;
        let mut buffer = vec![0; 32 * 1024];
        while awaited > 0 {
            let (filled, _) =
                recv(&self.socket, buffer.as_mut_slice(), RecvFlags::empty()).map_err(|errno| (0, errno))?;
            let answers = Answers { rest: buffer.get(..filled).unwrap_or_default() };
            for (sequence, errno) in answers {
                match errno {
                    None => awaited = awaited.saturating_sub(1),
                    Some(errno) => return Err((sequence, errno)),
                }
            }
        }
        Ok(())
    }
}

/// The acknowledgements and errors in a datagram: sequence number and, for an error, its number.
struct Answers<'a> {
    rest: &'a [u8],
}

impl Iterator for Answers<'_> {
    type Item = (usize, Option<Errno>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let length = usize::try_from(u32::from_ne_bytes(read_at(self.rest, 0)?)).ok()?;
            let kind = u16::from_ne_bytes(read_at(self.rest, 4)?);
            let sequence = usize::try_from(u32::from_ne_bytes(read_at(self.rest, 8)?)).ok()?;
            let message = self.rest.get(..length.max(HEADER))?;
            self.rest = self.rest.get(message.len().next_multiple_of(4)..).unwrap_or_default();
            if kind == ERROR {
                let code = i32::from_ne_bytes(read_at(message, HEADER)?);
                return Some((sequence, (code != 0).then(|| Errno::from_raw_os_error(-code))));
            }
        }
    }
}

fn read_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn write_at<const N: usize>(bytes: &mut [u8], at: usize, value: &[u8; N]) {
    if let Some(place) = bytes.get_mut(at..at + N) {
        place.copy_from_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use super::{Answers, Message};
    use rustix::io::Errno;

    #[test]
    fn attributes_are_padded_and_nested_lengths_cover_their_inside() {
        let message = Message::new(7, 0).fixed(&[1, 2, 3, 4]).nest(5, |m| m.text(1, "ab").number(2, 0x0102_0304));
        let expected: Vec<u8> = [
            &20_u16.to_ne_bytes()[..],
            &(5_u16 | 1 << 15).to_ne_bytes(),
            &7_u16.to_ne_bytes(),
            &1_u16.to_ne_bytes(),
            b"ab\0\0",
            &8_u16.to_ne_bytes(),
            &2_u16.to_ne_bytes(),
            &[1, 2, 3, 4],
        ]
        .concat();
        assert_eq!(&message.bytes[20..], expected.as_slice());
    }

    #[test]
    fn answers_are_read_and_broken_ones_end_the_reading() {
        let mut bytes = Vec::new();
        for (sequence, code) in [(3_u32, 0_i32), (4, -1)] {
            bytes.extend_from_slice(&20_u32.to_ne_bytes());
            bytes.extend_from_slice(&2_u16.to_ne_bytes());
            bytes.extend_from_slice(&0_u16.to_ne_bytes());
            bytes.extend_from_slice(&sequence.to_ne_bytes());
            bytes.extend_from_slice(&0_u32.to_ne_bytes());
            bytes.extend_from_slice(&code.to_ne_bytes());
        }
        let read: Vec<_> = Answers { rest: &bytes }.collect();
        assert_eq!(read, [(3, None), (4, Some(Errno::PERM))]);
        assert_eq!(Answers { rest: &bytes[..18] }.count(), 0);
        assert_eq!(Answers { rest: &[0; 64] }.count(), 0);
    }
}
