//! The log as the gateway uses it: many threads, restarts, files that change under it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
};

use audit_event::{Body, Entry, Event, PolicyRefused, RunContext, Verified, Verifier, parse};
use audit_log::{AuditLog, Durability, OpenError, Options, RecordError, files};
use tempfile::TempDir;

fn context() -> RunContext {
    RunContext { sandbox: "run-test".into(), thread: None, tool_call: None }
}

fn event(text: &str) -> Event {
    Event::PolicyRefused(PolicyRefused { revision: "1".into(), reason: text.into() })
}

fn open(path: &Path) -> AuditLog {
    AuditLog::open(path, context(), Options::default()).unwrap()
}

fn folder() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("events.jsonl");
    (folder, path)
}

fn verified(path: &Path) -> Verified {
    let mut verifier = Verifier::default();
    for file in files(path).unwrap() {
        verifier
            .read(fs::read(&file).unwrap().as_slice())
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
    verifier.finish()
}

fn entries(path: &Path) -> Vec<Entry> {
    let read = |file: &PathBuf| fs::read_to_string(file).unwrap();
    files(path)
        .unwrap()
        .iter()
        .flat_map(|file| read(file).lines().map(|line| parse(line).unwrap()).collect::<Vec<_>>())
        .collect()
}

fn reasons(path: &Path) -> Vec<String> {
    let reason = |entry: Entry| match entry.body {
        Body::Known(Event::PolicyRefused(refused)) => Some(refused.reason),
        _ => None,
    };
    entries(path).into_iter().filter_map(reason).collect()
}

/// Eight threads record at once; every answer is a number of its own, every event is in the chain.
fn many_threads(options: Options) -> (TempDir, PathBuf) {
    let (folder, path) = folder();
    let log = AuditLog::open(&path, context(), options).unwrap();
    let answers = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for thread in 0..8 {
            let (log, answers) = (log.clone(), &answers);
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                for number in 0..100 {
                    let text = format!("{thread}:{number}");
                    let recorded = match number % 2 {
                        0 => log.record_blocking(event(&text)).unwrap(),
                        _ => runtime.block_on(log.record(event(&text))).unwrap(),
                    };
                    answers.lock().unwrap().push((recorded.seq(), text));
                }
            });
        }
    });
    let answers: std::collections::BTreeMap<u64, String> = answers.into_inner().unwrap().into_iter().collect();
    assert_eq!(answers.len(), 800);
    let chain = verified(&path);
    assert_eq!((chain.torn_tail, chain.events), (None, log.events()));
    for entry in entries(&path) {
        if let Body::Known(Event::PolicyRefused(refused)) = entry.body {
            assert_eq!(answers.get(&entry.envelope.seq), Some(&refused.reason));
        }
    }
    assert_eq!(reasons(&path).len(), 800);
    (folder, path)
}

#[test]
fn many_threads_make_one_chain() {
    many_threads(Options::default());
}

#[test]
fn many_threads_make_one_chain_on_the_disk() {
    many_threads(Options { durability: Durability::Fsync, ..Options::default() });
}

#[test]
fn many_threads_make_one_chain_through_many_files() {
    for durability in [Durability::Written, Durability::Fsync] {
        let (_folder, path) = many_threads(Options { durability, rotate_bytes: 20_000, keep_files: 0 });
        let files = files(&path).unwrap();
        assert!(files.len() > 10, "{files:?}");
        for closed in &files[..files.len() - 1] {
            let text = fs::read_to_string(closed).unwrap();
            assert!(text.len() < 25_000);
            let Body::Known(Event::AuditCheckpoint { file, events }) =
                parse(text.lines().last().unwrap()).unwrap().body
            else {
                panic!("{} does not end with a checkpoint", closed.display())
            };
            assert_eq!(Some(file.as_str()), closed.file_name().unwrap().to_str());
            assert_eq!(events, text.lines().count() as u64);
        }
    }
}

