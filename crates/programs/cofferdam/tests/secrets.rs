//! Credentials from end to end: attached outside, where they are bound; nothing of them inside.

#[path = "support/fixture.rs"]
mod fixture;
mod support;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::Stdio,
};

use anyhow::{Context as _, Result, ensure};
use fixture::{Fixture, TIME};
use network_lab::{Output, Reached};

const SECRET: &str = "canary-8f2e71c4d09b";

/// A token for one host, from the caller's environment; another host without.
const POLICY: &str = r#"
apiVersion: cofferdam/v1
kind: EgressPolicy
spec:
  rules:
    - { name: api, priority: 1, to: { hosts: [allowed.test] }, ports: [443], action: allow, credential: api }
    - { name: repository, priority: 2, to: { hosts: [second.test] }, ports: [443], action: allow, credential: repository }
    - { name: elsewhere, priority: 3, to: { hosts: [denied.test] }, ports: [443], action: allow }
  credentials:
    api: { from: { env: LAB_TOKEN }, attach: bearer, bind: { hosts: [allowed.test], methods: [GET] } }
    repository:
      from: { env: LAB_TOKEN }
      attach: { placeholder: { headers: [authorization] } }
      bind: { hosts: [second.test] }
      expose: { env: GITHUB_TOKEN, format: github }
"#;

fn command(fixture: &Fixture, policy: &str, flags: &[&str], script: &str) -> Result<std::process::Command> {
    let policy = fixture.world.write("../policy.yaml", policy)?.to_string_lossy().into_owned();
    let arguments = [&["run", "--policy", &policy], flags, &["--", "sh", "-c", script]].concat();
    let mut command = fixture.command(&arguments);
    command.env("LAB_TOKEN", SECRET).env("LAB_COPY", SECRET);
    Ok(command)
}

fn run(fixture: &Fixture, policy: &str, flags: &[&str], script: &str) -> Result<Output> {
    fixture.lab.host().run(command(fixture, policy, flags, script)?, TIME)
}

/// Applies a policy to the live run, from where that was started.
fn apply(fixture: &Fixture, policy: &str) -> Result<Output> {
    let policy = fixture.world.write("../next.yaml", policy)?.to_string_lossy().into_owned();
    fixture.run(&["policy", "apply", &policy])
}

fn held_by<'a>(reached: &'a [Reached], server: &str, text: &str) -> Vec<&'a Reached> {
    reached.iter().filter(|one| one.server == server && one.holds(text)).collect()
}

#[test]
fn a_secret_is_attached_outside_and_nowhere_inside() -> Result<()> {
    let fixture = Fixture::new()?;
    let script = "env; tr '\\0' '\\n' < /proc/self/environ; \
                  curl -sS https://allowed.test/attached; \
                  curl -sS -H \"Authorization: token $GITHUB_TOKEN\" https://second.test/swapped; \
                  curl -sS -H \"Authorization: token $GITHUB_TOKEN\" https://denied.test/bare; \
                  curl -sS -d x https://allowed.test/not-bound; \
                  grep -rs canary-8f2e /proc/*/environ /proc/*/cmdline /etc /tmp /run /var . && echo found";
    let output = run(&fixture, POLICY, &[], script)?;
    // The script names it only in part.
    ensure!(!output.stdout.contains(SECRET) && !output.stderr.contains(SECRET), "{}{}", output.stdout, output.stderr);
    ensure!(output.stdout.contains("GITHUB_TOKEN=ghp_"), "{}{}", output.stdout, output.stderr);
    ensure!(output.stderr.contains("the gateway puts the secrets in: GITHUB_TOKEN"), "{}", output.stderr);
    let reached = fixture.lab.reached()?;
    ensure!(!held_by(&reached, "allowed", &format!("bearer {SECRET}")).is_empty(), "{reached:#?}");
    ensure!(!held_by(&reached, "second", &format!("token {SECRET}")).is_empty(), "{reached:#?}");
    ensure!(held_by(&reached, "denied", SECRET).is_empty() && held_by(&reached, "allowed", "/not-bound").is_empty());
    ensure!(!held_by(&reached, "denied", "ghp_").is_empty(), "elsewhere it is only a placeholder: {reached:#?}");
    let seen = fixture.world.run(&["observe", "-o", "jsonl"])?.expect(0);
    ensure!(!seen.out.contains(SECRET), "{}", seen.out);
    let events: Vec<serde_json::Value> = seen.out.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let used = events.iter().filter(|event| event["event"] == "credential.used").count();
    ensure!(used == 2, "{used}: {}", seen.out);
    fixture.world.run(&["audit", "verify"])?.expect(0);
    Ok(())
}

