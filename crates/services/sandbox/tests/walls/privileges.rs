//! What the workload is not: privileged, holding the host's descriptors, or able to make calls that look over a wall.

use std::collections::HashMap;

use crate::bench::{Bench, as_anybody};

/// The lines `check: what = answer` of a check from within.
pub(crate) fn answers(output: &str) -> HashMap<&str, &str> {
    let lines = output.lines().filter_map(|line| line.strip_prefix("check: "));
    lines.filter_map(|line| line.split_once(" = ")).collect()
}

#[track_caller]
fn expect(output: &str, expected: &[(&str, i32)]) {
    let answers = answers(output);
    for (what, answer) in expected {
        assert_eq!(answers.get(what), Some(&answer.to_string().as_str()), "{what} in {output}");
    }
    assert_eq!(answers.len(), expected.len(), "every answer is expected: {output}");
}

#[test]
fn no_privilege_is_left() {
    as_anybody(|| {
        let status = Bench::bash("cat /proc/self/status; cat /proc/1/status || true").run().good();
        for line in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            let found = status.lines().find(|found| found.starts_with(line)).unwrap();
            assert_eq!(found.trim_start_matches(line).trim(), "0000000000000000", "{line}");
        }
        assert!(status.contains("NoNewPrivs:\t1\n") && status.contains("Seccomp:\t2\n"), "{status}");
        let uid = status.lines().find(|line| line.starts_with("Uid:")).unwrap();
        assert!(!uid.split_whitespace().any(|id| id == "0"), "{uid}");
        assert!(!status.contains("Name:\tsandbox-init"), "init is hidden: {status}");
    });
}

#[test]
fn calls_that_look_over_a_wall_are_refused() {
    let refused = libc::EPERM;
    let expected = [
        ("unshare user", refused),
        ("unshare net", refused),
        ("unshare time", refused),
        ("unshare files", 0),
        ("clone user", refused),
        ("clone3", libc::ENOSYS),
        ("setns", refused),
        ("mount", refused),
        ("umount", refused),
        ("open_tree", refused),
        ("fsopen", refused),
        ("chroot", refused),
        ("ptrace", refused),
        ("process_vm_readv", refused),
        ("pidfd_getfd", refused),
        ("io_uring_setup", refused),
        ("bpf", refused),
        ("perf_event_open", refused),
        ("keyctl", refused),
        ("prctl PR_SET_MM", refused),
        ("userfaultfd", refused),
        ("openat2", libc::ENOSYS),
        ("unknown", libc::ENOSYS),
        ("TIOCSTI", refused),
        ("TIOCLINUX", refused),
        ("TIOCSTI high", refused),
    ];
    as_anybody(|| expect(&Bench::inside("calls").run().good(), &expected));
}

#[test]
fn only_ordinary_sockets_exist() {
    let (none, refused) = (libc::EAFNOSUPPORT, libc::EPERM);
    let expected = [
        ("unix", 0),
        ("tcp", 0),
        ("tcp6", 0),
        ("udp", 0),
        ("route", 0),
        ("netfilter", none),
        ("sock_diag", none),
        ("packet", none),
        ("old packet", refused),
        ("vsock", none),
        ("alg", none),
        ("xdp", none),
        ("raw", refused),
        ("raw6", refused),
        ("icmp", none),
        ("sctp", none),
        ("mptcp", none),
    ];
    as_anybody(|| {
        let output = Bench::inside("sockets").run().good();
        // Where two filters match, the kernel takes either's answer: both refuse.
        let output = output.replace("raw = 97", "raw = 1").replace("raw6 = 97", "raw6 = 1");
        expect(&output, &expected);
    });
}

#[test]
fn no_descriptor_of_the_host_and_no_device_but_loopback() {
    as_anybody(|| {
        // Not close-on-exec, as a careless library would leave it.
        let leaked = std::fs::File::open("/etc/passwd").unwrap();
        rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
        let output = Bench::inside("descriptors").run().good();
        let held: Vec<&str> = output.lines().filter(|line| line.starts_with("check: /proc/self/fd/")).collect();
        for line in &held {
            let number: u32 =
                line.trim_start_matches("check: /proc/self/fd/").split(' ').next().unwrap().parse().unwrap();
            assert!(number < 3 || line.contains("/proc/"), "{line}");
        }
        assert!(output.contains("check: devices 1\n"), "{output}");
    });
}

#[test]
fn no_file_becomes_somebody_elses_program() {
    let expected = [
        ("create", 0),
        ("create suid", libc::EPERM),
        ("open plain", 0),
        ("chmod", 0),
        ("chmod suid", libc::EPERM),
        ("chmod sgid", libc::EPERM),
        ("fchmodat2", libc::EPERM),
        ("mknod suid", libc::EPERM),
        ("mknod device", libc::EACCES),
    ];
    as_anybody(|| expect(&Bench::inside("identity bits").run().good(), &expected));
}

#[test]
fn a_stream_that_leads_out_refuses_the_start() {
    use sandbox::{GroupLimits, Spec, StartError, Streams};
    use std::os::fd::OwnedFd;
    let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let folder = OwnedFd::from(std::fs::File::open("/").unwrap());
    let network = OwnedFd::from(std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
    let datagrams = OwnedFd::from(std::os::unix::net::UnixDatagram::unbound().unwrap());
    let terminal = {
        use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        (ioctl_tiocgptpeer(&master, flags).unwrap(), master)
    };
    for stream in [folder, network, datagrams, terminal.0] {
        let bench = Bench::new(&["true"]);
        let plan = bench.request.plan().unwrap().plan;
        let spec = Spec { plan, limits: GroupLimits::default(), streams: Streams::Given([stream, null(), null()]) };
        assert!(matches!(sandbox::start(&spec), Err(StartError::Stream { stream: "standard input", .. })));
    }
}
