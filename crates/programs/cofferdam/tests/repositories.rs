//! What a workload does to git's settings and hooks, and what git then runs on the host.

mod support;

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};
use support::{Done, World};

/// A world with git's own settings and nobody's else.
fn git(folder: &Path, arguments: &[&str]) -> Result<Done> {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]).args(arguments);
    command.current_dir(folder).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    Ok(Done::of(&command.stdin(Stdio::null()).output()?))
}

fn repository(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    git(folder, &["init", "-q"])?.expect(0);
    git(folder, &["commit", "-q", "--allow-empty", "-m", "first"])?.expect(0);
    Ok(())
}

/// What a workload makes git run: it shows that it ran on the host by a file beside the world.
fn settings(world: &World) -> String {
    format!("[core]\n\tbare = false\n\tfsmonitor = touch {} #\n", world.path().join("escaped").display())
}

/// Runs a workload, then git everywhere. Gives what the run said.
fn attacked(world: &World, script: &str) -> Result<Done> {
    world.write("evil", &settings(world))?;
    let done = world.run(&["run", "--", "sh", "-ec", script])?.expect(0);
    check(world, &done)?;
    Ok(done)
}

#[track_caller]
fn check(world: &World, done: &Done) -> Result<()> {
    for folder in ["", "sub", "bare", "side", "sub/deep"].map(|name| world.work().join(name)) {
        if folder.is_dir() {
            // Whether it succeeds is not the question.
            let _ = git(&folder, &["status"])?;
            let _ = git(&folder, &["commit", "-q", "--allow-empty", "-m", "x"])?;
            assert!(!world.path().join("escaped").exists(), "{}: {}", folder.display(), done.err);
        }
    }
    Ok(())
}

#[test]
fn the_attack_works_where_nothing_holds_it() -> Result<()> {
    let world = World::new()?;
    world.write("evil", &settings(&world))?;
    repository(&world.work().join("sub"))?;
    fs::copy(world.work().join("evil"), world.work().join("sub/.git/config"))?;
    git(&world.work().join("sub"), &["status"])?;
    assert!(world.path().join("escaped").exists());
    Ok(())
}

#[test]
fn a_repository_that_the_command_made_runs_nothing() -> Result<()> {
    let world = World::new()?;
    let done = attacked(&world, "git init -q .; cat evil >> .git/config; cp /bin/true .git/hooks/pre-commit")?;
    assert!(
        done.err.contains(".git/config: git would have run what these settings name: core.fsmonitor"),
        "{}",
        done.err
    );
    assert!(done.err.contains("hooks/pre-commit is a hook"), "{}", done.err);
    let kept = fs::read_to_string(world.work().join(".git/config.aside"))?;
    assert!(kept.contains("fsmonitor"), "nothing is lost: {kept}");
    assert!(world.work().join(".git/hooks/pre-commit.aside").exists());
    let events = world.run(&["observe", "-o", "jsonl"])?.expect(0);
    assert!(events.out.contains("core.fsmonitor"), "{}", events.out);
    Ok(())
}

#[test]
fn a_repository_made_in_good_faith_stays_as_it_is() -> Result<()> {
    let world = World::new()?;
    let script = "git init -q sub && cd sub && git config user.name a && git config user.email a@b && \
                  git remote add origin https://example.com/a.git && git commit -q --allow-empty -m x && \
                  git worktree add -q ../side";
    let done = world.run(&["run", "--", "sh", "-ec", script])?.expect(0);
    assert!(!done.err.contains("git would"), "{}", done.err);
    assert!(!done.err.contains("aside"), "{}", done.err);
    for folder in ["sub", "side"] {
        git(&world.work().join(folder), &["status"])?.expect(0);
    }
    assert_eq!(git(&world.work().join("sub"), &["remote"])?.expect(0).out, "origin\n");
    Ok(())
}

