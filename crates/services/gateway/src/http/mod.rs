//! Plain HTTP on its way through: where each message ends, and what may follow it.
//!
//! The head of a request is read by `intent::http_head`; here both directions of a connection are
//! followed from message to message, so that every request is judged and none hides behind another.

/// Where a body ends.
pub(crate) mod body;
/// Both directions of one connection.
pub(crate) mod exchange;
/// The head of a response, as far as its framing.
pub(crate) mod response;
