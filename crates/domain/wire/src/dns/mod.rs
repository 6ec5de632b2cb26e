//! DNS messages: one question of a client in, its answer out.

/// One question out of a message, read strictly.
pub mod question;
/// Answers on the wire.
pub mod reply;
