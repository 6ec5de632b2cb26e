//! The sides that are compared, and how each is started.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::{
    machine::{NotInstalled, program},
    meter, word,
};

/// The origin's address in the benchmark's own namespace: a documentation address (RFC 5737).
pub const ORIGIN: &str = "203.0.113.1:9000";

/// One side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Side {
    /// No proxy: the limit of the machine.
    Direct,
    /// HAProxy, TCP mode, copying.
    HaproxyCopy,
    /// HAProxy, TCP mode, splice forced.
    HaproxySplice,
    /// Squid, CONNECT.
    Squid,
    /// tinyproxy, CONNECT.
    Tinyproxy,
    /// Cofferdam, the client connects as if there were no gateway.
    Transparent,
    /// Cofferdam, CONNECT.
    Connect,
}

impl Side {
    /// Every side, in the order of the table.
    pub const ALL: [Side; 7] = [
        Side::Direct,
        Side::HaproxyCopy,
        Side::HaproxySplice,
        Side::Squid,
        Side::Tinyproxy,
        Side::Transparent,
        Side::Connect,
    ];

    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Side::Direct => "direct",
            Side::HaproxyCopy => "HAProxy (copy)",
            Side::HaproxySplice => "HAProxy (splice)",
            Side::Squid => "Squid CONNECT",
            Side::Tinyproxy => "tinyproxy CONNECT",
            Side::Transparent => "Cofferdam transparent",
            Side::Connect => "Cofferdam CONNECT",
        }
    }

    /// What it needs and this machine lacks.
    pub fn missing(self) -> Option<NotInstalled> {
        let needed = match self {
            Side::Direct | Side::Transparent | Side::Connect => return None,
            Side::HaproxyCopy | Side::HaproxySplice => "haproxy",
            Side::Squid => "squid",
            Side::Tinyproxy => "tinyproxy",
        };
        program(needed).err()
    }

    fn port(self) -> u16 {
        match self {
            Side::Direct | Side::Transparent | Side::Connect => 0,
            Side::HaproxyCopy => 8001,
            Side::HaproxySplice => 8002,
            Side::Squid => 8003,
            Side::Tinyproxy => 8004,
        }
    }
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        word::write(self, f)
    }
}

/// Where things are for one comparison.
pub struct Setting {
    /// The `cofferdam` program.
    pub cofferdam: PathBuf,
    /// This program.
    pub own: PathBuf,
    /// Configurations, policies, records.
    pub folder: PathBuf,
}

/// A forwarder that runs until dropped.
pub struct Server {
    child: Child,
}

impl Server {
    /// What was started.
    pub fn new(child: Child) -> Server {
        Server { child }
    }

    /// Starts one that says `ready` when it is.
    pub fn announced(command: &mut Command) -> Result<Server> {
        let mut server = Server::new(command.stdout(Stdio::piped()).spawn()?);
        let mut line = String::new();
        BufReader::new(server.child.stdout.take().context("no output")?).read_line(&mut line)?;
        anyhow::ensure!(line.trim() == "ready", "{} did not start", command.get_program().display());
        Ok(server)
    }

