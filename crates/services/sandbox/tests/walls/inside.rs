//! What the test program does when it is the workload: calls that must be refused, told line by line as `check: …`.

use std::io::{Error, Read};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// In the sandbox it makes the named check; outside there is nothing to check.
#[test]
fn check() {
    let Ok(name) = std::env::var("SANDBOX_CHECK") else { return };
    match name.as_str() {
        "calls" => calls(),
        "sockets" => sockets(),
        "descriptors" => descriptors(),
        "network" => network(),
        "identity bits" => identity_bits(),
        "connect" => connect(),
        other => panic!("no check is named {other}"),
    }
    std::process::exit(0);
}

fn tell(what: &str, result: i64) {
    let answer = if result < 0 { Error::last_os_error().raw_os_error().unwrap() } else { 0 };
    println!("check: {what} = {answer}");
}

fn call(what: &str, number: i64, arguments: [i64; 5]) {
    let [a, b, c, d, e] = arguments;
    // SAFETY: the arguments are numbers or null: a kernel that took the call would find nothing to touch.
    tell(what, unsafe { libc::syscall(number, a, b, c, d, e) });
}

fn calls() {
    let new_user = i64::from(libc::CLONE_NEWUSER);
    call("unshare user", libc::SYS_unshare, [new_user, 0, 0, 0, 0]);
    call("unshare net", libc::SYS_unshare, [i64::from(libc::CLONE_NEWNET), 0, 0, 0, 0]);
    call("unshare time", libc::SYS_unshare, [0x80, 0, 0, 0, 0]);
    call("unshare files", libc::SYS_unshare, [i64::from(libc::CLONE_FILES), 0, 0, 0, 0]);
    call("clone user", libc::SYS_clone, [new_user | i64::from(libc::SIGCHLD), 0, 0, 0, 0]);
    call("clone3", libc::SYS_clone3, [0, 0, 0, 0, 0]);
    call("setns", libc::SYS_setns, [-1, 0, 0, 0, 0]);
    call("mount", libc::SYS_mount, [0; 5]);
    call("umount", libc::SYS_umount2, [0; 5]);
    call("open_tree", 428, [0; 5]);
    call("fsopen", 430, [0; 5]);
    call("chroot", libc::SYS_chroot, [0; 5]);
    call("ptrace", libc::SYS_ptrace, [0; 5]);
    call("process_vm_readv", libc::SYS_process_vm_readv, [1, 0, 0, 0, 0]);
    call("pidfd_getfd", libc::SYS_pidfd_getfd, [0; 5]);
    call("io_uring_setup", libc::SYS_io_uring_setup, [1, 0, 0, 0, 0]);
    call("bpf", libc::SYS_bpf, [0; 5]);
    call("perf_event_open", libc::SYS_perf_event_open, [0; 5]);
    call("keyctl", libc::SYS_keyctl, [0; 5]);
    // PR_SET_MM_MAP_SIZE needs no right: unfiltered it would be a bad address.
    call("prctl PR_SET_MM", libc::SYS_prctl, [35, 15, 0, 0, 0]);
    call("userfaultfd", libc::SYS_userfaultfd, [0; 5]);
    call("openat2", libc::SYS_openat2, [0; 5]);
    call("unknown", 1000, [0; 5]);
    for (what, request) in [("TIOCSTI", 0x5412), ("TIOCLINUX", 0x541C), ("TIOCSTI high", 0x1_0000_5412)] {
        call(what, libc::SYS_ioctl, [0, request, 0, 0, 0]);
    }
}

/// The old way to a packet socket, which libc deprecates.
const SOCK_PACKET: i32 = 10;

fn sockets() {
    let kinds = [
        ("unix", libc::AF_UNIX, libc::SOCK_STREAM, 0),
        ("tcp", libc::AF_INET, libc::SOCK_STREAM, 0),
        ("tcp6", libc::AF_INET6, libc::SOCK_STREAM, libc::IPPROTO_TCP),
        ("udp", libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, libc::IPPROTO_UDP),
        ("route", libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE),
        ("netfilter", libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER),
        ("sock_diag", libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_SOCK_DIAG),
        ("packet", libc::AF_PACKET, libc::SOCK_RAW, 0),
        ("old packet", libc::AF_INET, SOCK_PACKET, 0),
        ("vsock", libc::AF_VSOCK, libc::SOCK_STREAM, 0),
        ("alg", libc::AF_ALG, libc::SOCK_SEQPACKET, 0),
        ("xdp", libc::AF_XDP, libc::SOCK_RAW, 0),
        ("raw", libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP),
        ("raw6", libc::AF_INET6, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_RAW),
        ("icmp", libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP),
        ("sctp", libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_SCTP),
        ("mptcp", libc::AF_INET, libc::SOCK_STREAM, 262),
    ];
    for (what, family, kind, protocol) in kinds {
        // SAFETY: makes a descriptor; the process ends soon after.
        tell(what, i64::from(unsafe { libc::socket(family, kind, protocol) }));
    }
}

