//! The metadata service of a sandbox, at the wire: placeholders where cloud libraries look, and never the real one.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "help for tests")]

#[path = "metadata/identities.rs"]
mod identities;
mod support;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use identities::{all, apply, compile};
use policy::model::{Action, Group, Hop, Mode, PolicySpec, ProxyAddress, Route, metadata_service::MetadataService};
use serde_json::Value;
use support::{Origin, World, is_refused, namespace::Namespace, read_response, read_rest, rule};
use values::RouteName;

const IMDS: &str = "169.254.169.254:80";
const ROLE: &str = "/latest/meta-data/iam/security-credentials/agent";
const AZURE: &str = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://management.azure.com/";
const GOOGLE: &str = "/computeMetadata/v1/instance/service-accounts/default/token";

/// A gateway that answers in place of all three.
fn world() -> World {
    let world = World::new(Vec::new());
    apply(&world, all(), 2);
    world
}

fn request(method: &str, target: &str, host: &str, fields: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n")
}

fn exchange(stream: &mut TcpStream, request: &str) -> (String, String) {
    stream.write_all(request.as_bytes()).unwrap();
    read_response(stream)
}

fn get(stream: &mut TcpStream, target: &str, fields: &str) -> (String, String) {
    exchange(stream, &request("GET", target, "169.254.169.254", fields))
}

/// A session of IMDSv2, as a header field.
fn session(stream: &mut TcpStream) -> String {
    let put = request("PUT", "/latest/api/token", "169.254.169.254", "X-aws-ec2-metadata-token-ttl-seconds: 60\r\n");
    let (head, token) = exchange(stream, &put);
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    format!("X-aws-ec2-metadata-token: {token}\r\n")
}

fn aws_keys(stream: &mut TcpStream) -> Value {
    let session = session(stream);
    let (head, keys) = get(stream, ROLE, &session);
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    serde_json::from_str(&keys).unwrap()
}

#[test]
fn without_a_word_in_the_policy_the_guard_denies() {
    let world = World::new(Vec::new());
    for target in [IMDS, "169.254.170.2:80", "169.254.170.23:80", "[fd00:ec2::254]:80", "metadata.google.internal:80"] {
        let (_, head) = world.tunnel(target);
        assert!(head.starts_with("HTTP/1.1 403 ") && head.contains("guard:metadata"), "{target}: {head}");
    }
    let mut client = world.client();
    let (head, _) = get(&mut client, &format!("http://169.254.169.254{ROLE}"), "");
    assert!(head.starts_with("HTTP/1.1 403 ") && head.contains("guard:metadata"), "{head}");
}

#[test]
fn placeholders_are_given_and_each_request_is_recorded() {
    let world = world();
    let mut client = world.granted(IMDS);
    let keys = aws_keys(&mut client);
    assert!(keys["AccessKeyId"].as_str().unwrap().starts_with("ASIA"));
    let (_, azure) = get(&mut client, AZURE, "Metadata: true\r\n");
    let azure: Value = serde_json::from_str(&azure).unwrap();
    let (_, google) = get(&mut client, GOOGLE, "Metadata-Flavor: Google\r\n");
    let google: Value = serde_json::from_str(&google).unwrap();
    assert!(google["access_token"].as_str().unwrap().starts_with("ya29."));
    drop(client);
    for (rule, path) in [
        ("metadata-service:aws", ROLE),
        ("metadata-service:azure", "/metadata/identity/oauth2/token"),
        ("metadata-service:gcp", GOOGLE),
    ] {
        let event = world.event("flow.decided", |event| event["rule"] == rule && event["http"]["path"] == path);
        assert_eq!((&event["verdict"], &event["layer"]), (&"allowed".into(), &"http".into()));
        assert_eq!(event["destination"]["original_address"], "169.254.169.254");
        assert_eq!(event["destination"]["address"], Value::Null, "nothing is dialled");
        assert_eq!(event["http"]["method"], "GET");
    }
    let ended = world.event("flow.ended", |_| true);
    assert_eq!((&ended["ended_by"], &ended["bytes"]["sent"]), (&"finished".into(), &0.into()));
    let record = std::fs::read_to_string(world.events_file()).unwrap();
    for value in [&keys["SecretAccessKey"], &keys["Token"], &azure["access_token"], &google["access_token"]] {
        assert!(!record.contains(value.as_str().unwrap()), "no token in the record");
    }
}

