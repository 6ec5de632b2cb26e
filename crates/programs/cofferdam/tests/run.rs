//! `run` from end to end, in a laboratory internet: exit codes, policies, records, live changes, limits, the end of everything.

#[path = "support/fixture.rs"]
mod fixture;
mod support;

use std::{
    io::{BufRead as _, BufReader},
    os::unix::process::ExitStatusExt as _,
    process::{Child, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use fixture::{Fixture, TIME};
use network_lab::Output;

impl Fixture {
    /// Starts a run and waits until its command has said that it is there.
    fn start(&self, arguments: &[&str]) -> Result<(Child, BufReader<std::process::ChildStdout>)> {
        let mut child = self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut out = BufReader::new(child.stdout.take().context("no output")?);
        let mut line = String::new();
        out.read_line(&mut line)?;
        ensure!(line == "ready\n", "it said {line:?}");
        Ok((child, out))
    }
}

#[track_caller]
fn expect(output: &Output, code: i32) {
    let status = output.status.and_then(|status| status.code());
    assert_eq!(status, Some(code), "{}\n{}", output.stdout, output.stderr);
}

#[test]
fn exit_codes_are_the_commands_own_or_ours() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.world.write("not-executable", "x")?;
    for (command, code) in [
        (&["sh", "-c", "exit 3"][..], 3),
        (&["true"], 0),
        (&["no-such-command"], 127),
        (&["./not-executable"], 126),
        (&["sh", "-c", "kill -TERM $$"], 143),
    ] {
        let output = fixture.run(&[&["run", "--"], command].concat())?;
        expect(&output, code);
        assert_eq!(output.stdout, "", "nothing of ours on standard output");
    }
    expect(&fixture.run(&["run", "--policy", "missing.yaml", "--", "true"])?, 125);
    expect(&fixture.run(&["run", "--workdir", "/", "--", "true"])?, 125);
    expect(&fixture.run(&["run", "--managed", "rubygems", "--", "true"])?, 125);
    Ok(())
}

#[test]
fn a_name_that_is_longer_than_a_pipe_ends_the_run_with_its_reason() -> Result<()> {
    let fixture = Fixture::new()?;
    let output = fixture.run(&["run", "--timeout", "20s", "--", &"a".repeat(100_000)])?;
    expect(&output, 126);
    assert!(output.stderr.contains("…: File name too long") && output.stderr.len() < 2000, "{}", output.stderr);
    Ok(())
}

#[test]
fn without_a_policy_nothing_leaves_and_the_end_says_so() -> Result<()> {
    let fixture = Fixture::new()?;
    let output = fixture.run(&["run", "--", "curl", "-sS", "--max-time", "20", "http://allowed.test/"])?;
    expect(&output, 6);
    assert!(output.stderr.contains("0 allowed, 1 denied: dns allowed.test (mode-default)"), "{}", output.stderr);
    assert!(output.stderr.contains("no policy was given: allow with --allow"), "{}", output.stderr);
    assert!(fixture.lab.reached()?.is_empty());
    let quiet = fixture.run(&["run", "--quiet", "--", "curl", "-s", "http://allowed.test/"])?;
    assert_eq!(quiet.stderr, "");
    let seen = fixture.world.run(&["observe", "--verdict", "denied", "--last", "1"])?.expect(0);
    assert!(seen.out.contains("allowed.test") && seen.out.contains("mode-default"), "{}", seen.out);
    fixture.world.run(&["audit", "verify"])?.expect(0);
    Ok(())
}

#[test]
fn what_is_allowed_by_name_goes_and_nothing_else() -> Result<()> {
    let fixture = Fixture::new()?;
    let script =
        "curl -sS https://allowed.test/ && curl -sS http://allowed.test/bytes/3; curl -sS https://denied.test/; exit 0";
    let output = fixture.run(&["run", "--allow", "allowed.test", "--", "sh", "-c", script])?;
    expect(&output, 0);
    assert!(output.stdout.contains("GET allowed.test /"), "{}", output.stdout);
    let reached = fixture.lab.reached()?;
    assert!(reached.iter().any(|one| one.holds("allowed.test")));
    assert!(!reached.iter().any(|one| one.holds("denied.test")), "{reached:?}");
    Ok(())
}

#[test]
fn watch_blocks_nothing_and_learn_proposes_what_then_suffices() -> Result<()> {
    let fixture = Fixture::new()?;
    let script = "curl -sS https://allowed.test/ && curl -sS http://second.test/";
    expect(&fixture.run(&["run", "--", "sh", "-c", script])?, 6);
    let watched = fixture.run(&["run", "--watch", "--", "sh", "-c", script])?;
    expect(&watched, 0);
    let seen =
        fixture.world.run(&["observe", "--verdict", "would-deny", "--type", "flow.decided", "-o", "jsonl"])?.expect(0);
    assert_eq!(seen.out.lines().count(), 2, "{}", seen.out);
    let learned = fixture.world.run(&["policy", "learn"])?.expect(0);
    fixture.world.write("learned.yaml", &learned.out)?;
    fixture.world.run(&["policy", "test", "learned.yaml"])?.expect(0);
    let output = fixture.run(&["run", "--policy", "learned.yaml", "--", "sh", "-c", script])?;
    expect(&output, 0);
    let replayed = fixture.world.run(&["policy", "replay", "learned.yaml"])?.expect(0);
    assert!(replayed.out.contains(" the same, "), "{}", replayed.out);
    expect(&fixture.run(&["run", "--policy", "learned.yaml", "--", "curl", "-s", "https://denied.test/"])?, 6);
    Ok(())
}

#[test]
fn a_private_address_needs_its_range() -> Result<()> {
    let fixture = Fixture::new()?;
    let curl = ["curl", "-s", "--max-time", "20", "http://10.0.0.8/"];
    let refused = fixture.run(&[&["run", "--mode", "unrestricted", "--"], &curl[..]].concat())?;
    assert!(refused.stderr.contains("guard:private"), "{}", refused.stderr);
    assert!(fixture.lab.reached()?.is_empty());
    expect(&fixture.run(&[&["run", "--allow", "10.0.0.0/8:80", "--"], &curl[..]].concat())?, 0);
    Ok(())
}

#[test]
fn a_policy_is_applied_to_a_live_run() -> Result<()> {
    let fixture = Fixture::new()?;
    let policy = |host: &str| {
        format!(
            "apiVersion: cofferdam/v1\nkind: EgressPolicy\nspec:\n  rules:\n    - {{ name: one, priority: 1, to: {{ hosts: [{host}] }}, action: allow }}\n"
        )
    };
    fixture.world.write("first.yaml", &policy("allowed.test"))?;
    // Not where the workload may write.
    let beside = |name: &str, text: &str| std::fs::write(fixture.world.path().join(name), text);
    beside("second.yaml", &policy("second.test"))?;
    beside("broken.yaml", "apiVersion: cofferdam/v1\nkind: EgressPolicy\nspec: { rulez: [] }\n")?;
    // The connection is open, and gave its first line, before the change.
    let script = "curl -sN --max-time 50 'http://allowed.test/events/1000?every=100' | (read line; echo ready; cat >/dev/null; echo cut); \
                  curl -s http://second.test/bytes/3";
    let (child, mut out) =
        fixture.start(&["run", "--color", "always", "--policy", "first.yaml", "--", "sh", "-c", script])?;
    let ps = fixture.world.run(&["ps"])?.expect(0);
    assert!(ps.out.contains(" live "), "{}", ps.out);
    let refused = fixture.run(&["policy", "apply", "../broken.yaml"])?;
    expect(&refused, 7);
    assert!(refused.stderr.contains("rulez"), "{}", refused.stderr);
    let failing = format!("{}  tests: [{{ to: 'http://second.test/', expect: denied }}]\n", policy("second.test"));
    beside("failing.yaml", &failing)?;
    let refused = fixture.run(&["policy", "apply", "../failing.yaml"])?;
    expect(&refused, 7);
    assert!(refused.stderr.contains("expected denied, got allowed by one"), "{}", refused.stderr);
    let done = fixture.run(&["policy", "apply", "../second.yaml", "--json"])?;
    expect(&done, 0);
    let applied: serde_json::Value = serde_json::from_str(&done.stdout)?;
    assert_eq!((applied["revision"].as_u64(), applied["cut"].as_u64()), (Some(2), Some(1)), "{applied}");
    let mut line = String::new();
    out.read_line(&mut line)?;
    assert_eq!(line, "cut\n");
    let ended = child.wait_with_output()?;
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let events = fixture.world.run(&["observe", "--type", "policy", "-o", "jsonl"])?.expect(0);
    let kinds: Vec<&str> =
        events.out.lines().map(|line| if line.contains("policy.refused") { "refused" } else { "applied" }).collect();
    assert_eq!(kinds, ["applied", "refused", "applied"]);
    // The colours of the run's own terminal are neither recorded nor sent to who applied.
    assert!(!events.out.contains("1b[") && !refused.stderr.contains('\u{1b}'), "{}{}", events.out, refused.stderr);
    fixture.world.run(&["audit", "verify"])?.expect(0);
    Ok(())
}

#[test]
fn stop_and_timeout_end_everything() -> Result<()> {
    let fixture = Fixture::new()?;
    let started =
        fixture.run(&["run", "--timeout", "1s", "--", "sh", "-c", "trap '' TERM INT; sleep 1000 & sleep 1000"])?;
    expect(&started, 125);
    assert!(started.stderr.contains("--timeout 1s was reached"), "{}", started.stderr);
    let (child, _out) = fixture.start(&["run", "--", "sh", "-c", "echo ready; exec sleep 1000"])?;
    let newest = fixture.world.run(&["ps", "--json"])?.expect(0);
    let rows: serde_json::Value = serde_json::from_str(&newest.out)?;
    let id = rows[0]["short"].as_str().context("no run")?.to_owned();
    // From another pid namespace than the gateway's, as from a sandbox, nothing is taken.
    let refused = fixture.world.run(&["stop", &id])?;
    assert_ne!(refused.code, Some(0), "{}", refused.err);
    expect(&fixture.run(&["stop", &id])?, 0);
    let ended = child.wait_with_output()?;
    assert_eq!(ended.status.code(), Some(125), "{}", String::from_utf8_lossy(&ended.stderr));
    expect(&fixture.run(&["stop", &id])?, 3);
    fixture.world.write("open.yaml", "apiVersion: cofferdam/v1\nkind: EgressPolicy\nspec: {}\n")?;
    let late = fixture.run(&["policy", "apply", "open.yaml", "--run", &id])?;
    expect(&late, 3);
    assert!(late.stderr.contains(&format!("run {id} has ended")), "{}", late.stderr);
    Ok(())
}

#[test]
fn the_death_of_the_gateway_is_the_end_of_the_run() -> Result<()> {
    let fixture = Fixture::new()?;
    let (child, mut out) = fixture.start(&["run", "--", "sh", "-c", "echo ready; sleep 1000"])?;
    let rows: serde_json::Value = serde_json::from_str(&fixture.world.run(&["ps", "--json"])?.expect(0).out)?;
    let inside = rows[0]["record"]["pid"].as_u64().or_else(|| rows[0]["pid"].as_u64()).context("no pid")?;
    // The id is one of the lab's pid namespace.
    let killed = fixture.lab.host().run(
        {
            let mut kill = fixture.lab.host().command("kill");
            kill.args(["-9", &inside.to_string()]);
            kill
        },
        TIME,
    )?;
    expect(&killed, 0);
    // The end of the sandbox closes the command's output.
    let mut rest = String::new();
    while out.read_line(&mut rest)? > 0 {}
    let ended = child.wait_with_output()?;
    assert_eq!(ended.status.code(), Some(125), "{:?}", ended.status.signal());
    let ps = fixture.world.run(&["ps"])?.expect(0);
    assert!(ps.out.contains(" died "), "{}", ps.out);
    Ok(())
}

#[test]
fn an_interrupt_reaches_the_command() -> Result<()> {
    let fixture = Fixture::new()?;
    let (child, mut out) = fixture.start(&[
        "run",
        "--",
        "sh",
        "-c",
        "trap 'echo caught; exit 7' INT; echo ready; while :; do sleep 0.1; done",
    ])?;
    let rows: serde_json::Value = serde_json::from_str(&fixture.world.run(&["ps", "--json"])?.expect(0).out)?;
    let inside = rows[0]["pid"].as_u64().context("no pid")?;
    let mut kill = fixture.lab.host().command("kill");
    kill.args(["-INT", &inside.to_string()]);
    expect(&fixture.lab.host().run(kill, TIME)?, 0);
    let mut line = String::new();
    out.read_line(&mut line)?;
    assert_eq!(line, "caught\n");
    assert_eq!(child.wait_with_output()?.status.code(), Some(7));
    Ok(())
}

#[test]
fn the_command_sees_what_was_opened_and_no_more() -> Result<()> {
    let fixture = Fixture::new()?;
    let data = fixture.world.path().join("data");
    std::fs::create_dir(&data)?;
    std::fs::write(data.join("id_rsa"), "key")?;
    let mount = format!("{}:/data:ro", data.display());
    let script = "cat /data/id_rsa; touch /data/x 2>/dev/null || echo read-only; echo $GREETING $SECRET; \
                  ls /data | wc -l; touch here; ls -A $HOME | wc -l; ls ../ | wc -l; id -u";
    let mut command = fixture.command(&["run", "--mount", &mount, "--env", "GREETING=hello", "--", "sh", "-c", script]);
    command.env("SECRET", "hidden");
    let output = fixture.lab.host().run(command, TIME)?;
    expect(&output, 0);
    let lines: Vec<&str> = output.stdout.lines().map(str::trim).collect();
    // Of the world only its home (private) and the working directory are there.
    let uid = inside_uid();
    assert_eq!(lines, ["keyread-only", "hello", "1", "0", "2", &uid], "{}", output.stderr);
    assert!(
        output.stderr.contains("credentials that it can read:") && output.stderr.contains("id_rsa"),
        "{}",
        output.stderr
    );
    assert!(output.stderr.contains("passed GREETING"), "{}", output.stderr);
    assert!(fixture.world.work().join("here").exists());
    Ok(())
}

#[test]
fn the_record_can_be_elsewhere_and_the_workload_cannot_change_it() -> Result<()> {
    let fixture = Fixture::new()?;
    let deep = fixture.world.work().join("records/here");
    std::fs::create_dir_all(&deep)?;
    let script = "echo x 2>/dev/null >> records/here/events.jsonl || echo kept; mv records gone 2>/dev/null || echo stays; \
                  rm -f records/here/events.jsonl 2>/dev/null || echo remains; curl -s http://denied.test/; exit 0";
    let record = "records/here/events.jsonl";
    let output = fixture.run(&["run", "--events", record, "--durability", "fsync", "--", "sh", "-c", script])?;
    expect(&output, 0);
    assert_eq!(output.stdout, "kept\nstays\nremains\n");
    assert!(output.stderr.contains("records/here"), "{}", output.stderr);
    let verified = fixture.world.run(&["audit", "verify", record])?.expect(0);
    assert!(verified.out.contains("one chain"), "{}", verified.out);
    // A record that can't be written: nothing starts.
    expect(&fixture.run(&["run", "--events", "/proc/nothing/events.jsonl", "--", "true"])?, 125);
    Ok(())
}

#[test]
fn a_feed_is_read_again_in_a_live_run() -> Result<()> {
    let fixture = Fixture::new()?;
    let policy = "apiVersion: cofferdam/v1\nkind: EgressPolicy\nspec:\n  mode: unrestricted\n  groups:\n    bad: { feed: { path: bad.txt, format: domains, refresh: 1s } }\n  rules:\n    - { name: bad, priority: 1, to: bad, action: deny }\n";
    fixture.world.write("policy.yaml", policy)?;
    let missing = fixture.run(&["run", "--policy", "policy.yaml", "--", "true"])?;
    expect(&missing, 125);
    assert!(missing.stderr.contains("the feed bad.txt of group bad can't be read"), "{}", missing.stderr);
    fixture.world.write("bad.txt", "denied.test\n")?;
    let script = "curl -s http://allowed.test/bytes/1 && echo ready; while curl -s http://allowed.test/bytes/1 >/dev/null; do sleep 0.1; done; echo changed";
    let (child, mut out) = {
        let mut child = fixture
            .command(&["run", "--policy", "policy.yaml", "--", "sh", "-c", script])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let out = BufReader::new(child.stdout.take().context("no output")?);
        (child, out)
    };
    let mut line = String::new();
    out.read_line(&mut line)?;
    assert!(line.ends_with("ready\n"), "{line:?}");
    fixture.world.write("bad.txt", "denied.test\nallowed.test\n")?;
    line.clear();
    out.read_line(&mut line)?;
    assert_eq!(line, "changed\n");
    assert!(child.wait_with_output()?.status.success());
    let applied = fixture.world.run(&["observe", "--type", "policy.applied", "-o", "jsonl"])?.expect(0);
    assert_eq!(applied.out.lines().count(), 2, "{}", applied.out);
    Ok(())
}

/// Who the workload is: the caller, or somebody ordinary where the caller is root.
fn inside_uid() -> String {
    match rustix::process::geteuid().as_raw() {
        0 => "1000".to_owned(),
        uid => uid.to_string(),
    }
}

#[test]
fn observe_follows_a_live_run_to_its_end() -> Result<()> {
    let fixture = Fixture::new()?;
    let script = "echo ready; read go; curl -s http://denied.test/; exit 0";
    let mut run = fixture.command(&["run", "--quiet", "--", "sh", "-c", script]);
    let mut run = run.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
    let mut line = String::new();
    BufReader::new(run.stdout.take().context("no output")?).read_line(&mut line)?;
    let mut follow = fixture.command(&["observe", "-f", "--type", "dns", "-o", "jsonl"]);
    let mut follow = follow.stdout(Stdio::piped()).spawn()?;
    let mut seen = BufReader::new(follow.stdout.take().context("no output")?);
    drop(run.stdin.take().map(|mut input| std::io::Write::write_all(&mut input, b"go\n")));
    line.clear();
    seen.read_line(&mut line)?;
    assert!(line.contains("denied.test"), "{line}");
    assert!(run.wait()?.success());
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut seen, &mut rest)?;
    assert!(follow.wait()?.success(), "it ends with the run");
    let explained = fixture.run(&["run", "--allow", "allowed.test", "--", "curl", "-s", "http://allowed.test/"])?;
    expect(&explained, 0);
    let flow = fixture.world.run(&["observe", "--type", "flow.decided", "--json"])?.expect(0);
    let flows: serde_json::Value = serde_json::from_str(&flow.out)?;
    let seq = flows[0]["seq"].as_u64().context("no flow")?.to_string();
    let policy = "apiVersion: cofferdam/v1\nkind: EgressPolicy\nspec: { mode: limited }\n";
    fixture.world.write("closed.yaml", policy)?;
    let why = fixture.world.run(&["policy", "explain", "closed.yaml", "--event", &seq])?.expect(0);
    assert!(why.out.contains("denied by mode-default"), "{}", why.out);
    fixture.world.run(&["policy", "explain", "closed.yaml", "--event", "1"])?.expect(3);
    Ok(())
}

