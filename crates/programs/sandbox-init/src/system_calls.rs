//! Which system calls the workload may make: all but those listed here (seccomp(2)).
//!
//! A list of what is refused, because the walls are the namespaces and these calls are what could look over them:
//! other kinds of sockets, namespaces, mounts, the kernel's keys and tracing, and interfaces whose arguments a
//! filter can't see. A call that came after this was written is absent (ENOSYS): every program copes with that.
//!
//! Three answers, each its own filter; the strictest of all that match wins:
//! - EPERM: refused, as without the capability;
//! - ENOSYS: not there, so that libraries take their older path (`clone3` → `clone`, whose flags can be seen);
//! - EAFNOSUPPORT: no such socket here.
//!
//! The call conventions of other machines (i386, x32) are killed: their numbers would mean other calls.

use std::collections::BTreeMap;

use rustix::io::Errno;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter, sock_filter,
};

use crate::failure::Failure;

const HINT: &str = "the kernel needs CONFIG_SECCOMP_FILTER, and an outer container must not forbid seccomp";

#[cfg(target_arch = "x86_64")]
const MACHINE: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const MACHINE: TargetArch = TargetArch::aarch64;

/// The first number after the calls that were known when this was written (Linux 6.18: file_setattr is 469).
const FIRST_UNKNOWN: u32 = 470;
/// Set in the numbers of x32 calls, which share their architecture with x86_64.
const X32_BIT: u32 = 0x4000_0000;

/// Calls whose numbers the libc crate does not have on every machine; since 424 they are the same on all.
mod number {
    pub(super) const OPEN_TREE: i64 = 428;
    pub(super) const MOVE_MOUNT: i64 = 429;
    pub(super) const FSOPEN: i64 = 430;
    pub(super) const FSCONFIG: i64 = 431;
    pub(super) const FSMOUNT: i64 = 432;
    pub(super) const FSPICK: i64 = 433;
    pub(super) const FCHMODAT2: i64 = 452;
    pub(super) const LSM_SET_SELF_ATTR: i64 = 460;
    pub(super) const OPEN_TREE_ATTR: i64 = 467;
}

/// Refused whatever the arguments.
const REFUSED: &[i64] = &[
    // Mounts and roots.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_mount_setattr,
    number::OPEN_TREE,
    number::OPEN_TREE_ATTR,
    number::MOVE_MOUNT,
    number::FSOPEN,
    number::FSCONFIG,
    number::FSMOUNT,
    number::FSPICK,
    // Files by handle: past every directory on the way.
    libc::SYS_open_by_handle_at,
    // Namespaces (unshare and clone: by their flags, below).
    libc::SYS_setns,
    // Other processes' memory, registers and descriptors.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    // The kernel's programs, counters, keys, and page faults handled outside it.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_userfaultfd,
    libc::SYS_fanotify_init,
    number::LSM_SET_SELF_ATTR,
    // Calls by ring: no filter sees what is asked for.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // The machine.
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_nfsservctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_vhangup,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_uselib,
];

/// Not there: their arguments lie in memory, where no filter looks; libraries take the older call instead.
const ABSENT: &[i64] = &[libc::SYS_clone3, libc::SYS_openat2];

/// New namespaces. The low byte of `clone`'s flags is a signal, so a new time namespace exists for `unshare` only.
const NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];
const NEW_TIME_NAMESPACE: u64 = 0x80;

/// Typing into a terminal, and changing what stands behind it.
const TERMINAL_REQUESTS: [u64; 3] = [0x5412, 0x541C, 0x5423];

/// Socket types that are neither a stream nor datagrams: raw, RDM, packets in order, DCCP, and the old packet socket.
const OTHER_SOCKET_TYPES: [u64; 5] = [3, 4, 5, 6, 10];
const SOCKET_TYPE_MASK: u64 = 0xf;
/// NETLINK_ROUTE: libc lists addresses by it.
const NETLINK_ROUTE: u64 = 0;

