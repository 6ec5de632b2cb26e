//! Lines: their shape, their hash, what verification finds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests may panic")]

#[allow(dead_code, reason = "each test file uses its part")]
mod samples;

use audit_event::{
    Body, Broken, BrokenReason, ERASED, Ending, Event, MAX_LINE, Position, RunContext, Verifier, VerifyError,
    erasable::{ERASABLE, erase},
    parse, verify,
};
use audit_event::{Chain, SaltKey};
use proptest::{collection::vec, prelude::any, prop_assert, prop_assert_eq, proptest};
use samples::{any_event, chain, flow, lines, one_of_each, sandbox, time};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

fn broken(text: &str) -> Broken {
    match verify(text.as_bytes()) {
        Err(VerifyError::Broken(broken)) => broken,
        Err(VerifyError::Read(error)) => panic!("{error}"),
        Ok(verified) => panic!("not broken: {verified:?}"),
    }
}

#[test]
fn a_line_has_the_shape_of_the_specification() {
    let line = lines(&[Event::FlowDecided(Box::new(flow()))]);
    let hash_at = line.find(r#","hash":""#).unwrap();
    let salts_at = line.find(r#","salts":{"process.args":""#).unwrap();
    assert_eq!(
        &line[..salts_at],
        concat!(
            r#"{"seq":1,"time":"2026-11-21T09:00:00.123456Z","event":"flow.decided","flow":9,"revision":"3","#,
            r#""sandbox":"run-7f3a","thread":null,"tool_call":null,"#,
            r#""verdict":"denied","enforcement":"enforce","rule":"deny-east-west","layer":"ip","#,
            r#""reason":"destination in group private","#,
            r#""would":[{"rule":"deny-new-domains","verdict":"would-deny"}],"#,
            r#""process":{"pid":4711,"exe":"/usr/bin/curl","digest":null,"args":"curl -s http://db.internal/"},"#,
            r#""destination":{"name":"db.internal","name_from":"dns-binding","address":"10.0.0.8","#,
            r#""original_address":"10.0.0.8","port":80},"#,
            r#""protocol":"tcp","route":null,"tls":{"mode":"none","sni":null,"alpn":null,"ech":null},"#,
            r#""http":null,"credential":null,"bytes":{"sent":0,"received":0},"duration_us":87,"error":null"#,
        )
    );
    assert_eq!(&line[hash_at - 64..hash_at - 1], "0".repeat(63));
    assert!(line.ends_with("\"}\n"));
}

/// A second implementation, from the words of the specification alone.
#[test]
fn the_hash_can_be_computed_by_others() {
    let line = lines(&[Event::FlowDecided(Box::new(flow()))]);
    let mut object: Map<String, Value> = serde_json::from_str(&line).unwrap();
    let [hash, prev, salts] = ["hash", "prev", "salts"].map(|name| object.remove(name).unwrap());
    let salt = salts["process.args"].as_str().unwrap();
    let salt: Vec<u8> =
        (0..salt.len()).step_by(2).map(|at| u8::from_str_radix(&salt[at..at + 2], 16).unwrap()).collect();
    let digest = Sha256::new().chain_update(&salt).chain_update(r#""curl -s http://db.internal/""#).finalize();
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    object["process"]["args"] = serde_json::json!({ "sha256": digest });
    // Every name is ASCII and every number whole, so sorted, compact JSON is the RFC 8785 form.
    let sorted: std::collections::BTreeMap<String, Value> = object.into_iter().collect();
    let mut canonical = String::from("{");
    for (index, (name, value)) in sorted.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        canonical += &format!("{comma}\"{name}\":{}", sorted_json(value));
    }
    canonical.push('}');
    assert_eq!(prev.as_str().unwrap(), "0".repeat(64));
    let computed = Sha256::new().chain_update([0; 32]).chain_update(canonical).finalize();
    let computed: String = computed.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hash.as_str().unwrap(), computed);
}

fn sorted_json(value: &Value) -> String {
    match value {
        Value::Object(object) => {
            let sorted: std::collections::BTreeMap<_, _> = object.iter().collect();
            let fields: Vec<String> =
                sorted.into_iter().map(|(name, value)| format!("\"{name}\":{}", sorted_json(value))).collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(sorted_json).collect::<Vec<_>>().join(",")),
        scalar => scalar.to_string(),
    }
}

#[test]
fn every_kind_of_event_is_written_verified_and_read_back() {
    let events = one_of_each();
    let text = lines(&events);
    let verified = verify(text.as_bytes()).unwrap();
    assert_eq!((verified.events, verified.follows, verified.ending), (12, Position::START, Ending::SandboxEnded));
    for (line, event) in text.lines().zip(&events) {
        let entry = parse(line).unwrap();
        assert_eq!(entry.body, Body::Known(event.clone()));
        assert!(audit_event::EVENT_KINDS.contains(&entry.envelope.event.as_str()));
    }
    let kinds: std::collections::BTreeSet<String> =
        text.lines().map(|line| parse(line).unwrap().envelope.event).collect();
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), audit_event::EVENT_KINDS);
}