#[test]
fn a_client_of_the_proxy_is_answered_too() {
    let world = world();
    let mut client = world.client();
    let (head, body) = exchange(
        &mut client,
        &request(
            "GET",
            &format!("http://metadata.google.internal{GOOGLE}"),
            "metadata.google.internal",
            "Metadata-Flavor: Google\r\n",
        ),
    );
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("\r\nConnection: close\r\n"), "{head}");
    assert!(body.contains("ya29."));
    assert_eq!(read_rest(&mut client), "");
    world.event("flow.decided", |event| event["destination"]["name"] == "metadata.google.internal");
    let mut socks = world.client();
    socks.write_all(&[5, 1, 0]).unwrap();
    let mut chosen = [0; 2];
    socks.read_exact(&mut chosen).unwrap();
    socks.write_all(&[5, 1, 0, 1, 169, 254, 169, 254, 0, 80]).unwrap();
    let mut reply = [0; 10];
    socks.read_exact(&mut reply).unwrap();
    assert_eq!((chosen, reply[1]), ([5, 0], 0));
    assert!(aws_keys(&mut socks)["Token"].is_string());
}

#[test]
fn requests_without_proof_get_no_placeholder() {
    let world = world();
    for (target, fields, status) in [
        (ROLE, "", "401"),
        (ROLE, "X-Forwarded-For: 10.0.0.1\r\n", "403"),
        (AZURE, "", "400"),
        (
            "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://graph.microsoft.com",
            "Metadata: true\r\n",
            "400",
        ),
        (GOOGLE, "", "403"),
        (
            "/computeMetadata/v1/instance/service-accounts/default/token?scopes=https://www.googleapis.com/auth/drive",
            "Metadata-Flavor: Google\r\n",
            "403",
        ),
        ("/openstack/latest", "", "403"),
    ] {
        let mut client = world.granted(IMDS);
        let (head, body) = get(&mut client, target, fields);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{target}: {head}");
        assert!(head.contains("\r\nCofferdam-Verdict: denied; rule="), "{head}");
        assert!(!body.contains("ya29") && !body.contains("access_token"), "{target}: {body}");
    }
    world.event("flow.decided", |event| event["rule"] == "metadata-service:gcp" && event["verdict"] == "denied");
    world.event("flow.decided", |event| {
        event["rule"] == "guard:metadata" && event["http"]["path"] == "/openstack/latest"
    });
}

#[test]
fn malformed_requests_and_other_hosts_end_the_connection() {
    let world = world();
    for (bytes, status) in [
        (request("GET", "/", "rebound.example.com", ""), "421"),
        (request("GET", "/", "169.254.169.254:81", ""), "421"),
        (request("GET", "/", "169.254.169.254", "Host: 169.254.169.254\r\n"), "400"),
        (request("POST", "/", "169.254.169.254", "Content-Length: 3\r\n") + "abc", "400"),
        (request("POST", "/", "169.254.169.254", "Transfer-Encoding: chunked\r\n") + "0\r\n\r\n", "400"),
        ("GET / HTTP/1.1\nHost: 169.254.169.254\n\n".to_owned(), "400"),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), "400"),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03".to_owned(), "400"),
        (format!("GET / HTTP/1.1\r\nHost: 169.254.169.254\r\nX: {}\r\n\r\n", "x".repeat(20_000)), "400"),
    ] {
        let mut client = world.granted(IMDS);
        client.write_all(bytes.as_bytes()).unwrap();
        let answer = read_rest(&mut client);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{bytes:.60}: {answer}");
    }
    let mut client = world.granted(IMDS);
    let one = request("GET", "/", "169.254.169.254", "");
    client.write_all(format!("{one}{one}").as_bytes()).unwrap();
    assert_eq!(
        (read_response(&mut client).1, read_response(&mut client).1),
        ("computeMetadata/\n".to_owned(), "computeMetadata/\n".to_owned())
    );
    client.write_all(b"HEAD / HTTP/1.0\r\nHost: 169.254.169.254\r\n\r\n").unwrap();
    let rest = read_rest(&mut client);
    assert!(rest.starts_with("HTTP/1.1 200 ") && rest.ends_with("Connection: close\r\n\r\n"), "{rest}");
}

