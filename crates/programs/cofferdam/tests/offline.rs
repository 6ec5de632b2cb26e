//! The commands that need no run: policy, audit, observe on a file, completions, manual pages, exit codes.

mod support;

use std::path::{Path, PathBuf};

use anyhow::Result;
use audit_event::{Destination, Event, FlowDecided, RunContext, TlsSeen, Transfer};
use audit_log::{AuditLog, Options};
use support::World;

const POLICY: &str = r#"apiVersion: cofferdam/v1
kind: EgressPolicy
metadata: { name: test }
spec:
  mode: limited
  rules:
    - { name: api, priority: 10, from: any, to: { hosts: ["api.example.com"] }, ports: [443], action: allow }
  tests:
    - { to: "https://api.example.com/", expect: allowed, rule: api }
    - { to: "https://other.example.com/", expect: denied }
"#;

fn flow(number: u64, verdict: &str, host: &str, rule: &str) -> Event {
    let address = Some(std::net::Ipv4Addr::new(203, 0, 113, 10).into());
    let destination = Destination {
        name: Some(host.to_owned()),
        name_from: Some("sni".to_owned()),
        address,
        original_address: address,
        port: 443,
    };
    Event::FlowDecided(Box::new(FlowDecided {
        flow: number,
        revision: "1".to_owned(),
        verdict: verdict.to_owned(),
        enforcement: "enforce".to_owned(),
        rule: rule.to_owned(),
        layer: "tls".to_owned(),
        reason: "no rule matched".to_owned(),
        would: Vec::new(),
        process: None,
        destination,
        protocol: "tcp".to_owned(),
        route: None,
        tls: TlsSeen { mode: "passthrough".to_owned(), sni: Some(host.to_owned()), alpn: None, ech: None },
        http: None,
        credential: None,
        bytes: Transfer::default(),
        duration_us: 87,
        error: None,
    }))
}

