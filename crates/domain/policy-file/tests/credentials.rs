//! What a file says of credentials, and what it then means.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed test is what it is for")]

use jiff::Timestamp;
use policy::{
    CompiledPolicy, OwnAddresses,
    model::{
        Lists,
        credential::{
            Attach, AwsKeys, AwsRole, AzureAuth, Credential, Expose, Format, GcpAuth, OauthGrant, Place, Source,
            Stored, VaultAuth,
        },
    },
};
use policy_file::{PolicyFile, diff, parse, run_tests};
use values::{CredentialName, Revision};

const EVERY: &str = include_str!("data/credentials.yaml");

fn accepted(text: &str) -> PolicyFile {
    parse("policy.yaml", text.as_bytes()).unwrap_or_else(|found| panic!("refused:\n{}", found.render(text, false)))
}

fn named(file: &PolicyFile, name: &str) -> Credential {
    file.spec.credentials[&CredentialName::new(name).unwrap()].clone()
}

fn role(duration_seconds: u32, session_name: &str, external_id: Option<&str>) -> AwsRole {
    let arn = "arn:aws:iam::123456789012:role/reader".to_owned();
    let external_id = external_id.map(str::to_owned);
    AwsRole { arn, session_name: session_name.to_owned(), external_id, duration_seconds }
}

#[test]
fn every_kept_secret_and_way_to_attach() {
    let file = accepted(EVERY);
    let stored = |name: &str| match named(&file, name).source {
        Source::Stored(stored) => stored,
        other => panic!("{other:?}"),
    };
    assert_eq!(stored("file"), Stored::File("pagerduty.token".into()));
    assert_eq!(stored("command"), Stored::Command(["pass", "show", "api"].map(str::to_owned).to_vec()));
    assert_eq!(stored("env"), Stored::Env("API_PASSWORD".to_owned()));
    assert_eq!(stored("keyring"), Stored::Keyring { service: "api".to_owned(), account: "me".to_owned() });
    let bound = named(&file, "file").bind;
    assert_eq!(bound.ports, [(443, 443), (8000, 8100)]);
    assert_eq!((bound.methods.len(), bound.paths.len(), bound.sandboxes.map(|labels| labels.0.len())), (2, 1, Some(1)));
    let attach = |name: &str| named(&file, name).attach;
    assert_eq!(attach("command"), Attach::Bearer);
    assert_eq!(attach("env"), Attach::Basic { username: "me".to_owned() });
    assert_eq!(attach("keyring"), Attach::Query { name: "key".to_owned() });
    assert_eq!(attach("vault-token"), Attach::Cookie { name: "session".to_owned() });
    assert_eq!(attach("vault-role"), Attach::Header { name: "x-api-key".to_owned(), format: "{value}".to_owned() });
    assert_eq!(attach("certificate"), Attach::ClientCertificate);
    let Attach::Placeholder { headers, fields } = attach("github") else { panic!("a placeholder") };
    assert_eq!(headers, ["authorization"]);
    let places: Vec<Place> = fields.into_iter().map(|field| field.place).collect();
    let text = |text: &str| text.to_owned();
    let json = Place::Json(text("/auth/token"));
    assert_eq!(places, [Place::Path, Place::Form(text("token")), json, Place::Query(text("key"))]);
    assert_eq!(named(&file, "github").expose, Some(Expose { env: Some(text("GITHUB_TOKEN")), format: Format::Github }));
    assert_eq!(named(&file, "aws-static").expose, Some(Expose { env: None, format: Format::Aws }));
}

