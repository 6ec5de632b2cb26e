//! What a workload tries on its own policy, lists, record, settings and control socket, from inside.

mod support;

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};
use support::{Done, World};

const POLICY: &str = "apiVersion: cofferdam/v1\nkind: EgressPolicy\nspec: { mode: limited }\n";

/// What the workload does to folders that it must not see, and to files that it must not change.
fn attack(hidden: &[&str], closed: &[&str]) -> String {
    let mut script = String::new();
    for path in hidden {
        script.push_str(&format!(
            "ls -A '{path}' 2>/dev/null | grep -q . && echo seen '{path}'; (: > '{path}/x') 2>/dev/null && echo made in '{path}';"
        ));
    }
    for path in closed {
        script.push_str(&format!(
            "test -e '{path}' || echo absent '{path}'; (echo x >> '{path}') 2>/dev/null && echo written '{path}';\
             (echo y > '{path}/y') 2>/dev/null && echo made in '{path}'; echo z > z; mv -f z '{path}' 2>/dev/null && \
             test ! -e z && echo replaced '{path}';"
        ));
    }
    for path in hidden.iter().chain(closed) {
        script.push_str(&format!("mv '{path}' gone 2>/dev/null && echo moved '{path}';"));
        // Every folder on the way, up to the working directory.
        script.push_str(&format!(
            "p='{path}'; while p=$(dirname \"$p\"); [ \"$p\" != . ] && [ \"$p\" != / ]; do \
             mv \"$p\" gone 2>/dev/null && echo moved \"$p\"; done;"
        ));
    }
    script.push_str("echo done");
    script
}

struct Try<'a> {
    variables: &'a [(&'a str, &'a Path)],
    options: &'a [&'a str],
    hidden: &'a [&'a str],
    closed: &'a [&'a str],
}

#[track_caller]
fn holds(world: &World, attempt: &Try<'_>) -> Result<()> {
    let script = attack(attempt.hidden, attempt.closed);
    let options = [&["run"], attempt.options, &["--", "sh", "-c", &script]].concat();
    // What is there only from the second run on counts too.
    for _ in 0..2 {
        let mut command = world.command(&options);
        command.envs(attempt.variables.iter().copied());
        let done = finish(&mut command)?.expect(0);
        assert_eq!(done.out, "done\n", "{}", done.err);
    }
    Ok(())
}

fn finish(command: &mut Command) -> Result<Done> {
    Ok(Done::of(&command.output()?))
}

#[test]
fn the_attack_finds_what_is_open() -> Result<()> {
    let world = World::new()?;
    fs::create_dir_all(world.work().join("open/deep"))?;
    world.write("open/deep/file", "x")?;
    let script = attack(&["open"], &["open/deep/file"]);
    let done = world.run(&["run", "--", "sh", "-c", &script])?.expect(0);
    for found in ["seen open", "made in open", "written open/deep/file", "replaced open/deep/file", "moved open"] {
        assert!(done.out.contains(found), "{found}: {}", done.out);
    }
    Ok(())
}

#[test]
fn the_state_and_a_policy_beside_it() -> Result<()> {
    let world = World::new()?;
    let state = world.work().join(".cofferdam/state");
    fs::create_dir_all(&state)?;
    world.write(".cofferdam/policy.yaml", POLICY)?;
    holds(
        &world,
        &Try {
            variables: &[("HOME", &world.work()), ("COFFERDAM_STATE", &state)],
            options: &["--allow-home", "--policy", ".cofferdam/policy.yaml"],
            hidden: &[".cofferdam/state", ".cofferdam/state/sockets", ".cofferdam/state/runs"],
            closed: &[".cofferdam/policy.yaml", ".config/cofferdam"],
        },
    )
}

#[test]
fn a_policy_a_record_and_an_ask_file_in_one_folder() -> Result<()> {
    let world = World::new()?;
    fs::create_dir(world.work().join("conf"))?;
    world.write("conf/p.yaml", POLICY)?;
    let options = ["--policy", "conf/p.yaml", "--events", "conf/e.jsonl", "--ask-file", "conf/a"];
    let closed = ["conf/p.yaml", "conf/e.jsonl", "conf/a"];
    holds(&world, &Try { variables: &[], options: &options, hidden: &[], closed: &closed })?;
    world.run(&["audit", "verify", "conf/e.jsonl"])?.expect(0);
    Ok(())
}

#[test]
fn a_folder_that_is_read_only_stays_so_with_a_policy_in_it() -> Result<()> {
    let world = World::new()?;
    fs::create_dir(world.work().join("src"))?;
    world.write("src/policy.yaml", POLICY)?;
    world.write("src/main", "x")?;
    let mount = format!("./src:{}:ro", world.work().join("src").display());
    let options = ["--mount", &mount, "--policy", "src/policy.yaml"];
    holds(&world, &Try { variables: &[], options: &options, hidden: &[], closed: &["src/policy.yaml", "src/main"] })
}

