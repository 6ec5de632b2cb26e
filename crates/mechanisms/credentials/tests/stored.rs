//! Secrets that are kept somewhere: files, commands, the environment, certificates.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that finds nothing fails")]

mod support;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::Result;
use credentials::{Material, ObtainError, OpenError};
use policy::model::credential::{Source, Stored};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};
use support::{World, block_on, env, name, obtain, obtained};

fn script(world: &World, file: &str, text: &str) -> Result<PathBuf> {
    let path = world.file(file, &format!("#!/bin/sh\n{text}\n"))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

fn command(words: &[&str]) -> Source {
    Source::Stored(Stored::Command(words.iter().map(|word| (*word).to_owned()).collect()))
}

/// A pipe in which a command tells a process's number; the number.
fn told(pipe: &Path) -> Result<Pid> {
    Ok(Pid::from_raw(fs::read_to_string(pipe)?.trim().parse()?).unwrap())
}

/// Whether the process ends within a minute.
fn ends(process: Pid) -> Result<bool> {
    let ended = match pidfd_open(process, PidfdFlags::empty()) {
        Ok(ended) => ended,
        Err(rustix::io::Errno::SRCH) => return Ok(true),
        Err(other) => return Err(other.into()),
    };
    let minute = Timespec { tv_sec: 60, tv_nsec: 0 };
    Ok(poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&minute))? == 1)
}

fn pipe(world: &World) -> Result<PathBuf> {
    let path = world.folder.path().join("pipe");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0)?;
    Ok(path)
}

#[test]
fn a_file_is_read_beside_the_policy_and_again_when_it_changes() -> Result<()> {
    let world = World::new()?;
    world.file("token", "first\n")?;
    let credentials = world.open(Source::Stored(Stored::File("token".into())))?;
    assert_eq!(obtained(&credentials), "first");
    // Replaced as a rotation does it, with the same length.
    world.file("newer", "other\n")?;
    fs::rename(world.folder.path().join("newer"), world.folder.path().join("token"))?;
    assert_eq!(obtained(&credentials), "other");
    fs::remove_file(world.folder.path().join("token"))?;
    let error = obtained(&credentials);
    assert!(error.starts_with("error: credential `one`: the file, reading it ("), "{error}");
    Ok(())
}

#[test]
fn a_file_that_comes_late_is_read_at_once() -> Result<()> {
    let world = World::new()?;
    let credentials = world.open(Source::Stored(Stored::File("token".into())))?;
    for _ in 0..5 {
        world.hand.forward(600);
        assert!(obtained(&credentials).contains("No such file"));
    }
    world.file("token", "late\n")?;
    assert_eq!(obtained(&credentials), "late");
    Ok(())
}

#[test]
fn what_is_no_secrets_file_is_refused_at_once() -> Result<()> {
    let world = World::new()?;
    world.file("empty", "\n")?;
    world.file("large", &"x".repeat(70_000))?;
    fs::create_dir(world.folder.path().join("folder"))?;
    pipe(&world)?;
    let cases = [
        ("empty", "it is empty"),
        ("large", "larger than 65536 bytes"),
        ("folder", "no regular file"),
        ("pipe", "no regular file"),
        ("missing", "No such file"),
    ];
    for (file, expected) in cases {
        let credentials = world.open(Source::Stored(Stored::File(file.into())))?;
        let error = obtained(&credentials);
        assert!(error.contains(expected), "{file}: {error}");
    }
    Ok(())
}

#[test]
fn the_environment_is_the_callers_at_the_start() -> Result<()> {
    let mut world = World::new()?;
    let missing = world.open(Source::Stored(env("THE_TOKEN"))).unwrap_err();
    assert!(missing.to_string().contains("the variable THE_TOKEN is not set"), "{missing}");
    world.variable("THE_TOKEN", "from-the-caller");
    assert_eq!(obtained(&world.open(Source::Stored(env("THE_TOKEN")))?), "from-the-caller");
    Ok(())
}

#[test]
fn a_command_runs_without_a_shell_and_again_after_minutes() -> Result<()> {
    let world = World::new()?;
    let counter = world.file("counter", "")?;
    let tool =
        script(&world, "tool", "printf x >> \"$1\"; printf '%s;%s\\n' \"$2\" \"$(wc -c < \"$1\")\"; echo noise >&2")?;
    let words = [tool.to_str().unwrap(), counter.to_str().unwrap(), "$(id) *"];
    let credentials = world.open(command(&words))?;
    assert_eq!(obtained(&credentials), "$(id) *;1");
    assert_eq!(obtained(&credentials), "$(id) *;1", "cached");
    world.hand.forward(16 * 60);
    assert_eq!(obtained(&credentials), "$(id) *;2");
    Ok(())
}

#[test]
fn a_command_that_fails_is_an_error_without_its_words() -> Result<()> {
    let mut world = World::new()?;
    let cases = [
        ("echo canary-1; echo canary-2 >&2; exit 3", "exit status: 3"),
        ("exit 0", "it printed nothing"),
        ("head -c 100000 /dev/zero", "larger than 65536 bytes"),
        ("sleep 1000 & wait", "no answer in 2 s"),
        ("sleep 1000 & echo x", "no answer in 2 s"),
    ];
    for (number, (text, expected)) in cases.into_iter().enumerate() {
        let seconds = if text.starts_with("sleep") { 2 } else { 60 };
        world.surroundings.patience.fetch = Duration::from_secs(seconds);
        let tool = script(&world, &format!("tool{number}"), text)?;
        let error = obtained(&world.open(command(&[tool.to_str().unwrap()]))?);
        assert!(error.contains(expected) && !error.contains("canary"), "{text}: {error}");
    }
    let missing = obtained(&world.open(command(&["cofferdam-no-such-tool"]))?);
    assert!(missing.contains("it is not on PATH"), "{missing}");
    Ok(())
}

