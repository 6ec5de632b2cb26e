//! Writes audit events to a file before anything they speak of may happen.
//!
//! [`AuditLog::record`] returns a [`Recorded`] when the event's line is in the file (or on the disk, with
//! [`Durability::Fsync`]). Forwarding consumes one, so nothing leaves without its record. Where the line can't be
//! written there is no `Recorded`, and nothing leaves.
//!
//! ```text
//! record ─▶ [log] one caller writes for all that wait ─▶ [writer] line, write(2), is the file still ours?
//!                                                           │ failed: back to the last whole line
//!                                                           ▼ full enough
//!                                                        [rotate] checkpoint, PATH → PATH.000001, new PATH
//! ```
//!
//! What an event is and how the lines are chained is said in `audit-event`.

/// Which files belong to a log.
mod files;
/// On the disk, many events at a time.
mod flush;
/// Recording: what others call.
mod log;
/// Opening: the lock, the chain that is there, a torn last line.
mod open;
/// A full file is closed and the chain goes on in the next.
mod rotate;
/// The one who holds the file.
mod writer;

pub use files::files;
pub use log::{AuditLog, Durability, Options, RecordError, Recorded};
pub use open::OpenError;