fn record(world: &World) -> Result<PathBuf> {
    let path = world.path().join("record/events.jsonl");
    let context = RunContext { sandbox: "run-00000001".to_owned(), thread: None, tool_call: None };
    let log = AuditLog::open(&path, context, Options::default())?;
    log.record_blocking(flow(1, "allowed", "api.example.com", "api"))?;
    log.record_blocking(flow(2, "denied", "other.example.com", "mode-default"))?;
    log.record_blocking(flow(3, "denied", "third.example.com", "mode-default"))?;
    Ok(path)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

#[test]
fn every_preset_is_valid_and_passes_its_tests() -> Result<()> {
    let world = World::new()?;
    for preset in ["open", "balanced", "locked-down", "agent-containment"] {
        let policy = world.run(&["policy", "init", "--preset", preset])?.expect(0);
        let file = world.write(&format!("{preset}.yaml"), &policy.out)?;
        // The pack needs a feed and a provider's file, which are not there: validate and test say what a run says.
        let code = if preset == "agent-containment" { 7 } else { 0 };
        let done = world.run(&["policy", "validate", text(&file)])?.expect(code);
        assert_eq!(done.err.contains("2 files can't be read"), code == 7, "{}", done.err);
        world.run(&["policy", "validate", "--json", text(&file)])?.expect(code);
        world.run(&["policy", "test", text(&file)])?.expect(code);
        if preset == "balanced" {
            // A run of it asks package managers, and they their registries: no test goes there.
            continue;
        }
        let run = world.run(&["run", "--quiet", "--policy", text(&file), "--", "true"])?;
        assert_eq!(run.code == Some(0), code == 0, "{preset}: {}", run.err);
    }
    let unknown = world.run(&["policy", "init", "--preset", "none"])?.expect(2);
    assert!(unknown.err.contains("hint: known: open"), "{}", unknown.err);
    Ok(())
}

#[test]
fn a_bundle_that_a_run_would_refuse_is_refused_before() -> Result<()> {
    let world = World::new()?;
    let file = world.write(
        "policy.yaml",
        "apiVersion: cofferdam/v1\nkind: EgressPolicy\nspec:\n  rules:\n    - { name: a, priority: 1, to: { hosts: [a.test] }, \
         ports: [443], action: allow, upstreamCa: roots.pem }\n",
    )?;
    for (held, words) in [(None, "upstreamCa roots.pem: No such file"), (Some("x"), "roots.pem holds no certificate")] {
        held.map(|held| world.write("roots.pem", held)).transpose()?;
        let done = world.run(&["policy", "validate", text(&file)])?.expect(7);
        assert!(done.err.contains(words) && done.err.contains("1 file can't be read"), "{}", done.err);
        let json = world.run(&["policy", "validate", "--json", text(&file)])?.expect(7);
        assert!(json.out.contains(words), "{}", json.out);
        world.run(&["run", "--policy", text(&file), "--", "true"])?.expect(125);
    }
    Ok(())
}

#[test]
fn a_broken_policy_is_drawn_with_line_and_caret() -> Result<()> {
    let world = World::new()?;
    let file = world.write("broken.yaml", &POLICY.replace("action: allow", "acton: allow"))?;
    let done = world.run(&["policy", "validate", text(&file)])?.expect(7);
    assert!(
        done.err.contains("broken.yaml:7:") && done.err.contains("^^^^^") && done.err.contains("action"),
        "{}",
        done.err
    );
    assert!(done.out.is_empty(), "{}", done.out);
    let done = world.run(&["policy", "validate", "--json", text(&file)])?.expect(7);
    let json: serde_json::Value = serde_json::from_str(&done.out)?;
    assert_eq!((json["valid"].as_bool(), json["findings"][0]["line"].as_u64()), (Some(false), Some(7)));
    Ok(())
}

#[test]
fn a_failing_test_is_7_and_says_what_came_out() -> Result<()> {
    let world = World::new()?;
    let good = world.write("good.yaml", POLICY)?;
    let done = world.run(&["policy", "test", text(&good)])?.expect(0);
    assert!(done.out.ends_with("2 passed, 0 failed\n"), "{}", done.out);
    let bad = world.write("bad.yaml", &POLICY.replace("expect: denied", "expect: allowed"))?;
    let done = world.run(&["policy", "test", text(&bad)])?.expect(7);
    assert!(
        done.out.contains("FAIL 10:") && done.out.contains("expected allowed, got denied by mode-default"),
        "{}",
        done.out
    );
    Ok(())
}

#[test]
fn explain_says_every_rule_and_why() -> Result<()> {
    let world = World::new()?;
    let file = world.write("p.yaml", POLICY)?;
    let done = world.run(&["policy", "explain", text(&file), "--to", "https://api.example.com/"])?.expect(0);
    assert!(done.out.contains("allowed by api"), "{}", done.out);
    let done = world.run(&["policy", "explain", text(&file), "--to", "10.0.0.8:443", "--json"])?.expect(0);
    let json: serde_json::Value = serde_json::from_str(&done.out)?;
    assert_eq!((json["verdict"].as_str(), json["rule"].as_str()), (Some("denied"), Some("guard:private")));
    world.run(&["policy", "explain", text(&file), "--to", "0x7f.1:80"])?.expect(2);
    world.run(&["policy", "explain", text(&file)])?.expect(2);
    Ok(())
}

#[test]
fn the_schema_is_a_json_schema() -> Result<()> {
    let schema: serde_json::Value = serde_json::from_str(&World::new()?.run(&["policy", "schema"])?.expect(0).out)?;
    assert!(schema["$schema"].as_str().is_some_and(|uri| uri.contains("2020-12")), "{schema}");
    Ok(())
}

#[test]
fn observe_filters_a_file() -> Result<()> {
    let world = World::new()?;
    let file = record(&world)?;
    let see = |flags: &[&str]| -> Result<Vec<String>> {
        let done = world.run(&[&["observe", "--input-file", text(&file), "-o", "jsonl"], flags].concat())?.expect(0);
        let name = |line: &str| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["destination"]["name"].as_str().unwrap().to_owned()
        };
        Ok(done.out.lines().map(name).collect())
    };
    let (api, other, third) = ("api.example.com", "other.example.com", "third.example.com");
    assert_eq!(see(&[])?, [api, other, third]);
    assert_eq!(see(&["--verdict", "denied"])?, [other, third]);
    assert_eq!(see(&["--host", "api.*", "--host", "third.*"])?, [api, third]);
    assert_eq!(see(&["--verdict", "denied", "--not", "--host", "third.*"])?, [other]);
    assert_eq!(see(&["--not", "--verdict", "denied"])?, [api]);
    assert_eq!(see(&["--last", "1"])?, [third]);
    assert_eq!(see(&["--first", "1"])?, [api]);
    assert_eq!(see(&["--since", "2020-01-01T00:00:00Z", "--until", "2020-01-02T00:00:00Z"])?, [""; 0]);
    Ok(())
}

