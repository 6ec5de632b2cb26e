//! What each request is answered: tables of requests, and what holds of any request.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use data_encoding::BASE64URL_NOPAD;
use jiff::Timestamp;
use policy::{
    HostName, Target,
    model::metadata_service::{AwsIdentity, AzureIdentity, Cloud, GcpIdentity, MetadataService},
};
use proptest::prelude::{ProptestConfig, Strategy, any, prop, prop_assert, proptest};
use serde_json::Value;
use values::CredentialName;
use wire::http_head::{self, Head, RequestHead};

use super::{
    Metadata,
    place::Place,
    service::{self, Scene},
};

const MACHINE: &str = "169.254.169.254";
const NOW: i64 = 1_795_000_000;
const ROLE: &str = "/latest/meta-data/iam/security-credentials/agent";
const AZURE: &str =
    "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fmanagement.azure.com%2F";
const ACCOUNT: &str = "/computeMetadata/v1/instance/service-accounts/default";
const FLAVOR: &str = "Metadata-Flavor: Google";

fn all() -> MetadataService {
    let credential = |name: &str| CredentialName::new(name).unwrap();
    MetadataService {
        aws: Some(AwsIdentity {
            credential: credential("store"),
            role: "agent".to_owned(),
            account_id: Some("123456789012".to_owned()),
            region: Some("eu-central-1".to_owned()),
        }),
        azure: Some(AzureIdentity {
            credential: credential("manage"),
            resources: vec!["https://management.azure.com".to_owned(), "api://tools".to_owned()],
            client_id: Some("11111111-2222-3333-4444-555555555555".to_owned()),
            tenant: Some("99999999-2222-3333-4444-555555555555".to_owned()),
        }),
        gcp: Some(GcpIdentity {
            credential: credential("cloud"),
            project: "a-project".to_owned(),
            project_number: Some(42),
            email: "agent@a-project.iam.gserviceaccount.com".to_owned(),
            scopes: vec!["https://www.googleapis.com/auth/cloud-platform".to_owned()],
        }),
    }
}

