//! Policies that change under load, and runs beside each other: no moment and no neighbour opens anything.

use anyhow::{Context as _, Result, ensure};

use crate::live::Setting;

/// Denied and allowed requests without end, by every way.
const LOAD: &str = r#"
stop, good = threading.Event(), 0
def by_proxy(name):
    with socket.create_connection(PROXY, 20) as s:
        s.settimeout(20)
        s.sendall(f"CONNECT {name}:80 HTTP/1.1\r\n\r\n".encode())
        if b" 200 " in s.recv(4096):
            s.sendall(f"GET /by-proxy HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
            s.recv(100)
def by_address(address):
    with socket.create_connection((address, 80), 20) as s:
        s.settimeout(20)
        s.sendall(b"GET /by-address HTTP/1.1\r\nHost: denied.test\r\n\r\n")
        s.recv(100)
def under_an_allowed_name(address):
    with socket.create_connection((address, 80), 20) as s:
        s.settimeout(20)
        s.sendall(b"GET /fronted HTTP/1.1\r\nHost: allowed.test\r\n\r\n")
        s.recv(100)
def again(way, *arguments):
    while not stop.is_set():
        try:
            way(*arguments)
        except OSError:
            pass
address("allowed.test")
work = [(by_proxy, "denied.test"), (by_address, "203.0.113.30"), (under_an_allowed_name, "203.0.113.30"), (get, "/load")] * 2
threads = [threading.Thread(target=again, args=one) for one in work]
[thread.start() for thread in threads]
print("ready")
wait()
stop.set()
[thread.join() for thread in threads]
print("status", get("/in-the-end"))
"#;

#[test]
fn changes_under_load_open_no_window() -> Result<()> {
    let setting = Setting::new()?;
    std::fs::write(
        setting.beside("invalid.yaml"),
        "apiVersion: cofferdam/v1\nkind: EgressPolicy\nspec: { mode: open }\n",
    )?;
    std::fs::write(
        setting.beside("cut-off.yaml"),
        "apiVersion: cofferdam/v1\nkind: EgressPolicy\nspec: { mode: \"unrestr",
    )?;
    let mut live = setting.python("", &["--quiet"], LOAD, &[])?;
    live.line("ready")?;
    for (name, code) in [("invalid", 7), ("nothing", 0), ("cut-off", 7), ("policy", 0)].iter().cycle().take(40) {
        let path = setting.beside(&format!("{name}.yaml"));
        let done = setting.run(&["policy", "apply", path.to_str().context("a path")?])?;
        let status = done.status.and_then(|status| status.code());
        ensure!(status == Some(*code), "{name}: {status:?} {}{}", done.stdout, done.stderr);
    }
    live.go()?;
    ensure!(live.number("status")? == 200);
    ensure!(live.end()?.0 == Some(0));
    let reached = setting.lab.reached()?;
    ensure!(reached.iter().any(|one| one.holds("/load")));
    let escaped = reached.iter().find(|one| one.server == "denied" || one.holds("denied.test"));
    ensure!(escaped.is_none(), "{escaped:?}");
    setting.world.run(&["audit", "verify"])?.expect(0);
    Ok(())
}

#[test]
fn what_one_run_may_no_other_may() -> Result<()> {
    let setting = Setting::new()?;
    let script = "print('status', get('/open'))\nwait()\nprint('status', get('/open'))\n";
    let mut open = setting.python("", &["--quiet"], script, &[])?;
    ensure!(open.number("status")? == 200);
    let curl = ["run", "--quiet", "--", "curl", "-s", "--max-time", "20"];
    let address = setting.run(&[&curl[..], &["http://203.0.113.10/closed"]].concat())?;
    // Denied is answered with 403, which curl takes for an answer.
    ensure!(address.stdout.contains("mode-default"), "{}", address.stdout);
    let beside = setting.run(&[&curl[..], &["http://allowed.test/closed"]].concat())?;
    ensure!(beside.status.and_then(|status| status.code()) == Some(6), "{beside:?}");
    open.go()?;
    ensure!(open.number("status")? == 200);
    ensure!(open.end()?.0 == Some(0));
    let after = setting.run(&[&curl[..], &["http://allowed.test/closed"]].concat())?;
    ensure!(after.status.and_then(|status| status.code()) == Some(6), "{after:?}");
    ensure!(!setting.lab.reached()?.iter().any(|one| one.holds("/closed")));
    Ok(())
}