#[test]
fn observe_has_four_forms_and_refuses_what_makes_no_sense() -> Result<()> {
    let world = World::new()?;
    let file = record(&world)?;
    let see = |flags: &[&str]| world.run(&[&["observe", "--input-file", text(&file)], flags].concat());
    let compact = see(&[])?.expect(0).out;
    assert!(compact.lines().count() == 3 && compact.contains("denied") && !compact.contains('\x1b'), "{compact}");
    assert_eq!(serde_json::from_str::<Vec<serde_json::Value>>(&see(&["--json"])?.expect(0).out)?.len(), 3);
    assert!(see(&["-o", "table"])?.expect(0).out.starts_with("SEQ"));
    assert!(see(&["--color", "always"])?.expect(0).out.contains('\x1b'));
    see(&["-f", "-o", "table"])?.expect(2);
    see(&["--not"])?.expect(2);
    see(&["--not", "--not", "--port", "1"])?.expect(2);
    see(&["--port", "many"])?.expect(2);
    // A slip is no empty answer.
    for (flag, slip, meant) in
        [("--verdict", "denid", "denied"), ("--type", "flw", "flow"), ("--protocol", "tpc", "tcp")]
    {
        let done = see(&[flag, slip])?.expect(2);
        assert!(done.err.contains(&format!("{slip:?} is no ")), "{}", done.err);
        assert!(done.err.contains(&format!("did you mean {meant:?}?")), "{}", done.err);
    }
    assert_eq!(see(&["--verdict", "deny"])?.expect(0).out, see(&["--verdict", "denied"])?.expect(0).out);
    world.run(&["observe"])?.expect(3);
    world.run(&["observe", "--run", "ffff"])?.expect(3);
    Ok(())
}

#[test]
fn audit_verify_finds_the_first_bad_number() -> Result<()> {
    let world = World::new()?;
    let file = record(&world)?;
    let done = world.run(&["audit", "verify", text(&file)])?.expect(0);
    assert!(done.out.contains("3 events"), "{}", done.out);
    let changed = std::fs::read_to_string(&file)?.replace("other.example.com", "0ther.example.com");
    std::fs::write(&file, changed)?;
    let done = world.run(&["audit", "verify", text(&file)])?.expect(1);
    assert!(done.out.contains("first bad sequence number 2"), "{}", done.out);
    Ok(())
}

