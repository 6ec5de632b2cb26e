//! The front outlives the gateway and says so; the gateway does not outlive the front.
//!
//! A front must be made before there is a thread, which a test always has: so the test runs the example `guarded`.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// The example, beside the folder of the test program.
fn guarded(what: &str) -> Child {
    let program: PathBuf = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples/guarded");
    Command::new(program).arg(what).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// What it says first: the gateway's process id.
fn gateway(front: &mut Child) -> (Pid, BufReader<std::process::ChildStdout>) {
    let mut output = BufReader::new(front.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    (Pid::from_raw(line.trim().parse().unwrap()).unwrap(), output)
}

#[test]
fn the_front_ends_with_the_gateways_code() {
    let mut front = guarded("7");
    assert_eq!(front.wait().unwrap().code(), Some(7));
}

#[test]
fn a_killed_gateway_is_125_and_takes_the_sandbox_with_it() {
    let mut front = guarded("sandbox");
    let (gateway, mut output) = gateway(&mut front);
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "up\n", "the workload runs");
    kill_process(gateway, Signal::KILL).unwrap();
    // The workload holds the pipe: its end is the workload's.
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert_eq!(front.wait().unwrap().code(), Some(125));
    let mut told = String::new();
    front.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(told.contains("the gateway was killed (signal 9)"), "{told}");
}

#[test]
fn a_killed_front_takes_all_with_it() {
    let mut front = guarded("sandbox");
    let (_, mut output) = gateway(&mut front);
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    front.kill().unwrap();
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    front.wait().unwrap();
}

#[test]
fn a_signal_to_the_front_reaches_the_gateway() {
    let mut front = guarded("signal");
    let (_, mut output) = gateway(&mut front);
    let pid = Pid::from_raw(front.id().cast_signed()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "got 15\n");
    assert_eq!(front.wait().unwrap().code(), Some(3));
}

#[test]
fn a_front_is_refused_where_there_are_threads() {
    let waiting = std::thread::spawn(std::thread::park);
    assert!(matches!(sandbox::guard(), Err(sandbox::GuardError::Threads)));
    waiting.thread().unpark();
}