proptest! {
    #[test]
    fn any_events_make_a_chain(events in vec(any_event(), 1..8), sandbox in any::<String>(), call in any::<Option<String>>()) {
        let context = RunContext { sandbox: sandbox.clone(), thread: None, tool_call: call.clone() };
        let mut chain = Chain::new(&context, Position::START, SaltKey::from_random([3; 32]));
        let mut out = Vec::new();
        for event in &events {
            chain.append(event, time(), &mut out).unwrap();
        }
        let verified = verify(out.as_slice()).unwrap();
        prop_assert_eq!(verified.events, events.len() as u64);
        prop_assert_eq!(verified.last, chain.position());
        for (line, event) in std::str::from_utf8(&out).unwrap().lines().zip(&events) {
            let line: Map<String, Value> = serde_json::from_str(line).unwrap();
            prop_assert_eq!(line["sandbox"].as_str(), Some(sandbox.as_str()));
            prop_assert_eq!(line["tool_call"].as_str(), call.as_deref());
            // What serde_json makes of the event stands on the line, but for counts that JSON can't hold.
            for (name, value) in serde_json::to_value(event).unwrap().as_object().unwrap() {
                prop_assert_eq!(&line[name], &bounded_numbers(value.clone()));
            }
        }
    }

    #[test]
    fn one_changed_byte_is_found(event in any_event(), at in any::<proptest::sample::Index>(), to in any::<u8>()) {
        let text = lines(&[event.clone(), event]);
        let mut bytes = text.clone().into_bytes();
        let at = at.index(bytes.len());
        let was = std::mem::replace(&mut bytes[at], to);
        match verify(bytes.as_slice()) {
            // The same text, the same content in other words (`\/` and hex in capitals), or a torn end.
            Ok(verified) => prop_assert!(
                was == to || verified.torn_tail.is_some() || same_content(&text, &bytes),
                "byte {} changed from {:?} to {:?}", at, was as char, to as char
            ),
            Err(VerifyError::Broken(broken)) => prop_assert!(broken.seq <= 2),
            Err(VerifyError::Read(error)) => panic!("{error}"),
        }
    }

    #[test]
    fn erasing_keeps_the_chain(events in vec(any_event(), 1..5), path in proptest::sample::select(ERASABLE.to_vec())) {
        let text = lines(&events);
        let mut erased = 0;
        let mut after = String::new();
        for line in text.lines() {
            match erase(line, path) {
                Ok(line) => {
                    erased += 1;
                    after += &line;
                    prop_assert_eq!(parse(&line).unwrap().envelope.erased, vec![path.to_owned()]);
                }
                Err(_) => after += line,
            }
            after.push('\n');
        }
        let verified = verify(after.as_bytes()).unwrap();
        prop_assert_eq!((verified.events, verified.erased), (events.len() as u64, erased));
    }

    #[test]
    fn no_input_makes_verification_panic(text in any::<Vec<u8>>(), line in "\\{\"seq\":1,.{0,200}\\}\n") {
        let _ = verify(text.as_slice());
        let _ = verify(line.as_bytes());
        let _ = parse(&line);
    }
}

fn same_content(text: &str, bytes: &[u8]) -> bool {
    let content = |text: &str| text.lines().map(|line| serde_json::from_str::<Value>(line).ok()).collect::<Vec<_>>();
    std::str::from_utf8(bytes).is_ok_and(|changed| content(changed) == content(text))
}

fn bounded_numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => number.as_u64().map_or(Value::Number(number), |n| n.min((1 << 53) - 1).into()),
        Value::Array(items) => items.into_iter().map(bounded_numbers).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, bounded_numbers(value))).collect(),
        other => other,
    }
}

