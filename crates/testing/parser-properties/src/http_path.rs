//! Paths and globs: a path has one normal form, and a glob covers what it says.

use policy::http_path::{PathGlob, normalise};
use url::Url;

/// A request target, and behind a line feed a glob.
pub(crate) fn http_path(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (target, glob) = text.split_once('\n').unwrap_or((text, "/**"));
    let Some(path) = normalise(target) else { return };
    assert!(path.starts_with('/') && !path.contains("//"), "{path:?}");
    assert!(!path.split('/').any(|segment| matches!(segment, "." | "..")), "{path:?}");
    assert!(!path.contains(['\\', ';', '%']) && !path.chars().any(char::is_control), "{path:?}");
    let again: String = path.bytes().map(|b| if b == b'/' { "/".to_owned() } else { format!("%{b:02X}") }).collect();
    assert_eq!(normalise(&again).as_deref(), Some(path.as_str()), "written in another way it is the same path");
    let query = target.contains('?');
    assert!(query || normalise(&format!("{target}?/../%2f")).as_deref() == Some(path.as_str()), "a query says nothing");
    let url = Url::parse(&format!("http://a.example{target}")).expect("a URL with this path");
    // `url` keeps what looks like a drive's letter, in every scheme; its standard says so for files only.
    let drive = target.split('/').any(|segment| matches!(segment.as_bytes(), [_, b':' | b'|', ..]));
    let theirs = decoded(url.path());
    assert!(drive || theirs.as_deref() == Some(path.as_bytes()), "a URL parser reads {:?}, not {path:?}", url.path());
    if let Ok(parsed) = PathGlob::parse(glob)
        && path.len() + glob.len() <= 64
    {
        assert_eq!(parsed.matches(&path), covers(glob, &path), "{glob:?} over {path:?}");
    }
}

fn decoded(path: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let pair = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&pair).ok()?, 16).ok()?
            }
            other => other,
        });
    }
    Some(out)
}

/// The same, written for shortness, not speed: segment by segment, each possibility tried.
fn covers(glob: &str, path: &str) -> bool {
    let glob: Vec<&str> = glob.split('/').skip(1).collect();
    let path: Vec<&str> = path.split('/').skip(1).collect();
    segments(&glob, &path)
}

fn segments(glob: &[&str], path: &[&str]) -> bool {
    match (glob, path) {
        ([], []) => true,
        (["**", rest @ ..], _) => (0..=path.len()).any(|skipped| segments(rest, &path[skipped..])),
        ([first, glob @ ..], [segment, path @ ..]) => one(first.as_bytes(), segment.as_bytes()) && segments(glob, path),
        ([], [_, ..]) | ([_, ..], []) => false,
    }
}

fn one(glob: &[u8], text: &[u8]) -> bool {
    match (glob, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=text.len()).any(|skipped| one(rest, &text[skipped..])),
        ([g, glob @ ..], [t, text @ ..]) => g == t && one(glob, text),
        ([], [_, ..]) | ([_, ..], []) => false,
    }
}