#[test]
fn udp_goes_where_a_rule_opens_it_and_nowhere_else() -> Result<()> {
    const POLICY: &str = "apiVersion: cofferdam/v1\nkind: EgressPolicy\nspec:\n  mode: limited\n  rules:\n    \
        - { name: echo, priority: 10, from: any, to: { hosts: [plain.test] }, protocol: udp, ports: [7], action: allow }\n";
    const SCRIPT: &str = r#"
import socket, sys
def ask(host, port):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(float(sys.argv[1]))
    try:
        s.connect((host, port)); s.send(b"canary-" + host.encode())
        return s.recv(100).decode()
    except OSError as error:
        return type(error).__name__
print(ask("plain.test", 7)); print(ask("203.0.113.10", 7)); print(ask("198.51.100.66", 443)); print(ask("plain.test", 443))
"#;
    let fixture = Fixture::new()?;
    fixture.world.write("policy.yaml", POLICY)?;
    let output = fixture.run(&["run", "--policy", "policy.yaml", "--", "python3", "-c", SCRIPT, "2"])?;
    expect(&output, 0);
    // On an opened port what is denied is dropped; on another it is rejected at once.
    assert_eq!(
        output.stdout, "canary-plain.test\nTimeoutError\nPermissionError\nPermissionError\n",
        "{}",
        output.stderr
    );
    assert!(output.stderr.contains("udp 203.0.113.10:7"), "{}", output.stderr);
    let reached = fixture.lab.reached()?;
    assert!(reached.iter().any(|one| one.holds("canary-plain.test")));
    assert!(!reached.iter().any(|one| one.holds("canary-2") || one.holds("canary-1")), "{reached:?}");
    Ok(())
}

#[test]
fn udp_that_can_not_be_opened_is_refused_by_name() -> Result<()> {
    let fixture = Fixture::new()?;
    for (rule, said) in [
        ("to: { hosts: [plain.test] }, protocol: udp, ports: [53]", "resolver"),
        ("to: { hosts: [plain.test] }, protocol: udp, ports: [\"100-2000\"]", "more than 64"),
        ("to: { hosts: [plain.test] }, protocol: icmp", "ICMP"),
    ] {
        let policy = format!(
            "apiVersion: cofferdam/v1\nkind: EgressPolicy\nspec:\n  mode: limited\n  rules:\n    - {{ name: one, priority: 1, from: any, {rule}, action: allow }}\n"
        );
        fixture.world.write("policy.yaml", &policy)?;
        let output = fixture.run(&["run", "--policy", "policy.yaml", "--", "true"])?;
        expect(&output, 125);
        assert!(output.stderr.contains(said) && output.stderr.contains("one"), "{}", output.stderr);
    }
    Ok(())
}
