//! Bundles that are wrong, and where.

use std::{fs, time::SystemTime};

use proptest::prelude::{any, proptest};

use super::{RootsError, UpstreamRoots, sections};
use crate::{Issuer, Scope, trust};

fn good() -> String {
    trust::pem(Issuer::for_run(Scope::Any, SystemTime::now()).unwrap().anchors())
}

#[test]
fn a_bundle_is_read_or_its_fault_is_named_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bundle.pem");
    let good = good();
    let lines = good.lines().count();
    let cut: String = good.lines().take(4).map(|line| format!("{line}\n")).collect();
    let words = good.replacen("MII", "M!!", 1);
    let nothing = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (text, expected) in [
        (format!("# a comment\n{good}{good}"), Ok(2)),
        (good.replace('\n', "\r\n"), Ok(1)),
        (format!("{good}{words}"), Err(format!("line {}: the certificate that begins here is not base64", lines + 1))),
        (format!("\n{cut}{good}"), Err("line 2: the certificate that begins here".to_owned())),
        (cut, Err("line 1: the certificate that begins here has no end".to_owned())),
        (nothing.to_owned(), Err("line 1: this is no certificate that can be read".to_owned())),
        (String::new(), Err("holds no certificate".to_owned())),
        (
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n".to_owned(),
            Err("holds no certificate".to_owned()),
        ),
    ] {
        fs::write(&path, &text).unwrap();
        match (UpstreamRoots::from_bundle(&path), expected) {
            (Ok(roots), Ok(count)) => assert_eq!(roots.certificates().len(), count),
            (Err(error), Err(part)) => assert!(error.to_string().contains(&part), "{error} / {part}"),
            (found, expected) => panic!("{found:?}, not {expected:?}, of\n{text}"),
        }
    }
}

#[test]
fn a_bundle_that_is_not_there_is_named() {
    let missing = UpstreamRoots::from_bundle("/nowhere/at/all.pem".as_ref());
    assert!(matches!(missing, Err(RootsError::Read { path, .. }) if path.ends_with("all.pem")));
}

proptest! {
    #[test]
    fn any_bytes_are_split_without_a_panic(text in proptest::collection::vec(any::<u8>(), 0..400), at in 0_usize..400) {
        let mut text = text;
        let at = at.min(text.len());
        text.splice(at..at, b"\n-----BEGIN CERTIFICATE-----\n".iter().copied());
        for (line, part) in sections(&text) {
            assert!(line >= 1 && part.starts_with(b"-----BEGIN CERTIFICATE"));
        }
    }
}