    /// The processes of this server.
    pub fn pids(&self) -> Vec<u32> {
        meter::tree(self.child.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to stop.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Setting {
    /// Starts the origin and waits until it listens.
    pub fn start_origin(&self) -> Result<Server> {
        Server::announced(Command::new(&self.own).args(["origin", "--listen", ORIGIN]))
    }

    /// Starts the forwarder of a side that has one of its own.
    pub fn start_server(&self, side: Side) -> Result<Option<Server>> {
        let port = side.port();
        let mut command = match side {
            Side::Direct | Side::Transparent | Side::Connect => return Ok(None),
            Side::HaproxyCopy | Side::HaproxySplice => self.haproxy(side)?,
            Side::Squid => self.squid(port)?,
            Side::Tinyproxy => self.tinyproxy(port)?,
        };
        let log = fs::File::create(self.folder.join(format!("{port}.log")))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", side.name()))?;
        let server = Server { child };
        await_port(SocketAddr::from(([127, 0, 0, 1], port)))?;
        Ok(Some(server))
    }

    /// The command that runs the load against a side.
    pub fn load(&self, side: Side, arguments: &[String]) -> Result<Command> {
        let forwarder = format!("127.0.0.1:{}", side.port());
        let (target, proxy) = match side {
            Side::Direct | Side::Transparent => (ORIGIN, None),
            Side::HaproxyCopy | Side::HaproxySplice => (forwarder.as_str(), None),
            Side::Squid | Side::Tinyproxy => (ORIGIN, Some(forwarder.clone())),
            Side::Connect => (ORIGIN, Some("127.0.0.1:3128".to_owned())),
        };
        let mut command = match side {
            Side::Transparent | Side::Connect => self.contained()?,
            _ => Command::new(&self.own),
        };
        command.arg("load").args(["--target", target]);
        if let Some(proxy) = proxy {
            command.args(["--proxy", &proxy]);
        }
        command.args(arguments);
        Ok(command)
    }

    /// `cofferdam run … -- benches`, with a policy that allows the origin by its address.
    fn contained(&self) -> Result<Command> {
        let policy = self.folder.join("policy.yaml");
        fs::write(
            &policy,
            "apiVersion: cofferdam/v1\nkind: EgressPolicy\nmetadata: { name: benchmark }\nspec:\n  mode: limited\n  rules:\n    - { name: origin, priority: 10, from: any, to: { cidrs: [203.0.113.1/32] }, ports: [9000], action: allow }\n",
        )?;
        let mut command = Command::new(&self.cofferdam);
        let mount = format!("{}:{}:ro", self.own.display(), self.own.display());
        command.env("XDG_STATE_HOME", self.folder.join("state")).env("XDG_RUNTIME_DIR", &self.folder);
        command.args(["run", "--quiet", "--policy"]).arg(&policy).arg("--workdir").arg(self.folder.join("work"));
        command.args(["--mount", &mount, "--"]).arg(&self.own);
        fs::create_dir_all(self.folder.join("work"))?;
        Ok(command)
    }

    fn haproxy(&self, side: Side) -> Result<Command> {
        let splice = if side == Side::HaproxySplice { "option splice-request\n  option splice-response" } else { "" };
        let text = format!(
            "global\n  maxconn 4000\n  nbthread 2\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 5m\n  timeout server 5m\n  {splice}\nlisten l\n  bind 127.0.0.1:{port}\n  server o {ORIGIN}\n",
            port = side.port()
        );
        let file = self.write(&format!("haproxy-{}.cfg", side.port()), &text)?;
        let mut command = Command::new(program("haproxy")?);
        command.arg("-db").arg("-f").arg(file);
        Ok(command)
    }

    fn squid(&self, port: u16) -> Result<Command> {
        let text = format!(
            "http_port 127.0.0.1:{port}\nhttp_access allow all\naccess_log none\ncache deny all\ncache_log /dev/null\npid_filename none\nmax_filedescriptors 16384\nshutdown_lifetime 0 seconds\nvia off\nforwarded_for delete\nhost_verify_strict off\npinger_enable off\n"
        );
        let file = self.write("squid.conf", &text)?;
        let mut command = Command::new(program("squid")?);
        command.arg("-N").arg("-f").arg(file);
        Ok(command)
    }

    fn tinyproxy(&self, port: u16) -> Result<Command> {
        let text = format!(
            "Port {port}\nListen 127.0.0.1\nTimeout 600\nMaxClients 4000\nConnectPort 9000\nAllow 127.0.0.1\nLogLevel Critical\n"
        );
        let file = self.write("tinyproxy.conf", &text)?;
        let mut command = Command::new(program("tinyproxy")?);
        command.arg("-d").arg("-c").arg(file);
        Ok(command)
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        fs::write(&path, text)?;
        Ok(path)
    }
}

/// Connects until somebody answers, at most ten seconds long.
pub fn await_port(address: SocketAddr) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) {
        if TcpStream::connect_timeout(&address, Duration::from_millis(100)).is_ok() {
            return Ok(());
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    bail!("nothing listens on {address}")
}