#[test]
fn what_a_credential_is_read_from_is_never_passed_on() -> Result<()> {
    let fixture = Fixture::new()?;
    for flag in ["LAB_TOKEN", "LAB_COPY", &format!("OTHER={SECRET}"), &format!("AUTH=Bearer {SECRET}")] {
        let output = run(&fixture, POLICY, &["--env", flag], "env")?;
        ensure!(output.status.and_then(|status| status.code()) == Some(125), "{flag}: {}", output.stderr);
        let words = "the credential api is read from LAB_TOKEN, which never enters the sandbox";
        ensure!(output.stderr.contains(words) && !output.stderr.contains(SECRET), "{}", output.stderr);
    }
    let output = run(&fixture, POLICY, &["--env", "LAB_TOKEN=none", "--env", "GITHUB_TOKEN=mine"], "env")?;
    ensure!(output.stdout.contains("LAB_TOKEN=none\n") && output.stdout.contains("GITHUB_TOKEN=mine\n"));
    ensure!(output.stderr.contains("--env GITHUB_TOKEN stays yours"), "{}", output.stderr);
    Ok(())
}

#[test]
fn a_file_of_a_secret_is_refused_where_it_can_be_written_and_named_where_it_can_be_read() -> Result<()> {
    let fixture = Fixture::new()?;
    let from =
        |path: &std::path::Path| POLICY.replace("{ env: LAB_TOKEN }", &format!("{{ file: {} }}", path.display()));
    let inside = fixture.world.write("token", SECRET)?;
    let output = run(&fixture, &from(&inside), &[], "true")?;
    ensure!(output.status.and_then(|status| status.code()) == Some(125), "{}", output.stderr);
    ensure!(output.stderr.contains("lies where the sandbox may write"), "{}", output.stderr);
    std::fs::create_dir(fixture.world.path().join("settings"))?;
    let beside = fixture.world.write("../settings/token", SECRET)?;
    let dotted = fixture.world.work().join("../settings/token");
    let output = run(&fixture, &from(&dotted), &[], "true")?;
    ensure!(output.status.is_some_and(|status| status.success()), "out of the folder by `..`: {}", output.stderr);
    let beside = std::fs::canonicalize(beside)?;
    let folder = beside.parent().context("a folder")?.display();
    let output = run(&fixture, &from(&beside), &["--mount", &format!("{folder}:/settings:ro")], "true")?;
    ensure!(output.status.is_some_and(|status| status.success()), "{}", output.stderr);
    let words = format!("credentials that it can read: {}", beside.display());
    ensure!(output.stderr.contains(&words), "{}", output.stderr);
    // First, however many others there are.
    for name in ["a.pem", "b.pem", "c.pem", "d.pem", "e.pem"] {
        fixture.world.write(&format!("../settings/{name}"), "")?;
    }
    let mount = format!("{folder}:/settings:ro");
    let output = run(&fixture, &from(&beside), &["--mount", &mount], "true")?;
    ensure!(output.stderr.contains(&words) && output.stderr.contains(" and 2 more"), "{}", output.stderr);
    // By another name of the file.
    let kept = std::fs::canonicalize(fixture.world.write("../kept", SECRET)?)?;
    let other = beside.with_file_name("notes.txt");
    std::fs::hard_link(&kept, &other)?;
    let output = run(&fixture, &from(&kept), &["--mount", &mount], "true")?;
    let words = format!("credentials that it can read: {}", other.display());
    ensure!(output.stderr.contains(&words), "{}", output.stderr);
    let inside = fixture.world.work().join("node_modules/part");
    std::fs::create_dir_all(&inside)?;
    std::fs::hard_link(&kept, inside.join("notes"))?;
    let output = run(&fixture, &from(&kept), &[], "cat node_modules/part/notes")?;
    ensure!(output.status.and_then(|status| status.code()) == Some(125), "{}", output.stderr);
    ensure!(output.stderr.contains("(a hard link)") && !output.stdout.contains(SECRET), "{}", output.stderr);
    Ok(())
}