#[test]
fn what_a_command_started_goes_with_it() -> Result<()> {
    let world = World::new()?;
    let pipe = pipe(&world)?;
    // Its standard output closed, the rest of it would keep nobody waiting.
    let tool = script(&world, "tool", "sleep 1000 >/dev/null 2>&1 & echo $! > \"$1\"; echo secret")?;
    let credentials = world.open(command(&[tool.to_str().unwrap(), pipe.to_str().unwrap()]))?;
    thread::scope(|scope| {
        let asking = scope.spawn(|| obtained(&credentials));
        let left = told(&pipe)?;
        assert_eq!(asking.join().unwrap(), "secret");
        assert!(ends(left)?, "it is still there");
        Ok(())
    })
}

#[test]
fn the_end_does_not_wait_for_a_command_and_leaves_none_behind() -> Result<()> {
    let mut world = World::new()?;
    let pipe = pipe(&world)?;
    world.surroundings.patience.fetch = Duration::from_secs(1000);
    let tool = script(&world, "tool", "echo $$ > \"$1\"; exec sleep 1000")?;
    let credentials = world.open(command(&[tool.to_str().unwrap(), pipe.to_str().unwrap()]))?;
    thread::scope(|scope| {
        let asking = scope.spawn(|| obtain(&credentials));
        let running = told(&pipe)?;
        let unrevoked = credentials.revoke_all(Duration::from_secs(30));
        assert!(unrevoked.is_empty(), "{unrevoked:?}");
        assert!(ends(running)?, "it is still there");
        let error = asking.join().unwrap().unwrap_err();
        assert!(matches!(error, ObtainError::Ended { .. }), "{error}");
        Ok(())
    })
}

#[test]
fn what_the_sandbox_may_write_is_neither_read_nor_run() -> Result<()> {
    let mut world = World::new()?;
    let work = world.folder.path().join("work");
    fs::create_dir(&work)?;
    script(&world, "work/tool", "echo planted")?;
    world.file("work/token", "planted")?;
    std::os::unix::fs::symlink(work.join("token"), world.folder.path().join("link"))?;
    world.surroundings.writable_by_workload = vec![work.clone()];
    let sources = [
        Source::Stored(Stored::File("work/token".into())),
        Source::Stored(Stored::File("link".into())),
        command(&["work/tool"]),
        Source::Certificate { chain: "work/token".into(), key: Stored::File("token".into()) },
    ];
    for source in sources {
        let refused = world.open(source.clone());
        assert!(matches!(refused, Err(OpenError::Writable { .. })), "{source:?}: {refused:?}");
    }
    // A link that is turned round later, and a tool that is planted on the path.
    world.file("token", "good")?;
    let turned = world.open(Source::Stored(Stored::File("token".into())))?;
    assert_eq!(obtained(&turned), "good");
    fs::remove_file(world.folder.path().join("token"))?;
    std::os::unix::fs::symlink(work.join("token"), world.folder.path().join("token"))?;
    assert!(obtained(&turned).contains("it lies where the sandbox may write"));
    world.variable("PATH", work.to_str().unwrap());
    assert!(obtained(&world.open(command(&["tool"]))?).contains("it is not on PATH"));
    Ok(())
}

#[test]
fn a_certificate_comes_with_its_key() -> Result<()> {
    let world = World::new()?;
    let made = rcgen::generate_simple_self_signed(["client.example.com".to_owned()])?;
    world.file("chain.pem", &made.cert.pem())?;
    world.file("key.pem", &made.signing_key.serialize_pem())?;
    let source = |chain: &str, key: &str| Source::Certificate { chain: chain.into(), key: Stored::File(key.into()) };
    let issued = obtain(&world.open(source("chain.pem", "key.pem"))?)?;
    let Material::Certificate { chain_pem, key_pem } = &issued.material else { anyhow::bail!("no certificate") };
    assert_eq!(chain_pem, made.cert.pem().trim_end().as_bytes());
    assert_eq!(key_pem.expose_str(), Some(made.signing_key.serialize_pem().trim_end()));
    let swapped = obtained(&world.open(source("key.pem", "chain.pem"))?);
    assert!(swapped.contains("holds no certificate") && !swapped.contains("BEGIN PRIVATE"), "{swapped}");
    Ok(())
}

#[test]
fn a_static_secret_that_is_refused_is_read_again_once_and_then_left() -> Result<()> {
    let world = World::new()?;
    world.file("token", "first")?;
    let credentials = world.open(Source::Stored(Stored::File("token".into())))?;
    let stale = obtain(&credentials)?;
    let unchanged = block_on(credentials.renew(&name(), &stale.id)).unwrap_err().to_string();
    assert!(unchanged.contains("its source has no newer one"), "{unchanged}");
    let again = block_on(credentials.renew(&name(), &stale.id)).unwrap_err().to_string();
    assert!(again.contains("refuses newly obtained ones too"), "{again}");
    Ok(())
}
