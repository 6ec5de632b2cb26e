//! The data plane that every byte out of a sandbox passes through.
//!
//! Sockets that were made inside the sandbox's network namespace are handed to a [`Gateway`]; nothing else leads out.
//! Each worker thread accepts, decides and forwards on its own. The life of a connection, in the words of the files:
//!
//! ```text
//! accept ─> identify ─> intent ─> readings ─> decide ─> ask ─> record ─> (inspect) ─> dial ─> forward ─> pump ─> end
//!           transparent: the address it dialled          establish: from a decision to a server      late: what is
//!           explicit:    CONNECT, HTTP, SOCKS5                                                         judged after
//! ```
//! `forward` alone puts a connection into the pump, and it uses up a `policy::Permit` and an `audit_log::Recorded`
//! (invariants *No permit, no bytes* and *Written before it leaves*). Where a rule has to see the request inside TLS,
//! `inspect` takes the connection instead, and each request inside goes from `decide` on by itself.
//! What a client wants, its intent, is read out of its bytes by `wire`; here is the I/O around that.

/// A gateway: started, changed, stopped.
mod gateway;
/// What the program hands to a gateway: sockets and bounds.
mod settings;
/// What the workers of one gateway share.
mod shared;
/// The policy in force, shared by workers.
mod in_force;
/// One thread of a gateway.
mod worker;
/// A TCP socket that the runtime learns of only when it has to be waited for.
mod socket;
/// Takes connections from the sandbox's listeners.
mod accept;
/// Who opened a connection, and where it was going.
mod identify;
/// The life of a redirected connection.
mod transparent;
/// The life of a connection to the explicit proxy.
mod explicit;
/// How connections spread over the workers.
mod crowd;
/// One connection, and everything known of it.
mod flow;
/// The ways in which name and address can be read together.
mod readings;
/// What a rule changes in a request that it let through.
mod rewrite;
/// Whether an encrypted ClientHello may hide another name.
mod ech;
/// From facts to a decision.
mod decide;
/// Asks a person.
mod ask;
/// The record of a flow.
mod record;
/// Records that are written with one call.
mod together;
/// From a decision to a connected server.
mod establish;
/// Refusals, told fast.
mod refuse;
/// Errors in one line.
mod report;
/// TLS that is opened, and the requests inside.
mod inspect;
/// What a sandbox finds where cloud libraries look for a machine's identity.
mod metadata;
/// Secrets on the wire.
mod credential;
/// Hands a flow to the pump.
mod forward;
/// Moves the bytes of decided connections.
mod pump;
/// What is judged after a connection was taken up.
mod late;
/// A new policy goes over the open connections.
mod rejudge;
/// Memory that a sandbox makes the gateway hold.
mod budget;
/// Counts of what was decided.
mod summary;
/// UDP to the ports that rules open.
mod datagrams;
/// What the sandbox's own rules reject.
mod rejected;
/// The sandbox's DNS server.
mod dns;
/// Upstream resolution, its cache, and which address was answered for which name.
mod resolve;
/// Connecting to a checked address by a route.
mod dial;

pub use gateway::{Applied, DATAGRAM_PORT_LIMIT, Gateway, NotBuilt, StartError, check_built, datagram_ports};
pub use settings::{Answer, Inspection, Question, Reply, SandboxSockets, Secrets, Settings};
pub use summary::{Failure, Group, Summary, Unresolved};