#[test]
fn what_was_done_to_a_chain_is_named() {
    let events: Vec<Event> = (0..4).map(|_| Event::FlowDecided(Box::new(flow()))).collect();
    let text = lines(&events);
    let line: Vec<&str> = text.split_inclusive('\n').collect();
    let gap = |expected, found| BrokenReason::Gap { expected, found };
    let order = |expected, found| BrokenReason::OutOfOrder { expected, found };
    let edited = |from: &str, to: &str| line[1].replace(from, to);
    let cases: [(&str, String, u64, BrokenReason); 11] = [
        ("a line is missing", [line[0], line[2]].concat(), 2, gap(2, 3)),
        ("two lines are missing", [line[0], line[3]].concat(), 2, gap(2, 4)),
        ("a line comes twice", [line[0], line[1], line[1]].concat(), 2, order(3, 2)),
        ("two lines changed places", [line[0], line[2], line[1]].concat(), 2, gap(2, 3)),
        ("another verdict", [line[0], &edited("denied", "allowed")].concat(), 2, BrokenReason::Changed),
        ("another number", [line[0], &edited("\"seq\":2", "\"seq\":3")].concat(), 2, gap(2, 3)),
        ("a field more", [line[0], &edited("\"route\"", "\"x\":1,\"route\"")].concat(), 2, BrokenReason::Changed),
        ("a field less", [line[0], &edited("\"route\":null,", "")].concat(), 2, BrokenReason::Changed),
        ("no hash", [line[0], &edited("\"hash\"", "\"hush\"")].concat(), 2, BrokenReason::NoField("hash")),
        ("no number", line[0].replace("\"seq\":1,", ""), 1, BrokenReason::NoField("seq")),
        ("an empty line", [line[0], "\n", line[1]].concat(), 2, BrokenReason::NotReadable(String::new())),
    ];
    for (what, text, seq, reason) in cases {
        let found = broken(&text);
        assert_eq!(found.seq, seq, "{what}: {found}");
        match (&found.reason, &reason) {
            (BrokenReason::NotReadable(_), BrokenReason::NotReadable(_)) => {}
            (found, expected) => assert_eq!(found, expected, "{what}"),
        }
    }
}

#[test]
fn a_name_that_comes_twice_is_refused() {
    let text = lines(&[Event::FlowDecided(Box::new(flow()))]);
    let twice = text.replacen("\"verdict\":\"denied\"", "\"verdict\":\"allowed\",\"verdict\":\"denied\"", 1);
    assert!(matches!(broken(&twice).reason, BrokenReason::NotReadable(_)));
    assert!(parse(&twice).is_err());
}

#[test]
fn a_line_of_another_chain_is_refused() {
    let ours = lines(&[Event::FlowDecided(Box::new(flow())), Event::SandboxEnded(sandbox(None))]);
    let theirs = lines(&[Event::SandboxStarted(sandbox(None)), Event::SandboxEnded(sandbox(None))]);
    let mixed = format!("{}\n{}\n", ours.lines().next().unwrap(), theirs.lines().nth(1).unwrap());
    assert_eq!(broken(&mixed), Broken { seq: 2, line: 2, reason: BrokenReason::OtherPrevious });
}

#[test]
fn a_torn_tail_is_told_apart() {
    let text = lines(&one_of_each());
    let verified = verify(&text.as_bytes()[..text.len() - 5]).unwrap();
    assert_eq!((verified.events, verified.ending), (11, Ending::Checkpoint));
    assert!(verified.torn_tail.is_some_and(|bytes| bytes > 100));
    let mut verifier = Verifier::default();
    verifier.read(&text.as_bytes()[..text.len() - 5]).unwrap();
    let error = verifier.read(text.as_bytes()).unwrap_err();
    assert!(matches!(error, VerifyError::Broken(Broken { reason: BrokenReason::Torn, .. })));
}

#[test]
fn a_chain_goes_through_files_and_may_begin_late() {
    let text = lines(&one_of_each());
    let at = text.match_indices('\n').nth(4).unwrap().0 + 1;
    let mut verifier = Verifier::default();
    verifier.read(&text.as_bytes()[..at]).unwrap();
    verifier.read(&text.as_bytes()[at..]).unwrap();
    assert_eq!(verifier.finish(), verify(text.as_bytes()).unwrap());
    let late = verify(&text.as_bytes()[at..]).unwrap();
    assert_eq!((late.events, late.follows.seq, late.last.seq), (7, 5, 12));
}

#[test]
fn a_line_without_bound_is_not_held() {
    let long = vec![b'x'; MAX_LINE + 1];
    let error = verify(long.as_slice()).unwrap_err();
    assert!(matches!(error, VerifyError::Broken(Broken { reason: BrokenReason::TooLong, .. })));
    assert_eq!(verify(&b""[..]).unwrap().ending, Ending::Empty);
}

#[test]
fn only_erasable_fields_can_be_erased() {
    let text = lines(&[Event::FlowDecided(Box::new(flow()))]);
    for path in ["verdict", "destination.name", "http.path", "process", "", "process.args.x"] {
        assert!(erase(&text, path).is_err(), "{path}");
    }
    let erased = erase(&text, "process.args").unwrap();
    assert!(!erased.contains("curl -s") && !erased.contains("salts"));
    assert!(erase(&erased, "process.args").is_err());
    let Body::Known(Event::FlowDecided(read)) = parse(&erased).unwrap().body else { panic!("not a flow") };
    assert_eq!(read.process.unwrap().args, ERASED);
}