/// Everything that leaves goes through a proxy of ours, which counts.
#[test]
fn nothing_ever_connects_to_the_real_one() {
    let next_hop = Origin::start(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 502 no\r\nContent-Length: 0\r\n\r\n");
    });
    let world = World::new(Vec::new());
    let name = RouteName::new("corp").unwrap();
    let proxy = ProxyAddress { host: "127.0.0.1".to_owned(), port: next_hop.port() };
    let route = Route { hop: Hop::HttpProxy(proxy), ..Route::default() };
    let open = Group { cidrs: vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()], ..Group::default() };
    let spec = PolicySpec {
        name: "test".to_owned(),
        mode: Mode::Routed,
        routes: [(name.clone(), route)].into(),
        route: Some(name),
        rules: vec![rule("all", 10, Action::Allow, open)],
        metadata_service: all(),
        ..PolicySpec::default()
    };
    world.gateway.apply(compile(spec, 2)).unwrap();
    for target in [
        IMDS,
        "[::ffff:169.254.169.254]:80",
        "[::ffff:a9fe:a9fe]:80",
        "[fd00:ec2::254]:80",
        "[fd20:ce::254]:80",
        "169.254.170.2:80",
        "metadata.google.internal:80",
        "METADATA.GOOGLE.INTERNAL.:80",
    ] {
        let mut client = world.granted(target);
        let host = target.strip_suffix(":80").unwrap();
        let (_, body) = exchange(&mut client, &request("GET", "/latest/meta-data/", host, ""));
        assert!(!body.contains("ASIA"), "{target}");
    }
    for target in [
        "169.254.169.254:443",
        "169.254.169.254:8775",
        "100.100.100.200:80",
        "168.63.129.16:80",
        "[64:ff9b::a9fe:a9fe]:80",
        "[::169.254.169.254]:80",
        "[2002:a9fe:a9fe::1]:80",
        "2852039166:80",
        "0xa9fea9fe:80",
        "0251.0376.0251.0376:80",
        "169.254.43518:80",
        "metadata.google.internal:443",
    ] {
        let (_, head) = world.tunnel(target);
        assert!(head.starts_with("HTTP/1.1 40"), "{target}: {head}");
    }
    assert_eq!(next_hop.connections(), 0, "nothing left");
    let mut client = world.granted("203.0.113.1:80");
    client.write_all(request("GET", "/", "203.0.113.1", "").as_bytes()).unwrap();
    read_rest(&mut client);
    assert_eq!(next_hop.connections(), 1, "it would have been seen");
}

/// A rule that names the very address opens the guard over it; not where answers are given in its place.
#[test]
fn a_rule_for_the_real_one_opens_nothing_beside_the_service() {
    let next_hop = Origin::start(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 502 no\r\nContent-Length: 0\r\n\r\n");
    });
    let world = World::new(Vec::new());
    let name = RouteName::new("corp").unwrap();
    let proxy = ProxyAddress { host: "127.0.0.1".to_owned(), port: next_hop.port() };
    let route = Route { hop: Hop::HttpProxy(proxy), ..Route::default() };
    let cidrs = ["169.254.169.254/32", "169.254.170.2/32", "64:ff9b::a9fe:a9fe/128"];
    let exact = Group { cidrs: cidrs.map(|cidr| cidr.parse().unwrap()).into(), ..Group::default() };
    let spec = |service| PolicySpec {
        name: "test".to_owned(),
        mode: Mode::Routed,
        routes: [(name.clone(), route.clone())].into(),
        route: Some(name.clone()),
        rules: vec![rule("exact", 10, Action::Allow, exact.clone())],
        metadata_service: service,
        ..PolicySpec::default()
    };
    world.gateway.apply(compile(spec(all()), 2)).unwrap();
    for target in ["169.254.169.254:443", "169.254.169.254:8775", "[64:ff9b::a9fe:a9fe]:80", "169.254.170.2:81"] {
        let (_, head) = world.tunnel(target);
        assert!(head.starts_with("HTTP/1.1 403 ") && head.contains("guard:metadata"), "{target}: {head}");
    }
    assert_eq!(next_hop.connections(), 0);
    world.gateway.apply(compile(spec(MetadataService::default()), 3)).unwrap();
    let mut client = world.granted(IMDS);
    client.write_all(request("GET", "/", "169.254.169.254", "").as_bytes()).unwrap();
    read_rest(&mut client);
    assert_eq!(next_hop.connections(), 1, "as before, where the rule says so");
}

