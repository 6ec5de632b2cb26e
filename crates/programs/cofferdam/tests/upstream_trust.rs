//! Who is on the other side of opened TLS: servers that are not who they should be, servers that want a certificate,
//! and clients that trust nobody but whom they know.

#[path = "support/fixture.rs"]
mod fixture;
mod support;

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use fixture::{Fixture, TIME};
use network_lab::{DnsName, Output, Place};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};

const POLICY: &str = r#"
apiVersion: cofferdam/v1
kind: EgressPolicy
spec:
  rules:
    - { name: opened, priority: 1, to: { hosts: [web.test, allowed.test] }, action: allow, tls: inspect }
"#;

/// TLS servers at an address of the lab's internet that nobody else has, one port for each certificate. What comes
/// through is printed.
const SERVERS: &str = r#"
import http.server, ssl, sys, threading
folder = sys.argv[1]
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print("reached", self.server.server_port, self.path, flush=True)
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"good\n")
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_):
        pass
for port, name in enumerate(sys.argv[2:], 8001):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate = "good" if name == "mutual" else name
    context.load_cert_chain(f"{folder}/{certificate}.pem", f"{folder}/key.pem")
    if name == "mutual":
        context.load_verify_locations(f"{folder}/ca.pem")
        context.verify_mode = ssl.CERT_REQUIRED
    server = Server(("203.0.113.77", port), Answer)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
"#;

/// The servers and the fault that each is to be told with; the first has none.
const FAULTS: [(&str, &str); 6] = [
    ("good", ""),
    ("expired", "the server's certificate expired on 2020-02-02"),
    ("wrong-name", "the server's certificate is for other.test"),
    ("self-signed", "the server's certificate"),
    ("stranger", "the server's certificate was issued by nobody that this machine or the rule's bundle trusts"),
    ("mutual", "the server wants a client certificate: give the rule a credential with `attach: clientCertificate`"),
];

/// The servers; they end with the lab, or when this is dropped.
struct Servers {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Servers {
    fn start(fixture: &Fixture, folder: &Path) -> Result<Self> {
        let mut command = fixture.lab.namespace(Place::Internet).command("/usr/bin/python3");
        command.args(["-c", SERVERS]).arg(folder).args(FAULTS.map(|(name, _)| name));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let out = BufReader::new(child.stdout.take().context("no output")?);
        let mut servers = Self { child, out };
        ensure!(servers.line()? == "ready\n");
        Ok(servers)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.out.read_line(&mut line)?;
        Ok(line)
    }

    /// Ends them; what they printed that was not read yet.
    fn rest(mut self) -> Result<String> {
        drop(self.child.stdin.take());
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut self.out, &mut rest)?;
        self.child.wait()?;
        Ok(rest)
    }
}

fn authority(name: &str) -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Ok(CertifiedIssuer::self_signed(parameters, KeyPair::generate()?)?)
}

/// Writes what the servers show, and the authority that is trusted.
fn write_certificates(folder: &Path) -> Result<()> {
    let (trusted, stranger, key) = (authority("Ours")?, authority("Nobody's")?, KeyPair::generate()?);
    for (name, _) in FAULTS {
        let host = if name == "wrong-name" { "other.test" } else { "web.test" };
        let mut parameters = CertificateParams::new(vec![host.to_owned()])?;
        parameters.distinguished_name.push(DnType::CommonName, host);
        parameters.use_authority_key_identifier_extension = true;
        if name == "expired" {
            parameters.not_before = date_time_ymd(2020, 1, 1);
            parameters.not_after = date_time_ymd(2020, 2, 2);
        }
        let certificate = match name {
            "self-signed" => parameters.self_signed(&key)?,
            "stranger" => parameters.signed_by(&key, &stranger)?,
            _ => parameters.signed_by(&key, &trusted)?,
        };
        std::fs::write(folder.join(format!("{name}.pem")), certificate.pem())?;
    }
    std::fs::write(folder.join("key.pem"), key.serialize_pem())?;
    std::fs::write(folder.join("stranger-ca.pem"), stranger.pem())?;
    Ok(std::fs::write(folder.join("ca.pem"), trusted.pem())?)
}

