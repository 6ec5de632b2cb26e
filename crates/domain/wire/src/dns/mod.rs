//! DNS messages: one question of a client in, its answer out; and what an upstream server answers.

/// One question out of a message, read strictly.
pub mod question;
/// Answers on the wire.
pub mod reply;
/// What an upstream server's message says about one name.
pub mod answer;
/// HTTPS and SVCB records, cleaned for the sandbox.
mod service_binding;
