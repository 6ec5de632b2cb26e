//! Providers in trouble, each in turn for each kind of trouble: an error that says who, what, where and what to do; no value in it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that finds nothing fails")]

mod support;

use std::{collections::BTreeMap, net::TcpListener, time::Duration};

use anyhow::Result;
use policy::model::credential::{
    Aws, AwsKeys, AwsRole, Azure, AzureAuth, Gcp, GcpAuth, Kubernetes, Oauth, OauthGrant, Source, Vault, VaultAuth,
};
use support::{Reply, StandIn, World, env, obtain, obtained};

fn role() -> AwsRole {
    AwsRole {
        arn: "arn:aws:iam::123456789012:role/agent".to_owned(),
        session_name: "cofferdam".to_owned(),
        external_id: None,
        duration_seconds: 900,
    }
}

/// One source of each provider, at this address.
fn sources(url: &str) -> Vec<(&'static str, Source)> {
    let vault = Vault {
        address: url.to_owned(),
        namespace: None,
        mount: "secret".to_owned(),
        path: "ci".to_owned(),
        field: "token".to_owned(),
        auth: VaultAuth::AppRole { mount: "approle".to_owned(), role_id: "r".to_owned(), secret_id: env("SECRET") },
        ca: None,
    };
    let keys = AwsKeys::Static { access_key_id: "AKIAEXAMPLE".to_owned(), secret_access_key: env("SECRET") };
    let web = AwsKeys::WebIdentity { token: env("SECRET"), role: role() };
    let aws = |keys: AwsKeys, assume_role: Option<AwsRole>| {
        let sts_endpoint = Some(url.to_owned());
        Source::Aws(Box::new(Aws { keys, assume_role, sts_endpoint, region: "eu-central-1".to_owned() }))
    };
    let azure = |auth: AzureAuth| {
        Source::Azure(Box::new(Azure { auth, scope: "api://x/.default".to_owned(), authority: Some(url.to_owned()) }))
    };
    let entra = AzureAuth::ClientCredentials {
        tenant: "t".to_owned(),
        client_id: "c".to_owned(),
        client_secret: env("SECRET"),
    };
    let federation = GcpAuth::WorkloadIdentity {
        audience: "//iam.googleapis.com/x".to_owned(),
        token: env("SECRET"),
        token_type: "urn:ietf:params:oauth:token-type:jwt".to_owned(),
        sts_endpoint: Some(url.to_owned()),
        service_account: None,
        iam_endpoint: None,
    };
    let gcp = |auth: GcpAuth| Source::Gcp(Box::new(Gcp { auth, scopes: Vec::new() }));
    let kubernetes = Kubernetes {
        server: url.to_owned(),
        ca: None,
        token: env("SECRET"),
        namespace: "n".to_owned(),
        service_account: "s".to_owned(),
        audiences: Vec::new(),
        expiration_seconds: 600,
    };
    let oauth = Oauth {
        token_url: url.to_owned(),
        grant: OauthGrant::ClientCredentials,
        client_id: "c".to_owned(),
        client_secret: Some(env("SECRET")),
        revocation_url: None,
        scopes: Vec::new(),
        parameters: BTreeMap::new(),
        ca: None,
    };
    let machine = AzureAuth::ManagedIdentity { client_id: None, endpoint: Some(url.to_owned()) };
    vec![
        ("HashiCorp Vault", Source::Vault(Box::new(vault))),
        ("AWS STS", aws(keys, Some(role()))),
        ("AWS STS", aws(web, None)),
        ("Microsoft Entra", azure(entra)),
        ("Azure's managed identity", azure(machine)),
        ("Google", gcp(federation)),
        ("Google's metadata server", gcp(GcpAuth::Metadata { endpoint: Some(url.to_owned()) })),
        ("Kubernetes", Source::Kubernetes(Box::new(kubernetes))),
        ("the OAuth provider", Source::Oauth(Box::new(oauth))),
    ]
}

