//! Policies and lists that are broken, huge or not what they seem; a clock that jumps.

use std::{fs::File, io::Write as _, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};

use crate::{
    live::{Live, Setting, until},
    support::World,
};

const HEAD: &str = "apiVersion: cofferdam/v1\nkind: EgressPolicy\nspec:\n";

/// Memory that the program may map, in KiB: enough to read anything that it reads, not enough to keep without bound.
const MEMORY: &str = "ulimit -v 3000000";

/// `policy validate` and `run` behind a bound on memory: both codes, and what both said.
fn tried(world: &World, policy: &Path) -> Result<(Option<i32>, Option<i32>, String)> {
    let path = policy.to_str().context("a path")?;
    let mut said = String::new();
    let mut codes = Vec::new();
    for arguments in [&["policy", "validate", path][..], &["run", "--policy", path, "--", "true"]] {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{MEMORY}; exec timeout 60 \"$@\""), "sh", env!("CARGO_BIN_EXE_cofferdam")]);
        command.args(arguments).current_dir(world.work());
        world.settle(&mut command);
        let output = command.output()?;
        codes.push(output.status.code());
        said.push_str(&String::from_utf8_lossy(&output.stderr));
        said.push_str(&String::from_utf8_lossy(&output.stdout));
    }
    Ok((codes.first().copied().flatten(), codes.get(1).copied().flatten(), said))
}

fn rules(lines: &str) -> Vec<u8> {
    format!("{HEAD}  rules:\n{lines}").into_bytes()
}

fn laughs() -> Vec<u8> {
    let mut text = format!("{HEAD}  x0: &x0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..40 {
        let inner = vec![format!("*x{}", level - 1); 10].join(", ");
        text.push_str(&format!("  x{level}: &x{level} [{inner}]\n"));
    }
    text.into_bytes()
}

/// A policy whose last lines, a denial, stand behind so many bytes of comments.
fn deny_behind(bytes: usize) -> Vec<u8> {
    let mut text = rules("    - { name: open, priority: 2, to: any, action: allow }\n");
    text.resize(text.len() + bytes, b'#');
    text.extend_from_slice(b"\n    - { name: shut, priority: 1, to: any, action: deny }\n");
    text
}

#[test]
fn a_broken_policy_starts_nothing_and_says_why() -> Result<()> {
    let world = World::new()?;
    let one = "    - { name: one, priority: 1, to: any, action: allow }\n";
    for (name, bytes, why) in [
        ("empty", Vec::new(), "smallest policy"),
        ("comments", b"# nothing\n".to_vec(), "smallest policy"),
        ("not-text", [HEAD.as_bytes(), b"  mode: \xff\xfe\n"].concat(), "not UTF-8"),
        ("twice", rules(&format!("{one}{}", one.replace("priority: 1", "priority: 2"))), "\"one\" stands here twice"),
        ("same-priority", rules(&format!("{one}{}", one.replace("one", "two"))), "priority 1 stands here twice"),
        ("unknown-group", rules("    - { name: a, priority: 1, to: nobody, action: allow }\n"), "no group is named"),
        (
            "unknown-route",
            rules("    - { name: a, priority: 1, to: any, action: allow, route: x }\n"),
            "no route is named",
        ),
        ("cycle", format!("{HEAD}  groups: &g\n    a: *g\n").into_bytes(), "error"),
        ("laughs", laughs(), "expand to more than"),
        ("deep", "[".repeat(100_000).into_bytes(), "error"),
        ("large", deny_behind(17 << 20), "at most"),
        ("larger-than-is-read", deny_behind(65 << 20), "at most"),
        ("two-documents", [&rules(one)[..], b"---\n", &rules(one)].concat(), "error"),
        ("same-key", format!("{HEAD}  mode: limited\n  mode: unrestricted\n").into_bytes(), "twice"),
    ] {
        let path = world.path().join(format!("{name}.yaml"));
        std::fs::write(&path, bytes)?;
        let (validated, ran, said) = tried(&world, &path)?;
        ensure!((validated, ran) == (Some(7), Some(125)), "{name}: {validated:?} {ran:?} {said}");
        ensure!(said.contains(why) && !said.contains("panicked"), "{name}: {said}");
        std::fs::remove_file(&path)?;
    }
    Ok(())
}

fn feed_policy(world: &World, path: &str, format: &str) -> Result<std::path::PathBuf> {
    let policy = world.path().join("policy.yaml");
    let rule = "    - { name: bad, priority: 1, to: bad, action: deny }\n";
    let text = format!(
        "{HEAD}  mode: unrestricted\n  groups:\n    bad: {{ feed: {{ path: {path}, format: {format}, refresh: 1s }} }}\n  rules:\n{rule}"
    );
    std::fs::write(&policy, text)?;
    Ok(policy)
}

#[test]
fn a_feed_that_is_no_list_starts_nothing_and_says_why() -> Result<()> {
    let world = World::new()?;
    let feed = world.path().join("bad.txt");
    let policy = feed_policy(&world, "bad.txt", "domains")?;
    let run = |why: &str| -> Result<()> {
        let (_, ran, said) = tried(&world, &policy)?;
        ensure!(ran == Some(125) && said.contains(why), "{why}: {ran:?} {said}");
        Ok(())
    };
    run("the feed bad.txt of group bad can't be read")?;
    // Ten million lines.
    let mut file = std::io::BufWriter::new(File::create(&feed)?);
    for number in 0..10_000_000 {
        writeln!(file, "h{number}.test")?;
    }
    file.into_inner()?;
    run("more than 5000000 entries")?;
    std::fs::write(&feed, "one.test\ntwo.te")?;
    run("cut off")?;
    std::fs::write(&feed, "# nothing\n\n")?;
    run("holds no entry")?;
    std::fs::write(&feed, b"one.test\n\xff\xfe\n")?;
    run("not UTF-8")?;
    std::fs::remove_file(&feed)?;
    rustix::fs::mknodat(rustix::fs::CWD, &feed, rustix::fs::FileType::Fifo, 0o600.into(), 0)?;
    run("no file")?;
    std::fs::remove_file(&feed)?;
    std::os::unix::fs::symlink("/dev/zero", &feed)?;
    run("no file")?;
    std::fs::remove_file(&feed)?;
    std::fs::create_dir(&feed)?;
    run("no file")?;
    Ok(())
}

