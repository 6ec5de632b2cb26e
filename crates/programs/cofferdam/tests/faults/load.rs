//! More than fits: connections, descriptors, slow beginnings, processes.

use anyhow::{Result, ensure};

use crate::live::{Live, Setting, until};

/// Opens connections until it has so many or is refused; each says a byte that is no beginning of a protocol.
const HOLD: &str = r#"
count, held = int(sys.argv[1]), []
for number in range(count):
    try:
        if number % 2:
            s = socket.create_connection(PROXY, 60)
            s.sendall(b"CONNECT 203.0.113.40:7 HTTP/1.1\r\n\r\n")
        else:
            s = socket.create_connection(PLAIN, 60)
        s.sendall(b"\0")
        held.append(s)
    except OSError:
        pass
alive = []
for s in held:
    try:
        s.settimeout(60)
        data = s.recv(4096)
        while data and not data.endswith(b"\0"):
            data = s.recv(4096)
        if data:
            alive.append(s)
    except OSError:
        pass
print("held", len(alive))
"#;

#[test]
fn a_flood_of_descriptors_leaves_the_operator_in_charge() -> Result<()> {
    let setting = Setting::new()?;
    let script = format!(
        "{HOLD}\
         wait()\n\
         for s in held: s.close()\n\
         print('ended', sum(ended(s) for s in alive if s.fileno() >= 0))\n\
         print('status', get('/after'))\n"
    );
    let script = script.replace("for s in held: s.close()", "for s in set(held) - set(alive): s.close()");
    // Far fewer descriptors than the flood asks for.
    let mut live = setting.python("ulimit -n 1024", &["--quiet"], &script, &["1500"])?;
    let held = live.number("held")?;
    ensure!((100..500).contains(&held), "{held} are held");
    // With all of them open the gateway does not spin, and a new policy comes into force.
    let before = setting.processor_time()?;
    setting.shell("sleep 1")?;
    let took = setting.processor_time()? - before;
    ensure!(took < 50, "{took} ticks of processor time while nothing happened");
    ensure!(setting.deny_all()? >= held);
    live.go()?;
    ensure!(live.number("ended")? == held);
    ensure!(live.number("status")? != 200);
    ensure!(live.end()?.0 == Some(0));
    setting.world.run(&["audit", "verify"])?.expect(0);
    Ok(())
}

#[test]
fn what_a_flood_held_is_free_again_when_it_ends() -> Result<()> {
    let setting = Setting::new()?;
    let script = format!(
        "{HOLD}\
         [s.close() for s in held]\n\
         until = time.monotonic() + 60\n\
         while get('/after') != 200 and time.monotonic() < until: pass\n\
         print('status', get('/again'))\n"
    );
    let mut live = setting.python("ulimit -n 300", &["--quiet"], &script, &["600"])?;
    ensure!((10..150).contains(&live.number("held")?));
    ensure!(live.number("status")? == 200);
    ensure!(live.end()?.0 == Some(0));
    Ok(())
}

#[test]
fn thousands_of_idle_tunnels_cost_little_and_hold_up_nobody() -> Result<()> {
    let setting = Setting::new()?;
    let script = format!("{HOLD}print('status', get('/while', bound=60))\nwait()\n");
    // As far as the machine lets us: each takes two descriptors of the gateway.
    let raise = "ulimit -n 65536 2>/dev/null || :";
    let limit = setting.shell(&format!("{raise}; ulimit -n"))?.stdout.trim().parse().unwrap_or(u64::MAX);
    let count = 10_000.min(limit / 8 * 3);
    let mut live = setting.python(raise, &["--quiet"], &script, &[&count.to_string()])?;
    ensure!(live.number("held")? == count);
    ensure!(live.number("status")? == 200);
    // In an unoptimised build.
    let memory = setting.status("VmRSS")?;
    ensure!(memory < 200 << 10, "{memory} KiB");
    live.go()?;
    ensure!(live.end()?.0 == Some(0));
    Ok(())
}

