//! Policies that look inside TLS, from end to end: what programs see, what the record says, what the sandbox holds.

#[path = "support/fixture.rs"]
mod fixture;
mod support;

use anyhow::{Result, ensure};
use fixture::Fixture;
use network_lab::Output;

/// Reads of one host, and what it may be sent; another host unopened.
const POLICY: &str = r#"
apiVersion: cofferdam/v1
kind: EgressPolicy
spec:
  rules:
    - { name: reads, priority: 1, to: { hosts: [allowed.test] }, ports: [443], action: allow, http: [{ methods: [GET], paths: ["/open/**"] }] }
    - { name: unopened, priority: 2, to: { hosts: [second.test] }, ports: [443], action: allow }
"#;

#[track_caller]
fn expect(output: &Output, code: i32) {
    let status = output.status.and_then(|status| status.code());
    assert_eq!(status, Some(code), "{}\n{}", output.stdout, output.stderr);
}

fn opened(fixture: &Fixture, more: &[&str], script: &str) -> Result<Output> {
    let policy = fixture.world.write("../policy.yaml", POLICY)?.to_string_lossy().into_owned();
    fixture.run(&[&["run", "--policy", &policy], more, &["--", "sh", "-c", script]].concat())
}

#[test]
fn requests_inside_tls_are_judged_and_recorded_one_by_one() -> Result<()> {
    let fixture = Fixture::new()?;
    let script = "curl -sS https://allowed.test/open/one; \
                  curl -sS -o answer -w '%{http_code}\\n' -d secret https://allowed.test/open/two; cat answer; \
                  curl -sS -o /dev/null -w '%{http_code}\\n' https://allowed.test/other; \
                  curl -sS https://second.test/passed-by";
    let output = opened(&fixture, &[], script)?;
    expect(&output, 0);
    ensure!(output.stdout.contains("GET allowed.test /open/one\n403\n"), "{}", output.stdout);
    ensure!(output.stdout.contains("\"rule\":\"mode-default\""), "{}", output.stdout);
    ensure!(output.stdout.ends_with("403\nGET second.test /passed-by\n"), "{}", output.stdout);
    ensure!(output.stderr.contains("TLS is opened for: allowed.test (rule reads)"), "{}", output.stderr);
    ensure!(
        output
            .stderr
            .contains("2 allowed, 2 denied: GET allowed.test (mode-default), POST allowed.test (mode-default)"),
        "{}",
        output.stderr
    );
    let reached = fixture.lab.reached()?;
    ensure!(!reached.iter().any(|one| one.holds("secret") || one.holds("/other")), "{reached:?}");
    let seen = fixture.world.run(&["observe", "--type", "flow.decided", "--rule", "reads"])?.expect(0);
    ensure!(seen.out.contains("allowed.test:443 (203.0.113.10) GET /open/one"), "{}", seen.out);
    let json = fixture.world.run(&["observe", "--type", "flow.decided", "-o", "jsonl"])?.expect(0);
    let modes: Vec<serde_json::Value> = json.out.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let modes: Vec<&str> = modes.iter().filter_map(|event| event["tls"]["mode"].as_str()).collect();
    ensure!(modes == ["inspect", "inspect", "inspect", "passthrough"], "{modes:?}");
    fixture.world.run(&["audit", "verify"])?.expect(0);
    Ok(())
}

#[test]
fn what_is_learned_of_requests_allows_these_and_no_more() -> Result<()> {
    let fixture = Fixture::new()?;
    let script = "curl -sS https://allowed.test/open/one 'https://allowed.test/open/%7Etwo?page=1'; \
                  curl -sS -d x https://allowed.test/open/one; curl -sS https://allowed.test/open/a*b; \
                  curl -sS http://second.test/first http://second.test/next";
    let reads = "{ name: plain, priority: 3, to: { hosts: [second.test] }, ports: [80], action: allow, \
                 http: [{ methods: [GET], paths: [\"/**\"] }] }";
    let no_posts = "{ name: no-posts, priority: 0, to: { hosts: [allowed.test] }, ports: [443], action: deny, \
                        http: [{ methods: [POST] }] }";
    let policy = format!("{POLICY}    - {reads}\n    - {no_posts}\n");
    let policy = fixture.world.write("../policy.yaml", &policy)?.to_string_lossy().into_owned();
    expect(&fixture.run(&["run", "--policy", &policy, "--", "sh", "-c", script])?, 0);
    let learned = fixture.world.run(&["policy", "learn"])?.expect(0);
    for wanted in [
        "- \"/open/one\"\n",
        "- \"/open/~two\"\n",
        "- \"/next\"\n",
        "#   GET /open/a*b at allowed.test:443",
        "#   POST /open/one at",
    ] {
        ensure!(learned.out.contains(wanted), "{wanted}: {}", learned.out);
    }
    let file = fixture.world.write("../learned.yaml", &learned.out)?.to_string_lossy().into_owned();
    fixture.world.run(&["policy", "test", &file])?.expect(0);
    let codes = |urls: &str| format!("curl -sS -o /dev/null -o /dev/null -o /dev/null -w '%{{http_code}}\\n' {urls}");
    let again = codes("https://allowed.test/open/one https://allowed.test/open/~two http://second.test/next");
    let beyond = codes("https://allowed.test/open/three http://second.test/other");
    let post = codes("-d x https://allowed.test/open/one");
    let output = fixture.run(&["run", "--policy", &file, "--", "sh", "-c", &format!("{again}; {beyond}; {post}")])?;
    ensure!(output.stdout == "200\n200\n200\n403\n403\n403\n", "{}\n{}", output.stdout, output.stderr);
    let reached = fixture.lab.reached()?;
    ensure!(!reached.iter().any(|one| one.holds("/other") || one.holds("/three")), "{reached:?}");
    Ok(())
}

