//! What comes back, looked through: heads, bodies however they are encoded, trailers.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{
        ACCEPT_ENCODING, ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, IF_RANGE, RANGE,
        SEC_WEBSOCKET_EXTENSIONS,
    },
};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use secret_swap::{Ends, Masking};
use wire::http_head::RequestHead;

use super::{
    Looking,
    coding::{Decoder, Step, UnknownCoding},
    masks::Masks,
};
use crate::{
    budget::{Lent, NoRoom, Room},
    refuse::Status,
};

/// The codings that can be undone.
const READABLE: [&[u8]; 6] = [b"gzip", b"x-gzip", b"deflate", b"br", b"zstd", b"identity"];

/// Why an answer is not passed on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EchoError {
    /// It can't be looked through.
    #[error(transparent)]
    Coding(#[from] UnknownCoding),
    /// A secret cut in two would not be found.
    #[error("the server sent a part of what it was asked for, which can't be looked through")]
    Part,
    /// Its frames can't be looked through.
    #[error("the server wants an extension of the WebSocket that was not asked for")]
    Extension,
    /// So are its messages.
    #[error("the server compresses the messages of its answer, which can't be looked through")]
    Messages,
    /// There is no memory to look through it.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
}

impl EchoError {
    pub(crate) fn status(&self) -> Status {
        match self {
            EchoError::Coding(_) | EchoError::Part | EchoError::Extension | EchoError::Messages => Status::BadGateway,
            EchoError::NoRoom(_) => Status::Unavailable,
        }
    }
}

/// Makes a request ask for nothing that can't be looked through.
pub(super) fn ask_for_what_can_be_read(headers: &mut HeaderMap, looking: &Looking) {
    headers.remove(SEC_WEBSOCKET_EXTENSIONS);
    if !looking.thorough {
        return;
    }
    let mut kept: Vec<u8> = Vec::new();
    for value in headers.get_all(ACCEPT_ENCODING) {
        for part in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            let coding = part.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
            if READABLE.iter().any(|known| coding.eq_ignore_ascii_case(known)) {
                if !kept.is_empty() {
                    kept.extend_from_slice(b", ");
                }
                kept.extend_from_slice(part);
            }
        }
    }
    // Without the field a server may send what it likes.
    let value = if kept.is_empty() { None } else { HeaderValue::from_bytes(&kept).ok() };
    headers.insert(ACCEPT_ENCODING, value.unwrap_or(HeaderValue::from_static("identity")));
    for name in [RANGE, IF_RANGE] {
        headers.remove(name);
    }
    for name in ["grpc-accept-encoding", "connect-accept-encoding"] {
        headers.remove(name);
    }
}

/// An answer without secrets. Without masks it is passed on as it is.
pub(crate) async fn shield(
    response: Response<Incoming>,
    looking: Option<&Looking>,
) -> Result<Response<Echo>, EchoError> {
    let Some(Looking { masks, thorough, is_call }) = looking else { return Ok(response.map(Echo::Plain)) };
    let (mut parts, body) = response.into_parts();
    if *thorough && parts.status == StatusCode::PARTIAL_CONTENT {
        return Err(EchoError::Part);
    }
    if parts.status == StatusCode::SWITCHING_PROTOCOLS && parts.headers.contains_key(SEC_WEBSOCKET_EXTENSIONS) {
        return Err(EchoError::Extension);
    }
    let is_packed = |name| parts.headers.get_all(name).iter().any(|coding| coding != "identity");
    if *thorough && ["grpc-encoding", "connect-content-encoding"].into_iter().any(is_packed) {
        return Err(EchoError::Messages);
    }
    let decoder = if *thorough { Decoder::of(&parts.headers)? } else { None };
    if decoder.is_some() {
        for name in [CONTENT_ENCODING, CONTENT_LENGTH] {
            parts.headers.remove(name);
        }
        // What is said of the encoded form.
        for name in ["content-md5", "digest", "content-digest"] {
            parts.headers.remove(name);
        }
    }
    if *thorough {
        parts.headers.remove(ACCEPT_RANGES);
    }
    let undoing = match decoder.filter(|_| !body.is_end_stream()) {
        Some(decoder) => {
            let room = masks.budget().room(decoder.room()).await?;
            Some(Lent::new(Undoing { decoder, input: Bytes::new(), _room: room }, masks.budget()))
        }
        None => None,
    };
    let mask = masks.now();
    mask_fields(&mut parts.headers, &mask);
    let kind = parts.headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let ends = if *is_call && has_messages(kind) { Ends::Messages } else { Ends::Whole };
    let masking = Masking::new(mask, ends);
    let looked = Looked {
        inner: body,
        masks: Arc::clone(masks),
        masking,
        undoing,
        began: false,
        due: Bytes::new(),
        trailers: None,
        stage: Stage::Open,
    };
    Ok(Response::from_parts(parts, Echo::Looked(Box::new(looked))))
}

