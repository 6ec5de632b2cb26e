//! Bodies in signed chunks (`aws-chunked`), signed anew over any splits, with the same length.
//!
//! ```text
//!  size in hex;chunk-signature=64 digits CRLF  data CRLF  …  0;chunk-signature=… CRLF  [field:value CRLF …]  CRLF
//! ```
//! A chunk's signature stands before its data, so one chunk is held at a time; a larger one than [`MOST_CHUNK`] is refused.

use aws_lc_rs::{digest, hmac};

use super::{EMPTY_SHA256, hmac_hex, sha256_hex};

/// The largest chunk. Clients send 64 KiB to 1 MiB.
pub const MOST_CHUNK: usize = 1 << 20;
const MOST_LINE: usize = 512;
const MOST_TRAILERS: usize = 8;
const SIGNATURE: &str = "chunk-signature=";
const TRAILER_SIGNATURE: &str = "x-amz-trailer-signature";

/// Why a body can't be signed anew. It is the client's fault in every case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// A size line is not one.
    #[error("a chunk's first line is not `size;chunk-signature=…`")]
    Head,
    /// A chunk is too large.
    #[error("a chunk is larger than {MOST_CHUNK} bytes")]
    Large,
    /// A chunk does not end where it says.
    #[error("a chunk does not end with a line end")]
    End,
    /// A field behind the chunks is not one, or there are too many.
    #[error("the fields behind the chunks are not `name:value` lines with their signature last")]
    Trailer,
    /// Something comes behind the end.
    #[error("there are bytes behind the last chunk")]
    Behind,
    /// The body stops too early.
    #[error("the body stops before its last chunk")]
    Early,
}

/// Signs a body of signed chunks anew.
#[derive(Debug)]
pub struct Resigner {
    key: Hidden,
    time: String,
    credential: String,
    pub(super) previous: String,
    has_trailers: bool,
    state: State,
    /// A line, or a chunk's data and its line end.
    held: Vec<u8>,
    /// The lines behind the last chunk, as they are signed.
    trailers: String,
    trailer_count: usize,
}

/// Keys are not printed.
struct Hidden(hmac::Key);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hidden")
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Head,
    /// With the size as it was written, and as a number.
    Data(String, usize),
    Trailer,
    LastLine,
    Done,
    Failed(ChunkError),
}

impl Resigner {
    pub(super) fn new(key: hmac::Key, time: String, credential: String, seed: String, has_trailers: bool) -> Self {
        Self {
            key: Hidden(key),
            time,
            credential,
            previous: seed,
            has_trailers,
            state: State::Head,
            held: Vec::new(),
            trailers: String::new(),
            trailer_count: 0,
        }
    }

