//! The step over: from this process into new namespaces, and there into sandbox-init.
//!
//! `clone3` makes a child in new namespaces; the network's, which takes longest, the child makes itself while the host
//! writes the program into memory. Between that and `execveat` the child is a copy of a process
//! that may have many threads, so it only makes plain system calls on values prepared before: no allocation, no lock.
//! It has its ids mapped, waits for the host's word, keeps the few capabilities that init needs over the exec (ambient, in its own
//! user namespace), closes every descriptor that is not init's, and becomes init.
//!
//! There is no parent-death signal here: it would fire when the *thread* that started the sandbox ends. Init watches
//! its control socket instead; its other end is held by this process alone, and closes whatever way this one dies.

use std::ffi::CStr;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use init_protocol::CONTROL_FD;
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use crate::error::StartError;
use crate::identity::{Identity, Ids};
use crate::probe;

/// Every namespace that Linux has but for the network's, which the child makes itself, and time's.
const NAMESPACES: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// Where init's program stands in the child, after the control socket.
const PROGRAM_FD: RawFd = CONTROL_FD + 1;
/// Where the child's report stands.
const REPORT_FD: RawFd = CONTROL_FD + 2;

const CAP_SETPCAP: u32 = 8;
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
/// What init needs: mounts, the network's rules, and giving up the bounding set.
const NEEDED: [u32; 3] = [CAP_SETPCAP, CAP_NET_ADMIN, CAP_SYS_ADMIN];

/// Where the child was when it could go no further. The child sends the number.
const STEPS: [&str; 8] = [
    "wait for the host",
    "take its ids",
    "keep capabilities",
    "place descriptors",
    "standard streams",
    "run in a file in memory (vm.memfd_noexec must not be 2)",
    MAP_STEP,
    NETWORK_STEP,
];
const NETWORK_STEP: &str = "make a network namespace";
const MAP_STEP: &str = "map its ids";

/// A child that waits for the host's word.
#[derive(Debug)]
pub(crate) struct Child {
    /// Its number in this pid namespace.
    pub(crate) pid: i32,
    /// A descriptor of it.
    pub(crate) pidfd: OwnedFd,
    /// One byte lets it go on; it answers only when it failed.
    gate: OwnedFd,
}

/// What the child needs, prepared before it exists.
struct Prepared {
    gate: RawFd,
    control: RawFd,
    program: RawFd,
    /// What becomes standard input, output and error.
    streams: [RawFd; 3],
    ids: TakenIds,
}

