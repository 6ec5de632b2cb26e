//! What a hijacked command does to what stands beside it, and to the next run.

mod support;

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};
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
