//! What the library of HTTP/2 rejects by itself, seen in the frames that it writes.
//!
//! A request that is no HTTP/2 (a field of one hop, two paths, a line end in a value) never comes to us: the library
//! resets its stream, or ends the connection, and tells nobody but the client. So the frames that go out are counted
//! along, and the connection's end is recorded with how many of them said so. A stream that has its answer did come to
//! us; what is wrong with the rest of it (curl ends a body short that was answered early) is no rejected request.

use std::{
    cell::Cell,
    collections::VecDeque,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The length of a frame's head (RFC 9113, 4.1).
const HEAD: usize = 9;
/// A frame's head, and its payload as far as a code of an error stands in it.
const LOOKED: usize = HEAD + 8;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
/// How many streams are known to have their answer, the last ones: more than may be open at a time.
const ANSWERED: usize = 256;
/// Codes that say nothing against the client: no error, one of ours, a server's that is gone, a stream taken back.
const HARMLESS: [u32; 4] = [0, 2, 7, 8];

/// How often a connection's client was told that what it sent is no HTTP/2.
pub(super) type Rejections = Rc<Cell<u32>>;

/// Where the frames that go out begin, whatever the pieces.
#[derive(Debug, Default)]
struct Frames {
    /// The beginning of the frame that is going out.
    looked: [u8; LOOKED],
    /// How many bytes of it are there.
    have: usize,
    /// How much of its payload comes still, behind those.
    left: usize,
    /// The streams that were answered last.
    answered: VecDeque<u32>,
}

impl Frames {
    /// Takes the next bytes; how many frames among them tell of an error of the client's.
    fn take(&mut self, bytes: &[u8]) -> u32 {
        let (mut rest, mut told) = (bytes, 0);
        while !rest.is_empty() {
            if self.left > 0 {
                let passed = self.left.min(rest.len());
                self.left -= passed;
                rest = rest.get(passed..).unwrap_or_default();
                continue;
            }
            let missing = self.due() - self.have;
            let (piece, behind) = rest.split_at(missing.min(rest.len()));
            if let Some(place) = self.looked.get_mut(self.have..self.have + piece.len()) {
                place.copy_from_slice(piece);
            }
            (self.have, rest) = (self.have + piece.len(), behind);
            if self.have >= HEAD && self.have == self.due() {
                told += u32::from(self.is_rejection());
                self.left = self.length() + HEAD - self.have;
                self.have = 0;
            }
        }
        told
    }

    fn length(&self) -> usize {
        let [high, middle, low, ..] = self.looked;
        usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low)
    }

    /// Where the code of an error ends in this frame, in bytes from its beginning; none where it has none.
    fn code_end(&self) -> Option<usize> {
        let [_, _, _, kind, ..] = self.looked;
        let end = match kind {
            RST_STREAM => HEAD + 4,
            GOAWAY => HEAD + 8,
            _ => return None,
        };
        (self.have >= HEAD && self.length() + HEAD >= end).then_some(end)
    }

    /// How much of this frame is looked at.
    fn due(&self) -> usize {
        self.code_end().unwrap_or(HEAD)
    }

    /// Takes in the frame whose beginning is there; whether it rejects what the client sent.
    fn is_rejection(&mut self) -> bool {
        let [_, _, _, kind, _, stream @ .., _, _, _, _, _, _, _, _] = self.looked;
        let stream = u32::from_be_bytes(stream);
        if kind == HEADERS {
            if self.answered.len() == ANSWERED {
                self.answered.pop_front();
            }
            self.answered.push_back(stream);
        }
        let code = self.code_end().and_then(|end| self.looked.get(end - 4..end));
        let code = code.and_then(|code| code.try_into().ok()).map(u32::from_be_bytes);
        code.is_some_and(|code| !HARMLESS.contains(&code)) && !(kind == RST_STREAM && self.answered.contains(&stream))
    }
}

/// A stream whose written frames are counted along.
#[derive(Debug)]
pub(super) struct Counting<T> {
    stream: T,
    frames: Frames,
    rejections: Rejections,
}

impl<T> Counting<T> {
    pub(super) fn new(stream: T, rejections: &Rejections) -> Self {
        Self { stream, frames: Frames::default(), rejections: Rc::clone(rejections) }
    }

    fn written<'b>(&mut self, pieces: impl Iterator<Item = &'b [u8]>, polled: &Poll<io::Result<usize>>) {
        let Poll::Ready(Ok(count)) = polled else { return };
        let mut left = *count;
        for piece in pieces {
            let piece = piece.get(..left.min(piece.len())).unwrap_or_default();
            left -= piece.len();
            let told = self.frames.take(piece);
            if told > 0 {
                self.rejections.set(self.rejections.get().saturating_add(told));
            }
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Counting<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counting<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(std::iter::once(bytes), &polled);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.written(slices.iter().map(|slice| &**slice), &polled);
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

#[cfg(test)]
mod tests {
    use super::{Frames, GOAWAY, HEADERS, RST_STREAM};

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        of_stream(1, kind, payload)
    }

    fn of_stream(stream: u8, kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, 0, 0, 0, 0, stream], payload].concat()
    }

    #[test]
    fn errors_are_counted_wherever_the_bytes_are_cut() {
        let reset = |code: u32| frame(RST_STREAM, &code.to_be_bytes());
        let go_away = |code: u32, more: &[u8]| frame(GOAWAY, &[&[0; 4], &code.to_be_bytes()[..], more].concat());
        let looks_alike = [[0, 0, 4, RST_STREAM, 0, 0, 0, 0, 1].as_slice(), &1u32.to_be_bytes()].concat();
        let bytes = [
            frame(4, &[]),
            reset(1),
            frame(0, &looks_alike.repeat(9)),
            reset(8),
            reset(0),
            frame(0, &[]),
            reset(5),
            frame(RST_STREAM, &[1]),
            go_away(0, b""),
            go_away(1, b"why"),
            of_stream(3, HEADERS, b"x"),
            of_stream(3, RST_STREAM, &1u32.to_be_bytes()),
            // Another stream's answer hides nothing.
            of_stream(5, RST_STREAM, &1u32.to_be_bytes()),
        ]
        .concat();
        for size in 1..=bytes.len() {
            let mut frames = Frames::default();
            assert_eq!(bytes.chunks(size).map(|piece| frames.take(piece)).sum::<u32>(), 4, "in pieces of {size}");
        }
    }
}
