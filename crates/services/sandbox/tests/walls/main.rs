//! Real programs behind real walls: what a workload can't do, what it still can, and how it ends.
//!
//! Each test runs as whoever runs the tests; where that is root, once more as an ordinary user. Some checks are made
//! from within: the test program runs itself in the sandbox and makes the calls there (`inside`).

#![allow(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

/// Starting sandboxes, and a gateway that only says what reached it.
mod bench;
/// Mounts, the repository, host sockets.
mod files;
/// What the test program does when it is the workload.
mod inside;
/// Redirected TCP, DNS, everything else.
mod network;
/// Capabilities, system calls, descriptors.
mod privileges;
/// Exit codes, reaping, ends.
mod processes;
/// Interactive programs.
mod terminals;
/// The process that survives the gateway.
mod front;
