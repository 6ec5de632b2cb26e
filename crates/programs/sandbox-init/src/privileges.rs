//! What the workload may not be: powerful, dumpable by others, or the holder of the host's keys.

use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    set_name, set_no_new_privs,
};

use init_protocol::Limits;

use crate::failure::{Failure, Step};

const HINT: &str = "the kernel refused to give up privileges; nothing was run";

/// Settings of the network namespace that only make it roomier; where they can't be set, the defaults do.
const NETWORK_SETTINGS: [(&str, &str); 5] = [
    // The gateway accepts for the whole sandbox.
    ("/proc/sys/net/core/somaxconn", "65535"),
    // The sandbox's own servers may use low ports: no capability stands behind them here.
    ("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"),
    // Every connection ends on this machine, so a port in TIME-WAIT can be taken again, not only for 127.0.0.1: with the
    // usual range of ports, 28,000 connections a minute to one server would be all there are.
    ("/proc/sys/net/ipv4/tcp_tw_reuse", "1"),
    // Redirected connections leave the connection table soon after their end, so it does not fill.
    ("/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_time_wait", "5"),
    ("/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close", "5"),
];

/// Makes the network namespace roomier where the kernel lets us.
pub(crate) fn tune_network() {
    for (path, value) in NETWORK_SETTINGS {
        if let Ok(file) = fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
            // A setting that can't be changed keeps the kernel's default, which only costs room.
            let _ = rustix::io::write(file, value.as_bytes());
        }
    }
}

/// The one limit on core files that also keeps the kernel from starting the host's handler of cores (`core_pattern`
/// with a pipe), which it does with 0 (core(5)). Nothing that small is written to a file.
const NO_CORE: u64 = 1;

/// Leaves the caller's session keyring for an empty one.
pub(crate) fn leave_keyring() -> Result<(), Failure> {
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: the call takes a command and, here, a null name; it touches no memory of ours.
    let joined = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>()) };
    if joined >= 0 {
        return Ok(());
    }
    match Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL) {
        // Without keyrings in the kernel, or where an outer filter refuses them, there is none to leave:
        // the workload's own filter refuses them in any case.
        Errno::NOSYS | Errno::PERM | Errno::OPNOTSUPP => Ok(()),
        errno => Err(Failure::new("leave the session keyring", errno, HINT)),
    }
}

/// A name for `ps`: the kernel took one from the file in memory.
pub(crate) fn take_name() {
    // Without it the process only looks odd in a list.
    let _ = set_name(c"sandbox-init");
}

/// Sets the limits that every process in the sandbox has.
pub(crate) fn limit(limits: Limits) -> Result<(), Failure> {
    cap(Resource::Core, limits.core_size.max(NO_CORE)).step("limit core files", HINT)?;
    if let Some(open_files) = limits.open_files {
        cap(Resource::Nofile, open_files).step("limit open files", HINT)?;
    }
    if let Some(processes) = limits.processes {
        cap(Resource::Nproc, processes).step("limit processes", HINT)?;
    }
    Ok(())
}

/// Lowers a limit; what the caller itself may not exceed stays.
fn cap(resource: Resource, most: u64) -> Result<(), Errno> {
    let hard = getrlimit(resource).maximum.map_or(most, |hard| hard.min(most));
    setrlimit(resource, Rlimit { current: Some(hard), maximum: Some(hard) })
}

/// Gives up every capability, for good.
pub(crate) fn drop_all() -> Result<(), Failure> {
    clear_ambient_capability_set().step("clear ambient capabilities", HINT)?;
    for number in 0..64 {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            Ok(()) => {}
            // Past the last capability of this kernel.
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(Failure::new("drop the bounding set", errno, HINT)),
        }
    }
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none).step("drop capabilities", HINT)?;
    set_no_new_privs(true).step("set no_new_privs", HINT)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).step("make init undumpable", HINT)
}