/// Installs the filters. Needs no_new_privs.
pub(crate) fn restrict() -> Result<(), Failure> {
    let fail = |error: &dyn std::fmt::Display| Failure::new(format!("seccomp: {error}"), Errno::INVAL, HINT);
    apply_filter(&strangers()).map_err(|error| fail(&error))?;
    for (rules, errno) in [
        (refused(), libc::EPERM),
        (absent(), libc::ENOSYS),
        (no_such_socket(), libc::EAFNOSUPPORT),
        (of_no_effect(), 0),
    ] {
        let program = rules.and_then(|rules| compile(rules, errno)).map_err(|error| fail(&error))?;
        apply_filter(&program).map_err(|error| fail(&error))?;
    }
    Ok(())
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn compile(rules: Rules, errno: i32) -> Result<BpfProgram, seccompiler::BackendError> {
    let answer = SeccompAction::Errno(errno.unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, answer, MACHINE)?.try_into()
}

/// Numbers of another call convention are killed, numbers nobody knew are absent.
fn strangers() -> BpfProgram {
    const LOAD_NUMBER: u16 = 0x20;
    const JUMP_IF_AT_LEAST: u16 = 0x35;
    const RETURN: u16 = 0x06;
    let kill = u32::from(SeccompAction::KillProcess);
    let absent = u32::from(SeccompAction::Errno(libc::ENOSYS.unsigned_abs()));
    let allow = u32::from(SeccompAction::Allow);
    vec![
        sock_filter { code: LOAD_NUMBER, jt: 0, jf: 0, k: 0 },
        sock_filter { code: JUMP_IF_AT_LEAST, jt: 0, jf: 1, k: X32_BIT },
        sock_filter { code: RETURN, jt: 0, jf: 0, k: kill },
        sock_filter { code: JUMP_IF_AT_LEAST, jt: 0, jf: 1, k: FIRST_UNKNOWN },
        sock_filter { code: RETURN, jt: 0, jf: 0, k: absent },
        sock_filter { code: RETURN, jt: 0, jf: 0, k: allow },
    ]
}

fn refused() -> Result<Rules, seccompiler::BackendError> {
    let mut rules: Rules = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    for namespace in NAMESPACES {
        let flag = u64::from(namespace.unsigned_abs());
        add(&mut rules, libc::SYS_clone, &[has(0, flag)])?;
        add(&mut rules, libc::SYS_unshare, &[has(0, flag)])?;
    }
    add(&mut rules, libc::SYS_unshare, &[has(0, NEW_TIME_NAMESPACE)])?;
    for request in TERMINAL_REQUESTS {
        add(&mut rules, libc::SYS_ioctl, &[is(1, request)])?;
    }
    // Where a process's own parts lie: its command line is read outside, and would be as long as it says.
    add(&mut rules, libc::SYS_prctl, &[is(0, number_of(libc::PR_SET_MM))])?;
    for family in [libc::AF_INET, libc::AF_INET6] {
        for kind in OTHER_SOCKET_TYPES {
            let of_kind = (1, SeccompCmpOp::MaskedEq(SOCKET_TYPE_MASK), kind);
            add(&mut rules, libc::SYS_socket, &[is(0, number_of(family)), of_kind])?;
        }
    }
    rules.entry(libc::SYS_prlimit64).or_default().push(new_core_limit(SeccompCmpOp::Ne)?);
    add_identity_bits(&mut rules)?;
    Ok(rules)
}

/// The limit on core files stays: with 0 the kernel would hand the core to the host's handler. Programs that turn cores
/// off for their own secrets' sake are told that this is done, which it is.
fn of_no_effect() -> Result<Rules, seccompiler::BackendError> {
    let mut rules = Rules::new();
    let core = u64::from(libc::RLIMIT_CORE);
    add(&mut rules, libc::SYS_setrlimit, &[is(0, core)])?;
    rules.entry(libc::SYS_prlimit64).or_default().push(new_core_limit(SeccompCmpOp::Eq)?);
    Ok(rules)
}

/// `prlimit64(_, RLIMIT_CORE, new, old)`. One that asks for the old limit, too, can't be told that it was done.
fn new_core_limit(old: SeccompCmpOp) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![
        SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, u64::from(libc::RLIMIT_CORE))?,
        SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0)?,
        SeccompCondition::new(3, SeccompCmpArgLen::Qword, old, 0)?,
    ])
}

