//! Those who open TLS, and how each is started.

use std::{
    fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use super::{client::TOKEN, identity::Identity, mitmproxy};
use crate::{
    contenders::{Server, await_port},
    machine::program,
    word,
};

/// The origin's port.
pub const PORT: u16 = 9443;
/// Where Cofferdam's proxy listens inside a sandbox.
const OWN_PROXY: &str = "127.0.0.1:3128";
/// Squid's maker of certificates (Debian: squid-openssl; plain squid has none).
const CERTIFICATE_HELPER: &str = "/usr/lib/squid/security_file_certgen";

/// One side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Side {
    /// TLS straight to the origin.
    Direct,
    /// Squid, `ssl_bump bump all`.
    Squid,
    /// mitmproxy's `mitmdump`.
    Mitmproxy,
    /// Cofferdam's gateway without a sandbox, CONNECT.
    Gateway,
    /// Cofferdam, the client connects as if there were no gateway.
    Transparent,
    /// Cofferdam, CONNECT.
    Connect,
    /// The same with a secret that each request carries: a placeholder is swapped, and answers are masked.
    Secret,
}

impl Side {
    /// Those that are measured unless others are named.
    pub const USUAL: [Side; 6] =
        [Side::Direct, Side::Squid, Side::Mitmproxy, Side::Transparent, Side::Connect, Side::Secret];

    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Side::Direct => "direct TLS",
            Side::Squid => "Squid, bumping",
            Side::Mitmproxy => "mitmproxy",
            Side::Gateway => "Cofferdam, gateway alone",
            Side::Transparent => "Cofferdam transparent",
            Side::Connect => "Cofferdam CONNECT",
            Side::Secret => "Cofferdam CONNECT, secret",
        }
    }

    /// Whether its clients run inside a sandbox.
    pub fn is_contained(self) -> bool {
        matches!(self, Side::Transparent | Side::Connect | Side::Secret)
    }

    fn port(self) -> u16 {
        match self {
            Side::Direct | Side::Transparent | Side::Connect | Side::Secret => 0,
            Side::Squid => 8103,
            Side::Mitmproxy => 8104,
            Side::Gateway => 8105,
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
    /// Everybody's certificates.
    pub identity: Identity,
}

impl Setting {
    /// What a side needs and this machine lacks.
    pub fn missing(&self, side: Side) -> Option<String> {
        match side {
            Side::Direct | Side::Gateway | Side::Transparent | Side::Connect | Side::Secret => None,
            Side::Squid if !Path::new(CERTIFICATE_HELPER).exists() => {
                Some(format!("{CERTIFICATE_HELPER} is not installed (Debian: squid-openssl)"))
            }
            Side::Squid => program("squid").err().map(|missing| missing.to_string()),
            Side::Mitmproxy => mitmproxy::program().err().map(|missing| missing.to_string()),
        }
    }

    /// Starts the origin and waits until it listens.
    pub fn start_origin(&self) -> Result<Server> {
        let mut command = Command::new(&self.own);
        command.arg("tls-origin").args(["--listen", &format!("203.0.113.1:{PORT}"), "--identity"]);
        Server::announced(command.arg(&self.identity.origin))
    }

    /// Starts the forwarder of a side that has one of its own.
    pub fn start_server(&self, side: Side) -> Result<Option<Server>> {
        let port = side.port();
        let mut command = match side {
            Side::Direct | Side::Transparent | Side::Connect | Side::Secret => return Ok(None),
            Side::Squid => self.squid(port)?,
            Side::Mitmproxy => self.mitmproxy(port)?,
            Side::Gateway => self.gateway(port)?,
        };
        let log = fs::File::create(self.folder.join(format!("{port}.log")))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let server = Server::new(command.spawn().with_context(|| format!("starting {}", side.name()))?);
        await_port(([127, 0, 0, 1], port).into())?;
        Ok(Some(server))
    }

    /// The command that runs the load against a side.
    pub fn load(&self, side: Side, arguments: &[String]) -> Result<Command> {
        let mut command = if side.is_contained() { self.contained(side)? } else { Command::new(&self.own) };
        command.arg("tls-load").args(["--port", &PORT.to_string()]);
        match side {
            Side::Direct | Side::Transparent => {}
            Side::Squid | Side::Mitmproxy | Side::Gateway => {
                command.args(["--proxy", &format!("127.0.0.1:{}", side.port())]);
            }
            Side::Connect | Side::Secret => {
                command.args(["--proxy", OWN_PROXY]);
            }
        }
        // In a sandbox the client trusts what it is told to.
        let roots = match side {
            Side::Direct => Some(self.identity.roots.clone()),
            Side::Squid => Some(self.identity.bump_roots.clone()),
            Side::Mitmproxy => Some(self.folder.join("mitmproxy/mitmproxy-ca-cert.pem")),
            Side::Gateway => Some(self.folder.join("gateway/anchors.pem")),
            Side::Transparent | Side::Connect | Side::Secret => None,
        };
        if let Some(roots) = roots {
            command.arg("--roots").arg(roots);
        }
        command.args(arguments);
        Ok(command)
    }

    /// `cofferdam run … -- benches`, with a rule that looks at each request.
    fn contained(&self, side: Side) -> Result<Command> {
        let policy = self.write("policy.yaml", &self.policy(side))?;
        let work = self.folder.join("work");
        fs::create_dir_all(&work)?;
        let mut command = Command::new(&self.cofferdam);
        let mount = format!("{}:{}:ro", self.own.display(), self.own.display());
        command.env("XDG_STATE_HOME", self.folder.join("state")).env("XDG_RUNTIME_DIR", &self.folder);
        command.env("BENCHES_SECRET", "ghp_0123456789abcdefghijklmnopqrstuvwxyz");
        // Whom the gateway trusts upstream.
        command.env("SSL_CERT_FILE", &self.identity.roots);
        command.args(["run", "--quiet", "--policy"]).arg(&policy).arg("--workdir").arg(work);
        command.args(["--mount", &mount, "--"]).arg(&self.own);
        Ok(command)
    }

    /// One rule: two methods, under any path, at the origin.
    fn policy(&self, side: Side) -> String {
        let (rule, credentials) = if side == Side::Secret {
            let credentials = format!(
                "  credentials:\n    token: {{ from: {{ env: BENCHES_SECRET }}, attach: {{ placeholder: {{ headers: \
                 [authorization] }} }}, bind: {{ hosts: [origin.test] }}, expose: {{ env: {TOKEN}, format: github }} }}\n"
            );
            (", credential: token", credentials)
        } else {
            ("", String::new())
        };
        format!(
            "apiVersion: cofferdam/v1\nkind: EgressPolicy\nmetadata: {{ name: benchmark }}\nspec:\n  mode: limited\n  rules:\n    \
             - {{ name: origin, priority: 10, from: any, to: {{ cidrs: [203.0.113.1/32] }}, names: [origin.test], \
             ports: [{PORT}], http: [{{ methods: [GET, POST], paths: [\"/**\"] }}], action: allow{rule} }}\n{credentials}"
        )
    }

    fn squid(&self, port: u16) -> Result<Command> {
        let store = self.folder.join("squid-certificates");
        if store.exists() {
            fs::remove_dir_all(&store)?;
        }
        let made = Command::new(CERTIFICATE_HELPER).args(["-c", "-s"]).arg(&store).args(["-M", "16MB"]).output()?;
        ensure!(made.status.success(), "{CERTIFICATE_HELPER}: {}", String::from_utf8_lossy(&made.stderr));
        give_to_squid(&store)?;
        let Identity { bump, roots, .. } = &self.identity;
        let text = format!(
            "http_port 127.0.0.1:{port} ssl-bump tls-cert={bump} generate-host-certificates=on \
             dynamic_cert_mem_cache_size=16MB\n\
             sslcrtd_program {CERTIFICATE_HELPER} -s {store} -M 16MB\nsslcrtd_children 2 startup=1\n\
             acl step1 at_step SslBump1\nssl_bump peek step1\nssl_bump bump all\ntls_outgoing_options cafile={roots}\n\
             http_access allow all\naccess_log none\ncache deny all\ncache_log /dev/null\npid_filename none\n\
             max_filedescriptors 16384\nshutdown_lifetime 0 seconds\nvia off\nforwarded_for delete\n\
             host_verify_strict off\npinger_enable off\n",
            bump = bump.display(),
            store = store.display(),
            roots = roots.display(),
        );
        let mut command = Command::new(program("squid")?);
        command.arg("-N").arg("-f").arg(self.write("squid-bump.conf", &text)?);
        Ok(command)
    }

    fn mitmproxy(&self, port: u16) -> Result<Command> {
        let folder = self.folder.join("mitmproxy");
        fs::create_dir_all(&folder)?;
        let mut command = Command::new(mitmproxy::program()?);
        command.args(["--quiet", "--listen-host", "127.0.0.1", "--listen-port", &port.to_string()]);
        let trusted = format!("ssl_verify_upstream_trusted_ca={}", self.identity.roots.display());
        for option in [format!("confdir={}", folder.display()), trusted, "stream_large_bodies=1m".to_owned()] {
            command.args(["--set", &option]);
        }
        Ok(command)
    }

    fn gateway(&self, port: u16) -> Result<Command> {
        let folder = self.folder.join("gateway");
        fs::create_dir_all(&folder)?;
        let mut command = Command::new(&self.own);
        command.args(["tls-gateway", "--listen", &format!("127.0.0.1:{port}"), "--roots"]).arg(&self.identity.roots);
        command
            .arg("--folder")
            .arg(folder)
            .arg("--policy")
            .arg(self.write("policy.yaml", &self.policy(Side::Gateway))?);
        Ok(command)
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        fs::write(&path, text)?;
        Ok(path)
    }
}

/// Started by root, Squid and its helper become the user `proxy`, who must be able to use the store.
fn give_to_squid(store: &Path) -> Result<()> {
    let users = fs::read_to_string("/etc/passwd")?;
    let Some(user) = users.lines().find(|line| line.starts_with("proxy:")) else { return Ok(()) };
    let mut ids = user.split(':').skip(2).map_while(|id| id.parse().ok());
    let (user, group) = (ids.next(), ids.next());
    let mut left = vec![store.to_owned()];
    while let Some(path) = left.pop() {
        // In a user namespace of one user there is no other, and Squid stays who it is.
        if chown(&path, user, group).is_err() {
            return Ok(());
        }
        if path.is_dir() {
            left.extend(fs::read_dir(&path)?.filter_map(|entry| entry.ok().map(|entry| entry.path())));
        }
    }
    Ok(())
}
