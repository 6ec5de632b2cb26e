//! Ordinary clients that are installed here take what we sign with nothing but the variables of [`trust`], and hold an
//! issuer's scope. A client that is not installed is named and left out.

#[path = "../../tests/support/mod.rs"]
#[expect(dead_code, reason = "the handshakes use the rest")]
mod support;

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::SystemTime,
};

use anyhow::{Context as _, Result, ensure};
use policy::{HostPattern, Target};
use support::{Served, serve};

use super::{Issuer, Scope};
use crate::{Authority, Leaves, Protocols, UpstreamRoots, trust};

const HOST: &str = "api.example.com";
const OUTSIDE: &str = "elsewhere.example.org";
const ADDRESS: &str = "127.0.0.1";

/// How a client is started.
type Start = fn(folder: &Path, host: &str, port: u16) -> Command;

/// A program that connects to `127.0.0.1:port`, wants `host` there, and ends well only after a whole answer.
struct Client {
    name: &'static str,
    command: Start,
    /// Whether it holds the names of an anchor too; all hold those of a certificate between.
    holds_anchors_names: bool,
    /// What it can be told to want at an address that we choose.
    wants: &'static [&'static str],
}

const ALL: &[&str] = &[HOST, OUTSIDE, ADDRESS];

const CLIENTS: [Client; 7] = [
    Client { name: "openssl", command: openssl, holds_anchors_names: true, wants: ALL },
    Client { name: "curl", command: curl, holds_anchors_names: true, wants: ALL },
    Client { name: "python3", command: python, holds_anchors_names: true, wants: ALL },
    Client { name: "node", command: node, holds_anchors_names: true, wants: ALL },
    Client { name: "go", command: go, holds_anchors_names: true, wants: ALL },
    Client { name: "java", command: java, holds_anchors_names: false, wants: ALL },
    Client { name: "wget", command: wget, holds_anchors_names: true, wants: &[ADDRESS] },
];

fn openssl(_: &Path, host: &str, port: u16) -> Command {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-brief", "-x509_strict", "-verify_return_error"]);
    match host.parse::<IpAddr>() {
        Ok(_) => command.args(["-verify_ip", host]),
        Err(_) => command.args(["-verify_hostname", host, "-servername", host]),
    };
    command.args(["-connect", &format!("127.0.0.1:{port}")]);
    command
}

fn curl(_: &Path, host: &str, port: u16) -> Command {
    let mut command = Command::new("curl");
    command.args(["-sS", "--fail", "--noproxy", "*", "--max-time", "20"]);
    command.args(["--resolve", &format!("{host}:{port}:127.0.0.1"), &format!("https://{host}:{port}/")]);
    command
}

fn python(_: &Path, host: &str, port: u16) -> Command {
    const SCRIPT: &str = "import socket, ssl, sys\n\
        context = ssl.create_default_context()\n\
        context.verify_flags |= ssl.VERIFY_X509_STRICT\n\
        with context.wrap_socket(socket.create_connection(('127.0.0.1', int(sys.argv[2])), 20), server_hostname=sys.argv[1]) as s:\n\
        \x20   s.sendall(b'GET / HTTP/1.1\\r\\n\\r\\n'); assert b'200' in s.recv(100)\n";
    let mut command = Command::new("python3");
    command.args(["-c", SCRIPT, host, &port.to_string()]);
    command
}

fn node(_: &Path, host: &str, port: u16) -> Command {
    const SCRIPT: &str = "const [host, port] = process.argv.slice(1);\
        require('https').get({ host: '127.0.0.1', servername: require('net').isIP(host) ? '' : host, port, timeout: 20000, checkServerIdentity: (_, c) => \
        require('tls').checkServerIdentity(host, c) }, r => r.resume().on('end', () => process.exit(0)))\
        .on('error', e => { console.error(e.message); process.exit(1); });";
    let mut command = Command::new("node");
    command.args(["-e", SCRIPT, host, &port.to_string()]);
    command
}

