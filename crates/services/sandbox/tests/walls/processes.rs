//! How a run ends, and that nothing of it is left.

use std::process::{Command, Stdio};

use sandbox::{Exit, GroupLimits, Spec, Streams};

use crate::bench::{Bench, as_anybody, nothing};

#[test]
fn exit_codes_are_the_workloads() {
    as_anybody(|| {
        let cases = [
            ("exit 0", Exit::Ended { code: 0 }, 0),
            ("exit 7", Exit::Ended { code: 7 }, 7),
            ("kill -9 $$", Exit::Ended { code: 137 }, 137),
            ("kill -TERM $$", Exit::Ended { code: 143 }, 143),
        ];
        for (line, exit, code) in cases {
            let outcome = Bench::bash(line).run();
            assert_eq!((&outcome.exit, outcome.exit.code()), (&exit, code), "{line}");
        }
        for (command, code) in [("no-such-program", 127), ("/usr", 126), ("/etc/services", 126), ("/nowhere/x", 127)] {
            let outcome = Bench::new(&[command]).run();
            assert!(matches!(outcome.exit, Exit::NotRun { .. }), "{command}: {outcome:?}");
            assert_eq!(outcome.exit.code(), code, "{command}: {outcome:?}");
        }
    });
}

#[test]
fn streams_can_be_opened_by_name() {
    as_anybody(|| {
        let outcome =
            Bench::bash("echo one > /dev/stdout; echo two > /dev/stderr; echo three >> /proc/self/fd/1").run();
        assert_eq!(outcome.good(), "one\ntwo\nthree\n");
    });
}

#[test]
fn thousands_of_orphans_are_reaped() {
    as_anybody(|| {
        // Each is left by its parent at once, so init is the one who must reap it.
        let line = "for i in $(seq 2000); do (true &) ; done; \
                    until [ $(ls /proc | grep -c '^[0-9]') -lt 8 ]; do :; done; ls /proc | grep -c '^[0-9]'";
        let left: u32 = Bench::bash(line).run().good().trim().parse().unwrap();
        assert!(left < 8, "{left}");
    });
}

#[test]
fn what_runs_on_is_killed_at_the_end() {
    as_anybody(|| {
        let outcome = Bench::bash("setsid sleep 1000 & disown; echo done").run();
        // The output's pipe closed, so nobody who held it is left.
        assert_eq!(outcome.good(), "done\n");
    });
}

#[test]
fn signals_reach_the_workload() {
    as_anybody(|| {
        let bench = Bench::bash("trap 'echo got; exit 3' TERM; echo ready; while :; do :; done");
        let (reader, writer) = std::io::pipe().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let streams = Streams::Given([null.into(), writer.try_clone().unwrap().into(), writer.into()]);
        let spec = Spec { plan: bench.request.plan().unwrap().plan, limits: GroupLimits::default(), streams };
        let started = sandbox::start(&spec).unwrap();
        drop(spec);
        let running = started.sandbox.run().unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(reader));
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        running.remote().signal(libc::SIGTERM).unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "got");
        assert_eq!(running.wait(), Exit::Ended { code: 3 });
    });
}

#[test]
fn a_kill_ends_it_as_lost() {
    let bench = Bench::new(&["sleep", "1000"]);
    let spec = Spec { plan: bench.request.plan().unwrap().plan, limits: GroupLimits::default(), streams: nothing() };
    let running = sandbox::start(&spec).unwrap().sandbox.run().unwrap();
    let remote = running.remote();
    std::thread::spawn(move || remote.kill());
    assert_eq!(running.wait().code(), 125);
}

/// Set in the run that is to be killed.
const VICTIM: &str = "SANDBOX_TEST_VICTIM";

#[test]
fn the_hosts_death_kills_the_whole_tree() {
    if std::env::var_os(VICTIM).is_some() {
        let bench = Bench::bash("setsid sleep 1000 & echo up; exec sleep 1000");
        let outcome_never_comes = bench.request.plan().unwrap().plan;
        let spec = Spec { plan: outcome_never_comes, limits: GroupLimits::default(), streams: Streams::Inherit };
        sandbox::start(&spec).unwrap().sandbox.run().unwrap().wait();
        return;
    }
    as_anybody(|| {
        let name = std::thread::current().name().unwrap().to_owned();
        let mut host = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &name, "--nocapture"])
            .env(VICTIM, "1")
            .env("HOME", "/home/ordinary")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut output = std::io::BufReader::new(host.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("up") {
            line.clear();
            assert!(std::io::BufRead::read_line(&mut output, &mut line).unwrap() > 0, "it did not come up");
        }
        host.kill().unwrap();
        host.wait().unwrap();
        // Every process of the sandbox holds the pipe: its end is their end.
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut output, &mut rest).unwrap();
    });
}

#[test]
fn limits_hold_or_refuse() {
    as_anybody(|| {
        let mut bench = Bench::bash("for i in $(seq 60); do sleep 5 & done 2>/dev/null; jobs -r | wc -l");
        bench.limits = GroupLimits { pids: Some(32), ..GroupLimits::default() };
        let outcome = bench.run();
        let started: Option<u32> = outcome.output.trim().lines().last().and_then(|line| line.parse().ok());
        assert!(started.is_none_or(|count| count < 32), "{outcome:?}");

        let mut bench = Bench::new(&["true"]);
        bench.limits = GroupLimits { memory: Some(64 << 20), ..GroupLimits::default() };
        let plan = bench.request.clone().plan().unwrap().plan;
        let spec = Spec { plan, limits: bench.limits, streams: nothing() };
        match sandbox::start(&spec) {
            Ok(started) => {
                assert!(started.enforced.iter().any(|wall| wall.contains("memory")));
                started.sandbox.discard();
                let line = "head -c 300000000 /dev/zero | tail -c 299999999 | wc -c";
                let greedy = Bench { request: Bench::bash(line).request, ..bench }.run();
                assert!(!greedy.output.contains("299999999"), "{greedy:?}");
            }
            Err(error) => assert!(matches!(error, sandbox::StartError::Limit { what: "memory", .. }), "{error:?}"),
        }
    });
}
