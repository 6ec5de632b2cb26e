//! Starts a program in namespaces with no way out but the sockets handed to the gateway.
//!
//! ```text
//! this process                          the sandbox: new user, mount, pid, net, ipc, uts, cgroup namespaces
//!   lay ── clone3, ids ───────────────▶ sandbox-init (PID 1, from a sealed file in memory)
//!   Foundations::build ── plan ───────▶   loopback, rules, listeners, /proc, /dev
//!   Building::sockets  ◀─ sockets ────   file system, privileges, Landlock, seccomp
//!   the gateway takes the sockets           │
//!   Building::finish   ◀─ all stand ────────┘
//!   Sandbox::run ─────────────────────▶   the workload
//!   Running::wait ◀── how it ended ────   exit: the kernel kills what is left
//! ```
//! Invariants held here: **one way out** (no device but loopback, no host socket in the file system), **no root**
//! (an ordinary user suffices), **no claim that is not enforced** (a wall that can't be built fails the start, with
//! the step, the kernel's reason and what to do). When this process dies, however it dies, the sandbox dies with it.

#![allow(unsafe_code)]

/// The caller's terminal and output.
mod console;
/// Why a start failed.
mod error;
/// The process that survives the gateway.
mod front;
/// Control groups.
mod groups;
/// Unix sockets in mounted folders.
mod host_sockets;
/// As whom the workload runs.
mod identity;
/// The embedded program.
mod image;
/// The step into new namespaces.
mod launch;
/// The file system that a run gets.
mod plan;
/// What this machine can enforce.
mod probe;
/// What no mount may show or make writable.
mod protection;
/// The working directory's `.git`.
mod repository;
/// A running workload and its end.
mod running;
/// What this process reads and writes.
mod standard;
/// Starting: from a plan to walls that stand.
mod start;
/// Standard streams.
mod streams;
/// What lies in mounted folders.
mod survey;
/// Which parts of the host's system.
mod system_files;
/// Mount trees opened for a sandbox of root.
mod trees;

pub use console::{Console, ConsoleError, Passed, Paused};
pub use error::StartError;
pub use front::{GuardError, guard, make_undumpable};
pub use groups::GroupLimits;
pub use init_protocol::{GatewayPorts, Limits, Mount, Plan, Terminal};
pub use plan::{Cover, PlanError, PlanRequest, Planned};
pub use probe::{Capabilities, Capability, State, probe};
pub use repository::{AtTheEnd, RepositoryWatch, common_folder};
pub use running::{Exit, Remote, Running, Sandbox};
pub use standard::{Outside, Standard};
pub use start::{Building, Foundations, Outset, Sockets, Spec, Standing, Started, lay, start};
pub use streams::Streams;
