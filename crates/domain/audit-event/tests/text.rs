//! Text from a workload: bounded, one line, nothing that moves a cursor or hides.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

use audit_event::{bounded, bounded_bytes};
use proptest::{prelude::any, prop_assert, prop_assert_eq, proptest};

#[test]
fn texts_are_cut_and_escaped() {
    let cases = [
        ("plain", 64, "plain"),
        ("", 64, ""),
        ("plain", 5, "plain"),
        ("plain text", 8, "plain…"),
        ("plain", 2, ""),
        ("plain", 3, "…"),
        ("plain", 0, ""),
        ("a\nb\rc\td", 64, "a\\nb\\rc\\td"),
        ("\x1b[31mred\x07\0\x7f", 64, "\\x1b[31mred\\x07\\x00\\x7f"),
        ("\u{9b}31m", 64, "\\u{9b}31m"),
        ("exe\u{202e}gpj", 64, "exe\\u{202e}gpj"),
        ("a\u{200b}b\u{2028}c\u{feff}", 64, "a\\u{200b}b\\u{2028}c\\u{feff}"),
        ("\u{e0041}", 64, "\\u{e0041}"),
        ("größe 雪 😀", 64, "größe 雪 😀"),
        ("größe", 6, "gr…"),
        ("雪雪雪", 8, "雪…"),
        ("ab\n\n\n", 6, "ab…"),
        ("back\\slash \"quoted\"", 64, "back\\slash \"quoted\""),
    ];
    for (text, limit, expected) in cases {
        assert_eq!(bounded(text, limit), expected, "{text:?} to {limit}");
    }
}

#[test]
fn bytes_that_are_no_text_are_escaped() {
    assert_eq!(bounded_bytes(b"a\xffb\xc3(\xe9", 64), "a\\xffb\\xc3(\\xe9");
    assert_eq!(bounded_bytes(b"\xff\xff\xff", 9), "\\xff…");
    assert_eq!(bounded_bytes("größe".as_bytes(), 64), "größe");
}

proptest! {
    #[test]
    fn nothing_gets_through(text in any::<String>(), limit in 0..64_usize) {
        let short = bounded(&text, limit);
        prop_assert!(short.len() <= limit);
        prop_assert!(!short.chars().any(char::is_control));
        prop_assert_eq!(&bounded(&short, limit), &short);
        prop_assert_eq!(bounded_bytes(text.as_bytes(), limit), short);
    }

    #[test]
    fn any_bytes_become_a_line(bytes in any::<Vec<u8>>(), limit in 0..64_usize) {
        let short = bounded_bytes(&bytes, limit);
        prop_assert!(short.len() <= limit && !short.chars().any(char::is_control));
    }
}
