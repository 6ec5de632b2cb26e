//! Processes that are killed while much is open: the run ends with 125, nothing of it stays, and nothing more leaves.

use anyhow::{Result, ensure};

use crate::live::{Setting, until};

/// Streams both ways, new connections all the while, and children in sessions of their own.
const BUSY: &str = r#"
def stream():
    with socket.create_connection(PLAIN, 20) as s:
        while True:
            s.sendall(b"\0" * 65536)
            s.recv(65536)
def again():
    while True:
        get("/busy")
for work in [stream] * 4 + [again] * 4:
    threading.Thread(target=work, daemon=True).start()
for _ in range(20):
    if os.fork() == 0:
        os.setsid()
        while True:
            get("/child")
for _ in range(20):
    get("/first")
print("ready")
while True:
    time.sleep(1000)
"#;

/// Kills a process of a busy run. Gives the run's exit code and what it said.
fn killed(who: &str) -> Result<(Option<i32>, String)> {
    let setting = Setting::new()?;
    let mut live = setting.python("", &["--quiet"], BUSY, &[])?;
    live.line("ready")?;
    let gateway = setting.gateway()?;
    let line = match who {
        "gateway" => format!("kill -KILL {gateway}"),
        "front" => format!("kill -KILL $(ps -o ppid= -p {gateway})"),
        "init" => format!("kill -KILL $(pgrep -P {gateway})"),
        other => anyhow::bail!("nobody is called {other}"),
    };
    let done = setting.shell(&line)?;
    ensure!(done.status.is_some_and(|status| status.success()), "{line}: {}", done.stderr);
    let ended = live.end()?;
    // The run's output is closed: nobody who held it is left.
    until("a time when nobody of the run is left", || setting.nobody_is_called("[p]robe.py"))?;
    let before = setting.lab.reached()?;
    ensure!(before.iter().any(|one| one.holds("/first")));
    ensure!(setting.lab.reached()?.is_empty(), "something still leaves");
    // What left is in the record, which is one chain, but perhaps for a torn last line.
    let verified = setting.world.run(&["audit", "verify"])?;
    ensure!(verified.code == Some(0), "{}{}", verified.out, verified.err);
    Ok(ended)
}

#[test]
fn a_killed_gateway() -> Result<()> {
    let (code, told) = killed("gateway")?;
    ensure!(code == Some(125) && told.contains("the gateway was killed (signal 9)"), "{code:?} {told}");
    ensure!(told.contains("before you use git, read config and hooks in every .git there"), "{told}");
    Ok(())
}

#[test]
fn a_killed_front() -> Result<()> {
    let (code, told) = killed("front")?;
    // Whoever waited for the front is told of its death by signal.
    ensure!(code.is_none_or(|code| code == 137), "{code:?} {told}");
    Ok(())
}

#[test]
fn a_killed_init() -> Result<()> {
    let (code, told) = killed("init")?;
    ensure!(code == Some(125) && told.contains("the sandbox was killed"), "{code:?} {told}");
    Ok(())
}

#[test]
fn a_program_that_crashes_leaves_no_core() -> Result<()> {
    let setting = Setting::new()?;
    let script = r#"
import signal
print("limits", *resource.getrlimit(resource.RLIMIT_CORE))
# As programs do that hold secrets: it is said to be done, and 1 stays, with which the kernel starts no handler either.
for size in (0, 1 << 30):
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (size, size))
    except (OSError, ValueError):
        print("refused")
    print("limits", *resource.getrlimit(resource.RLIMIT_CORE))
os.kill(os.getpid(), signal.SIGSEGV)
"#;
    let mut live = setting.python("ulimit -c unlimited 2>/dev/null || :", &["--quiet"], script, &[])?;
    let limits = live.line("limits")?;
    // Nobody raises a hard limit of 0 but root.
    ensure!(limits == "1 1" || (limits == "0 0" && setting.lab.is_rootless()), "{limits}");
    ensure!(live.line("limits")? == limits);
    ensure!(live.line("limits")? == limits);
    let (code, told) = live.end()?;
    ensure!(code == Some(139), "{code:?} {told}");
    let names: Vec<_> =
        std::fs::read_dir(setting.world.work())?.map(|entry| Ok(entry?.file_name())).collect::<Result<_>>()?;
    ensure!(names == ["probe.py"], "{names:?}");
    Ok(())
}

/// Standard error is the command's, too: whoever fills it, or reads it no more, holds up nothing and changes no code.
#[test]
fn a_standard_error_that_nobody_reads() -> Result<()> {
    let setting = Setting::new()?;
    let script = r#"
os.set_blocking(2, False)
try:
    while True:
        os.write(2, b"x" * 4096)
except BlockingIOError:
    pass
os.set_blocking(2, True)
print("full")
wait()
print("statuses", *[get(f"/{number}") for number in range(50)])
wait()
sys.exit(7)
"#;
    let record = setting.beside("events.jsonl");
    let mut live =
        setting.python("export COFFERDAM_LOG=debug", &["--events", &record.display().to_string()], script, &[])?;
    live.line("full")?;
    live.go()?;
    ensure!(live.line("statuses")?.split(' ').all(|status| status == "200"));
    // Each failure is told, and nobody waits for that.
    std::fs::remove_file(&record)?;
    ensure!(setting.deny_all()? == 0);
    drop(live.child.stderr.take());
    live.go()?;
    let (code, told) = live.end()?;
    // The record is gone.
    ensure!(code == Some(125), "{code:?} {told}");
    let mut live = setting.python("", &[], "wait()\nsys.exit(7)\n", &[])?;
    drop(live.child.stderr.take());
    live.go()?;
    let (code, told) = live.end()?;
    ensure!(code == Some(7), "{code:?} {told}");
    Ok(())
}
