//! What the host side of a sandbox and its first process say to each other.
//!
//! One `SOCK_SEQPACKET` Unix socket, one JSON message a packet, descriptors beside it as SCM_RIGHTS (unix(7)).
//! The host sends one [`Plan`]; init builds the walls, hands out its sockets with [`FromInit::Listeners`],
//! and waits for [`ToInit::Start`] before the workload runs. A closed socket means: the other side is gone;
//! init then exits, and the kernel kills everything in its pid namespace (pid_namespaces(7)).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The descriptor that init finds its control socket on.
pub const CONTROL_FD: i32 = 3;

/// The ports inside the namespace that lead to the gateway. All on loopback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayPorts {
    /// Where redirected TCP arrives (IPv4 and IPv6).
    pub transparent: u16,
    /// Where DNS arrives over UDP and TCP, redirected from port 53.
    pub dns: u16,
    /// The explicit proxy: CONNECT, absolute-form and SOCKS5 on one port.
    pub proxy: u16,
}

impl Default for GatewayPorts {
    fn default() -> Self {
        Self { transparent: 15001, dns: 15053, proxy: 3128 }
    }
}

/// One thing that the sandbox sees in its filesystem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mount {
    /// A folder or file of the host, at the same or another place.
    Bind {
        /// On the host.
        source: PathBuf,
        /// In the sandbox.
        target: PathBuf,
        /// Whether it may be written.
        writable: bool,
        /// Whether a missing source is skipped instead of an error.
        optional: bool,
    },
    /// A private, empty tmpfs.
    Tmpfs {
        /// In the sandbox.
        target: PathBuf,
        /// The most bytes it holds.
        size: u64,
        /// Permission bits.
        mode: u32,
    },
    /// A file with this content, read-only.
    File {
        /// In the sandbox.
        target: PathBuf,
        /// Its content.
        content: String,
    },
    /// A symbolic link, such as `/bin -> usr/bin` on merged systems.
    Symlink {
        /// In the sandbox.
        target: PathBuf,
        /// Where it points.
        to: PathBuf,
    },
}

/// Limits on the whole sandbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Open files of one process (RLIMIT_NOFILE).
    pub open_files: Option<u64>,
    /// Processes (RLIMIT_NPROC; the cgroup's `pids.max` where there is one).
    pub processes: Option<u64>,
    /// Core file size; 0 by default.
    pub core_size: u64,
}

/// Whether the workload gets a terminal of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Terminal {
    /// Standard streams as inherited.
    Inherit,
    /// A pseudo-terminal made inside; its master goes to the host with [`FromInit::Listeners`].
    New {
        /// Rows at the start.
        rows: u16,
        /// Columns at the start.
        columns: u16,
    },
}

/// What init is to build and run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Host name inside.
    pub hostname: String,
    /// In this order.
    pub mounts: Vec<Mount>,
    /// Where the workload starts.
    pub working_directory: PathBuf,
    /// The command; never empty.
    pub command: Vec<String>,
    /// The whole environment.
    pub environment: Vec<(String, String)>,
    /// Ports of the gateway.
    pub ports: GatewayPorts,
    /// Limits.
    pub limits: Limits,
    /// Terminal.
    pub terminal: Terminal,
    /// The uid and gid inside.
    pub uid: u32,
    /// The gid inside.
    pub gid: u32,
}

/// What init asks or tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromInit {
    /// The walls stand. With it, in this order, the descriptors: transparent TCP v4, transparent TCP v6,
    /// DNS UDP v4, DNS UDP v6, DNS TCP v4, DNS TCP v6, proxy TCP v4, a NETLINK_SOCK_DIAG socket,
    /// and the terminal's master where one was made.
    Listeners {
        /// What is enforced, by name.
        enforced: Vec<String>,
        /// What this kernel could not give and the plan can do without.
        missing: Vec<String>,
    },
    /// The workload could not be run: 126 or 127.
    NotRun {
        /// 126: found but can't be run. 127: not found.
        code: u8,
        /// Why, for people.
        reason: String,
    },
    /// The workload ended; init exits next.
    Ended {
        /// Its exit code, or 128 and the signal.
        code: i32,
    },
    /// A wall could not be built. Nothing ran.
    Failed {
        /// Which step.
        step: String,
        /// The error number of the kernel.
        errno: i32,
        /// What to do about it.
        hint: String,
    },
}

/// What the host tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToInit {
    /// The gateway listens: run the workload.
    Start,
    /// Send this signal to the workload's foreground process group.
    Signal(i32),
}
