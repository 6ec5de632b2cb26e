//! Tables of paths and globs, and properties of the normal form.

use proptest::{prelude::any, prop_assert, proptest};

use super::{PathGlob, PathGlobError, normalise};

#[test]
fn normal_forms() {
    for (target, normal) in [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/a/b/", "/a/b/"),
        ("/a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/..", "/"),
        ("/a/b/.", "/a/b/"),
        ("/a/b/..", "/a/"),
        ("/../../a", "/a"),
        ("/a/%2e%2e/b", "/b"),
        ("/a/%2E./b", "/b"),
        ("/%61", "/a"),
        ("/a%20b", "/a b"),
        ("/caf%C3%A9", "/café"),
        ("/a?b=/../c%2f;", "/a"),
        ("/a...b", "/a...b"),
        ("/...", "/..."),
        ("/a%20.", "/a ."),
        ("/a/%20", "/a/ "),
        ("/%E3%83%BB", "/・"),
    ] {
        assert_eq!(normalise(target).as_deref(), Some(normal), "{target}");
    }
}

#[test]
fn ambiguous_paths_have_no_normal_form() {
    for target in [
        "",
        "*",
        "a",
        "http://host/a",
        "//",
        "//a",
        "/a//b",
        "/a//",
        "/a/..%20/b",
        "/a/%20../b",
        "/a/.%20./b",
        "/a/.%20",
        "/a/..%C2%A0/b",
        "/a/%EF%BC%8E%EF%BC%8E/b",
        "/a%EF%BC%8Fb",
        "/a%EF%BC%BCb",
        "/a.%EF%BC%8Eb",
        "/a/%E2%80%A5/b",
        "/a/.%E2%80%A4/b",
        "/a/%E3%80%82%E3%80%82/b",
        "/a%2fb",
        "/a%2Fb",
        "/a%5cb",
        "/a\\b",
        "/a;b",
        "/a%3bb",
        "/%252e%252e/",
        "/a%25",
        "/a%2",
        "/a%",
        "/a%zz",
        "/a%00b",
        "/a%0d%0a",
        "/a%7f",
        "/a\u{7f}",
        "/a b",
        "/a\tb",
        "/a\0b",
        "/a#b",
        "/é",
        "/%c0%ae%c0%ae/",
        "/%ff",
        "/%c2%85",
        "/%ed%a0%80",
    ] {
        assert_eq!(normalise(target), None, "{target:?}");
    }
}

#[test]
fn globs() {
    for (glob, covered, not_covered) in [
        ("/", &["/"][..], &["/a"][..]),
        ("/api/**", &["/api", "/api/", "/api/a", "/api/a/b"], &["/", "/apis", "/v/api/a"]),
        ("/api/*", &["/api/", "/api/a"], &["/api", "/api/a/b", "/api/a/"]),
        ("/**", &["/", "/a", "/a/b/"], &[]),
        ("/**/b", &["/b", "/a/b", "/a/a/b"], &["/a", "/ab", "/b/"]),
        ("/a/**/z", &["/a/z", "/a/b/c/z"], &["/a/b", "/z"]),
        ("/a*z/b", &["/az/b", "/abcz/b"], &["/abc/b", "/a/z/b"]),
        ("/*.txt", &["/.txt", "/a.txt", "/a.txt.txt"], &["/a.txts", "/a/b.txt"]),
        ("/a?b", &["/a?b"], &["/axb"]),
    ] {
        let parsed = PathGlob::parse(glob).unwrap();
        for path in covered {
            assert!(parsed.matches(path), "{glob} covers {path}");
        }
        for path in not_covered {
            assert!(!parsed.matches(path), "{glob} does not cover {path}");
        }
    }
    assert_eq!(PathGlob::parse("api"), Err(PathGlobError::Relative));
    assert_eq!(PathGlob::parse("/a**"), Err(PathGlobError::PartialDoubleStar));
    assert_eq!(PathGlob::parse("/***/b"), Err(PathGlobError::PartialDoubleStar));
}

#[test]
fn a_hostile_glob_takes_no_exponential_time() {
    let glob = PathGlob::parse(&format!("/{}b/{}z", "*a".repeat(60), "**/x/".repeat(60))).unwrap();
    assert!(!glob.matches(&format!("/{}/{}y", "a".repeat(2000), "x/".repeat(2000))));
}

/// What a glob covers, said in the plainest way.
fn covers(glob: &[&str], path: &[&str]) -> bool {
    fn segment(glob: &[u8], text: &[u8]) -> bool {
        match glob {
            [] => text.is_empty(),
            [b'*', rest @ ..] => (0..=text.len()).any(|taken| segment(rest, &text[taken..])),
            [first, rest @ ..] => text.first() == Some(first) && segment(rest, &text[1..]),
        }
    }
    match glob {
        [] => path.is_empty(),
        ["**", rest @ ..] => (0..=path.len()).any(|taken| covers(rest, &path[taken..])),
        [first, rest @ ..] => {
            path.first().is_some_and(|text| segment(first.as_bytes(), text.as_bytes())) && covers(rest, &path[1..])
        }
    }
}

proptest! {
    #[test]
    fn globs_agree_with_their_definition(glob in "/(\\*\\*|[ab*]{0,1}[ab]{0,2}\\*?)(/(\\*\\*|[ab]{0,2}\\*?[ab]{0,1})){0,3}", path in "/[ab]{0,3}(/[ab]{0,3}){0,4}") {
        if let Ok(parsed) = PathGlob::parse(&glob) {
            let expected = covers(&glob[1..].split('/').collect::<Vec<_>>(), &path[1..].split('/').collect::<Vec<_>>());
            prop_assert!(parsed.matches(&path) == expected, "{} on {}", glob, path);
        }
    }

    #[test]
    fn a_normal_form_has_nothing_left_to_resolve(target in "/[a.%2ef/;c5]{0,20}") {
        if let Some(normal) = normalise(&target) {
            prop_assert!(normal.starts_with('/') && !normal.contains("//"));
            prop_assert!(!normal.split('/').any(|segment| segment == "." || segment == ".."));
            prop_assert!(!normal.contains(['%', '\\', ';']));
        }
    }

    #[test]
    fn any_text_is_handled(target in any::<String>()) {
        let _ = normalise(&target);
    }
}