#[test]
fn a_policy_without_the_words_closes_at_once() {
    let world = world();
    let mut client = world.granted(IMDS);
    let keys = aws_keys(&mut client);
    let mut idle = world.granted(IMDS);
    // Until it is answered, nobody knows that the gateway has taken it up.
    assert_eq!(get(&mut idle, "/", "").1, "computeMetadata/\n");
    let aws_alone = MetadataService { aws: all().aws, ..MetadataService::default() };
    assert_eq!(apply(&world, aws_alone, 3).cut, 0, "the address is answered still");
    let (head, _) = get(&mut client, GOOGLE, "Metadata-Flavor: Google\r\n");
    assert!(head.starts_with("HTTP/1.1 403 ") && head.contains("guard:metadata"), "{head}");
    let mut client = world.granted(IMDS);
    assert_eq!(aws_keys(&mut client)["SecretAccessKey"], keys["SecretAccessKey"], "one run, one placeholder");
    assert_eq!(apply(&world, MetadataService::default(), 4).cut, 2);
    assert!(is_refused(&mut client) && is_refused(&mut idle));
    let ended = world.event("flow.ended", |event| event["ended_by"] == "policy");
    assert_eq!((&ended["rule"], &ended["ended_revision"]), (&"guard:metadata".into(), &"4".into()));
    let (_, head) = world.tunnel(IMDS);
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
}

#[test]
fn a_flood_is_refused_and_does_not_fill_the_record() {
    let world = world();
    let one = request("GET", "/", "169.254.169.254", "");
    let last = request("GET", "/", "169.254.169.254", "Connection: close\r\n");
    let mut clients: Vec<TcpStream> = (0..16).map(|_| world.granted(IMDS)).collect();
    for client in &mut clients {
        client.write_all((one.repeat(40) + &last).as_bytes()).unwrap();
    }
    let refused = clients.iter_mut().map(read_rest).filter(|answers| answers.contains("HTTP/1.1 429 ")).count();
    assert!(refused > 1, "a flood is refused");
    let told = |event: &Value| event["event"] == "flow.decided" && event["rule"] == "guard:metadata";
    let told = world.events().iter().filter(|event| told(event)).count();
    assert!((1..refused).contains(&told), "{told} of {refused}");
    assert_eq!(world.gateway.summary().denied, refused as u64, "and all are counted");
}

#[test]
fn redirected_connections_and_the_name_are_answered() {
    let Some(namespace) = Namespace::new() else { return };
    let world = namespace.world(Vec::new(), |settings| settings);
    assert_eq!(namespace.resolve("metadata.google.internal"), None);
    let imds: SocketAddr = IMDS.parse().unwrap();
    let mut denied = namespace.connect(imds);
    denied.write_all(request("GET", "/", "169.254.169.254", "").as_bytes()).unwrap();
    assert!(read_rest(&mut denied).starts_with("HTTP/1.1 403 "));
    apply(&world, all(), 2);
    assert_eq!(
        namespace.resolve("metadata.google.internal").map(|address| address.to_string()).as_deref(),
        Some("169.254.169.254")
    );
    assert_eq!(namespace.resolve("x.metadata.google.internal"), None);
    world.event("dns.decided", |event| event["rule"] == "metadata-service:gcp" && event["verdict"] == "allowed");
    let mut client = namespace.connect(imds);
    assert!(aws_keys(&mut client)["Token"].is_string());
    let (_, token) =
        exchange(&mut client, &request("GET", GOOGLE, "metadata.google.internal", "Metadata-Flavor: Google\r\n"));
    assert!(token.contains("ya29."));
    let mut six = namespace.connect("[fd00:ec2::254]:80".parse().unwrap());
    let put = request("PUT", "/latest/api/token", "[fd00:ec2::254]", "X-aws-ec2-metadata-token-ttl-seconds: 60\r\n");
    assert!(exchange(&mut six, &put).0.starts_with("HTTP/1.1 200 "));
    let event =
        world.event("flow.decided", |event| event["rule"] == "metadata-service:aws" && event["process"] != Value::Null);
    assert!(event["process"]["pid"].is_u64(), "{event}");
    assert_eq!(world.dns.questions(), 0, "nobody was asked");
}

#[test]
fn a_cloud_that_is_not_named_stays_guarded() {
    let world = World::new(Vec::new());
    let service = MetadataService { azure: all().azure, ..MetadataService::default() };
    apply(&world, service, 2);
    for target in ["169.254.170.2:80", "[fd00:ec2::254]:80", "metadata.google.internal:80"] {
        let (_, head) = world.tunnel(target);
        assert!(head.starts_with("HTTP/1.1 403 ") && head.contains("guard:metadata"), "{target}: {head}");
    }
    let mut client = world.granted(IMDS);
    let (head, _) = get(&mut client, "/latest/meta-data/", "");
    assert!(head.starts_with("HTTP/1.1 403 ") && head.contains("guard:metadata"), "{head}");
}