#[test]
fn every_provider_with_its_defaults() {
    let file = accepted(EVERY);
    let Source::Vault(vault) = named(&file, "vault-role").source else { panic!("vault") };
    let secret_id = Stored::Env("VAULT_SECRET_ID".to_owned());
    assert_eq!(vault.auth, VaultAuth::AppRole { mount: "ci".to_owned(), role_id: "r-1".to_owned(), secret_id });
    assert_eq!((vault.mount.as_str(), vault.namespace, vault.ca), ("secret", None, None));
    let aws = |name: &str| match named(&file, name).source {
        Source::Aws(aws) => aws,
        other => panic!("{other:?}"),
    };
    let secret_access_key = Stored::File("aws.key".into());
    assert_eq!(aws("aws-static").keys, AwsKeys::Static { access_key_id: "AKIAEXAMPLE".to_owned(), secret_access_key });
    assert_eq!(aws("aws-static").region, "us-east-1");
    assert_eq!(aws("aws-profile").region, "eu-central-1", "that of the signature");
    assert_eq!(aws("aws-profile").assume_role, Some(role(3600, "cofferdam", Some("x"))));
    let token = Stored::File("/var/run/token".into());
    assert_eq!(aws("aws-web").keys, AwsKeys::WebIdentity { token, role: role(900, "run", None) });
    let azure = |name: &str| match named(&file, name).source {
        Source::Azure(azure) => azure.auth,
        other => panic!("{other:?}"),
    };
    assert!(matches!(azure("azure-machine"), AzureAuth::ManagedIdentity { client_id: Some(_), endpoint: Some(_) }));
    assert!(matches!(azure("azure-workload"), AzureAuth::WorkloadIdentity { .. }));
    assert!(matches!(azure("azure-client"), AzureAuth::ClientCredentials { .. }));
    let gcp = |name: &str| match named(&file, name).source {
        Source::Gcp(gcp) => (gcp.auth, gcp.scopes.len()),
        other => panic!("{other:?}"),
    };
    assert_eq!(gcp("gcp-account"), (GcpAuth::ServiceAccount(Stored::File("key.json".into())), 1));
    assert!(matches!(gcp("gcp-workload"), (GcpAuth::WorkloadIdentity { service_account: Some(_), .. }, 1)));
    assert_eq!(gcp("gcp-machine"), (GcpAuth::Metadata { endpoint: None }, 1));
    let Source::Kubernetes(kubernetes) = named(&file, "kubernetes").source else { panic!("kubernetes") };
    assert_eq!((kubernetes.expiration_seconds, kubernetes.audiences.len()), (3600, 1));
    let grant = |name: &str| match named(&file, name).source {
        Source::Oauth(oauth) => oauth.grant,
        other => panic!("{other:?}"),
    };
    assert_eq!(grant("oauth"), OauthGrant::ClientCredentials);
    assert_eq!(grant("oauth-refresh"), OauthGrant::RefreshToken(Stored::File("r".into())));
    assert!(
        matches!(grant("oauth-exchange"), OauthGrant::TokenExchange { subject_type, .. } if subject_type.ends_with(":jwt"))
    );
    let Source::GithubApp(app) = named(&file, "github").source else { panic!("an app") };
    assert_eq!((app.app_id.as_str(), app.installation_id, app.repositories.len()), ("12345", 67890, 1));
    let Source::Certificate { key, .. } = named(&file, "certificate").source else { panic!("a certificate") };
    assert_eq!(key, Stored::File("client.key".into()));
}

#[test]
fn tests_of_a_policy_see_the_credential() {
    let file = accepted(EVERY);
    let policy =
        CompiledPolicy::compile(file.spec.clone(), Lists::default(), OwnAddresses::default(), Revision(1)).unwrap();
    let outcomes = run_tests(&policy, &file.tests, Timestamp::UNIX_EPOCH);
    assert!(outcomes.iter().all(|outcome| outcome.passed), "{outcomes:#?}");
    assert_eq!(outcomes[0].credential, Some(CredentialName::new("file").unwrap()));

    let wrong = EVERY.replace("rule: pages, credential: file", "rule: pages, credential: env");
    let file = accepted(&wrong);
    let outcomes = run_tests(&policy, &file.tests, Timestamp::UNIX_EPOCH);
    assert_eq!(outcomes[0].failures, ["expected the credential env, got file"]);
}

