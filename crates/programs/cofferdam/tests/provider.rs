//! Credentials of a provider from end to end: minted for the run, revoked at its end, kept through a refused policy.

#[path = "support/fixture.rs"]
mod fixture;
mod support;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdout, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use fixture::Fixture;
use network_lab::Reached;

const POLICY: &str = r#"
apiVersion: cofferdam/v1
kind: EgressPolicy
spec:
  rules:
    - { name: api, priority: 1, to: { hosts: [allowed.test] }, ports: [443], action: allow, credential: api }
  credentials:
    api:
      from: { oauth: { tokenUrl: "http://127.0.0.1:PORT/token", clientId: agent, clientSecret: { env: LAB_SECRET }, revocationUrl: "http://127.0.0.1:PORT/REVOKE" } }
      attach: bearer
      bind: { hosts: [allowed.test] }
"#;

/// Mints tokens, and prints what it is asked.
const PROVIDER: &str = r#"
import http.server, itertools, json, sys, threading
minted = itertools.count(1)
class Answer(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
        print(self.path, asked, flush=True)
        answer = {}
        if self.path == "/token":
            answer = {"access_token": f"minted-{next(minted)}", "token_type": "Bearer", "expires_in": 3600}
        body = json.dumps(answer).encode()
        self.send_response(403 if self.path == "/broken" else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
print(server.server_port, flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
"#;

/// A provider on the loopback of the lab's host; it ends with the lab, or when this is dropped.
struct Provider {
    child: Child,
    out: BufReader<ChildStdout>,
    port: String,
}

impl Provider {
    fn start(fixture: &Fixture) -> Result<Self> {
        let mut command = fixture.lab.host().command("/usr/bin/python3");
        command.args(["-c", PROVIDER]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let out = BufReader::new(child.stdout.take().context("no output")?);
        let mut provider = Self { child, out, port: String::new() };
        provider.port = provider.line()?;
        Ok(provider)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.out.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    fn policy(&self, revoke: &str) -> String {
        POLICY.replace("PORT", &self.port).replace("REVOKE", revoke)
    }

    /// Ends it; what it was asked and was not read yet.
    fn rest(mut self) -> Result<String> {
        drop(self.child.stdin.take());
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut self.out, &mut rest)?;
        self.child.wait()?;
        Ok(rest)
    }
}

fn command(fixture: &Fixture, policy: &str, script: &str) -> Result<std::process::Command> {
    let policy = fixture.world.write("../policy.yaml", policy)?.to_string_lossy().into_owned();
    let mut command = fixture.command(&["run", "--policy", &policy, "--", "sh", "-c", script]);
    command.env("LAB_SECRET", "client-secret-1").env("LAB_OTHER", "canary-5a0cd7e1");
    Ok(command)
}

fn holders(reached: &[Reached], text: &str) -> usize {
    reached.iter().filter(|one| one.holds(text)).count()
}

#[test]
fn what_was_minted_for_a_run_is_revoked_at_its_end() -> Result<()> {
    let fixture = Fixture::new()?;
    for (revoke, script, code) in [
        ("revoke", "curl -sS https://allowed.test/one; exit 3", 3),
        ("broken", "curl -sS https://allowed.test/two", 0),
        ("revoke", "curl -sS https://allowed.test/three; kill -9 $$", 137),
    ] {
        let mut provider = Provider::start(&fixture)?;
        let output = fixture.lab.host().run(command(&fixture, &provider.policy(revoke), script)?, fixture::TIME)?;
        ensure!(output.status.and_then(|status| status.code()) == Some(code), "{}{}", output.stdout, output.stderr);
        let minted = provider.line()?;
        ensure!(minted.starts_with("/token ") && minted.contains("client_credentials"), "{minted}");
        let revoked = provider.line()?;
        ensure!(revoked.starts_with(&format!("/{revoke} ")) && revoked.contains("token=minted-1"), "{revoked}");
        let told = output.stderr.contains("credential `api` is not revoked");
        ensure!(told == (revoke == "broken") && !output.stderr.contains("minted-1"), "{}", output.stderr);
        ensure!(holders(&fixture.lab.reached()?, "bearer minted-1") == 1);
        let seen = fixture.world.run(&["observe", "-o", "jsonl"])?.expect(0);
        ensure!(seen.out.contains("credential.used") && !seen.out.contains("minted-1"), "{}", seen.out);
        let rest = provider.rest()?;
        ensure!(rest.is_empty(), "{rest}");
    }
    Ok(())
}

#[test]
fn a_refused_policy_leaves_the_credentials_as_they_were() -> Result<()> {
    let fixture = Fixture::new()?;
    let mut provider = Provider::start(&fixture)?;
    let policy = provider.policy("revoke");
    let script =
        "for way in one two three; do curl -sS -o body https://allowed.test/$way; echo $way; read -r line; done; true";
    let mut command = command(&fixture, &policy, script)?;
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut out = BufReader::new(child.stdout.take().context("no output")?);
    let mut into = child.stdin.take().context("no input")?;
    let mut line = String::new();
    out.read_line(&mut line)?;
    // Its credential is another, and good; its bundle is found to be none when the credentials were taken over.
    let from = policy.lines().find(|line| line.contains("from:")).context("a source")?;
    let other = policy.replace(from, "      from: { env: LAB_OTHER }");
    let refused = other.replace("credential: api }", "credential: api, upstreamCa: none.pem }");
    fixture.world.write("../none.pem", "none")?;
    for (text, code) in [(&refused, 7), (&other, 0)] {
        let next = fixture.world.write("../next.yaml", text)?;
        let output = fixture.run(&["policy", "apply", &next.to_string_lossy()])?;
        ensure!(output.status.and_then(|status| status.code()) == Some(code), "{}", output.stderr);
        ensure!(output.stderr.contains("none.pem") == (code == 7), "{}", output.stderr);
        into.write_all(b"go\n")?;
        line.clear();
        out.read_line(&mut line)?;
        let reached = fixture.lab.reached()?;
        let held = (holders(&reached, "bearer minted-"), holders(&reached, "bearer canary-5a0cd7e1"));
        ensure!(held == if code == 7 { (2, 0) } else { (0, 1) }, "{held:?}");
    }
    drop(into);
    ensure!(child.wait()?.success());
    let mut minted = 0;
    loop {
        let asked = provider.line()?;
        if asked.starts_with("/revoke ") {
            ensure!(asked.contains("token=minted-"), "{asked}");
            minted -= 1;
        } else {
            minted += 1;
        }
        if minted == 0 {
            break;
        }
    }
    Ok(())
}