/// Whether a request makes a remote call. One that does not gets no answer that is cut at the ends of messages: where
/// somebody chooses an answer's kind and its beginning, he would choose where a secret is cut.
pub(super) fn is_call(head: &RequestHead) -> bool {
    let mut kinds = head.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    head.method == "POST" && kinds.next().is_some_and(|(_, kind)| has_messages(kind))
}

/// Remote calls in both directions wait for each other behind each message. The text form of gRPC-Web has no lengths.
fn has_messages(kind: &[u8]) -> bool {
    let kind = kind.to_ascii_lowercase();
    let framed = kind.starts_with(b"application/grpc") && !kind.starts_with(b"application/grpc-web-text");
    framed || kind.starts_with(b"application/connect+")
}

/// Masks values; a field whose name holds a secret is left out.
fn mask_fields(fields: &mut HeaderMap, mask: &secret_swap::Mask) {
    let named: Vec<HeaderName> = fields.keys().filter(|name| mask.finds(name.as_str().as_bytes())).cloned().collect();
    for name in named {
        fields.remove(name);
    }
    for value in fields.values_mut() {
        if let Some(masked) = mask.masked(value.as_bytes()) {
            *value = HeaderValue::from_bytes(&masked).unwrap_or(HeaderValue::from_static("*"));
        }
    }
}

/// The body of an answer.
pub(crate) enum Echo {
    /// As it came.
    Plain(Incoming),
    /// Looked through.
    Looked(Box<Looked>),
}

impl Echo {
    /// Whether all of the server's body was read. A client that was told its length does not ask for the end of ours.
    pub(crate) fn is_read(&self) -> bool {
        match self {
            Echo::Plain(inner) => inner.is_end_stream(),
            Echo::Looked(looked) => looked.inner.is_end_stream(),
        }
    }
}

/// A body that is looked through.
pub(crate) struct Looked {
    inner: Incoming,
    masks: Arc<Masks>,
    masking: Masking,
    undoing: Option<Lent<Undoing>>,
    /// Whether a byte of the encoded form came.
    began: bool,
    /// Looked through, and goes on next.
    due: Bytes,
    trailers: Option<HeaderMap>,
    stage: Stage,
}

/// A coding that is undone.
struct Undoing {
    decoder: Decoder,
    /// Came, and is not decoded.
    input: Bytes,
    _room: Room,
}

fn taken_back() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the client took nothing of a decoded answer for a minute")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// More may come.
    Open,
    /// What was decoded makes more.
    Decoding,
    /// All came; what waits is due.
    Last,
    /// Trailers are due.
    Trailers,
    Done,
}

