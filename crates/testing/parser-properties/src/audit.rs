//! The record: a line says the same when it is written again, and a chain shows every change.

use std::io::BufReader;

use audit_event::{
    Body, Chain, ERASED, Entry, Position, RunContext, SaltKey, Style, VerifyError, compact_line,
    erasable::{ERASABLE, erase},
    parse, to_ocsf, verify,
};

use crate::split_choice;

/// Any text as a line of a record.
pub(crate) fn event(bytes: &[u8]) {
    let Ok(line) = std::str::from_utf8(bytes) else { return };
    let Ok(entry) = parse(line) else { return };
    let _ = (to_ocsf(&entry, "0"), compact_line(&entry, Style::default()));
    let Body::Known(event) = &entry.body else { return };
    let Some(written) = written_again(&entry, Position::START) else { return };
    let again = parse(&written).expect("a line of ours");
    assert_eq!(again.envelope.event, entry.envelope.event);
    assert_eq!(again.envelope.sandbox, entry.envelope.sandbox);
    assert_eq!(again.body, Body::Known(event.clone()), "{written}");
    let verified = verify(written.as_bytes()).expect("a chain of one line");
    assert_eq!(verified.events, 1);
    for path in ERASABLE {
        if let Ok(erased) = erase(&written, path) {
            let erased = format!("{erased}\n");
            assert_eq!(verify(erased.as_bytes()).expect("erasing keeps the chain").erased, 1);
            assert!(parse(&erased).is_err() || erased.contains("null") || line.contains(ERASED));
        }
    }
}

fn written_again(entry: &Entry, position: Position) -> Option<String> {
    let Body::Known(event) = &entry.body else { return None };
    let context = RunContext {
        sandbox: entry.envelope.sandbox.clone(),
        thread: entry.envelope.thread.clone(),
        tool_call: entry.envelope.tool_call.clone(),
    };
    let mut chain = Chain::new(&context, position, SaltKey::from_random([7; 32]));
    let mut out = Vec::new();
    chain.append(event, entry.envelope.time, &mut out).ok()?;
    Some(String::from_utf8(out).expect("a line is text"))
}

/// Where to change a chain and to what; and lines.
pub(crate) fn chain(bytes: &[u8]) {
    // Any bytes, as a file on the disk may be.
    let whole = verify(bytes);
    let pieces = verify(BufReader::with_capacity(3, bytes));
    assert_eq!(format!("{whole:?}"), format!("{pieces:?}"), "read in pieces it is another chain");
    // The events among the lines as a chain of ours, and one byte of it changed.
    let Some((value, rest)) = split_choice(bytes) else { return };
    let Some((at, lines)) = split_choice(rest) else { return };
    let mut file = String::new();
    let mut position = Position::START;
    let mut count = 0;
    for line in lines.split(|byte| *byte == b'\n').take(8) {
        let entry = std::str::from_utf8(line).ok().and_then(|line| parse(line).ok());
        let Some(written) = entry.as_ref().and_then(|entry| written_again(entry, position)) else { continue };
        position = verify_from(position, &written);
        file.push_str(&written);
        count += 1;
    }
    if count == 0 {
        return;
    }
    assert_eq!(verify(file.as_bytes()).expect("a chain of ours").events, count);
    one_change_is_seen(&file, at, value);
}

fn verify_from(before: Position, line: &str) -> Position {
    let verified = verify(line.as_bytes()).expect("a line of ours");
    assert_eq!(verified.follows, before);
    verified.last
}

fn one_change_is_seen(file: &str, at: u8, value: u8) {
    let place = usize::from(at) * file.len() / 256;
    let mut changed = file.as_bytes().to_vec();
    if changed[place] == value || changed[place] == b'\n' {
        return;
    }
    changed[place] = value;
    match verify(changed.as_slice()) {
        Err(VerifyError::Broken(_)) => {}
        Err(VerifyError::Read(error)) => panic!("{error}"),
        // What no reader of JSON can see: another way to write the same.
        Ok(_) => {
            let said = |text: &str| text.lines().map(|line| parse(line).expect("a line")).collect::<Vec<_>>();
            let changed = String::from_utf8(changed).expect("a verified chain is text");
            assert_eq!(said(&changed), said(file), "a change at {place} is not seen");
        }
    }
}