#[test]
fn differences_name_credentials_and_every_setting_of_them() {
    let before = accepted(EVERY);
    let after = accepted(
        &EVERY
            .replace("hosts: [maps.example.com]", "hosts: [maps.example.com, tiles.example.com]")
            .replace("field: token,\n              auth: { token", "field: other,\n              auth: { token")
            .replace("action: ask, credential: command", "action: ask, credential: oauth")
            .replace("    env: { from", "    environment: { from"),
    );
    let told: Vec<String> = diff(&before.spec, &after.spec).iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn a_user_in_an_endpoint_is_not_repeated() {
    let text = EVERY.replace("https://id.example.com/revoke", "https://agent:canary-7f3a@id.example.com/revoke");
    let found = parse("policy.yaml", text.as_bytes()).expect_err("refused");
    assert!(found.to_string().contains("a user name or secret has no place in it"), "{found}");
    assert!(!found.to_string().contains("canary"), "{found}");
}

#[test]
fn traffic_past_the_look_at_what_comes_back_is_a_warning() {
    let warnings = |rules: &str| {
        let text = format!(
            "apiVersion: cofferdam/v1\nkind: EgressPolicy\nspec:\n  rules:\n    \
             - {{ name: key, priority: 10, to: {{ hosts: [api.example] }}, action: allow, credential: key }}\n{rules}  \
             credentials:\n    key: {{ from: {{ file: key }}, attach: bearer, bind: {{ hosts: [api.example] }} }}\n"
        );
        accepted(&text).warnings.items.into_iter().map(|found| found.message).collect::<Vec<_>>()
    };
    let behind = |rule: &str| warnings(&format!("    - {{ name: x, to: {rule} }}\n"));
    let expected = "rule x lets traffic to api.example pass unopened; credential key is bound to it: what comes back there is \
                    not masked";
    for rule in [
        // Plain HTTP.
        "{ hosts: [api.example] }, priority: 20, action: allow",
        "{ hosts: [\"*.example\", api.example] }, priority: 20, action: ask, ports: [80-90]",
        "{ urls: [\"http://api.example/x\"] }, priority: 20, action: allow",
        "{ hosts: [api.example] }, priority: 20, action: allow, http: [{ methods: [GET] }]",
        "any, priority: 20, action: allow",
        // TLS that no rule before it has opened.
        "{ hosts: [api.example] }, priority: 5, action: allow, ports: [443]",
        "{ hosts: [api.example] }, priority: 5, action: allow, ports: [443], tls: passthrough",
        "{ cidrs: [192.0.2.0/24] }, names: [api.example], priority: 5, action: allow, ports: [443]",
    ] {
        assert_eq!(behind(rule), [expected], "{rule}");
    }
    for rule in [
        "{ hosts: [api.example] }, priority: 20, action: allow, ports: [443]",
        "{ hosts: [api.example] }, priority: 5, action: allow, ports: [443], http: [{ methods: [GET] }]",
        "{ hosts: [api.example] }, priority: 5, action: deny",
        "{ hosts: [api.example] }, priority: 5, action: allow, protocol: udp, ports: [443]",
        "{ hosts: [api.example] }, priority: 5, action: allow, enforcement: watch",
        "{ hosts: [www.example, \"*.api.example\"] }, priority: 5, action: allow",
        "{ urls: [\"https://api.example/x\"] }, priority: 5, action: allow",
    ] {
        assert_eq!(behind(rule), [""; 0], "{rule}");
    }
}

#[test]
fn a_way_to_attach_that_has_settings_is_shown_with_them() {
    for (word, form) in [
        ("basic", "{ basic: { username: USER } }"),
        ("header", "{ header: NAME }"),
        ("placeholder", "{ placeholder: { headers: [NAME] } }"),
    ] {
        let text = format!(
            "apiVersion: cofferdam/v1\nkind: EgressPolicy\nspec:\n  credentials:\n    x: {{ from: {{ env: X }}, attach: {word}, bind: {{ hosts: [a.example] }} }}\n"
        );
        let found = parse("policy.yaml", text.as_bytes()).unwrap_err().render(&text, false);
        assert!(found.contains(&format!("hint: write `attach: {form}`")) && !found.contains("did you mean"), "{found}");
    }
}