fn head(method: &str, target: &str, host: &str, fields: &[&str]) -> RequestHead {
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n");
    for field in fields {
        text.push_str(field);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    match http_head::read(text.as_bytes(), text.len(), false) {
        Head::Complete(head, _) => *head,
        other => panic!("{text:?}: {other:?}"),
    }
}

/// An answer as it leaves.
struct Given {
    cloud: Option<Cloud>,
    status: u16,
    text: String,
}

impl Given {
    fn body(&self) -> &str {
        self.text.split_once("\r\n\r\n").map_or("", |(_, body)| body)
    }

    fn json(&self) -> Value {
        serde_json::from_str(self.body()).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

fn ask_of(metadata: &Metadata, service: &MetadataService, address: &str, head: &RequestHead, now: i64) -> Given {
    let to = SocketAddr::new(address.parse().unwrap(), 80);
    let place = Place::at(service, to).unwrap_or_else(|| panic!("{address} is answered"));
    let now = Timestamp::from_second(now).unwrap();
    let exposed = BTreeMap::new();
    let scene = Scene { placeholders: &metadata.placeholders, exposed: &exposed, sessions: &metadata.sessions, now };
    match service::answer(service, place, head, &scene) {
        Ok((cloud, answer)) => {
            let text = String::from_utf8(answer.write(false, false)).unwrap();
            Given { cloud: Some(cloud), status: answer.status.number(), text }
        }
        Err((status, reason)) => Given { cloud: None, status: status.code(), text: reason.to_owned() },
    }
}

fn ask(metadata: &Metadata, method: &str, target: &str, fields: &[&str]) -> Given {
    ask_of(metadata, &all(), MACHINE, &head(method, target, MACHINE, fields), NOW)
}

/// A session token's header field.
fn session(metadata: &Metadata) -> String {
    let given = ask(metadata, "PUT", "/latest/api/token", &["X-aws-ec2-metadata-token-ttl-seconds: 60"]);
    assert_eq!(given.status, 200);
    assert!(given.text.contains("\r\nX-Aws-Ec2-Metadata-Token-Ttl-Seconds: 60\r\n"), "{}", given.text);
    format!("X-aws-ec2-metadata-token: {}", given.body())
}

#[test]
fn places_are_the_well_known_addresses_at_port_80_of_clouds_that_are_answered() {
    let aws = MetadataService { aws: all().aws, ..MetadataService::default() };
    let azure = MetadataService { azure: all().azure, ..MetadataService::default() };
    let gcp = MetadataService { gcp: all().gcp, ..MetadataService::default() };
    let none = MetadataService::default();
    for (to, answered) in [
        ("169.254.169.254:80", [true, true, true]),
        ("[::ffff:169.254.169.254]:80", [true, true, true]),
        ("[fd00:ec2::254]:80", [true, false, false]),
        ("169.254.170.2:80", [true, false, false]),
        ("169.254.170.23:80", [true, false, false]),
        ("[fd20:ce::254]:80", [false, false, true]),
        ("169.254.169.254:443", [false; 3]),
        ("169.254.169.254:8080", [false; 3]),
        ("169.254.169.253:80", [false; 3]),
        ("100.100.100.200:80", [false; 3]),
        ("168.63.129.16:80", [false; 3]),
        ("[64:ff9b::a9fe:a9fe]:80", [false; 3]),
        ("[::169.254.169.254]:80", [false; 3]),
        ("[2002:a9fe:a9fe::1]:80", [false; 3]),
        ("127.0.0.1:80", [false; 3]),
    ] {
        let to: SocketAddr = to.parse().unwrap();
        for (service, answered) in [&aws, &azure, &gcp].into_iter().zip(answered) {
            assert_eq!(Place::at(service, to).is_some(), answered, "{to}");
        }
        assert_eq!(Place::at(&none, to), None);
        let special = policy::address::special(to.ip());
        assert!(answered == [false; 3] || special == Some(policy::address::SpecialRange::Metadata), "{to} is guarded");
    }
    let name = |text| HostName::parse(text).unwrap();
    assert!(Place::named(&gcp, &name("metadata.google.internal"), 80).is_some());
    assert_eq!(Place::named(&gcp, &name("metadata.google.internal"), 443), None);
    assert_eq!(Place::named(&gcp, &name("x.metadata.google.internal"), 80), None);
    assert_eq!(Place::named(&aws, &name("metadata.google.internal"), 80), None);
    let mapped = Target::parse("[::ffff:169.254.169.254]").unwrap();
    assert_eq!(Place::of(&aws, &mapped, 80), Place::at(&aws, "169.254.169.254:80".parse().unwrap()));
}

#[test]
fn imdsv2_alone_gives_keys() {
    let metadata = Metadata::new().unwrap();
    let token = session(&metadata);
    let token = token.as_str();
    let life = "X-aws-ec2-metadata-token-ttl-seconds: 60";
    for (method, target, fields, status) in [
        ("GET", ROLE, &[][..], 401),
        ("GET", ROLE, &["X-aws-ec2-metadata-token: AAAA"], 401),
        ("GET", ROLE, &[token, token], 401),
        ("GET", ROLE, &[token, "X-Forwarded-For: 10.0.0.1"], 403),
        ("GET", ROLE, &[token, "x_forwarded-FOR: 10.0.0.1"], 403),
        ("GET", ROLE, &[token, "Forwarded: for=10.0.0.1"], 403),
        ("GET", ROLE, &[token, "Via: 1.1 proxy"], 403),
        ("POST", ROLE, &[token], 405),
        ("GET", "/latest/meta-data/iam/security-credentials/other", &[token], 404),
        ("GET", "/latest/meta-data/iam/security-credentials/agent/x", &[token], 404),
        ("GET", "/latest/meta-data/iam/security-credentials-extended/", &[token], 404),
        ("GET", "/latest/dynamic/instance-identity/document", &[token], 404),
        ("GET", "/latest/user-data", &[token], 404),
        ("GET", "/latest/meta-data/", &[token], 404),
        ("PUT", "/latest/api/token", &[], 400),
        ("PUT", "/latest/api/token", &["X-aws-ec2-metadata-token-ttl-seconds: 0"], 400),
        ("PUT", "/latest/api/token", &["X-aws-ec2-metadata-token-ttl-seconds: 21601"], 400),
        ("PUT", "/latest/api/token", &["X-aws-ec2-metadata-token-ttl-seconds: +60"], 400),
        ("PUT", "/latest/api/token", &["X-aws-ec2-metadata-token-ttl-seconds: 99999999999999999999"], 400),
        ("PUT", "/latest/api/token", &[life, life], 400),
        ("PUT", "/latest/api/token", &[life, "X-Forwarded-For: 10.0.0.1"], 403),
        ("GET", "/latest/api/token", &[life], 405),
        ("GET", "/latest/meta-data/placement/region", &[token], 200),
        ("GET", "/latest/meta-data/placement/availability-zone/", &[token], 200),
        ("GET", "/latest/meta-data/iam/security-credentials/", &[token], 200),
        ("GET", "/latest/meta-data/iam/security-credentials", &[token], 200),
        ("GET", ROLE, &[token], 200),
        ("GET", "/latest/x/%2e%2e/meta-data/iam/security-credentials/agent", &[token], 200),
    ] {
        let given = ask(&metadata, method, target, fields);
        assert_eq!(
            (given.cloud, given.status),
            (Some(Cloud::Aws), status),
            "{method} {target} {fields:?}: {}",
            given.text
        );
    }
    let later = ask_of(&metadata, &all(), MACHINE, &head("GET", ROLE, MACHINE, &[token]), NOW + 60);
    assert_eq!(later.status, 401, "a session ends");
    let other = ask(&Metadata::new().unwrap(), "GET", ROLE, &[token]);
    assert_eq!(other.status, 401, "a token of another run");
    let keys = ask(&metadata, "GET", ROLE, &[token]).json();
    assert_eq!((&keys["Code"], &keys["Type"]), (&"Success".into(), &"AWS-HMAC".into()));
    assert_eq!(keys["Expiration"], Timestamp::from_second(NOW + 3600).unwrap().to_string());
    assert_eq!(keys["AccessKeyId"].as_str().map(|id| (id.len(), &id[..4])), Some((20, "ASIA")));
    assert_eq!(keys["SecretAccessKey"].as_str().map(str::len), Some(40));
    assert!(keys["Token"].as_str().unwrap().starts_with("cofferdam-placeholder-"));
    assert_eq!(ask(&metadata, "GET", "/latest/meta-data/iam/security-credentials/", &[token]).body(), "agent");
    assert_eq!(
        ask(&metadata, "GET", "/latest/meta-data/placement/availability-zone/", &[token]).body(),
        "eu-central-1a"
    );
}

#[test]
fn a_task_and_a_pod_have_doors_of_their_own() {
    let metadata = Metadata::new().unwrap();
    for (address, target, fields, status) in [
        ("169.254.170.2", "/v2/credentials/agent", &[][..], 200),
        ("169.254.170.2", "/v2/credentials/agent", &["X-Forwarded-For: 10.0.0.1"], 403),
        ("169.254.170.2", "/v2/credentials/", &[], 404),
        ("169.254.170.2", "/v2/credentials/other", &[], 404),
        ("169.254.170.2", ROLE, &[], 404),
        ("169.254.170.23", "/v1/credentials", &["Authorization: x"], 200),
        ("169.254.170.23", "/v1/credentials", &[], 401),
        ("169.254.170.23", "/v1/credentials", &["Authorization:"], 401),
        ("169.254.170.23", "/v2/credentials/agent", &["Authorization: x"], 404),
        ("fd00:ec2::254", ROLE, &[], 401),
    ] {
        let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
        let given = ask_of(&metadata, &all(), address, &head("GET", target, &host, fields), NOW);
        assert_eq!((given.cloud, given.status), (Some(Cloud::Aws), status), "{address}{target} {fields:?}");
        if status == 200 {
            assert!(given.json()["AccessKeyId"].is_string() && given.json()["Expiration"].is_string());
            assert_eq!(given.json()["AccountId"], "123456789012");
        }
    }
}

#[test]
fn azure_gives_tokens_for_the_resources_of_the_policy_alone() {
    let metadata = Metadata::new().unwrap();
    let path = "/metadata/identity/oauth2/token";
    let version = "api-version=2018-02-01";
    let good = &["Metadata: true"][..];
    for (target, fields, status, words) in [
        (AZURE.to_owned(), good, 200, "access_token"),
        (format!("{path}?{version}&resource=https://MANAGEMENT.azure.com"), good, 200, "access_token"),
        (format!("{path}/?{version}&resource=api%3A%2F%2Ftools"), good, 200, "access_token"),
        (
            format!("{path}?{version}&resource=api://tools&client_id=11111111-2222-3333-4444-555555555555"),
            good,
            200,
            "\"",
        ),
        (AZURE.to_owned(), &[], 400, "Required metadata header not specified"),
        (AZURE.to_owned(), &["Metadata: false"], 400, "Required metadata header"),
        (AZURE.to_owned(), &["Metadata: true", "Metadata: true"], 400, "Required metadata header"),
        (AZURE.to_owned(), &["Metadata: true", "X-Forwarded-For: 1.2.3.4"], 400, "forwarded"),
        (AZURE.to_owned(), &["Metadata: true", "x_forwarded_for: 1.2.3.4"], 400, "forwarded"),
        (AZURE.to_owned(), &["X-IDENTITY-HEADER: x"], 400, "Required metadata header"),
        (format!("{path}?{version}&resource=https://graph.microsoft.com/"), good, 400, "invalid_resource"),
        (format!("{path}?{version}&resource=https://management.azure.com/x"), good, 400, "invalid_resource"),
        (format!("{path}?{version}&resource=https://management.azure.com.evil.test"), good, 400, "invalid_resource"),
        (format!("{path}?{version}&resource=api://tools&resource=https://vault.azure.net"), good, 400, "'resource'"),
        (format!("{path}?{version}&resource=api://tools&RESOURCE=https://vault.azure.net"), good, 400, "'resource'"),
        (format!("{path}?{version}&resource="), good, 400, "'resource'"),
        (format!("{path}?{version}"), good, 400, "'resource'"),
        (format!("{path}?resource=api://tools"), good, 400, "'api-version'"),
        (format!("{path}?api-version=2017-12-01&resource=api://tools"), good, 400, "version"),
        (format!("{path}?api-version=latest1234&resource=api://tools"), good, 400, "version"),
        (format!("{path}?{version}&resource=api://tools&client_id=other"), good, 400, "Identity not found"),
        (format!("{path}?{version}&resource=api://tools&mi_res_id=x"), good, 400, "Identity not found"),
        ("/metadata/instance?api-version=2021-02-01".to_owned(), good, 404, "nothing"),
        ("/metadata/identity/info?api-version=2018-02-01".to_owned(), good, 404, "nothing"),
        ("/msi/token?api-version=2019-08-01&resource=api://tools".to_owned(), good, 400, "X-IDENTITY-HEADER"),
        (
            "/msi/token?api-version=2017-09-01&resource=api://tools".to_owned(),
            &["X-IDENTITY-HEADER: x"],
            400,
            "version",
        ),
        (
            "/msi/token?api-version=2019-08-01&resource=api://others".to_owned(),
            &["X-IDENTITY-HEADER: x"],
            400,
            "statusCode",
        ),
        (
            "/msi/token?api-version=2019-08-01&resource=api://tools".to_owned(),
            &["X-IDENTITY-HEADER: x"],
            200,
            "access_token",
        ),
    ] {
        let given = ask(&metadata, "GET", &target, fields);
        assert_eq!((given.cloud, given.status), (Some(Cloud::Azure), status), "{target} {fields:?}: {}", given.text);
        assert!(given.body().contains(words), "{target}: {}", given.text);
        assert!(given.json().is_object(), "an error is JSON too");
    }
    assert_eq!(ask(&metadata, "POST", AZURE, good).status, 405);
    let token = ask(&metadata, "GET", AZURE, good).json();
    assert_eq!((&token["resource"], &token["token_type"]), (&"https://management.azure.com/".into(), &"Bearer".into()));
    assert_eq!((&token["expires_in"], &token["expires_on"]), (&"3599".into(), &(NOW + 3599).to_string().into()));
    let parts: Vec<&str> = token["access_token"].as_str().unwrap().split('.').collect();
    assert_eq!(parts.len(), 3);
    let claims: Value = serde_json::from_slice(&BASE64URL_NOPAD.decode(parts[1].as_bytes()).unwrap()).unwrap();
    assert_eq!((&claims["aud"], &claims["exp"]), (&"https://management.azure.com/".into(), &(NOW + 3599).into()));
    assert_eq!(claims["tid"], "99999999-2222-3333-4444-555555555555");
}

#[test]
fn google_answers_its_flavor_and_no_scope_beyond_the_policy() {
    let metadata = Metadata::new().unwrap();
    let token = format!("{ACCOUNT}/token");
    let with = |more: &str| format!("{token}?{more}");
    let good = &[FLAVOR][..];
    for (target, fields, status) in [
        ("/".to_owned(), &[][..], 200),
        ("/".to_owned(), &["X-Forwarded-For: 1.2.3.4"], 403),
        (token.clone(), &[], 403),
        (token.clone(), &["Metadata-Flavor: Other"], 403),
        (token.clone(), &[FLAVOR, FLAVOR], 403),
        (token.clone(), &[FLAVOR, "X-Forwarded-For: 1.2.3.4"], 403),
        (token.clone(), &[FLAVOR, "Via: 1.1 proxy"], 403),
        (token.clone(), good, 200),
        (with("scopes=https%3A%2F%2Fwww.googleapis.com%2Fauth%2Fcloud-platform"), good, 200),
        (
            with(
                "scopes=https://www.googleapis.com/auth/devstorage.read_only,https://www.googleapis.com/auth/bigquery",
            ),
            good,
            200,
        ),
        (with("scopes=https://www.googleapis.com/auth/drive"), good, 403),
        (with("scopes=https://www.googleapis.com/auth/cloud-platform,https://mail.google.com/"), good, 403),
        (with("scopes=https://www.googleapis.com/auth/cloud-platform&scopes=x"), good, 403),
        (with("wait_for_change=true"), good, 400),
        (format!("{ACCOUNT}/identity?audience=https://run.test"), good, 404),
        (
            "/computeMetadata/v1/instance/service-accounts/agent@a-project.iam.gserviceaccount.com/token".to_owned(),
            good,
            200,
        ),
        (
            "/computeMetadata/v1/instance/service-accounts/other@a-project.iam.gserviceaccount.com/token".to_owned(),
            good,
            404,
        ),
        ("/computeMetadata/v1/instance/attributes/ssh-keys".to_owned(), good, 404),
        ("/computeMetadata/v1beta1/instance/service-accounts/default/token".to_owned(), good, 404),
        ("/computeMetadata/v1/project/project-id".to_owned(), good, 200),
        ("/computeMetadata/v1/universe/universe-domain".to_owned(), good, 200),
        ("/computeMetadata/v1/instance/".to_owned(), good, 200),
        ("/computeMetadata/v1".to_owned(), good, 200),
    ] {
        let given = ask(&metadata, "GET", &target, fields);
        assert_eq!((given.cloud, given.status), (Some(Cloud::Gcp), status), "{target} {fields:?}: {}", given.text);
        assert!(given.text.contains("\r\nMetadata-Flavor: Google\r\n"), "libraries know it by that");
    }
    assert_eq!(ask(&metadata, "POST", &token, good).status, 405);
    let given = ask(&metadata, "GET", &token, good).json();
    assert!(given["access_token"].as_str().unwrap().starts_with("ya29."));
    assert_eq!((&given["expires_in"], &given["token_type"]), (&3599.into(), &"Bearer".into()));
    let account = ask(&metadata, "GET", &format!("{ACCOUNT}/?recursive=true"), good).json();
    assert_eq!(account["email"], "agent@a-project.iam.gserviceaccount.com");
    assert_eq!(account["aliases"], serde_json::json!(["default"]));
    assert_eq!(ask(&metadata, "GET", "/computeMetadata/v1/project/numeric-project-id", good).body(), "42");
    assert_eq!(ask(&metadata, "GET", "/computeMetadata/v1/project/project-id?alt=json", good).body(), "\"a-project\"");
}

#[test]
fn what_is_for_nobody_here_is_the_guard_s() {
    let metadata = Metadata::new().unwrap();
    let gcp_alone = MetadataService { gcp: all().gcp, ..MetadataService::default() };
    for (service, host, target, fields, status) in [
        (&all(), "metadata.google.internal", "/", &[][..], 200),
        (&all(), "METADATA.google.internal.:80", "/", &[], 200),
        (&all(), "rebound.example.com", "/", &[], 421),
        (&all(), "169.254.169.254:81", "/", &[], 421),
        (&all(), "169.254.170.2", "/", &[], 421),
        (&all(), "metadata.google.internal.example.com", "/", &[], 421),
        (&all(), MACHINE, "/openstack/latest/meta_data.json", &[], 403),
        (&all(), MACHINE, "/2021-01-03/meta-data/", &[], 403),
        (&all(), MACHINE, "/latest%2fmeta-data", &[], 400),
        (&all(), MACHINE, "//latest/meta-data", &[], 400),
        (&all(), MACHINE, "/", &["Content-Length: 1"], 400),
        (&all(), MACHINE, "/", &["Content-Length: 0"], 200),
        (&gcp_alone, MACHINE, "/latest/api/token", &[], 403),
        (&gcp_alone, MACHINE, AZURE, &["Metadata: true"], 403),
        (&gcp_alone, MACHINE, "/computeMetadata/v1/", &[FLAVOR], 200),
    ] {
        let given = ask_of(&metadata, service, MACHINE, &head("GET", target, host, fields), NOW);
        assert_eq!(given.status, status, "{host} {target} {fields:?}: {}", given.text);
        assert_eq!(given.cloud.is_some(), status == 200, "{host} {target}");
    }
}

#[test]
fn each_cloud_has_a_rule_s_name_and_each_run_placeholders_of_its_own() {
    let names = [Cloud::Aws, Cloud::Azure, Cloud::Gcp].map(|cloud| service::rule(cloud).to_string());
    assert_eq!(names, ["metadata-service:aws", "metadata-service:azure", "metadata-service:gcp"]);
    let (one, other) = (Metadata::new().unwrap().placeholders, Metadata::new().unwrap().placeholders);
    assert_ne!(one.secret_access_key, other.secret_access_key);
    assert_ne!(one.google_token, other.google_token);
}

/// Requests that are near to good ones.
fn requests() -> impl Strategy<Value = (String, String, String, Vec<String>)> {
    let methods = prop::sample::select(vec!["GET", "GET", "GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH"]);
    let targets = prop::sample::select(vec![
        ROLE.to_owned(),
        "/latest/api/token".to_owned(),
        AZURE.to_owned(),
        format!("{ACCOUNT}/token"),
        "/v2/credentials/agent".to_owned(),
        "/v1/credentials".to_owned(),
        "/msi/token?api-version=2019-08-01&resource=api://tools".to_owned(),
        "/".to_owned(),
    ]);
    let more = "[/a-z?=&%.2f]{0,12}";
    let hosts =
        prop::sample::select(vec![MACHINE, "169.254.170.2", "169.254.170.23", "metadata.google.internal", "evil.test"]);
    let fields = prop::sample::subsequence(
        vec![
            "Metadata: true",
            FLAVOR,
            "X-Forwarded-For: 10.0.0.1",
            "forwarded: for=10.0.0.1",
            "Authorization: x",
            "X-IDENTITY-HEADER: x",
            "X-aws-ec2-metadata-token-ttl-seconds: 60",
            "X-aws-ec2-metadata-token: SESSION",
            "Content-Length: 3",
        ],
        0..=8,
    );
    (methods, targets, any::<bool>(), more, hosts, fields).prop_map(|(method, target, odd, more, host, fields)| {
        let target = if odd { format!("{target}{more}") } else { target };
        (method.to_owned(), target, host.to_owned(), fields.into_iter().map(str::to_owned).collect())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// No request gets a placeholder without what proves that a program looks for its own identity; none gets anything
    /// but what the policy and the placeholders say; every answer is small.
    #[test]
    fn a_placeholder_is_given_only_where_all_conditions_hold(
        (method, target, host, fields) in requests(),
        address in prop::sample::select(vec![MACHINE, "169.254.170.2", "169.254.170.23"]),
    ) {
        let metadata = Metadata::new().unwrap();
        let session = session(&metadata);
        let fields: Vec<&str> =
            fields.iter().map(|field| if field.ends_with("SESSION") { session.as_str() } else { field }).collect();
        let given = ask_of(&metadata, &all(), address, &head(&method, &target, &host, &fields), NOW);
        prop_assert!(given.text.len() < 4096);
        let kept = &metadata.placeholders;
        let holds = |text: &str| given.text.contains(text);
        let gives = holds(&kept.secret_access_key) || holds(&kept.google_token) || holds("access_token");
        prop_assert!(!gives || given.status == 200);
        if gives {
            prop_assert!(matches!(method.as_str(), "GET" | "HEAD"));
            prop_assert!(host == address || (host == "metadata.google.internal" && address == MACHINE));
            let never = ["X-Forwarded-For: 10.0.0.1", "forwarded: for=10.0.0.1", "Content-Length: 3"];
            prop_assert!(!never.iter().any(|field| fields.contains(field)));
            let proof = match (given.cloud, address) {
                (Some(Cloud::Aws), MACHINE) => fields.contains(&session.as_str()),
                (Some(Cloud::Aws), "169.254.170.2") => true,
                (Some(Cloud::Aws), _) => fields.contains(&"Authorization: x"),
                (Some(Cloud::Azure), _) => {
                    fields.contains(&"Metadata: true") || (target.starts_with("/msi/") && fields.contains(&"X-IDENTITY-HEADER: x"))
                }
                (Some(Cloud::Gcp), _) => fields.contains(&FLAVOR),
                (None, _) => false,
            };
            prop_assert!(proof, "{} {} {:?}", method, target, fields);
        }
    }

    /// No address but those under the metadata guard is ever taken, whatever the policy says.
    #[test]
    fn only_guarded_addresses_are_taken(high in any::<u128>(), near in 0xa9fe_a800u32..0xa9fe_ac00, form in 0..4u8) {
        let address = match form {
            0 => IpAddr::V4(near.into()),
            1 => IpAddr::V6(((0xffff << 32) | u128::from(near)).into()),
            2 => IpAddr::V6(((high << 32) | u128::from(near)).into()),
            _ => IpAddr::V6(((0xfd00_0ec2 << 96) | (high & 0xfff)).into()),
        };
        let special = policy::address::special(address);
        for port in [80, 443] {
            let taken = Place::at(&all(), SocketAddr::new(address, port)).is_some();
            prop_assert!(!taken || (port == 80 && special == Some(policy::address::SpecialRange::Metadata)));
        }
    }
}
