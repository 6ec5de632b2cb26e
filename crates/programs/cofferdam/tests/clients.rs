//! Ordinary clients take the certificates of opened TLS as they come, with nothing of theirs changed: each that is
//! installed here sends a request through a policy that looks inside. One that is not installed is named and left out.

#[path = "support/fixture.rs"]
#[expect(dead_code, reason = "these tests choose the environment of each run")]
mod fixture;
mod support;

use std::{path::Path, process::Stdio, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use fixture::{Fixture, TIME};

const POLICY: &str = r#"
apiVersion: cofferdam/v1
kind: EgressPolicy
spec:
  rules:
    - { name: opened, priority: 1, to: { hosts: [allowed.test, git.test] }, ports: [443], action: allow, tls: inspect }
"#;
/// What every caller has; a client that reads no variable sees the system's own bundle.
const BARE: [&str; 2] = ["env", "-i"];
const PYTHON: &str = "/usr/bin/python3";

/// One client.
#[derive(Default)]
struct Client<'a> {
    name: &'a str,
    /// Ends well where it is installed.
    installed: &'a [&'a str],
    flags: &'a [&'a str],
    command: &'a [&'a str],
    /// The path that it asks for. What it makes of the lab's answer is its own affair.
    path: &'a str,
}

impl Client<'_> {
    fn is_installed(&self) -> bool {
        let Some((program, arguments)) = self.installed.split_first() else { return true };
        let mut command = std::process::Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    fn check(&self) -> Result<()> {
        if self.is_installed() {
            return self.ask(&Fixture::new()?);
        }
        eprintln!("{} is not installed: left out", self.name);
        Ok(())
    }

    fn ask(&self, fixture: &Fixture) -> Result<()> {
        let policy = fixture.world.write("../policy.yaml", POLICY)?.to_string_lossy().into_owned();
        let arguments = [&["run", "--policy", &policy], self.flags, &["--"], self.command].concat();
        let mut command = fixture.command(&arguments);
        // Only what says whom the gateway trusts: the caller's other variables would lead clients to bundles of theirs.
        for (name, _) in network_lab::Certificates::environment(Path::new("")) {
            if name != "SSL_CERT_FILE" {
                command.env_remove(name);
            }
        }
        let output = fixture.lab.host().run(command, TIME)?;
        let seen = fixture.world.run(&["observe", "--type", "flow.decided", "-o", "jsonl"])?.expect(0);
        let events: Vec<serde_json::Value> = seen.out.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let is = |event: &serde_json::Value, at: &str, text: &str| event.pointer(at).is_some_and(|value| value == text);
        let asked = events.iter().any(|event| {
            is(event, "/tls/mode", "inspect") && is(event, "/verdict", "allowed") && is(event, "/http/path", self.path)
        });
        ensure!(asked, "{}: {}{}\n{}", self.name, output.stdout, output.stderr, seen.out);
        let reached = fixture.lab.reached()?;
        ensure!(reached.iter().any(|one| one.holds(self.path)), "{}: {}{}", self.name, output.stdout, output.stderr);
        Ok(())
    }
}

#[test]
fn curl() -> Result<()> {
    let command = &["curl", "-sS", "https://allowed.test/curl"];
    let client = Client { name: "curl", command, path: "/curl", ..Client::default() };
    client.check()?;
    Client { command: &[&BARE[..], command].concat(), ..client }.check()
}

#[test]
fn wget_with_gnutls_reads_the_systems_bundle_alone() -> Result<()> {
    let command = &["wget", "-q", "-O-", "https://allowed.test/wget"];
    let client = Client { name: "wget", command, path: "/wget", ..Client::default() };
    client.check()?;
    Client { command: &[&BARE[..], command].concat(), ..client }.check()
}

#[test]
fn openssl() -> Result<()> {
    let script = "printf 'GET /openssl HTTP/1.1\\r\\nHost: allowed.test\\r\\nConnection: close\\r\\n\\r\\n' | \
                  openssl s_client -quiet -verify_return_error -connect allowed.test:443 -servername allowed.test";
    let command = &["sh", "-c", script];
    Client { name: "openssl", command, path: "/openssl", ..Client::default() }.check()
}

