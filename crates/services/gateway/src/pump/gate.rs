//! What may pass from a client.

use wire::{
    exchange::{ClientStep, Exchange},
    hidden_request::{Look, Scan},
    http_head::RequestHead,
    intent::{self, Intent},
};

/// What may pass from a client, and what is looked at on the way.
#[derive(Debug)]
pub(crate) enum Gate {
    /// Everything.
    Open,
    /// Nothing before the first bytes are known and judged.
    First(Box<First>),
    /// Everything but a request, as long as one is looked for.
    NoRequest(Scan),
    /// Requests, one after the other.
    Http(Box<Exchange>),
}

/// First bytes on the way in.
#[derive(Debug)]
pub(crate) struct First {
    bytes: Vec<u8>,
    /// What the server said before the client did.
    server: Vec<u8>,
    limit: usize,
    waiting: bool,
}

/// What waits for a judgement.
#[derive(Debug)]
pub(crate) enum Asked {
    /// The client's first bytes.
    First(Intent, Vec<u8>),
    /// The server spoke before the client.
    ServerFirst,
    /// A further request.
    Request(Box<RequestHead>),
    /// Bytes without one meaning where a request is due.
    Broken(&'static str),
}

/// What to do with bytes.
pub(super) enum Step {
    /// Forward so many, then ask about the rest.
    Forward(usize),
    /// All were taken in.
    Kept,
    /// All were taken in, and this waits for a judgement.
    Ask(Asked),
}

impl Gate {
    /// Waits for the client's first bytes.
    pub(crate) fn first(limit: usize) -> Self {
        Gate::First(Box::new(First { bytes: Vec::new(), server: Vec::new(), limit, waiting: false }))
    }

    /// What passes where the first bytes were neither TLS nor HTTP. One that was let through by a name must not become
    /// HTTP later, where nothing would hold its `Host` to that name.
    pub(crate) fn raw(by_name: bool) -> Self {
        if by_name { Gate::NoRequest(Scan::default()) } else { Gate::Open }
    }

    /// Bytes of the client.
    pub(super) fn client(&mut self, bytes: &[u8]) -> Step {
        match self {
            Gate::Open => Step::Forward(bytes.len()),
            Gate::First(first) => first.client(bytes),
            Gate::NoRequest(scan) => match scan.look(bytes) {
                Look::Found => Step::Ask(Asked::Broken("an HTTP request behind something that is no HTTP")),
                Look::On => Step::Forward(bytes.len()),
                Look::Done => {
                    *self = Gate::Open;
                    Step::Forward(bytes.len())
                }
            },
            Gate::Http(exchange) => match exchange.client(bytes) {
                Ok(ClientStep::Forward(count)) => Step::Forward(count),
                Ok(ClientStep::Kept) => Step::Kept,
                Ok(ClientStep::Judge(head)) => Step::Ask(Asked::Request(head)),
                Err(reason) => Step::Ask(Asked::Broken(reason)),
            },
        }
    }

    /// Bytes of the server.
    pub(super) fn server(&mut self, bytes: &[u8]) -> Result<Step, &'static str> {
        match self {
            Gate::Open => Ok(Step::Forward(bytes.len())),
            Gate::First(first) if !first.waiting && first.bytes.is_empty() => {
                first.waiting = true;
                first.server.extend_from_slice(bytes);
                Ok(Step::Ask(Asked::ServerFirst))
            }
            Gate::First(_) | Gate::NoRequest(_) => Ok(Step::Forward(bytes.len())),
            Gate::Http(exchange) => exchange.server(bytes).map(Step::Forward),
        }
    }

    /// The client will say no more: what it said so far is all.
    pub(super) fn client_ended(&mut self) -> Option<Asked> {
        match self {
            Gate::First(first) if !first.waiting && !first.bytes.is_empty() => {
                first.waiting = true;
                let bytes = std::mem::take(&mut first.bytes);
                Some(Asked::First(intent::classify_whole(&bytes, first.limit), bytes))
            }
            Gate::Open | Gate::NoRequest(_) | Gate::First(_) | Gate::Http(_) => None,
        }
    }

    /// What the server said while the first bytes were waited for.
    pub(super) fn into_server_bytes(self) -> Vec<u8> {
        match self {
            Gate::First(first) => first.server,
            Gate::Open | Gate::NoRequest(_) | Gate::Http(_) => Vec::new(),
        }
    }

    /// Whether the client should be read.
    pub(super) fn wants_client(&self) -> bool {
        match self {
            Gate::Open | Gate::NoRequest(_) => true,
            Gate::First(first) => !first.waiting,
            Gate::Http(exchange) => !exchange.is_full(),
        }
    }

    /// Whether the server should be read: not while it is asked whether it may speak first.
    pub(super) fn wants_server(&self) -> bool {
        match self {
            Gate::Open | Gate::NoRequest(_) | Gate::Http(_) => true,
            Gate::First(first) => !first.waiting,
        }
    }

    /// How many bytes of the client may be moved unseen.
    pub(super) fn unseen_from_client(&self) -> u64 {
        match self {
            Gate::Open => u64::MAX,
            Gate::First(_) | Gate::NoRequest(_) => 0,
            Gate::Http(exchange) => exchange.unseen_from_client(),
        }
    }

    /// How many bytes of the server may be moved unseen.
    pub(super) fn unseen_from_server(&self) -> u64 {
        match self {
            Gate::Open | Gate::NoRequest(_) => u64::MAX,
            Gate::First(_) => 0,
            Gate::Http(exchange) => exchange.unseen_from_server(),
        }
    }

    /// Bytes of the client were moved unseen.
    pub(super) fn skip_from_client(&mut self, count: u64) {
        if let Gate::Http(exchange) = self {
            exchange.skip_from_client(count);
        }
    }

    /// Bytes of the server were moved unseen.
    pub(super) fn skip_from_server(&mut self, count: u64) {
        if let Gate::Http(exchange) = self {
            exchange.skip_from_server(count);
        }
    }

    /// Client bytes that were held and may now be taken up.
    pub(super) fn take_due(&mut self) -> Option<Vec<u8>> {
        match self {
            Gate::Http(exchange) if exchange.has_due() => Some(exchange.take_held()),
            Gate::Open | Gate::NoRequest(_) | Gate::First(_) | Gate::Http(_) => None,
        }
    }

    /// Whether first bytes were begun and are not complete.
    pub(super) fn is_within_first(&self) -> bool {
        matches!(self, Gate::First(first) if !first.waiting && !first.bytes.is_empty())
    }
}

impl First {
    fn client(&mut self, bytes: &[u8]) -> Step {
        self.bytes.extend_from_slice(bytes);
        match intent::classify(&self.bytes, self.limit) {
            Some(intent) => {
                self.waiting = true;
                Step::Ask(Asked::First(intent, std::mem::take(&mut self.bytes)))
            }
            None => Step::Kept,
        }
    }
}