#[test]
fn audit_verify_says_how_a_record_ends() -> Result<()> {
    let world = World::new()?;
    let file = record(&world)?;
    let done = world.run(&["audit", "verify", text(&file)])?.expect(0);
    assert!(done.out.contains("3 events, one chain to sequence number 3\n  last event: 3, 20"), "{}", done.out);
    assert!(done.out.contains(", flow.decided\n  the record ends without sandbox.ended: the run may"), "{}", done.out);
    world.run(&["audit", "verify", "--expect-ended", text(&file)])?.expect(1);
    // Cut off behind an event: one chain, and no end.
    let whole = std::fs::read_to_string(&file)?;
    let (first, _) = whole.split_once('\n').unwrap_or_default();
    std::fs::write(&file, format!("{first}\n"))?;
    let done = world.run(&["audit", "verify", text(&file)])?.expect(0);
    assert!(done.out.contains(": 1 event, one chain to sequence number 1\n"), "{}", done.out);
    std::fs::write(&file, "")?;
    let done = world.run(&["audit", "verify", text(&file)])?.expect(1);
    assert!(done.out.contains(": no event: a record begins with the start of a run"), "{}", done.out);
    std::fs::write(&file, "{")?;
    let done = world.run(&["audit", "verify", text(&file)])?.expect(1);
    assert!(done.out.contains(": no event, only 1 byte of an unfinished line"), "{}", done.out);
    // A run that is over says so.
    world.run(&["run", "--quiet", "--events", "../whole/e.jsonl", "--", "true"])?.expect(0);
    let done = world.run(&["audit", "verify", "--expect-ended", "../whole/e.jsonl"])?.expect(0);
    assert!(
        done.out.contains(", sandbox.ended\n  the record ends with sandbox.ended: the run is over\n"),
        "{}",
        done.out
    );
    Ok(())
}

#[test]
fn audit_export_speaks_ocsf() -> Result<()> {
    let world = World::new()?;
    let file = record(&world)?;
    let done = world.run(&["audit", "export", "--format", "ocsf", text(&file)])?.expect(0);
    assert_eq!(done.out.lines().count(), 3);
    for line in done.out.lines() {
        assert_eq!(serde_json::from_str::<serde_json::Value>(line)?["metadata"]["version"], "1.8.0");
    }
    let done = world.run(&["audit", "export", "--format", "jsonl", text(&file)])?.expect(0);
    assert_eq!(done.out, std::fs::read_to_string(&file)?);
    Ok(())
}

#[test]
fn completions_and_manual_pages_are_written() -> Result<()> {
    let world = World::new()?;
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(world.run(&["completions", shell])?.expect(0).out.contains("COMPLETE"), "{shell}");
    }
    let folder = world.path().join("man");
    world.run(&["man", text(&folder)])?.expect(0);
    for page in ["cofferdam.1", "cofferdam-run.1", "cofferdam-policy-explain.1"] {
        let text = std::fs::read_to_string(folder.join(page))?;
        for section in ["\"EXIT STATUS\"", "ENVIRONMENT", "EXAMPLES"] {
            assert!(text.contains(&format!("\n.SH {section}\n.nf\n")), "{page}: {section}\n{text}");
        }
    }
    Ok(())
}

#[test]
fn known_words_complete() -> Result<()> {
    let world = World::new()?;
    for (line, expected) in [
        (&["observe", "--verdict", "den"][..], "denied"),
        (&["observe", "--type", "flow.e"], "flow.ended"),
        (&["observe", "--protocol", "u"], "udp"),
        (&["run", "--managed", "car"], "cargo"),
        (&["run", "--managed", "pip,nu"], "pip,nuget"),
        (&["policy", "init", "--preset", "agent"], "agent-containment"),
    ] {
        let mut command = world.command(&[&["--", "cofferdam"], line].concat());
        let done = support::Done::of(&command.env("COMPLETE", "fish").output()?).expect(0);
        assert_eq!(done.out.trim_end(), expected, "{}", done.err);
    }
    Ok(())
}

#[test]
fn help_begins_with_examples() -> Result<()> {
    let world = World::new()?;
    for command in [
        &["--help"][..],
        &["run", "--help"],
        &["observe", "--help"],
        &["policy", "explain", "--help"],
        &["policy", "validate", "--help"],
        &["ps", "--help"],
    ] {
        let out = world.run(command)?.expect(0).out;
        let examples = out.split("\n\n").next().unwrap_or_default();
        assert!(examples.starts_with("Examples:\n"), "{command:?}");
        assert!(examples.lines().all(|line| line.len() <= 80), "{command:?}: an example is wrapped\n{examples}");
    }
    Ok(())
}