/// No file gets a setuid or setgid bit: in a mounted folder it would hold on the host, where the file may be root's.
fn add_identity_bits(rules: &mut Rules) -> Result<(), seccompiler::BackendError> {
    let create = number_of(libc::O_CREAT);
    let unnamed = number_of(libc::O_TMPFILE);
    for bit in [u64::from(libc::S_ISUID), u64::from(libc::S_ISGID)] {
        #[cfg(target_arch = "x86_64")]
        {
            add(rules, libc::SYS_chmod, &[has(1, bit)])?;
            add(rules, libc::SYS_creat, &[has(1, bit)])?;
            add(rules, libc::SYS_mknod, &[has(1, bit)])?;
            add(rules, libc::SYS_open, &[has(1, create), has(2, bit)])?;
            add(rules, libc::SYS_open, &[has(1, unnamed), has(2, bit)])?;
        }
        add(rules, libc::SYS_fchmod, &[has(1, bit)])?;
        add(rules, libc::SYS_fchmodat, &[has(2, bit)])?;
        add(rules, number::FCHMODAT2, &[has(2, bit)])?;
        add(rules, libc::SYS_mknodat, &[has(2, bit)])?;
        add(rules, libc::SYS_openat, &[has(2, create), has(3, bit)])?;
        add(rules, libc::SYS_openat, &[has(2, unnamed), has(3, bit)])?;
    }
    Ok(())
}

fn absent() -> Result<Rules, seccompiler::BackendError> {
    Ok(ABSENT.iter().map(|call| (*call, Vec::new())).collect())
}

/// Unix, IPv4 and IPv6 (TCP and UDP), and routes by netlink; nothing else.
fn no_such_socket() -> Result<Rules, seccompiler::BackendError> {
    let mut rules = Rules::new();
    let known = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
    let unknown: Vec<Condition> = known.iter().map(|family| is_not(0, number_of(*family))).collect();
    add(&mut rules, libc::SYS_socket, &unknown)?;
    add(&mut rules, libc::SYS_socketpair, &[is_not(0, number_of(libc::AF_UNIX))])?;
    add(&mut rules, libc::SYS_socket, &[is(0, number_of(libc::AF_NETLINK)), is_not(2, NETLINK_ROUTE)])?;
    for family in [libc::AF_INET, libc::AF_INET6] {
        let mut other_protocol = vec![is(0, number_of(family))];
        for protocol in [libc::IPPROTO_IP, libc::IPPROTO_TCP, libc::IPPROTO_UDP] {
            other_protocol.push(is_not(2, number_of(protocol)));
        }
        add(&mut rules, libc::SYS_socket, &other_protocol)?;
    }
    Ok(rules)
}

/// An argument, a comparison, and a value. Arguments are compared as the kernel takes them: 32 bits.
type Condition = (u8, SeccompCmpOp, u64);

fn is(argument: u8, value: u64) -> Condition {
    (argument, SeccompCmpOp::Eq, value)
}

fn is_not(argument: u8, value: u64) -> Condition {
    (argument, SeccompCmpOp::Ne, value)
}

fn has(argument: u8, bits: u64) -> Condition {
    (argument, SeccompCmpOp::MaskedEq(bits), bits)
}

fn number_of(constant: i32) -> u64 {
    u64::from(constant.unsigned_abs())
}

fn add(rules: &mut Rules, call: i64, conditions: &[Condition]) -> Result<(), seccompiler::BackendError> {
    let conditions: Result<Vec<SeccompCondition>, _> = conditions
        .iter()
        .map(|(argument, comparison, value)| {
            SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, comparison.clone(), *value)
        })
        .collect();
    rules.entry(call).or_default().push(SeccompRule::new(conditions?)?);
    Ok(())
}
