//! AWS keys: static, of profiles, of roles; against a stand-in of STS, and against `moto_server` where it is installed.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that finds nothing fails")]

mod support;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use credentials::{Credentials, Material};
use policy::model::credential::{Aws, AwsKeys, AwsRole, Source, Stored};
use support::{NOON, Reply, StandIn, World, env, obtain, obtained};

const SECRET: &str = "canary/SecretAccessKey+0123456789abcdefgh";

fn role(name: &str) -> AwsRole {
    AwsRole {
        arn: format!("arn:aws:iam::123456789012:role/{name}"),
        session_name: "cofferdam".to_owned(),
        external_id: Some("ext/1".to_owned()),
        duration_seconds: 900,
    }
}

fn source(sts: &str, keys: AwsKeys, assume_role: Option<AwsRole>) -> Source {
    let sts_endpoint = Some(sts.to_owned());
    Source::Aws(Box::new(Aws { keys, assume_role, sts_endpoint, region: "eu-central-1".to_owned() }))
}

fn static_keys() -> AwsKeys {
    AwsKeys::Static { access_key_id: "AKIAEXAMPLE".to_owned(), secret_access_key: env("SECRET") }
}

/// `ID SECRET TOKEN`, or why there are none.
fn keys(credentials: &Credentials) -> String {
    match obtain(credentials) {
        Ok(issued) => match &issued.material {
            Material::Aws(keys) => {
                let token = keys.session_token.as_ref().and_then(|token| token.expose_str()).unwrap_or("-");
                format!("{} {} {token}", keys.access_key_id, keys.secret_access_key.expose_str().unwrap())
            }
            Material::Text(_) | Material::Certificate { .. } => "no AWS keys".to_owned(),
        },
        Err(error) => error.to_string(),
    }
}

/// STS as it answers: keys that tell the role, the action and how many came before, for a quarter of an hour from noon on.
fn sts() -> Result<StandIn> {
    let count = AtomicUsize::new(0);
    StandIn::start(move |asked| {
        let action = asked.parameter("Action").unwrap_or_default();
        let role = asked.parameter("RoleArn").unwrap_or_default();
        let number = count.fetch_add(1, Ordering::SeqCst);
        let minute = 15 * (number + 1);
        let end = format!("2026-11-21T{:02}:{:02}:00Z", 12 + minute / 60, minute % 60);
        Reply::Body(
            200,
            format!(
                "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result><Credentials>\
                 <AccessKeyId>ASIA{number}</AccessKeyId><SecretAccessKey>of {role}</SecretAccessKey>\
                 <SessionToken>session&amp;{number}</SessionToken><Expiration>{end}</Expiration>\
                 </Credentials></{action}Result></{action}Response>",
            ),
        )
    })
}

fn world() -> Result<World> {
    let mut world = World::new()?;
    world.variable("SECRET", SECRET);
    Ok(world)
}

#[test]
fn a_role_is_taken_on_with_static_keys_again_and_again() -> Result<()> {
    let (world, sts) = (world()?, sts()?);
    let credentials = world.open(source(&sts.url, static_keys(), Some(role("agent"))))?;
    assert_eq!(keys(&credentials), "ASIA0 of arn:aws:iam::123456789012:role/agent session&0");
    assert_eq!(obtain(&credentials)?.expires, Some(UNIX_EPOCH + Duration::from_secs(NOON + 900)));
    world.hand.forward(890);
    assert!(keys(&credentials).starts_with("ASIA1 "));
    let asked = sts.log().remove(0);
    assert_eq!(asked.line(), "POST /");
    let written =
        ["Version", "RoleSessionName", "DurationSeconds", "ExternalId"].map(|name| asked.parameter(name).unwrap());
    assert_eq!(written, ["2011-06-15", "cofferdam", "900", "ext/1"]);
    let expected = "AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/20261121/eu-central-1/sts/aws4_request, \
                    SignedHeaders=content-type;host;x-amz-date, Signature=";
    assert!(asked.header("authorization").starts_with(expected), "{}", asked.header("authorization"));
    assert_eq!(asked.header("x-amz-date"), "20261121T120000Z");
    assert_eq!(asked.headers.get("host").map(String::as_str), sts.url.strip_prefix("http://"));
    Ok(())
}

