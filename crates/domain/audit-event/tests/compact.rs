//! The lines people read.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

#[allow(dead_code, reason = "each test file uses its part")]
mod samples;

use audit_event::{Event, Style, compact_line, parse};
use samples::{any_event, flow, lines, one_of_each};

fn shown(events: &[Event], style: Style) -> String {
    let text = lines(events);
    text.lines().map(|line| compact_line(&parse(line).unwrap(), style)).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_kind_of_event_has_a_line() {
    insta::assert_snapshot!("one_of_each", shown(&one_of_each(), Style::default()));
}

#[test]
fn colours_and_dates_are_optional() {
    let style = Style { colour: true, date: true };
    let line = shown(&[Event::FlowDecided(Box::new(flow()))], style);
    insta::assert_snapshot!("coloured", line.escape_debug().to_string());
}

proptest::proptest! {
    #[test]
    fn a_line_is_one_line(event in any_event()) {
        let line = shown(&[event], Style::default());
        proptest::prop_assert!(!line.chars().any(char::is_control), "{line:?}");
        proptest::prop_assert!(line.len() < 8_192);
    }
}
