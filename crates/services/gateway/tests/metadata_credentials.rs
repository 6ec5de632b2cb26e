//! From a placeholder of the metadata service to the real credential: what the sandbox holds, and what a server gets.
//!
//! The clouds' own libraries run by the Python that `COFFERDAM_TEST_PYTHON` names, else `python3`; one that is not installed
//! there is left out, and that is said.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "help for tests")]

mod support;

use std::{
    io::Write,
    process::Command,
    sync::mpsc::{Receiver, channel},
};

use data_encoding::{BASE64, HEXLOWER};
use policy::model::{
    PolicySpec,
    credential::{Attach, Aws, AwsKeys, Credential, Expose, Format, Source, Stored},
    metadata_service::{AwsIdentity, AzureIdentity, GcpIdentity, MetadataService},
};
use serde_json::Value;
use support::{
    Origin, read_response,
    secrets::{Keeping, SECRET, credential, name},
    tls::{Shown, Tls, exchange, read_message, told},
};

const KEY_ID: &str = "AKIAREALREALREALREAL";
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

fn aws() -> MetadataService {
    let identity = AwsIdentity {
        credential: name("token"),
        role: "agent".to_owned(),
        account_id: None,
        region: Some("eu-central-1".to_owned()),
    };
    MetadataService { aws: Some(identity), ..MetadataService::default() }
}

fn azure() -> MetadataService {
    let resources = vec!["https://management.azure.com".to_owned()];
    let identity = AzureIdentity { credential: name("token"), resources, client_id: None, tenant: None };
    MetadataService { azure: Some(identity), ..MetadataService::default() }
}

fn gcp() -> MetadataService {
    let identity = GcpIdentity {
        credential: name("token"),
        project: "a-project".to_owned(),
        project_number: None,
        email: "agent@a-project.iam.gserviceaccount.com".to_owned(),
        scopes: vec![SCOPE.to_owned()],
    };
    MetadataService { gcp: Some(identity), ..MetadataService::default() }
}

/// A run whose one credential stands behind this service's placeholder.
fn bearer(tls: &Tls, service: MetadataService) -> Keeping {
    serving(Keeping::new(tls, Attach::Bearer), service)
}

fn keys(tls: &Tls) -> Keeping {
    let file = tls.folder().join("token");
    std::fs::write(&file, format!("{SECRET}\n")).unwrap();
    let secret_access_key = Stored::File(file.clone());
    let keys = AwsKeys::Static { access_key_id: KEY_ID.to_owned(), secret_access_key };
    let region = "eu-central-1".to_owned();
    let source = Aws { keys, assume_role: None, sts_endpoint: None, region: region.clone() };
    let attach = Attach::SigV4 { service: "s3".to_owned(), region };
    serving(Keeping::of(tls, credential(Source::Aws(Box::new(source)), attach), file), aws())
}

fn serving(keeping: Keeping, service: MetadataService) -> Keeping {
    keeping.apply(PolicySpec { metadata_service: service, ..keeping.spec.clone() });
    keeping
}

/// Whether bytes tell the secret, plainly or in a form that is easily undone.
fn tells(text: &str) -> bool {
    let forms = [SECRET.to_owned(), BASE64.encode(SECRET.as_bytes()), HEXLOWER.encode(SECRET.as_bytes())];
    forms.iter().any(|form| text.contains(form.as_str()))
}

#[test]
fn the_sandbox_holds_a_placeholder_and_the_server_gets_the_secret() {
    let tls = Tls::new();
    let (origin, heads) = tls.http(Shown::Good);
    let keeping = bearer(&tls, gcp());
    let mut metadata = keeping.world.granted("metadata.google.internal:80");
    let mut seen = String::new();
    for path in ["", "/", "instance/service-accounts/?recursive=true", "instance/service-accounts/default/token"] {
        let target = format!("/computeMetadata/v1/{path}");
        let host = "Host: metadata.google.internal\r\nMetadata-Flavor: Google\r\n";
        write!(metadata, "GET {} HTTP/1.1\r\n{host}\r\n", target.replace("//", "/")).unwrap();
        let (head, body) = read_response(&mut metadata);
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        seen += &(head + &body);
        if let Ok(Value::Object(token)) = serde_json::from_str(&body)
            && let Some(token) = token.get("access_token").and_then(Value::as_str)
        {
            let mut client = tls.client(&keeping.world, "web.test", origin.port());
            let request = format!("GET /api/1 HTTP/1.1\r\nHost: web.test\r\nAuthorization: Bearer {token}\r\n\r\n");
            let answer = exchange(&mut client, &request);
            assert!(answer.ends_with("ok"), "{answer}");
            let arrived = told(&heads);
            assert!(arrived.contains(&format!("Bearer {SECRET}")) && !arrived.contains(token), "{arrived}");
            let bare = format!("GET /open/1 HTTP/1.1\r\nHost: web.test\r\nAuthorization: Bearer {token}\r\n\r\n");
            exchange(&mut client, &bare);
            assert!(!tells(&told(&heads)), "out of the binding goes the placeholder alone");
            seen += &answer;
        }
    }
    assert!(!tells(&seen) && !keeping.record_tells(SECRET));
    let used = keeping.world.event("credential.used", |_| true);
    assert_eq!((&used["credential"], &used["host"]), (&"token".into(), &"web.test".into()));
    assert!(heads.try_recv().is_err());
}

