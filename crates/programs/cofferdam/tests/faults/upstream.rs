//! Servers that reset, say nothing, never stop, or end one half.

use std::process::{Child, Stdio};

use anyhow::{Context as _, Result, ensure};
use network_lab::Place;

use crate::live::{PYTHON, Setting};

/// Servers at an address of the lab's internet that nobody else has, one port for each habit.
const SERVERS: &str = r#"
import socket, struct, sys, threading
def reset(s):
    s.recv(100)
    s.sendall(b"\0" * 1000)
    s.recv(100)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()
def forever(s):
    sent = 0
    try:
        while True:
            sent += s.send(b"\0" * 65536)
    except OSError:
        print("forever", sent, flush=True)
def half(s):
    s.sendall(b"\0first")
    s.shutdown(socket.SHUT_WR)
    got = 0
    while data := s.recv(65536):
        got += len(data)
    print("half", got, flush=True)
def silent(s):
    while s.recv(65536):
        pass
    print("silent", flush=True)
def serve(port, habit):
    listener = socket.create_server(("203.0.113.77", port))
    while True:
        s, _ = listener.accept()
        threading.Thread(target=habit, args=[s], daemon=True).start()
for port, habit in enumerate([reset, forever, half, silent], 7001):
    threading.Thread(target=serve, args=[port, habit], daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
"#;

/// The servers; they end with the lab, or when this is dropped.
struct Servers(Child);

impl Drop for Servers {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _reaped = self.0.wait();
    }
}

fn servers(setting: &Setting) -> Result<(Servers, std::io::Lines<std::io::BufReader<std::process::ChildStdout>>)> {
    let mut command = setting.lab.namespace(Place::Internet).command(PYTHON);
    let mut child = command.args(["-c", SERVERS]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let out = std::io::BufReader::new(child.stdout.take().context("no output")?);
    let servers = Servers(child);
    let mut lines = std::io::BufRead::lines(out);
    ensure!(lines.next().transpose()?.as_deref() == Some("ready"));
    Ok((servers, lines))
}

#[test]
fn odd_servers_are_told_from_whole_answers_and_hold_up_nobody() -> Result<()> {
    let setting = Setting::new()?;
    let (_servers, mut told) = servers(&setting)?;
    let script = r#"
def to(port):
    s = socket.create_connection(("203.0.113.77", port), 20)
    s.settimeout(60)
    return s
# A torn stream is no whole one.
s = to(7001)
s.sendall(b"\0")
got = 0
while got < 1000:
    got += len(s.recv(1000 - got))
s.sendall(b"\0")
try:
    print("reset", "whole" if s.recv(100) == b"" else "more")
except ConnectionResetError:
    print("reset", "torn")
# Nobody reads what never ends: it is not kept either.
s = to(7002)
s.sendall(b"\0")
s.recv(1)
print("forever")
wait()
print("status", get("/beside-it"))
s.close()
# The server ends its half, ours goes on.
s = to(7003)
data = b""
while more := s.recv(100):
    data += more
for _ in range(100):
    s.sendall(b"\0" * 10000)
s.close()
print("half", data.decode().strip("\0"))
# A silent one, left by us.
s = to(7004)
s.sendall(b"\0")
wait()
s.close()
wait()
"#;
    let mut live = setting.python("", &["--quiet"], script, &[])?;
    ensure!(live.line("reset")? == "torn");
    live.line("forever")?;
    let before = setting.status("VmRSS")?;
    setting.shell("sleep 0.5")?;
    let more = setting.status("VmRSS")?.saturating_sub(before);
    ensure!(more < 16 << 10, "{more} KiB more");
    live.go()?;
    ensure!(live.number("status")? == 200);
    let mut next = || told.next().context("the servers ended")?.context("reading");
    let forever = next()?;
    let sent: u64 = forever.strip_prefix("forever ").context("another line")?.parse()?;
    ensure!(sent < 64 << 20, "{sent} bytes were taken that nobody read");
    ensure!(live.line("half")? == "first");
    ensure!(next()? == "half 1000000");
    live.go()?;
    ensure!(next()? == "silent");
    live.go()?;
    ensure!(live.end()?.0 == Some(0));
    let ended = setting.world.run(&["observe", "--type", "flow.ended", "-o", "jsonl"])?.expect(0).out;
    let torn = ended.lines().find(|line| line.contains("\"port\":7001")).context("the reset flow")?;
    ensure!(torn.contains("\"ended_by\":\"server\""), "{torn}");
    Ok(())
}

#[test]
fn what_does_not_answer_is_given_up_and_said() -> Result<()> {
    let setting = Setting::new()?;
    let script = r#"
start = time.monotonic()
statuses, threads = [], []
def one(number):
    statuses.append(get(f"/{number}", "blackhole.allowed.test", 60))
address("blackhole.allowed.test")
for number in range(50):
    threads.append(threading.Thread(target=one, args=[number]))
    threads[-1].start()
print("others", get("/meanwhile"))
[thread.join() for thread in threads]
print("statuses", sorted(set(statuses)), len(statuses))
for host in ("loop", "silent", "broken", "garbage", "wrong-id", "wrong-question"):
    try:
        socket.gethostbyname(f"{host}.allowed.test")
        print("resolved", host)
    except OSError:
        pass
print("others", get("/afterwards"))
"#;
    let mut live = setting.python("", &["--quiet"], script, &[])?;
    ensure!(live.number("others")? == 200);
    let statuses = live.line("statuses")?;
    ensure!(statuses == "[504] 50", "{statuses}");
    ensure!(live.number("others")? == 200);
    let (code, told) = live.end()?;
    ensure!(code == Some(0) && !told.contains("resolved"), "{told}");
    let seen = setting.world.run(&["observe", "--type", "flow.ended", "-o", "jsonl"])?.expect(0).out;
    let unreachable = seen.lines().filter(|line| line.contains("\"ended_by\":\"unreachable\"")).count();
    ensure!(unreachable == 50, "{unreachable}");
    Ok(())
}
