//! Vault, Kubernetes, Entra, Google and GitHub: each against its stand-in, from the first sign-in to the end of the run.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that finds nothing fails")]

mod support;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use aws_lc_rs::{
    rsa::KeySize,
    signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey},
};
use credentials::Credentials;
use data_encoding::{BASE64_MIME, BASE64URL_NOPAD};
use policy::model::credential::{
    Azure, AzureAuth, Gcp, GcpAuth, GithubApp, Kubernetes, Oauth, OauthGrant, Source, Stored, Vault, VaultAuth,
};
use serde_json::{Value, json as value};
use support::{Asked, NOON, Reply, SelfSigned, StandIn, World, block_on, env, json, name, obtain, obtained, text};

/// An RSA key in PKCS #8 PEM, and what verifies its signatures.
struct Rsa {
    pem: String,
    public: Vec<u8>,
}

impl Rsa {
    fn new() -> Result<Self> {
        use aws_lc_rs::encoding::AsDer as _;
        let pair = RsaKeyPair::generate(KeySize::Rsa2048)?;
        let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der()?;
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}-----END PRIVATE KEY-----\n",
            BASE64_MIME.encode(der.as_ref()).replace('\r', "")
        );
        Ok(Self { pem, public: pair.public_key().as_ref().to_vec() })
    }

    /// The claims of a statement that this key signed.
    fn claims(&self, token: &str) -> Result<Value> {
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let signature = BASE64URL_NOPAD.decode(signature.as_bytes())?;
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.public).verify(signed.as_bytes(), &signature)?;
        let claims = signed.split('.').nth(1).unwrap();
        Ok(serde_json::from_slice(&BASE64URL_NOPAD.decode(claims.as_bytes())?)?)
    }
}

fn renewed(credentials: &Credentials) -> String {
    let stale = obtain(credentials).unwrap();
    block_on(credentials.renew(&name(), &stale.id)).map_or_else(|error| error.to_string(), |one| text(&one).to_owned())
}

fn vault(stand_in: &StandIn, auth: VaultAuth) -> Source {
    Source::Vault(Box::new(Vault {
        address: stand_in.url.clone(),
        namespace: Some("team/one".to_owned()),
        mount: "secret".to_owned(),
        path: "ci/deploy key".to_owned(),
        field: "token".to_owned(),
        auth,
        ca: None,
    }))
}

fn app_role() -> VaultAuth {
    VaultAuth::AppRole { mount: "approle".to_owned(), role_id: "role".to_owned(), secret_id: env("SECRET_ID") }
}