/// Where the placeholder is swapped, the one that the sandbox holds besides is the one that is given.
#[test]
fn a_placeholder_that_is_swapped_is_the_one_that_is_given() {
    let tls = Tls::new();
    let (origin, heads) = tls.http(Shown::Good);
    let attach = Attach::Placeholder { headers: vec!["authorization".to_owned()], fields: Vec::new() };
    let keeping = Keeping::new(&tls, attach);
    for (service, target, proof) in [
        (gcp(), "/computeMetadata/v1/instance/service-accounts/default/token", "Metadata-Flavor: Google"),
        (
            azure(),
            "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://management.azure.com",
            "Metadata: true",
        ),
    ] {
        keeping.apply(PolicySpec { metadata_service: service, ..keeping.spec.clone() });
        let mut metadata = keeping.world.granted("169.254.169.254:80");
        write!(metadata, "GET {target} HTTP/1.1\r\nHost: 169.254.169.254\r\n{proof}\r\n\r\n").unwrap();
        let token: Value = serde_json::from_str(&read_response(&mut metadata).1).unwrap();
        assert_eq!(token["access_token"], keeping.placeholder.text());
        let mut client = tls.client(&keeping.world, "web.test", origin.port());
        let bearer = format!("Authorization: Bearer {}", keeping.placeholder.text());
        exchange(&mut client, &format!("GET /api/1 HTTP/1.1\r\nHost: web.test\r\n{bearer}\r\n\r\n"));
        assert!(told(&heads).contains(&format!("Bearer {SECRET}")));
    }
}

const PRELUDE: &str = "
import os, sys
for name in list(os.environ):
    if name.startswith(('AWS_', 'AZURE_', 'GOOGLE_', 'GCE_', 'CLOUDSDK_', 'IDENTITY_', 'MSI_')):
        del os.environ[name]
proxy, port, bundle = sys.argv[1:4]
for name in ('HTTP_PROXY', 'HTTPS_PROXY', 'http_proxy', 'https_proxy'):
    os.environ[name] = proxy
for name in ('NO_PROXY', 'no_proxy'):
    os.environ.pop(name, None)
for name in ('AWS_CA_BUNDLE', 'REQUESTS_CA_BUNDLE', 'SSL_CERT_FILE'):
    os.environ[name] = bundle
os.environ['HOME'] = '/nonexistent'
os.environ['GCE_METADATA_HOST'] = '169.254.169.254'
";

const S3: &str = "
import botocore.session
from botocore.config import Config
config = Config(s3={'addressing_style': 'path'}, retries={'max_attempts': 0})
client = botocore.session.get_session().create_client(
    's3', endpoint_url='https://web.test:' + port, region_name='eu-central-1', config=config)
print(client.get_object(Bucket='api', Key='1')['Body'].read().decode())
";

const AZURE: &str = "
from azure.core import PipelineClient
from azure.core.pipeline.policies import BearerTokenCredentialPolicy
from azure.core.rest import HttpRequest
from azure.identity import ManagedIdentityCredential
policy = BearerTokenCredentialPolicy(ManagedIdentityCredential(), 'https://management.azure.com/.default')
client = PipelineClient('https://web.test:' + port, policies=[policy])
print(client.send_request(HttpRequest('GET', 'https://web.test:' + port + '/api/1')).text())
";

const GOOGLE: &str = "
import google.auth
from google.auth.transport.requests import AuthorizedSession
credentials, _ = google.auth.default()
print(AuthorizedSession(credentials).get('https://web.test:' + port + '/api/1').text)
";

