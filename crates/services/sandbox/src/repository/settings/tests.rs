//! Settings are read as git reads them, and what is not known to be harmless is harmful.

use std::process::Command;

use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};

use super::{Setting, Settings, write};

fn names(text: &str) -> Vec<String> {
    let settings = Settings::parse(text.as_bytes());
    let mut names: Vec<String> = settings.harmful(&|path| !path.starts_with('/')).iter().map(Setting::name).collect();
    if settings.broken {
        names.push("broken".to_owned());
    }
    names
}

#[test]
fn what_git_makes_itself_is_harmless() {
    let text = "\u{feff}# made\n[core]\n\trepositoryformatversion = 0\r\n\tfilemode = true\n\tbare = false ; no\n\
                [remote \"origin\"]\n\turl = https://example.com/a.git\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n\
                [branch \"a \\\"b\\\"\"]\n\tremote = origin\n\tmerge = refs/heads/a\n[submodule]\n\tactive = .\n\
                [core]\n\tworktree = ../../sub\n\tfsmonitor\n[filter \"lfs\"]\n\tclean = git-lfs clean -- %f\n\
                \trequired = true\n[user]name=\"A # B\"\n[advice]\n\tdetachedHead = x\n\
                [gc]\n\tauto = 0\n\tpruneExpire = now";
    assert_eq!(names(text), Vec::<String>::new());
}

#[test]
fn what_runs_something_is_harmful() {
    for (text, expected) in [
        ("[core]\nfsmonitor = ./x", "core.fsmonitor"),
        ("[CORE]\nFsMonitor=./x", "core.fsmonitor"),
        ("[core] fsmonitor = ./x", "core.fsmonitor"),
        ("[core]\n\tbare = false\\\n\n\thookspath = x", "core.hookspath"),
        ("[core]\n\tworktree = /home/u", "core.worktree"),
        ("[include]\npath = ../x", "include.path"),
        ("[includeIf \"gitdir:x\"]\npath = ../x", "includeif.gitdir:x.path"),
        ("[remote \"o\"]\nurl = ext::sh -c x", "remote.o.url"),
        ("[remote \"o\"]\nuploadpack = x", "remote.o.uploadpack"),
        ("[remote.o]\nvcs = x", "remote.o.vcs"),
        ("[alias]\ns = !x", "alias.s"),
        ("[filter \"lfs\"]\nclean = \"git-lfs clean -- %f; x\"", "filter.lfs.clean"),
        ("[submodule \"s\"]\nupdate = !x", "submodule.s.update"),
        ("[color \"x\"]\npager = y", "color.x.pager"),
        ("[pager]\nstatus = x", "pager.status"),
        ("[gc]\nrecentObjectsHook = x", "gc.recentobjectshook"),
        ("[advice]\nnewOne = x", "advice.newone"),
        ("[extensions]\npartialClone = o", "extensions.partialclone"),
        ("[remote \"o\"]\npromisor = true", "remote.o.promisor"),
        ("[remote \"o\"]\npartialclonefilter = blob:none", "remote.o.partialclonefilter"),
        ("[core]\nx", "core.x"),
        ("key = 1", "broken"),
        ("[core\n]", "broken"),
        ("[core \"a\nb\"]", "broken"),
        ("[core]\nkey = \"a", "broken"),
        ("[core]\nkey = \\q", "broken"),
        ("[core]\nbare = \0", "broken"),
        ("[core]\nbare x", "broken"),
        ("[core]\n_x = 1", "broken"),
    ] {
        assert_eq!(names(text), [expected], "{text:?}");
    }
}

#[test]
fn a_file_that_would_grow_in_memory_is_not_read() {
    let long = format!("[core \"{}\"]\n{}", "x".repeat(1_025), "a\n".repeat(1_000));
    assert_eq!(names(&long), ["broken"]);
    assert_eq!(names(&format!("[core]\n{}", "bare\n".repeat(10_001))), ["broken"]);
    assert_eq!(names(&format!("[core]\n{}", "bare\n".repeat(10_000))), Vec::<String>::new());
}

fn words() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("[core]"),
        Just("[a \"b\"]"),
        Just("[a.B]"),
        Just("\n"),
        Just(" "),
        Just("\t"),
        Just("="),
        Just("\""),
        Just("\\"),
        Just("#"),
        Just(";"),
        Just("key"),
        Just("bare"),
        Just("x"),
        Just("[remote \"o\"] "),
        Just("]"),
        Just("\r\n"),
        Just("é"),
        Just("-"),
        Just("\\n"),
        Just("fsmonitor = ./y"),
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// What git makes of a file: name, value. `None` where it refuses it.
fn by_git(text: &str) -> Option<Vec<(String, Option<String>)>> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let output = Command::new("git").args(["config", "--list", "-z", "--file"]).arg(file.path()).output().unwrap();
    let list = String::from_utf8(output.stdout).unwrap();
    let pair = |entry: &str| match entry.split_once('\n') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (entry.to_owned(), None),
    };
    output.status.success().then(|| list.split_terminator('\0').map(pair).collect())
}

fn flat(settings: &Settings) -> Vec<(String, Option<String>)> {
    let name = |one: &Setting| match &one.subsection {
        Some(subsection) => format!("{}.{subsection}.{}", one.section, one.key),
        None => format!("{}.{}", one.section, one.key),
    };
    settings.all.iter().map(|one| (name(one), one.value.clone())).collect()
}

proptest! {
    #[test]
    fn anything_can_be_read(text in any::<Vec<u8>>()) {
        let _ = Settings::parse(&text);
    }

    #[test]
    fn what_was_read_can_be_written_and_read_again(text in words()) {
        let read = Settings::parse(text.as_bytes());
        let again = Settings::parse(write(&read.all).as_bytes());
        prop_assert_eq!(again.broken, false);
        prop_assert_eq!(again.all, read.all);
    }
}

#[test]
fn settings_are_read_as_git_reads_them() {
    if Command::new("git").arg("--version").output().is_err() {
        return;
    }
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..256 {
        let text = proptest::strategy::ValueTree::current(&words().new_tree(&mut runner).unwrap());
        let ours = Settings::parse(text.as_bytes());
        // What is broken is harmful as a whole. What is not, git must read the same.
        if !ours.broken {
            assert_eq!(by_git(&text), Some(flat(&ours)), "{text:?}");
        }
    }
}