#[test]
fn a_policy_in_the_repository_does_not_open_it() -> Result<()> {
    let world = World::new()?;
    for name in ["hooks", "objects", "refs"] {
        fs::create_dir_all(world.work().join(".git").join(name))?;
    }
    for (name, text) in [("HEAD", "ref: refs/heads/main\n"), ("config", ""), ("policy.yaml", POLICY)] {
        world.write(&format!(".git/{name}"), text)?;
    }
    let closed = [".git/policy.yaml", ".git/config", ".git/hooks"];
    holds(&world, &Try { variables: &[], options: &["--policy", ".git/policy.yaml"], hidden: &[], closed: &closed })
}

#[test]
fn records_and_sockets_side_by_side() -> Result<()> {
    let world = World::new()?;
    let (state, runtime) = (world.work().join("x/state"), world.work().join("x/run"));
    fs::create_dir_all(&runtime)?;
    holds(
        &world,
        &Try {
            variables: &[("XDG_STATE_HOME", &state), ("XDG_RUNTIME_DIR", &runtime)],
            options: &[],
            hidden: &["x/state/cofferdam", "x/run/cofferdam"],
            closed: &[],
        },
    )
}

#[test]
fn a_first_run_in_a_home_behind_a_link() -> Result<()> {
    let world = World::new()?;
    fs::create_dir_all(world.work().join("data/u"))?;
    symlink(world.work().join("data"), world.path().join("linked"))?;
    let home = world.path().join("linked/u");
    let options = ["run", "--allow-home", "--", "sh", "-c"];
    let script = attack(&[".local/state/cofferdam"], &[".config/cofferdam"]);
    let mut command = world.command(&[&options[..], &[&script]].concat());
    command.env("HOME", &home).env_remove("XDG_STATE_HOME").current_dir(&home);
    let done = finish(&mut command)?.expect(0);
    assert_eq!(done.out, "done\n", "{}", done.err);
    assert!(home.join(".local/state/cofferdam/runs").is_dir());
    Ok(())
}

#[test]
fn lists_are_the_persons_own() -> Result<()> {
    let world = World::new()?;
    let policy = "apiVersion: cofferdam/v1\nkind: EgressPolicy\nspec:\n  groups:\n    ok: { feed: { path: feeds/ok.txt, format: domains, refresh: 1s } }\n  rules:\n    - { name: ok, priority: 1, to: ok, action: allow }\n";
    world.write("policy.yaml", policy)?;
    fs::create_dir(world.work().join("feeds"))?;
    world.write("feeds/ok.txt", "allowed.test\n")?;
    let closed = ["policy.yaml", "feeds/ok.txt"];
    holds(&world, &Try { variables: &[], options: &["--policy", "policy.yaml"], hidden: &[], closed: &closed })
}

#[test]
fn a_path_by_a_link_of_the_workloads_is_refused() -> Result<()> {
    let world = World::new()?;
    world.write("real.yaml", POLICY)?;
    symlink("real.yaml", world.work().join("policy.yaml"))?;
    for options in [["--policy", "policy.yaml"], ["--ask-file", "policy.yaml"], ["--events", "policy.yaml"]] {
        let done = world.run(&[&["run"], &options[..], &["--", "true"]].concat())?.expect(125);
        assert!(done.err.contains("goes by the symbolic link"), "{}", done.err);
    }
    world.run(&["run", "--policy", "real.yaml", "--", "true"])?.expect(0);
    Ok(())
}

#[test]
fn the_home_is_no_working_directory_unless_that_is_said() -> Result<()> {
    let world = World::new()?;
    let home = world.path().join("home");
    for folder in [&home, &world.path().to_owned()] {
        let mut command = world.command(&["run", "--", "true"]);
        let done = finish(command.current_dir(folder))?.expect(125);
        assert!(done.err.contains("--allow-home"), "{}", done.err);
    }
    let script = attack(&[], &[".config/cofferdam"]);
    let mut command = world.command(&["run", "--allow-home", "--", "sh", "-c", &script]);
    let done = finish(command.current_dir(&home))?.expect(0);
    assert_eq!(done.out, "done\n", "{}", done.err);
    assert!(done.err.contains("is writable in the sandbox"), "{}", done.err);
    Ok(())
}

#[test]
fn every_writable_repository_keeps_its_hooks_and_settings() -> Result<()> {
    let world = World::new()?;
    let second = world.path().join("second");
    for repository in [&second, &world.work().join("some/proj")] {
        for name in ["hooks", "objects", "refs"] {
            fs::create_dir_all(repository.join(".git").join(name))?;
        }
        for (name, text) in [("HEAD", "ref: refs/heads/main\n"), ("config", "")] {
            fs::write(repository.join(".git").join(name), text)?;
        }
    }
    let mount = format!("{}:/second", second.display());
    let closed = ["/second/.git/config", "/second/.git/hooks", "some/proj/.git/config", "some/proj/.git/hooks"];
    holds(&world, &Try { variables: &[], options: &["--mount", &mount], hidden: &[], closed: &closed })
}

