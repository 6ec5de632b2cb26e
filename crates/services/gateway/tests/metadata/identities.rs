//! Policies with identities of all three clouds.

use std::{collections::BTreeMap, sync::Arc};

use policy::{
    CompiledPolicy, HostPattern, OwnAddresses,
    model::{
        Lists, PolicySpec,
        credential::{Attach, Aws, AwsKeys, Bind, Credential, Source, Stored},
        metadata_service::{AwsIdentity, AzureIdentity, GcpIdentity, MetadataService},
    },
};
use values::{CredentialName, Revision};

use crate::support::World;

/// All three.
pub fn all() -> MetadataService {
    let credential = |name: &str| CredentialName::new(name).unwrap();
    MetadataService {
        aws: Some(AwsIdentity {
            credential: credential("store"),
            role: "agent".to_owned(),
            account_id: None,
            region: Some("eu-central-1".to_owned()),
        }),
        azure: Some(AzureIdentity {
            credential: credential("manage"),
            resources: vec!["https://management.azure.com".to_owned()],
            client_id: None,
            tenant: None,
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

/// The credentials behind them. No rule attaches them, so none is ever read.
fn credentials() -> BTreeMap<CredentialName, Credential> {
    let secret = || Stored::Env("COFFERDAM_TEST_SECRET".to_owned());
    let bind = || Bind { hosts: vec![HostPattern::parse("api.example.com").unwrap()], ..Bind::default() };
    let token = || Credential { source: Source::Stored(secret()), attach: Attach::Bearer, bind: bind(), expose: None };
    let keys = AwsKeys::Static { access_key_id: "AKIAIOSFODNN7EXAMPLE".to_owned(), secret_access_key: secret() };
    let region = "eu-central-1".to_owned();
    let keys = Credential {
        source: Source::Aws(Box::new(Aws { keys, assume_role: None, sts_endpoint: None, region: region.clone() })),
        attach: Attach::SigV4 { service: "s3".to_owned(), region },
        ..token()
    };
    let name = |name: &str| CredentialName::new(name).unwrap();
    [(name("store"), keys), (name("manage"), token()), (name("cloud"), token())].into()
}

/// A policy in force.
pub fn compile(spec: PolicySpec, revision: u64) -> Arc<CompiledPolicy> {
    let spec = PolicySpec { credentials: credentials(), ..spec };
    let own = OwnAddresses::default();
    Arc::new(CompiledPolicy::compile(spec, Lists::default(), own, Revision(revision)).unwrap())
}

/// Puts a policy that says no more than this into force.
pub fn apply(world: &World, service: MetadataService, revision: u64) -> gateway::Applied {
    let spec = PolicySpec { name: "test".to_owned(), metadata_service: service, ..PolicySpec::default() };
    world.gateway.apply(compile(spec, revision)).unwrap()
}