#[test]
fn a_rule_by_which_a_secret_may_come_back_unseen_is_told_at_the_start() -> Result<()> {
    let fixture = Fixture::new()?;
    let rule =
        "    - { name: plain, priority: 9, to: { hosts: [allowed.test] }, ports: [80], action: allow }\n  credentials:";
    let output = run(&fixture, &POLICY.replace("  credentials:", rule), &[], "true")?;
    let words = "rule plain lets traffic to allowed.test pass unopened; credential api is bound to it";
    ensure!(output.stderr.contains(words), "{}", output.stderr);
    let output = run(&fixture, POLICY, &[], "true")?;
    ensure!(!output.stderr.contains("unopened"), "{}", output.stderr);
    Ok(())
}

#[test]
fn a_live_run_takes_credentials_that_need_nothing_inside() -> Result<()> {
    const FIRST: &str = "apiVersion: cofferdam/v1\nkind: EgressPolicy\nspec:\n  rules:\n    \
        - { name: api, priority: 1, to: { hosts: [allowed.test] }, ports: [443], action: allow, tls: inspect }\n";
    let fixture = Fixture::new()?;
    let script = "echo ready; read -r line; curl -sS https://allowed.test/later";
    let mut started = command(&fixture, FIRST, &["--quiet"], script)?;
    let mut child = started.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut out = BufReader::new(child.stdout.take().context("no output")?);
    let mut line = String::new();
    out.read_line(&mut line)?;
    ensure!(line == "ready\n");
    let refused = apply(&fixture, POLICY)?;
    let words = "credential repository: its placeholder is not in the sandbox";
    ensure!(
        refused.status.and_then(|status| status.code()) == Some(7) && refused.stderr.contains(words),
        "{refused:?}"
    );
    let hidden = POLICY.replace("attach: { placeholder: { headers: [authorization] } }", "attach: bearer");
    let hidden = hidden.replace("      expose: { env: GITHUB_TOKEN, format: github }\n", "");
    let applied = apply(&fixture, &hidden)?;
    ensure!(applied.status.is_some_and(|status| status.success()), "{applied:?}");
    child.stdin.take().context("no input")?.write_all(b"go\n")?;
    ensure!(child.wait()?.success());
    let reached = fixture.lab.reached()?;
    ensure!(!held_by(&reached, "allowed", &format!("bearer {SECRET}")).is_empty(), "{reached:#?}");
    Ok(())
}

#[test]
fn a_run_that_began_without_takes_no_policy_that_looks_inside() -> Result<()> {
    const FIRST: &str = "apiVersion: cofferdam/v1\nkind: EgressPolicy\nspec:\n  rules:\n    \
        - { name: api, priority: 1, to: { hosts: [allowed.test] }, ports: [443], action: allow }\n";
    let fixture = Fixture::new()?;
    let mut started =
        command(&fixture, FIRST, &["--quiet"], "echo ready; read -r line; curl -sS https://allowed.test/")?;
    let mut child = started.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut out = BufReader::new(child.stdout.take().context("no output")?);
    let mut line = String::new();
    out.read_line(&mut line)?;
    let refused = apply(&fixture, POLICY)?;
    let words = "rule api looks inside TLS, and this run began without";
    ensure!(
        refused.status.and_then(|status| status.code()) == Some(7) && refused.stderr.contains(words),
        "{refused:?}"
    );
    child.stdin.take().context("no input")?.write_all(b"go\n")?;
    ensure!(child.wait()?.success(), "what is passed through is so still");
    Ok(())
}
