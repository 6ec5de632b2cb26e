//! A request's body as it comes, which may outlive the request.
//!
//! A request that is refused is answered at once, whatever there is still to come of its body. On HTTP/2 nobody's
//! reading it any more would reset the stream right behind the answer. That is no error (RFC 9113, 8.1), but clients
//! that are about to send find their stream gone and tell that in place of the answer (curl 7.88: error 92). So such a
//! body is let come to its end within bounds, and thrown away.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// How much of a refused request's body is taken in, and for how long.
const MOST: usize = 1024 * 1024;
const LONGEST: Duration = Duration::from_secs(10);

/// A body, and who waits for more of it.
#[derive(Debug)]
struct Place {
    /// None where it was thrown away.
    body: Option<Incoming>,
    waiting: Option<Waker>,
}

/// A request's body as it comes.
#[derive(Debug, Clone)]
pub(crate) struct Arriving(Rc<RefCell<Place>>);

impl Arriving {
    pub(super) fn new(body: Incoming) -> Self {
        Self(Rc::new(RefCell::new(Place { body: Some(body), waiting: None })))
    }

    /// Lets it come to its end and throws it away. To whom it was on its way, it broke off.
    pub(super) fn throw_away(self) {
        let (body, waiting) = {
            let mut place = self.0.borrow_mut();
            (place.body.take(), place.waiting.take())
        };
        if let Some(waiting) = waiting {
            waiting.wake();
        }
        if let Some(body) = body.filter(|body| !body.is_end_stream()) {
            // A stream counts among the client's until then, and of those there are only so many.
            tokio::task::spawn_local(async move {
                // Where it is longer, or comes slower, the stream is reset.
                let _ = tokio::time::timeout(LONGEST, drain(body)).await;
            });
        }
    }
}

async fn drain(mut body: Incoming) {
    let mut taken = 0;
    while let Some(Ok(frame)) = body.frame().await {
        taken += frame.data_ref().map_or(0, Bytes::len);
        if taken > MOST {
            return;
        }
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let mut place = self.0.borrow_mut();
        let Some(body) = &mut place.body else {
            return Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::BrokenPipe, "the request was refused"))));
        };
        let polled = Pin::new(body).poll_frame(cx).map_err(io::Error::other);
        if polled.is_pending() {
            place.waiting = Some(cx.waker().clone());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0.borrow().body.as_ref().is_some_and(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.borrow().body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}