/// Tries to change every file by which programs are made to trust somebody, and looks for a key.
const HIJACKED: &str = r#"
for file in /etc/cofferdam/trust/* "$SSL_CERT_FILE" "$NODE_EXTRA_CA_CERTS" /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/java/cacerts; do
    [ -s "$file" ] || continue
    echo "file $file"
    for attempt in "echo x >> $file" "rm -f $file" "mv $file /tmp/" "chmod 666 $file" "ln -sf /tmp/x $file" "cp /dev/null $file"; do
        sh -c "$attempt" 2>/dev/null && echo "changed: $attempt"
    done
done
mv /etc/cofferdam /etc/other 2>/dev/null && echo "changed: folder"
touch /etc/cofferdam/trust/more 2>/dev/null && echo "changed: more"
umount /etc/cofferdam/trust 2>/dev/null && echo "changed: mount"
grep -rlE "PRIVATE KEY" /etc/cofferdam && echo "a key"
tr '\0' '\n' < /proc/self/environ | grep "PRIVATE KEY" && echo "a key"
curl -sS https://allowed.test/open/still
"#;

#[test]
fn the_sandbox_can_change_nobodys_trust_and_holds_no_key() -> Result<()> {
    let fixture = Fixture::new()?;
    let output = opened(&fixture, &["--quiet"], HIJACKED)?;
    expect(&output, 0);
    ensure!(output.stdout.matches("file ").count() >= 6, "{}", output.stdout);
    ensure!(!output.stdout.contains("changed") && !output.stdout.contains("a key"), "{}", output.stdout);
    ensure!(output.stdout.ends_with("GET allowed.test /open/still\n"), "{}", output.stdout);
    let runs = fixture.world.path().join("state/cofferdam/runs");
    for run in std::fs::read_dir(runs)? {
        ensure!(!run?.path().join("opening").exists(), "what the sandbox had mounted is gone with it");
    }
    Ok(())
}

#[test]
fn where_nothing_is_opened_nobody_is_told_to_trust_us() -> Result<()> {
    let fixture = Fixture::new()?;
    let script = "echo $SSL_CERT_FILE; ls /etc/cofferdam; env | grep -c JAVA_TOOL; curl -sS https://second.test/";
    let output = fixture.run(&["run", "--allow", "second.test", "--", "sh", "-c", script])?;
    expect(&output, 0);
    let bundle = fixture.lab.certificates().bundle().display().to_string();
    ensure!(output.stdout == format!("{bundle}\n0\nGET second.test /\n"), "{}", output.stdout);
    ensure!(!output.stderr.contains("TLS is opened"), "{}", output.stderr);
    Ok(())
}

#[test]
fn what_env_gives_stays_and_is_named() -> Result<()> {
    let fixture = Fixture::new()?;
    let flags = ["--env", "CURL_CA_BUNDLE=/etc/hostname", "--env", "JAVA_TOOL_OPTIONS=-Xmx64m"];
    let script = "echo $CURL_CA_BUNDLE; echo $JAVA_TOOL_OPTIONS; echo $SSL_CERT_FILE";
    let output = opened(&fixture, &flags, script)?;
    expect(&output, 0);
    let mut lines = output.stdout.lines();
    ensure!(lines.next() == Some("/etc/hostname"), "{}", output.stdout);
    ensure!(lines.next().is_some_and(|java| java.starts_with("-Xmx64m \"-Djavax.net.ssl.trustStore=/etc/cofferdam/")));
    ensure!(lines.next().is_some_and(|bundle| bundle.starts_with("/etc/cofferdam/trust/")), "{}", output.stdout);
    ensure!(output.stderr.contains("--env CURL_CA_BUNDLE stays yours"), "{}", output.stderr);
    Ok(())
}
