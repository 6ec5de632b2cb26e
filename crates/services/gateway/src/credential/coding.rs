//! Content codings, undone in steps that are bounded in memory, so that what was encoded can be looked at.

use std::io;

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use bytes::{Buf as _, Bytes};
use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::{HeaderMap, header::CONTENT_ENCODING};
use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, ResetDirective};

/// How much is taken at once.
const STEP: usize = 16 * 1024;
/// How much brotli and Zstandard make at once; deflate makes about as much.
const OUT: usize = 64 * 1024;
/// The room that deflate takes at most, in KiB: its window, what came, and what a step makes.
const DEFLATE: u32 = 384;
/// That of brotli: its window of 4 MiB, up to 3 MiB of codes, and what a step makes.
const BROTLI: u32 = 7 * 1024 + 384;
/// That of Zstandard: its window of 8 MiB, blocks, and what a step makes.
const ZSTD: u32 = 8 * 1024 + 896;

/// Undoes one content coding.
pub(super) enum Decoder {
    /// RFC 1952.
    Gzip(MultiGzDecoder<Vec<u8>>),
    /// `deflate`, before it is known which of its two forms it is.
    Deflate,
    /// RFC 1950.
    Zlib(ZlibDecoder<Vec<u8>>),
    /// RFC 1951: what some servers mean by `deflate`.
    Raw(DeflateDecoder<Vec<u8>>),
    /// RFC 7932.
    Brotli(Box<Brotli>),
    /// RFC 8878.
    Zstd(Zstd),
}

/// A coding that is not known, or more than one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server sent a content coding that can't be looked into")]
pub(crate) struct UnknownCoding;

/// Whether there is more to come without more being given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Call again.
    Again,
    /// It has to be given more.
    Hungry,
}

impl Decoder {
    /// The decoder for a response; none where it is not encoded.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Self>, UnknownCoding> {
        let mut found = None;
        for value in headers.get_all(CONTENT_ENCODING) {
            for coding in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                let decoder = match coding.to_ascii_lowercase().as_slice() {
                    b"" | b"identity" => continue,
                    b"gzip" | b"x-gzip" => Self::Gzip(MultiGzDecoder::new(Vec::new())),
                    b"deflate" => Self::Deflate,
                    b"br" => Self::Brotli(Box::default()),
                    b"zstd" => Self::Zstd(Zstd::new()?),
                    _ => return Err(UnknownCoding),
                };
                if found.replace(decoder).is_some() {
                    return Err(UnknownCoding);
                }
            }
        }
        Ok(found)
    }

    /// The most memory that it takes, in KiB.
    pub(super) fn room(&self) -> u32 {
        match self {
            Decoder::Gzip(_) | Decoder::Deflate | Decoder::Zlib(_) | Decoder::Raw(_) => DEFLATE,
            Decoder::Brotli(_) => BROTLI,
            Decoder::Zstd(_) => ZSTD,
        }
    }

    /// Takes a part of the input and appends what it makes of it: no more than about 64 KiB.
    pub(super) fn step(&mut self, input: &mut Bytes, out: &mut Vec<u8>) -> io::Result<Step> {
        match self {
            Decoder::Gzip(decoder) => {
                inflate(decoder, input)?;
                out.append(decoder.get_mut());
            }
            Decoder::Zlib(decoder) => {
                inflate(decoder, input)?;
                out.append(decoder.get_mut());
            }
            Decoder::Raw(decoder) => {
                inflate(decoder, input)?;
                out.append(decoder.get_mut());
            }
            Decoder::Deflate => {
                let Some(first) = input.first() else { return Ok(Step::Hungry) };
                // RFC 1950, 2.2: the method, and a window that it can have.
                *self = if first & 0x0f == 8 && first >> 4 <= 7 {
                    Self::Zlib(ZlibDecoder::new(Vec::new()))
                } else {
                    Self::Raw(DeflateDecoder::new(Vec::new()))
                };
                return Ok(Step::Again);
            }
            Decoder::Brotli(decoder) => return decoder.step(input, out),
            Decoder::Zstd(decoder) => return decoder.step(input, out),
        }
        Ok(if input.is_empty() { Step::Hungry } else { Step::Again })
    }

    /// Nothing follows: an error where it is not whole. What is empty is whole.
    pub(super) fn finish(self, began: bool, out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            _ if !began => {}
            Decoder::Gzip(decoder) => out.append(&mut decoder.finish()?),
            Decoder::Zlib(decoder) => out.append(&mut decoder.finish()?),
            Decoder::Raw(decoder) => out.append(&mut decoder.finish()?),
            Decoder::Deflate => return Err(cut_short()),
            Decoder::Brotli(decoder) if decoder.ended => {}
            Decoder::Zstd(decoder) if decoder.whole => {}
            Decoder::Brotli(_) | Decoder::Zstd(_) => return Err(cut_short()),
        }
        Ok(())
    }
}