fn world() -> Result<World> {
    let mut world = World::new()?;
    world.variable("SECRET", "canary-secret");
    Ok(world)
}

/// What every provider's error says where its stand-in answers so.
fn check(answer: impl Fn() -> Reply + Send + Sync + 'static, expected: &str, tries: usize) -> Result<()> {
    let stand_in = StandIn::start(move |_| answer())?;
    let mut asked_before = 0;
    for (provider, source) in sources(&stand_in.url) {
        let world = world()?;
        let credentials = world.open(source)?;
        let error = obtained(&credentials);
        let place = stand_in.url.strip_prefix("http://").unwrap();
        for part in ["error: credential `one`: ", provider, place, expected, "; "] {
            assert!(error.contains(part), "no `{part}` in: {error}");
        }
        assert!(!error.contains("canary") && error.len() < 800, "{error}");
        let outside = obtain(&credentials).unwrap_err().for_sandbox();
        assert!(outside.contains(provider) && !outside.contains(place), "{outside}");
        let asked = stand_in.log().len();
        assert_eq!(asked - asked_before, tries, "{provider}");
        asked_before = asked;
    }
    Ok(())
}

#[test]
fn a_refusal_with_the_secret_in_its_words() -> Result<()> {
    let body = r#"{"error":"invalid_x","error_description":"canary-secret is wrong"}"#;
    let stand_in = StandIn::start(move |_| Reply::Body(403, body.to_owned()))?;
    for (provider, source) in sources(&stand_in.url) {
        // A machine's own services are sent no secret, so there is none to be known again in their words.
        if !matches!(provider, "Azure's managed identity" | "Google's metadata server") {
            let error = obtained(&world()?.open(source)?);
            assert!(error.contains("answered 403 (invalid_x);") && !error.contains("canary"), "{error}");
        }
    }
    check(|| Reply::Body(403, r#"{"error":"invalid_x"}"#.to_owned()), "answered 403 (invalid_x)", 1)
}

#[test]
fn a_failure_of_its_own() -> Result<()> {
    check(|| Reply::Body(500, "<html>canary-page</html>".to_owned()), "answered 500;", 3)
}

#[test]
fn a_redirect_is_not_followed() -> Result<()> {
    let to = || Reply::Field(307, "Location", "http://127.0.0.1:1/elsewhere".to_owned(), String::new());
    check(to, "answered 307, a redirect, which is not followed", 1)
}

#[test]
fn an_answer_that_is_not_understood() -> Result<()> {
    check(|| Reply::Body(200, "canary: not at all JSON".to_owned()), "the answer is not understood: no ", 1)?;
    check(|| Reply::Body(200, "{}".to_owned()), "the answer is not understood: no ", 1)?;
    check(|| Reply::Body(200, "\u{0}".repeat(1000)), "the answer is not understood: no ", 1)?;
    check(|| Reply::Raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec()), "the answer is not understood: no HTTP", 1)
}

#[test]
fn an_answer_without_an_end() -> Result<()> {
    check(|| Reply::Body(200, "x".repeat(1 << 20)), "the answer is larger than 262144 bytes", 1)
}

#[test]
fn nobody_there() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", listener.local_addr()?);
    drop(listener);
    for (provider, source) in sources(&url) {
        let error = obtained(&world()?.open(source)?);
        assert!(error.contains(provider) && error.contains("can't be reached: Connection refused"), "{error}");
        // It said nothing of what it was to be sent.
        let on_machine = matches!(provider, "Azure's managed identity" | "Google's metadata server");
        let hint = if on_machine { "machines alone" } else { "check its address and this machine's network" };
        assert!(error.contains(hint), "{error}");
    }
    Ok(())
}

