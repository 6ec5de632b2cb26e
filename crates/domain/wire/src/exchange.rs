//! Both directions of one plain HTTP connection, request by request.
//!
//! ```text
//! client:  head -> (judged by the caller) -> body -> head -> …        or, after a 101: anything
//! server:          1xx* head -> body              -> 1xx* head -> …
//! ```
//! A request is taken up only when the response to the one before is complete, so that a refusal stands
//! in its place, no request hides in another's body, and a switch to WebSocket is seen. Memory is held
//! only while a head is cut or a client runs ahead, and no more than a head and [`PIECE_LIMIT`].

use crate::{
    body::{Body, TOO_LONG},
    form::MethodField,
    http_head::{self, Framing, Head, NextLook, RequestHead},
    response::{self, ResponseHead},
};

/// The most bytes that are handed over at once.
pub const PIECE_LIMIT: usize = 64 * 1024;

/// What holds a request's body and its response's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    /// The most bytes of the request's body; none is no bound.
    pub body: Option<u64>,
    /// Of the response's.
    pub response: Option<u64>,
    /// Whether no field of a form may name another method: the request was judged by its own.
    pub method: bool,
}

/// The state of one connection.
#[derive(Debug)]
pub struct Exchange {
    /// Whether no request may follow this one.
    last: bool,
    /// The longest head.
    limit: usize,
    request: Request,
    response: Response,
    /// Client bytes that can't be taken up yet.
    held: Vec<u8>,
    look: NextLook,
    /// Server bytes of a cut head; already forwarded.
    seen: Vec<u8>,
    to_head: bool,
    upgrade: bool,
    /// Of the request that was taken up last.
    bounds: Bounds,
    /// What its body is read along for, or why it may have none.
    form: Result<Option<Box<MethodField>>, &'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    /// Between requests or within a head.
    Head,
    /// A head is with the caller.
    Judging,
    /// Within a body.
    Body(Body),
    /// Asked for a WebSocket; what follows depends on the answer.
    Upgrading,
    /// After a 101.
    Tunnel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Response {
    /// Nothing is owed.
    Idle,
    /// Within a head.
    Head,
    /// Within a body.
    Body(Body),
    /// Without framing that holds: passed on until the server closes, and no request follows.
    Opaque,
    /// After a 101.
    Tunnel,
}

/// What to do with bytes of the client.
#[derive(Debug, PartialEq, Eq)]
pub enum ClientStep {
    /// Forward so many, then ask about the rest.
    Forward(usize),
    /// All were taken in; more are needed, or the server must answer first.
    Kept,
    /// All were taken in; this head waits for [`Exchange::pass`].
    Judge(Box<RequestHead>),
}

impl Exchange {
    /// After the first head was judged. The caller forwards [`RequestHead::write`] and feeds what followed the head.
    pub fn new(head: &RequestHead, bounds: Bounds, last: bool, limit: usize) -> Self {
        let mut exchange = Self {
            last,
            limit,
            request: Request::Judging,
            response: Response::Idle,
            held: Vec::new(),
            look: NextLook::default(),
            seen: Vec::new(),
            to_head: false,
            upgrade: false,
            bounds,
            form: Ok(None),
        };
        exchange.pass(head, bounds);
        exchange
    }

    /// Whether no request follows the one that was passed: it goes on with `Connection: close`.
    pub fn is_last(&self) -> bool {
        self.last
    }

    /// Whether a request was taken up whose response is not complete.
    #[inline]
    pub fn is_answering(&self) -> bool {
        self.response != Response::Idle
    }

