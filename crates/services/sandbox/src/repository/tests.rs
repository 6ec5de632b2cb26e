//! Which mounts stand over which repository.

use std::fs;
use std::path::{Path, PathBuf};

use init_protocol::Mount;

use super::{Protected, hold, protect};
use crate::error::StartError;

fn repository(folder: &Path) -> PathBuf {
    let git = folder.join(".git");
    fs::create_dir_all(git.join("hooks")).unwrap();
    for file in ["config", "HEAD"] {
        fs::write(git.join(file), "").unwrap();
    }
    git
}

fn writable(protected: &Protected, path: &Path) -> Option<bool> {
    protected.mounts.iter().rev().find(|mount| mount.target() == path).map(|mount| match mount {
        Mount::Bind { writable, .. } => *writable,
        Mount::Tmpfs { .. } | Mount::File { .. } | Mount::Symlink { .. } => panic!("{mount:?}"),
    })
}

#[test]
fn hooks_and_settings_are_read_only_in_a_git_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let git = repository(folder.path());
    let module = git.join("modules/outer/inner");
    fs::create_dir_all(&module).unwrap();
    fs::write(module.join("HEAD"), "").unwrap();

    let protected = protect(folder.path(), &[folder.path()]);
    assert_eq!(writable(&protected, &git), Some(true));
    for name in ["hooks", "config"] {
        assert_eq!(writable(&protected, &git.join(name)), Some(false), "{name}");
        assert_eq!(writable(&protected, &module.join(name)), Some(false), "{name} of the submodule");
    }
    assert_eq!(writable(&protected, &git.join("config.worktree")), None);
    assert!(protected.notes.is_empty(), "{:?}", protected.notes);
}

#[test]
fn missing_hooks_and_settings_are_made_so_that_nobody_else_can() {
    let folder = tempfile::tempdir().unwrap();
    let git = folder.path().join(".git");
    fs::create_dir(&git).unwrap();
    let protected = protect(folder.path(), &[folder.path()]);
    assert!(git.join("hooks").is_dir() && git.join("config").is_file());
    assert_eq!(writable(&protected, &git.join("hooks")), Some(false));
}

#[test]
fn a_link_can_not_be_protected_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let git = repository(folder.path());
    fs::remove_dir(git.join("hooks")).unwrap();
    std::os::unix::fs::symlink("../hooks", git.join("hooks")).unwrap();
    let protected = protect(folder.path(), &[folder.path()]);
    assert_eq!(writable(&protected, &git.join("hooks")), None);
    assert!(protected.notes[0].contains("hooks"));
}

#[test]
fn a_worktree_brings_its_repository_when_both_name_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    let common = repository(&root.join("main"));
    let own = common.join("worktrees/side");
    let side = root.join("side");
    fs::create_dir_all(&own).unwrap();
    fs::create_dir(&side).unwrap();
    fs::write(side.join(".git"), format!("gitdir: {}\n", own.display())).unwrap();
    fs::write(own.join("commondir"), "../..\n").unwrap();
    fs::write(own.join("gitdir"), format!("{}\n", side.join(".git").display())).unwrap();

    let protected = protect(&side, &[&side]);
    assert_eq!(writable(&protected, &side.join(".git")), Some(false));
    assert_eq!(writable(&protected, &common), Some(true));
    for path in [common.join("hooks"), common.join("config"), own.join("commondir"), own.join("gitdir")] {
        assert_eq!(writable(&protected, &path), Some(false), "{}", path.display());
    }

    fs::write(own.join("gitdir"), "/somewhere/else/.git\n").unwrap();
    let forged = protect(&side, &[&side]);
    assert_eq!(forged.mounts.len(), 1, "a file can't have any folder mounted: {forged:?}");
    assert!(!forged.notes.is_empty());
}

#[test]
fn without_a_repository_there_is_nothing_to_protect() {
    let folder = tempfile::tempdir().unwrap();
    let protected = protect(folder.path(), &[folder.path()]);
    assert!(protected.mounts.is_empty() && protected.notes.is_empty());
}

#[test]
fn the_last_run_takes_away_what_stands_for_an_absence() {
    let folder = tempfile::tempdir().unwrap();
    let git = repository(folder.path());
    fs::create_dir(git.join("objects")).unwrap();
    let common = git.join("commondir");
    let mounts = || vec![Mount::own(&git, true)];
    let (mut one, mut two) = (mounts(), mounts());
    let (first, second) = (hold(&mut one).unwrap(), hold(&mut two).unwrap());
    assert_eq!(fs::read_to_string(&common).unwrap(), ".\n");
    let held: Vec<&Path> = one.iter().skip(1).map(Mount::target).collect();
    assert_eq!(held, [common.as_path(), git.join("config.worktree").as_path()]);
    first.release();
    drop(first);
    assert!(common.exists(), "the second run still holds it");
    second.release();
    assert!(!common.exists());

    assert!(!git.join("config.worktree").exists());

    fs::write(&common, "../main\n").unwrap();
    let kept = hold(&mut mounts()).unwrap();
    // As git on the host does, while a run holds the place.
    fs::write(git.join("fresh"), "[core]\n").unwrap();
    fs::rename(git.join("fresh"), git.join("config.worktree")).unwrap();
    kept.release();
    assert!(common.exists() && git.join("config.worktree").exists(), "a real one stays");
}

#[test]
fn a_lock_that_a_workload_keeps_does_not_hold_up_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let git = repository(folder.path());
    fs::create_dir(git.join("objects")).unwrap();
    fs::write(git.join("commondir"), ".\n").unwrap();
    let kept = fs::File::open(git.join("commondir")).unwrap();
    kept.lock().unwrap();
    let refused = hold(&mut protect(folder.path(), &[folder.path()]).mounts).unwrap_err();
    assert!(matches!(&refused, StartError::Mount { path, .. } if path.ends_with("commondir")), "{refused:?}");
    drop(kept);
    hold(&mut protect(folder.path(), &[folder.path()]).mounts).unwrap();
}