#[test]
fn written_is_ready_at_the_first_poll() {
    use std::future::Future;
    let (_folder, path) = folder();
    let log = open(&path);
    let mut future = std::pin::pin!(log.record(event("a")));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(future.as_mut().poll(&mut context).is_ready());
    assert_eq!(reasons(&path), ["a"]);
}

/// Several at once: each has a number of its own, and all of them are there or none.
#[test]
fn several_are_recorded_with_one_write() {
    for durability in [Durability::Written, Durability::Fsync] {
        let (_folder, path) = folder();
        let log = AuditLog::open(&path, context(), Options { durability, ..Options::default() }).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let events: Vec<Event> = (0..40).map(|number| event(&number.to_string())).collect();
        let seqs: Vec<u64> =
            runtime.block_on(log.record_all(&events)).iter().map(|one| one.as_ref().unwrap().seq()).collect();
        assert!(seqs.is_sorted() && seqs.len() == 40 && seqs[0] + 39 == seqs[39], "{seqs:?}");
        assert!(runtime.block_on(log.record_all(&[])).is_empty());
        let mixed = [event("before"), event(&"x".repeat(audit_event::MAX_LINE)), event("after")];
        let answers = runtime.block_on(log.record_all(&mixed));
        assert!(answers[0].is_ok() && answers[2].is_ok());
        assert!(matches!(answers[1], Err(RecordError::TooLong { .. })));
        assert_eq!(reasons(&path).len(), 42);
        assert_eq!(log.events(), 42);
        fs::remove_file(&path).unwrap();
        assert!(runtime.block_on(log.record_all(&events)).iter().all(Result::is_err));
    }
}

#[test]
fn a_chain_goes_on_after_a_restart() {
    let (_folder, path) = folder();
    for round in 0..3 {
        let log = open(&path);
        assert_eq!(log.events(), 0);
        for number in 0..5 {
            assert_eq!(log.record_blocking(event("x")).unwrap().seq(), round * 5 + number + 1);
        }
        assert_eq!(log.events(), 5);
    }
    assert_eq!(verified(&path).events, 15);
}

#[test]
fn a_chain_goes_on_after_a_long_line() {
    let (_folder, path) = folder();
    for bytes in [10, 60_000, 70_000, 500_000, 1_000_000, 10] {
        let log = open(&path);
        log.record_blocking(event(&"x".repeat(bytes))).unwrap();
    }
    let log = open(&path);
    let error = log.record_blocking(event(&"x".repeat(1 << 20))).unwrap_err();
    assert!(matches!(error, RecordError::TooLong { .. }), "{error}");
    assert_eq!(log.record_blocking(event("after")).unwrap().seq(), 7);
    assert_eq!(verified(&path).events, 7);
}

#[test]
fn a_log_is_private_and_has_one_writer() {
    let (folder, _) = folder();
    let path = folder.path().join("runs/7f3a/events.jsonl");
    let log = open(&path);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    let again = || AuditLog::open(&path, context(), Options::default());
    assert!(matches!(again(), Err(OpenError::Busy { .. })));
    let clone = log.clone();
    drop(log);
    assert!(matches!(again(), Err(OpenError::Busy { .. })));
    drop(clone);
    again().unwrap();
}

#[test]
fn a_second_writer_is_kept_out_after_a_rotation() {
    let (_folder, path) = folder();
    let log = AuditLog::open(&path, context(), Options { rotate_bytes: 1, ..Options::default() }).unwrap();
    log.record_blocking(event("a")).unwrap();
    assert_eq!(files(&path).unwrap().len(), 2);
    assert!(matches!(AuditLog::open(&path, context(), Options::default()), Err(OpenError::Busy { .. })));
}