    /// A head was judged and is forwarded by the caller; returns what the client sent after it, to be fed again.
    /// A body that says to be longer than its bound is not to be passed.
    pub fn pass(&mut self, head: &RequestHead, bounds: Bounds) -> Vec<u8> {
        self.bounds = bounds;
        self.form = if bounds.method { MethodField::of(head).map(|form| form.map(Box::new)) } else { Ok(None) };
        self.to_head = head.method == "HEAD";
        self.upgrade = head.websocket;
        self.response = Response::Head;
        // A server that leaves the body unread takes it for the next request, which nobody judged. Behind `Connection:
        // close` it takes nothing for one (RFC 9112, 9.6).
        self.last |= bounds.method && !matches!(head.framing, Framing::Empty | Framing::Length(0));
        self.request = match head.framing {
            _ if head.websocket => Request::Upgrading,
            Framing::Empty | Framing::Length(0) => Request::Head,
            Framing::Length(length) => Request::Body(Body::Length(length)),
            Framing::Chunked => {
                let chunks = Body::chunked(true);
                Request::Body(bounds.body.map_or(chunks, |limit| chunks.at_most(limit).unwrap_or(chunks)))
            }
        };
        std::mem::take(&mut self.held)
    }

    /// Bytes of the client.
    pub fn client(&mut self, bytes: &[u8]) -> Result<ClientStep, &'static str> {
        match &mut self.request {
            Request::Tunnel => Ok(ClientStep::Forward(bytes.len())),
            Request::Body(body) => {
                let taken = match &mut self.form {
                    Ok(None) => body.advance(bytes)?,
                    Ok(Some(form)) => read_along(body, form, bytes)?,
                    Err(reason) => return Err(reason),
                };
                if body.is_done() {
                    self.request = Request::Head;
                }
                Ok(ClientStep::Forward(taken))
            }
            Request::Judging | Request::Upgrading => self.hold(bytes).map(|()| ClientStep::Kept),
            // Read to its end and dropped: closing with unread bytes would tear the response.
            Request::Head if self.last => Ok(ClientStep::Kept),
            Request::Head => {
                self.hold(bytes)?;
                if self.response != Response::Idle || self.held.is_empty() || !self.look.is_due(&self.held, self.limit)
                {
                    return Ok(ClientStep::Kept);
                }
                self.look = NextLook::default();
                match http_head::read(&self.held, self.limit, false) {
                    Head::Incomplete => {
                        self.look = NextLook::after(self.held.len());
                        Ok(ClientStep::Kept)
                    }
                    Head::Malformed(reason) => Err(reason),
                    Head::NotHttp | Head::Http2 => Err("no HTTP/1 request where one is due"),
                    Head::Complete(head, used) => {
                        self.held.drain(..used);
                        self.request = Request::Judging;
                        Ok(ClientStep::Judge(head))
                    }
                }
            }
        }
    }

    /// Whether the client should not be read for now: it ran ahead.
    #[inline]
    pub fn is_full(&self) -> bool {
        match self.request {
            Request::Judging => true,
            Request::Head => self.response != Response::Idle && !self.held.is_empty() && !self.last,
            Request::Upgrading => !self.held.is_empty(),
            Request::Body(_) | Request::Tunnel => false,
        }
    }

