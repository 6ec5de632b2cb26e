//! The data plane that every byte out of a sandbox passes through.

/// What the program hands to a gateway: sockets and bounds.
mod settings;
/// The policy in force, shared by workers.
mod in_force;
/// Counts of what was decided.
mod summary;
/// The sandbox's DNS server.
mod dns;
/// Upstream resolution, its cache, and which address was answered for which name.
mod resolve;
/// Connecting to a checked address by a route.
mod dial;

pub use settings::{Answer, Question, SandboxSockets, Settings};
pub use summary::{Group, Summary};
