//! The clouds' own libraries find the placeholders where they look for a machine's identity.
//!
//! Each runs in a namespace of the test's own, by the Python that `COFFERDAM_TEST_PYTHON` names, else `python3`; one that
//! is not installed there is left out, and that is said.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "help for tests")]

#[path = "metadata/identities.rs"]
mod identities;
mod support;

use std::process::{Command, Output};

use identities::{all, apply};
use support::namespace::Namespace;

/// What is unset or set, so that nothing of the machine's own is found: a real identity, a proxy, a profile.
const PRELUDE: &str = "
import os, sys
for name in list(os.environ):
    if name.upper().startswith(('AWS_', 'AZURE_', 'GOOGLE_', 'GCE_', 'CLOUDSDK_', 'IDENTITY_', 'MSI_')) or 'PROXY' in name.upper():
        del os.environ[name]
os.environ['HOME'] = '/nonexistent'
";

const BOTO: &str = "
import botocore.session
session = botocore.session.get_session()
found = session.get_credentials()
keys = found.get_frozen_credentials()
assert found.method == 'iam-role', found.method
assert keys.access_key.startswith('ASIA') and len(keys.access_key) == 20 and len(keys.secret_key) == 40
assert keys.token.startswith('cofferdam-placeholder-')
from botocore.utils import IMDSRegionProvider
assert IMDSRegionProvider(session).provide() == 'eu-central-1'
os.environ['AWS_CONTAINER_CREDENTIALS_RELATIVE_URI'] = '/v2/credentials/agent'
task = botocore.session.get_session().get_credentials()
assert task.method == 'container-role' and task.get_frozen_credentials() == keys
del os.environ['AWS_CONTAINER_CREDENTIALS_RELATIVE_URI']
os.environ['AWS_CONTAINER_CREDENTIALS_FULL_URI'] = 'http://169.254.170.23/v1/credentials'
os.environ['AWS_CONTAINER_AUTHORIZATION_TOKEN'] = 'placeholder'
pod = botocore.session.get_session().get_credentials()
assert pod.method == 'container-role' and pod.get_frozen_credentials() == keys
print('taken')
";

const AZURE: &str = "
from azure.identity import CredentialUnavailableError, DefaultAzureCredential, ManagedIdentityCredential
token = ManagedIdentityCredential().get_token('https://management.azure.com/.default')
assert token.token.count('.') == 2 and token.token.startswith('eyJ'), token.token
try:
    ManagedIdentityCredential().get_token('https://graph.microsoft.com/.default')
    raise SystemExit('a token for a resource that the policy does not name')
except CredentialUnavailableError as error:
    assert 'invalid_resource' in str(error), error
try:
    ManagedIdentityCredential(client_id='another').get_token('https://management.azure.com/.default')
    raise SystemExit('a token of an identity that the policy does not name')
except CredentialUnavailableError as error:
    assert 'Identity not found' in str(error), error
chain = DefaultAzureCredential(exclude_cli_credential=True, exclude_powershell_credential=True,
    exclude_developer_cli_credential=True, exclude_shared_token_cache_credential=True)
assert chain.get_token('https://management.azure.com/.default').token.count('.') == 2
os.environ['IDENTITY_ENDPOINT'] = 'http://169.254.169.254/msi/token'
os.environ['IDENTITY_HEADER'] = 'placeholder'
app = ManagedIdentityCredential().get_token('https://management.azure.com/.default')
assert app.token.count('.') == 2
print('taken')
";

const GOOGLE: &str = "
os.environ['GCE_METADATA_HOST'] = '169.254.169.254'
import google.auth, google.auth.exceptions, google.auth.transport.requests
request = google.auth.transport.requests.Request()
credentials, project = google.auth.default()
assert project == 'a-project', project
credentials.refresh(request)
assert credentials.token.startswith('ya29.cofferdam-placeholder-')
assert credentials.service_account_email == 'agent@a-project.iam.gserviceaccount.com'
assert credentials.universe_domain == 'googleapis.com'
storage, _ = google.auth.default(scopes=['https://www.googleapis.com/auth/devstorage.full_control'])
storage.refresh(request)
drive, _ = google.auth.default(scopes=['https://www.googleapis.com/auth/drive'])
try:
    drive.refresh(request)
    raise SystemExit('a token for a scope that the policy does not name')
except google.auth.exceptions.RefreshError as error:
    assert '403' in str(error), error
print('taken')
";

fn python(namespace: Option<&Namespace>, script: &str) -> Output {
    let python = std::env::var("COFFERDAM_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let run = || Command::new(&python).args(["-c", script]).output().unwrap();
    match namespace {
        Some(namespace) => namespace.inside(run),
        None => run(),
    }
}

/// The script's own words, where the module is installed.
fn takes(module: &str, script: &str) {
    if !python(None, &format!("import {module}")).status.success() {
        eprintln!("skipped: {module} is not installed for this Python");
        return;
    }
    let Some(namespace) = Namespace::new() else { return };
    let world = namespace.world(Vec::new(), |settings| settings);
    apply(&world, all(), 2);
    let output = python(Some(&namespace), &format!("{PRELUDE}{script}"));
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "taken\n", "{told}\n{:#?}", world.events());
}

#[test]
fn botocore_takes_keys_of_an_instance_a_task_and_a_pod() {
    takes("botocore", BOTO);
}

#[test]
fn azure_identity_takes_tokens_of_a_machine_and_of_app_service() {
    takes("azure.identity", AZURE);
}

#[test]
fn google_auth_takes_tokens_of_the_default_account() {
    takes("google.auth.transport.requests", GOOGLE);
}