/// With the bundle named: where it is built with GnuTLS it reads the system's file alone.
fn wget(folder: &Path, host: &str, port: u16) -> Command {
    let mut command = Command::new("wget");
    command.args(["-q", "-O-", "--no-proxy", "--timeout=20", "--tries=1", "--ca-certificate"]);
    command.arg(folder.join("bundle.pem")).arg(format!("https://{host}:{port}/"));
    command
}

fn go(folder: &Path, host: &str, port: u16) -> Command {
    let mut command = Command::new(folder.join("go-client"));
    command.args([host, &port.to_string()]);
    command
}

fn java(folder: &Path, host: &str, port: u16) -> Command {
    let mut command = Command::new("java");
    command.arg("-cp").arg(folder).args(["Client", host, &port.to_string()]);
    command
}

const GO: &str = r#"package main
import ("crypto/tls"; "os")
func main() {
	c, err := tls.Dial("tcp", "127.0.0.1:"+os.Args[2], &tls.Config{ServerName: os.Args[1]})
	if err != nil { println(err.Error()); os.Exit(1) }
	c.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
	if n, _ := c.Read(make([]byte, 100)); n == 0 { os.Exit(1) }
}
"#;

const JAVA: &str = r#"import javax.net.ssl.*;
public class Client {
    public static void main(String[] given) throws Exception {
        var plain = new java.net.Socket("127.0.0.1", Integer.parseInt(given[1]));
        plain.setSoTimeout(20000);
        var factory = (SSLSocketFactory) SSLSocketFactory.getDefault();
        var socket = (SSLSocket) factory.createSocket(plain, given[0], Integer.parseInt(given[1]), true);
        var parameters = socket.getSSLParameters();
        parameters.setEndpointIdentificationAlgorithm("HTTPS");
        socket.setSSLParameters(parameters);
        socket.getOutputStream().write("GET / HTTP/1.1\r\n\r\n".getBytes());
        if (socket.getInputStream().read() < 0) System.exit(1);
    }
}
"#;

