//! What the host side of a sandbox and its first process say to each other.
//!
//! One `SOCK_SEQPACKET` Unix socket, one JSON message a packet, descriptors beside it as SCM_RIGHTS (unix(7)).
//! ```text
//! host                                   init (PID 1 of the sandbox)
//!   | ToInit::Begin ---------------------> |  builds what needs no plan: the network, its rules, /proc, /dev
//!   | <- FromInit::Listeners + sockets     |  the gateway may take them; nothing of the workload has run yet
//!   | ToInit::Build + plan, mount trees -> |
//!   | <- FromInit::Datagrams + sockets     |  only where the plan has UDP ports
//!   |                                      |  builds the other walls
//!   | <- FromInit::Standing                |  all stand; nothing of the workload has run yet
//!   | ToInit::Start ---------------------> |  runs the workload
//!   | ToInit::Signal(n) -----------------> |
//!   | <- FromInit::Ended | NotRun          |  init exits, the kernel kills what is left
//! ```
//! [`FromInit::Failed`] may come in place of `Listeners` or `Standing`: a wall could not be built, and nothing ran.
//! A closed socket means: the other side is gone; init then exits, and the kernel kills everything in its
//! pid namespace (pid_namespaces(7)). The [`Plan`] travels in a file descriptor, so its size has no bound by a packet.

use std::{ffi::OsString, path::PathBuf};

use serde::{Deserialize, Serialize};

/// The socket itself: packets and the descriptors beside them.
mod channel;

pub use channel::{Channel, ChannelError, MOST_DESCRIPTORS};

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
        /// Whether the workload owns its files: the caller's own folders. It makes a difference where the caller
        /// is root: the mount then maps the folder's owner to the sandbox's uid (an id-mapped mount).
        owned: bool,
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

impl Mount {
    /// A folder or file of the caller at its own path: the workload owns what is in it.
    pub fn own(path: impl Into<PathBuf>, writable: bool) -> Mount {
        let source = path.into();
        Mount::Bind { target: source.clone(), source, writable, optional: false, owned: true }
    }

    /// A part of the system at its own path, read-only, skipped where it does not exist.
    pub fn system(path: impl Into<PathBuf>) -> Mount {
        let source = path.into();
        Mount::Bind { target: source.clone(), source, writable: false, optional: true, owned: false }
    }

    /// Where it stands in the sandbox.
    pub fn target(&self) -> &std::path::Path {
        match self {
            Mount::Bind { target, .. }
            | Mount::Tmpfs { target, .. }
            | Mount::File { target, .. }
            | Mount::Symlink { target, .. } => target,
        }
    }
}

/// Limits on the whole sandbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Open files of one process (RLIMIT_NOFILE).
    pub open_files: Option<u64>,
    /// Processes (RLIMIT_NPROC; the cgroup's `pids.max` where there is one).
    pub processes: Option<u64>,
    /// Core file size; 0 by default: no core, and none to a handler of the host.
    pub core_size: u64,
}

/// Whether the workload gets a terminal of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Terminal {
    /// Standard streams as inherited.
    Inherit,
    /// A pseudo-terminal made inside; its master goes to the host with [`FromInit::Standing`].
    New {
        /// Rows at the start.
        rows: u16,
        /// Columns at the start.
        columns: u16,
        /// Which of standard input, output and error it is. It controls the workload in any case.
        streams: [bool; 3],
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
    /// The command; never empty. Its words are bytes, as the kernel takes them.
    pub command: Vec<OsString>,
    /// The whole environment.
    pub environment: Vec<(String, OsString)>,
    /// Ports of the gateway: those that [`ToInit::Begin`] named.
    pub ports: GatewayPorts,
    /// UDP ports that are let through to a socket of the gateway's on each.
    pub datagram_ports: Vec<u16>,
    /// Limits.
    pub limits: Limits,
    /// Terminal.
    pub terminal: Terminal,
    /// The uid and gid inside.
    pub uid: u32,
    /// The gid inside.
    pub gid: u32,
}

/// What a descriptor beside [`FromInit::Listeners`] or [`FromInit::Standing`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Handed {
    /// Listens for redirected TCP over IPv4.
    TransparentV4,
    /// Listens for redirected TCP over IPv6; absent where the kernel has no IPv6.
    TransparentV6,
    /// Receives DNS over UDP, IPv4.
    DnsUdpV4,
    /// Receives DNS over UDP, IPv6; absent where the kernel has no IPv6.
    DnsUdpV6,
    /// Listens for DNS over TCP, IPv4.
    DnsTcpV4,
    /// Listens for DNS over TCP, IPv6; absent where the kernel has no IPv6.
    DnsTcpV6,
    /// Listens for the explicit proxy's clients, IPv4.
    ProxyV4,
    /// A NETLINK_SOCK_DIAG socket of the namespace.
    SocketDiagnosis,
    /// A NETLINK_NETFILTER socket that hears of each packet that the rules reject; absent where the kernel can't tell.
    Rejections,
    /// The master of the workload's terminal; present where one was asked for.
    TerminalMaster,
}

/// What init asks or tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromInit {
    /// The network stands, with its rules. The other walls do not yet.
    Listeners {
        /// The descriptors beside this message, in their order.
        handed: Vec<Handed>,
    },
    /// The sockets of the plan's UDP ports, beside this message: one for each port and address family.
    Datagrams,
    /// The walls stand, all of them.
    Standing {
        /// The descriptors beside this message, in their order.
        handed: Vec<Handed>,
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
    /// Build what needs no plan.
    Begin {
        /// Ports of the gateway.
        ports: GatewayPorts,
    },
    /// Build the other walls. Beside it the descriptors: a file with the [`Plan`] as JSON, then one mount tree for each
    /// entry of `trees`.
    Build {
        /// The entries of [`Plan::mounts`] that the host opened itself, because init's user could not.
        trees: Vec<usize>,
    },
    /// The gateway listens: run the workload.
    Start,
    /// Send this signal to the workload's foreground process group.
    Signal(i32),
}