impl Looked {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let polled = self.poll_next(cx);
        match &self.undoing {
            Some(lent) if polled.is_pending() => lent.server_is_due(),
            Some(lent) => {
                let piece = match &polled {
                    Poll::Ready(Some(Ok(frame))) => frame.data_ref().map_or(0, Bytes::len),
                    Poll::Ready(_) | Poll::Pending => 0,
                };
                lent.client_is_due(piece);
            }
            None => {}
        }
        polled
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            if !self.due.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.due)))));
            }
            match self.stage {
                Stage::Open => match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(piece) => match self.take(piece) {
                            Ok(None) => {}
                            Ok(Some(piece)) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
                            Err(error) => return Poll::Ready(Some(Err(error))),
                        },
                        Err(frame) => {
                            self.trailers = frame.into_trailers().ok();
                            self.stage = Stage::Last;
                        }
                    },
                    Some(Err(error)) => return Poll::Ready(Some(Err(io::Error::other(error)))),
                    None => self.stage = Stage::Last,
                },
                Stage::Decoding => match self.decode() {
                    Ok(None) => {}
                    Ok(Some(piece)) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
                    Err(error) => return Poll::Ready(Some(Err(error))),
                },
                Stage::Last => {
                    self.stage = Stage::Trailers;
                    match self.last() {
                        Ok(None) => {}
                        Ok(Some(piece)) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
                        Err(error) => return Poll::Ready(Some(Err(error))),
                    }
                }
                Stage::Trailers => {
                    self.stage = Stage::Done;
                    if let Some(mut trailers) = self.trailers.take() {
                        mask_fields(&mut trailers, &self.masks.now());
                        return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                    }
                }
                Stage::Done => return Poll::Ready(None),
            }
        }
    }

    /// Takes what came; what may go on.
    fn take(&mut self, piece: Bytes) -> io::Result<Option<Bytes>> {
        let Some(lent) = &self.undoing else { return Ok(self.look(piece)) };
        self.began |= !piece.is_empty();
        lent.with(|undoing| undoing.input = piece).ok_or_else(taken_back)?;
        self.stage = Stage::Decoding;
        Ok(None)
    }

    fn look(&mut self, piece: Bytes) -> Option<Bytes> {
        // A secret may have been handed out since the last piece.
        self.masking.renew(self.masks.now());
        let [first, second] = self.masking.push(piece);
        if first.is_empty() {
            return Some(second).filter(|piece| !piece.is_empty());
        }
        self.due = second;
        Some(first)
    }

    /// Whether nothing that came waits.
    fn is_clear(&self) -> bool {
        self.masking.is_clear() && self.due.is_empty()
    }

    fn decode(&mut self) -> io::Result<Option<Bytes>> {
        let Some(lent) = &self.undoing else { return Ok(None) };
        let mut out = Vec::new();
        let step = lent.with(|undoing| undoing.decoder.step(&mut undoing.input, &mut out));
        if step.ok_or_else(taken_back)?? == Step::Hungry {
            self.stage = Stage::Open;
        }
        Ok(self.look(out.into()))
    }

    fn last(&mut self) -> io::Result<Option<Bytes>> {
        let mut out = Vec::new();
        if let Some(lent) = self.undoing.take() {
            lent.into_inner().ok_or_else(taken_back)?.decoder.finish(self.began, &mut out)?;
        }
        let mut last = self.look(out.into()).map_or_else(Vec::new, Vec::from);
        last.extend_from_slice(&std::mem::take(&mut self.due));
        last.extend_from_slice(&self.masking.finish());
        Ok(Some(Bytes::from(last)).filter(|piece| !piece.is_empty()))
    }
}

impl Body for Echo {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Echo::Plain(inner) => Pin::new(inner).poll_frame(cx).map_err(io::Error::other),
            Echo::Looked(looked) => looked.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Echo::Plain(inner) => inner.is_end_stream(),
            Echo::Looked(looked) => {
                looked.stage == Stage::Done
                    || (looked.stage == Stage::Open
                        && looked.inner.is_end_stream()
                        && looked.is_clear()
                        && !looked.began)
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Echo::Plain(inner) => inner.size_hint(),
            // What waits would be left out of what the server's body says of itself.
            Echo::Looked(looked) if looked.undoing.is_none() && looked.stage == Stage::Open && looked.is_clear() => {
                looked.inner.size_hint()
            }
            Echo::Looked(_) => SizeHint::default(),
        }
    }
}
