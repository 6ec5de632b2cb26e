//! A network namespace of the test's own. Needs root, `ip` and `nft`; says so where it can't be made.

use std::{
    fs::File,
    io::Write,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::OwnedFd,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use gateway::{SandboxSockets, Settings};
use policy::model::Rule;
use rustix::{
    net::{AddressFamily, SocketFlags, SocketType, netlink, socket_with},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use super::{PATIENCE, World, connect};

/// A namespace in which every address is local and all TCP is redirected.
pub struct Namespace {
    name: String,
}

const RULES: &str = "
table inet sandbox {
    chain output {
        type nat hook output priority -100;
        tcp dport { 15001, 15053 } accept
        meta l4proto tcp redirect to :15001
    }
}";

impl Namespace {
    pub fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("gateway-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let made = Command::new("ip").args(["netns", "add", &name]).stderr(Stdio::null()).status();
        if !made.is_ok_and(|status| status.success()) {
            eprintln!("skipped: no network namespace can be made here");
            return None;
        }
        let namespace = Self { name };
        for arguments in [
            &["link", "set", "lo", "up"][..],
            &["route", "add", "local", "default", "dev", "lo"],
            &["-6", "route", "add", "local", "default", "dev", "lo"],
        ] {
            assert!(Command::new("ip").args(["-n", &namespace.name]).args(arguments).status().unwrap().success());
        }
        let mut nft = Command::new("ip")
            .args(["netns", "exec", &namespace.name, "nft", "-f", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        nft.stdin.take().unwrap().write_all(RULES.as_bytes()).unwrap();
        assert!(nft.wait().unwrap().success());
        Some(namespace)
    }

    /// Runs on a thread of its own inside the namespace.
    pub fn inside<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        let file = File::open(format!("/run/netns/{}", self.name)).unwrap();
        thread::scope(|scope| {
            let inside = scope.spawn(move || {
                move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(LinkNameSpaceType::Network)).unwrap();
                action()
            });
            inside.join().unwrap()
        })
    }

    pub fn connect(&self, address: SocketAddr) -> TcpStream {
        self.inside(|| connect(address))
    }

    pub fn world(&self, rules: Vec<Rule>, adjust: impl FnOnce(Settings) -> Settings) -> World {
        self.world_with(rules, Vec::new(), adjust)
    }

    /// The same, with sockets of opened UDP ports.
    pub fn world_with(
        &self,
        rules: Vec<Rule>,
        datagrams: Vec<OwnedFd>,
        adjust: impl FnOnce(Settings) -> Settings,
    ) -> World {
        let sockets = self.inside(|| SandboxSockets {
            transparent: vec![
                TcpListener::bind("127.0.0.1:15001").unwrap().into(),
                TcpListener::bind("[::1]:15001").unwrap().into(),
            ],
            dns_udp: vec![UdpSocket::bind("127.0.0.1:15053").unwrap().into()],
            dns_tcp: vec![TcpListener::bind("127.0.0.1:15053").unwrap().into()],
            proxy: Vec::new(),
            socket_diagnosis: Some(
                socket_with(AddressFamily::NETLINK, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(netlink::SOCK_DIAG))
                    .unwrap(),
            ),
            init_pid: Some(std::process::id()),
            datagrams,
            rejections: None,
        });
        World::with_sockets(rules, None, sockets, adjust)
    }

    /// A UDP socket on every address of the namespace, at this port.
    pub fn datagrams(&self, port: u16) -> UdpSocket {
        self.inside(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap())
    }

    /// Asks the gateway's DNS for an A record.
    pub fn resolve(&self, name: &str) -> Option<Ipv4Addr> {
        self.inside(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut question = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            for label in name.split('.') {
                question.push(u8::try_from(label.len()).unwrap());
                question.extend(label.as_bytes());
            }
            question.extend([0, 0, 1, 0, 1]);
            socket.send_to(&question, "127.0.0.1:15053").unwrap();
            let mut answer = [0; 1500];
            let count = socket.recv(&mut answer).unwrap();
            let answers = u16::from_be_bytes([answer[6], answer[7]]);
            (answers > 0).then(|| Ipv4Addr::from(*answer[..count].last_chunk::<4>().unwrap()))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}
