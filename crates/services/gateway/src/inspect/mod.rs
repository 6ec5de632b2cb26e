//! TLS that is opened: every request inside is judged, recorded and sent on by itself.
//!
//! ```text
//! opening:  ClientHello ──> leaf for its server name ──> HTTP/1.1 (strict reads it first) or HTTP/2
//! request:  head ─> judge ─> ask, record ─> upstream (verified TLS) ─> forward ─> bodies both ways
//! ```
//! A flow comes here only where a rule looks at the request; nothing was sent for it yet, and nothing is until one of
//! its requests is permitted and recorded. `request::forward` alone sends one, and uses up its `policy::Permit` and
//! `audit_log::Recorded`.

/// Sockets that are read in large pieces while much comes.
mod ahead;
/// A request's body as it comes.
mod arriving;
/// Bodies that stop when their request is cut.
mod body;
/// One client's connection.
mod connection;
/// What AWS says of a session's token that is over.
mod expiry;
/// Heads of requests and responses as they go on.
mod head;
/// Connections to servers that are kept.
mod lines;
/// Streams that know when they last moved, and how much.
mod link;
/// The handshake with the client.
mod opening;
/// A request, judged, and a connection to its server.
mod preparing;
/// One request, sent on and answered.
mod request;
/// Memory for requests.
mod room;
/// What the library of HTTP/2 rejects by itself.
mod rejections;
/// HTTP/1.1 of the client, read strictly before the library sees it.
mod strict;
/// Requests under way, and what a new policy makes of them.
mod under_way;
/// Connections to servers.
mod upstream;
/// What becomes of a WebSocket's handshake.
mod websocket;

pub(crate) use arriving::Arriving;
pub(crate) use opening::{openable, serve};
pub(crate) use under_way::{Inspected, go_over};
pub(crate) use upstream::Inspector;