#[test]
fn git() -> Result<()> {
    let fixture = Fixture::new()?;
    let bare = fixture.lab.folder().join("git/some.git");
    let made = std::process::Command::new("git").args(["init", "-q", "--bare"]).arg(&bare).status()?;
    ensure!(made.success(), "git init");
    let command = &["git", "ls-remote", "https://git.test/git/some.git"];
    Client { name: "git", command, path: "/git/some.git/info/refs", ..Client::default() }.ask(&fixture)
}

/// A Python program that imports a module.
fn python(module: &str, script: &str, path: &str) -> Result<()> {
    let installed = format!("import {module}");
    let (installed, command) = ([PYTHON, "-c", &installed], [PYTHON, "-c", script]);
    Client { name: module, installed: &installed, command: &command, path, ..Client::default() }.check()
}

#[test]
fn python_urllib() -> Result<()> {
    python("urllib.request", "import urllib.request as u; u.urlopen('https://allowed.test/urllib')", "/urllib")
}

#[test]
fn python_requests_and_what_is_built_on_it_such_as_the_azure_cli() -> Result<()> {
    python("requests", "import requests; requests.get('https://allowed.test/requests')", "/requests")
}

#[test]
fn python_httpx() -> Result<()> {
    python("httpx", "import httpx; httpx.get('https://allowed.test/httpx')", "/httpx")
}

#[test]
fn python_urllib3() -> Result<()> {
    python(
        "urllib3",
        "import urllib3; urllib3.PoolManager().request('GET', 'https://allowed.test/urllib3')",
        "/urllib3",
    )
}

#[test]
fn pip() -> Result<()> {
    let index = ["--retries", "0", "--no-deps", "--index-url", "https://allowed.test/simple", "lab-hello"];
    let command =
        [&[PYTHON, "-m", "pip", "download", "--disable-pip-version-check", "-d", "/tmp/x"], &index[..]].concat();
    let installed = &[PYTHON, "-m", "pip", "--version"];
    Client { name: "pip", installed, command: &command, path: "/simple/lab-hello/", ..Client::default() }.check()
}

#[test]
fn node() -> Result<()> {
    let installed = &["node", "--version"];
    let script = "require('https').get('https://allowed.test/https', answer => answer.resume())";
    let command = &["node", "-e", script];
    Client { name: "node", installed, command, path: "/https", ..Client::default() }.check()?;
    let command = &["node", "-e", "fetch('https://allowed.test/fetch')"];
    // Before version 18 there is no `fetch`.
    let installed = &["node", "-e", "process.exit(typeof fetch === 'function' ? 0 : 1)"];
    Client { name: "node's fetch", installed, command, path: "/fetch", ..Client::default() }.check()
}

#[test]
fn npm() -> Result<()> {
    let installed = &["npm", "--version"];
    let flags = &["--program-preset", "none"];
    let registry = ["--registry", "https://allowed.test/npm/", "--fetch-retries", "0"];
    let command = [&["npm", "install", "lab-hello"], &registry[..]].concat();
    Client { name: "npm", installed, flags, command: &command, path: "/npm/lab-hello" }.check()
}

#[test]
fn deno() -> Result<()> {
    let (installed, command) = (&["deno", "--version"], &["deno", "eval", "await fetch('https://allowed.test/deno')"]);
    Client { name: "deno", installed, command, path: "/deno", ..Client::default() }.check()
}

#[test]
fn bun() -> Result<()> {
    let (installed, command) = (&["bun", "--version"], &["bun", "-e", "await fetch('https://allowed.test/bun')"]);
    Client { name: "bun", installed, command, path: "/bun", ..Client::default() }.check()
}

#[test]
fn go() -> Result<()> {
    // The tool itself is such a client, and needs no building.
    let proxy = ["GOPROXY=https://allowed.test/go", "GONOSUMDB=*", "GOFLAGS=-mod=mod", "GOTOOLCHAIN=local"];
    let caches = ["GOPATH=/tmp/path", "GOCACHE=/tmp/cache"];
    let command = [&["env"], &proxy[..], &caches, &["go", "list", "-m", "allowed.test/x@latest"]].concat();
    let installed = &["go", "version"];
    Client { name: "go", installed, command: &command, path: "/go/allowed.test/x/@v/list", ..Client::default() }.check()
}