fn decided(fixture: &Fixture) -> Result<Vec<serde_json::Value>> {
    let seen = fixture.world.run(&["observe", "-o", "jsonl"])?.expect(0);
    Ok(seen.out.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

fn run(fixture: &Fixture, roots: &Path, flags: &[&str], script: &str) -> Result<Output> {
    let policy = fixture.world.write("../policy.yaml", POLICY)?.to_string_lossy().into_owned();
    let mut command = fixture.command(&[&["run", "--policy", &policy], flags, &["--", "sh", "-c", script]].concat());
    command.env("SSL_CERT_FILE", roots);
    fixture.lab.host().run(command, TIME)
}

#[test]
fn a_server_that_is_not_who_it_should_be_gets_nothing_and_its_fault_is_told() -> Result<()> {
    let fixture = Fixture::new()?;
    let folder = fixture.world.path().join("certificates");
    std::fs::create_dir(&folder)?;
    write_certificates(&folder)?;
    fixture.lab.script_name(Place::Internet, "web.test", DnsName::addresses(&["203.0.113.77"]))?;
    let mut servers = Servers::start(&fixture, &folder)?;
    let script = "for port in 8001 8002 8003 8004 8005 8006; do \
                  curl -sS -H 'X-Own: secret' -w '\\n%{http_code}\\n' https://web.test:$port/$port; done";
    let output = run(&fixture, &folder.join("ca.pem"), &[], script)?;
    ensure!(output.stdout.starts_with("good\n\n200\n"), "{}{}", output.stdout, output.stderr);
    ensure!(output.stdout.matches("\n502\n").count() == 5, "{}{}", output.stdout, output.stderr);
    let events = decided(&fixture)?;
    for (port, (name, fault)) in (8002..).zip(FAULTS.into_iter().skip(1)) {
        ensure!(output.stdout.contains(fault), "{name}: {}", output.stdout);
        let told = events.iter().any(|event| {
            event["destination"]["port"] == port && event["error"].as_str().is_some_and(|error| error.contains(fault))
        });
        ensure!(told, "{name}: {events:#?}");
    }
    ensure!(servers.line()? == "reached 8001 /8001\n");
    let rest = servers.rest()?;
    ensure!(rest.is_empty(), "{rest}");
    ensure!(output.stderr.contains("the server wants a client certificate"), "{}", output.stderr);
    Ok(())
}

#[test]
fn a_client_that_trusts_only_whom_it_knows_fails_clearly() -> Result<()> {
    let fixture = Fixture::new()?;
    let bundle = fixture.lab.certificates().bundle().to_owned();
    // It knows the server's own authority, and so refuses ours: as one that pins a certificate does.
    let mount = format!("{}:/etc/own.pem:ro", bundle.display());
    let script = "curl -sS --cacert /etc/own.pem https://allowed.test/pinned";
    let output = run(&fixture, &bundle, &["--mount", &mount], script)?;
    ensure!(output.status.and_then(|status| status.code()) == Some(60), "{}{}", output.stdout, output.stderr);
    let words = "the client does not trust the certificate of this run for allowed.test";
    let events = decided(&fixture)?;
    let told = events.iter().any(|event| {
        event["error"].as_str().is_some_and(|error| error.contains(words) && error.contains("`tls: passthrough`"))
    });
    ensure!(told, "{events:#?}");
    ensure!(output.stderr.contains(words) && output.stderr.contains("tls: passthrough"), "{}", output.stderr);
    ensure!(!fixture.lab.reached()?.iter().any(|one| one.holds("/pinned")));
    Ok(())
}

/// Two rules for the server of the stranger's, one of them with the stranger's roots.
const BUNDLED: &str = r#"
apiVersion: cofferdam/v1
kind: EgressPolicy
spec:
  rules:
    - { name: bundled, priority: 1, to: { hosts: [web.test] }, action: allow, http: [{ paths: ["/own/**"] }], upstreamCa: roots.pem }
    - { name: others, priority: 2, to: { hosts: [web.test] }, action: allow, tls: inspect }
"#;

#[test]
fn a_server_of_ones_own_is_reached_by_the_rule_with_its_bundle_alone() -> Result<()> {
    let fixture = Fixture::new()?;
    let folder = fixture.world.path().join("certificates");
    std::fs::create_dir(&folder)?;
    write_certificates(&folder)?;
    fixture.lab.script_name(Place::Internet, "web.test", DnsName::addresses(&["203.0.113.77"]))?;
    let mut servers = Servers::start(&fixture, &folder)?;
    // The working directory is the command's to write, the policy and its bundle there are not.
    let policy = fixture.world.write("policy.yaml", BUNDLED)?.to_string_lossy().into_owned();
    std::fs::copy(folder.join("stranger-ca.pem"), fixture.world.work().join("roots.pem"))?;
    let script = "for way in 8005/own/1 8005/other 8001/own/2 8001/other; do \
                  curl -s -o /dev/null -w '%{http_code}\n' https://web.test:$way; done; \
                  echo x > roots.pem || echo held; rm -f roots.pem || echo stays; mv roots.pem r || echo there";
    let mut command = fixture.command(&["run", "--policy", &policy, "--", "sh", "-c", script]);
    command.env("SSL_CERT_FILE", folder.join("ca.pem"));
    let output = fixture.lab.host().run(command, TIME)?;
    ensure!(output.stdout == "200\n502\n502\n200\nheld\nstays\nthere\n", "{}{}", output.stdout, output.stderr);
    ensure!(servers.line()? == "reached 8005 /own/1\n" && servers.line()? == "reached 8001 /other\n");
    let rest = servers.rest()?;
    ensure!(rest.is_empty(), "{rest}");
    Ok(())
}

#[test]
fn a_bundle_that_can_not_be_used_refuses_the_policy() -> Result<()> {
    let fixture = Fixture::new()?;
    let roots = fixture.lab.certificates().bundle().to_owned();
    let bundle = fixture.world.path().join("roots.pem");
    let policy = fixture.world.write("../policy.yaml", BUNDLED)?.to_string_lossy().into_owned();
    let start = || {
        let mut command = fixture.command(&["run", "--policy", &policy, "--", "true"]);
        command.env("SSL_CERT_FILE", &roots);
        fixture.lab.host().run(command, TIME)
    };
    let cases: [(&str, &dyn Fn() -> std::io::Result<()>); 4] = [
        ("No such file", &|| Ok(())),
        ("it is no file", &|| std::fs::create_dir(&bundle)),
        ("no certificate", &|| std::fs::remove_dir(&bundle).and_then(|()| std::fs::write(&bundle, "nothing"))),
        ("roots.pem", &|| std::fs::write(&bundle, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")),
    ];
    for (words, make) in cases {
        make()?;
        let output = start()?;
        ensure!(output.status.and_then(|status| status.code()) == Some(125), "{words}: {}", output.stderr);
        let told = output.stderr.contains(words) && output.stderr.contains("rule bundled");
        ensure!(told && output.stderr.contains("roots.pem"), "{words}: {}", output.stderr);
    }
    Ok(())
}

#[test]
fn a_live_run_looks_for_bundles_where_it_began_and_takes_none_that_its_command_wrote() -> Result<()> {
    let fixture = Fixture::new()?;
    let roots = fixture.lab.certificates().bundle().to_owned();
    let policy = fixture.world.write("../policy.yaml", POLICY)?.to_string_lossy().into_owned();
    std::fs::copy(&roots, fixture.world.path().join("roots.pem"))?;
    let mut command = fixture.command(&[
        "run",
        "--quiet",
        "--policy",
        &policy,
        "--",
        "sh",
        "-c",
        "cp /etc/ssl/certs/ca-certificates.crt mine.pem; echo ready; read -r line",
    ]);
    command.env("SSL_CERT_FILE", &roots).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let mut out = BufReader::new(child.stdout.take().context("no output")?);
    let mut line = String::new();
    out.read_line(&mut line)?;
    ensure!(line == "ready\n");
    std::fs::create_dir(fixture.world.path().join("elsewhere"))?;
    let mine = BUNDLED.replace("roots.pem", "work/mine.pem");
    let whole = BUNDLED.replace("roots.pem", &roots.to_string_lossy());
    let cases = [
        ("../elsewhere/next.yaml", BUNDLED, Some("bundles are looked for from ")),
        ("../elsewhere/next.yaml", &whole, None),
        ("../next.yaml", &mine, Some("the sandboxed command can write it")),
        ("../next.yaml", BUNDLED, None),
    ];
    for (name, text, words) in cases {
        let path = std::fs::canonicalize(fixture.world.write(name, text)?)?;
        let output = fixture.run(&["policy", "apply", &path.to_string_lossy()])?;
        let code = output.status.and_then(|status| status.code());
        ensure!(code == Some(if words.is_some() { 7 } else { 0 }), "{name}: {}", output.stderr);
        ensure!(words.is_none_or(|words| output.stderr.contains(words)), "{name}: {}", output.stderr);
    }
    drop(child.stdin.take());
    child.wait()?;
    Ok(())
}