#[test]
fn a_web_identity_is_exchanged_and_read_anew_each_time() -> Result<()> {
    let (world, sts) = (world()?, sts()?);
    world.file("token", "jwt-1\n")?;
    let web = AwsKeys::WebIdentity { token: Stored::File("token".into()), role: role("web") };
    let credentials = world.open(source(&sts.url, web, Some(role("second"))))?;
    assert_eq!(keys(&credentials), "ASIA1 of arn:aws:iam::123456789012:role/second session&1");
    world.file("token", "jwt-2\n")?;
    world.hand.forward(1795);
    assert!(keys(&credentials).starts_with("ASIA3 "));
    let log = sts.log();
    assert_eq!(log[0].parameter("WebIdentityToken").unwrap(), "jwt-1");
    assert_eq!(log[0].header("authorization"), "", "it needs no keys");
    assert!(log[1].header("authorization").contains("Credential=ASIA0/"));
    assert_eq!(log[1].header("x-amz-security-token"), "session&0");
    assert_eq!(log[2].parameter("WebIdentityToken").unwrap(), "jwt-2");
    Ok(())
}

#[test]
fn profiles_give_keys_as_awss_own_tools_take_them() -> Result<()> {
    let (mut world, sts) = (world()?, sts()?);
    let tool = world.file(
        "tool",
        "#!/bin/sh\necho '{\"Version\":1,\"AccessKeyId\":\"ASIAPROC\",\"SecretAccessKey\":\"'$2'\",\"SessionToken\":\"s\",\"Expiration\":\"2026-11-21T13:00:00Z\"}'\n",
    )?;
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755))?;
    world.file("web", "jwt")?;
    let web = world.folder.path().join("web");
    world.file(
        "home/.aws/config",
        &format!(
            "[default]\nregion = eu-central-1\n\
             [profile process]\ncredential_process = {} --for 'a b'\n\
             [profile role]\nrole_arn = arn:r\nsource_profile = static\nexternal_id = e\n\
             [profile chain]\nrole_arn = arn:c\nsource_profile = role\nduration_seconds = 3600\n\
             [profile own]\nrole_arn = arn:o\nsource_profile = own\naws_access_key_id = AKIAOWN\naws_secret_access_key = o\n\
             [profile web]\nrole_arn = arn:w\nweb_identity_token_file = {}\n\
             [profile fromenv]\nrole_arn = arn:e\ncredential_source = Environment\n\
             [profile machine]\nrole_arn = arn:m\ncredential_source = Ec2InstanceMetadata\n\
             [profile round]\nrole_arn = arn:1\nsource_profile = about\n[profile about]\nrole_arn = arn:2\nsource_profile = round\n\
             [profile sso]\nsso_session = corp\n[profile empty]\nregion = x\n",
            tool.display(),
            web.display()
        ),
    )?;
    world.file(
        "home/.aws/credentials",
        "[default]\naws_access_key_id = AKIADEFAULT\naws_secret_access_key = d\n\
         [static]\naws_access_key_id = AKIASTATIC\naws_secret_access_key = s\naws_session_token = t\n",
    )?;
    world.variable("AWS_ACCESS_KEY_ID", "AKIAENV");
    world.variable("AWS_SECRET_ACCESS_KEY", "e");
    let cases = [
        ("default", "AKIADEFAULT d -"),
        ("static", "AKIASTATIC s t"),
        ("process", "ASIAPROC a b s"),
        ("role", "ASIA0 of arn:r session&0"),
        ("chain", "ASIA2 of arn:c session&2"),
        ("own", "ASIA3 of arn:o session&3"),
        ("web", "ASIA4 of arn:w session&4"),
        ("fromenv", "ASIA5 of arn:e session&5"),
        ("machine", "`credential_source = Ec2InstanceMetadata` is not supported"),
        ("round", "go round in a circle"),
        ("sso", "`sso_session` needs a person"),
        ("empty", "holds no keys and no way to get some"),
        ("missing", "there is no such profile"),
    ];
    for (profile, expected) in cases {
        let credentials = world.open(source(&sts.url, AwsKeys::Profile(profile.to_owned()), None))?;
        let found = keys(&credentials);
        assert!(found.contains(expected), "{profile}: {found}");
    }
    let by: Vec<String> =
        sts.log().iter().map(|asked| asked.header("authorization").chars().skip(28).take(9).collect()).collect();
    assert_eq!(by, ["AKIASTATI", "AKIASTATI", "ASIA1/202", "AKIAOWN/2", "", "AKIAENV/2"]);
    Ok(())
}

