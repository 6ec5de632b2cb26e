//! The body of a request: as it comes, or whole where a placeholder may stand in it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use credentials::sigv4::Resigner;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::{Masks, NoSecret};
use crate::{
    budget::{self, Budget, Meter, NoRoom, Room},
    inspect::Arriving,
};

/// The longest body in which a placeholder is swapped.
const LIMIT: usize = 1024 * 1024;
/// How long it may take where others wait to be read.
const HURRIED: Duration = Duration::from_secs(5);
/// The memory for a body that is signed anew, in KiB: a chunk as it came, and as it goes.
const SIGNING: u32 = 2 * 1024 + 256;
/// How much of it goes on at once.
const PIECE: usize = 64 * 1024;

/// Why it can't be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// It is longer than the bound.
    #[error("a body in which a credential's placeholder may stand is longer than 1 MiB")]
    TooLong,
    /// It broke off.
    #[error("the request's body: {0}")]
    Broken(String),
    /// It does not come to its end.
    #[error("a body in which a credential's placeholder may stand took too long")]
    Slow,
}

/// A body that is all here.
pub(crate) struct Whole {
    bytes: Bytes,
    _room: Option<Room>,
}

impl Whole {
    /// Reads a body within the bound. Only so many are read at a time; the others wait their turn.
    pub(super) async fn read(body: Arriving, masks: &Masks) -> Result<Self, NoSecret> {
        if body.size_hint().lower() > LIMIT as u64 {
            return Err(BodyError::TooLong.into());
        }
        let room = masks.room().await?;
        let bytes = tokio::select! {
            bytes = all_of(body) => bytes?,
            () = is_over(masks) => return Err(BodyError::Slow.into()),
        };
        Ok(Self { bytes, _room: Some(room) })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same with another text.
    pub(super) fn swapped(&self, bytes: &[u8]) -> Self {
        Self { bytes: Bytes::copy_from_slice(bytes), _room: None }
    }
}

/// Waits until such a body has had its time: a minute, and less while others wait.
async fn is_over(masks: &Masks) {
    let began = Instant::now();
    let patience = masks.bodies().patience();
    while began.elapsed() < patience && !(masks.bodies().is_wanted() && began.elapsed() >= HURRIED) {
        tokio::time::sleep(budget::LOOK).await;
    }
}

async fn all_of(mut body: Arriving) -> Result<Bytes, BodyError> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| BodyError::Broken(error.to_string()))?;
        // Trailers of such a body are left out.
        let Ok(piece) = frame.into_data() else { break };
        if whole.len() + piece.len() > LIMIT {
            return Err(BodyError::TooLong);
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

/// The body of a request.
pub(crate) enum RequestBody {
    /// None.
    Nothing,
    /// As it comes.
    Streamed(Arriving),
    /// As it comes, without trailers: a server could add them to the head, beside a secret or in its place.
    Untrailed(Arriving),
    /// In chunks that an AWS signature covers, signed anew.
    Resigned(Box<Signing>),
    /// All here.
    Whole(Whole),
}

impl RequestBody {
    /// Its chunks are signed anew.
    pub(crate) fn resign(&mut self, resigner: Resigner) {
        if let RequestBody::Resigned(signing) = self {
            signing.resigner = Some(resigner);
        }
    }

    /// How long it is, where that is another length than was told.
    pub(crate) fn new_length(&self) -> Option<usize> {
        match self {
            RequestBody::Whole(whole) => Some(whole.bytes.len()),
            RequestBody::Nothing | RequestBody::Streamed(_) | RequestBody::Untrailed(_) | RequestBody::Resigned(_) => {
                None
            }
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            RequestBody::Nothing => Poll::Ready(None),
            RequestBody::Streamed(inner) => Pin::new(inner).poll_frame(cx),
            RequestBody::Untrailed(inner) => {
                let next = ready!(Pin::new(inner).poll_frame(cx));
                Poll::Ready(next.filter(|frame| !frame.as_ref().is_ok_and(Frame::is_trailers)))
            }
            RequestBody::Resigned(signing) => signing.poll(cx),
            RequestBody::Whole(whole) => {
                let bytes = std::mem::take(&mut whole.bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RequestBody::Nothing => true,
            RequestBody::Streamed(inner) | RequestBody::Untrailed(inner) => inner.is_end_stream(),
            RequestBody::Resigned(signing) => {
                signing.resigner.is_none() && signing.out.is_empty() && signing.inner.is_end_stream()
            }
            RequestBody::Whole(whole) => whole.bytes.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RequestBody::Nothing => SizeHint::with_exact(0),
            // Of the same length as before.
            RequestBody::Streamed(inner) | RequestBody::Untrailed(inner) => inner.size_hint(),
            RequestBody::Resigned(signing) => signing.inner.size_hint(),
            RequestBody::Whole(whole) => SizeHint::with_exact(whole.bytes.len() as u64),
        }
    }
}

/// A body whose chunks are signed anew.
pub(crate) struct Signing {
    inner: Arriving,
    /// None before the request's head is signed, and behind the last chunk.
    resigner: Option<Resigner>,
    /// Signed, and not taken.
    out: Bytes,
    /// When it is looked whether the client goes on, while its next piece is waited for.
    look: Pin<Box<Sleep>>,
    waits: bool,
    meter: Meter,
    budget: Budget,
    _room: Room,
}

impl Signing {
    /// A body in signed chunks, as soon as there is memory for one of them.
    pub(super) async fn of(body: Arriving, masks: &Masks) -> Result<Box<Self>, NoRoom> {
        let room = masks.budget().room(SIGNING).await?;
        Ok(Box::new(Self {
            inner: body,
            resigner: None,
            out: Bytes::new(),
            look: Box::pin(tokio::time::sleep(budget::LOOK)),
            waits: false,
            meter: Meter::default(),
            budget: masks.budget().clone(),
            _room: room,
        }))
    }

    /// The next piece with signatures of ours; trailers are left out.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let bad = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        loop {
            if !self.out.is_empty() {
                let piece = self.out.split_to(self.out.len().min(PIECE));
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            let Some(signs) = &mut self.resigner else { return Poll::Ready(None) };
            let polled = Pin::new(&mut self.inner).poll_frame(cx);
            if polled.is_pending() {
                return self.poll_late(cx);
            }
            self.waits = false;
            match ready!(polled) {
                Some(Ok(frame)) => {
                    let Ok(piece) = frame.into_data() else { continue };
                    self.meter.client_did(piece.len(), Instant::now());
                    let mut out = Vec::new();
                    if let Err(error) = signs.push(&piece, &mut out) {
                        return Poll::Ready(Some(Err(bad(error))));
                    }
                    self.out = out.into();
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    let outcome = signs.finish();
                    self.resigner = None;
                    return Poll::Ready(outcome.err().map(|error| Err(bad(error))));
                }
            }
        }
    }

    /// Nothing came: an error where the client leaves it at that.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if !std::mem::replace(&mut self.waits, true) {
            self.meter.client_is_due(Instant::now());
            self.look.as_mut().reset(Instant::now() + budget::LOOK);
        }
        while self.look.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if self.meter.is_over(&self.budget, now) {
                let words = "the client sent next to nothing of a body in signed chunks for a minute";
                return Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::TimedOut, words))));
            }
            self.look.as_mut().reset(now + budget::LOOK);
        }
        Poll::Pending
    }
}