/// The command that people have: it signs in, asks the resource manager for subscriptions, and then for something.
const AZ: &str = "
import subprocess, tempfile
os.environ['AZURE_CONFIG_DIR'] = tempfile.mkdtemp()
os.environ['AZURE_CORE_COLLECT_TELEMETRY'] = 'no'
def az(*words):
    done = subprocess.run([sys.executable, '-m', 'azure.cli', *words], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout
manager = 'https://web.test:' + port + '/api'
az('cloud', 'register', '--name', 'lab', '--endpoint-resource-manager', manager,
   '--endpoint-active-directory', 'https://login.test', '--endpoint-active-directory-resource-id', 'https://management.azure.com',
   '--endpoint-active-directory-graph-resource-id', 'https://graph.test', '--skip-endpoint-discovery')
az('cloud', 'set', '--name', 'lab')
az('login', '--identity', '--allow-no-subscriptions')
assert 'value' in az('rest', '--method', 'get', '--url', manager + '/1', '--resource', 'https://management.azure.com')
print('ok')
";

/// Answers every request with an empty list, as a resource manager has it.
fn lists(tls: &Tls) -> (Origin, Receiver<String>) {
    let (tell, heads) = channel();
    let origin = tls.origin(Shown::Good, move |mut stream| {
        while let Some(request) = read_message(&mut stream) {
            let _ = tell.send(request);
            let answer =
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{\"value\":[]}";
            if stream.write_all(answer).is_err() {
                return;
            }
        }
    });
    (origin, heads)
}

/// The head that a server got of a library; nothing where the library is not installed.
fn sent_by(module: &str, script: &str, tls: &Tls, keeping: impl FnOnce() -> Keeping) -> Option<(Keeping, String)> {
    let (keeping, heads) = all_sent_by(module, script, tls.http(Shown::Good), tls, keeping)?;
    Some((keeping, told(&heads)))
}

/// All that a server gets of a library.
fn all_sent_by(
    module: &str,
    script: &str,
    (origin, heads): (Origin, Receiver<String>),
    tls: &Tls,
    keeping: impl FnOnce() -> Keeping,
) -> Option<(Keeping, Receiver<String>)> {
    let python = std::env::var("COFFERDAM_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let found = Command::new(&python).args(["-c", &format!("import {module}")]).output().unwrap();
    if !found.status.success() {
        eprintln!("skipped: {module} is not installed for this Python");
        return None;
    }
    let keeping = keeping();
    let bundle = tls.folder().join("run.pem");
    std::fs::write(&bundle, tls.anchors_pem()).unwrap();
    let output = Command::new(&python)
        .args(["-c", &format!("{PRELUDE}{script}")])
        .arg(format!("http://{}", keeping.world.proxy))
        .arg(origin.port().to_string())
        .arg(bundle)
        .output()
        .unwrap();
    let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(out, "ok\n", "{errors}\n{:#?}", keeping.world.events());
    assert!(!tells(&errors) && !keeping.record_tells(SECRET));
    Some((keeping, heads))
}

#[test]
fn requests_of_botocore_are_signed_again_with_the_real_keys() {
    let tls = Tls::new();
    let Some((keeping, head)) = sent_by("botocore", S3, &tls, || keys(&tls)) else { return };
    assert!(head.starts_with("GET /api/1 "), "{head}");
    assert!(head.contains(&format!("Credential={KEY_ID}/")), "{head}");
    assert!(!head.contains("ASIA") && !head.contains("cofferdam-placeholder"), "{head}");
    assert!(!head.to_ascii_lowercase().contains("x-amz-security-token"), "{head}");
    keeping.world.event("flow.decided", |event| event["rule"] == "metadata-service:aws");
    keeping.world.event("credential.used", |_| true);
}

#[test]
fn requests_of_azure_carry_the_real_token() {
    let tls = Tls::new();
    let Some((keeping, head)) = sent_by("azure.identity", AZURE, &tls, || bearer(&tls, azure())) else { return };
    assert!(head.contains(&format!("Bearer {SECRET}")) && !head.contains("eyJ"), "{head}");
    keeping.world.event("flow.decided", |event| event["rule"] == "metadata-service:azure");
}

/// With the token that the service makes, and with the one that the sandbox holds besides.
#[test]
fn the_azure_command_signs_in_with_a_placeholder_and_its_requests_carry_the_real_token() {
    for expose in [None, Some(Expose { env: Some("TOKEN".to_owned()), format: Format::Jwt })] {
        let tls = Tls::new();
        let (module, server) = ("azure.cli.core", lists(&tls));
        let file = tls.folder().join("token");
        std::fs::write(&file, SECRET).unwrap();
        let token = Credential { expose, ..credential(Source::Stored(Stored::File(file.clone())), Attach::Bearer) };
        let keeping = || serving(Keeping::of(&tls, token, file), azure());
        let Some((keeping, heads)) = all_sent_by(module, AZ, server, &tls, keeping) else { return };
        let all: Vec<String> = heads.try_iter().collect();
        assert!(all.iter().any(|head| head.starts_with("GET /api/subscriptions")), "{all:?}");
        assert!(all.iter().any(|head| head.starts_with("GET /api/1 ")), "{all:?}");
        assert!(all.iter().all(|head| head.contains(&format!("Bearer {SECRET}")) && !head.contains("eyJ")), "{all:?}");
        keeping.world.event("flow.decided", |event| event["rule"] == "metadata-service:azure");
    }
}

#[test]
fn requests_of_google_carry_the_real_token() {
    let tls = Tls::new();
    let module = "google.auth.transport.requests";
    let Some((keeping, head)) = sent_by(module, GOOGLE, &tls, || bearer(&tls, gcp())) else { return };
    assert!(head.contains(&format!("Bearer {SECRET}")) && !head.contains("ya29"), "{head}");
    keeping.world.event("flow.decided", |event| event["rule"] == "metadata-service:gcp");
}
