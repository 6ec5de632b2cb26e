//! Which cloud a request is for, and what it is answered.

use std::{collections::BTreeMap, sync::LazyLock};

use jiff::Timestamp;
use policy::model::metadata_service::{Cloud, MetadataService};
use secret_swap::Placeholder;
use values::{CredentialName, RuleName};
use wire::http_head::RequestHead;

use super::{
    answer::Answer,
    asked::Asked,
    aws, azure, gcp,
    place::{Kind, Place},
    placeholders::Placeholders,
    session::Sessions,
};
use crate::refuse::Status;

/// The rule under which a cloud's answers are recorded.
pub(super) fn rule(cloud: Cloud) -> RuleName {
    #[expect(clippy::expect_used, reason = "constants within the alphabet; a test makes each")]
    static NAMES: LazyLock<[RuleName; 3]> = LazyLock::new(|| {
        ["metadata-service:aws", "metadata-service:azure", "metadata-service:gcp"]
            .map(|name| RuleName::new(name).expect("a name within the alphabet"))
    });
    let [aws, azure, gcp] = &*NAMES;
    match cloud {
        Cloud::Aws => aws.clone(),
        Cloud::Azure => azure.clone(),
        Cloud::Gcp => gcp.clone(),
    }
}

/// What answers depend on beside the request and the policy's words.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene<'a> {
    /// What is given out.
    pub(super) placeholders: &'a Placeholders,
    /// What the sandbox holds for a credential besides: where that is swapped for the secret, it must be this one.
    pub(super) exposed: &'a BTreeMap<CredentialName, Placeholder>,
    /// The key of session tokens.
    pub(super) sessions: &'a Sessions,
    /// Now.
    pub(super) now: Timestamp,
}

impl<'a> Scene<'a> {
    /// The placeholder of a credential, where the sandbox holds one besides.
    pub(super) fn exposed(&self, credential: &CredentialName) -> Option<&'a str> {
        self.exposed.get(credential).map(Placeholder::text)
    }
}

/// Answers a request; where nothing is answered in place of a cloud, the guard holds, and why.
pub(super) fn answer(
    service: &MetadataService,
    place: Place,
    head: &RequestHead,
    scene: &Scene<'_>,
) -> Result<(Cloud, Answer), (Status, &'static str)> {
    let target = head.origin_target();
    let asked = Asked::new(head, &target);
    if !place.is_meant_by(service, &head.authority.host, head.authority.port) {
        return Err((Status::Misdirected, "the request is for another host than its connection"));
    }
    if asked.has_body {
        return Err((Status::BadRequest, "no request to a metadata service has a body here"));
    }
    let Some(path) = asked.path.as_deref() else {
        return Err((Status::BadRequest, "the path has no one meaning"));
    };
    match (cloud_of(place.kind, path), service) {
        (Some(Cloud::Aws), MetadataService { aws: Some(identity), .. }) => {
            Ok((Cloud::Aws, aws::answer(identity, place.kind, &asked, path, scene)))
        }
        (Some(Cloud::Azure), MetadataService { azure: Some(identity), .. }) => {
            Ok((Cloud::Azure, azure::answer(identity, &asked, path, scene)))
        }
        (Some(Cloud::Gcp), MetadataService { gcp: Some(identity), .. }) => {
            Ok((Cloud::Gcp, gcp::answer(identity, &asked, path, scene)))
        }
        (Some(Cloud::Aws | Cloud::Azure | Cloud::Gcp) | None, _) => {
            Err((Status::Forbidden, "the policy answers in place of no metadata service there"))
        }
    }
}

/// Whose a path is. The three clouds share one address.
fn cloud_of(kind: Kind, path: &str) -> Option<Cloud> {
    match kind {
        Kind::Task | Kind::Pod => Some(Cloud::Aws),
        Kind::Machine => match path.split('/').nth(1) {
            Some("latest") => Some(Cloud::Aws),
            Some("metadata" | "msi") => Some(Cloud::Azure),
            Some("" | "computeMetadata") => Some(Cloud::Gcp),
            Some(_) | None => None,
        },
    }
}