/// What may write the folder, but not the file, finds nothing in it that a writer depends on.
#[test]
fn nothing_but_the_log_is_in_its_folder() {
    let (folder, path) = folder();
    let log = AuditLog::open(&path, context(), Options { rotate_bytes: 1, ..Options::default() }).unwrap();
    log.record_blocking(event("a")).unwrap();
    let mut names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["events.jsonl", "events.jsonl.000001"]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_torn_line_goes_into_an_ordinary_file_only() {
    let (folder, path) = folder();
    open(&path).record_blocking(event("whole")).unwrap();
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"seq\":2").unwrap();
    let (aside, other) = (path.with_extension("jsonl.torn"), folder.path().join("other"));
    fs::write(&other, "").unwrap();
    for make in
        [|_: &Path, aside: &Path| fifo(aside), |other: &Path, aside: &Path| fs::hard_link(other, aside).unwrap()]
    {
        make(&other, &aside);
        let opened = AuditLog::open(&path, context(), Options::default());
        assert!(matches!(opened, Err(OpenError::NotAFile { path }) if path == aside));
        fs::remove_file(&aside).unwrap();
    }
    assert_eq!(fs::read(&other).unwrap(), b"");
    open(&path).record_blocking(event("after")).unwrap();
    assert_eq!(verified(&path).events, 3);
}

fn fifo(path: &Path) {
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
}

#[test]
fn a_torn_line_is_moved_aside_and_recorded() {
    for durability in [Durability::Written, Durability::Fsync] {
        let (_folder, path) = folder();
        open(&path).record_blocking(event("whole")).unwrap();
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"seq\":2,\"time\":\"20").unwrap();
        let log = AuditLog::open(&path, context(), Options { durability, ..Options::default() }).unwrap();
        log.record_blocking(event("after")).unwrap();
        let events: Vec<Body> = entries(&path).into_iter().map(|entry| entry.body).collect();
        let recovered = Event::AuditRecovered { file: "events.jsonl.torn".into(), bytes: 19 };
        assert_eq!(events, [event("whole"), recovered, event("after")].map(Body::Known));
        assert_eq!(fs::read_to_string(path.with_extension("jsonl.torn")).unwrap(), "{\"seq\":2,\"time\":\"20\n");
        assert_eq!(verified(&path).events, 3);
    }
}

#[test]
fn a_torn_first_line_is_moved_aside() {
    let (_folder, path) = folder();
    fs::write(&path, "{\"seq\":1").unwrap();
    open(&path).record_blocking(event("a")).unwrap();
    assert_eq!(verified(&path).events, 2);
}

#[test]
fn what_is_no_chain_is_not_continued() {
    let (_folder, path) = folder();
    let log = open(&path);
    log.record_blocking(event("a")).unwrap();
    log.record_blocking(event("b")).unwrap();
    drop(log);
    let good = fs::read_to_string(&path).unwrap();
    let megabytes = "x".repeat(5 << 20);
    for bad in ["something else\n", &good.replace("\"b\"", "\"c\""), &megabytes, &format!("{megabytes}\n{good}\n")] {
        fs::write(&path, bad).unwrap();
        let error = AuditLog::open(&path, context(), Options::default()).unwrap_err();
        assert!(matches!(error, OpenError::Broken { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), bad, "nothing is changed");
    }
}

#[test]
fn what_is_no_file_is_refused() {
    let (folder, path) = folder();
    let error = |path: &Path| AuditLog::open(path, context(), Options::default()).unwrap_err();
    let target = folder.path().join("target");
    fs::write(&target, "").unwrap();
    symlink(&target, &path).unwrap();
    assert!(matches!(error(&path), OpenError::NotAFile { .. }));
    fs::remove_file(&path).unwrap();
    fs::hard_link(&target, &path).unwrap();
    assert!(matches!(error(&path), OpenError::NotAFile { .. }));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(error(&path), OpenError::NotAFile { .. }));
    fs::remove_dir(&path).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    assert!(matches!(error(&path), OpenError::NotAFile { .. }));
    assert!(matches!(error(Path::new("/")), OpenError::NoName { .. }));
    assert!(matches!(error(&target.join("x")), OpenError::Folder { .. }));
}