    /// What was held, to be fed again once a response is complete.
    pub fn take_held(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    /// Whether something is held that may now be taken up.
    #[inline]
    pub fn has_due(&self) -> bool {
        !self.held.is_empty()
            && match self.request {
                Request::Tunnel | Request::Body(_) => true,
                Request::Head => self.response == Response::Idle,
                Request::Judging | Request::Upgrading => false,
            }
    }

    /// Bytes of the server; returns how many to forward before asking about the rest.
    pub fn server(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        match &mut self.response {
            Response::Tunnel | Response::Opaque => Ok(bytes.len()),
            // Unasked for, such as a 408 before a close: goes on, and no request follows.
            Response::Idle => {
                self.bounds.response = None;
                self.without_framing(bytes, "an answer to no request")
            }
            Response::Body(body) => match body.advance(bytes) {
                Ok(taken) => {
                    if body.is_done() {
                        self.response = Response::Idle;
                    }
                    Ok(taken)
                }
                Err(reason) if reason == TOO_LONG => Err(reason),
                Err(reason) => self.without_framing(bytes, reason),
            },
            Response::Head => self.response_head(bytes),
        }
    }

    /// What has no end that can be told can't be held to a bound.
    fn without_framing(&mut self, bytes: &[u8], reason: &'static str) -> Result<usize, &'static str> {
        if self.bounds.response.is_some() {
            return Err(reason);
        }
        self.response = Response::Opaque;
        self.last = true;
        self.held = Vec::new();
        Ok(bytes.len())
    }

    fn response_head(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        let before = self.seen.len();
        let read = if before == 0 {
            response::read(bytes, self.to_head)
        } else {
            self.seen.extend_from_slice(bytes);
            response::read(&self.seen, self.to_head)
        };
        let (length, status, body) = match read {
            ResponseHead::Incomplete => {
                if before == 0 {
                    self.seen.extend_from_slice(bytes);
                }
                return Ok(bytes.len());
            }
            ResponseHead::Malformed(reason) => {
                self.seen = Vec::new();
                return self.without_framing(bytes, reason);
            }
            ResponseHead::Complete { length, status, body } => (length, status, body),
        };
        self.seen = Vec::new();
        match status {
            101 if self.upgrade => {
                self.response = Response::Tunnel;
                self.request = Request::Tunnel;
            }
            101 => return Err("a switch of protocols that was not asked for"),
            100..=199 => {}
            _ => {
                let body = self.bounds.response.map_or(Ok(body), |limit| body.at_most(limit))?;
                self.response = if body.is_done() { Response::Idle } else { Response::Body(body) };
                if self.request == Request::Upgrading {
                    self.request = Request::Head;
                }
            }
        }
        Ok(length - before)
    }

    /// How many bytes of the client may be moved without looking at them.
    #[inline]
    pub fn unseen_from_client(&self) -> u64 {
        match self.request {
            Request::Tunnel => u64::MAX,
            Request::Body(body) if self.form == Ok(None) => body.unseen(),
            Request::Body(_) | Request::Head | Request::Judging | Request::Upgrading => 0,
        }
    }

    /// So many bytes of the client were moved without looking at them.
    #[inline]
    pub fn skip_from_client(&mut self, count: u64) {
        if let Request::Body(body) = &mut self.request {
            body.skip(count);
            if body.is_done() {
                self.request = Request::Head;
            }
        }
    }

    /// How many bytes of the server may be moved without looking at them.
    #[inline]
    pub fn unseen_from_server(&self) -> u64 {
        match self.response {
            Response::Tunnel | Response::Opaque => u64::MAX,
            Response::Body(body) => body.unseen(),
            Response::Idle | Response::Head => 0,
        }
    }

    /// So many bytes of the server were moved without looking at them.
    #[inline]
    pub fn skip_from_server(&mut self, count: u64) {
        if let Response::Body(body) = &mut self.response {
            body.skip(count);
            if body.is_done() {
                self.response = Response::Idle;
            }
        }
    }

    fn hold(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        // One piece beyond a head: the caller stops reading once something is held.
        if self.held.len() + bytes.len() > self.limit + PIECE_LIMIT {
            return Err("a request head longer than the bound");
        }
        self.held.extend_from_slice(bytes);
        Ok(())
    }
}

/// Advances the body, and shows what is its data to the form.
fn read_along(body: &mut Body, form: &mut MethodField, bytes: &[u8]) -> Result<usize, &'static str> {
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty() && !body.is_done()) {
        let data = rest.len().min(usize::try_from(body.unseen()).unwrap_or(usize::MAX));
        at += match rest.get(..data).filter(|data| !data.is_empty()) {
            Some(data) => {
                form.read(data)?;
                body.skip(data.len() as u64);
                data.len()
            }
            None => body.advance(rest.get(..1).unwrap_or_default())?,
        };
    }
    Ok(at)
}

#[cfg(test)]
mod tests;