#[test]
fn wrong_use_is_2_but_125_for_run() -> Result<()> {
    let world = World::new()?;
    world.run(&["obserf"])?.expect(2);
    world.run(&["policy", "test"])?.expect(2);
    for wrong in [
        &["run"][..],
        &["run", "--memory", "lots", "--", "true"],
        &["--color", "never", "run", "--memory", "lots", "--", "true"],
        &["--color", "never", "run", "--policy", "missing.yaml", "--", "true"],
        &["run", "--policy", "x", "--allow", "y.example", "--", "true"],
    ] {
        world.run(wrong)?.expect(125);
    }
    let setting = world.command(&["run", "--", "true"]).env("COFFERDAM_QUIET", "maybe").output()?;
    support::Done::of(&setting).expect(125);
    let range = world.run(&["run", "--allow", "10.0.0.0/33", "--", "true"])?.expect(125);
    assert!(range.err.contains("\"10.0.0.0/33\" is no range"), "{}", range.err);
    Ok(())
}

#[test]
fn wrong_use_is_said_in_its_own_words() -> Result<()> {
    let world = World::new()?;
    let both = world.run(&["policy", "diff", "-", "-"])?.expect(2);
    assert!(both.err.contains("both policies can't be standard input"), "{}", both.err);
    for misplaced in [&["observe", "--not"][..], &["observe", "--not", "--not", "--host", "x"]] {
        let done = world.run(misplaced)?.expect(2);
        assert!(done.err.starts_with("error: --not stands before no filter\n\nhint: "), "{}", done.err);
    }
    let nothing = world.run(&["policy", "explain", "policy.yaml"])?.expect(2);
    assert!(nothing.err.contains("<--to <WHERE>|--event <SEQ>>"), "{}", nothing.err);
    let validate = world.run(&["policy", "validate", "--help"])?.expect(0).out;
    assert!(!validate.contains("policy test"), "{validate}");
    let full = world.command(&["policy", "schema"]).stdout(std::fs::File::create("/dev/full")?).output()?;
    let full = support::Done::of(&full).expect(1);
    assert!(full.err.starts_with("error: writing to standard output\n  caused by: No space left"), "{}", full.err);
    Ok(())
}

#[test]
fn what_is_no_record_is_said_as_it_is() -> Result<()> {
    let world = World::new()?;
    for command in [&["observe", "--input-file", "."][..], &["audit", "verify", "."], &["audit", "verify", "/"]] {
        let done = world.run(command)?.expect(1);
        assert!(done.err.contains("it is no file"), "{command:?}: {}", done.err);
    }
    let notes = world.write("notes.txt", "one\ntwo\n")?;
    let done = world.run(&["observe", "--json", "--input-file", text(&notes)])?.expect(0);
    assert_eq!(done.out, "[]\n");
    assert!(done.err.contains("left out, for they are no events: 2 lines"), "{}", done.err);
    Ok(())
}

#[test]
fn audit_reads_standard_input() -> Result<()> {
    let world = World::new()?;
    let path = record(&world)?;
    for command in [&["audit", "verify", "-"][..], &["audit", "export", "--format", "ocsf", "-"]] {
        let output = world.command(command).stdin(std::fs::File::open(&path)?).output()?;
        assert!(!support::Done::of(&output).expect(0).out.is_empty(), "{command:?}");
        let (reader, mut writer) = std::io::pipe()?;
        let child = world.command(command).stdin(reader).stdout(std::process::Stdio::piped()).spawn()?;
        std::io::copy(&mut std::fs::File::open(&path)?, &mut writer)?;
        drop(writer);
        assert_eq!(child.wait_with_output()?.stdout, output.stdout, "{command:?}");
    }
    Ok(())
}