/// Does something to the file while it is written; then nothing is recorded any more.
fn changed_under_it(change: impl Fn(&Path)) -> RecordError {
    let (_folder, path) = folder();
    let log = open(&path);
    log.record_blocking(event("before")).unwrap();
    change(&path);
    let first = log.record_blocking(event("after")).unwrap_err();
    let second = log.record_blocking(event("later")).unwrap_err();
    assert_eq!(first, second);
    assert_eq!(log.events(), 1);
    first
}

#[test]
fn a_file_that_is_gone_records_nothing() {
    let vanished = |error| assert!(matches!(error, RecordError::Vanished { .. }), "{error}");
    vanished(changed_under_it(|path| fs::remove_file(path).unwrap()));
    vanished(changed_under_it(|path| fs::rename(path, path.with_extension("old")).unwrap()));
    vanished(changed_under_it(|path| fs::remove_dir_all(path.parent().unwrap()).unwrap()));
    vanished(changed_under_it(|path| {
        fs::copy(path, path.with_extension("copy")).unwrap();
        fs::rename(path.with_extension("copy"), path).unwrap();
    }));
}

#[test]
fn a_file_that_others_write_records_nothing() {
    let meddled = |error| assert!(matches!(error, RecordError::Meddled { .. }), "{error}");
    meddled(changed_under_it(|path| fs::write(path, "").unwrap()));
    meddled(changed_under_it(|path| fs::OpenOptions::new().append(true).open(path).unwrap().set_len(9).unwrap()));
    meddled(changed_under_it(|path| {
        fs::OpenOptions::new().append(true).open(path).unwrap().write_all(b"x").unwrap();
    }));
}

#[test]
fn a_folder_that_moves_takes_the_log_along() {
    let (folder, _) = folder();
    let before = folder.path().join("a");
    let log = open(&before.join("events.jsonl"));
    log.record_blocking(event("a")).unwrap();
    fs::rename(&before, folder.path().join("b")).unwrap();
    log.record_blocking(event("b")).unwrap();
    assert_eq!(verified(&folder.path().join("b/events.jsonl")).events, 2);
}

#[test]
fn a_rotation_that_was_interrupted_is_picked_up() {
    let (_folder, path) = folder();
    let closed = path.with_extension("jsonl.000001");
    let log = AuditLog::open(&path, context(), Options { rotate_bytes: 1, ..Options::default() }).unwrap();
    log.record_blocking(event("a")).unwrap();
    drop(log);
    let after_rotation = fs::read(&closed).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"");
    // Between the two renames: the next file waits under its other name.
    fs::rename(&path, path.with_extension("jsonl.next")).unwrap();
    assert_eq!(files(&path).unwrap(), std::slice::from_ref(&closed));
    assert_eq!(open(&path).record_blocking(event("b")).unwrap().seq(), 3);
    assert_eq!(verified(&path).events, 3);
    // Before the first rename: the checkpoint is written and the file goes on.
    fs::rename(&closed, &path).unwrap();
    let log = AuditLog::open(&path, context(), Options { rotate_bytes: 1, ..Options::default() }).unwrap();
    assert_eq!(log.record_blocking(event("c")).unwrap().seq(), 3);
    assert_eq!(verified(&path).events, 4);
    assert_eq!(&fs::read(&closed).unwrap()[..after_rotation.len()], after_rotation);
}

#[test]
fn a_file_that_can_not_be_closed_grows_on() {
    let (_folder, path) = folder();
    // A folder stands where the next file would be made.
    let in_the_way = path.with_extension("jsonl.next");
    fs::create_dir(&in_the_way).unwrap();
    let log = AuditLog::open(&path, context(), Options { rotate_bytes: 1, ..Options::default() }).unwrap();
    for _ in 0..10 {
        log.record_blocking(event("a")).unwrap();
    }
    assert_eq!((files(&path).unwrap().len(), verified(&path).events), (1, 10));
    fs::remove_dir(&in_the_way).unwrap();
    log.record_blocking(event(&"x".repeat(1_000_000))).unwrap();
    log.record_blocking(event(&"x".repeat(1_000_000))).unwrap();
    assert!(files(&path).unwrap().len() > 1);
    assert_eq!(verified(&path).events, log.events());
}