#[test]
fn an_erasure_can_not_hide_an_edit() {
    let text = lines(&[Event::FlowDecided(Box::new(flow()))]);
    let erased = erase(&text, "process.args").unwrap() + "\n";
    // Another text beside the digest, a digest for what was never erasable, a salt for what isn't there.
    let bad = |path: &str| BrokenReason::BadErasure(path.into());
    let cases = [
        (erased.replace("\"args\":null", "\"args\":\"ls\""), bad("process.args")),
        (erased.replace("\"digests\":{", "\"digests\":{\"route\":\"00\","), bad("route")),
        (text.replace("\"salts\":{", "\"salts\":{\"route\":\"00\","), bad("route")),
        (text.replace("curl -s", "curl -v"), BrokenReason::Changed),
    ];
    for (text, reason) in cases {
        assert_eq!(broken(&text).reason, reason);
    }
    let digest = "00".repeat(32);
    let hidden = text
        .replace("\"rule\":\"deny-east-west\"", "\"rule\":null")
        .replace("\"salts\"", &format!("\"digests\":{{\"rule\":\"{digest}\"}},\"salts\""));
    assert_eq!(broken(&hidden).reason, BrokenReason::Changed);
}

/// A workload can choose a text; it must not be able to choose one that reads as a digest.
#[test]
fn a_text_that_looks_like_a_stand_in_is_a_text() {
    let mut event = flow();
    event.tls.sni = Some(format!("{{\"sha256\":\"{}\"}}", "00".repeat(32)));
    let text = lines(&[Event::FlowDecided(Box::new(event.clone()))]);
    let sni = serde_json::to_string(&event.tls.sni).unwrap();
    let hidden = text
        .replace(&sni, "null")
        .replace("\"salts\"", &format!("\"digests\":{{\"tls.sni\":\"{}\"}},\"salts\"", "00".repeat(32)));
    assert_eq!(broken(&hidden).reason, BrokenReason::Changed);
}

#[test]
fn salts_differ_by_line_and_field() {
    let mut event = samples::http_flow();
    event.process = Some(samples::process());
    let event = Event::FlowDecided(Box::new(event));
    let text = lines(&[event.clone(), event]);
    let salts: std::collections::BTreeSet<String> = text
        .lines()
        .flat_map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            line["salts"].as_object().unwrap().values().map(Value::to_string).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(salts.len(), 4);
}

#[test]
fn a_newer_event_is_verified_and_kept() {
    // What a newer version wrote, hashed by its own rules: made here from the specification.
    let prev = [0; 32];
    let canonical =
        r#"{"event":"tool.decided","sandbox":"s","seq":1,"time":"2026-11-21T09:00:00.000000Z","tool":{"a":[1,-2]}}"#;
    let hash = Sha256::new().chain_update(prev).chain_update(canonical).finalize();
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let line = format!(
        "{},\"prev\":\"{}\",\"hash\":\"{hash}\"}}\n",
        canonical.trim_end_matches('}').to_owned() + "}",
        "0".repeat(64)
    );
    assert_eq!(verify(line.as_bytes()).unwrap().events, 1);
    let entry = parse(&line).unwrap();
    assert_eq!(entry.envelope.event, "tool.decided");
    let Body::Unknown(fields) = entry.body else { panic!("known") };
    assert_eq!(fields.keys().collect::<Vec<_>>(), ["tool"]);
}

#[test]
fn rewinding_writes_the_same_number_again() {
    let mut chain = chain();
    let mut out = Vec::new();
    let before = chain.position();
    chain.append(&Event::SandboxStarted(sandbox(None)), time(), &mut out).unwrap();
    chain.rewind(before);
    out.clear();
    assert_eq!(chain.append(&Event::SandboxEnded(sandbox(None)), time(), &mut out).unwrap(), 1);
    assert_eq!(verify(out.as_slice()).unwrap().last, chain.position());
}

#[test]
fn a_clock_that_jumps_breaks_nothing() {
    let mut chain = chain();
    let mut out = Vec::new();
    let times =
        ["2026-11-21T09:00:00Z", "1970-01-01T00:00:00Z", "9999-12-30T22:00:00.999999999Z", "2026-11-21T09:00:00Z"];
    for time in times {
        chain.append(&Event::SandboxStarted(sandbox(None)), time.parse().unwrap(), &mut out).unwrap();
    }
    assert_eq!(verify(out.as_slice()).unwrap().events, 4);
    let text = String::from_utf8(out).unwrap();
    let read: Vec<String> = text.lines().map(|line| parse(line).unwrap().envelope.time.to_string()).collect();
    assert_eq!(read[1..3], ["1970-01-01T00:00:00Z", "9999-12-30T22:00:00.999999Z"]);
}