#[test]
fn what_sts_does_not_say_is_no_key() -> Result<()> {
    for (body, expected) in [
        ("<AssumeRoleResponse/>", "the answer is not understood"),
        ("<!DOCTYPE a [<!ENTITY b \"c\">]><Credentials>&b;</Credentials>", "the answer is not understood"),
    ] {
        let sts = StandIn::start(move |_| Reply::Body(200, body.to_owned()))?;
        let error = obtained(&world()?.open(source(&sts.url, static_keys(), Some(role("x"))))?);
        assert!(error.contains(expected), "{error}");
    }
    let denied = "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type><Code>AccessDenied</Code>\
                  <Message>User is not authorized</Message></Error></ErrorResponse>";
    let sts = StandIn::start(move |_| Reply::Body(403, denied.to_owned()))?;
    let error = obtained(&world()?.open(source(&sts.url, static_keys(), Some(role("x"))))?);
    assert!(
        error.contains("AWS STS, taking on the role") && error.contains("403 (AccessDenied: User is not authorized)"),
        "{error}"
    );
    Ok(())
}

/// `moto_server`, ended with the test.
struct Moto(Child);

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A moto that, after the first three requests, checks signatures and policies as AWS does; none where it is not installed.
fn moto() -> Result<Option<(Moto, String)>> {
    let started = Command::new("moto_server")
        .args(["-H", "127.0.0.1", "-p", "0"])
        .env("INITIAL_NO_AUTH_ACTION_COUNT", "3")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = started else { return Ok(None) };
    let mut said = BufReader::new(child.stderr.take().context("its standard error")?).lines().map_while(Result::ok);
    let moto = Moto(child);
    let Some(line) = said.find(|line| line.contains("Running on http://")) else { return Ok(None) };
    // What it says later is read and dropped, so that it doesn't wait for us.
    std::thread::spawn(move || said.for_each(drop));
    let url = line.split_once("Running on ").map(|(_, url)| url.trim().to_owned()).context("its address")?;
    Ok(Some((moto, url)))
}

/// Asks moto's IAM, which finds its service by the scope of a signature.
fn iam(url: &str, form: &str) -> Result<String> {
    let scope = "AWS4-HMAC-SHA256 Credential=none/20261121/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=0";
    let request = ureq::post(url).header("authorization", scope).content_type("application/x-www-form-urlencoded");
    Ok(request.send(format!("Version=2010-05-08&UserName=agent&{form}"))?.body_mut().read_to_string()?)
}

#[test]
fn a_role_of_moto_which_checks_the_signature() -> Result<()> {
    let Some((_moto, url)) = moto()? else {
        eprintln!("skipped: there is no moto_server here");
        return Ok(());
    };
    iam(&url, "Action=CreateUser")?;
    let made = iam(&url, "Action=CreateAccessKey")?;
    let part = |name: &str| {
        let (_, rest) = made.split_once(&format!("<{name}>"))?;
        rest.split_once('<').map(|(text, _)| text.to_owned())
    };
    let (id, secret) = (part("AccessKeyId").context("an id")?, part("SecretAccessKey").context("a key")?);
    let allowed =
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"*"}]}"#;
    let document: String = url::form_urlencoded::byte_serialize(allowed.as_bytes()).collect();
    iam(&url, &format!("Action=PutUserPolicy&PolicyName=p&PolicyDocument={document}"))?;

    let mut world = world()?;
    world.surroundings.clock = credentials::Clock::system();
    world.variable("RIGHT", &secret);
    world.variable("WRONG", &secret.replace(|c: char| c.is_ascii_lowercase(), "x"));
    let with = |variable: &str| {
        let keys = AwsKeys::Static { access_key_id: id.clone(), secret_access_key: env(variable) };
        source(&url, keys, Some(role("agent")))
    };
    let issued = obtain(&world.open(with("RIGHT"))?)?;
    let Material::Aws(keys) = &issued.material else { anyhow::bail!("no AWS keys") };
    assert!(keys.access_key_id.starts_with("ASIA") && keys.session_token.is_some(), "{issued:?}");
    let error = obtained(&world.open(with("WRONG"))?);
    assert!(error.contains("answered 403 (SignatureDoesNotMatch"), "{error}");
    Ok(())
}