#[test]
fn a_gitlink_and_its_repository_run_nothing() -> Result<()> {
    let world = World::new()?;
    repository(&world.work())?;
    let script = "git init -q sub; git -C sub -c user.name=a -c user.email=a@b commit -q --allow-empty -m x; \
                  git update-index --add --cacheinfo 160000,$(git -C sub rev-parse HEAD),sub; cat evil >> sub/.git/config";
    let done = attacked(&world, script)?;
    assert!(done.err.contains("sub/.git/config"), "{}", done.err);
    Ok(())
}

#[test]
fn a_repository_without_a_folder_around_it_runs_nothing() -> Result<()> {
    let world = World::new()?;
    let script = "git init -q --bare bare; sed -i s/bare.=.true/bare=false/ bare/config; cat evil >> bare/config; \
                  printf '[core]\\n\\tworktree = ..\\n' >> bare/config";
    attacked(&world, script)?;
    Ok(())
}

#[test]
fn commondir_and_the_settings_of_a_worktree_are_held() -> Result<()> {
    let world = World::new()?;
    repository(&world.work())?;
    git(&world.work(), &["config", "extensions.worktreeConfig", "true"])?.expect(0);
    let script = "cp evil .git/config.worktree 2>/dev/null && echo written; rm -f .git/config.worktree 2>/dev/null; \
                  (echo ../x > .git/commondir) 2>/dev/null && echo led; git status -s >/dev/null && echo fine";
    let done = attacked(&world, &format!("set +e; {script}"))?;
    assert_eq!(done.out, "fine\n", "{}", done.err);
    for name in ["commondir", "config.worktree"] {
        assert!(!world.work().join(".git").join(name).exists(), "{name} is gone with the run");
    }
    Ok(())
}

#[test]
fn other_worktrees_are_held() -> Result<()> {
    let world = World::new()?;
    repository(&world.work())?;
    let outside = world.path().join("outside");
    git(&world.work(), &["worktree", "add", "-q", &outside.display().to_string()])?.expect(0);
    git(&world.work(), &["worktree", "add", "-q", "side"])?.expect(0);
    let script = "set +e; mkdir -p e/objects e/refs; cp evil e/config; cp .git/HEAD e/; \
                  for w in .git/worktrees/*; do (echo ../../../e > $w/commondir) 2>/dev/null && echo led $w; \
                  mv $w $w.x 2>/dev/null && echo moved $w; cp evil $w/config.worktree 2>/dev/null && echo set $w; done; \
                  mv .git/worktrees .git/w 2>/dev/null && echo moved all; git -C side status -s > /dev/null && echo fine";
    let done = attacked(&world, script)?;
    assert_eq!(done.out, "fine\n", "{}", done.err);
    git(&outside, &["status"])?.expect(0);
    assert!(!world.path().join("escaped").exists());
    Ok(())
}

#[test]
fn a_worktrees_own_repository_is_held() -> Result<()> {
    let world = World::new()?;
    let main = world.path().join("main");
    repository(&main)?;
    fs::remove_dir(world.work())?;
    git(&main, &["worktree", "add", "-q", &world.work().display().to_string()])?.expect(0);
    git(&main, &["worktree", "add", "-q", &world.path().join("third").display().to_string()])?.expect(0);
    fs::write(main.join(".git/policy.yaml"), "x")?;
    let common = main.join(".git").display().to_string();
    let script = format!(
        "set +e; cd {common}; for f in hooks/pre-commit config config.worktree commondir worktrees/work/commondir \
         worktrees/third/commondir worktrees/work/config.worktree; do (cat {work}/evil > $f) 2>/dev/null && echo $f; done; \
         for d in worktrees worktrees/work worktrees/third hooks; do mv $d $d.x 2>/dev/null && echo moved $d; done; \
         cd {work}; git status -s > /dev/null && echo fine",
        work = world.work().display()
    );
    let done = attacked(&world, &script)?;
    assert_eq!(done.out, "fine\n", "{}", done.err);
    // The link check knows the repository, too.
    std::os::unix::fs::symlink("policy.yaml", main.join(".git/link.yaml"))?;
    let policy = main.join(".git/link.yaml").display().to_string();
    let refused = world.run(&["run", "--policy", &policy, "--", "true"])?.expect(125);
    assert!(refused.err.contains("goes by the symbolic link"), "{}", refused.err);
    Ok(())
}