fn installed(client: &Client, folder: &Path) -> bool {
    let quiet = |mut command: Command| {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let mut command = Command::new(client.name);
    match client.name {
        "go" => {
            let source = folder.join("client.go");
            if fs::write(&source, GO).is_err() {
                return false;
            }
            command.args(["build", "-o"]).arg(folder.join("go-client")).arg(source);
            command.env("GOCACHE", folder.join("go-cache")).env("GO111MODULE", "off").env("GOPROXY", "off");
        }
        "java" => {
            if fs::write(folder.join("Client.java"), JAVA).is_err() {
                return false;
            }
            command = Command::new("javac");
            command.arg("-d").arg(folder).arg(folder.join("Client.java"));
        }
        "openssl" => drop(command.arg("version")),
        _ => drop(command.arg("--version")),
    }
    quiet(command)
}

/// Runs a client with the path, a home, and the variables that a sandbox gets; nothing else.
fn run(client: &Client, folder: &Path, files: &trust::Files, host: &str, port: u16) -> Result<Output> {
    let mut command = (client.command)(folder, host, port);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", folder);
    command.envs(trust::environment(files, None)).stdin(Stdio::null());
    command.output().with_context(|| format!("run {}", client.name))
}

fn write_files(folder: &Path, issuer: &Issuer) -> Result<trust::Files> {
    let system = UpstreamRoots::system().map(|roots| roots.certificates().to_vec()).unwrap_or_default();
    let path = |name: &str| -> PathBuf { folder.join(name) };
    let files = trust::Files { bundle: path("bundle.pem"), anchors: path("ours.pem"), java: path("java.jks") };
    fs::write(&files.bundle, trust::bundle(&system, issuer.anchors()))?;
    fs::write(&files.anchors, trust::pem(issuer.anchors()))?;
    fs::write(&files.java, trust::java_store(system.iter().chain(issuer.anchors())))?;
    Ok(files)
}

fn issuers(folder: &Path) -> Result<Vec<(&'static str, Issuer)>> {
    let now = SystemTime::now();
    let authority = Authority::open_or_create(&folder.join("authority"), now)?;
    let bounded = Scope::of(&[HostPattern::parse(HOST)?]);
    Ok(vec![
        ("its own, any name", Issuer::for_run(Scope::Any, now)?),
        ("its own, one name", Issuer::for_run(bounded.clone(), now)?),
        ("the installation's, any name", authority.issuer(Scope::Any, now)?),
        ("the installation's, one name", authority.issuer(bounded, now)?),
    ])
}

fn each_client(only: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let client = CLIENTS.iter().find(|client| client.name == only).context("no such client")?;
    if !installed(client, folder.path()) {
        eprintln!("{only} is not installed: left out");
        return Ok(());
    }
    for (which, mut issuer) in issuers(folder.path())? {
        let files = write_files(folder.path(), &issuer)?;
        let own = issuer.chain.is_empty();
        // What its certificate says stays: only our own check is off, so that the client's is seen.
        let scope = std::mem::replace(&mut issuer.scope, Scope::Any);
        let leaves = Leaves::new(issuer, 4)?;
        for host in client.wants {
            let target = Target::parse(host)?;
            let Served { at, .. } = serve(leaves.server_config(&target, Protocols::Http1, SystemTime::now())?)?;
            let output = run(client, folder.path(), &files, host, at.port())?;
            let refused = !scope.holds(&target) && (client.holds_anchors_names || !own);
            ensure!(output.status.success() != refused, "{only}, signed by {which}, for {host}: {output:?}");
            if *host == HOST && scope == Scope::Any {
                let stranger = run(client, folder.path(), &files, OUTSIDE, at.port())?;
                ensure!(!stranger.status.success(), "{only} took {host} for {OUTSIDE}");
            }
        }
    }
    Ok(())
}

#[test]
fn openssl_takes_it_and_holds_the_scope() -> Result<()> {
    each_client("openssl")
}

#[test]
fn curl_takes_it_and_holds_the_scope() -> Result<()> {
    each_client("curl")
}

#[test]
fn python_takes_it_and_holds_the_scope() -> Result<()> {
    each_client("python3")
}

#[test]
fn node_takes_it_and_holds_the_scope() -> Result<()> {
    each_client("node")
}

#[test]
fn go_takes_it_and_holds_the_scope() -> Result<()> {
    each_client("go")
}

#[test]
fn java_takes_it_and_holds_the_scope_of_what_is_not_an_anchor() -> Result<()> {
    each_client("java")
}

#[test]
fn wget_takes_it_and_holds_the_scope() -> Result<()> {
    each_client("wget")
}

#[test]
fn keytool_reads_the_java_store() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let files = write_files(folder.path(), &Issuer::for_run(Scope::Any, SystemTime::now())?)?;
    let list = Command::new("keytool")
        .args(["-list", "-storepass", trust::JAVA_PASSWORD, "-keystore"])
        .arg(&files.java)
        .output();
    let Ok(list) = list else {
        eprintln!("keytool is not installed: left out");
        return Ok(());
    };
    ensure!(list.status.success() && String::from_utf8_lossy(&list.stdout).contains("cofferdam-0001"), "{list:?}");
    Ok(())
}

#[test]
fn our_own_client_holds_the_scope() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for (which, mut issuer) in issuers(folder.path())? {
        let files = write_files(folder.path(), &issuer)?;
        let scope = std::mem::replace(&mut issuer.scope, Scope::Any);
        let leaves = Leaves::new(issuer, 4)?;
        let resumption = rustls::client::Resumption::disabled();
        let client = UpstreamRoots::from_bundle(&files.anchors)?.client_config(Protocols::Http1, None, resumption)?;
        for host in ALL {
            let target = Target::parse(host)?;
            let Served { at, .. } = serve(leaves.server_config(&target, Protocols::Http1, SystemTime::now())?)?;
            ensure!(support::ask(at, host, client.config()).is_ok() == scope.holds(&target), "{which}, {host}");
        }
    }
    Ok(())
}
