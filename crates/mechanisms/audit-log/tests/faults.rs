//! What happens to a log when its process is killed or its disk is full. Both need a process of their own: the test
//! starts itself again with one of the ignored tests below.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use audit_event::{Event, PolicyRefused, RunContext, verify};
use audit_log::{AuditLog, Durability, Options, RecordError};
use tempfile::TempDir;

/// Tells the child where to work.
const FOLDER: &str = "AUDIT_LOG_TEST_FOLDER";
/// Tells the child how.
const DURABILITY: &str = "AUDIT_LOG_TEST_DURABILITY";

fn open(path: &Path) -> AuditLog {
    let durability = match env::var(DURABILITY).as_deref() {
        Ok("fsync") => Durability::Fsync,
        _ => Durability::Written,
    };
    let context = RunContext { sandbox: "run-test".into(), thread: None, tool_call: None };
    AuditLog::open(path, context, Options { durability, ..Options::default() }).unwrap()
}

fn event(text: &str) -> Event {
    Event::PolicyRefused(PolicyRefused { revision: "1".into(), reason: text.into() })
}

fn child(program: &Path, first: &[&str], test: &str, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(first).args(["--exact", test, "--ignored", "--nocapture"]).env(FOLDER, folder);
    command
}

fn log_in_folder() -> PathBuf {
    PathBuf::from(env::var_os(FOLDER).expect("started by another test")).join("events.jsonl")
}

#[test]
#[ignore = "started by what_was_acknowledged_survives_a_kill"]
fn child_that_is_killed() {
    let log = open(&log_in_folder());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let recorded = log.record_blocking(event(&"x".repeat(300))).unwrap();
                    // One write per answer; what is in the pipe survives the kill.
                    let line = format!("recorded {}\n", recorded.seq());
                    std::io::stderr().write_all(line.as_bytes()).unwrap();
                }
            });
        }
    });
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("events.jsonl");
    for round in 0..12 {
        let durability = if round % 3 == 2 { "fsync" } else { "written" };
        let mut killed = child(&env::current_exe().unwrap(), &[], "child_that_is_killed", folder.path())
            .env(DURABILITY, durability)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut acknowledged = 0;
        let mut lines = BufReader::new(killed.stderr.take().unwrap()).lines();
        let mut seen = 0;
        while let Some(Ok(line)) = lines.next() {
            if let Some(seq) = line.strip_prefix("recorded ").and_then(|seq| seq.parse::<u64>().ok()) {
                acknowledged = acknowledged.max(seq);
                seen += 1;
            }
            if seen == 40 * (round + 1) {
                killed.kill().unwrap();
            }
        }
        killed.wait().unwrap();
        assert!(seen > 0);
        let chain = verify(fs::read(&path).unwrap().as_slice()).unwrap();
        assert!(chain.last.seq >= acknowledged, "{acknowledged} was acknowledged, {} is there", chain.last.seq);
    }
}

#[test]
#[ignore = "started by nothing_is_recorded_on_a_full_disk"]
fn child_on_a_full_disk() {
    let path = log_in_folder();
    let folder = path.parent().unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "none"]).arg(folder).status().unwrap();
    assert!(mounted.success());
    let ballast = folder.join("ballast");
    fs::write(&ballast, vec![0; 100 << 10]).unwrap();
    let log = open(&path);
    let mut recorded = 0;
    let error = loop {
        match log.record_blocking(event(&"x".repeat(700))) {
            Ok(answer) => {
                recorded += 1;
                assert_eq!(answer.seq(), recorded);
            }
            Err(error) => break error,
        }
    };
    assert!(matches!(error, RecordError::Full { .. }), "{error:?}");
    // Again and again: the file stays a whole chain of what was acknowledged.
    for _ in 0..5 {
        assert!(log.record_blocking(event(&"x".repeat(700))).is_err());
        let chain = verify(fs::read(&path).unwrap().as_slice()).unwrap();
        assert_eq!((chain.events, chain.torn_tail, log.events()), (recorded, None, recorded));
    }
    // Four threads that write together are all refused.
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert!(log.record_blocking(event(&"x".repeat(5_000))).is_err()));
        }
    });
    // What nobody waits for is kept until there is room.
    log.record_later(event(&"x".repeat(5_000)));
    assert!(log.record_blocking(event(&"x".repeat(5_000))).is_err());
    fs::remove_file(&ballast).unwrap();
    assert_eq!(log.record_blocking(event("there is room again")).unwrap().seq(), recorded + 1);
    let chain = verify(fs::read(&path).unwrap().as_slice()).unwrap();
    assert_eq!((chain.events, chain.torn_tail), (recorded + 2, None));
    println!("the disk was full");
}

#[test]
fn nothing_is_recorded_on_a_full_disk() {
    let namespace = ["--user", "--map-root-user", "--mount"];
    let can = Command::new("unshare").args(namespace).arg("true").status().is_ok_and(|status| status.success());
    if !can {
        eprintln!("skipped: no user and mount namespaces here");
        return;
    }
    for durability in ["written", "fsync"] {
        let folder = TempDir::new().unwrap();
        let program = env::current_exe().unwrap();
        let mut first = namespace.to_vec();
        first.push(program.to_str().unwrap());
        let output = child(Path::new("unshare"), &first, "child_on_a_full_disk", folder.path())
            .env(DURABILITY, durability)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("the disk was full"), "{text}{output:?}");
    }
}
