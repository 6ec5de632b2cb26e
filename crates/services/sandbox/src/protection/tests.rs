//! Where protected paths are seen, and that nothing uncovers them.

use std::fs;
use std::path::{Path, PathBuf};

use init_protocol::Mount;

use super::{Protection, check_order};
use crate::plan::{Cover, PlanError};
use crate::survey::add_windows;

fn world(folders: &[&str], files: &[&str]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    for name in folders {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    for name in files {
        fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
        fs::write(root.join(name), "x").unwrap();
    }
    (folder, root)
}

/// Each mount below the root: its place and what it is.
fn drawn(mounts: &[Mount], root: &Path) -> Vec<String> {
    let word = |mount: &Mount| match mount {
        Mount::Bind { writable: true, .. } => "rw",
        Mount::Bind { writable: false, .. } => "ro",
        Mount::Tmpfs { .. } => "hidden",
        Mount::File { .. } => "file",
        Mount::Symlink { .. } => "link",
    };
    let place = |path: &Path| path.strip_prefix(root).unwrap_or(path).display().to_string();
    mounts.iter().map(|mount| format!("{} {}", place(mount.target()), word(mount))).collect()
}

#[test]
fn two_paths_in_one_folder_share_its_pin_and_neither_uncovers_the_other() {
    let (_folder, root) = world(&["c/state"], &["c/p.yaml", "c/e.jsonl"]);
    let mut protection = Protection::new(vec![Mount::own(&root, true)]);
    protection.hide(&root.join("c/state")).unwrap();
    protection.close(&root.join("c/p.yaml")).unwrap();
    protection.close(&root.join("c/e.jsonl")).unwrap();
    let mounts = protection.finish();
    check_order(&mounts).unwrap();
    assert_eq!(drawn(&mounts, &root), [" rw", "c rw", "c/state hidden", "c/p.yaml ro", "c/e.jsonl ro"]);
}

#[test]
fn a_path_is_protected_at_each_place_where_it_is_seen_and_only_there() {
    let (_folder, root) = world(&["other"], &["src/policy.yaml", "other/policy.yaml"]);
    let bind = |source: &str, target: PathBuf, writable| Mount::Bind {
        source: root.join(source),
        target,
        writable,
        optional: false,
        owned: true,
    };
    let mounts = vec![
        Mount::own(&root, true),
        bind("src", root.join("src"), false),
        bind("src", "/data".into(), true),
        bind("other", "/data/deep".into(), true),
    ];
    let mut protection = Protection::new(mounts);
    protection.close(&root.join("src/policy.yaml")).unwrap();
    let mounts = protection.finish();
    check_order(&mounts).unwrap();
    let expected = [" rw", "/data rw", "/data/deep rw", "/data/policy.yaml ro", "src ro"];
    let mut seen = drawn(&mounts, &root);
    seen.sort();
    assert_eq!(seen, expected, "src is read-only there anyway");
}

#[test]
fn a_covered_file_is_another_wherever_it_is_seen() {
    let (_folder, root) = world(&["etc"], &["usr/bundle", "ours"]);
    std::os::unix::fs::symlink("../usr/bundle", root.join("etc/bundle")).unwrap();
    let shown = |source: &str, target: &str| Mount::Bind {
        source: root.join(source),
        target: target.into(),
        writable: false,
        optional: false,
        owned: false,
    };
    let mut protection = Protection::new(vec![shown("etc", "/etc"), shown("usr", "/usr"), shown("usr", "/again")]);
    for path in ["etc/bundle", "usr/bundle", "etc/gone"] {
        protection.cover(&Cover { path: root.join(path), with: root.join("ours") });
    }
    let mounts = protection.finish();
    check_order(&mounts).unwrap();
    let covers = [shown("ours", "/usr/bundle"), shown("ours", "/again/bundle")];
    assert_eq!(mounts[3..], covers, "once for the two paths that lead to one file");
}

#[test]
fn links_on_the_way_lead_to_what_they_name_and_what_is_not_there_is_refused() {
    let (_folder, root) = world(&["data/state"], &[]);
    std::os::unix::fs::symlink("data", root.join("home")).unwrap();
    let mut protection = Protection::new(vec![Mount::own(root.join("home"), true)]);
    protection.hide(&root.join("home/state")).unwrap();
    assert_eq!(drawn(&protection.finish(), &root), ["home rw", "home/state hidden"]);
    let mut protection = Protection::new(Vec::new());
    assert!(matches!(protection.hide(&root.join("gone")), Err(PlanError::Protected { .. })));
}

#[test]
fn an_order_that_uncovers_is_refused() {
    let covering = [Mount::own("/w/c/p.yaml", false), Mount::own("/w/c", true)];
    assert!(matches!(check_order(&covering), Err(PlanError::Covered { .. })));
    assert!(check_order(&[Mount::own("/w", true), Mount::own("/w", false), Mount::own("/w/c", true)]).is_ok());
}

#[test]
fn repositories_of_every_writable_folder_are_protected_where_they_are_seen() {
    let files = ["proj/.git/HEAD", "proj/.git/config", "proj/sub/.git", "second/.git/HEAD", "second/.git/config"];
    let (_folder, root) = world(&["proj/.git/hooks", "second/.git/hooks"], &files);
    let second = Mount::Bind {
        source: root.join("second"),
        target: "/two".into(),
        writable: true,
        optional: false,
        owned: true,
    };
    let mut protection = Protection::new(vec![Mount::own(root.join("proj"), true), second]);
    let mut windows = Vec::new();
    add_windows(&mut windows, protection.mounts(), &mut 1000);
    protection.repositories(&root.join("proj"), &windows);
    let mounts = protection.finish();
    check_order(&mounts).unwrap();
    let seen = drawn(&mounts, &root);
    for expected in [
        "proj/.git rw",
        "proj/.git/config ro",
        "proj/.git/hooks ro",
        "proj/sub rw",
        "proj/sub/.git ro",
        "/two/.git rw",
        "/two/.git/config ro",
        "/two/.git/hooks ro",
    ] {
        assert!(seen.iter().any(|one| one == expected), "{expected}: {seen:?}");
    }
}