/// How the child gets its ids.
enum TakenIds {
    /// It maps the caller's itself: the files of `/proc/self` and what goes into them.
    Mapped([(&'static CStr, String); 3]),
    /// The host maps them, the child changes to these.
    Changed(Ids),
}

/// Makes the child. `inside` are the ids that it has in its own namespace.
pub(crate) fn launch(
    program: BorrowedFd<'_>,
    control: BorrowedFd<'_>,
    streams: [BorrowedFd<'_>; 3],
    identity: Identity,
    inside: Ids,
) -> Result<Child, StartError> {
    let (gate, childs_gate) = gate()?;
    let prepared = Prepared {
        gate: childs_gate.as_raw_fd(),
        control: control.as_raw_fd(),
        program: program.as_raw_fd(),
        streams: streams.map(|stream| stream.as_raw_fd()),
        ids: match identity {
            Identity::Caller(outside) => TakenIds::Mapped([
                // Without it the kernel refuses a gid map of somebody without privilege (user_namespaces(7)).
                (c"/proc/self/setgroups", "deny".to_owned()),
                (c"/proc/self/uid_map", format!("{} {} 1", inside.uid, outside.uid)),
                (c"/proc/self/gid_map", format!("{} {} 1", inside.gid, outside.gid)),
            ]),
            Identity::Reserved(_) => TakenIds::Changed(inside),
        },
    };
    let mut pidfd: RawFd = -1;
    // SAFETY: in the child, `become_init` makes only async-signal-safe calls on `prepared`, which its copy of the
    // stack holds, and never returns.
    match unsafe { clone_into(NAMESPACES | libc::CLONE_PIDFD, &mut pidfd) } {
        Err(source) => Err(StartError::Namespaces { hint: probe::why_no_namespaces(&source), source }),
        Ok(0) => become_init(&prepared),
        // SAFETY: the kernel made this descriptor for us, and nobody else has it.
        Ok(pid) => Ok(Child { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) }, gate }),
    }
}

impl Child {
    /// Maps the child's ids, where it can't do that itself.
    pub(crate) fn map_ids(&self, identity: Identity, inside: Ids) -> Result<(), StartError> {
        match identity {
            Identity::Caller(_) => Ok(()),
            Identity::Reserved(outside) => {
                self.write("uid_map", &format!("{} {} 1", inside.uid, outside.uid))?;
                self.write("gid_map", &format!("{} {} 1", inside.gid, outside.gid))
            }
        }
    }

    fn write(&self, file: &'static str, text: &str) -> Result<(), StartError> {
        std::fs::write(format!("/proc/{}/{file}", self.pid), text).map_err(|source| StartError::IdMap {
            file,
            hint: probe::why_no_namespaces(&source),
            source,
        })
    }

    /// Lets it go on.
    pub(crate) fn release(&self) -> Result<(), StartError> {
        rustix::io::write(&self.gate, b"!")
            .map(drop)
            .map_err(|errno| StartError::Child { step: "wait for its ids", source: errno.into() })
    }

    /// Kills it, and once it is init, everything inside.
    pub(crate) fn kill(&self) {
        // One that is gone already can't be signalled: then there is nothing left to kill.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// Waits for its end: the kernel reports it when nothing of the pid namespace is left.
    pub(crate) fn reap(&self) {
        let ended = WaitIdOptions::EXITED;
        while matches!(waitid(WaitId::PidFd(self.pidfd.as_fd()), ended), Err(Errno::INTR)) {}
    }

    /// Why it ended before it became init, if it said so. Waits for its end or its start.
    pub(crate) fn failure(&self) -> Option<StartError> {
        let mut report = [0_u8; 5];
        let filled = rustix::io::read(&self.gate, report.as_mut_slice()).ok()?;
        let [step, errno @ ..] = report;
        let known = STEPS.get(usize::from(step)).copied().unwrap_or("unknown");
        let source = io::Error::from_raw_os_error(i32::from_ne_bytes(errno));
        if filled != report.len() {
            return None;
        }
        if known == MAP_STEP {
            let hint = probe::why_no_namespaces(&source);
            return Some(StartError::IdMap { file: "uid_map", hint, source });
        }
        if known == NETWORK_STEP {
            let hint = probe::why_no_namespaces(&source);
            return Some(StartError::Namespaces { hint, source });
        }
        Some(StartError::Child { step: known, source })
    }
}

/// A pair of sockets for one byte to the child and a report back.
fn gate() -> Result<(OwnedFd, OwnedFd), StartError> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(|errno| StartError::Child { step: "make its gate", source: errno.into() })
}

/// A copy of this process in new namespaces: 0 in the child, its pid in the parent.
///
/// # Safety
/// The child shares nothing but the state of other threads' locks: it must not allocate, lock, or return to code
/// that does.
pub(crate) unsafe fn clone_into(flags: i32, pidfd: &mut RawFd) -> Result<i32, io::Error> {
    // SAFETY: an all-zero clone_args is a valid one.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = u64::from(flags.unsigned_abs());
    arguments.exit_signal = u64::from(libc::SIGCHLD.unsigned_abs());
    arguments.pidfd = std::ptr::from_mut(pidfd) as u64;
    // SAFETY: the arguments are live and of the size that is passed; without a stack the child runs on a copy of ours.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(i32::try_from(result).unwrap_or(i32::MAX)) }
}

/// In the child. Plain system calls only.
fn become_init(prepared: &Prepared) -> ! {
    let step = match prepare(prepared) {
        Ok(()) => {
            let arguments = [c"sandbox-init".as_ptr(), std::ptr::null()];
            let environment: [*const libc::c_char; 1] = [std::ptr::null()];
            // SAFETY: the descriptor is the program's, both lists end with a null pointer.
            unsafe {
                libc::syscall(
                    libc::SYS_execveat,
                    PROGRAM_FD,
                    c"".as_ptr(),
                    arguments.as_ptr(),
                    environment.as_ptr(),
                    libc::AT_EMPTY_PATH,
                );
            }
            5
        }
        Err(step) => step,
    };
    // SAFETY: errno is this thread's own; the report lies on the stack; _exit runs nothing of the parent's.
    unsafe {
        let [a, b, c, d] = (*libc::__errno_location()).to_ne_bytes();
        let report = [step, a, b, c, d];
        libc::write(REPORT_FD, report.as_ptr().cast(), report.len());
        libc::_exit(125)
    }
}

/// The place in `STEPS` where it failed.
fn prepare(prepared: &Prepared) -> Result<(), u8> {
    // SAFETY: plain system calls on numbers and on values of this function's stack, each result checked.
    unsafe {
        // Descriptors first, so that a report has a place to go: out of the way, then where init wants them.
        let gate = away(prepared.gate, 3)?;
        let control = away(prepared.control, 3)?;
        let program = away(prepared.program, 3)?;
        let [input, output, errors] = prepared.streams;
        let streams = [away(input, 4)?, away(output, 4)?, away(errors, 4)?];
        place(gate, REPORT_FD, libc::O_CLOEXEC, 3)?;
        for (number, stream) in (0..).zip(streams) {
            place(stream, number, 0, 4)?;
        }
        place(control, CONTROL_FD, 0, 3)?;
        place(program, PROGRAM_FD, libc::O_CLOEXEC, 3)?;
        // The host's ends too: from here on, a host that dies is noticed.
        if libc::syscall(libc::SYS_close_range, REPORT_FD + 1, u32::MAX, 0) != 0 {
            return Err(3);
        }
        if let TakenIds::Mapped(files) = &prepared.ids {
            map_own_ids(files)?;
        }
        if libc::unshare(libc::CLONE_NEWNET) != 0 {
            return Err(7);
        }
        let mut word = 0_u8;
        if libc::read(REPORT_FD, (&raw mut word).cast(), 1) != 1 {
            return Err(0);
        }
        if let TakenIds::Changed(ids) = prepared.ids {
            let none: *const libc::gid_t = std::ptr::null();
            if libc::syscall(libc::SYS_setgroups, 0, none) != 0
                || libc::syscall(libc::SYS_setresgid, ids.gid, ids.gid, ids.gid) != 0
                || libc::syscall(libc::SYS_setresuid, ids.uid, ids.uid, ids.uid) != 0
            {
                return Err(1);
            }
        }
        keep_capabilities()
    }
}

/// Writes the child's own maps.
///
/// # Safety
/// Only for the child of `clone_into`.
unsafe fn map_own_ids(files: &[(&'static CStr, String); 3]) -> Result<(), u8> {
    // SAFETY: the paths end with a zero, the texts are live, each result is checked.
    unsafe {
        // The files belong to root while a process is undumpable, as the gateway that this is a copy of may be.
        libc::syscall(libc::SYS_prctl, libc::PR_SET_DUMPABLE, 1, 0, 0, 0);
        for (path, text) in files {
            let file = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            if file < 0 || libc::write(file, text.as_ptr().cast(), text.len()) < 0 {
                return Err(6);
            }
        }
    }
    Ok(())
}

/// A copy of a descriptor above all places that init's take.
///
/// # Safety
/// Only for the child of `clone_into`.
unsafe fn away(descriptor: RawFd, step: u8) -> Result<RawFd, u8> {
    // SAFETY: copies a descriptor by number.
    let copy = unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, 32) };
    if copy < 0 { Err(step) } else { Ok(copy) }
}

/// Puts a descriptor at a number.
///
/// # Safety
/// Only for the child of `clone_into`, whose other descriptors nobody needs.
unsafe fn place(descriptor: RawFd, at: RawFd, flags: i32, step: u8) -> Result<(), u8> {
    // SAFETY: replaces a descriptor by number.
    let placed = unsafe { libc::dup3(descriptor, at, flags) };
    if placed < 0 { Err(step) } else { Ok(()) }
}

/// Makes the needed capabilities survive the exec: inheritable, then ambient.
///
/// # Safety
/// Only for the child of `clone_into`.
unsafe fn keep_capabilities() -> Result<(), u8> {
    const VERSION_3: u32 = 0x2008_0522;
    let mut mask = 0_u32;
    for capability in NEEDED {
        mask |= 1 << capability;
    }
    let header = [VERSION_3, 0];
    // Effective, permitted, inheritable; then the same for capabilities from 32 on.
    let sets = [mask, mask, mask, 0, 0, 0];
    // SAFETY: the header and the sets are laid out as capset(2) wants them, and live on this stack.
    if unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) } != 0 {
        return Err(2);
    }
    for capability in NEEDED {
        // SAFETY: a call with numbers only.
        let raised = unsafe {
            libc::syscall(libc::SYS_prctl, libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, capability, 0, 0)
        };
        if raised != 0 {
            return Err(2);
        }
    }
    Ok(())
}