#[test]
fn a_feed_that_breaks_in_a_live_run_stays_as_it_was_last_good() -> Result<()> {
    let setting = Setting::new()?;
    let feed = setting.beside("bad.txt");
    std::fs::write(&feed, "denied.test\n")?;
    feed_policy(&setting.world, "bad.txt", "domains")?;
    let script = "for line in sys.stdin:\n    print('statuses', get('/a', 'denied.test') == 200, get('/b') == 200)\n";
    let mut live = setting.python("", &["--quiet"], script, &[])?;
    let mut state = || -> Result<String> {
        live.go()?;
        live.line("statuses")
    };
    ensure!(state()? == "False True");
    let refusals = || -> Result<usize> {
        let seen = setting.world.run(&["observe", "--type", "policy.refused", "-o", "jsonl"])?.expect(0).out;
        Ok(seen.lines().count())
    };
    for broken in [Some("denied.test\nallow"), Some(""), Some("<html>\n<body>\n</body>\n</html>\n<p>\n"), None] {
        let before = refusals()?;
        match broken {
            Some(text) => std::fs::write(&feed, text)?,
            None => std::fs::remove_file(&feed)?,
        }
        until("a refusal of the broken feed", || Ok(refusals()? > before))?;
        ensure!(state()? == "False True", "{broken:?}");
    }
    std::fs::write(&feed, "denied.test\nallowed.test\n")?;
    until("the mended feed in force", || Ok(state()? == "False False"))?;
    drop(live.child.stdin.take());
    ensure!(live.end()?.0 == Some(0));
    Ok(())
}

/// Adds what a file says to the wall clock of whoever loads it.
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
static volatile long *ahead;
__attribute__((constructor)) static void load(void) {
    const char *path = getenv("AHEAD_FILE");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *map = mmap(0, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
    if (map != MAP_FAILED) ahead = map;
    close(file);
}
int clock_gettime(clockid_t id, struct timespec *now) {
    int result = syscall(SYS_clock_gettime, id, now);
    if (result == 0 && id == CLOCK_REALTIME && ahead) now->tv_sec += *ahead;
    return result;
}
"#;

#[test]
fn a_clock_that_jumps_ends_what_expires_and_breaks_nothing_else() -> Result<()> {
    let setting = Setting::new()?;
    let (source, library, ahead) = (setting.beside("clock.c"), setting.beside("clock.so"), setting.beside("ahead"));
    std::fs::write(&source, CLOCK)?;
    // The linker that built this test.
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status()?;
    ensure!(built.success());
    let set = |seconds: i64| {
        File::options().write(true).create(true).truncate(false).open(&ahead)?.write_all(&seconds.to_ne_bytes())
    };
    set(0)?;
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let policy = format!(
        "{HEAD}  rules:\n    - {{ name: for-an-hour, priority: 1, to: {{ hosts: [allowed.test] }}, action: allow, expires: \"{soon}\" }}\n    \
         - {{ name: for-ever, priority: 2, to: {{ hosts: [second.test] }}, action: allow }}\n"
    );
    std::fs::write(setting.beside("policy.yaml"), policy)?;
    let script = "kept = socket.create_connection((address('second.test'), 80), 20)\n\
         def again():\n\
         \x20   kept.sendall(b'GET /kept HTTP/1.1\\r\\nHost: second.test\\r\\n\\r\\n')\n\
         \x20   answer = b''\n\
         \x20   while not answer.endswith(b'/kept\\n'): answer += kept.recv(4096) or b'/kept\\n'\n\
         \x20   return b' 200 ' in answer\n\
         for line in sys.stdin:\n\
         \x20   print('statuses', get('/a') == 200, get('/b', 'second.test') == 200, again())\n";
    let (library, ahead_text) = (library.display().to_string(), ahead.display().to_string());
    let first = format!("export LD_PRELOAD={library} AHEAD_FILE={ahead_text}");
    let mut live: Live = setting.python(&first, &["--quiet"], script, &[])?;
    for (seconds, expected) in [
        (0, "True True True"),
        (2 * 3600, "False True True"),
        (-2 * 3600, "True True True"),
        // A day before 1970 and the year 2100.
        (-90 * 365 * 86400, "True True True"),
        (74 * 365 * 86400, "False True True"),
        (0, "True True True"),
    ] {
        set(seconds)?;
        live.go()?;
        let statuses = live.line("statuses")?;
        ensure!(statuses == expected, "{seconds} s: {statuses}, not {expected}");
    }
    drop(live.child.stdin.take());
    let (code, told) = live.end()?;
    ensure!(code == Some(0), "{told}");
    setting.world.run(&["audit", "verify"])?.expect(0);
    let seen = setting.world.run(&["observe", "--verdict", "denied", "-o", "jsonl"])?.expect(0).out;
    ensure!(seen.contains("allowed.test"), "{seen}");
    Ok(())
}
