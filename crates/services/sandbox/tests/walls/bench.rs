//! Starts sandboxes for the tests, and stands in for the gateway.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};

use rustix::net::sockopt;
use sandbox::{Exit, GroupLimits, Mount, PlanRequest, Sockets, Spec, Streams};

/// The ordinary user that tests run as once more where root runs them.
const ORDINARY: u32 = 1500;
/// Set in the run as that user.
const AGAIN: &str = "SANDBOX_TEST_AS_USER";

/// Runs a test, and where that is root's, once more as an ordinary user.
pub(crate) fn as_anybody(test: impl FnOnce()) {
    test();
    if !rustix::process::geteuid().is_root() || std::env::var_os(AGAIN).is_some() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("walls");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    for path in [folder.path(), &program] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let name = std::thread::current().name().unwrap().to_owned();
    let run = Command::new(&program)
        .args(["--exact", &name, "--nocapture"])
        .env(AGAIN, "1")
        .env("HOME", "/home/ordinary")
        .current_dir("/")
        .uid(ORDINARY)
        .gid(ORDINARY)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && told.contains("1 passed"), "as uid {ORDINARY}: {told}");
}

/// A sandbox to be started, with a working directory of its own.
pub(crate) struct Bench {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) request: PlanRequest,
    pub(crate) limits: GroupLimits,
}

/// What a run left.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) exit: Exit,
    /// Standard output and error.
    pub(crate) output: String,
    /// What the stand-in gateway heard.
    pub(crate) heard: Vec<String>,
}

/// `/dev/null`, three times.
pub(crate) fn nothing() -> Streams {
    Streams::Given(std::array::from_fn(|_| {
        std::fs::File::options().read(true).write(true).open("/dev/null").unwrap().into()
    }))
}

impl Bench {
    /// For a command of its own.
    pub(crate) fn new(command: &[&str]) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let mut request = PlanRequest::new(command, folder.path()).unwrap();
        request.environment = vec![("PATH".to_owned(), "/usr/bin:/bin:/usr/sbin:/sbin".into())];
        Bench { folder, request, limits: GroupLimits::default() }
    }

    /// For a line of bash.
    pub(crate) fn bash(line: &str) -> Bench {
        Bench::new(&["bash", "-c", line])
    }

    /// For a check from within (`inside`).
    pub(crate) fn inside(check: &str) -> Bench {
        let mut bench = Bench::new(&["/check/walls", "--exact", "inside::check", "--nocapture"]);
        bench.request.environment.push(("SANDBOX_CHECK".to_owned(), check.into()));
        let source = std::env::current_exe().unwrap();
        let target = PathBuf::from("/check/walls");
        bench.request.mounts.push(Mount::Bind { source, target, writable: false, optional: false, owned: true });
        bench
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap()
    }

    /// Runs it to its end.
    pub(crate) fn run(self) -> Outcome {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let input = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let streams = Streams::Given([input, writer.try_clone().unwrap().into(), writer.into()]);
        let spec = Spec { plan: self.request.plan().unwrap().plan, limits: self.limits, streams };
        let started = sandbox::start(&spec).unwrap_or_else(|error| panic!("{error}: {error:?}"));
        drop(spec);
        let heard = Gateway::listen(started.sockets);
        let running = started.sandbox.run().unwrap();
        let mut output = String::new();
        reader.read_to_string(&mut output).unwrap();
        let exit = running.wait();
        Outcome { exit, output, heard: heard.try_iter().collect() }
    }
}

impl Outcome {
    /// The output of a run that went well.
    #[track_caller]
    pub(crate) fn good(self) -> String {
        assert_eq!(self.exit, Exit::Ended { code: 0 }, "{}", self.output);
        self.output
    }
}

/// Accepts what is redirected to it, tells where it was going, and closes.
pub(crate) struct Gateway;

impl Gateway {
    pub(crate) fn listen(sockets: Sockets) -> Receiver<String> {
        let (told, heard) = channel();
        for socket in sockets.transparent {
            let told = told.clone();
            serve(socket, move |stream| {
                let fd = stream.as_fd();
                let v4 = sockopt::ip_original_dst(fd).map(|address| address.to_string());
                let to = v4.or_else(|_| sockopt::ipv6_original_dst(fd).map(|address| address.to_string())).unwrap();
                let _ = stream.write_all(format!("to {to}\n").as_bytes());
                let _ = told.send(format!("tcp {to}"));
            });
        }
        for socket in sockets.dns_tcp {
            let told = told.clone();
            serve(socket, move |stream| {
                let _ = stream.write_all(b"dns by tcp\n");
                let _ = told.send("dns tcp".to_owned());
            });
        }
        for socket in sockets.proxy {
            let told = told.clone();
            serve(socket, move |stream| {
                let _ = stream.write_all(b"proxy\n");
                let _ = told.send("proxy".to_owned());
            });
        }
        for socket in sockets.dns_udp {
            answer(socket, told.clone());
        }
        heard
    }
}

fn serve(socket: OwnedFd, mut each: impl FnMut(&mut std::net::TcpStream) + Send + 'static) {
    let listener = TcpListener::from(socket);
    listener.set_nonblocking(false).unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            each(&mut stream);
        }
    });
}

fn answer(socket: OwnedFd, told: Sender<String>) {
    let socket = UdpSocket::from(socket);
    socket.set_nonblocking(false).unwrap();
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query) {
            let _ = told.send(format!("dns udp {}", String::from_utf8_lossy(&query[..length])));
            let _ = socket.send_to(b"dns answer", from);
        }
    });
}

/// A Unix socket of the host that says `host` to whoever connects.
pub(crate) fn host_socket(path: &Path) {
    let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.unwrap().write_all(b"host\n");
        }
    });
}