#[test]
fn cargo() -> Result<()> {
    let cargo = std::env::var("CARGO").context("run by cargo")?;
    let toolchain = Path::new(&cargo).ancestors().nth(2).context("cargo's folder")?.display().to_string();
    let mount = format!("{toolchain}:{toolchain}:ro");
    let flags = &["--program-preset", "none", "--mount", &mount, "--env", "CARGO_HOME=/tmp/cargo"];
    let command = &[&cargo, "search", "lab-hello", "--index", "sparse+https://allowed.test/index/"];
    Client { name: "cargo", flags, command, path: "/index/config.json", ..Client::default() }.check()
}

/// What runs inside for the next test: rustls with the roots of rustls-native-certs.
#[test]
fn rustls_inside() -> Result<()> {
    let Ok(path) = std::env::var("COFFERDAM_TEST_ASK") else { return Ok(()) };
    let roots = certificates::UpstreamRoots::system()?;
    let resumption = rustls::client::Resumption::disabled();
    let config = roots.client_config(certificates::Protocols::Http1, None, resumption)?.config();
    let mut connection = rustls::ClientConnection::new(Arc::clone(&config), "allowed.test".try_into()?)?;
    let mut stream = std::net::TcpStream::connect("allowed.test:443")?;
    let mut stream = rustls::Stream::new(&mut connection, &mut stream);
    std::io::Write::write_all(&mut stream, format!("GET {path} HTTP/1.1\r\nHost: allowed.test\r\n\r\n").as_bytes())?;
    ensure!(std::io::Read::read(&mut stream, &mut [0; 100])? > 0, "no answer");
    Ok(())
}

#[test]
fn rustls_with_native_certificates() -> Result<()> {
    let own = std::env::current_exe()?;
    let folder = own.parent().context("a folder")?.display();
    let mount = format!("{folder}:{folder}:ro");
    let flags = &["--program-preset", "none", "--mount", &mount, "--env", "COFFERDAM_TEST_ASK=/rustls"];
    let own = own.to_string_lossy().into_owned();
    let command = &[&*own, "--exact", "rustls_inside", "--nocapture"];
    Client { name: "rustls", flags, command, path: "/rustls", ..Client::default() }.check()
}

#[test]
fn java() -> Result<()> {
    const SOURCE: &str = "public class Client { public static void main(String[] given) throws Exception {\n\
        new java.net.URL(\"https://allowed.test/java\").openStream().readAllBytes(); } }\n";
    let fixture = Fixture::new()?;
    fixture.world.write("Client.java", SOURCE)?;
    // One file of source, which it compiles in memory: that takes a JDK.
    let (installed, command) = (&["javac", "-version"], &["/usr/bin/java", "Client.java"]);
    let client = Client { name: "java", installed, command, path: "/java", ..Client::default() };
    if !client.is_installed() {
        return client.check();
    }
    client.ask(&fixture)?;
    // Debian's own store is covered as well.
    if Path::new("/etc/ssl/certs/java/cacerts").exists() {
        return Client { command: &[&BARE[..], command].concat(), ..client }.ask(&fixture);
    }
    Ok(())
}

#[test]
fn ruby() -> Result<()> {
    let installed = &["ruby", "--version"];
    let command = &["ruby", "-ropen-uri", "-e", "URI.open('https://allowed.test/ruby').read"];
    Client { name: "ruby", installed, command, path: "/ruby", ..Client::default() }.check()
}

#[test]
fn aws_cli() -> Result<()> {
    let flags = &["--env", "AWS_MAX_ATTEMPTS=1"];
    let bucket = ["s3api", "head-object", "--bucket", "b", "--key", "aws"];
    let address = ["--endpoint-url", "https://allowed.test", "--no-sign-request", "--region", "lab-1"];
    let command = [&["aws"], &bucket[..], &address].concat();
    let (installed, command) = (&["aws", "--version"], &command);
    Client { name: "aws", installed, flags, command, path: "/b/aws" }.check()
}