#[test]
fn a_closed_file_that_is_in_the_way_ends_the_log() {
    let (_folder, path) = folder();
    let log = AuditLog::open(&path, context(), Options { rotate_bytes: 1, ..Options::default() }).unwrap();
    fs::write(path.with_extension("jsonl.000001"), "precious").unwrap();
    log.record_blocking(event("a")).unwrap();
    let error = log.record_blocking(event("b")).unwrap_err();
    assert!(matches!(error, RecordError::Rotate { .. }), "{error}");
    assert_eq!(fs::read_to_string(path.with_extension("jsonl.000001")).unwrap(), "precious");
}

#[test]
fn only_as_many_closed_files_are_kept_as_wanted() {
    let (_folder, path) = folder();
    let options = Options { rotate_bytes: 1, keep_files: 3, ..Options::default() };
    let log = AuditLog::open(&path, context(), options).unwrap();
    fs::write(path.with_extension("jsonl.000bak"), "not ours").unwrap();
    for _ in 0..10 {
        log.record_blocking(event("a")).unwrap();
    }
    let names: Vec<_> = files(&path).unwrap().into_iter().map(|file| file.file_name().unwrap().to_owned()).collect();
    assert_eq!(names, ["events.jsonl.000008", "events.jsonl.000009", "events.jsonl.000010", "events.jsonl"]);
    let chain = verified(&path);
    assert_eq!((chain.follows.seq, chain.last.seq), (14, 20));
    assert!(path.with_extension("jsonl.000bak").exists());
}

#[test]
fn the_flush_thread_ends_with_the_log() {
    let (_folder, path) = folder();
    let options = Options { durability: Durability::Fsync, ..Options::default() };
    for _ in 0..50 {
        // The lock is held until the thread has let go of the writer; then the file can be opened again.
        let mut log = AuditLog::open(&path, context(), options.clone());
        while let Err(OpenError::Busy { .. }) = log {
            thread::yield_now();
            log = AuditLog::open(&path, context(), options.clone());
        }
        log.unwrap().record_blocking(event("a")).unwrap();
    }
    assert_eq!(verified(&path).events, 50);
}

/// What nobody waits for is written with the next event, behind it, or when it is asked for; at the latest when there
/// is much of it.
#[test]
fn what_may_wait_is_taken_along() {
    for durability in [Durability::Written, Durability::Fsync] {
        let (_folder, path) = folder();
        let log = AuditLog::open(&path, context(), Options { durability, ..Options::default() }).unwrap();
        log.record_later(event("a"));
        log.record_later(event("b"));
        assert_eq!(log.events(), 0);
        assert_eq!(log.record_blocking(event("c")).unwrap().seq(), 1);
        assert_eq!(reasons(&path), ["c", "a", "b"]);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        log.record_later(event("d"));
        runtime.block_on(log.record_waiting()).unwrap();
        runtime.block_on(log.record_waiting()).unwrap();
        assert_eq!(reasons(&path), ["c", "a", "b", "d"]);
        for number in 0..100 {
            log.record_later(event(&number.to_string()));
        }
        assert!(log.events() >= 4 + 64);
        runtime.block_on(log.record_waiting()).unwrap();
        assert_eq!((log.events(), verified(&path).events), (104, 104));
    }
}

#[test]
fn what_may_wait_is_lost_only_with_the_file() {
    let (_folder, path) = folder();
    let log = open(&path);
    log.record_later(event("a"));
    fs::remove_file(&path).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert!(matches!(runtime.block_on(log.record_waiting()), Err(RecordError::Vanished { .. })));
    assert!(log.record_blocking(event("b")).is_err());
}