#[test]
fn a_run_that_never_started_is_said_to_be_one() -> Result<()> {
    let world = World::new()?;
    let state = world.path().join("never");
    std::fs::create_dir_all(state.join("runs/01a1fe9b-a002-702c-93b0-a82805ede56f"))?;
    let done = support::Done::of(&world.command(&["observe"]).env("COFFERDAM_STATE", &state).output()?).expect(3);
    assert!(done.err.contains("run 05ede56f never started") && done.err.contains("--run"), "{}", done.err);
    Ok(())
}

#[test]
fn a_working_directory_that_is_no_text_is_named() -> Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    let world = World::new()?;
    let folder = world.path().join(std::ffi::OsStr::from_bytes(b"not-\xff-text"));
    std::fs::create_dir(&folder)?;
    let done = support::Done::of(&world.command(&["run", "--", "true"]).current_dir(&folder).output()?).expect(125);
    assert!(done.err.contains("is not UTF-8 text: ") && done.err.contains("not-"), "{}", done.err);
    assert!(done.err.contains("--workdir DIR"), "{}", done.err);
    Ok(())
}

#[test]
fn settings_show_their_origin() -> Result<()> {
    let world = World::new()?;
    let folder = world.path().join("home/.config/cofferdam");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("config.toml"), "durability = 'fsync'\n")?;
    let output = world.command(&["doctor", "--json"]).env("COFFERDAM_QUIET", "1").output()?;
    let json: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let from = |name: &str| {
        let settings = json["settings"].as_array().unwrap();
        settings.iter().find(|setting| setting["name"] == name).unwrap()["from"].as_str().unwrap().to_owned()
    };
    assert!(from("durability").ends_with("config.toml"));
    assert_eq!((from("quiet"), from("policy")), ("environment COFFERDAM_QUIET".to_owned(), "default".to_owned()));
    // A file's paths are from its own folder, wherever the command is given.
    std::fs::write(folder.join("config.toml"), "policy = 'p.yaml'\nquiet = true\nstate = '/var/lib/x'\n")?;
    let json: serde_json::Value = serde_json::from_str(&world.run(&["doctor", "--json"])?.out)?;
    let value = |name: &str| {
        let settings = json["settings"].as_array().unwrap();
        settings.iter().find(|setting| setting["name"] == name).unwrap()["value"].as_str().unwrap().to_owned()
    };
    assert_eq!((value("policy"), value("quiet")), (folder.join("p.yaml").display().to_string(), "true".to_owned()));
    std::fs::write(folder.join("config.toml"), "durabilty = 'fsync'\n")?;
    let done = world.run(&["ps"])?.expect(1);
    assert!(done.err.contains("durabilty"), "{}", done.err);
    Ok(())
}

#[test]
fn a_url_as_a_host_is_answered_with_the_host() -> Result<()> {
    let world = World::new()?;
    let done = world.run(&["run", "--allow", "https://api.example.com/v1", "--", "true"])?.expect(125);
    assert!(done.err.contains("write api.example.com:443"), "{}", done.err);
    let help = world.run(&["run", "--help"])?.expect(0).out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.contains("`api.example.com:443` one port, `api.example.com` every port"), "{help}");
    Ok(())
}

#[test]
fn a_command_without_the_two_dashes_is_told_about_them() -> Result<()> {
    let world = World::new()?;
    let done = world.run(&["run", "ls"])?.expect(125);
    assert!(done.err.contains("the command comes behind `--`"), "{}", done.err);
    Ok(())
}

#[test]
fn a_service_without_a_home_has_the_one_of_its_user() -> Result<()> {
    let world = World::new()?;
    let mut command = world.command(&["doctor"]);
    command.env_remove("HOME").env_remove("XDG_STATE_HOME").env_remove("XDG_CONFIG_HOME").env_remove("COFFERDAM_STATE");
    let done = support::Done::of(&command.output()?);
    assert!(!done.err.contains("making /.local"), "{}", done.err);
    Ok(())
}
