//! Where a secret stands in HTTP: put in for its placeholder on the way out, masked on the way back.
//!
//! The sandbox holds a [`Placeholder`], or nothing. On the way out [`Swap`] puts the secret in where the policy says a
//! placeholder may stand, as a whole value and nowhere else; [`attach`] has the places where a secret is put without
//! one. On the way back a [`Mask`] finds every way the secret can be written, wherever the bytes were cut.
//!
//! ```text
//! request:   Authorization: Bearer ghp_placeholder  ──Swap──>  Authorization: Bearer ghp_secret
//! response:  {"you_sent": "Bearer ghp_secret"}      ──Mask──>  {"you_sent": "Bearer ghp_placeholder"}
//! ```
//! No I/O and no clock. What holds a secret is a [`values::Secret`] and is wiped; the search automaton of a mask is
//! not, for its library keeps the patterns in places of its own.

/// What the sandbox holds in place of a secret.
mod placeholder;
/// Puts a secret in for its placeholder.
mod swap;
/// Puts a secret where nothing of the sandbox's may stand.
pub mod attach;
/// The ways a secret can be written.
mod forms;
/// Finds a secret in what comes back.
mod mask;
/// What of a stream waits for more.
mod hold;
/// The messages of remote calls.
mod messages;
/// The frames of a WebSocket, masked.
mod frames;

pub use frames::{FrameError, Frames};
pub use hold::{Ends, Masking};
pub use mask::{Mask, Masked};
pub use placeholder::Placeholder;
pub use swap::{Request, Swap, SwappedHead};