/// A Vault whose secret is changed by the test; logins live for an hour.
fn vault_stand_in(secret: Arc<Mutex<String>>, refuse_login: Arc<AtomicUsize>) -> Result<StandIn> {
    StandIn::start(move |asked: &Asked| {
        let login = refuse_login.load(Ordering::SeqCst);
        match asked.line().as_str() {
            "POST /v1/auth/approle/login" => {
                assert_eq!(asked.body, r#"{"role_id":"role","secret_id":"canary-secret-id"}"#);
                json(format!(r#"{{"auth":{{"client_token":"hvs.{login}","lease_duration":3600,"renewable":true}}}}"#))
            }
            "GET /v1/auth/token/lookup-self" => json(r#"{"data":{"ttl":3600,"renewable":true}}"#),
            "POST /v1/auth/token/renew-self" => json(format!(
                r#"{{"auth":{{"client_token":"{}","lease_duration":3600,"renewable":true}}}}"#,
                asked.header("x-vault-token")
            )),
            "POST /v1/auth/token/revoke-self" => Reply::Body(204, String::new()),
            "GET /v1/secret/data/ci/deploy%20key" if asked.header("x-vault-token") == format!("hvs.{login}") => {
                assert_eq!(asked.header("x-vault-namespace"), "team/one");
                let secret = secret.lock().unwrap().clone();
                json(format!(r#"{{"data":{{"data":{{"other":7,"token":"{secret}"}},"metadata":{{"version":1}}}}}}"#))
            }
            _ => Reply::Body(403, r#"{"errors":["permission denied"]}"#.to_owned()),
        }
    })
}

#[test]
fn vault_by_app_role_through_a_long_run() -> Result<()> {
    let (secret, logins) = (Arc::new(Mutex::new("first".to_owned())), Arc::new(AtomicUsize::new(0)));
    let stand_in = vault_stand_in(secret.clone(), logins.clone())?;
    let mut world = World::new()?;
    world.variable("SECRET_ID", "canary-secret-id");
    let credentials = world.open(vault(&stand_in, app_role()))?;
    assert_eq!(obtained(&credentials), "first");
    // The secret is changed there: a 401 makes us look again, with the same login.
    "second".clone_into(&mut secret.lock().unwrap());
    assert_eq!(renewed(&credentials), "second");
    // Most of the login's life is over: it is renewed.
    world.hand.forward(3400);
    assert_eq!(obtained(&credentials), "second");
    // The login was revoked there: one more.
    logins.store(1, Ordering::SeqCst);
    world.hand.forward(1000);
    assert_eq!(obtained(&credentials), "second");
    // It is long over: one more.
    world.hand.forward(7200);
    assert_eq!(obtained(&credentials), "second");
    assert!(credentials.revoke_all(Duration::from_secs(60)).is_empty());
    let read = "GET /v1/secret/data/ci/deploy%20key";
    let login = "POST /v1/auth/approle/login";
    let renew = "POST /v1/auth/token/renew-self";
    let revoke = "POST /v1/auth/token/revoke-self";
    let expected = [login, read, read, renew, read, read, revoke, login, read, login, read, revoke];
    assert_eq!(stand_in.lines(), expected);
    Ok(())
}

#[test]
fn a_login_of_vault_is_neither_lost_nor_left_where_it_can_not_be_renewed() -> Result<()> {
    let trouble = Arc::new(AtomicUsize::new(0));
    let seen = trouble.clone();
    let logins = AtomicUsize::new(0);
    let stand_in = StandIn::start(move |asked| match (asked.line().as_str(), seen.load(Ordering::SeqCst)) {
        ("POST /v1/auth/approle/login", 0) => {
            let number = logins.fetch_add(1, Ordering::SeqCst);
            let token = format!(r#""client_token":"hvs.{number}","lease_duration":3600,"renewable":true"#);
            json(format!(r#"{{"auth":{{{token}}}}}"#))
        }
        ("POST /v1/auth/approle/login" | "POST /v1/auth/token/renew-self", _) => Reply::Body(503, String::new()),
        ("POST /v1/auth/token/revoke-self", _) => Reply::Body(204, String::new()),
        _ => json(r#"{"data":{"data":{"token":"secret"}}}"#),
    })?;
    let mut world = World::new()?;
    world.variable("SECRET_ID", "canary-secret-id");
    let credentials = world.open(vault(&stand_in, app_role()))?;
    assert_eq!(obtained(&credentials), "secret");
    // Most of its life is over, and Vault is in trouble: it is used to its end.
    trouble.store(1, Ordering::SeqCst);
    world.hand.forward(3200);
    assert_eq!(obtained(&credentials), "secret");
    assert!(credentials.revoke_all(Duration::from_secs(60)).is_empty());
    let last = stand_in.log().pop().unwrap();
    assert_eq!((last.target.as_str(), last.header("x-vault-token")), ("/v1/auth/token/revoke-self", "hvs.0"));
    Ok(())
}

#[test]
fn vault_by_token_is_renewed_and_never_revoked() -> Result<()> {
    let stand_in = vault_stand_in(Arc::new(Mutex::new("secret".to_owned())), Arc::default())?;
    let mut world = World::new()?;
    world.variable("VAULT_TOKEN", "hvs.0");
    let credentials = world.open(vault(&stand_in, VaultAuth::Token(env("VAULT_TOKEN"))))?;
    assert_eq!(obtained(&credentials), "secret");
    world.hand.forward(3400);
    assert_eq!(obtained(&credentials), "secret");
    assert!(credentials.revoke_all(Duration::from_secs(60)).is_empty());
    let read = "GET /v1/secret/data/ci/deploy%20key";
    let expected = ["GET /v1/auth/token/lookup-self", read, "POST /v1/auth/token/renew-self", read];
    assert_eq!(stand_in.lines(), expected);
    Ok(())
}

#[test]
fn vault_says_what_is_missing() -> Result<()> {
    let stand_in = vault_stand_in(Arc::new(Mutex::new("secret".to_owned())), Arc::default())?;
    let mut world = World::new()?;
    world.variable("VAULT_TOKEN", "hvs.canary");
    let error = obtained(&world.open(vault(&stand_in, VaultAuth::Token(env("VAULT_TOKEN"))))?);
    assert!(
        error.contains("HashiCorp Vault, reading the secret") && error.contains("403 (permission denied)"),
        "{error}"
    );
    assert!(!error.contains("canary"), "{error}");
    world.variable("VAULT_TOKEN", "hvs.0");
    let Source::Vault(mut other) = vault(&stand_in, VaultAuth::Token(env("VAULT_TOKEN"))) else { unreachable!() };
    other.field = "nothing".to_owned();
    let error = obtained(&world.open(Source::Vault(other.clone()))?);
    assert!(error.contains("the secret has no field `nothing`") && !error.contains("secret\""), "{error}");
    for path in ["../../sys/seal", "a//b", ""] {
        path.clone_into(&mut other.path);
        assert!(world.open(Source::Vault(other.clone())).is_err(), "{path}");
    }
    Ok(())
}

#[test]
fn kubernetes_mints_a_service_accounts_token_over_its_own_ca() -> Result<()> {
    let certificate = SelfSigned::new()?;
    let stand_in = StandIn::with_tls(&certificate, |_| {
        Reply::Body(
            201,
            r#"{"kind":"TokenRequest","status":{"token":"k8s","expirationTimestamp":"2026-11-21T12:10:00Z"}}"#
                .to_owned(),
        )
    })?;
    let mut world = World::new()?;
    world.variable("ASKING", "canary-asking");
    world.file("ca.pem", &certificate.pem)?;
    let source = Kubernetes {
        server: stand_in.url.clone(),
        ca: Some("ca.pem".into()),
        token: env("ASKING"),
        namespace: "tools".to_owned(),
        service_account: "agent".to_owned(),
        audiences: vec!["vault".to_owned()],
        expiration_seconds: 600,
    };
    let credentials = world.open(Source::Kubernetes(Box::new(source.clone())))?;
    assert_eq!(obtained(&credentials), "k8s");
    let asked = stand_in.log().remove(0);
    assert_eq!(asked.line(), "POST /api/v1/namespaces/tools/serviceaccounts/agent/token");
    assert_eq!(asked.header("authorization"), "Bearer canary-asking");
    let spec: Value = serde_json::from_str(&asked.body)?;
    assert_eq!(spec["spec"], value!({"audiences": ["vault"], "expirationSeconds": 600}));
    assert_eq!(obtain(&credentials)?.expires, Some(std::time::UNIX_EPOCH + Duration::from_secs(NOON + 600)));
    // Without that bundle the server is nobody that is trusted.
    let stranger = world.open(Source::Kubernetes(Box::new(Kubernetes { ca: None, ..source.clone() })))?;
    let error = obtained(&stranger);
    assert!(error.contains("no verified TLS connection"), "{error}");
    let other = Kubernetes { namespace: "a/../b".to_owned(), ..source };
    assert!(world.open(Source::Kubernetes(Box::new(other))).is_err());
    Ok(())
}

fn azure(auth: AzureAuth, authority: &str) -> Source {
    let scope = "https://management.azure.com/.default".to_owned();
    Source::Azure(Box::new(Azure { auth, scope, authority: Some(authority.to_owned()) }))
}

#[test]
fn entra_by_client_secret_and_by_federated_token() -> Result<()> {
    let stand_in =
        StandIn::start(|asked| match asked.parameter("client_assertion").or(asked.parameter("client_secret")) {
            Some(proof) => json(format!(r#"{{"token_type":"Bearer","expires_in":3599,"access_token":"for {proof}"}}"#)),
            None => Reply::Body(400, String::new()),
        })?;
    let mut world = World::new()?;
    world.variable("CLIENT_SECRET", "se+cret&");
    let auth = AzureAuth::ClientCredentials {
        tenant: "contoso.example".to_owned(),
        client_id: "app".to_owned(),
        client_secret: env("CLIENT_SECRET"),
    };
    assert_eq!(obtained(&world.open(azure(auth, &stand_in.url))?), "for se+cret&");
    let token = world.file("federated", "one\n")?;
    let auth = AzureAuth::WorkloadIdentity {
        tenant: "contoso.example".to_owned(),
        client_id: "app".to_owned(),
        token: Stored::File(token),
    };
    let credentials = world.open(azure(auth, &stand_in.url))?;
    assert_eq!(obtained(&credentials), "for one");
    // The projected token is replaced now and then: each fetch reads it again.
    world.file("federated", "two\n")?;
    world.hand.forward(3599);
    assert_eq!(obtained(&credentials), "for two");
    let asked = &stand_in.log()[1];
    assert_eq!(asked.line(), "POST /contoso.example/oauth2/v2.0/token");
    let parameters =
        ["grant_type", "client_id", "scope", "client_assertion_type"].map(|name| asked.parameter(name).unwrap());
    let jwt = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    assert_eq!(parameters, ["client_credentials", "app", "https://management.azure.com/.default", jwt]);
    Ok(())
}

#[test]
fn azures_managed_identity_on_a_machine_and_in_app_service() -> Result<()> {
    let stand_in = StandIn::start(|asked| {
        let on_machine =
            asked.header("metadata") == "true" && asked.target.starts_with("/metadata/identity/oauth2/token?");
        if on_machine || asked.header("x-identity-header") == "canary-header" {
            json(r#"{"access_token":"managed","expires_on":"1795266000","resource":"x","token_type":"Bearer"}"#)
        } else {
            Reply::Body(400, String::new())
        }
    })?;
    let mut world = World::new()?;
    let machine = |endpoint: Option<String>| {
        azure(AzureAuth::ManagedIdentity { client_id: Some("app".to_owned()), endpoint }, "https://unused.example")
    };
    let credentials = world.open(machine(Some(stand_in.url.clone())))?;
    assert_eq!(obtained(&credentials), "managed");
    assert_eq!(obtain(&credentials)?.expires, Some(std::time::UNIX_EPOCH + Duration::from_secs(NOON + 3600)));
    let query = "resource=https%3A%2F%2Fmanagement.azure.com&client_id=app";
    assert_eq!(stand_in.lines()[0], format!("GET /metadata/identity/oauth2/token?api-version=2018-02-01&{query}"));
    world.variable("IDENTITY_ENDPOINT", &format!("{}/msi/token", stand_in.url));
    assert!(world.open(machine(None)).unwrap_err().to_string().contains("Azure Arc"));
    world.variable("IDENTITY_HEADER", "canary-header");
    assert_eq!(obtained(&world.open(machine(None))?), "managed");
    assert_eq!(stand_in.lines()[1], format!("GET /msi/token?api-version=2019-08-01&{query}"));
    Ok(())
}

fn gcp(auth: GcpAuth) -> Source {
    Source::Gcp(Box::new(Gcp { auth, scopes: vec!["https://www.googleapis.com/auth/devstorage.read_only".to_owned()] }))
}

#[test]
fn google_by_a_service_accounts_key() -> Result<()> {
    let rsa = Rsa::new()?;
    let stand_in = StandIn::start(|_| json(r#"{"access_token":"ya29.key","expires_in":3599,"token_type":"Bearer"}"#))?;
    let world = World::new()?;
    let token_uri = format!("{}/token", stand_in.url);
    let key = value!({
        "type": "service_account", "client_email": "agent@project.example", "private_key": rsa.pem,
        "private_key_id": "key-1", "token_uri": token_uri,
    });
    let file = world.file("key.json", &key.to_string())?;
    assert_eq!(obtained(&world.open(gcp(GcpAuth::ServiceAccount(Stored::File(file))))?), "ya29.key");
    let asked = stand_in.log().remove(0);
    assert_eq!(asked.parameter("grant_type").unwrap(), "urn:ietf:params:oauth:grant-type:jwt-bearer");
    let expected = value!({
        "iss": "agent@project.example", "scope": "https://www.googleapis.com/auth/devstorage.read_only",
        "aud": token_uri, "iat": NOON, "exp": NOON + 3600,
    });
    assert_eq!(rsa.claims(&asked.parameter("assertion").unwrap())?, expected);
    // A key file that names another place than Google's over plain HTTP, and one that is none.
    let bad = key.to_string().replace(&token_uri, "http://attacker.example/token");
    for (text, expected) in [(bad.as_str(), "must be https"), ("{}", "no service account's key")] {
        let file = world.file("bad.json", text)?;
        let error = obtained(&world.open(gcp(GcpAuth::ServiceAccount(Stored::File(file))))?);
        assert!(error.contains(expected) && !error.contains("PRIVATE"), "{error}");
    }
    Ok(())
}

#[test]
fn google_by_workload_identity_with_impersonation_and_by_metadata() -> Result<()> {
    let stand_in = StandIn::start(|asked| match asked.line().as_str() {
        "POST /v1/token" => {
            json(r#"{"access_token":"federated","expires_in":3600,"token_type":"Bearer","issued_token_type":"x"}"#)
        }
        "POST /v1/projects/-/serviceAccounts/agent@project.example:generateAccessToken"
            if asked.header("authorization") == "Bearer federated" =>
        {
            json(r#"{"accessToken":"impersonated","expireTime":"2026-11-21T13:00:00Z"}"#)
        }
        line if line.starts_with("GET /computeMetadata/v1/instance/service-accounts/default/token?scopes=")
            && asked.header("metadata-flavor") == "Google" =>
        {
            json(r#"{"access_token":"machine","expires_in":3000,"token_type":"Bearer"}"#)
        }
        _ => Reply::Body(404, String::new()),
    })?;
    let mut world = World::new()?;
    world.variable("EXTERNAL", "external-token");
    let federated = |service_account: Option<&str>| {
        gcp(GcpAuth::WorkloadIdentity {
            audience: "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q".to_owned(),
            token: env("EXTERNAL"),
            token_type: "urn:ietf:params:oauth:token-type:jwt".to_owned(),
            sts_endpoint: Some(stand_in.url.clone()),
            service_account: service_account.map(str::to_owned),
            iam_endpoint: Some(stand_in.url.clone()),
        })
    };
    assert_eq!(obtained(&world.open(federated(None))?), "federated");
    assert_eq!(obtained(&world.open(federated(Some("agent@project.example")))?), "impersonated");
    let log = stand_in.log();
    assert_eq!(log[0].parameter("scope").unwrap(), "https://www.googleapis.com/auth/devstorage.read_only");
    assert_eq!(log[1].parameter("scope").unwrap(), "https://www.googleapis.com/auth/cloud-platform");
    assert_eq!(log[1].parameter("subject_token").unwrap(), "external-token");
    let machine = gcp(GcpAuth::Metadata { endpoint: Some(stand_in.url.clone()) });
    assert_eq!(obtained(&world.open(machine)?), "machine");
    Ok(())
}

#[test]
fn github_mints_narrowed_tokens_and_revokes_them() -> Result<()> {
    let rsa = Rsa::new()?;
    let count = AtomicUsize::new(0);
    let stand_in = StandIn::start(move |asked| match asked.line().as_str() {
        "POST /api/v3/app/installations/42/access_tokens" => {
            let number = count.fetch_add(1, Ordering::SeqCst);
            let hour = 13 + number;
            Reply::Body(
                201,
                format!(r#"{{"token":"ghs_{number}","expires_at":"2026-11-21T{hour}:00:00Z","permissions":{{}}}}"#),
            )
        }
        "DELETE /api/v3/installation/token" => Reply::Body(204, String::new()),
        _ => Reply::Body(404, r#"{"message":"Not Found"}"#.to_owned()),
    })?;
    let world = World::new()?;
    world.file("app.pem", &rsa.pem)?;
    let app = GithubApp {
        api: Some(format!("{}/api/v3", stand_in.url)),
        app_id: "Iv1.x".to_owned(),
        installation_id: 42,
        private_key: Stored::File("app.pem".into()),
        repositories: vec!["site".to_owned()],
        permissions: BTreeMap::from([("contents".to_owned(), "read".to_owned())]),
        ca: None,
    };
    let credentials = world.open(Source::GithubApp(Box::new(app.clone())))?;
    assert_eq!(obtained(&credentials), "ghs_0");
    world.hand.forward(3590);
    assert_eq!(obtained(&credentials), "ghs_1", "an hour's token in a longer run");
    assert_eq!(renewed(&credentials), "ghs_2");
    let log = stand_in.log();
    let statement = log[0].header("authorization").strip_prefix("Bearer ").unwrap();
    assert_eq!(rsa.claims(statement)?, value!({"iss": "Iv1.x", "iat": NOON - 60, "exp": NOON + 540}));
    assert_eq!(log[0].header("accept"), "application/vnd.github+json");
    let body: Value = serde_json::from_str(&log[0].body)?;
    assert_eq!(body, value!({"repositories": ["site"], "permissions": {"contents": "read"}}));
    assert!(credentials.revoke_all(Duration::from_secs(60)).is_empty());
    let mut revoked: Vec<String> = stand_in
        .log()
        .iter()
        .filter(|asked| asked.method == "DELETE")
        .map(|asked| asked.header("authorization").to_owned())
        .collect();
    revoked.sort();
    assert_eq!(revoked, ["Bearer ghs_0", "Bearer ghs_1", "Bearer ghs_2"]);
    let foreign = GithubApp { repositories: vec!["other/site".to_owned()], ..app };
    assert!(world.open(Source::GithubApp(Box::new(foreign))).is_err());
    Ok(())
}

fn oauth(stand_in: &StandIn, grant: OauthGrant) -> Oauth {
    Oauth {
        token_url: format!("{}/token", stand_in.url),
        grant,
        client_id: "cli ent".to_owned(),
        client_secret: Some(env("CLIENT_SECRET")),
        revocation_url: Some(format!("{}/revoke", stand_in.url)),
        scopes: vec!["read".to_owned(), "write".to_owned()],
        parameters: BTreeMap::from([("audience".to_owned(), "https://api.example.com".to_owned())]),
        ca: None,
    }
}

#[test]
fn oauth_signs_in_by_basic_and_asks_for_what_is_written() -> Result<()> {
    let stand_in = StandIn::start(|_| json(r#"{"access_token":"t","token_type":"bearer","expires_in":"60"}"#))?;
    let mut world = World::new()?;
    world.variable("CLIENT_SECRET", "a:b%c=ü");
    let grant = OauthGrant::ClientCredentials;
    assert_eq!(obtained(&world.open(Source::Oauth(Box::new(oauth(&stand_in, grant))))?), "t");
    let asked = stand_in.log().remove(0);
    // RFC 6749, 2.3.1: both parts are form-encoded first.
    assert_eq!(asked.header("authorization"), "Basic Y2xpK2VudDphJTNBYiUyNWMlM0QlQzMlQkM=");
    let parameters = ["grant_type", "scope", "audience"].map(|name| asked.parameter(name).unwrap());
    assert_eq!(parameters, ["client_credentials", "read write", "https://api.example.com"]);
    Ok(())
}

#[test]
fn oauth_keeps_the_refresh_token_that_was_rotated() -> Result<()> {
    let newest = Arc::new(AtomicUsize::new(0));
    let known = newest.clone();
    let stand_in = StandIn::start(move |asked| {
        let number = known.load(Ordering::SeqCst);
        match asked.target.as_str() {
            "/token" if asked.parameter("refresh_token") == Some(format!("refresh-{number}")) => {
                known.store(number + 1, Ordering::SeqCst);
                let next = number + 1;
                json(format!(
                    r#"{{"access_token":"access-{next}","expires_in":3600,"refresh_token":"refresh-{next}"}}"#
                ))
            }
            "/token" => Reply::Body(400, r#"{"error":"invalid_grant"}"#.to_owned()),
            _ => json("{}"),
        }
    })?;
    let mut world = World::new()?;
    world.variable("CLIENT_SECRET", "secret");
    world.variable("REFRESH", "refresh-0");
    let source = oauth(&stand_in, OauthGrant::RefreshToken(env("REFRESH")));
    let credentials = world.open(Source::Oauth(Box::new(source)))?;
    for hour in 1..5 {
        assert_eq!(obtained(&credentials), format!("access-{hour}"));
        world.hand.forward(3600);
    }
    assert!(credentials.revoke_all(Duration::from_secs(60)).is_empty());
    let revoked: Vec<String> = stand_in
        .log()
        .iter()
        .filter(|asked| asked.target == "/revoke")
        .filter_map(|asked| asked.parameter("token"))
        .collect();
    assert_eq!(revoked, ["refresh-4"], "the access tokens have ended; the refresh token is known to nobody else");
    Ok(())
}

#[test]
fn oauth_exchanges_a_token() -> Result<()> {
    let stand_in = StandIn::start(|_| json(r#"{"access_token":"exchanged","expires_in":60,"issued_token_type":"x"}"#))?;
    let mut world = World::new()?;
    world.variable("CLIENT_SECRET", "secret");
    world.variable("SUBJECT", "subject-token");
    let grant = OauthGrant::TokenExchange {
        subject: env("SUBJECT"),
        subject_type: "urn:ietf:params:oauth:token-type:jwt".to_owned(),
    };
    assert_eq!(obtained(&world.open(Source::Oauth(Box::new(oauth(&stand_in, grant))))?), "exchanged");
    let asked = stand_in.log().remove(0);
    assert_eq!(asked.parameter("grant_type").unwrap(), "urn:ietf:params:oauth:grant-type:token-exchange");
    assert_eq!(asked.parameter("subject_token").unwrap(), "subject-token");
    Ok(())
}