/// One write, which takes as much as makes 32 KiB, and what it left in the window.
fn inflate(decoder: &mut impl io::Write, input: &mut Bytes) -> io::Result<()> {
    if let Some(part) = input.get(..input.len().min(STEP)).filter(|part| !part.is_empty()) {
        let taken = decoder.write(part)?;
        if taken == 0 {
            return Err(broken("deflate: more behind its end"));
        }
        input.advance(taken);
    }
    decoder.flush()
}

fn cut_short() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the encoded body is not whole")
}

/// Brotli's state.
pub(super) struct Brotli {
    state: BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    began: bool,
    ended: bool,
}

/// Whether a stream that begins with this byte has a window of more than 4 MiB (RFC 7932, 9.1).
fn is_wide(first: u8) -> bool {
    matches!(first & 0x0f, 0x0d | 0x0f)
}

impl Default for Brotli {
    fn default() -> Self {
        // Without the large windows that no browser takes.
        let alloc = StandardAlloc::default;
        let state = BrotliState::new_strict(alloc(), alloc(), alloc());
        Self { state, began: false, ended: false }
    }
}

impl Brotli {
    fn step(&mut self, input: &mut Bytes, out: &mut Vec<u8>) -> io::Result<Step> {
        if self.ended {
            let clean = input.is_empty();
            return if clean { Ok(Step::Hungry) } else { Err(broken("brotli: more behind its end")) };
        }
        if let Some(first) = input.first().filter(|_| !self.began) {
            if is_wide(*first) {
                return Err(broken("brotli: a window of more than 4 MiB"));
            }
            self.began = true;
        }
        let before = out.len();
        out.resize(before + OUT, 0);
        let (mut left, mut taken) = (input.len(), 0);
        let (mut room, mut made, mut total) = (OUT, before, 0);
        let outcome = BrotliDecompressStream(
            &mut left,
            &mut taken,
            input,
            &mut room,
            &mut made,
            out,
            &mut total,
            &mut self.state,
        );
        out.truncate(made);
        input.advance(taken);
        match outcome {
            BrotliResult::ResultSuccess => {
                self.ended = true;
                Ok(if input.is_empty() { Step::Hungry } else { Step::Again })
            }
            BrotliResult::NeedsMoreInput => Ok(Step::Hungry),
            BrotliResult::NeedsMoreOutput => Ok(Step::Again),
            BrotliResult::ResultFailure => Err(broken("brotli: broken")),
        }
    }
}

/// The largest window of Zstandard, as a power of two (RFC 9659).
const WINDOW_LOG: u32 = 23;

/// Zstandard's state.
pub(super) struct Zstd {
    context: DCtx<'static>,
    /// Between two frames.
    whole: bool,
}

impl Zstd {
    fn new() -> Result<Self, UnknownCoding> {
        let mut context = DCtx::try_create().ok_or(UnknownCoding)?;
        context.reset(ResetDirective::SessionAndParameters).map_err(|_| UnknownCoding)?;
        context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG)).map_err(|_| UnknownCoding)?;
        Ok(Self { context, whole: true })
    }

    fn step(&mut self, input: &mut Bytes, out: &mut Vec<u8>) -> io::Result<Step> {
        let before = out.len();
        out.resize(before + OUT, 0);
        let mut source = InBuffer::around(input);
        let mut target = OutBuffer::around_pos(out.as_mut_slice(), before);
        let outcome = self.context.decompress_stream(&mut target, &mut source);
        let (made, taken) = (target.pos(), source.pos());
        out.truncate(made);
        input.advance(taken);
        // Nothing is said of a frame's end by a call that took and made nothing.
        if taken > 0 || made > before {
            self.whole = outcome.map_err(|_| broken("zstd: broken"))? == 0;
        } else {
            outcome.map_err(|_| broken("zstd: broken"))?;
        }
        Ok(if input.is_empty() && made < before + OUT { Step::Hungry } else { Step::Again })
    }
}

fn broken(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests;
