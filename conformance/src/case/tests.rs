//! Every case file reads, every way out of the list is tried somewhere, and marks match what they say.

use std::{collections::BTreeSet, net::SocketAddr, path::Path};

use anyhow::{Result, ensure};
use network_lab::{Place, Reached, What};

use super::{Expected, Owasp, Purpose, Setting, read_all};
use crate::mark::{Mark, Words};

fn cases() -> Result<Vec<super::Case>> {
    read_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("cases"))
}

/// The numbers of the list that every build is held to.
const LISTED: [u32; 60] = [
    1, 2, 3, 4, 6, 8, 9, 11, 12, 13, 14, 16, 17, 18, 20, 21, 23, 25, 26, 27, 28, 30, 31, 32, 34, 36, 37, 38, 39, 40,
    42, 43, 44, 46, 48, 49, 50, 51, 52, 53, 56, 58, 60, 61, 63, 64, 65, 67, 69, 70, 71, 73, 74, 77, 78, 79, 80, 81, 84,
    85,
];

/// A line of `coverage.yaml`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Covered {
    number: u32,
    what: String,
    #[serde(default)]
    cases: Vec<String>,
    #[serde(default)]
    tests: Vec<String>,
    #[serde(default)]
    owasp: BTreeSet<Owasp>,
    /// What could hold only with something that is not built.
    open: Option<String>,
}

/// Every source file of the workspace's tests, in one text.
fn sources(folder: &Path, into: &mut String) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, into)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&std::fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

#[test]
fn every_way_out_of_the_list_is_tried_somewhere() -> Result<()> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lines: Vec<Covered> = serde_saphyr::from_str(&std::fs::read_to_string(home.join("coverage.yaml"))?)?;
    let numbers: Vec<u32> = lines.iter().map(|line| line.number).collect();
    ensure!(numbers == LISTED, "{numbers:?}");
    let cases = cases()?;
    let mut text = String::new();
    sources(&home.join("../crates"), &mut text)?;
    for line in &lines {
        let (number, what) = (line.number, &line.what);
        ensure!(!line.cases.is_empty() || !line.tests.is_empty() || line.open.is_some(), "{number} {what}");
        let tried = cases.iter().filter(|case| line.cases.iter().any(|front| case.id.starts_with(front.as_str())));
        let classes: BTreeSet<Owasp> = tried.map(|case| case.owasp).collect();
        ensure!(classes == line.owasp, "{number} {what}: its cases are of {classes:?}");
        for front in &line.cases {
            ensure!(cases.iter().any(|case| case.id.starts_with(front.as_str())), "{number} {what}: no case {front}");
        }
        for test in &line.tests {
            ensure!(text.contains(&format!("fn {test}(")), "{number} {what}: no test {test}");
        }
    }
    Ok(())
}

#[test]
fn every_case_can_go_wrong() -> Result<()> {
    for case in cases()? {
        match case.purpose() {
            Purpose::Attack => ensure!(!case.reaches.is_empty(), "{}: nothing would prove it", case.id),
            Purpose::Benign => ensure!(case.expected(Setting::Limited) == Some(Expected::Passes), "{}", case.id),
        }
        ensure!(case.expected(Setting::Limited) != Some(Expected::Any), "{}: `limited` binds every case", case.id);
        for text in &case.unproven {
            ensure!(case.each.contains(text), "{}: {text:?} is none of `each`", case.id);
        }
        let script = case.probe.first().filter(|first| first.ends_with(".py"));
        let found = script.is_none_or(|name| Path::new(env!("CARGO_MANIFEST_DIR")).join("probes").join(name).is_file());
        ensure!(found, "{}: no probe {script:?}", case.id);
    }
    Ok(())
}

#[test]
fn a_policy_decides_by_setting() -> Result<()> {
    let all = cases()?;
    let by_policy = all.iter().find(|case| case.id == "A15").expect("the plain denied host");
    let expected = [Setting::Unrestricted, Setting::Limited, Setting::Watched, Setting::Routed]
        .map(|setting| by_policy.expected(setting));
    ensure!(
        expected == [Some(Expected::Passes), Some(Expected::Held), Some(Expected::Watched), Some(Expected::Held)],
        "{expected:?}"
    );
    Ok(())
}

#[test]
fn marks_match_what_they_say() {
    let reached = |what: What| Reached {
        place: Place::Internet,
        server: "cdn".to_owned(),
        local: "203.0.113.20:80".parse::<SocketAddr>().ok(),
        peer: None,
        connection: 1,
        what,
    };
    let request = reached(What::Request {
        sni: None,
        version: "1.1".to_owned(),
        method: "GET".to_owned(),
        target: "/canary7".to_owned(),
        host: Some("CDN-B.test".to_owned()),
        headers: vec![("Upgrade".to_owned(), "h2c".to_owned())],
    });
    let query = reached(What::Query {
        transport: "udp".to_owned(),
        name: "x.attacker.test".to_owned(),
        record_type: 1,
        message: Vec::new(),
    });
    let empty = reached(What::Carried { data: Vec::new(), received: 0, sent: 9 });
    let table = [
        ("{ server: cdn }", &request, true),
        ("{ server: other }", &request, false),
        ("{ host: cdn-b.test }", &request, true),
        ("{ host: cdn-a.test }", &request, false),
        ("{ host: cdn-b.test }", &query, false),
        ("{ target: canary7 }", &request, true),
        ("{ header: upgrade }", &request, true),
        ("{ header: other }", &request, false),
        ("{ address: 203.0.113.20, port: 80 }", &request, true),
        ("{ address: 203.0.113.21 }", &request, false),
        ("{ address: not-an-address }", &request, false),
        ("{ port: 443 }", &request, false),
        ("{ what: request }", &request, true),
        ("{ what: query }", &request, false),
        ("{ query: attacker.test }", &query, true),
        ("{ query: denied.test }", &query, false),
        ("{ canary: true }", &request, true),
        ("{ canary: true }", &query, false),
        ("{ secret: true }", &request, false),
        ("{ bytes: true }", &empty, false),
    ];
    for (text, reached, expected) in table {
        let mark: Mark = serde_saphyr::from_str(text).expect(text);
        let words =
            Words { canary: "canary7".to_owned(), secret: "s3cr3t".to_owned(), forms: vec!["s3cr3t".to_owned()] };
        assert_eq!(mark.matches(reached, &words), expected, "{text} {reached}");
    }
}