#[test]
fn slow_beginnings_are_cut_and_hold_up_nobody() -> Result<()> {
    let setting = Setting::new()?;
    let script = r#"
hello = bytes([22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]) + bytes(500)
allowed = socket.gethostbyname("allowed.test")
beginnings = {
    "hello": ((allowed, 443), b"", hello),
    "head": ((allowed, 80), b"", b"GET /slow HTTP/1.1\r\nHost: allowed.test\r\nX: " + b"x" * 2000),
    "connect": (PROXY, b"", b"CONNECT allowed.test:443 HTTP/1.1\r\nX: " + b"x" * 2000),
    "greeting": (PROXY, b"", b"\x05\xff" + b"\x01" * 255),
    "request": (PROXY, b"\x05\x01\x00", b"\x05\x01\x00\x03\xff" + b"x" * 255),
    "tunnel": (PROXY, b"CONNECT allowed.test:443 HTTP/1.1\r\n\r\n", hello),
}
def trickle(name):
    where, first, slow = beginnings[name]
    s = socket.create_connection(where, 20)
    s.sendall(first)
    s.settimeout(0.05)
    for byte in slow:
        try:
            s.send(bytes([byte]))
            while s.recv(4096):
                pass
            cut.append(name)
            return
        except TimeoutError:
            pass
        except OSError:
            cut.append(name)
            return
cut, threads = [], [threading.Thread(target=trickle, args=[name]) for name in list(beginnings) * 20]
[thread.start() for thread in threads]
# An upload that trickles is an upload: it goes on, and holds up nobody.
upload = socket.create_connection((allowed, 80), 20)
upload.sendall(b"POST /up HTTP/1.1\r\nHost: allowed.test\r\nTransfer-Encoding: chunked\r\n\r\n")
statuses, until = [], time.monotonic() + 60
while any(thread.is_alive() for thread in threads) and time.monotonic() < until:
    upload.sendall(b"1\r\nx\r\n")
    statuses.append(get("/other"))
print("statuses", statuses.count(200), len(statuses))
print("cut", len(cut), len(threads))
upload.sendall(b"0\r\n\r\n")
upload.settimeout(20)
print("upload", upload.recv(4096).split(b" ")[1].decode())
"#;
    let mut live = setting.python("", &["--quiet"], script, &[])?;
    let statuses = live.line("statuses")?;
    let (good, all) = statuses.split_once(' ').unwrap_or_default();
    ensure!(good == all && all != "0", "{statuses}");
    ensure!(live.line("cut")? == "120 120");
    ensure!(live.line("upload")? == "200");
    ensure!(live.end()?.0 == Some(0));
    let reached = setting.lab.reached()?;
    ensure!(!reached.iter().any(|one| one.holds("/slow")));
    Ok(())
}

/// Subshells that wait: few pages each.
const MANY: &str = r#"
mkfifo many; exec 9<>many
( n=0; while [ $n -lt $1 ]; do (read x <&9) & n=$((n+1)); done ) 2>/dev/null
set -- /proc/[0-9]*
echo processes $#
read go
exit 0
"#;

#[test]
fn ten_thousand_processes_end_with_the_run() -> Result<()> {
    let setting = Setting::new()?;
    setting.world.write("many.sh", MANY)?;
    let start = |options: &[&str]| {
        let before = ["run", "--quiet"];
        let after = ["--", "sh", "many.sh", "10000"];
        Live::start(setting.command("", &[&before, options, &after].concat()))
    };
    let mut live = start(&[])?;
    let there = live.number("processes")?;
    let most: u64 = setting.shell("cat /proc/sys/kernel/pid_max")?.stdout.trim().parse()?;
    ensure!(there > 10_000 || most < 20_000, "{there} processes");
    live.go()?;
    let (code, told) = live.end()?;
    ensure!(code == Some(0), "{told}");
    until("a time when none of them is left", || setting.nobody_is_called("[m]any.sh"))?;
    // A limit that was asked for holds, and the run ends in order all the same.
    let mut live = start(&["--pids", "200"])?;
    let there = live.number("processes")?;
    ensure!((100..=200).contains(&there), "{there} processes");
    live.go()?;
    ensure!(live.end()?.0 == Some(0));
    Ok(())
}
