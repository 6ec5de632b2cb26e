//! A record that can't be written: nothing leaves, nothing hangs, and what is recorded stays one chain.

use anyhow::{Context as _, Result, ensure};
use network_lab::What;

use crate::live::{Setting, TIME, until};

/// Requests without end on eight threads, each with a path of its own; `go` asks for a summary since the last one.
const LOAD: &str = r#"
lock, counts, number, stop = threading.Lock(), {}, 0, False
def load():
    global number
    while not stop:
        with lock:
            number += 1
            mine = number
        status = get(f"/load/{mine}")
        with lock:
            counts[status] = counts.get(status, 0) + 1
threads = [threading.Thread(target=load) for _ in range(8)]
[thread.start() for thread in threads]
print("ready")
for line in sys.stdin:
    if line.strip() == "stop":
        break
    with lock:
        counts.clear()
    wanted = int(line.split()[1]) if len(line.split()) > 1 else 20
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with lock:
            if sum(counts.values()) >= wanted:
                break
        time.sleep(0.01)
    with lock:
        print("counts", counts.get(200, 0), sum(counts.values()))
stop = True
[thread.join() for thread in threads]
print("done")
"#;

/// Answered and all, of at least twenty requests since now.
fn counts(live: &mut crate::live::Live) -> Result<(u64, u64)> {
    live.go()?;
    let line = live.line("counts")?;
    let (good, all) = line.split_once(' ').context("two counts")?;
    Ok((good.parse()?, all.parse()?))
}

/// The paths of the requests that reached the lab since the last call.
fn paths(setting: &Setting) -> Result<Vec<String>> {
    let reached = setting.lab.reached()?;
    let requests = reached.into_iter().filter_map(|one| match one.what {
        What::Request { target, .. } => Some(target),
        _ => None,
    });
    Ok(requests.collect())
}

/// Nothing leaves while the record can't be written, however much is tried; `heal` mends it, and things go on.
fn breaks_and_heals(
    setting: &Setting,
    options: &[&str],
    break_it: impl FnOnce() -> Result<()>,
    heal: impl FnOnce() -> Result<()>,
) -> Result<(Option<i32>, String, Vec<String>)> {
    let mut live = setting.python("", options, LOAD, &[])?;
    live.line("ready")?;
    ensure!(counts(&mut live)?.0 > 0);
    break_it()?;
    until("a time when no request is answered", || Ok(matches!(counts(&mut live)?, (0, 20..))))?;
    let mut before = paths(setting)?;
    // What had been recorded and was on its way is told now.
    before.extend(paths(setting)?);
    let (good, all) = counts(&mut live)?;
    ensure!(good == 0 && all >= 20, "{good} of {all}");
    let reached = setting.lab.reached()?;
    ensure!(reached.is_empty(), "{reached:?}");
    heal()?;
    until("a time when requests are answered again", || Ok(counts(&mut live)?.0 > 0))?;
    std::io::Write::write_all(live.child.stdin.as_mut().context("no input")?, b"stop\n")?;
    live.line("done")?;
    let (code, told) = live.end()?;
    before.extend(paths(setting)?);
    Ok((code, told, before))
}

/// Somebody else took the record away: this run records no more, also where it is put back.
#[test]
fn a_record_that_is_moved_away_or_deleted_ends_in_125_and_nothing_leaves() -> Result<()> {
    for deleted in [false, true] {
        let setting = Setting::new()?;
        let (record, away) = (setting.beside("events.jsonl"), setting.beside("away.jsonl"));
        let mut live = setting.python("", &["--events", record.to_str().context("a path")?], LOAD, &[])?;
        live.line("ready")?;
        ensure!(counts(&mut live)?.0 > 0);
        match deleted {
            true => std::fs::hard_link(&record, &away).and_then(|()| std::fs::remove_file(&record))?,
            false => std::fs::rename(&record, &away)?,
        }
        until("a time when no request is answered", || Ok(matches!(counts(&mut live)?, (0, 20..))))?;
        let reached = paths(&setting)?;
        if !deleted {
            std::fs::rename(&away, &record)?;
        }
        let (good, all) = counts(&mut live)?;
        ensure!(good == 0 && all >= 20, "{good} of {all}");
        // A policy still comes into force.
        setting.deny_all()?;
        std::io::Write::write_all(live.child.stdin.as_mut().context("no input")?, b"stop\n")?;
        live.line("done")?;
        let (code, told) = live.end()?;
        ensure!(code == Some(125) && told.contains("events.jsonl"), "{code:?} {told}");
        let late = setting.lab.reached()?;
        ensure!(late.is_empty(), "{late:?}");
        // What was written to it stays one chain, and holds all that arrived.
        let kept = if deleted { away } else { record };
        setting.world.run(&["audit", "verify", kept.to_str().context("a path")?])?.expect(0);
        is_recorded(&reached, &std::fs::read_to_string(&kept)?)?;
    }
    Ok(())
}

/// Each of these paths is in the record.
fn is_recorded(reached: &[String], record: &str) -> Result<()> {
    ensure!(!reached.is_empty());
    for path in reached {
        ensure!(record.contains(&format!("\"{path}\"")), "{path} arrived and is not recorded");
    }
    Ok(())
}

#[test]
fn a_full_disk_lets_nothing_out_until_there_is_room() -> Result<()> {
    let setting = Setting::new()?;
    let folder = setting.beside("small");
    std::fs::create_dir(&folder)?;
    let folder = folder.to_str().context("a path")?;
    // In the lab's own mount namespace.
    let mounted = setting.shell(&format!(
        "mount -t tmpfs -o size=1m,mode=700 none {folder} && head -c 600000 /dev/zero > {folder}/ballast"
    ))?;
    if !mounted.status.is_some_and(|status| status.success()) {
        eprintln!("skipped: no tmpfs here: {}", mounted.stderr);
        return Ok(());
    }
    let record = format!("{folder}/events.jsonl");
    let fill = || {
        // It fills by itself, too; this is sooner.
        let filled = setting.shell(&format!("head -c 2000000 /dev/zero > {folder}/more; ls -l {folder}"))?;
        ensure!(filled.stdout.contains("more"));
        Ok(())
    };
    let free = || {
        setting.shell(&format!("rm {folder}/more {folder}/ballast"))?;
        Ok(())
    };
    let (code, told, reached) = breaks_and_heals(&setting, &["--events", &record], fill, free)?;
    ensure!(code == Some(0), "{told}");
    let verified = setting.run(&["audit", "verify", &record])?;
    ensure!(verified.status.is_some_and(|status| status.success()), "{}{}", verified.stdout, verified.stderr);
    let mut cat = setting.lab.host().command("grep");
    cat.args(["-o", "\"/load/[0-9]*\"", &record]);
    let text = setting.lab.host().run(cat, TIME)?.stdout;
    is_recorded(&reached, &text)
}
