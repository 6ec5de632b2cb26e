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
    body::Body,
    http_head::{self, Framing, Head, NextLook, RequestHead},
    response::{self, ResponseHead},
};

/// The most bytes that are handed over at once.
pub const PIECE_LIMIT: usize = 64 * 1024;

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
    pub fn new(head: &RequestHead, last: bool, limit: usize) -> Self {
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
        };
        exchange.pass(head);
        exchange
    }

    /// Whether a request was taken up whose response is not complete.
    #[inline]
    pub fn is_answering(&self) -> bool {
        self.response != Response::Idle
    }

    /// A head was judged and is forwarded by the caller; returns what the client sent after it, to be fed again.
    pub fn pass(&mut self, head: &RequestHead) -> Vec<u8> {
        self.to_head = head.method == "HEAD";
        self.upgrade = head.websocket;
        self.response = Response::Head;
        self.request = match head.framing {
            _ if head.websocket => Request::Upgrading,
            Framing::Empty | Framing::Length(0) => Request::Head,
            Framing::Length(length) => Request::Body(Body::Length(length)),
            Framing::Chunked => Request::Body(Body::chunked(true)),
        };
        std::mem::take(&mut self.held)
    }

    /// Bytes of the client.
    pub fn client(&mut self, bytes: &[u8]) -> Result<ClientStep, &'static str> {
        match &mut self.request {
            Request::Tunnel => Ok(ClientStep::Forward(bytes.len())),
            Request::Body(body) => {
                let taken = body.advance(bytes)?;
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
                if self.response != Response::Idle
                    || self.held.is_empty()
                    || !self.look.is_due(&self.held, self.limit)
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
            Response::Idle => Ok(self.without_framing(bytes)),
            Response::Body(body) => match body.advance(bytes) {
                Ok(taken) => {
                    if body.is_done() {
                        self.response = Response::Idle;
                    }
                    Ok(taken)
                }
                Err(_) => Ok(self.without_framing(bytes)),
            },
            Response::Head => self.response_head(bytes),
        }
    }

    fn without_framing(&mut self, bytes: &[u8]) -> usize {
        self.response = Response::Opaque;
        self.last = true;
        self.held = Vec::new();
        bytes.len()
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
            ResponseHead::Malformed(_) => {
                self.seen = Vec::new();
                return Ok(self.without_framing(bytes));
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
            Request::Body(body) => body.unseen(),
            Request::Head | Request::Judging | Request::Upgrading => 0,
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

#[cfg(test)]
mod tests {
    use super::{ClientStep, Exchange};
    use crate::http_head::{Head, RequestHead, read};

    const LIMIT: usize = 64 * 1024;

    fn head(text: &str) -> (RequestHead, Vec<u8>) {
        match read(text.as_bytes(), LIMIT, false) {
            Head::Complete(head, used) => (*head, text.as_bytes()[used..].to_vec()),
            other => panic!("{other:?}"),
        }
    }

    /// Feeds all bytes; returns what was forwarded, and the head that waits.
    fn client(exchange: &mut Exchange, bytes: &[u8]) -> Result<(Vec<u8>, Option<RequestHead>), &'static str> {
        let mut rest = bytes;
        let mut forwarded = Vec::new();
        loop {
            match exchange.client(rest)? {
                ClientStep::Forward(count) => {
                    forwarded.extend_from_slice(&rest[..count]);
                    rest = &rest[count..];
                    if rest.is_empty() {
                        return Ok((forwarded, None));
                    }
                }
                ClientStep::Kept => return Ok((forwarded, None)),
                ClientStep::Judge(head) => return Ok((forwarded, Some(*head))),
            }
        }
    }

    fn server(exchange: &mut Exchange, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let taken = exchange.server(rest).unwrap();
            rest = &rest[taken..];
        }
    }

    #[test]
    fn a_request_behind_another_waits_for_its_answer() {
        let (first, rest) = head(
            "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n\r\nhiGET /2 HTTP/1.1\r\nHost: b.example\r\n\r\n",
        );
        let mut exchange = Exchange::new(&first, false, LIMIT);
        let (forwarded, waiting) = client(&mut exchange, &rest).unwrap();
        assert_eq!((forwarded.as_slice(), waiting), (&b"hi"[..], None));
        assert!(exchange.is_full() && !exchange.has_due());
        server(&mut exchange, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Le");
        server(&mut exchange, b"ngth: 3\r\n\r\nabc");
        assert!(exchange.has_due());
        let held = exchange.take_held();
        let (_, waiting) = client(&mut exchange, &held).unwrap();
        let second = waiting.unwrap();
        assert_eq!(second.authority.host, policy::Target::parse("b.example").unwrap());
        assert_eq!(exchange.client(b"").unwrap(), ClientStep::Kept);
    }

    #[test]
    fn a_websocket_is_a_tunnel_only_after_101() {
        let text = "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x01\x02";
        let (first, rest) = head(text);
        let mut exchange = Exchange::new(&first, false, LIMIT);
        assert_eq!(exchange.client(&rest).unwrap(), ClientStep::Kept);
        server(&mut exchange, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x03");
        assert!(exchange.has_due());
        let held = exchange.take_held();
        assert_eq!(exchange.client(&held).unwrap(), ClientStep::Forward(2));
        assert_eq!(exchange.unseen_from_server(), u64::MAX);

        let mut refused = Exchange::new(&first, false, LIMIT);
        server(&mut refused, b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n");
        assert!(client(&mut refused, b"\x01\x02").is_err());
    }

    #[test]
    fn a_101_that_nobody_asked_for_ends_it() {
        let (first, _) = head("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
        let mut exchange = Exchange::new(&first, false, LIMIT);
        assert!(exchange.server(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").is_err());
    }

    #[test]
    fn nothing_follows_a_response_without_framing() {
        let (first, _) = head("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
        let mut exchange = Exchange::new(&first, false, LIMIT);
        server(&mut exchange, b"garbage\r\n\r\n");
        let (forwarded, waiting) = client(&mut exchange, b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
        assert!(forwarded.is_empty() && waiting.is_none() && !exchange.has_due());
    }

    #[test]
    fn one_request_where_it_is_the_last() {
        let (first, _) = head("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
        let mut exchange = Exchange::new(&first, true, LIMIT);
        server(&mut exchange, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(client(&mut exchange, b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap(), (Vec::new(), None));
        assert!(!exchange.has_due() && !exchange.is_full());
    }
}
