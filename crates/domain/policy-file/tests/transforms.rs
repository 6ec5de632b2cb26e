//! Changes to requests, roots for servers, and the metadata service: what a file says, and what it then means.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed test is what it is for")]

use std::path::Path;

use jiff::Timestamp;
use policy::{
    CompiledPolicy, OwnAddresses,
    model::{
        Lists,
        metadata_service::{AwsIdentity, AzureIdentity, Cloud},
        transform::PathPrefix,
    },
};
use policy_file::{PolicyFile, diff, parse, run_tests};
use values::{CredentialName, Revision, RuleName};

const FILE: &str = include_str!("data/transforms.yaml");

fn accepted(text: &str) -> PolicyFile {
    parse("policy.yaml", text.as_bytes()).unwrap_or_else(|found| panic!("refused:\n{}", found.render(text, false)))
}

fn compiled(file: &PolicyFile) -> CompiledPolicy {
    CompiledPolicy::compile(file.spec.clone(), Lists::default(), OwnAddresses::default(), Revision(1)).unwrap()
}

#[test]
fn changes_are_the_rules_that_let_the_request_through() {
    let file = accepted(FILE);
    let policy = compiled(&file);
    let rule = |name: &str| RuleName::new(name).unwrap();
    let mirror = policy.request_changes(&rule("mirror")).unwrap();
    assert_eq!(mirror.set.get("x-team").map(String::as_str), Some("sre"));
    assert_eq!(mirror.insert.len(), 1);
    assert_eq!(mirror.remove, ["x-debug", "x-forwarded-host"]);
    assert_eq!(mirror.host.as_ref().map(|host| host.as_str()), Some("mirror.example.net"));
    let path = PathPrefix { from: "/simple".to_owned(), to: "/pypi/simple".to_owned() };
    assert_eq!((mirror.path.as_ref(), mirror.to_tls), (Some(&path), false));
    assert!(policy.request_changes(&rule("upgrade")).unwrap().to_tls);
    assert!(policy.request_changes(&rule("store")).is_none());
    assert_eq!(policy.upstream_ca(&rule("mirror")), Some(Path::new("roots/internal.pem")));
    assert_eq!(policy.upstream_ca(&rule("api")), None);
    // What is changed is looked at, and so TLS is opened.
    let inspected: Vec<String> = policy.inspects().map(ToString::to_string).collect();
    assert_eq!(inspected, ["api.example.com", "packages.example.com", "store.example.com"]);
    let outcomes = run_tests(&policy, &file.tests, Timestamp::UNIX_EPOCH);
    assert!(outcomes.iter().all(|outcome| outcome.passed), "{outcomes:#?}");
}

#[test]
fn what_is_answered_for_clouds() {
    let file = accepted(FILE);
    let service = &file.spec.metadata_service;
    let name = |text: &str| CredentialName::new(text).unwrap();
    let aws = AwsIdentity {
        credential: name("keys"),
        role: "agent".to_owned(),
        account_id: Some("123456789012".to_owned()),
        region: Some("eu-central-1".to_owned()),
    };
    let azure = AzureIdentity {
        credential: name("token"),
        resources: vec!["https://management.example.com".to_owned()],
        client_id: Some("11-22".to_owned()),
        tenant: Some("33-44".to_owned()),
    };
    assert_eq!((service.aws.as_ref(), service.azure.as_ref()), (Some(&aws), Some(&azure)));
    let gcp = service.gcp.as_ref().unwrap();
    assert_eq!((gcp.project_number, gcp.scopes.len()), (Some(12), 1));
    let clouds: Vec<Cloud> = service.named().map(|(cloud, _)| cloud).collect();
    assert_eq!(clouds, [Cloud::Aws, Cloud::Azure, Cloud::Gcp]);
}

#[test]
fn compile_refuses_what_the_file_would() {
    let file = accepted(FILE);
    let errors = |change: &dyn Fn(&mut policy::model::PolicySpec)| -> Vec<String> {
        let mut spec = (*file.spec).clone();
        change(&mut spec);
        let compiled = CompiledPolicy::compile(spec, Lists::default(), OwnAddresses::default(), Revision(1));
        compiled.map(drop).err().unwrap_or_default().iter().map(ToString::to_string).collect()
    };
    assert!(errors(&|_| {}).is_empty());
    let other = CredentialName::new("token").unwrap();
    let wrong = errors(&|spec| spec.metadata_service.aws.as_mut().unwrap().credential = other.clone());
    assert_eq!(wrong, ["the metadata service of aws names credential token, which is not defined or not of its kind"]);
    let wrong = errors(&|spec| {
        let own = spec.rules.iter_mut().find(|rule| rule.name.as_str() == "api").unwrap();
        own.transform.as_mut().unwrap().set.insert("authorization".to_owned(), "x".to_owned());
    });
    assert_eq!(
        wrong,
        ["rule api can't change requests like this: the header field \"authorization\" is the credential's"]
    );
    let wrong = errors(&|spec| spec.rules[1].upstream_ca = Some("x".into()));
    assert!(wrong.is_empty(), "the upgraded request goes inside TLS: {wrong:?}");
    let wrong = errors(&|spec| spec.rules[1].transform.as_mut().unwrap().to_tls = false);
    assert_eq!(wrong, ["rule upgrade can't change requests like this: it changes nothing"]);
}

#[test]
fn differences_tell_every_change() {
    let before = accepted(FILE);
    let after = accepted(
        &FILE
            .replace("set: { X-Team: sre }", "set: { X-Team: web }")
            .replace("roots/internal.pem", "roots/other.pem")
            .replace("role: agent,", "role: other,"),
    );
    let told: Vec<String> = diff(&before.spec, &after.spec).iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(told.join("\n"));
}
