//! A machine's identity in a sandbox: a placeholder inside, the real credential outside, and the real service never asked.

#[path = "support/fixture.rs"]
#[expect(dead_code, reason = "these tests choose the environment of each run")]
mod fixture;
mod support;

use anyhow::{Result, ensure};
use fixture::{Fixture, TIME};
use network_lab::Output;

const SECRET: &str = "canary-51c7e0a9d2f4";

const RULES: &str = r#"
apiVersion: cofferdam/v1
kind: EgressPolicy
spec:
  rules:
    - { name: api, priority: 1, to: { hosts: [allowed.test] }, ports: [443], action: allow, credential: cloud }
    - { name: elsewhere, priority: 2, to: { hosts: [denied.test] }, ports: [443], action: allow }
  credentials:
    cloud: { from: { env: LAB_TOKEN }, attach: bearer, bind: { hosts: [allowed.test] } }
"#;

const SERVICE: &str = "  metadataService: { gcp: { credential: cloud, project: a-project, email: agent@a-project.iam.gserviceaccount.com } }\n";

/// What libraries of Google Cloud do, in words of the shell.
const SCRIPT: &str = r#"
root=http://metadata.google.internal/computeMetadata/v1
flavor='Metadata-Flavor: Google'
echo "project $(curl -sS -H "$flavor" $root/project/project-id)"
token=$(curl -sS -H "$flavor" $root/instance/service-accounts/default/token | sed 's/.*"access_token":"\([^"]*\)".*/\1/')
echo "holds $token"
curl -sS -o /dev/null -H "Authorization: Bearer $token" https://allowed.test/attached
curl -sS -o /dev/null -H "Authorization: Bearer $token" https://denied.test/bare
"#;

/// What a program does that wants more than that.
const HIJACKED: &str = r#"
for url in http://169.254.169.254/latest/meta-data/ http://169.254.169.254/metadata/instance \
    http://169.254.170.2/v2/credentials http://100.100.100.200/ http://168.63.129.16/ 'http://[fd00:ec2::254]/' \
    http://2852039166/ http://0xa9fea9fe/ http://0251.0376.0251.0376/ 'http://[::ffff:a9fe:a9fe]/latest/' \
    https://169.254.169.254/ http://169.254.169.254:8080/ http://metadata.test/ http://metadata.allowed.test/; do
    curl -sS -m 10 --noproxy '*' -H 'Metadata-Flavor: Google' "$url"
done
curl -sS -H 'Metadata-Flavor: Google' -H 'Host: rebind.test' http://169.254.169.254/computeMetadata/v1/
true
"#;

fn run(fixture: &Fixture, policy: &str, script: &str) -> Result<Output> {
    let policy = fixture.world.write("../policy.yaml", policy)?.to_string_lossy().into_owned();
    let mut command = fixture.command(&["run", "--policy", &policy, "--", "sh", "-c", script]);
    command.env("LAB_TOKEN", SECRET);
    fixture.lab.host().run(command, TIME)
}

#[test]
fn a_program_finds_a_placeholder_and_its_server_the_real_token() -> Result<()> {
    let fixture = Fixture::new()?;
    let output = run(&fixture, &format!("{RULES}{SERVICE}"), &format!("{SCRIPT}{HIJACKED}"))?;
    let told = format!("{}{}", output.stdout, output.stderr);
    ensure!(!told.contains(SECRET), "{told}");
    ensure!(output.stdout.contains("project a-project\nholds ya29."), "{told}");
    let reached = fixture.lab.reached()?;
    let holds = |server: &str, text: &str| reached.iter().any(|one| one.server == server && one.holds(text));
    ensure!(holds("allowed", SECRET) && !holds("allowed", "ya29."), "{reached:#?}");
    ensure!(holds("denied", "ya29.") && !holds("denied", SECRET), "{reached:#?}");
    ensure!(reached.iter().all(|one| one.server != "metadata"), "the real service is never asked: {reached:#?}");
    let seen = fixture.world.run(&["observe", "-o", "jsonl"])?.expect(0);
    ensure!(!seen.out.contains(SECRET), "{}", seen.out);
    ensure!(seen.out.contains("\"metadata-service:gcp\"") && seen.out.contains("\"guard:metadata\""), "{}", seen.out);
    fixture.world.run(&["audit", "verify"])?.expect(0);
    Ok(())
}

#[test]
fn without_the_words_there_is_nothing() -> Result<()> {
    let fixture = Fixture::new()?;
    let output = run(&fixture, RULES, &format!("{SCRIPT}{HIJACKED}"))?;
    let told = format!("{}{}", output.stdout, output.stderr);
    ensure!(output.stdout.contains("project \nholds \n") && !told.contains("ya29."), "{told}");
    let reached = fixture.lab.reached()?;
    ensure!(reached.iter().all(|one| one.server != "metadata"), "{reached:#?}");
    Ok(())
}