#[test]
fn a_name_that_nobody_has() -> Result<()> {
    // A label longer than DNS takes: no server is asked for it.
    for (provider, source) in sources(&format!("https://{}.test", "a".repeat(64))) {
        let error = obtained(&world()?.open(source)?);
        assert!(error.contains(provider) && error.contains("can't be reached: "), "{error}");
        assert!(error.contains("lookup") && !error.contains("uncategorized"), "{error}");
    }
    Ok(())
}

#[test]
fn what_was_sent_is_doubted_only_where_the_answer_says_so() -> Result<()> {
    for (reply, hint) in [
        (|| Reply::Body(401, String::new()), "check the client's id, its secret and the grant there"),
        (|| Reply::Body(503, String::new()), "try again later"),
        (|| Reply::Body(200, "<html>".to_owned()), "check that its address is the provider's own"),
    ] as [(fn() -> Reply, &str); 3]
    {
        let stand_in = StandIn::start(move |_| reply())?;
        let (_, oauth) = sources(&stand_in.url).pop().unwrap();
        let error = obtained(&world()?.open(oauth)?);
        assert!(error.ends_with(hint), "{error}");
    }
    Ok(())
}

#[test]
fn nobody_answers() -> Result<()> {
    let stand_in = StandIn::start(|_| Reply::Silence)?;
    for (provider, source) in sources(&stand_in.url) {
        let mut world = world()?;
        world.surroundings.patience.call = Duration::from_millis(200);
        let error = obtained(&world.open(source)?);
        assert!(error.contains(provider) && error.contains("no answer in 1 s"), "{error}");
    }
    Ok(())
}

#[test]
fn a_secret_that_no_field_may_have_is_refused() -> Result<()> {
    let stand_in = StandIn::start(|_| Reply::Body(200, "{}".to_owned()))?;
    let mut world = World::new()?;
    world.variable("SECRET", "canary\r\nx-evil: 1");
    for (provider, source) in sources(&stand_in.url) {
        if provider == "Kubernetes" {
            let error = obtained(&world.open(source)?);
            assert!(error.contains("no header field may have") && !error.contains("canary"), "{error}");
        }
    }
    assert!(stand_in.log().is_empty());
    Ok(())
}

#[test]
fn secrets_are_not_sent_in_the_clear() -> Result<()> {
    let world = world()?;
    for (provider, source) in sources("http://provider.example.com") {
        assert!(world.open(source).is_err(), "{provider}");
    }
    // Nor is a secret told that somebody wrote into an address.
    for url in ["https://user:canary@example.com", "https://user:canary@example.com:99999", "http://:canary@10.0.0.1"] {
        for (provider, source) in sources(url) {
            let refused = world.open(source).unwrap_err().to_string();
            assert!(!refused.contains("canary"), "{provider}: {refused}");
        }
    }
    Ok(())
}

#[test]
fn the_callers_own_proxy_is_used_but_for_what_is_near() -> Result<()> {
    let proxy = StandIn::start(|_| Reply::Body(403, String::new()))?;
    let near = StandIn::start(|_| Reply::Body(404, String::new()))?;
    let mut world = world()?;
    world.variable("https_proxy", &proxy.url.replace("http://", "http://user%40a:pass@"));
    world.variable("no_proxy", "10.0.0.0/8,internal.example");
    for (_, source) in sources("https://provider.example.com") {
        let error = obtained(&world.open(source)?);
        assert!(error.contains("the caller's proxy refuses it"), "{error}");
    }
    let log = proxy.log();
    assert!(log.len() >= 7, "{}", log.len());
    assert!(log.iter().all(|asked| asked.line() == "CONNECT provider.example.com:443"), "{log:?}");
    assert_eq!(log[0].header("proxy-authorization"), "Basic dXNlckBhOnBhc3M=");
    for (_, source) in sources(&near.url) {
        assert!(obtained(&world.open(source)?).contains("answered 404"));
    }
    assert_eq!(proxy.log().len(), log.len());
    Ok(())
}