    /// Takes the next bytes, and adds to `out` what may go on. After an error only that error comes.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), ChunkError> {
        while !bytes.is_empty() {
            let taken = self.take(bytes, out).inspect_err(|error| self.state = State::Failed(*error))?;
            bytes = bytes.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    /// The body is at its end: whether its last chunk was.
    pub fn finish(&self) -> Result<(), ChunkError> {
        match &self.state {
            State::Done => Ok(()),
            State::Failed(error) => Err(*error),
            State::Head | State::Data(..) | State::Trailer | State::LastLine => Err(ChunkError::Early),
        }
    }

    /// Takes some of the bytes, at least one.
    fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<usize, ChunkError> {
        let wanted = match &self.state {
            State::Done => return Err(ChunkError::Behind),
            State::Failed(error) => return Err(*error),
            State::Data(_, size) => size + 2,
            State::Head | State::Trailer | State::LastLine => return self.take_line(bytes, out),
        };
        let taken = bytes.len().min(wanted - self.held.len());
        self.held.extend(bytes.iter().take(taken));
        if self.held.len() == wanted {
            self.end_chunk(out)?;
        }
        Ok(taken)
    }

    fn take_line(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<usize, ChunkError> {
        let fault = if self.state == State::Head { ChunkError::Head } else { ChunkError::Trailer };
        let end = bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        let taken = end.unwrap_or(bytes.len());
        self.held.extend(bytes.iter().take(taken));
        if self.held.len() > MOST_LINE {
            return Err(fault);
        }
        if end.is_some() {
            let line = std::mem::take(&mut self.held);
            let line = line.strip_suffix(b"\r\n").and_then(|line| std::str::from_utf8(line).ok()).ok_or(fault)?;
            match self.state {
                State::Head => self.head(line, out)?,
                State::Trailer => self.trailer(line, out)?,
                State::LastLine if line.is_empty() => self.end(out),
                State::LastLine => return Err(ChunkError::Trailer),
                State::Data(..) | State::Done | State::Failed(_) => {}
            }
        }
        Ok(taken)
    }

    fn head(&mut self, line: &str, out: &mut Vec<u8>) -> Result<(), ChunkError> {
        let (written, extension) = line.split_once(';').ok_or(ChunkError::Head)?;
        let signature = extension.strip_prefix(SIGNATURE).ok_or(ChunkError::Head)?;
        let is_hex = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hex(written) || !is_hex(signature) || signature.len() != 64 {
            return Err(ChunkError::Head);
        }
        if written.len() > 8 {
            return Err(ChunkError::Large);
        }
        let size = usize::from_str_radix(written, 16).map_err(|_| ChunkError::Head)?;
        if size > MOST_CHUNK {
            return Err(ChunkError::Large);
        }
        if size > 0 {
            // No more than it takes, and no less.
            self.held = Vec::with_capacity(size + 2);
            self.state = State::Data(written.to_owned(), size);
            return Ok(());
        }
        self.sign_chunk(EMPTY_SHA256);
        self.write_head(written, out);
        self.state = if self.has_trailers { State::Trailer } else { State::LastLine };
        Ok(())
    }

    fn end_chunk(&mut self, out: &mut Vec<u8>) -> Result<(), ChunkError> {
        let held = std::mem::take(&mut self.held);
        let data = held.strip_suffix(b"\r\n").ok_or(ChunkError::End)?;
        let State::Data(written, _) = std::mem::replace(&mut self.state, State::Head) else { return Ok(()) };
        self.sign_chunk(&data_encoding::HEXLOWER.encode(digest::digest(&digest::SHA256, data).as_ref()));
        self.write_head(&written, out);
        out.extend_from_slice(&held);
        Ok(())
    }

    fn trailer(&mut self, line: &str, out: &mut Vec<u8>) -> Result<(), ChunkError> {
        let (name, value) = line.split_once(':').ok_or(ChunkError::Trailer)?;
        let name = name.to_ascii_lowercase();
        if name == TRAILER_SIGNATURE {
            if value.trim().len() != 64 || self.trailers.is_empty() {
                return Err(ChunkError::Trailer);
            }
            let hash = sha256_hex(self.trailers.as_bytes());
            self.previous = self.signature("AWS4-HMAC-SHA256-TRAILER", &hash);
            let before = line.len() - value.trim_start().len();
            out.extend(line.bytes().take(before));
            out.extend_from_slice(self.previous.as_bytes());
            out.extend(std::iter::repeat_n(b' ', value.len() - value.trim_end().len()));
            out.extend_from_slice(b"\r\n");
            self.state = State::LastLine;
            return Ok(());
        }
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let is_value = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
        self.trailer_count += 1;
        let fits = !name.is_empty() && name.bytes().all(is_token) && value.bytes().all(is_value);
        if !fits || self.trailer_count > MOST_TRAILERS {
            return Err(ChunkError::Trailer);
        }
        self.trailers.push_str(&format!("{name}:{}\n", value.trim()));
        out.extend_from_slice(line.as_bytes());
        out.extend_from_slice(b"\r\n");
        Ok(())
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\r\n");
        self.state = State::Done;
    }

    fn sign_chunk(&mut self, hash: &str) {
        self.previous = self.signature("AWS4-HMAC-SHA256-PAYLOAD", &format!("{EMPTY_SHA256}\n{hash}"));
    }

    fn signature(&self, algorithm: &str, hash: &str) -> String {
        let Self { time, credential, previous, .. } = self;
        hmac_hex(&self.key.0, format!("{algorithm}\n{time}\n{credential}\n{previous}\n{hash}").as_bytes())
    }

    fn write_head(&self, written: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("{written};{SIGNATURE}{}\r\n", self.previous).as_bytes());
    }
}