#[test]
fn what_the_hosts_git_replaced_is_noticed() -> Result<()> {
    let world = World::new()?;
    repository(&world.work())?;
    world.write("evil", &settings(&world))?;
    let script = "echo ready; read go; cat evil >> .git/config && echo written";
    let mut command = world.command(&["run", "--", "sh", "-c", script]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut out = BufReader::new(child.stdout.take().context("no output")?);
    let mut line = String::new();
    out.read_line(&mut line)?;
    assert_eq!(line, "ready\n");
    git(&world.work(), &["config", "branch.main.remote", "origin"])?.expect(0);
    child.stdin.take().context("no input")?.write_all(b"go\n")?;
    line.clear();
    out.read_line(&mut line)?;
    assert_eq!(line, "written\n", "the kernel has let go of the mount");
    let done = Done::of(&child.wait_with_output()?);
    assert!(
        done.err.contains(".git/config: git would have run what these settings name: core.fsmonitor"),
        "{}",
        done.err
    );
    check(&world, &done)?;
    let remote = git(&world.work(), &["config", "branch.main.remote"])?.expect(0);
    assert_eq!(remote.out, "origin\n", "what the host set stays");
    Ok(())
}

#[test]
fn of_many_repositories_those_that_no_mount_holds_are_compared() -> Result<()> {
    let world = World::new()?;
    for number in 0..80 {
        let folder = world.work().join(format!("fixtures/deep/{number:02}/repo.git"));
        for name in ["objects", "refs", "hooks"] {
            fs::create_dir_all(folder.join(name))?;
        }
        fs::write(folder.join("HEAD"), "ref: refs/heads/main\n")?;
        fs::write(folder.join("config"), "[core]\n\tbare = true\n")?;
    }
    let script = "set +e; for d in fixtures/deep/*/repo.git; do (cat evil >> $d/config; echo > $d/hooks/update) 2>/dev/null; done; true";
    let done = attacked(&world, script)?;
    assert!(done.err.contains("is large"), "{}", done.err);
    for number in 0..80 {
        let folder = world.work().join(format!("fixtures/deep/{number:02}/repo.git"));
        assert!(!fs::read_to_string(folder.join("config"))?.contains("fsmonitor"), "{number}");
        assert!(!folder.join("hooks/update").exists(), "{number}");
    }
    Ok(())
}

#[test]
fn entries_that_are_no_hooks_hide_none() -> Result<()> {
    let world = World::new()?;
    let script = "git init -q sub; cd sub/.git/hooks; i=0; while [ $i -lt 600 ]; do : > junk$i; i=$((i+1)); done; \
                  cp /bin/true pre-commit; for n in '' -2 -3 -4; do : > pre-commit.aside$n; done; chmod 555 .";
    let done = attacked(&world, script)?;
    assert!(done.err.contains("hooks/pre-commit is a hook"), "{}", done.err);
    assert!(!world.work().join("sub/.git/hooks/pre-commit").exists());
    Ok(())
}

#[test]
fn a_worktrees_folder_leads_to_no_unchecked_settings() -> Result<()> {
    let world = World::new()?;
    // One as git lays it out, under a folder without a HEAD; one that lies elsewhere.
    let script = "git init -q x; mv x/.git g; cp -r g/objects g/refs x; cp evil x/config; \
                  for d in x/worktrees/n x/other/n; do mkdir -p $d; cp g/HEAD $d; echo ../.. > $d/commondir; done; \
                  rm -rf g; echo 'gitdir: x/worktrees/n' > .git";
    let done = attacked(&world, script)?;
    assert!(done.err.contains("x/config: git would have run"), "{}", done.err);
    assert!(!world.work().join("x/other/n/commondir").exists(), "{}", done.err);
    assert!(world.work().join("x/worktrees/n/commondir").exists(), "{}", done.err);
    Ok(())
}
