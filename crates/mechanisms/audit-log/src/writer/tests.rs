//! A disk that fails to flush: what can't be made to happen from outside.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

use std::fs;

use audit_event::{Event, PolicyRefused, RunContext, verify};
use rustix::io::Errno;

use super::{Writer, Written};
use crate::{Durability, Options, log::RecordError, open::open};

fn event(text: &str) -> Event {
    Event::PolicyRefused(PolicyRefused { revision: "1".into(), reason: text.into() })
}

fn written(writer: &mut Writer, text: &str) -> Written {
    writer.write([&event(text)]).pop().unwrap().unwrap()
}

#[test]
fn what_a_failed_flush_covered_is_taken_back() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("events.jsonl");
    let context = RunContext { sandbox: "run-test".into(), thread: None, tool_call: None };
    let options = Options { durability: Durability::Fsync, ..Options::default() };
    let mut writer = open(&path, &context, options).unwrap().writer;

    let first = written(&mut writer, "safe");
    let covered = writer.covered();
    let progress = writer.flushed(&covered, Ok(()));
    assert!(progress.settles(&first) && progress.answer(&first, &path).is_ok());

    let covered_by_failure = written(&mut writer, "lost");
    let covered = writer.covered();
    let written_meanwhile = written(&mut writer, "lost too");
    let progress = writer.flushed(&covered, Err(Errno::IO));
    for lost in [covered_by_failure, written_meanwhile] {
        assert!(progress.settles(&lost));
        let error = progress.answer(&lost, &path).unwrap_err();
        assert_eq!(error, RecordError::Flush { path: path.clone(), source: Errno::IO });
    }
    assert_eq!(writer.recorded(), 1);

    // The number is given out again; a flush that began before the failure says nothing about it.
    let again = written(&mut writer, "again");
    assert_eq!(again.seq, covered_by_failure.seq);
    let progress = writer.flushed(&covered, Ok(()));
    assert!(!progress.settles(&again));
    let covered = writer.covered();
    let progress = writer.flushed(&covered, Ok(()));
    assert!(progress.answer(&again, &path).is_ok());
    assert!(progress.answer(&covered_by_failure, &path).is_err(), "the number is on the disk, the event is not");

    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(verify(text.as_bytes()).unwrap().events, 2);
    assert!(text.contains("again") && !text.contains("lost"));
}

#[test]
fn a_piece_that_could_not_be_taken_back_is_cut_before_the_next_line() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("events.jsonl");
    let context = RunContext { sandbox: "run-test".into(), thread: None, tool_call: None };
    let mut writer = open(&path, &context, Options::default()).unwrap().writer;
    written(&mut writer, "a");
    // As a caller leaves it that died in the middle of write(2).
    writer.unclean = true;
    writer.buffer.extend_from_slice(b"{\"seq\":2");
    rustix::io::write(&writer.active.file, b"{\"se").unwrap();
    assert_eq!(written(&mut writer, "b").seq, 2);
    assert_eq!(verify(fs::read(&path).unwrap().as_slice()).unwrap().events, 2);
}

#[test]
fn one_bad_event_in_a_batch_is_refused_alone() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("events.jsonl");
    let context = RunContext { sandbox: "run-test".into(), thread: None, tool_call: None };
    let mut writer = open(&path, &context, Options::default()).unwrap().writer;
    let answers = writer.write([&event("a"), &event(&"x".repeat(2 << 20)), &event("b")]);
    assert_eq!(
        answers.iter().map(|answer| answer.as_ref().ok().map(|written| written.seq)).collect::<Vec<_>>(),
        [Some(1), None, Some(2)]
    );
    assert_eq!(writer.recorded(), 2);
    assert_eq!(verify(fs::read(&path).unwrap().as_slice()).unwrap().events, 2);
}
