//! What bytes on a connection say: a name, a request, a question, and where each ends.
//!
//! Readers of bytes that a sandbox or a server wrote, each without I/O and without a clock. They hold to three rules:
//!
//! - **One meaning or none.** Where two recipients could read the same bytes differently, they are refused, with the
//!   reason as text for the record.
//! - **The same wherever they are cut.** A verdict that was reached is changed by no later byte, and bytes that come
//!   one by one lead to the same verdict as all at once.
//! - **Bounded.** Each reader has a limit, named in its documentation, and looks at no byte behind it.
//!
//! What passes is written out again from its parts and never forwarded raw. Deciding is left to `policy`, I/O to the
//! gateway. Each reader has a fuzz target that holds it to these rules, see `fuzz/`.

/// What a client wants, from its first bytes: asks the readers below.
pub mod intent;
/// TLS: the ClientHello.
pub mod client_hello;
/// HTTP/1: the head of a request.
pub mod http_head;
/// HTTP/1: a request line behind something that is no HTTP.
pub mod hidden_request;
/// HTTP/1: where a body ends.
pub mod body;
/// HTTP: a field of a form that names another method.
pub mod form;
/// HTTP/1: the head of a response, as far as its framing.
pub mod response;
/// HTTP/1: both directions of one connection, from message to message.
pub mod exchange;
/// WebSocket: one direction, from message to message.
pub mod websocket;
/// SOCKS5 requests.
pub mod socks5;
/// DNS messages.
pub mod dns;
