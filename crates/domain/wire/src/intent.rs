//! What a client wants, from its first bytes.
//!
//! [`classify`] is asked whenever more bytes came, and once it answers, no further byte
//! changes the answer. So the verdict on a connection is the same wherever its bytes are cut.

use policy::Layer;

use crate::{
    client_hello::{self, ClientHello, Hello},
    http_head::{self, Head, RequestHead},
};

/// What the first bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Intent {
    /// TLS.
    Tls(ClientHello),
    /// A plain HTTP/1 request, and the length of its head.
    Http(Box<RequestHead>, usize),
    /// HTTP/2 without negotiation.
    Http2,
    /// Another protocol.
    Raw,
    /// No byte came: a protocol in which the server speaks first, or nothing at all.
    Silent,
    /// Meant to be TLS or HTTP, without one meaning.
    Malformed(Layer, &'static str),
}

/// What these first bytes are; `None` while more could tell. `limit` bounds what is read of them.
pub fn classify(bytes: &[u8], limit: usize) -> Option<Intent> {
    match client_hello::read(bytes, limit) {
        Hello::Incomplete => None,
        Hello::Complete(hello) => Some(Intent::Tls(hello)),
        Hello::Malformed(reason) => Some(Intent::Malformed(Layer::Tls, reason)),
        Hello::NotTls => match http_head::read(bytes, limit, false) {
            Head::Incomplete => None,
            Head::Complete(head, used) => Some(Intent::Http(head, used)),
            Head::Http2 => Some(Intent::Http2),
            Head::NotHttp => Some(Intent::Raw),
            Head::Malformed(reason) => Some(Intent::Malformed(Layer::Http, reason)),
        },
    }
}

/// What these bytes are when no more will come.
pub fn classify_whole(bytes: &[u8], limit: usize) -> Intent {
    match classify(bytes, limit) {
        Some(intent) => intent,
        None if bytes.is_empty() => Intent::Silent,
        None if client_hello::read(bytes, limit) == Hello::Incomplete => {
            Intent::Malformed(Layer::Tls, "a ClientHello that ends too early")
        }
        None if http_head::could_be_http(bytes) => Intent::Malformed(Layer::Http, "a request that ends too early"),
        None => Intent::Raw,
    }
}
