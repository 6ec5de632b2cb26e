//! Connections to servers that are kept for the next request.
//!
//! One of HTTP/1.1 carries one request at a time, and is free for the whole sandbox behind the answer: for the same
//! host, port, route and credential, and only where the next request was judged for its address. So a client that
//! makes a connection for each request does not make us do so too, and idle clients hold no connection upstream. One of
//! HTTP/2 stays with the client's connection that it was made for.
//!
//! A request with a body is the last on its connection of HTTP/1.1. A server that answers and leaves the body unread
//! takes it for the next request, one that nobody judged; and what we would send next, with its secret, for a part of
//! that. So such a request says `Connection: close`, behind which a server takes nothing for a request (RFC 9112, 9.6),
//! and nothing of ours follows. The cost is a handshake for the request after each upload; HTTP/2, where a body can't be
//! anything else, does not pay it.

use std::{
    cell::RefCell,
    collections::VecDeque,
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use certificates::{Fault, Protocols, UpstreamRoots};
use credentials::TokenId;
use hyper::client::conn::{http1, http2};
use policy::{HostName, model::Route};
use values::{CredentialName, Revision};
use wire::http_head::RequestHead;

use super::{
    body::Upload,
    link::{Carried, Link},
    upstream::{Inspector, ReachError, Shown, connect},
};
use crate::resolve::BindingGuard;

/// The most free connections of a worker.
const FREE: usize = 32;
/// How long one is kept: less than most servers do.
const KEPT: Duration = Duration::from_secs(15);
/// How long after its last answer one may carry another client's request that can't be sent twice: a server that is
/// about to close it would leave nobody knowing whether the request was taken up.
const FRESH: Duration = Duration::from_secs(1);

/// Who sends on a connection.
pub(super) enum Sender {
    Http1(http1::SendRequest<Upload>),
    Http2(http2::SendRequest<Upload>),
}

/// Where a connection leads, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) host: HostName,
    pub(super) port: u16,
    pub(super) route: Route,
    /// The secret that went along, by its id.
    pub(super) credential: Option<(CredentialName, TokenId)>,
    /// The bundle that the server was verified against, where it was not the system's.
    pub(super) roots: Option<PathBuf>,
    /// The policy that says so. Another's may mean other roots by the same path, so its requests begin anew.
    pub(super) revision: Revision,
}

/// A connection to a server that is who it should be.
pub(super) struct Line {
    pub(super) sender: Sender,
    pub(super) address: IpAddr,
    place: Arc<Place>,
    shown: Option<Shown>,
    roots: Option<UpstreamRoots>,
    carried: Arc<Carried>,
    /// Whether it carried a request before: it may have been closed by the server meanwhile.
    pub(super) used: bool,
    /// The server knows by the connection who sends.
    signed_in: bool,
    /// Its request has a body, so none follows.
    last: bool,
    /// Keeps the name's address bound.
    binding: Option<BindingGuard>,
}

impl Line {
    pub(super) fn new(
        sender: Sender,
        address: IpAddr,
        place: Place,
        shown: Option<Shown>,
        roots: Option<UpstreamRoots>,
        carried: Arc<Carried>,
    ) -> Self {
        let place = Arc::new(place);
        Self {
            sender,
            address,
            place,
            shown,
            roots,
            carried,
            used: false,
            signed_in: false,
            last: false,
            binding: None,
        }
    }

    fn leads(&self, to: &Destination<'_>) -> bool {
        *self.place == to.place && to.addresses.contains(&self.address)
    }

    fn is_usable(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_ready(),
            Sender::Http2(sender) => sender.is_ready() && !sender.is_closed(),
        }
    }

    /// Another handle of the same connection; none where it carries one request at a time.
    fn shared(&self, used: bool) -> Option<Self> {
        let Sender::Http2(sender) = &self.sender else { return None };
        Some(Self {
            sender: Sender::Http2(sender.clone()),
            address: self.address,
            place: Arc::clone(&self.place),
            shown: self.shown.clone(),
            roots: self.roots.clone(),
            carried: Arc::clone(&self.carried),
            used,
            signed_in: self.signed_in,
            last: self.last,
            binding: None,
        })
    }

    /// What the server has against who we are, where that is why it closed the connection.
    pub(super) fn unidentified(&self) -> Option<&Fault> {
        self.carried.unidentified()
    }

    /// A request with a body goes out: on HTTP/1.1 nothing follows.
    pub(super) fn carries_body(&mut self) {
        self.last = matches!(self.sender, Sender::Http1(_));
    }

    /// Takes in what a request does to the connection: schemes that sign it in, and not the request, bind it to its
    /// client (RFC 4559, 6).
    pub(super) fn note(&mut self, head: &RequestHead) {
        let signs_in = |value: &[u8]| {
            let scheme = value.trim_ascii_start().split(|byte| *byte == b' ').next().unwrap_or_default();
            scheme.eq_ignore_ascii_case(b"negotiate") || scheme.eq_ignore_ascii_case(b"ntlm")
        };
        self.signed_in |=
            head.fields.iter().any(|(name, value)| name.eq_ignore_ascii_case("authorization") && signs_in(value));
    }
}

/// Where a request goes.
pub(super) struct Destination<'a> {
    pub(super) place: Place,
    pub(super) addresses: &'a [IpAddr],
    /// What is shown to a server that asks who we are.
    pub(super) shown: Option<&'a Shown>,
    /// Whose certificates the server must have, in place of the system's roots.
    pub(super) roots: Option<&'a UpstreamRoots>,
    pub(super) protocols: Protocols,
    pub(super) timeout: Duration,
    /// Whether the request may be sent twice where nobody knows if the first was taken up.
    pub(super) repeatable: bool,
}

