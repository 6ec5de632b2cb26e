//! Every case file reads, every class of the list is there, and marks match what they say.

use std::{collections::BTreeSet, net::SocketAddr, path::Path};

use anyhow::{Result, ensure};
use network_lab::{Place, Reached, What};

use super::{Expected, Mark, Purpose, Setting, read_all};

fn cases() -> Result<Vec<super::Case>> {
    read_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("cases"))
}

#[test]
fn every_class_that_needs_no_inspection_has_a_case() -> Result<()> {
    let cases = cases()?;
    let numbers: BTreeSet<&str> = cases.iter().filter_map(|case| case.id.split('-').next()).collect();
    let wanted = [
        "A01", "A02", "A03", "A06", "A08", "A09", "A11", "A12", "A13", "A14", "B17", "B18", "B20", "B21", "B23", "B25",
        "B26", "B27", "B28", "C30", "C31", "C32", "C34", "D36", "D37", "D38", "D39", "D40", "D42", "D43", "D44", "D48",
        "E49", "E50", "E51", "E52", "E53", "F56", "F58", "F60", "F61", "G63", "G64", "G65", "G67", "G69", "G70", "I80",
        "I81", "I84", "S01", "S02", "S03", "S04",
    ];
    let missing: Vec<_> = wanted.iter().filter(|number| !numbers.contains(*number)).collect();
    ensure!(missing.is_empty(), "{missing:?}");
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
        ("{ bytes: true }", &empty, false),
    ];
    for (text, reached, expected) in table {
        let mark: Mark = serde_saphyr::from_str(text).expect(text);
        assert_eq!(mark.matches(reached, "canary7"), expected, "{text} {reached}");
    }
}
