//! Bodies that stop when their request is cut.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use credentials::sigv4::Resigner;
use http::{HeaderName, HeaderValue};
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Instant;
use wire::form::MethodField;

use super::{
    connection::Connection,
    expiry::Expiry,
    lines::Line,
    under_way::{Side, UnderWay},
};
use crate::credential::{Carried, Echo, RequestBody};

type Polled = Poll<Option<Result<Frame<Bytes>, io::Error>>>;

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "cut by a new policy")
}

/// Trailers without what belongs into a head: a recipient could add it there.
fn clean(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Err(frame) => frame,
        Ok(trailers) => {
            let may_trail = |(name, _): &(&HeaderName, &HeaderValue)| wire::body::may_trail(name.as_str().as_bytes());
            let kept = trailers.iter().filter(may_trail).map(|(name, value)| (name.clone(), value.clone()));
            Frame::trailers(kept.collect())
        }
    }
}

/// The frame, unless the body is longer with it than it may be.
fn held_to_bound(under_way: &UnderWay, side: Side, polled: Polled) -> Polled {
    match &polled {
        Poll::Ready(Some(Ok(frame))) if !under_way.take(side, frame.data_ref().map_or(0, Bytes::len)) => {
            Poll::Ready(Some(Err(io::Error::other(wire::body::TOO_LONG))))
        }
        Poll::Ready(_) | Poll::Pending => polled,
    }
}

/// A request's body, on its way to the server.
pub(super) struct Upload {
    inner: RequestBody,
    under_way: Rc<UnderWay>,
    form: Option<Box<MethodField>>,
}

impl Upload {
    pub(super) fn new(inner: RequestBody, under_way: Rc<UnderWay>) -> Self {
        Self { inner, under_way, form: None }
    }

    /// The same, read along for a field that names another method.
    pub(super) fn read_along(mut self, form: Option<Box<MethodField>>) -> Self {
        self.form = form;
        self
    }

    /// How long it is, where that is another length than was told.
    pub(super) fn new_length(&self) -> Option<usize> {
        self.inner.new_length()
    }

    /// Its chunks are signed anew.
    pub(super) fn resign(&mut self, resigner: Resigner) {
        self.inner.resign(resigner);
    }

    /// None.
    pub(super) fn empty(under_way: Rc<UnderWay>) -> Self {
        Self { inner: RequestBody::Nothing, under_way, form: None }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        if self.under_way.poll_cut(Side::Up, cx).is_ready() {
            return Poll::Ready(Some(Err(cut())));
        }
        let polled = Pin::new(&mut self.inner).poll_frame(cx).map_ok(clean);
        if polled.is_ready() {
            self.under_way.note_moved(Instant::now());
        }
        let upload = &mut *self;
        if let (Some(form), Poll::Ready(Some(Ok(frame)))) = (&mut upload.form, &polled)
            && let Some(Err(reason)) = frame.data_ref().map(|data| form.read(data))
        {
            upload.under_way.end_body(reason);
            return Poll::Ready(Some(Err(io::Error::other(reason))));
        }
        held_to_bound(&upload.under_way, Side::Up, polled)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// What a client is answered.
pub(super) enum Answer {
    /// Ours, whole.
    Own(Option<Bytes>),
    /// A server's.
    Server(Box<Download>),
}

/// A response's body, on its way to the client.
pub(super) struct Download {
    inner: Echo,
    under_way: Rc<UnderWay>,
    connection: Rc<Connection>,
    /// The server's connection, free again behind the last byte.
    line: Option<Line>,
    /// An error that may say that this secret is over.
    expiry: Option<Box<(Expiry, Carried)>>,
    /// How many bytes the client was handed last.
    handed: usize,
}

impl Download {
    pub(super) fn new(inner: Echo, under_way: Rc<UnderWay>, connection: Rc<Connection>, line: Line) -> Self {
        Self { inner, under_way, connection, line: Some(line), expiry: None, handed: 0 }
    }

    /// The same, looked at for the end of its secret.
    pub(super) fn expecting(mut self, expiry: Option<(Expiry, Carried)>) -> Self {
        self.expiry = expiry.map(Box::new);
        self
    }

    /// Where these bytes say that the secret is over, the next request gets another.
    fn look_for_expiry(&mut self, piece: &[u8]) {
        if let Some((_, secret)) = self.expiry.take_if(|expiry| expiry.0.is_told_by(piece)).as_deref() {
            secret.renew_later(&self.connection.worker);
        }
    }

    fn free_line(&mut self) {
        if let Some(line) = self.line.take() {
            self.connection.give_back(line);
        }
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        if self.inner.is_read() {
            self.free_line();
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let download = match &mut *self {
            Answer::Own(bytes) => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Answer::Server(download) => download,
        };
        if download.under_way.poll_cut(Side::Down, cx).is_ready() {
            download.connection.cut_by_policy();
            return Poll::Ready(Some(Err(cut())));
        }
        // Asked for more, the client has what it was handed.
        let asked = Instant::now();
        download.under_way.meter.borrow_mut().client_did(std::mem::take(&mut download.handed), asked);
        let polled = Pin::new(&mut download.inner).poll_frame(cx).map_ok(clean);
        let polled = held_to_bound(&download.under_way, Side::Down, polled);
        match &polled {
            Poll::Ready(None) => download.free_line(),
            Poll::Ready(Some(Err(_))) => download.connection.cut_under_response(),
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(piece) = frame.data_ref() {
                    download.handed = piece.len();
                    download.look_for_expiry(piece);
                }
                download.under_way.note_moved(asked);
                download.under_way.meter.borrow_mut().client_is_due(asked);
            }
            Poll::Pending => {}
        }
        polled.map_ok(|frame| frame.map_data(|bytes| download.under_way.roomed(bytes)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Answer::Own(bytes) => bytes.is_none(),
            Answer::Server(download) => download.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Answer::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Answer::Server(download) => download.inner.size_hint(),
        }
    }
}