/// A free connection.
struct Free {
    line: Line,
    /// The client's connection that used it last.
    client: u64,
    since: Instant,
}

/// The free connections of one worker, the longest free first.
#[derive(Default)]
pub(super) struct Pool(RefCell<VecDeque<Free>>);

impl Pool {
    /// One that leads there: best the client's own, else the one that was used last.
    fn take(&self, to: &Destination<'_>, client: u64) -> Option<Line> {
        let mut free = self.0.borrow_mut();
        let is_own = |free: &Free| free.client == client;
        // A client of HTTP/2 may need what HTTP/1.1 can't carry (gRPC): whether the server speaks it, its own dial tells.
        let is_http1 = matches!(to.protocols, Protocols::Http1 | Protocols::Unnamed);
        let may_carry =
            |free: &Free| is_http1 && !free.line.signed_in && (to.repeatable || free.since.elapsed() < FRESH);
        let fits = |free: &Free| (is_own(free) || may_carry(free)) && free.line.leads(to) && free.line.is_usable();
        let own = free.iter().rposition(|free| is_own(free) && fits(free));
        let at = own.or_else(|| free.iter().rposition(fits))?;
        free.remove(at).map(|free| free.line)
    }

    fn put(&self, line: Line, client: u64) {
        let mut free = self.0.borrow_mut();
        if free.len() >= FREE {
            free.pop_front();
        }
        free.push_back(Free { line, client, since: Instant::now() });
    }

    /// Closes those that were free for too long.
    pub(super) fn sweep(&self) {
        self.0.borrow_mut().retain(|free| free.since.elapsed() < KEPT && free.line.is_usable());
    }

    /// Closes all.
    pub(super) fn clear(&self) {
        self.0.borrow_mut().clear();
    }
}

/// The connections to servers of one client's connection.
pub(super) struct Lines {
    client: u64,
    carried_for: Arc<Link>,
    /// Those of HTTP/2.
    shared: RefCell<Vec<Line>>,
    /// One at a time dials, so that streams that come together share a connection.
    dialling: tokio::sync::Mutex<()>,
}

impl Lines {
    /// None yet. `client` is the number of the client's connection, `link` where it counts what moves.
    pub(super) fn new(client: u64, link: &Arc<Link>) -> Self {
        let carried_for = Arc::clone(link);
        Self { client, carried_for, shared: RefCell::default(), dialling: tokio::sync::Mutex::default() }
    }

    /// One that leads there and is free.
    fn take(
        &self,
        pool: &Pool,
        to: &Destination<'_>,
        hold: impl FnOnce(&HostName, IpAddr) -> Option<BindingGuard>,
    ) -> Option<Line> {
        let mut shared = self.shared.borrow_mut();
        shared.retain(|line| line.is_usable() && line.place.revision >= to.place.revision);
        if let Some(line) = shared.iter().find(|line| line.leads(to)) {
            return line.shared(true);
        }
        let mut line = pool.take(to, self.client)?;
        line.binding = hold(&line.place.host, line.address);
        line.carried.carry_for(&self.carried_for);
        Some(line)
    }

    /// One that leads there: a free one, or a new one.
    pub(super) async fn reach(
        &self,
        pool: &Pool,
        inspector: &Inspector,
        to: &Destination<'_>,
        hold: impl Fn(&HostName, IpAddr) -> Option<BindingGuard>,
    ) -> Result<Line, ReachError> {
        if let Some(line) = self.take(pool, to, &hold) {
            return Ok(line);
        }
        let _turn = match to.protocols {
            Protocols::Http1 | Protocols::Unnamed => None,
            Protocols::Http2 | Protocols::Either => Some(self.dialling.lock().await),
        };
        if _turn.is_some()
            && let Some(line) = self.take(pool, to, &hold)
        {
            return Ok(line);
        }
        // Seldom: a request that needs none should not have room for it.
        let mut line = Box::pin(connect(inspector, to, &self.carried_for)).await?;
        line.binding = hold(&line.place.host, line.address);
        match line.shared(false) {
            Some(handle) => {
                self.shared.borrow_mut().push(line);
                Ok(handle)
            }
            None => Ok(line),
        }
    }

    /// A new one in place of one that the server closed.
    pub(super) async fn again(
        &self,
        inspector: &Inspector,
        line: &Line,
        (protocols, timeout): (Protocols, Duration),
        hold: impl FnOnce(&HostName, IpAddr) -> Option<BindingGuard>,
    ) -> Result<Line, ReachError> {
        let place = Place::clone(&line.place);
        let to = Destination {
            place,
            addresses: &[line.address],
            shown: line.shown.as_ref(),
            roots: line.roots.as_ref(),
            protocols,
            timeout,
            repeatable: true,
        };
        let mut new = Box::pin(connect(inspector, &to, &self.carried_for)).await?;
        // The same request goes on it.
        (new.signed_in, new.binding) = (line.signed_in, hold(&new.place.host, new.address));
        Ok(new)
    }

    /// The answer is through: the connection is free.
    pub(super) fn give_back(&self, pool: &Pool, line: Line) {
        let mut line = line;
        match &line.sender {
            Sender::Http1(sender) if !line.last && !sender.is_closed() => {
                line.carried.is_free();
                (line.used, line.binding) = (true, None);
                pool.put(line, self.client);
            }
            Sender::Http1(_) | Sender::Http2(_) => {}
        }
    }
}