#[test]
fn a_policy_that_the_host_replaced_is_not_applied_again() -> Result<()> {
    let world = World::new()?;
    world.write("policy.yaml", POLICY)?;
    let script = "echo ready; read go; echo '# mine' >> policy.yaml && echo written";
    let mut command = world.command(&["run", "--policy", "policy.yaml", "--", "sh", "-c", script]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut out = BufReader::new(child.stdout.take().context("no output")?);
    let mut line = String::new();
    out.read_line(&mut line)?;
    assert_eq!(line, "ready\n");
    world.run(&["policy", "apply", "policy.yaml"])?.expect(0);
    world.write("new.yaml", POLICY)?;
    let refused = world.run(&["policy", "apply", "new.yaml"])?.expect(7);
    assert!(refused.err.contains("the sandboxed command can write it"), "{}", refused.err);
    // As editors do.
    fs::rename(world.work().join("new.yaml"), world.work().join("policy.yaml"))?;
    world.run(&["policy", "apply", "policy.yaml"])?.expect(7);
    child.stdin.take().context("no input")?.write_all(b"go\n")?;
    let ended = Done::of(&child.wait_with_output()?);
    assert!(ended.err.contains("policy.yaml was replaced while the command ran"), "{}", ended.err);
    Ok(())
}

#[test]
fn a_record_is_out_of_the_commands_reach() -> Result<()> {
    let world = World::new()?;
    let script = "(: > e.jsonl) 2>/dev/null && echo cut; rm e.jsonl 2>/dev/null && echo gone; mv e.jsonl x 2>/dev/null && echo moved;\
                  ln e.jsonl own 2>/dev/null && echo linked; echo done";
    let done = world.run(&["run", "--events", "e.jsonl", "--", "sh", "-c", script])?.expect(0);
    assert_eq!(done.out, "done\n", "{}", done.err);
    world.run(&["audit", "verify", "e.jsonl"])?.expect(0);
    // What an earlier workload left where the record goes on after rotation.
    fs::create_dir(world.work().join("log"))?;
    world.write("mine", "x")?;
    fs::hard_link(world.work().join("mine"), world.work().join("log/e.jsonl.next"))?;
    let script = "(: > log/e.jsonl.000001) 2>/dev/null && echo made; (echo x >> log/e.jsonl.next) 2>/dev/null && echo next;\
                  ln log/e.jsonl own 2>/dev/null && echo linked; mv log gone 2>/dev/null && echo moved; echo done";
    let done = world.run(&["run", "--events", "log/e.jsonl", "--", "sh", "-c", script])?.expect(0);
    assert_eq!(done.out, "done\n", "{}", done.err);
    world.run(&["audit", "verify", "log/e.jsonl"])?.expect(0);
    Ok(())
}

#[test]
fn the_home_and_what_holds_settings_are_no_writable_mounts() -> Result<()> {
    let world = World::new()?;
    fs::create_dir_all(world.path().join("home/.config/cofferdam"))?;
    fs::create_dir(world.path().join("data"))?;
    for folder in ["", "home", "home/.config", "state"] {
        fs::create_dir_all(world.path().join("state"))?;
        let mount = format!("{}:/x", world.path().join(folder).display());
        let refused = world.run(&["run", "--mount", &mount, "--", "true"])?.expect(125);
        assert!(refused.err.contains("the command could change what you run"), "{folder}: {}", refused.err);
        world.run(&["run", "--mount", &format!("{mount}:ro"), "--", "true"])?.expect(0);
    }
    world.run(&["run", "--mount", &format!("{}:/x", world.path().join("data").display()), "--", "true"])?.expect(0);
    Ok(())
}

/// A run that says "ready" and goes on when it is told to.
struct Waiting {
    child: std::process::Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Waiting {
    fn start(world: &World, options: &[&str], script: &str) -> Result<Waiting> {
        let script = format!("echo ready; read go; {script}");
        let mut command = world.command(&[&["run"], options, &["--", "sh", "-c", &script]].concat());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut out = BufReader::new(child.stdout.take().context("no output")?);
        let mut line = String::new();
        out.read_line(&mut line)?;
        if line != "ready\n" {
            anyhow::bail!("{}", Done::of(&child.wait_with_output()?).err);
        }
        Ok(Waiting { child, out })
    }

    fn go(mut self) -> Result<Done> {
        self.child.stdin.take().context("no input")?.write_all(b"go\n")?;
        let mut out = String::new();
        std::io::Read::read_to_string(&mut self.out, &mut out)?;
        let mut done = Done::of(&self.child.wait_with_output()?);
        done.out = out;
        Ok(done)
    }
}

#[test]
fn two_runs_in_one_folder_protect_each_other() -> Result<()> {
    let world = World::new()?;
    world.write("policy.yaml", POLICY)?;
    world.write("other.yaml", POLICY)?;
    let first = Waiting::start(&world, &["--policy", "policy.yaml", "--ask-file", "answers.yaml"], "true")?;
    let script = "for f in policy.yaml answers.yaml; do (echo x >> $f) 2>/dev/null && echo written $f; \
                  mv $f $f.x 2>/dev/null && echo moved $f; done; echo done";
    let second = world.run(&["run", "--", "sh", "-c", script])?.expect(0);
    assert_eq!(second.out, "done\n", "{}", second.err);
    // The first's workload could have written this one.
    let refused = world.run(&["run", "--policy", "other.yaml", "--", "true"])?.expect(125);
    assert!(refused.err.contains("the sandboxed command can write it"), "{}", refused.err);
    world.run(&["run", "--policy", "policy.yaml", "--", "true"])?.expect(0);
    first.go()?.expect(0);
    world.run(&["run", "--policy", "other.yaml", "--", "true"])?.expect(0);
    Ok(())
}

#[test]
fn a_policy_that_was_replaced_during_a_run_is_read_again_only_when_a_person_saved_it() -> Result<()> {
    let world = World::new()?;
    world.write("policy.yaml", POLICY)?;
    let run = Waiting::start(&world, &["--policy", "policy.yaml"], "echo '# mine' >> policy.yaml && echo written")?;
    world.write("new.yaml", POLICY)?;
    fs::rename(world.work().join("new.yaml"), world.work().join("policy.yaml"))?;
    assert_eq!(run.go()?.expect(0).out, "written\n");
    let refused = world.run(&["run", "--policy", "policy.yaml", "--", "true"])?.expect(125);
    assert!(refused.err.contains("policy.yaml was replaced while run"), "{}", refused.err);
    let text = fs::read_to_string(world.work().join("policy.yaml"))?;
    world.write("policy.yaml", text.trim_end_matches("# mine\n"))?;
    world.run(&["run", "--policy", "policy.yaml", "--", "true"])?.expect(0);
    Ok(())
}

#[test]
fn a_run_that_was_killed_is_looked_after_by_the_next() -> Result<()> {
    let world = World::new()?;
    world.write("policy.yaml", POLICY)?;
    let mut run = Waiting::start(&world, &["--policy", "policy.yaml"], "true")?;
    world.write("new.yaml", POLICY)?;
    fs::rename(world.work().join("new.yaml"), world.work().join("policy.yaml"))?;
    run.child.kill()?;
    run.child.wait()?;
    // The gateway dies with its front; until it has, the run counts as live, which refuses as well.
    let refused = world.run(&["run", "--policy", "policy.yaml", "--", "true"])?.expect(125);
    assert!(refused.err.contains("policy.yaml"), "{}", refused.err);
    Ok(())
}

#[test]
fn what_tells_about_the_hosts_kernel_is_empty() -> Result<()> {
    let world = World::new()?;
    let script = "for f in cmdline config.gz modules partitions diskstats; do test -s /proc/$f && echo $f; \
                  cat /proc/$f 2>/dev/null | head -c 1 | grep -q . && echo read $f; done; \
                  ls -A /proc/fs /proc/bus /proc/irq 2>/dev/null | grep -v : | grep . ; \
                  ls /sys/devices/system/cpu/vulnerabilities | grep . ; \
                  test -s /sys/devices/system/cpu/online && grep -q processor /proc/cpuinfo && echo done";
    let done = world.run(&["run", "--", "sh", "-c", script])?.expect(0);
    assert_eq!(done.out, "done\n");
    Ok(())
}

#[test]
fn a_pipe_among_gits_files_does_not_hold_up_the_start() -> Result<()> {
    let world = World::new()?;
    let script =
        "git init -q . && mkdir -p .git/worktrees/x && mkfifo .git/worktrees/x/gitdir .git/worktrees/x/commondir";
    world.run(&["run", "--", "sh", "-c", script])?.expect(0);
    world.run(&["run", "--", "true"])?.expect(0);
    Ok(())
}

#[test]
fn a_refused_run_makes_no_settings_of_the_system() -> Result<()> {
    let world = World::new()?;
    let there = std::path::Path::new("/etc/cofferdam").exists();
    world.run(&["run", "--workdir", "/etc", "--", "true"])?.expect(125);
    assert_eq!(std::path::Path::new("/etc/cofferdam").exists(), there);
    Ok(())
}