fn descriptors() {
    for entry in std::fs::read_dir("/proc/self/fd").unwrap() {
        let path = entry.unwrap().path();
        println!("check: {} {}", path.display(), std::fs::read_link(&path).unwrap_or_default().display());
    }
    println!("check: devices {}", std::fs::read_to_string("/proc/self/net/dev").unwrap().lines().skip(2).count());
}

fn network() {
    for address in ["93.184.216.34:443", "[2606:2800::1]:443", "10.0.0.8:5432", "8.8.8.8:53", "[2001:4860::8888]:53"] {
        let address: SocketAddr = address.parse().unwrap();
        let mut said = String::new();
        TcpStream::connect(address).unwrap().read_to_string(&mut said).unwrap();
        println!("check: tcp {address} = {}", said.trim());
    }
    let mut said = String::new();
    TcpStream::connect("127.0.0.1:3128").unwrap().read_to_string(&mut said).unwrap();
    println!("check: proxy = {}", said.trim());
    for address in ["127.0.0.1:15001", "127.0.0.1:15053", "[::1]:15001"] {
        let refused = TcpStream::connect(address.parse::<SocketAddr>().unwrap()).unwrap_err();
        println!("check: direct {address} = {}", refused.raw_os_error().unwrap());
    }
    for resolver in ["8.8.8.8:53", "127.0.0.53:53", "[2001:4860::8888]:53", "[::1]:53"] {
        let resolver: SocketAddr = resolver.parse().unwrap();
        println!("check: dns {resolver} = {}", ask(resolver, "who"));
    }
    for address in ["9.9.9.9:443", "224.0.0.251:5353", "255.255.255.255:67", "[2620:fe::9]:443", "[ff02::fb]:5353"] {
        let address: SocketAddr = address.parse().unwrap();
        let begun = Instant::now();
        let result = datagram(address.ip()).send_to(b"x", address);
        let refused = result.is_err() && begun.elapsed() < Duration::from_secs(1);
        println!("check: udp {address} = {}", if refused { "refused" } else { "SENT" });
    }
    let own = TcpListener::bind("0.0.0.0:80").unwrap();
    let client = std::thread::spawn(|| TcpStream::connect("127.0.0.1:80").is_ok());
    own.accept().unwrap();
    println!("check: own server = {}", client.join().unwrap());
}

fn datagram(to: IpAddr) -> UdpSocket {
    let socket = UdpSocket::bind(if to.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" }).unwrap();
    socket.set_broadcast(true).ok();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket
}

fn ask(resolver: SocketAddr, query: &str) -> String {
    let socket = datagram(resolver.ip());
    socket.send_to(query.as_bytes(), resolver).unwrap();
    let mut answer = [0; 64];
    let (length, from) = socket.recv_from(&mut answer).unwrap();
    assert_eq!(from, resolver, "the answer must come from whom was asked");
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

fn identity_bits() {
    let path = c"bits";
    let (suid, sgid, create) = (libc::S_ISUID as i32, libc::S_ISGID as i32, libc::O_CREAT | libc::O_WRONLY);
    // SAFETY: calls on a path that is a live C string; descriptors are left to the end of the process.
    unsafe {
        tell("create", libc::open(path.as_ptr(), create, 0o755).into());
        tell("create suid", libc::open(c"other".as_ptr(), create, 0o755 | suid).into());
        tell("open plain", libc::open(path.as_ptr(), libc::O_RDONLY, 0o755 | suid).into());
        tell("chmod", libc::chmod(path.as_ptr(), 0o700).into());
        tell("chmod suid", libc::chmod(path.as_ptr(), (0o755 | suid) as u32).into());
        tell("chmod sgid", libc::chmod(path.as_ptr(), (0o755 | sgid) as u32).into());
        call("fchmodat2", 452, [libc::AT_FDCWD.into(), path.as_ptr() as i64, (0o755 | suid).into(), 0, 0]);
        tell("mknod suid", libc::mknod(c"node".as_ptr(), libc::S_IFREG | libc::S_ISUID | 0o755, 0).into());
        tell("mknod device", libc::mknod(c"null".as_ptr(), libc::S_IFCHR | 0o666, libc::makedev(1, 3)).into());
    }
}

fn connect() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr as UnixAddr, UnixStream};
    for path in std::env::var("SANDBOX_CONNECT").unwrap().split(':') {
        let address = match path.strip_prefix('@') {
            Some(name) => UnixAddr::from_abstract_name(name),
            None => UnixAddr::from_pathname(path),
        };
        let result = UnixStream::connect_addr(&address.unwrap());
        println!("check: connect {path} = {}", result.err().map_or(0, |error| error.raw_os_error().unwrap()));
    }
}
